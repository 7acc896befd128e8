"""One chat message, parsed and checked as far as the gateway's promises need.

Checked: it is an object without duplicate keys, of bounded nesting, its role is a known one, and the fields that
counting, folding and tool pairing read have the types that OpenAI documents. Everything else is left to the upstream.

Invariants, each with a test of its own:
  1. Whatever the bytes are: a message, or a `Refusal` that names its place.
  2. A message that was parsed can be weighed, digested and encoded again without an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from gateway.core.errors import Refusal, invalid_request
from gateway.core.wire.body import AmbiguousObject, json_fault, object_spans

MAX_NESTING = 100
"""Levels of objects and arrays in one message; parsers and encoders recurse, each with a limit of its own."""
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str = ""


class _ToolCall(msgspec.Struct):
    id: str = ""
    type: str = "function"
    function: _Function | None = None


class _Shape(msgspec.Struct):
    """The types that are promised; decoded only to be checked."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[_ToolCall] | None = None


def parse_message(raw: bytes, index: int) -> dict[str, Any]:
    """The message in these bytes.

    Args:
        raw: one element of `messages`.
        index: its place, for error messages.

    Raises:
        Refusal: 400 naming `messages[index]` and the field at fault.
    """
    at = f"messages[{index}]"
    try:
        object_spans(raw)
        message: dict[str, Any] = msgspec.json.decode(raw)
        shape = msgspec.convert(message, _Shape)
    except AmbiguousObject as ambiguous:
        raise invalid_request(
            f"{at} holds a duplicate or escaped key near {str(ambiguous)!r}; send every key once.",
            param=at,
            code="duplicate_key",
        ) from None
    except msgspec.ValidationError as error:
        raise _wrong_shape(at, str(error)) from None
    except RecursionError:
        raise _too_deep(at) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        fault = f"{at} could not be parsed as JSON: {json_fault(error, raw)}."
        raise invalid_request(fault, param=at, code="invalid_json") from None
    if raw.count(b"{") + raw.count(b"[") > MAX_NESTING and is_deeper(message, MAX_NESTING):
        raise _too_deep(at)
    if shape.role not in ROLES:
        expected = ", ".join(f"'{role}'" for role in sorted(ROLES))
        raise invalid_request(
            f"Invalid value: {shape.role[:64]!r}. Supported values are: {expected}.",
            param=f"{at}.role",
            code="invalid_value",
        )
    return message


def reread_message(raw: bytes | msgspec.Raw) -> dict[str, Any]:
    """A message that `parse_message` has parsed before: nothing is checked again."""
    message: dict[str, Any] = msgspec.json.decode(raw)
    return message


def _too_deep(at: str) -> Refusal:
    return invalid_request(f"{at} is nested more than {MAX_NESTING} levels deep.", param=at, code="invalid_json")


def is_deeper(value: Any, levels: int) -> bool:
    """Whether objects and arrays are nested more levels than that."""
    layer: list[Any] = [value]
    for _ in range(levels):
        layer = [inner for outer in layer for inner in _inside(outer)]
    return any(isinstance(inner, dict | list) for inner in layer)


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _wrong_shape(at: str, error: str) -> Refusal:
    problem, _, path = error.partition(" - at `$")
    where = at + path.rstrip("`")
    if "missing required field `role`" in problem:
        return invalid_request(
            f"Missing required parameter: '{at}.role'.", param=f"{at}.role", code="missing_required_parameter"
        )
    return invalid_request(f"Invalid type for '{where}': {problem}.", param=where, code="invalid_type")


def encode_message(message: Mapping[str, Any]) -> bytes:
    """A message as JSON."""
    return msgspec.json.encode(message)


def text_of(message: Mapping[str, Any]) -> str:
    """The message's text: its content, or the text parts of it joined by line ends."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = [part.get("text") or part.get("refusal") for part in content or ()]
    return "\n".join(part for part in parts if isinstance(part, str))
