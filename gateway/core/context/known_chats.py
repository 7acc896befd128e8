"""What was made of a chat at its last request, so that the next one, which resends it, costs what is new in it.

A chat is recognised by its own facts, compared one by one, and never by a name: whatever a client edits, branches or
undoes, the outline and the chain are those that would be made from nothing.

Invariants, each with a test of its own:
  1. What is read is what `chain_digests` and `outline_of` make.
  2. What is held is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.context.facts import MessageFacts, chain_digests, extend_chain
from gateway.core.context.units import Outline, extend_outline, outline_of
from gateway.core.tokens.cache import TwoGenerationCache

_MESSAGE_BYTES = 320
"""Of a message's digest, unit, place and tokens; its facts are mostly held elsewhere as well."""
_ENTRY_BYTES = 500
_BRANCHES = 4
"""Chats that begin alike, of which so many are told apart."""


class KnownChat(NamedTuple):
    """A chat: `chain` names its prefixes, `outline` holds its messages."""

    chain: Sequence[bytes]
    outline: Outline


class KnownChats:
    """Chats that were read before.

    Args:
        max_bytes: bound of all of it, by an estimate.
    """

    def __init__(self, max_bytes: int) -> None:
        self._known = TwoGenerationCache[tuple[KnownChat, ...]](max_bytes, _ENTRY_BYTES, _size)

    @property
    def held_bytes(self) -> int:
        """About what it takes."""
        return self._known.held_bytes

    def read(self, scope: bytes, facts: Sequence[MessageFacts]) -> KnownChat:
        """The chain of a chat without ties, within a scope, and its outline."""
        first = next((fact for fact in facts if fact.is_foldable), None)
        if first is None:
            return KnownChat(chain_digests(scope, facts), outline_of(facts))
        key = scope + first.canonical
        others = self._known.get(key) or ()
        before = max((each for each in others if _begins(facts, each)), key=_length, default=None)
        if before is None:
            found = KnownChat(chain_digests(scope, facts), outline_of(facts))
        else:
            others = tuple(each for each in others if each is not before)
            new = facts[_length(before) :]
            found = KnownChat(extend_chain(before.chain, new), extend_outline(before.outline, facts)) if new else before
        self._known.put(key, (found, *others[: _BRANCHES - 1]))
        return found


def _length(known: KnownChat) -> int:
    return len(known.outline.facts)


def _begins(facts: Sequence[MessageFacts], known: KnownChat) -> bool:
    length = _length(known)
    return length <= len(facts) and list(facts[:length]) == list(known.outline.facts)


def _size(known: tuple[KnownChat, ...]) -> int:
    return sum(_MESSAGE_BYTES * _length(each) for each in known)
