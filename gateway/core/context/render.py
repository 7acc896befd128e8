"""Messages as bytes again: the brief between the client's own, folded turns as text, tool results shortened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.core.context.brief import BRIEF_ROLE
from gateway.core.context.extractive import Turn
from gateway.core.context.trim import trim_text
from gateway.core.wire.message import text_of

_encode = msgspec.json.encode


def turn_of(number: int, message: Mapping[str, Any]) -> Turn:
    """A message as text to be folded: its words, its calls, and the kinds of its parts that are not text."""
    pieces = [text_of(message)]
    content = message.get("content")
    if isinstance(content, list):
        kinds = [str(part.get("type", "part")) for part in content if not isinstance(part.get("text"), str)]
        pieces += [f"[{kind}]" for kind in kinds if kind != "refusal"]
    for call in message.get("tool_calls") or ():
        function = call.get("function") or call.get("custom") or {}
        pieces.append(f"called {function.get('name', '')}({function.get('arguments') or function.get('input') or ''})")
    return Turn(number, message["role"], "\n".join(piece for piece in pieces if piece))


def trimmed_message(
    message: Mapping[str, Any], fact_tokens: int, max_tokens: int, count_tokens: Callable[[str], int]
) -> dict[str, Any]:
    """A tool result shortened to about `max_tokens`, head and tail kept; parts become one text.

    Args:
        message: the tool result.
        fact_tokens: what it costs now.
        max_tokens: what it may cost.
        count_tokens: tokens of a text.
    """
    text = text_of(message)
    frame_tokens = max(0, fact_tokens - count_tokens(text))
    return {**message, "content": trim_text(text, max(0, max_tokens - frame_tokens), count_tokens)}


def place_brief(messages: Sequence[bytes], before: int, text: str) -> list[bytes]:
    """The messages with the brief as a message of its own (`roles: open`)."""
    brief = _encode({"role": BRIEF_ROLE, "content": text})
    return [*messages[:before], brief, *messages[before:]]


def join_brief(messages: Sequence[bytes], before: int, text: str) -> list[bytes]:
    """The messages with the brief joined to its neighbours (`roles: strict`): no two user messages stand in a row.

    User messages right before and right after the brief's place become one message with it; each text stays whole
    and contiguous, in order.
    """
    start = end = before
    while start > 0 and _role(messages[start - 1]) == "user":
        start -= 1
    while end < len(messages) and _role(messages[end]) == "user":
        end += 1
    neighbours = [msgspec.json.decode(raw) for raw in messages[start:end]]
    contents = [message.get("content") for message in neighbours]
    contents.insert(before - start, text)
    merged = {**(neighbours[-1] if neighbours else {"role": "user"}), "content": _joined(contents)}
    return [*messages[:start], _encode(merged), *messages[end:]]


def _joined(contents: Sequence[Any]) -> str | list[Any]:
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(contents)
    parts: list[Any] = []
    for content in contents:
        parts += [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    return parts


def _role(raw: bytes) -> str:
    return str(msgspec.json.decode(raw).get("role"))


def array_of(messages: Sequence[bytes]) -> bytes:
    """A JSON array of messages that are JSON already."""
    return b"[" + b",".join(messages) + b"]"
