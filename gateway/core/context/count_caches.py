"""What was counted once, kept by digests of its bytes: messages, Responses items, sections, and beginnings of chats."""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.context.facts import MessageFacts
from gateway.core.context.items import LearnedItem
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.core.tokens.frames import Counted
from gateway.core.tokens.profiles import Profile
from gateway.core.wire.prefix import Digest, PrefixMemo

FACTS_ENTRY_BYTES = 460
ITEM_ENTRY_BYTES = FACTS_ENTRY_BYTES + 180
SECTION_ENTRY_BYTES = 200


class Caches(NamedTuple):
    """What was counted once, as one profile sees it: digests with its salt are its own."""

    facts: TwoGenerationCache[MessageFacts]
    items: TwoGenerationCache[LearnedItem]
    sections: TwoGenerationCache[Counted]
    salt: int


def _ids_bytes(fact: MessageFacts) -> int:
    """What call ids take, which clients may make as long as they like."""
    if not fact.calls and fact.answers is None:
        return 0
    return sum(64 + len(call) for call in fact.calls) + len(fact.answers or "")


def _item_bytes(item: LearnedItem) -> int:
    return _ids_bytes(item.fact) if item.fact is not None else 0


class CountCaches:
    """What was counted once: messages, sections and items of all profiles, bounded together.

    Args:
        max_bytes: the bound.
        digest: 128 bits over the bytes of each, seeded per process.
    """

    def __init__(self, max_bytes: int, digest: Digest) -> None:
        self.facts = TwoGenerationCache[MessageFacts](max_bytes // 2, FACTS_ENTRY_BYTES, _ids_bytes)
        self.items = TwoGenerationCache[LearnedItem](max_bytes * 3 // 16, ITEM_ENTRY_BYTES, _item_bytes)
        self.sections = TwoGenerationCache[Counted](max_bytes // 16, SECTION_ENTRY_BYTES)
        self.digest = digest
        self.prefixes = PrefixMemo(digest, max_bytes // 4)
        self._by_profile: dict[Profile, Caches] = {}

    def of(self, profile: Profile) -> Caches:
        """The caches as one profile sees them; there are only as many profiles as rows of the table."""
        caches = self._by_profile.get(profile)
        if caches is None:
            caches = self._by_profile[profile] = Caches(self.facts, self.items, self.sections, len(self._by_profile))
        return caches

    @property
    def held_bytes(self) -> int:
        """About what all of it takes."""
        return self.facts.held_bytes + self.items.held_bytes + self.sections.held_bytes + self.prefixes.held_bytes

    def totals(self) -> tuple[int, int]:
        """Hits and misses of message look-ups so far."""
        return self.facts.hits, self.facts.misses


class LearnedChat(NamedTuple):
    """The facts of messages, those of them that stand out, and their tokens together."""

    facts: list[MessageFacts]
    special: list[MessageFacts]
    tokens: int


NOTHING_LEARNED = LearnedChat([], [], 0)
