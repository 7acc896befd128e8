"""Generated text: nothing lost within bounds, bounded always, tokens never cut where it matters."""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.wire import generated as module
from gateway.core.wire.generated import MAX_CHANNELS, MAX_HELD_BYTES, MAX_PACKED_BYTES, Generated
from gateway.shell.tokens.rank_files import load_encoding

WORDS = "The quick brown fox jumps over 13 lazy dogs, and naïve 日本語 text follows: def f(x): return x\n"


def taken(pieces: list[tuple[Any, str]]) -> Generated:
    """What holds these pieces."""
    generated = Generated()
    for channel, text in pieces:
        generated.add(channel, text)
    return generated


def size_of(generated: Generated) -> int:
    """What it really takes in memory."""
    pieces = [piece for held in generated._channels.values() for piece in held]
    return sum(map(sys.getsizeof, (*pieces, *generated._packed, *generated._channels.values())))


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(
        st.tuples(
            st.sampled_from([0, 1, (0, "reasoning"), (0, 1)]),
            st.text(max_size=8) | st.builds(lambda times: WORDS * times, st.integers(1, 400)) | st.just("x" * 9000),
        ),
        max_size=40,
    )
)
def test_nothing_is_lost(pieces: list[tuple[Any, str]]) -> None:
    """Every character is in some text, each channel's in its order."""
    generated = taken(pieces)
    texts = list(generated.texts())
    expected: dict[Any, str] = defaultdict(str)
    for channel, text in pieces:
        expected[channel] += text

    assert sorted("".join(texts)) == sorted("".join(expected.values()))
    assert generated.unkept_share == 0
    if len(expected) == 1:
        assert "".join(texts) == next(iter(expected.values()))
    assert generated.is_empty == (not pieces)


def test_a_long_stream_takes_little_memory() -> None:
    """A hundred thousand pieces of a few characters: no more than the bound, and then compressed."""
    generated, peak = Generated(), 0
    text = WORDS * 8000
    pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    for place, piece in enumerate(pieces):
        generated.add(0, piece)
        if place % 500 == 0:
            peak = max(peak, size_of(generated) - generated.packed_bytes)

    assert "".join(generated.texts()) == text
    assert len(text) > 700_000
    assert peak < 2 * MAX_HELD_BYTES
    assert generated.packed_bytes < len(text) / 4


def test_beyond_all_bounds_text_is_measured() -> None:
    """Incompressible text without end: memory stays, and what is not kept is known by its share."""
    generated = Generated()
    given_bytes = 0
    for number in range(4000):
        text = "".join(chr(0x4E00 + (number * 7919 + place * place * 31) % 20_000) for place in range(700))
        generated.add(0, text)
        given_bytes += len(text.encode())
    kept = sum(len(text.encode()) for text in generated.texts())

    assert generated.packed_bytes <= MAX_PACKED_BYTES + 300_000
    assert generated.held_bytes <= MAX_HELD_BYTES
    assert kept * (1 + generated.unkept_share) == pytest.approx(given_bytes, rel=0.03)


def test_one_enormous_piece_is_kept_in_part() -> None:
    """Of eight megabytes in one event a bounded part is held, and the rest is known by its share."""
    text = WORDS * (8 * 2**20 // len(WORDS))
    generated = taken([(0, text)])
    kept = sum(map(len, generated.texts()))

    assert 200_000 < kept < 300_000
    assert kept * (1 + generated.unkept_share) == pytest.approx(len(text), rel=0.1)


def test_channels_are_bounded() -> None:
    """A stream that opens ever new channels ends up in one; small texts of very many choices are packed too."""
    generated = taken([(number, f"text {number} ") for number in range(5000)])
    many = taken([(number % 128, "some words of this choice ") for number in range(40_000)])

    assert len(generated._channels) <= MAX_CHANNELS
    assert len("".join(generated.texts())) == sum(len(f"text {number} ") for number in range(5000))
    assert many.held_bytes <= MAX_HELD_BYTES
    assert "".join(sorted("".join(many.texts()))) == "".join(sorted("some words of this choice " * 40_000))


def test_cutting_costs_no_tokens() -> None:
    """Counted block by block, a long text has the tokens that it has as a whole."""
    encoding = load_encoding("o200k_base")
    text = WORDS * 3000
    generated = taken([(0, text[at : at + 5]) for at in range(0, len(text), 5)])
    blocks = list(generated.texts())
    counted = sum(len(encoding.encode_ordinary(block)) for block in blocks)

    assert len(blocks) > 5
    assert counted == len(encoding.encode_ordinary(text))


def test_interleaved_choices_are_counted_apart() -> None:
    """Tokens of one choice never mix with another's, however they take turns."""
    encoding = load_encoding("o200k_base")
    texts = {0: "Tokenisation of interleaved choices. " * 400, 1: "全く別の文章がここにあります。" * 400}
    generated = Generated()
    for at in range(0, len(texts[0]), 3):
        for channel, text in texts.items():
            if text[at : at + 3]:
                generated.add(channel, text[at : at + 3])
    counted = sum(len(encoding.encode_ordinary(block)) for block in generated.texts())
    whole = sum(len(encoding.encode_ordinary(text)) for text in texts.values())

    assert counted == pytest.approx(whole, rel=0.002)


def test_the_bounds_are_what_the_promises_are_about() -> None:
    """They are small beside what a gateway holds for a request."""
    assert module.MAX_HELD_BYTES <= 2**17
    assert module.MAX_PACKED_BYTES <= 2**20
