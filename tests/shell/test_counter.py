"""Texts are counted as tiktoken counts them, token for token, and no text can hurt the process."""

import asyncio
import base64
import gzip
import json
import random
import sysconfig
import threading
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.tokens.profiles import CL100K, O200K, WORDS, Profile
from gateway.shell.tokens.counter import INLINE_CHARS, TiktokenCounter, encoding_fault
from gateway.shell.tokens.pieces import PIECE_CHARS
from gateway.shell.tokens.pool import FairPool
from gateway.shell.tokens.rank_files import RankFile
from gateway.shell.tokens.tokenizer import Figures, RankTokenizer, WordTokenizer
from tests.shared_data import shared_data
from tests.shell.tiktoken_reference import own_count, reference

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
def encoding(request):
    return reference(request.param)


def sources():
    """Python's own modules, its packages without their tests, and a novel's chapters."""
    library = Path(sysconfig.get_paths()["stdlib"])
    skipped = {"site-packages", "test", "tests", "idlelib"}
    paths = [path for path in sorted(library.rglob("*.py")) if not skipped.intersection(path.parts)]
    return [PROSE, *(path.read_text("utf-8", "replace") for path in paths)]


def strings_in(value):
    """Every string of a JSON tree."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings_in(part)


def test_real_texts_cost_what_tiktoken_says(encoding, counter):
    """Exactly, cut or not, alone and all in one."""
    texts = sources()
    own = [own_count(encoding, text) for text in texts]
    joined = "\n".join(texts)[: 8 * MILLION]

    assert [counter.count_here(Profile(encoding.name), text) for text in texts] == own
    assert counter.count_here(Profile(encoding.name), joined) == own_count(encoding, joined)


@pytest.mark.parametrize("name", ["chats_dev.jsonl.gz", "conversations_dev.jsonl.gz", "traces_dev.jsonl.gz"])
def test_recorded_texts_cost_what_tiktoken_says(name, encoding, counter):
    """Exactly: every string of recorded chats and traces, up to some megabytes of them."""
    left = 4 * MILLION
    with gzip.open(shared_data(name), "rt", encoding="utf-8") as lines:
        for line in lines:
            texts = [line, *strings_in(json.loads(line))]
            left -= 2 * len(line)

            for text in texts:
                assert counter.count_here(Profile(encoding.name), text) == own_count(encoding, text)
            if left < 0:
                break


def letters(alphabet, size):
    return "".join(RANDOM.choices(alphabet, k=size))


WORST = {
    "one letter": "a" * MILLION,
    "one capital": "A" * MILLION,
    "spaces": " " * MILLION,
    "spaces around a word": " " * (MILLION // 2) + "x" + " " * (MILLION // 2),
    "tabs": "\t" * MILLION,
    "line ends": "\n" * MILLION,
    "carriage returns": "\r\n" * (MILLION // 2),
    "mixed white space": " \n\t" * (MILLION // 3),
    "random white space": letters(" \n\t\r\u3000\xa0", MILLION),
    "one digit": "7" * MILLION,
    "digits": letters("0123456789", MILLION),
    "dashes": "-" * MILLION,
    "punctuation": letters("!?-_=+*&^%$#@~/", MILLION),
    "zero bytes": "\0" * MILLION,
    "base64": base64.b64encode(RANDOM.randbytes(MILLION * 3 // 4)).decode(),
    "random letters": letters("abcdefghijklmnopqrstuvwxyz", MILLION),
    "camel case": "aB" * (MILLION // 2),
    "one CJK character": "漢" * (MILLION // 3),
    "Chinese": "".join(chr(RANDOM.randrange(0x4E00, 0x9FFF)) for _ in range(MILLION // 3)),
    "Chinese and capitals": ("漢" + "A" * 9_999) * 100,
    "emoji": "😀" * (MILLION // 4),
    "emoji of many parts": "👨‍👩‍👧🇩🇪👍🏽" * (MILLION // 50),
    "combining marks": "a\u0301\u0323" * (MILLION // 5),
    "any unicode": "".join(chr(RANDOM.randrange(0x20, 0x10FFFF)) for _ in range(MILLION // 4)),
    "half surrogate pairs": "\ud83d" * (MILLION // 4),
    "half surrogate pairs in text": "cut \ud83d off \ude00 " * (MILLION // 20),
    "words of 500 letters": ("x" * 500 + " ") * (MILLION // 501),
    "special tokens": "<|endoftext|>" * (MILLION // 13),
    "contractions": "'s'S'll'LL're" * (MILLION // 13),
}


@pytest.mark.parametrize("text", WORST.values(), ids=WORST)
def test_the_worst_texts_are_counted_exactly(text, encoding, counter):
    """A part that tiktoken can take whole; the whole, which is about as much more as it is longer; no fallback."""
    profile, part = Profile(encoding.name), text[:60_000]
    figures = (counter.fallbacks, counter.inexact_cuts)
    mine, whole = counter.count_here(profile, part), counter.count_here(profile, text)

    assert mine == own_count(encoding, part)
    assert whole == pytest.approx(mine * len(text) / len(part), rel=0.02)
    assert (counter.fallbacks, counter.inexact_cuts) == figures


LIMITS = st.sampled_from([PIECE_CHARS // 2, PIECE_CHARS, 2 * PIECE_CHARS])
LENGTHS = st.integers(1, 60) | st.builds(lambda limit, more: limit + more, LIMITS, st.integers(-3, 3))
RUN = st.sampled_from(
    ["word ", "x", "X", " ", "\n", "漢", "\t", "1", "-", "\ud800", "é", "aB", "\r\n", " \n", "😀", "a\u0301", "/", "'s"]
)
RUNS = st.lists(st.tuples(RUN, LENGTHS), max_size=7).map(lambda runs: "".join(text * times for text, times in runs))


@settings(max_examples=100, deadline=None)
@given(text=RUNS)
def test_runs_around_every_limit_cost_what_tiktoken_says(text, encoding, counter):
    """Exactly, whatever stands beside them: runs a little shorter, as long as, and a little longer than a piece."""
    assert counter.count_here(Profile(encoding.name), text) == own_count(encoding, text)


ANY_SCRIPT = st.text("0123456789²Ⅷ٣ ", max_size=12) | st.text("aZéßǅ漢ʰ\u0301'sStT _-/\r\n\t", max_size=12)


@settings(max_examples=200, deadline=None)
@given(text=st.lists(ANY_SCRIPT | st.text(max_size=40), max_size=4).map("".join), times=st.sampled_from([1, 1, 1000]))
def test_any_text_costs_what_tiktoken_says(text, times, encoding, counter):
    """Exactly, once and repeated until it is cut."""
    assert counter.count_here(Profile(encoding.name), text * times) == own_count(encoding, text * times)


async def test_small_and_big_texts_are_counted_alike(counter):
    """On the event loop or in threads, alone or together, in any order, a text costs the same."""
    profile = Profile(O200K)
    texts = ["", "Hi", PROSE[:INLINE_CHARS], PROSE, "漢" * 5000, *(PROSE[start : start + 900] for start in range(300))]
    together = await counter.count(profile, texts)
    alone = [(await counter.count(profile, [text]))[0] for text in texts]

    assert together == alone == [counter.count_here(profile, text) for text in texts]
    assert await counter.count(profile, []) == []


@pytest.mark.parametrize("text", ["x" * (INLINE_CHARS + 1), "漢" * (INLINE_CHARS // 3 + 1)], ids=["ASCII", "wide"])
async def test_more_than_a_few_kilobytes_are_counted_elsewhere(text, encoding, counter):
    """By the size in bytes, roughly; less is counted at once, without a turn of the loop."""
    for shown, is_inline in ((text[1:], True), (text, False)):
        work = counter.count(Profile(encoding.name), [shown])
        try:
            work.send(None)
            has_waited = True
        except StopIteration:
            has_waited = False
        work.close()

        assert has_waited is not is_inline


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


class FakeCore:
    """Stands for tiktoken's core: one token a letter, and what it was asked."""

    def __init__(self, failure=None):
        self.failure = failure
        self.asked = []
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def encode_ordinary(self, text):
        self.begun.set()
        self.gate.wait(10)
        self.asked.append(text)
        if self.failure:
            raise self.failure
        return [1] * len(text)

    def encode_to_tiktoken_buffer(self, text, _allowed):
        return bytes(4 * len(self.encode_ordinary(text)))

    def encode_single_piece(self, data):
        return self.encode_ordinary(data)


