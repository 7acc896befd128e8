"""Recorded chats as token sequences, and the requests that a client would have made of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any

from benchmarks.prompt_cache.cache import TOKEN_BYTES
from benchmarks.retention.baselines import blocks, head
from benchmarks.retention.words import text_of
from gateway.shell.tokens.rank_files import load_encoding

Message = Mapping[str, Any]
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_OPEN, _ROLE, _SEP = 200_100, 200_110, 200_101
"""Ids beyond the vocabulary, for the three tokens that frame a message."""


@lru_cache(1)
def _encoding() -> Any:
    return load_encoding("o200k_base")


def _packed(ids: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(ids)}I", *ids)


@lru_cache(100_000)
def _encode(text: str) -> bytes:
    return _packed(_encoding().encode(text, disallowed_special=()))


def _frame(role: str) -> bytes:
    return _packed((_OPEN, _ROLE + (_ROLES.index(role) if role in _ROLES else len(_ROLES)), _SEP))


ANSWER_START = _frame("assistant")
"""What every prompt ends with."""


def piece_of(message: Message) -> bytes:
    """A message's tokens, as its model reads them, 3 of them for its frame."""
    name = message.get("name")
    return _frame(message["role"]) + (_encode(f"{name}\n") if name else b"") + _encode(text_of(message))


def tools_piece(tools: Sequence[Any] | None) -> bytes:
    """The tools' tokens; they stand before the messages."""
    return _encode(json.dumps(tools)) if tools else b""


def tokens_in(pieces: Sequence[bytes]) -> int:
    """How many tokens these are."""
    return sum(map(len, pieces)) // TOKEN_BYTES


@dataclass(frozen=True)
class Chat:
    """A recorded conversation; its messages come with the tools they may call."""

    ident: str
    messages: Sequence[Message]
    tools: Sequence[Any] | None = None

    @cached_property
    def pieces(self) -> Sequence[bytes]:
        """The messages."""
        return [piece_of(message) for message in self.messages]

    @cached_property
    def tools_piece(self) -> bytes:
        """The tools."""
        return tools_piece(self.tools)

    @cached_property
    def tokens_before(self) -> Sequence[int]:
        """Tokens of the messages before each index."""
        return list(accumulate((len(piece) // TOKEN_BYTES for piece in self.pieces), initial=0))

    @cached_property
    def requests(self) -> Sequence[int]:
        """How many messages each request sends: an answer followed, or one is due at the end."""
        ends = [
            n for n, message in enumerate(self.messages) if message["role"] == "assistant" and n > head(self.messages)
        ]
        is_due = self.messages[-1]["role"] != "assistant"
        return [*ends, len(self.messages)] if is_due else ends

    @cached_property
    def units(self) -> Sequence[tuple[int, int]]:
        """What must stay together, after the system message."""
        return blocks(self.messages, head(self.messages))

    @property
    def head(self) -> int:
        """How many system messages it starts with."""
        return head(self.messages)

    @property
    def fixed_tokens(self) -> int:
        """Of every prompt, beside its messages."""
        return len(self.tools_piece + ANSWER_START) // TOKEN_BYTES
