"""What was made of a chat at its last request, so that the next one, which resends it, costs what is new in it.

A chat that was edited, or branched off another, is gone on with from where they differ.

A chat is recognised by its own facts, compared one by one, and never by a name: whatever a client edits, branches or
undoes, the outline and the chain are those that would be made from nothing.

Invariants, each with a test of its own:
  1. What is read is what `chain_digests` and `outline_of` make.
  2. What is held is bounded.
"""

from __future__ import annotations

from bisect import bisect_left
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
        self._max_entry_bytes = max_bytes // 2 - _ENTRY_BYTES
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
        before, common = _nearest(facts, others)
        if before is None:
            found = KnownChat(chain_digests(scope, facts), outline_of(facts))
        elif common == _length(before) == len(facts):
            found = before
        else:
            chain = before.chain[: bisect_left(before.outline.places, common) + 1]
            longer = extend_chain(chain, facts[common:])
            found = KnownChat(longer, extend_outline(before.outline, facts, common))
        # What this chat goes on from is not needed any more; what it has branched off is.
        kept = [found, *(each for each in others if each is not before or common < _length(each))][:_BRANCHES]
        while len(kept) > 1 and _size(tuple(kept)) > self._max_entry_bytes:
            kept.pop()
        self._known.put(key, tuple(kept))
        return found


def _nearest(facts: Sequence[MessageFacts], others: Sequence[KnownChat]) -> tuple[KnownChat | None, int]:
    """The known chat that this one has the most in common with, and how many messages that is."""
    best, most = None, 0
    for each in others:
        length, known = _length(each), each.outline.facts
        if most < length <= len(facts) and facts[length - 1] == known[-1] and facts[:length] == known:
            best, most = each, length
    for each in others:
        known = each.outline.facts
        # Only one that goes on as this chat does where the best so far ends, or differs, has more in common with it.
        if most < min(len(facts), len(known)) and facts[most] == known[most]:
            common = _common(facts, known)
            if common > most:
                best, most = each, common
    return best, most


def _common(one: Sequence[MessageFacts], other: Sequence[MessageFacts]) -> int:
    """How many messages both begin with; by halves, since lists are compared many times as fast as their parts."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if list(one[low:middle]) == list(other[low:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _length(known: KnownChat) -> int:
    return len(known.outline.facts)


def _size(known: tuple[KnownChat, ...]) -> int:
    return sum(_MESSAGE_BYTES * _length(each) for each in known)
