"""Messages as bytes again: the brief between the client's own, folded turns as text, tool results shortened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from gateway.core.context.brief import BRIEF_ROLE
from gateway.core.context.extractive import Turn
from gateway.core.context.facts import MessageFacts
from gateway.core.context.plan import MIN_TRIMMED_TOKENS, plan_trims
from gateway.core.context.trim import trim_text
from gateway.core.wire.message import encode_message, parse_message, text_of


def turn_of(number: int, message: Mapping[str, Any]) -> Turn:
    """A message as text to be folded: its words, its calls, and the kinds of its parts that are not text."""
    calls = [call.get("function") or call.get("custom") for call in message.get("tool_calls") or ()]
    called = [_called(call) for call in (*calls, message.get("function_call")) if isinstance(call, Mapping)]
    pieces = [_shown(message), *called]
    return Turn(number, message["role"], "\n".join(piece for piece in pieces if piece))


def _called(call: Mapping[str, Any]) -> str:
    return f"called {call.get('name', '')}({call.get('arguments') or call.get('input') or ''})"


def _shown(message: Mapping[str, Any]) -> str:
    """The message's text, with a mark for each part that is none."""
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    marks = [f"[{part.get('type', 'part')}]" for part in parts if not text_of({"content": [part]})]
    return "\n".join(piece for piece in (text_of(message), *marks) if piece)


CountMessage = Callable[[int, Mapping[str, Any]], int]
"""Tokens of a message, in the place of the one with this index."""


def trim_results(
    raws: Sequence[msgspec.Raw | bytes],
    facts: Sequence[MessageFacts],
    kept: Sequence[int],
    excess_tokens: int,
    count_message: CountMessage,
    count_tokens: Callable[[str], int],
) -> tuple[dict[int, bytes], int]:
    """Tool results shortened until they have lost enough together, or can lose no more.

    Args:
        raws: all messages of the chat.
        facts: theirs.
        kept: indices of those that are forwarded.
        excess_tokens: what is to be lost.
        count_message: tokens of a message, in the place of the one with this index.
        count_tokens: tokens of a text.

    Returns:
        The shortened ones by index, and what they have lost.
    """
    goal = excess_tokens
    while True:
        trimmed: dict[int, bytes] = {}
        lost = 0
        levels = plan_trims(facts, kept, goal)
        for index, level in levels.items():
            message = parse_message(bytes(raws[index]), index)
            shorter = _trimmed(message, level, partial(count_message, index), count_tokens)
            trimmed[index] = encode_message(shorter)
            lost += facts[index].tokens - count_message(index, shorter)
        if lost >= excess_tokens or min(levels.values(), default=0) <= MIN_TRIMMED_TOKENS:
            return trimmed, lost
        goal += excess_tokens - lost  # some could not lose what their size promised


def _trimmed(
    message: Mapping[str, Any],
    max_tokens: int,
    count_message: Callable[[Mapping[str, Any]], int],
    count_tokens: Callable[[str], int],
) -> dict[str, Any]:
    """A tool result of at most `max_tokens`, head and tail kept; parts become one text."""
    frame_tokens = count_message({**message, "content": ""})
    return {**message, "content": trim_text(_shown(message), max_tokens - frame_tokens, count_tokens)}


def place_brief(messages: Sequence[bytes], before: int, text: str) -> list[bytes]:
    """The messages with the brief as a message of its own (`roles: open`)."""
    brief = encode_message({"role": BRIEF_ROLE, "content": text})
    return [*messages[:before], brief, *messages[before:]]


def join_brief(messages: Sequence[bytes], before: int, text: str | None) -> list[bytes]:
    """The messages with the brief joined to its neighbours (`roles: strict`), so that folding puts no two user
    messages in a row.

    The user messages right before the brief's place and the one right after it become one message with the brief;
    each text stays whole and contiguous, in order. Without a brief they are joined all the same.
    """
    start = before
    while start > 0 and _role(messages[start - 1]) == "user":
        start -= 1
    end = before + 1 if before < len(messages) and _role(messages[before]) == "user" else before
    if text is None and end - start < 2:
        return list(messages)
    neighbours = [msgspec.json.decode(raw) for raw in messages[start:end]]
    contents = [message.get("content") for message in neighbours]
    if text is not None:
        contents.insert(before - start, text)
    merged = {**(neighbours[-1] if neighbours else {"role": BRIEF_ROLE}), "content": _joined(contents)}
    return [*messages[:start], encode_message(merged), *messages[end:]]


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
