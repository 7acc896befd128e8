"""Embeddings on the wire: an answer is one vector for each input, in their order, or it is none."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.core.facts.embeddings import MAX_INPUT_BYTES, read_embeddings, render_embeddings_request


def answer(*vectors: Any, indices: Sequence[Any] | None = None) -> bytes:
    numbered = range(len(vectors)) if indices is None else indices
    data = [{"object": "embedding", "index": at, "embedding": each} for at, each in zip(numbered, vectors, strict=True)]
    return json.dumps({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1}}).encode()


def unpacked(vector: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(vector) // 2}e", vector))


ONE, OTHER = [3.0, 4.0], [-1, 0]
READ: dict[str, tuple[bytes, list[list[float]] | None]] = {
    "in order": (answer(ONE, OTHER), [[0.6, 0.8], [-1.0, 0.0]]),
    "out of order": (answer(OTHER, ONE, indices=[1, 0]), [[0.6, 0.8], [-1.0, 0.0]]),
    "too few": (answer(ONE), None),
    "too many": (answer(ONE, OTHER, ONE), None),
    "one twice": (answer(ONE, OTHER, indices=[0, 0]), None),
    "numbered from one": (answer(ONE, OTHER, indices=[1, 2]), None),
    "numbered below zero": (answer(ONE, OTHER, indices=[-1, 0]), None),
    "a number that is a text": (answer(ONE, OTHER, indices=["0", "1"]), None),
    "of two lengths": (answer(ONE, [1, 2, 3]), None),
    "empty": (answer([], []), None),
    "zero": (answer(ONE, [0, 0]), None),
    "not a number": (answer(ONE, [math.nan, 1]), None),
    "infinite": (answer(ONE, [math.inf, 1]), None),
    "beyond all floats": (answer(ONE, OTHER).replace(b"-1", b"1e999"), None),
    "an integer of 400 digits": (answer(ONE, OTHER).replace(b"-1", b"9" * 400), None),
    "huge": (answer(ONE, [1e308, 1e308]), [[0.6, 0.8], [0.5**0.5, 0.5**0.5]]),
    "tiny": (answer(ONE, [5e-324, -5e-324]), [[0.6, 0.8], [0.5**0.5, -(0.5**0.5)]]),
    "in base64": (answer("AACAPw==", "AACAPw=="), None),
    "true": (answer(ONE, [True, False]), None),
    "null": (answer(ONE, None), None),
    "no data": (b'{"object": "list"}', None),
    "an error": (b'{"error": {"message": "no"}}', None),
    "no JSON": (b"<html>busy</html>", None),
    "cut": (answer(ONE, OTHER)[:-30], None),
    "nothing": (b"", None),
    "no UTF-8": (answer(ONE, OTHER).replace(b'"m"', b'"\xff"'), [[0.6, 0.8], [-1.0, 0.0]]),
    "too deep": (b'{"data": ' + b"[" * 100_000, None),
}


@pytest.mark.parametrize(("body", "expected"), READ.values(), ids=READ)
def test_1_what_is_an_answer_to_two(body: bytes, expected: list[list[float]] | None) -> None:
    found = read_embeddings(body, 2)

    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert [unpacked(each) for each in found] == [pytest.approx(each, abs=1e-3) for each in expected]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.integers(0, 3))
def test_1_no_bytes_raise(body: bytes, count: int) -> None:
    found = read_embeddings(body, count)

    assert found is None or len(found) == count


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1, 1) | st.integers(-5, 5).map(float)


@given(st.integers(1, 40).flatmap(lambda size: st.lists(numbers, min_size=size, max_size=size)))
@example([5e-324])
@example([1e-160] * 30)
@example([1.7e308] * 30)
@example([1.0] + [1e-9] * 30)
def test_2_what_is_kept_has_length_1(vector: list[float]) -> None:
    """And the direction of what was sent, whatever its size."""
    assume(any(vector))
    found = read_embeddings(answer(vector), 1)

    assert found is not None
    kept = unpacked(found[0])
    largest = max(map(abs, vector))
    scaled = [number / largest for number in vector]
    length = math.hypot(*scaled)
    assert math.hypot(*kept) == pytest.approx(1, abs=2e-3)
    assert kept == pytest.approx([number / length for number in scaled], abs=1e-3)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5))
@example(["\ud800 half", "a\x00b"])
@example(["字" * 9000, "x" * 9000, "🙂" * 9000])
def test_what_is_asked_can_be_read_by_anybody(texts: list[str]) -> None:
    """As JSON in UTF-8, as numbers, each text by itself, and none longer than models take."""
    asked = json.loads(render_embeddings_request("m", texts))

    assert asked["model"] == "m"
    assert asked["encoding_format"] == "float"
    assert len(asked["input"]) == len(texts)
    for text, sent in zip(texts, asked["input"], strict=True):
        whole = text.encode("utf-8", "replace").decode()
        assert len(sent.encode()) <= MAX_INPUT_BYTES
        assert whole.startswith(sent)
        assert sent == whole or len(sent.encode()) > MAX_INPUT_BYTES - 4