class FakeEncoding:
    def __init__(self, core):
        self._core_bpe = core


def counter_with(core):
    """A counter whose o200k_base is this, with one thread: what happens is a matter of order alone."""
    figures = Figures()
    counter = TiktokenCounter(tokens_per_word=1.0)
    counter._figures = figures
    counter._pool = FairPool(1, "count")
    words = WordTokenizer(1.0, figures)
    counter._tokenizers[O200K] = RankTokenizer(RankFile(FakeEncoding(core), r"\S+|\s+", bytes([1, 1])), words, figures)
    return counter


async def test_small_requests_do_not_wait_for_a_huge_one():
    """Texts of two pieces each are counted among the first of the thousands of pieces of a huge one, which ends too."""
    core = FakeCore()
    counter = counter_with(core)
    core.gate.clear()
    huge = asyncio.ensure_future(counter.count(Profile(O200K), ["huge " * 2_000_000]))
    small = [asyncio.ensure_future(counter.count(Profile(O200K), ["tiny " * 2_000])) for _ in range(4)]
    for _ in range(10):  # until all wait for the threads
        await asyncio.sleep(0)
    core.gate.set()
    found, whole = await asyncio.gather(*small), await huge
    counter.close()
    last = max(place for place, text in enumerate(core.asked) if "tiny" in text)

    assert (found, whole) == ([[10_000]] * 4, [10_000_000])
    assert last < 10 < len(core.asked) / 20


