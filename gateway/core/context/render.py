"""Messages as bytes again: briefs and recalled text between the client's own, and folded turns as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.core.context.brief import BRIEF_ROLE
from gateway.core.context.extractive import Turn
from gateway.core.wire.message import encode_message, text_of


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


class Insert(NamedTuple):
    """A text between the forwarded messages.

    Attributes:
        before: the index, among them, of the message that it stands before.
        text: None where messages were left out and nothing stands for them.
    """

    before: int
    text: str | None


def place_texts(messages: Sequence[bytes], inserts: Sequence[Insert]) -> list[bytes]:
    """The messages with each text as a message of its own (`roles: open`).

    Args:
        messages: what is forwarded.
        inserts: in order.
    """
    placed: list[bytes] = []
    at = 0
    for before, text in inserts:
        placed += messages[at:before]
        at = before
        if text is not None:
            placed.append(encode_message({"role": BRIEF_ROLE, "content": text}))
    return [*placed, *messages[at:]]


def join_texts(messages: Sequence[bytes], inserts: Sequence[Insert], text_kind: str = "text") -> list[bytes]:
    """The messages with each text joined to its neighbours (`roles: strict`), so that no two user messages come in a
    row where the client's own did not.

    User messages around the place of a text become one message with it; each text stays whole and contiguous, in
    order. Where nothing stands for what was left out, they are joined all the same.

    Args:
        messages: what is forwarded.
        inserts: in order.
        text_kind: the type of a text part.
    """
    texts: dict[int, list[str | None]] = {}
    for before, text in inserts:
        texts.setdefault(before, []).append(text)
    joined: list[bytes] = []
    run: list[bytes | str | None] = []
    for at in range(len(messages) + 1):
        run += texts.get(at, ())
        if at < len(messages) and _role(messages[at]) == "user":
            run.append(messages[at])
            continue
        joined += _merged(run, text_kind)
        run = []
        joined += messages[at : at + 1]
    return joined


def _merged(run: Sequence[bytes | str | None], text_kind: str) -> list[bytes]:
    """User messages and texts in a row, as one message if there is a text or a gap among them."""
    raws = [item for item in run if isinstance(item, bytes)]
    if len(raws) == len(run) or (len(raws) < 2 and not any(isinstance(item, str) for item in run)):
        return raws
    neighbours = [msgspec.json.decode(raw) for raw in raws]
    left = iter(neighbours)
    contents = [next(left).get("content") if isinstance(item, bytes) else item for item in run if item is not None]
    content = _joined(contents, text_kind)
    return [encode_message({**(neighbours[-1] if neighbours else {"role": BRIEF_ROLE}), "content": content})]


def _joined(contents: Sequence[Any], text_kind: str) -> str | list[Any]:
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(contents)
    parts: list[Any] = []
    for content in contents:
        parts += [{"type": text_kind, "text": content}] if isinstance(content, str) else content or []
    return parts


def _role(raw: bytes) -> str:
    return str(msgspec.json.decode(raw).get("role"))


def array_of(messages: Sequence[bytes]) -> bytes:
    """A JSON array of messages that are JSON already."""
    return b"[" + b",".join(messages) + b"]"
