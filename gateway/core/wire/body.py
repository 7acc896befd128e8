"""A JSON object's bytes, cut at its top level: where each value stands, and how to change one and no other byte.

What is checked must be what is forwarded. Parsers disagree about duplicate keys, so a body that holds one is
refused; the same walk that proves their absence yields the positions that `splice` needs.

Invariants, each with a test of its own:
  1. The span of a key holds exactly the bytes of its value.
  2. A duplicate or escaped key never yields spans.
  3. `splice` changes no byte outside its edits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import NamedTuple

import msgspec

from gateway.core.errors import Refusal, invalid_request

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_skip_space = re.compile(rb"[ \t\n\r]*").match
_KEY_CHARS_SHOWN = 64
_half_pair = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]..").search
_SPACES = frozenset((b" ", b"\t", b"\n", b"\r"))


class Span(msgspec.Struct, frozen=True, gc=False):
    """A value's place in a body: bytes start <= i < end; `key_start` is its key's opening quote."""

    key_start: int
    start: int
    end: int


class Edit(NamedTuple):
    """Replace bytes start <= i < end by `replacement`; start == end inserts."""

    start: int
    end: int
    replacement: bytes


class AmbiguousObject(ValueError):  # noqa: N818 - the object is what is wrong, and what is named
    """An object with a duplicate or an escaped top-level key, which is the argument."""


def object_spans(body: bytes) -> dict[str, Span]:
    """Where the top-level values of a JSON object stand.

    Args:
        body: JSON text, UTF-8.

    Returns:
        The value's span by key, in the body's order.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: the body is no JSON object.
        AmbiguousObject: a key stands twice, or is written with escapes.
    """
    values = _decode_object(body)
    return _compact_spans(body, values) or _walked_spans(body, values)


def _compact_spans(body: bytes, values: dict[str, msgspec.Raw]) -> dict[str, Span] | None:
    """The spans in a body without white space between its tokens, as clients send it; None for any other.

    Pure arithmetic: a space, or a duplicate or escaped key, makes a body longer than its parts.
    """
    spans: dict[str, Span] = {}
    at = 1
    for key, value in values.items():
        start = at + len(key.encode()) + 3
        end = start + memoryview(value).nbytes
        spans[key] = Span(at, start, end)
        at = end + 1
    return spans if at == len(body) else None


def _walked_spans(body: bytes, values: dict[str, msgspec.Raw]) -> dict[str, Span]:
    spans: dict[str, Span] = {}
    at = _end_of_space(body, 0) + 1
    for key, value in values.items():
        key_start = _end_of_space(body, at)
        quoted = b'"%b"' % key.encode()
        colon = _end_of_space(body, key_start + len(quoted))
        start = _end_of_space(body, colon + 1)
        text = bytes(value)
        end = start + len(text)
        if not (body.startswith(quoted, key_start) and body.startswith(text, start)):
            raise AmbiguousObject(key[:_KEY_CHARS_SHOWN])
        spans[key] = Span(key_start, start, end)
        at = _end_of_space(body, end) + 1
    if values and not body.startswith(b"}", at - 1):
        raise AmbiguousObject(next(reversed(values))[:_KEY_CHARS_SHOWN])
    return spans


def _end_of_space(body: bytes, at: int) -> int:
    if body[at : at + 1] not in _SPACES:
        return at
    found = _skip_space(body, at)
    return found.end() if found else at


def request_spans(body: bytes) -> dict[str, Span]:
    """`object_spans` of a request body; what is wrong with it becomes a 400.

    Raises:
        Refusal: not JSON, not an object, nested too deeply, or ambiguous.
    """
    try:
        return object_spans(body)
    except AmbiguousObject as ambiguous:
        raise invalid_request(
            f"The request body holds a duplicate or escaped top-level key near {str(ambiguous)!r}. Parsers disagree"
            " about such bodies, so it is not forwarded. Send every key once, without escapes.",
            param=str(ambiguous) or None,
            code="duplicate_key",
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(error, body) from None


def not_json(error: Exception, body: bytes) -> Refusal:
    """The 400 for a body that no JSON parser takes."""
    if isinstance(error, RecursionError):
        return invalid_request("The request body is nested too deeply to be parsed.", code="invalid_json")
    if not body.strip():
        return invalid_request("The request body is empty; a JSON object was expected.", code="invalid_json")
    if isinstance(error, msgspec.ValidationError):
        return invalid_request(f"The request body must be a JSON object: {error}.", code="invalid_json")
    message = f"The request body ({len(body)} bytes) could not be parsed as JSON: {json_fault(error, body)}."
    return invalid_request(message, code="invalid_json")


def json_fault(error: Exception, text: bytes) -> str:
    """What a parser found wrong, in words; half a surrogate pair, as cut emoji leave it behind, is named as such."""
    return "it holds half of a surrogate pair (\\ud800 to \\udfff)" if _half_pair(text) else str(error)


def splice(body: bytes, edits: Iterable[Edit]) -> bytes:
    """The body with the edits made; they must not overlap, and insertions at one place keep their order."""
    pieces: list[bytes] = []
    at = 0
    for start, end, replacement in sorted(edits, key=itemgetter(0, 1)):
        pieces += (body[at:start], replacement)
        at = end
    pieces.append(body[at:])
    return b"".join(pieces)


def ask_for_usage(body: bytes, spans: Mapping[str, Span]) -> Edit:
    """The edit that sets `stream_options.include_usage` in a streamed request, and touches no other byte.

    Args:
        body: the client's bytes, a JSON object in which `stream_options` is absent, null or an object without
            duplicate keys.
        spans: `object_spans(body)`.
    """
    found = spans.get("stream_options")
    if found is None:
        return _insert_first(body, 0, spans, b'"stream_options":{"include_usage":true}')
    options = body[found.start : found.end]
    if options == b"null":
        return Edit(found.start, found.end, b'{"include_usage":true}')
    inner = object_spans(options)
    asked = inner.get("include_usage")
    if asked is not None:
        return Edit(found.start + asked.start, found.start + asked.end, b"true")
    return _insert_first(body, found.start, inner, b'"include_usage":true')


def _insert_first(body: bytes, start: int, spans: Mapping[str, Span], field: bytes) -> Edit:
    """Insert a field at the head of the object that starts at or after `start`."""
    first = body.index(b"{", start) + 1
    return Edit(first, first, field + b"," if spans else field)


def cut_field(body: bytes, spans: Mapping[str, Span], key: str) -> Edit:
    """The edit that takes one field out of an object, with the one comma that it brought.

    A last field goes from the end of the value before it; any other up to the next key; a sole one leaves `{}`'s space.
    """
    keys = list(spans)
    at = keys.index(key)
    span = spans[key]
    if at + 1 < len(keys):
        return Edit(span.key_start, spans[keys[at + 1]].key_start, b"")
    if at > 0:
        return Edit(spans[keys[at - 1]].end, span.end, b"")
    return Edit(span.key_start, span.end, b"")
