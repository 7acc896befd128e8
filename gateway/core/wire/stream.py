"""A streamed answer, watched as it passes: what it used, what it said, whether it really ended.

The observer stands beside the bytes. Only where the gateway itself asked for usage does it change them: the usage
event and the `"usage":null` fields that the question brings are cut out, so that the client sees the bytes it would
have seen without the gateway. Then at most one incomplete event is held back; otherwise each chunk passes at once.

Invariants, each with a test of its own:
  1. Not splicing: bytes out are bytes in, chunk by chunk.
  2. Splicing: joined output is the same at every way of splitting the input.
  3. A stream without an end mark is never `is_complete`.
  4. What cannot be read as an event of a known kind passes unchanged, but for half a JSON object, which no client can
     read either: the stream ends before it.
"""

from __future__ import annotations

import enum
import json
from typing import Any

import msgspec

from gateway.core.wire.body import AmbiguousObject, Edit, cut_field, object_spans
from gateway.core.wire.generated import Generated
from gateway.core.wire.pieces import Choice, gather_choice, gather_delta
from gateway.core.wire.sse import EventSplitter, parse_event, raw_position
from gateway.core.wire.usage import Usage, read_usage, read_usage_below

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""An incomplete event larger than this is passed on unseen, so that memory stays bounded."""


class _Response(msgspec.Struct):
    usage: Any = None


class _Item(msgspec.Struct):
    name: Any = None


class _Chunk(msgspec.Struct, gc=False):
    """One event of a chat, legacy or Responses stream; only the fields that are read, of whatever type they are."""

    choices: list[Choice] | None = None
    usage: Any = msgspec.UNSET
    x_groq: Any = None
    error: Any = None
    type: Any = None
    delta: Any = None
    item: _Item | None = None
    response: _Response | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_RESPONSES_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_SHORT_BYTES = 64
"""No event longer than this is looked at for the end mark."""
_ENVELOPE = frozenset(
    {"id", "object", "created", "model", "service_tier", "system_fingerprint", "obfuscation", "choices", "usage"}
)
"""Fields that say nothing by themselves: an event of these alone exists only to carry usage."""


class _Cut(enum.Enum):
    """What to take out of an event when the gateway asked for usage and the client did not."""

    NOTHING = enum.auto()
    FIELD = enum.auto()
    EVENT = enum.auto()


class StreamObserver:
    """Reads a stream of server-sent events as its bytes are forwarded.

    Args:
        cuts_usage: take out what only the gateway asked for.

    Attributes:
        generated: all that the client could see: text, refusals, reasoning, tool calls.
        usage: as the upstream said it last.
        has_end_mark: the stream said that this was all.
        has_error: the stream said that it failed.
        is_malformed: an event began a JSON object that is none; nothing is forwarded from there on.
    """

    __slots__ = (
        "_cuts_usage",
        "_finished",
        "_is_oversized",
        "_splitter",
        "_started",
        "generated",
        "has_end_mark",
        "has_error",
        "is_malformed",
        "usage",
    )

    def __init__(self, *, cuts_usage: bool) -> None:
        self._cuts_usage = cuts_usage
        self._splitter = EventSplitter()
        self._is_oversized = False
        self.generated = Generated()
        self._started: set[int] = set()
        self._finished: set[int] = set()
        self.has_end_mark = False
        self.usage: Usage | None = None
        self.has_error = False
        self.is_malformed = False

    @property
    def is_complete(self) -> bool:
        """Whether the answer's end was seen: the stream's end mark, or the finish of every choice that began."""
        return self.has_end_mark or (bool(self._finished) and self._finished >= self._started)

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to forward now, for these bytes received."""
        held = len(self._splitter.rest)
        raws = self._splitter.feed(chunk)
        forwarded: list[bytes] = []
        for place, raw in enumerate(raws):
            seen = self._observe(raw)
            if self.is_malformed:
                before = sum(map(len, raws[:place])) - held
                return b"".join(forwarded) if self._cuts_usage else chunk[: max(0, before)]
            forwarded.append(seen)
        if len(self._splitter.rest) > MAX_EVENT_BYTES:
            self._is_oversized = True
            forwarded.append(self._splitter.take_rest())
        return b"".join(forwarded) if self._cuts_usage else chunk

    def finish(self) -> bytes:
        """The bytes still held when the upstream's stream has ended.

        A last event that lacks only its blank line is read like a whole one, but nothing is cut out of it.
        """
        is_whole = self._splitter.rest_is_event
        rest = self._splitter.take_rest()
        seen = self._observe(rest) if rest else b""
        if not self._cuts_usage:
            return b""
        return seen if is_whole else rest

    def _observe(self, raw: bytes) -> bytes:
        if self._is_oversized:
            self._is_oversized = False  # these bytes end the event whose head was passed on
            return raw
        event = parse_event(raw)
        if event is None:
            return raw
        data = event.data
        if len(data) < _SHORT_BYTES and data.strip() == b"[DONE]":
            self.has_end_mark = True
            return raw
        try:
            chunk = _read_chunk(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.is_malformed = self.is_malformed or _is_malformed(raw)
            return raw
        self._learn(chunk, event.name)
        return _without_usage(raw, data, chunk) if self._cuts_usage and chunk.usage is not msgspec.UNSET else raw

    def _learn(self, chunk: _Chunk, name: str) -> None:
        if chunk.choices:
            for choice in chunk.choices:
                self._read_choice(choice)
        if chunk.usage or chunk.x_groq or chunk.response:
            below_response = read_usage(chunk.response.usage) if chunk.response else None
            self.usage = read_usage(chunk.usage) or read_usage_below(chunk.x_groq) or below_response or self.usage
        kind = chunk.type if isinstance(chunk.type, str) else name
        if chunk.error:
            self.has_error = True
        if kind != "message":
            self._read_typed(chunk, kind)

    def _read_typed(self, chunk: _Chunk, kind: str) -> None:
        """What the Responses endpoint says by the type of an event."""
        delta = chunk.delta
        if delta.__class__ is str and kind.endswith(".delta"):
            if delta and not kind.endswith("audio.delta"):
                self.generated.add(kind, delta)  # items of one kind come one after another
        elif kind in _RESPONSES_ENDS:
            self.has_end_mark = True
            self.has_error = self.has_error or kind in ("error", "response.failed")
        elif kind == "response.output_item.added" and chunk.item and isinstance(chunk.item.name, str):
            calls = self.generated.calls
            calls[0] += 1
            self.generated.add((kind, calls[0]), chunk.item.name)

    def _read_choice(self, choice: Choice) -> None:
        index = choice.index
        if index.__class__ is not int:
            index = 0
        self._started.add(index)
        if choice.finish_reason:
            self._finished.add(index)
        if choice.usage:
            self.usage = read_usage(choice.usage) or self.usage
        if choice.delta is not None:
            gather_delta(self.generated, index, choice.delta)
        elif choice.text or choice.message:
            gather_choice(self.generated, choice)


def _is_malformed(raw: bytes) -> bool:
    """Whether an event begins a JSON object and does not end it, by a reader that forgives as much as clients do."""
    event = parse_event(raw)
    if event is None or not event.data.lstrip().startswith(b"{"):
        return False
    try:
        json.loads(event.data.decode("utf-8", "replace"), strict=False)
    except ValueError:
        return True
    except RecursionError:
        return False
    return False


def _read_chunk(data: bytes) -> _Chunk:
    """The event's data; where choices or other parts are of no known shape, what is beside them."""
    try:
        return _decode_chunk(data)
    except msgspec.ValidationError:
        values = _decode_object(data)
        return _Chunk(**{key: values[key] for key in ("usage", "x_groq", "error", "type") if key in values})


def _decide_cut(data: bytes, chunk: _Chunk) -> _Cut:
    """Which part of an event only the gateway asked for.

    Raises:
        AmbiguousObject: keys stand twice.
    """
    if chunk.usage is msgspec.UNSET:
        return _Cut.NOTHING
    if chunk.usage is None:
        return _Cut.FIELD
    if chunk.choices != [] or not isinstance(chunk.usage, dict):
        return _Cut.NOTHING
    has_content = any(
        key not in _ENVELOPE and data[span.start : span.end] != b"null" for key, span in object_spans(data).items()
    )
    return _Cut.NOTHING if has_content else _Cut.EVENT


def _without_usage(raw: bytes, data: bytes, chunk: _Chunk) -> bytes:
    try:
        cut = _decide_cut(data, chunk)
        if cut is _Cut.NOTHING:
            return raw
        if cut is _Cut.EVENT:
            return raw[: len(raw) - len(raw.lstrip(b"\r\n"))]
        field = _plain_null(data) or cut_field(data, object_spans(data), "usage")
    except AmbiguousObject:
        return raw
    if raw.startswith(b"data: ") and len(raw) == len(b"data: \n\n") + len(data):
        start, end = field.start + len(b"data: "), field.end + len(b"data: ")
    else:
        start, end = raw_position(raw, field.start), raw_position(raw, field.end)
    return raw[:start] + raw[end:]


def _plain_null(data: bytes) -> Edit | None:
    """`cut_field` without a second parse, for the one way in which nearly every vendor writes the field.

    A lone `"usage"` is the key itself, not text: within a text its quotes would be escaped.
    """
    at = data.find(b'"usage":null')
    if at < 0 or data.find(b'"usage"', at + 1) > 0 or b"\\u" in data:
        return None
    end = at + len(b'"usage":null')
    if data.startswith(b',"', end):
        return Edit(at, end + 1, b"")
    if data.startswith(b"}", end) and data.startswith(b",", at - 1) and not data[at - 2 : at - 1].isspace():
        return Edit(at - 1, end, b"")
    return None
