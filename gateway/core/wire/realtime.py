"""What the events of a realtime session say about its use.

`response.done` of the realtime endpoint holds the usage of one answer, and `response.completed`, `.incomplete` and
`.failed` of the Responses endpoint over a websocket do the same. Whoever else bills something (a transcription has a
model and prices of its own) is not added up.
Source: OpenAI's reference of realtime server events, and of Responses over websockets (2026-01).

Invariants, each with a test of its own:
  1. Whatever a message holds, reading it is no error.
  2. The sum is that of all answers' usage, and None without any.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.core.wire.usage import Usage, read_usage_below

MAX_EVENT_BYTES = 1_048_576
"""A longer message is not looked at: the usage of an answer comes with its texts, but without its audio."""
_ENDS = frozenset({"response.done", "response.completed", "response.incomplete", "response.failed"})
_HINT = b'"usage"'


class _Event(msgspec.Struct):
    type: str = ""
    response: Any = None


_decode = msgspec.json.Decoder(_Event).decode


def usage_of_event(message: bytes) -> Usage | None:
    """The usage that an event ends an answer with, or None for any other message."""
    if _HINT not in message:
        return None  # most are pieces of audio or text
    try:
        event = _decode(message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return read_usage_below(event.response) if event.type in _ENDS else None


def added(one: Usage | None, other: Usage) -> Usage:
    """Both together."""
    if one is None:
        return other
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cached_tokens + other.cached_tokens,
    )
