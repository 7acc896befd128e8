"""A tokenizer.json counts as its own library says; without the library, or with a broken file, the message says so."""

import asyncio

import pytest

from gateway.core.tokens.profiles import Profile
from gateway.shell.tokens import huggingface
from gateway.shell.tokens.counter import TiktokenCounter, encoding_fault
from gateway.shell.tokens.pieces import PIECE_CHARS

TRAINING = [
    "The quick brown fox jumps over the lazy dog. for item in list: print(item, 12) né à la carte, ä, 漢字 \n"
] * 20
PROSE = " ".join(TRAINING) * 30


def train(kind, path):
    """A small tokenizer of a kind, written to a file."""
    tokenizers = pytest.importorskip("tokenizers", reason="the optional package `tokenizers` is not installed")
    models, before, trainers = tokenizers.models, tokenizers.pre_tokenizers, tokenizers.trainers
    if kind == "byte-level":
        tokenizer, trainer = (
            tokenizers.Tokenizer(models.BPE()),
            trainers.BpeTrainer(vocab_size=600, show_progress=False),
        )
        tokenizer.pre_tokenizer = before.ByteLevel(add_prefix_space=False)
    elif kind == "metaspace":
        tokenizer = tokenizers.Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
        )
        tokenizer.pre_tokenizer = before.Metaspace()
    else:
        tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
        tokenizer.pre_tokenizer = before.Whitespace()
        tokenizer.post_processor = tokenizers.processors.BertProcessing(("[CLS]", 1), ("[CLS]", 1))
    tokenizer.train_from_iterator(TRAINING, trainer)
    tokenizer.enable_truncation(max_length=16)
    tokenizer.enable_padding(length=32)
    tokenizer.save(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.fixture(params=["byte-level", "metaspace", "wordpiece"])
def trained(request, tmp_path):
    """A tokenizer, and the encoding's name that stands for its file."""
    path = tmp_path / "tokenizer.json"
    return train(request.param, path), f"hf:{path}"


def test_texts_cost_what_the_library_says(trained):
    """Short, long (cut at spaces, with or without them), empty; special tokens, truncation and padding are off."""
    tokenizer, name = trained
    counter = TiktokenCounter(tokens_per_word=1.0)
    texts = ["", "The quick fox", "12 漢字\n\n  né", PROSE, PROSE[:PIECE_CHARS], PROSE[: PIECE_CHARS + 1]]
    expected = [len(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    counts = asyncio.run(counter.count(Profile(name), texts))
    counter.close()

    assert counts == expected
    assert [counter.count_here(Profile(name), text) for text in texts] == expected
    assert counter.fallbacks == 0
    assert encoding_fault(name) is None


@pytest.mark.parametrize("text", ["a" * 100_000, " " * 100_000, "漢" * 50_000, "\0" * 50_000, "\ud800 x" * 20_000])
def test_hostile_texts_are_counted(text, trained):
    """Nothing raises, nothing falls back, and a cut costs a token or two at most."""
    tokenizer, name = trained
    counter = TiktokenCounter(tokens_per_word=1.0)
    found = counter.count_here(Profile(name), text)
    own = len(tokenizer.encode(text.replace("\ud800", "\ufffd"), add_special_tokens=False))
    counter.close()

    assert abs(found - own) <= 2 * (len(text) // PIECE_CHARS + 1)
    assert counter.fallbacks == 0


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    """Beforehand by the check; at run time words are counted, loudly."""

    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(huggingface, "importlib", type("Importlib", (), {"import_module": staticmethod(refuse)}))

    assert encoding_fault(f"hf:{tmp_path}") == (
        f"hf:{tmp_path} needs the package `tokenizers`; install llm-gateway[tokenizers]"
    )


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "there is no such file"), ("{}", "is no tokenizer.json that"), ("\0", "is no tokenizer.json that")],
)
def test_a_missing_or_broken_file_is_named(content, fault, tmp_path, caplog):
    """Beforehand by the check; at run time words are counted, loudly and once."""
    pytest.importorskip("tokenizers", reason="the optional package `tokenizers` is not installed")
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    counter = TiktokenCounter(tokens_per_word=1.0)
    counts = [counter.count_here(Profile(f"hf:{path}"), "one two three four") for _ in range(2)]
    counter.close()

    assert fault in str(encoding_fault(f"hf:{path}"))
    assert counts == [5, 5]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
