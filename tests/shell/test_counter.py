"""Texts are counted as tiktoken counts them, from the package's own files, and no text can hurt the process."""

import asyncio
import base64
import gzip
import hashlib
import os
import random
import shutil
import subprocess
import sys
import sysconfig
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.tokens.profiles import CL100K, O200K, WORDS, Profile
from gateway.shell.tokens.counter import INLINE_CHARS, TiktokenCounter, cut_pieces
from gateway.shell.tokens.rank_files import load_encoding

ENCODINGS = [O200K, CL100K]
RANDOM = random.Random(7)
MILLION = 1_000_000
PROSE = resources.files("gateway.data").joinpath("alice.txt").read_text("utf-8")


@pytest.fixture(scope="module")
def counter():
    found = TiktokenCounter(tokens_per_word=1.3)
    for name in ENCODINGS:
        found.load(name)
    yield found
    found.close()


@pytest.fixture(scope="module", params=ENCODINGS)
def encoding(request, tmp_path_factory):
    """tiktoken's own encoding, patterns and checks included; its cache is filled, so that it downloads nothing."""
    cache = tmp_path_factory.mktemp("cache")
    url = f"https://openaipublic.blob.core.windows.net/encodings/{request.param}.tiktoken"
    packed = resources.files("gateway.data").joinpath(f"{request.param}.tiktoken.gz").read_bytes()
    (cache / hashlib.sha1(url.encode()).hexdigest()).write_bytes(gzip.decompress(packed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
        return tiktoken.get_encoding(request.param)


def own_count(encoding, text):
    """tiktoken's own answer for the uncut text."""
    return len(encoding.encode_ordinary(text))


def forced_cuts(text):
    """How many cuts are not before the space between two words."""
    pairs = pairwise(cut_pieces(text))
    return sum(not (left[-1].isalnum() and right[0] == " " and right[1:2].isalnum()) for left, right in pairs)


RUN = st.sampled_from(["word ", "x", " ", "\n", "漢", "\t", "1", "-", "\ud800", "é", "a b "])
WORDS_AND_RUNS = st.lists(st.tuples(RUN, st.integers(1, 3000)), max_size=12).map(
    lambda runs: "".join(text * times for text, times in runs)
)


@settings(max_examples=60, deadline=None)
@given(WORDS_AND_RUNS | st.text(max_size=200))
def test_pieces_join_to_the_text(text):
    """Cutting loses nothing, adds nothing, and leaves no piece that is long or empty."""
    pieces = list(cut_pieces(text))

    assert "".join(pieces) == text
    assert all(0 < len(piece) <= 16_384 for piece in pieces)


def sources():
    """Python's own modules, its packages without their tests, and a novel's chapters."""
    library = Path(sysconfig.get_paths()["stdlib"])
    skipped = {"site-packages", "test", "tests", "idlelib"}
    paths = [path for path in sorted(library.rglob("*.py")) if not skipped.intersection(path.parts)]
    return [PROSE, *(path.read_text("utf-8", "replace") for path in paths)]


def test_real_texts_cost_what_tiktoken_says(encoding, counter):
    """Exactly where no run was cut by force, else within one token a cut."""
    texts = [text for text in sources() if len(list(cut_pieces(text))) > 1]
    exact = 0
    for text in texts:
        own, mine, cuts = own_count(encoding, text), counter.count_here(Profile(encoding.name), text), forced_cuts(text)
        exact += own == mine

        assert abs(mine - own) <= cuts
    print(f"{encoding.name}: {exact} of {len(texts)} cut texts, {sum(map(len, texts))} characters, are counted exactly")


WORST = {
    "one letter": "a" * MILLION,
    "spaces": " " * MILLION,
    "line ends": "\n" * MILLION,
    "carriage returns": "\r\n" * (MILLION // 2),
    "digits": "7" * MILLION,
    "dashes": "-" * MILLION,
    "zero bytes": "\0" * MILLION,
    "base64": base64.b64encode(RANDOM.randbytes(MILLION * 3 // 4)).decode(),
    "Chinese": "".join(chr(RANDOM.randrange(0x4E00, 0x9FFF)) for _ in range(MILLION // 3)),
    "emoji": "😀" * (MILLION // 4),
    "combining marks": "a\u0301\u0323" * (MILLION // 5),
    "any unicode": "".join(chr(RANDOM.randrange(0x20, 0x10FFFF)) for _ in range(MILLION // 4)),
    "half surrogate pairs": "\ud83d" * (MILLION // 4),
    "half surrogate pairs in text": "cut \ud83d off \ude00 " * (MILLION // 20),
    "words of 500 letters": ("x" * 500 + " ") * (MILLION // 501),
    "mixed white space": " \n\t" * (MILLION // 3),
}


@pytest.mark.parametrize("text", WORST.values(), ids=WORST)
def test_the_worst_texts_are_counted_fairly(text, encoding, counter):
    """Nothing raises or falls back to words; on a part that tiktoken can take whole, counts agree within 1 %."""
    profile, part = Profile(encoding.name), text[:20_000]
    fallbacks = counter.fallbacks
    own, mine = own_count(encoding, part), counter.count_here(profile, part)
    whole = counter.count_here(profile, text)

    assert own <= mine <= own * 1.01
    assert whole == pytest.approx(mine * len(text) / len(part), rel=0.01)
    assert counter.fallbacks == fallbacks


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=600) | WORDS_AND_RUNS.map(lambda text: text[:20_000]))
def test_any_text_is_counted_as_tiktoken_does(text, encoding, counter):
    """Within four tokens a forced cut, whatever the text; exactly, where no run is cut."""
    mine = counter.count_here(Profile(encoding.name), text)

    assert abs(mine - own_count(encoding, text)) <= 4 * forced_cuts(text)


async def test_small_and_big_texts_are_counted_alike(counter):
    """On the event loop or in threads, alone or together, a text costs the same."""
    profile = Profile(O200K)
    texts = ["", "Hi", PROSE[:INLINE_CHARS], PROSE, "漢" * 5000]
    together = await counter.count(profile, texts)
    alone = [(await counter.count(profile, [text]))[0] for text in texts]

    assert together == alone == [counter.count_here(profile, text) for text in texts]
    assert await counter.count(profile, []) == []


async def test_a_big_text_leaves_the_loop_running(counter):
    """While more than a million tokens are counted, other tasks take their turns."""
    text = PROSE * (4_800_000 // len(PROSE) + 1)
    turns = 0

    async def beat():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    heart = asyncio.create_task(beat())
    (tokens,) = await counter.count(Profile(O200K), [text])
    heart.cancel()
    print(f"{turns} turns of the loop while {tokens} tokens were counted")

    assert tokens > MILLION
    assert turns > 200


async def test_words_are_counted_without_a_tokenizer(caplog):
    """Words times the rate, never less than a fourth of the bytes; each counted text is told as a fallback."""
    counter = TiktokenCounter(tokens_per_word=1.5)
    counts = await counter.count(Profile(WORDS), ["one two three", "漢" * 40, "", "\ud800 x"])
    counter.close()

    assert counts == [5, 30, 0, 3]
    assert counter.fallbacks == 4
    assert not caplog.records


async def test_an_encoding_that_cannot_be_loaded_falls_back_to_words(caplog):
    """Loudly, once, and counting goes on."""
    counter = TiktokenCounter(tokens_per_word=1.0)
    counts = await counter.count(Profile("no_such_encoding"), ["one two three four"])
    counter.close()

    assert counts == [5]
    assert counter.fallbacks == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]


NUMERALS = st.text("0123456789²Ⅷ٣ ", max_size=12)
LETTERS = st.text("aZéßǅ漢ʰ\u0301'sStT _-/\r\n\t", max_size=12)


@settings(max_examples=300, deadline=None)
@given(text=st.lists(NUMERALS | LETTERS, max_size=4).map("".join))
def test_short_texts_cost_what_tiktoken_says(text, encoding, counter):
    """Exactly: the patterns that split words, numbers and white space are tiktoken's own."""
    assert counter.count_here(Profile(encoding.name), text) == own_count(encoding, text)


SMALL = [("Hello, world!", 4), ("", 0), (" " * 3, 1), ("antidisestablishmentarianism", 6), ("<|endoftext|>", 7)]


@pytest.mark.parametrize(("text", "tokens"), SMALL)
def test_known_counts(text, tokens, counter):
    """As published tokenizers say for o200k_base; special tokens in a text are text."""
    assert counter.count_here(Profile(O200K), text) == tokens


NO_NETWORK = """
import sys
def refuse(event, details):
    if event.startswith("socket."):
        raise SystemExit(f"the network was used: {event} {details}")
sys.addaudithook(refuse)
from gateway.shell.tokens.rank_files import load_encoding
print(*(len(load_encoding(name).encode_ordinary("Hello, world!")) for name in sys.argv[1:]))
"""


def test_encodings_load_without_a_network(tmp_path):
    """A process in which every use of a socket is fatal, and whose tiktoken has an empty cache, counts all the same."""
    environment = {**os.environ, "TIKTOKEN_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", NO_NETWORK, *ENCODINGS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout.split()) == (0, ["4", "4"]), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.999999])
def test_a_damaged_rank_file_is_refused(where, tmp_path):
    """One flipped bit is noticed, whether in the head, the body or the checksum."""
    source = resources.files("gateway.data").joinpath(f"{CL100K}.tiktoken.gz").read_bytes()
    damaged = bytearray(source)
    damaged[int(where * len(source))] ^= 1
    (tmp_path / f"{CL100K}.tiktoken.gz").write_bytes(damaged)

    with pytest.raises(ValueError, match="cl100k_base is damaged"):
        load_encoding(CL100K, tmp_path)


def test_a_whole_copy_loads(tmp_path):
    with resources.as_file(resources.files("gateway.data").joinpath(f"{CL100K}.tiktoken.gz")) as source:
        shutil.copy(source, tmp_path)

    assert load_encoding(CL100K, tmp_path).encode_ordinary("Hello, world!") == [9906, 11, 1917, 0]


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(OSError, match="cl100k_base"):
        load_encoding(CL100K, tmp_path)
