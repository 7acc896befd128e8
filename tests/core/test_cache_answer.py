"""Which answers are kept, and that they come back as they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.cache.answer import (
    Record,
    events_of,
    is_whole_answer,
    is_whole_stream,
    kept_headers,
    read_record,
    write_record,
)
from gateway.core.wire.request import Endpoint

Json = dict[str, Any]
DONE = b"data: [DONE]\n\n"


def answer(*reasons: str | None, **more: Any) -> bytes:
    choices = [{"index": i, "message": {"content": "x"}, "finish_reason": each} for i, each in enumerate(reasons)]
    return json.dumps({"choices": choices, **more}).encode()


def event(data: Json, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


def piece(index: int = 0, reason: str | None = None, **more: Any) -> bytes:
    return event({"choices": [{"index": index, "delta": {"content": "x"}, "finish_reason": reason}], **more})


def response(kind: str, **more: Any) -> bytes:
    return event({"type": kind, **more}, kind)


ANSWERS: dict[str, tuple[Endpoint, bytes, bool]] = {
    "a chat": (Endpoint.CHAT, answer("stop"), True),
    "with calls": (Endpoint.CHAT, answer("tool_calls", "stop"), True),
    "a completion": (Endpoint.COMPLETIONS, answer("stop"), True),
    "cut at its limit": (Endpoint.CHAT, answer("length"), False),
    "one choice filtered": (Endpoint.CHAT, answer("stop", "content_filter"), False),
    "unfinished": (Endpoint.CHAT, answer(None), False),
    "no choice": (Endpoint.CHAT, answer(), False),
    "an error": (Endpoint.CHAT, answer("stop", error={"message": "no"}), False),
    "not JSON": (Endpoint.CHAT, answer("stop")[:-1], False),
    "of another shape": (Endpoint.CHAT, b'{"choices": "stop"}', False),
    "a list": (Endpoint.CHAT, b"[]", False),
    "a response": (Endpoint.RESPONSES, b'{"status": "completed", "error": null}', True),
    "a response cut short": (Endpoint.RESPONSES, b'{"status": "incomplete"}', False),
    "a response in the queue": (Endpoint.RESPONSES, b'{"status": "queued"}', False),
    "an embedding": (Endpoint.EMBEDDINGS, b'{"data": [{"embedding": [0.1]}]}', True),
    "no embedding": (Endpoint.EMBEDDINGS, b'{"data": []}', False),
}


@pytest.mark.parametrize(("endpoint", "body", "is_whole"), ANSWERS.values(), ids=ANSWERS)
def test_whole_answers_are_kept(endpoint: Endpoint, body: bytes, is_whole: bool) -> None:
    assert is_whole_answer(endpoint, body) is is_whole


STREAMS: dict[str, tuple[Endpoint, bytes, bool]] = {
    "a chat": (Endpoint.CHAT, piece() + piece(reason="stop") + DONE, True),
    "with usage": (Endpoint.CHAT, piece(reason="stop") + event({"choices": [], "usage": {}}) + DONE, True),
    "two choices": (Endpoint.CHAT, piece(0) + piece(1, "stop") + piece(0, "tool_calls") + DONE, True),
    "comments": (Endpoint.CHAT, b": wait\n\n" + piece(reason="stop") + DONE, True),
    "other line ends": (Endpoint.CHAT, (piece(reason="stop") + DONE).replace(b"\n", b"\r\n"), True),
    "no end mark": (Endpoint.CHAT, piece(reason="stop"), False),
    "no finish": (Endpoint.CHAT, piece() + DONE, False),
    "one choice unfinished": (Endpoint.CHAT, piece(0, "stop") + piece(1) + DONE, False),
    "cut at its limit": (Endpoint.CHAT, piece(reason="length") + DONE, False),
    "filtered": (Endpoint.CHAT, piece(reason="content_filter") + DONE, False),
    "an error in it": (Endpoint.CHAT, piece() + event({"error": {"message": "no"}}) + DONE, False),
    "more after the end": (Endpoint.CHAT, piece(reason="stop") + DONE + piece(), False),
    "half an event": (Endpoint.CHAT, piece(reason="stop") + DONE[:-1], False),
    "not JSON": (Endpoint.CHAT, b"data: {\n\n" + piece(reason="stop") + DONE, False),
    "nothing": (Endpoint.CHAT, b"", False),
    "a response": (
        Endpoint.RESPONSES,
        response("response.created", response={"status": "in_progress"})
        + response("response.output_text.delta", delta="x")
        + response("response.completed", response={"status": "completed"}),
        True,
    ),
    "a response that failed": (
        Endpoint.RESPONSES,
        response("response.created", response={"status": "in_progress"})
        + response("response.failed", response={"status": "failed"}),
        False,
    ),
    "a response cut short": (
        Endpoint.RESPONSES,
        response("response.incomplete", response={"status": "incomplete"}),
        False,
    ),
    "a response without an end": (Endpoint.RESPONSES, response("response.output_text.delta", delta="x"), False),
}


@pytest.mark.parametrize(("endpoint", "body", "is_whole"), STREAMS.values(), ids=STREAMS)
def test_whole_streams_are_kept(endpoint: Endpoint, body: bytes, is_whole: bool) -> None:
    assert is_whole_stream(endpoint, body) is is_whole


@pytest.mark.parametrize("name", [name for name, (_, _, is_whole) in STREAMS.items() if is_whole])
def test_no_beginning_of_a_stream_is_whole(name: str) -> None:
    """Wherever it was cut; what is left away of the last blank line is no loss."""
    endpoint, body, _ = STREAMS[name]
    least = len(body.rstrip(b"\r\n"))

    assert not any(is_whole_stream(endpoint, body[:cut]) for cut in range(least))


@given(st.lists(st.sampled_from([piece(), DONE, b": hi\r\n\r\n", b"data: x\r\rdata: y\n\n"]), max_size=6), st.binary())
def test_a_stream_is_replayed_byte_for_byte(events: list[bytes], rest: bytes) -> None:
    body = b"".join(events) + rest

    assert b"".join(events_of(body)) == body


RECORD = Record(True, [("content-type", "text/event-stream")], b"data: x\n\n", 7, 3, 1.5)


@given(
    st.builds(
        Record,
        st.booleans(),
        st.lists(st.tuples(st.text(), st.text()), max_size=3),
        st.binary(),
        st.integers(0, 2**40),
        st.integers(0, 2**40),
        st.floats(0, 1e12),
    )
)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert read_record(write_record(record)) == record


@given(st.binary(max_size=60))
def test_what_is_no_record_is_none(data: bytes) -> None:
    record = read_record(data)

    assert record is None or read_record(write_record(record)) == record


@pytest.mark.parametrize("cut", range(len(write_record(RECORD))))
def test_half_a_record_is_none(cut: int) -> None:
    assert read_record(write_record(RECORD)[:cut]) is None


def test_a_record_of_another_form_is_none() -> None:
    other = write_record(Record(True, [], b"", 0, 0, 0.0, form=2))

    assert read_record(other) is None


def test_headers_of_one_sending_are_not_kept() -> None:
    sent = [
        *[("Content-Type", "application/json"), ("x-request-id", "req_1"), ("Date", "now"), ("openai-version", "1")],
        *[("x-ratelimit-remaining-tokens", "5"), ("x-gateway-upstream", "up"), ("openai-processing-ms", "9")],
    ]

    assert kept_headers(sent) == [("Content-Type", "application/json"), ("openai-version", "1")]


class Name(str):
    """A text of a type of its own, as HTTP libraries use for names."""

    __slots__ = ()


def test_headers_are_kept_whatever_kind_of_text_they_are() -> None:
    headers = kept_headers([(Name("content-type"), Name("application/json"))])

    assert read_record(write_record(Record(False, headers, b"", 0, 0, 0.0)))
