"""A vision model's answers: text, how sure the server says it is, and whether it was cut off; anything else is none."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.vision.document import Reading
from gateway.core.vision.model_calls import agreed, agreement, read_answer, render_call

Json = dict[str, Any]


def answer(text: Any, logprobs: Any = None, finish: str = "stop") -> bytes:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish, "logprobs": logprobs}
    return json.dumps({"id": "x", "choices": [choice], "usage": {}}).encode()


def probabilities(*values: float | None) -> Json:
    return {"content": [{"token": "t", "logprob": value, "top_logprobs": []} for value in values]}


def test_a_call() -> None:
    """Options replace what is usual, but neither the model nor what it is shown."""
    options = {"temperature": 0.1, "skip_special_tokens": False, "model": "other", "messages": [], "stream": True}
    body = json.loads(render_call("m", "Free OCR.", b"\x89PNG", 100, options, asks_for_logprobs=True))
    picture, text = body["messages"][0]["content"]

    assert (body["model"], body["temperature"], body["max_tokens"], body["logprobs"]) == ("m", 0.1, 100, True)
    assert (body["skip_special_tokens"], body["stream"]) == (False, False)
    assert base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,")) == b"\x89PNG"
    assert text == {"type": "text", "text": "Free OCR."}
    assert "logprobs" not in json.loads(render_call("m", "", b"", 1, {}, asks_for_logprobs=False))


@pytest.mark.parametrize(
    ("logprobs", "confidence"),
    [
        (None, None),
        ({}, None),
        ({"content": None}, None),
        (probabilities(), None),
        (probabilities(0.0, 0.0), 1.0),
        (probabilities(0.0, math.log(0.5)), 0.75),
        (probabilities(-9999.0), 0.0),
        (probabilities(0.0, None), None),
        (probabilities(0.7), None),
    ],
)
def test_confidence_is_what_the_server_says_or_nothing(logprobs: Any, confidence: float | None) -> None:
    reading = read_answer(answer("text", logprobs))

    assert reading is not None
    assert reading.confidence == (None if confidence is None else pytest.approx(confidence))


def test_what_was_cut_is_flagged() -> None:
    whole = read_answer(answer("text", probabilities(0.0)))
    cut = read_answer(answer("text", probabilities(0.0), "length"))
    looped = read_answer(answer("begin " + "over " * 400, probabilities(0.0), "length"))

    assert whole == Reading("text", 1.0, False)
    assert cut == Reading("text", 1.0, True)
    assert looped is not None
    assert looped.is_cut
    assert looped.confidence is not None
    assert 0 < looped.confidence < 0.05


def test_content_in_parts() -> None:
    assert read_answer(answer([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])) == Reading("ab", None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"nope",
        b"\xff",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        answer(None),
        answer(5),
        b"[" * 99_999,
    ],
)
def test_what_is_no_answer_is_none(body: bytes) -> None:
    assert read_answer(body) is None


@given(st.binary() | st.text().map(answer))
def test_any_bytes_are_an_answer_or_none(body: bytes) -> None:
    reading = read_answer(body)

    assert reading is None or reading.confidence is None


@given(st.text(max_size=50), st.text(max_size=50))
def test_agreement_is_a_share(first: str, second: str) -> None:
    assert agreement(first, first) == 1.0
    assert 0 <= agreement(first, second) == agreement(second, first) <= 1


def test_agreement_of_two_readings() -> None:
    assert agreed(Reading("invoice total 42", None), Reading("invoice total 47", None)).confidence == pytest.approx(
        2 / 3
    )
    assert agreement("tea", "milk") == 0.0
    assert agreement("", "?!") == 0.0