async def test_a_cancelled_count_stops():
    """Soon: after the piece that the thread is at, not after the text."""
    core = FakeCore()
    counter = counter_with(core)
    core.gate.clear()
    huge = asyncio.ensure_future(counter.count(Profile(O200K), ["huge " * 100_000] * 20))
    await asyncio.to_thread(core.begun.wait, 10)
    huge.cancel()
    await asyncio.gather(huge, return_exceptions=True)
    core.gate.set()
    await counter.count(Profile(O200K), ["then " * 2_000])
    counter.close()

    assert sum("huge" in text for text in core.asked) == 1


class Panic(BaseException):
    """As pyo3's PanicException: no Exception."""


@pytest.mark.parametrize("failure", [Panic("regex"), ValueError("regex"), MemoryError()], ids=repr)
@pytest.mark.parametrize("size", [10, 5_000, 50_000])
async def test_a_failing_tokenizer_is_replaced_by_words(failure, size, caplog):
    """Piece by piece, loudly, in the figures, on the loop and off it; a long run too."""
    counter = counter_with(FakeCore(failure))
    for text in ("ab " * size, "x" * size):
        before = counter.fallbacks
        counts = [counter.count_here(Profile(O200K), text), *await counter.count(Profile(O200K), [text])]

        assert counts[0] == counts[1] >= len(text) // 4
        assert counter.fallbacks > before
    counter.close()
    assert {record.levelname for record in caplog.records} == {"WARNING"}


@pytest.mark.parametrize("signal", [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()], ids=repr)
@pytest.mark.parametrize("text", ["short", "x" * 50_000], ids=["short", "long"])
def test_what_stops_a_process_is_not_a_tokenizers_failure(signal, text):
    counter = counter_with(FakeCore(signal))

    with pytest.raises(type(signal)):
        counter.count_here(Profile(O200K), text)
    assert counter.fallbacks == 0


async def test_words_are_counted_without_a_tokenizer(caplog):
    """Words times the rate, never less than a fourth of the bytes; each counted text is told as a fallback."""
    counter = TiktokenCounter(tokens_per_word=1.5)
    counts = await counter.count(Profile(WORDS), ["one two three", "漢" * 40, "", "\ud800 x"])
    counter.close()

    assert counts == [5, 30, 0, 3]
    assert counter.fallbacks == 4
    assert not caplog.records


@settings(max_examples=100, deadline=None)
@given(text=RUNS)
def test_words_are_not_lost_between_pieces(text):
    """A long text has the words that it has when it is split whole."""
    figures = Figures()

    assert sum(WordTokenizer(100.0, figures).steps(text)) == max(
        100 * len(text.split()), -(-len(text.encode("utf-8", "replace")) // 4)
    )
    assert figures.fallbacks == 1


async def test_an_encoding_that_cannot_be_loaded_falls_back_to_words(caplog):
    """Loudly, once, and counting goes on."""
    counter = TiktokenCounter(tokens_per_word=1.0)
    counts = await counter.count(Profile("no_such_encoding"), ["one two three four"])
    more = counter.count_here(Profile("no_such_encoding"), "five")
    counter.close()

    assert (counts, more) == ([5], 1)
    assert counter.fallbacks == 2
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (O200K, None),
        (WORDS, None),
        ("o200k_harmony", None),
        ("o300k", "there is no encoding 'o300k'; expected one of"),
    ],
)
def test_a_fault_is_told_beforehand(name, fault):
    found = encoding_fault(name)

    assert found is None if fault is None else found is not None and fault in found


SMALL = [("Hello, world!", 4), ("", 0), (" " * 3, 1), ("antidisestablishmentarianism", 6), ("<|endoftext|>", 7)]


@pytest.mark.parametrize(("text", "tokens"), SMALL)
def test_known_counts(text, tokens, counter):
    """As published tokenizers say for o200k_base; special tokens in a text are text."""
    assert counter.count_here(Profile(O200K), text) == tokens
