"""A streamed answer, watched as it passes: what it used, what it said, whether it really ended.

The observer stands beside the bytes. Only where the gateway itself asked for usage does it change them: the usage
event and the `"usage":null` fields that the question brings are cut out, so that the client sees the bytes it would
have seen without the gateway. Then at most one incomplete event is held back; otherwise each chunk passes at once.

Invariants, each with a test of its own:
  1. Not splicing: bytes out are bytes in, chunk by chunk.
  2. Splicing: joined output is the same at every way of splitting the input.
  3. A stream without an end mark is never `is_complete`.
"""

from __future__ import annotations

import enum

import msgspec

from gateway.core.wire.body import AmbiguousObject, cut_field, object_spans, splice
from gateway.core.wire.sse import EventSplitter, parse_event
from gateway.core.wire.usage import Usage, WireUsage

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""An incomplete event larger than this is passed on unseen, so that memory stays bounded."""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Groq(msgspec.Struct):
    usage: WireUsage | None = None


class _Response(msgspec.Struct):
    usage: WireUsage | None = None


class _Chunk(msgspec.Struct):
    """One event of a chat, legacy or Responses stream; only the fields that are read."""

    choices: list[_Choice] | None = None
    usage: WireUsage | msgspec.UnsetType | None = msgspec.UNSET
    x_groq: _Groq | None = None
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    type: str = ""
    delta: str | msgspec.Raw | None = None
    response: _Response | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_RESPONSES_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_RESPONSES_TEXT = (".delta",)


class _Cut(enum.Enum):
    """What to take out of an event when the gateway asked for usage and the client did not."""

    NOTHING = enum.auto()
    FIELD = enum.auto()
    EVENT = enum.auto()


class StreamObserver:
    """Reads a stream of server-sent events as its bytes are forwarded.

    Args:
        cuts_usage: take out what only the gateway asked for.
    """

    __slots__ = ("_cuts_usage", "_pieces", "_splitter", "has_error", "is_complete", "usage")

    def __init__(self, *, cuts_usage: bool) -> None:
        self._cuts_usage = cuts_usage
        self._splitter = EventSplitter()
        self._pieces: list[str] = []
        self.usage: Usage | None = None
        self.is_complete = False
        self.has_error = False

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to forward now, for these bytes received."""
        events = self._splitter.feed(chunk)
        if not self._cuts_usage:
            for raw in events:
                self._observe(raw)
            if len(self._splitter.rest) > MAX_EVENT_BYTES:
                self._splitter.take_rest()
            return chunk
        forwarded = [self._observe(raw) for raw in events]
        if len(self._splitter.rest) > MAX_EVENT_BYTES:
            forwarded.append(self._splitter.take_rest())
        return b"".join(forwarded)

    def finish(self) -> bytes:
        """The bytes still held when the upstream's stream has ended."""
        is_whole = self._splitter.rest_is_event
        rest = self._splitter.take_rest()
        seen = self._observe(rest) if rest else b""
        if not self._cuts_usage:
            return b""
        return seen if is_whole else rest

    def visible_text(self) -> str:
        """Everything generated that the client could see: text, refusals, reasoning, tool calls."""
        return "".join(self._pieces)

    def _observe(self, raw: bytes) -> bytes:
        event = parse_event(raw)
        if event is None:
            return raw
        data = event.data
        if data.strip() == b"[DONE]":
            self.is_complete = True
            return raw
        try:
            chunk = _decode_chunk(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return raw
        self._learn(chunk, event.name)
        if not self._cuts_usage:
            return raw
        return _without_usage(raw, data, _decide_cut(chunk))

    def _learn(self, chunk: _Chunk, name: str) -> None:
        for choice in chunk.choices or ():
            self._read_choice(choice)
        wire = chunk.usage or (chunk.x_groq and chunk.x_groq.usage) or (chunk.response and chunk.response.usage)
        if wire:
            self.usage = wire.normalised() or self.usage
        if chunk.error is not msgspec.UNSET and bytes(chunk.error) != b"null":
            self.has_error = True
        kind = chunk.type or name
        if kind in _RESPONSES_ENDS:
            self.is_complete = True
            self.has_error = self.has_error or kind in ("error", "response.failed")
        elif kind.endswith(_RESPONSES_TEXT) and isinstance(chunk.delta, str):
            self._pieces.append(chunk.delta)

    def _read_choice(self, choice: _Choice) -> None:
        if choice.finish_reason:
            self.is_complete = True
        if choice.text:
            self._pieces.append(choice.text)
        delta = choice.delta
        if delta is None:
            return
        for text in (delta.content, delta.refusal, delta.reasoning_content or delta.reasoning):
            if text:
                self._pieces.append(text)
        functions = [call.function for call in delta.tool_calls or ()] + [delta.function_call]
        for function in functions:
            if function:
                self._pieces += (function.name or "", function.arguments or "")


def _decide_cut(chunk: _Chunk) -> _Cut:
    if chunk.usage is msgspec.UNSET:
        return _Cut.NOTHING
    if chunk.usage is None:
        return _Cut.FIELD
    return _Cut.EVENT if chunk.choices is not None and not chunk.choices else _Cut.NOTHING


def _without_usage(raw: bytes, data: bytes, cut: _Cut) -> bytes:
    if cut is _Cut.NOTHING:
        return raw
    if cut is _Cut.EVENT:
        return raw[: len(raw) - len(raw.lstrip(b"\r\n"))]
    at = raw.find(data)
    if at < 0:
        return raw  # spread over several data lines: no vendor does this, and a null harms nobody
    try:
        return raw[:at] + splice(data, [cut_field(data, object_spans(data), "usage")]) + raw[at + len(data) :]
    except AmbiguousObject:
        return raw
