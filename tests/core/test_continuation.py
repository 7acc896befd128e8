"""Going on with a stream that broke off: exactly, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.wire.continuation import Continuation, DivergedError, SentText
from gateway.core.wire.sse import parse_event

DONE = b"data: [DONE]\n\n"


def event(delta: Any, finish: str | None = None, **others: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **others}
    return b"data: " + json.dumps({"id": "c", "choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


def stream_of(pieces: list[str]) -> list[bytes]:
    """As OpenAI sends it: a role, the pieces, the finish, the end mark."""
    head = event({"role": "assistant", "content": ""})
    return [head, *(event({"content": piece}) for piece in pieces), event({}, "stop"), DONE]


def text_of(raws: list[bytes]) -> str:
    seen = SentText()
    for raw in raws:
        seen.add(raw)
    return seen.text


pieces = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=6)


@given(first=pieces, cut=st.integers(0, 6), data=st.data())
def test_1_a_repeated_answer_goes_on_from_any_place(first: list[str], cut: int, data: st.DataObject) -> None:
    """However the other upstream cuts the same text into pieces."""
    whole = "".join(first)
    sent = SentText()
    for raw in stream_of(first)[: 1 + cut]:
        sent.add(raw)
    if sent.is_over:
        return
    at = data.draw(st.lists(st.integers(0, len(whole)), max_size=5).map(sorted))
    again = [whole[a:b] for a, b in zip([0, *at], [*at, len(whole)], strict=True) if a < b]
    going_on = Continuation(sent.text, repeats=True)
    passed = [out for raw in stream_of(again) if (out := going_on.feed(raw))]

    assert sent.text + text_of(passed) == whole
    assert passed[-1] == DONE


@given(first=pieces, other=pieces)
def test_2_another_answer_is_not_passed_on(first: list[str], other: list[str]) -> None:
    """Not a byte of it, where it differs before the joint."""
    sent, told = "".join(first), "".join(other)
    going_on = Continuation(sent, repeats=True)
    passed: list[bytes] = []
    try:
        for raw in stream_of(other):
            passed += filter(None, [going_on.feed(raw)])
    except DivergedError:
        assert not told.startswith(sent)
        assert passed == []
    else:
        assert told.startswith(sent)
        assert sent + text_of(passed) == told


@given(rest=pieces)
def test_3_what_follows_is_passed_as_it_is(rest: list[str]) -> None:
    """After a beginning that the upstream was given, everything but the role."""
    going_on = Continuation("whatever was sent", repeats=False)
    passed = [out for raw in stream_of(rest) if (out := going_on.feed(raw))]

    assert passed == stream_of(rest)[1:]


OTHERS = {
    "a tool call": event({"tool_calls": [{"index": 0}]}),
    "thoughts": event({"reasoning_content": "hm"}),
    "a refusal": event({"refusal": "no"}),
    "another choice": event({"content": "x"}, index=1),
    "log probabilities": event({"content": "x"}, logprobs={"content": []} | {"refusal": 1}),
}


@pytest.mark.parametrize("raw", OTHERS.values(), ids=OTHERS)
def test_what_is_no_plain_text(raw: bytes) -> None:
    """Is not gone on with, and does not go on."""
    sent = SentText()
    sent.add(raw)

    assert not sent.is_plain
    with pytest.raises(DivergedError):
        Continuation("x", repeats=True).feed(raw)


def test_an_error_is_seen() -> None:
    """It says nothing, and nothing goes on with it."""
    raw = b'data: {"error":{"message":"m"}}\n\n'
    sent = SentText()
    sent.add(raw)

    assert (sent.has_error, sent.is_plain, sent.text) == (True, True, "")
    with pytest.raises(DivergedError):
        Continuation("x", repeats=True).feed(raw)


def test_ends_and_breaks_are_seen() -> None:
    """A finish, an end mark, half an event; comments say nothing."""
    for raw, is_over, is_broken in (
        (event({}, "stop"), True, False),
        (DONE, True, False),
        (b'data: {"choices": [{"del\n\n', False, True),
        (b": keep-alive\n\n", False, False),
        (b"data: hello\n\n", False, False),
    ):
        sent = SentText()
        sent.add(raw)
        assert (sent.is_over, sent.is_broken, sent.is_plain) == (is_over, is_broken, True)


@pytest.mark.parametrize("raw", [DONE, event({}, "stop"), b'data: {"choices": [{"del\n\n', b'data: {"usage":{}}\n\n'])
def test_an_answer_that_ends_too_early(raw: bytes) -> None:
    """Is another one."""
    with pytest.raises(DivergedError):
        Continuation("some text", repeats=True).feed(raw)


def test_the_joint_may_lie_within_a_piece() -> None:
    """Then the piece is sent without what the client has."""
    going_on = Continuation("Hello, wor", repeats=True)
    (passed,) = [out for raw in stream_of(["Hello, world", "!"])[:2] if (out := going_on.feed(raw))]
    parsed = parse_event(passed)

    assert parsed is not None
    assert json.loads(parsed.data)["choices"][0]["delta"] == {"content": "ld"}
