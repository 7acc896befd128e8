"""Which answers are worth keeping, and how one is kept.

Only whole ones that ended by themselves: a stream with its end mark, every choice finished by `stop` or by a call of
the client's tools. What was cut at a limit, filtered, or failed is asked again. An answer is kept as the bytes that the
client saw, with the few headers that belong to its content.

Invariants, each with a test of its own:
  1. What `read_record` makes of what `write_record` wrote is the same record; of anything else, None.
  2. No beginning of a stream is whole.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.core.wire.headers import Headers
from gateway.core.wire.request import Endpoint
from gateway.core.wire.sse import EventSplitter, parse_event

_FORM = 1
_FINISHED = frozenset({"stop", "tool_calls", "function_call"})
_KEPT_HEADERS = frozenset({"content-type", "openai-version"})
"""All others speak of one sending: ids, times, what is left of limits."""
_READABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Record(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it is kept.

    Attributes:
        is_stream: it came as server-sent events.
        headers: those that are kept of it.
        body: the bytes that the client saw.
        prompt_tokens: what the upstream billed for it, 0 where that is not known.
        completion_tokens: likewise.
        stored_at_s: since 1970.
    """

    is_stream: bool
    headers: list[tuple[str, str]]
    body: bytes
    prompt_tokens: int
    completion_tokens: int
    stored_at_s: float
    form: int = _FORM


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


def write_record(record: Record) -> bytes:
    """The bytes to store."""
    return _encode(record)


def read_record(data: bytes) -> Record | None:
    """The record in stored bytes; None where they are damaged, foreign or of another version."""
    try:
        record = _decode(data)
    except _READABLE:
        return None
    return record if record.form == _FORM else None


def kept_headers(headers: Headers) -> Headers:
    """Those of an answer's headers that are true of it each time, as plain texts, which names need not be."""
    return [(str(name), str(value)) for name, value in headers if name.lower() in _KEPT_HEADERS]


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None


class _Said(msgspec.Struct):
    """What an answer, or an event of one, says about its own end; embeddings are what is in `data`."""

    choices: list[_Choice] | None = None
    error: Any = None
    type: str | None = None
    status: str | None = None
    response: _Response | None = None
    data: list[msgspec.Raw] | None = None


_read = msgspec.json.Decoder(_Said).decode


def is_whole_answer(endpoint: Endpoint, body: bytes) -> bool:
    """Whether a JSON answer is one that ended by itself."""
    try:
        said = _read(body)
    except _READABLE:
        return False
    if said.error:
        return False
    if endpoint is Endpoint.EMBEDDINGS:
        return bool(said.data)
    if endpoint is Endpoint.RESPONSES:
        return said.status == "completed"
    return bool(said.choices) and all(choice.finish_reason in _FINISHED for choice in said.choices or ())


def is_whole_stream(endpoint: Endpoint, body: bytes) -> bool:
    """Whether a stream's bytes are one that ended by itself, to its end mark."""
    splitter = EventSplitter()
    events = splitter.feed(body)
    if splitter.rest and not splitter.rest_is_event:
        return False
    if rest := splitter.take_rest():
        events.append(rest)
    end = _StreamEnd()
    try:
        for raw in events:
            event = parse_event(raw)
            if event is not None and not end.take(event.name, event.data):
                return False
    except _READABLE:
        return False
    return end.is_whole(endpoint)


class _StreamEnd:
    """What the events of a stream have said so far about its end."""

    def __init__(self) -> None:
        self._started: set[int] = set()
        self._reasons: dict[int, str] = {}
        self._is_done = False
        self._is_completed = False

    def take(self, name: str, data: bytes) -> bool:
        """Read an event; False if the stream is none to keep."""
        if data.strip() == b"[DONE]":
            self._is_done = True
            return True
        said = _read(data)
        kind = said.type or name
        if said.error or self._is_done or kind in ("error", "response.failed", "response.incomplete"):
            return False
        for choice in said.choices or ():
            self._started.add(choice.index)
            if choice.finish_reason:
                self._reasons[choice.index] = choice.finish_reason
        if kind == "response.completed":
            self._is_completed = said.response is not None and said.response.status == "completed"
        return True

    def is_whole(self, endpoint: Endpoint) -> bool:
        """Whether that was the end."""
        if endpoint is Endpoint.RESPONSES:
            return self._is_completed
        is_finished = bool(self._started) and self._started == self._reasons.keys()
        return self._is_done and is_finished and _FINISHED.issuperset(self._reasons.values())


def events_of(body: bytes) -> list[bytes]:
    """A stream's bytes, event by event; joined they are the same bytes."""
    splitter = EventSplitter()
    events = splitter.feed(body)
    rest = splitter.take_rest()
    return [*events, rest] if rest else events
