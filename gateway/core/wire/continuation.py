"""A chat's stream that broke off, and another answer that is to go on where it ended.

What was sent is known as text; the other answer goes on from it if it begins with exactly that text (it is asked the
same again), or says what comes next (it was given the text as the beginning of its own). Only plain text of one choice
can be gone on with: half a tool call, a refusal or thoughts cannot be told apart from another beginning of the same.

Invariants, each with a test of its own:
  1. What the client sees together is the text of the answer that went on, whole.
  2. Where the other answer says anything else, nothing of it is passed on.
  3. No byte of what follows the joint is changed.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gateway.core.wire.sse import parse_event, render_event

MAX_CHARS = 1_048_576
"""A longer answer is not gone on with."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_NOTHING_SAID = frozenset({"role", "content"})


class DivergedError(Exception):
    """The other answer is another one."""


class SentText:
    """What a client has seen of a stream, event by event.

    Attributes:
        text: of the only choice.
        is_plain: nothing else was said.
        is_over: the answer has ended.
        has_error: an event said that it failed.
        is_broken: an event was no JSON.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._chars = 0
        self.is_plain = True
        self.is_over = False
        self.has_error = False
        self.is_broken = False

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._pieces)

    def add(self, raw: bytes) -> None:
        """One whole event."""
        event = parse_event(raw)
        if event is None:
            return
        if event.data.strip() == b"[DONE]":
            self.is_over = True
            return
        told = _told(event.data)
        if told is None:
            self.is_broken = event.data.lstrip().startswith(b"{")
            return
        self.has_error = bool(told.get("error"))
        for choice in told.get("choices") or ():
            said = _said(choice)
            if said is None:
                self.is_plain = False
            elif said:
                self._pieces.append(said)
                self._chars += len(said)
            if isinstance(choice, dict) and choice.get("finish_reason"):
                self.is_over = True
        self.is_plain = self.is_plain and self._chars <= MAX_CHARS


class Continuation:
    """Another answer's events, as they may follow what was sent.

    Args:
        sent: the text that the client has.
        repeats: whether the other answer begins with that text; else it goes on right behind it.
    """

    def __init__(self, sent: str, *, repeats: bool) -> None:
        self._missing = sent if repeats else ""
        self._has_joined = False

    def feed(self, raw: bytes) -> bytes:
        """What of an event is passed on.

        Raises:
            DivergedError: it says something else.
        """
        if self._has_joined:
            return raw
        event = parse_event(raw)
        if event is None:
            return b""
        told = None if event.data.strip() == b"[DONE]" else _told(event.data)
        choices = told.get("choices") if told is not None else None
        if told is None or told.get("error") or not isinstance(choices, list):
            raise DivergedError
        for choice in choices:
            said = _said(choice)
            if said is None or len(choices) > 1:
                raise DivergedError
            is_last = bool(choice.get("finish_reason"))
            if self._missing.startswith(said) and said != self._missing:
                if is_last:
                    raise DivergedError
                self._missing = self._missing[len(said) :]
                return b""
            if not said.startswith(self._missing):
                raise DivergedError
            rest, self._missing = said[len(self._missing) :], ""
            if not rest and not is_last:
                return b""
            self._has_joined = True
            if rest == said:
                return raw
            choice["delta"]["content"] = rest
            return render_event(json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode(), _name(event.name))
        return b""


def _name(name: str) -> str:
    return "" if name == "message" else name


def _told(data: bytes) -> dict[str, Any] | None:
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _said(choice: Any) -> str | None:
    """The text that a choice of an event says; None where it says anything else."""
    if not isinstance(choice, dict) or choice.get("index", 0) != 0 or choice.get("logprobs"):
        return None
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return "" if delta is None else None
    if any(value for key, value in delta.items() if key not in _NOTHING_SAID):
        return None
    content = delta.get("content")
    return content if isinstance(content, str) else "" if content is None else None
