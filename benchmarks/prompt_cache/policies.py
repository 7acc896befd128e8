"""What is sent in place of a chat that grows: one object a conversation, asked once a request.

A summariser's brief is stood for by tokens that no other brief has: its price is its length, and that it is new.
What a summariser itself would be billed for is told apart, at its least: it reads the brief before and what is folded.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.prompt_cache.cache import TOKEN_BYTES
from benchmarks.prompt_cache.chats import ANSWER_START, Chat, tokens_in
from gateway.core.context.economics import (
    Offer,
    Prices,
    Situation,
    Verdict,
    best_target_tokens,
    decide_compaction,
    estimate_growth,
)

BRIEF_TOKENS = 1200
SEGMENTS = 4
"""A brief that is only added to: so many parts before it is told anew."""
NEWEST_REQUESTS = 13
"""How many tell how fast a chat grows."""
MOST_SHARE = 0.9
"""Of the limit: what the best target may be at most."""
PIN_SHARE = 0.25
"""Of the limit: a first user message up to this is kept."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent.

    Attributes:
        pieces: its tokens.
        brief: what tells one compaction from the next; None where there was none.
        summariser_tokens: what was read to make the brief.
    """

    pieces: Sequence[bytes]
    brief: object = None
    summariser_tokens: int = 0


class Policy(Protocol):
    """One conversation's prompts."""

    def prompt(self, end: int, *, is_warm: bool) -> Prompt:
        """For the first `end` messages; `is_warm`: the prompt before is still in the provider's cache."""


def new_tokens(count: int, *seed: object) -> bytes:
    """Tokens that stand nowhere else."""
    return random.Random(repr(seed)).randbytes(count * TOKEN_BYTES)


@dataclass
class SendAll:
    """No gateway: all of it, whatever it costs."""

    chat: Chat

    def prompt(self, end: int, *, is_warm: bool) -> Prompt:
        return Prompt([self.chat.tools_piece, *self.chat.pieces[:end], ANSWER_START])


def newest_from(chat: Chat, end: int, room: int) -> int:
    """Where the newest whole units that fit begin; the last one always stays."""
    starts = [start for start, _ in chat.units if start < end]
    before = chat.tokens_before
    found = bisect_left(starts, True, key=lambda start: before[end] - before[start] <= room)
    return starts[min(found, len(starts) - 1)]


@dataclass
class Truncate:
    """The system message and the newest that fit; with `is_told`, a fresh brief of all before them, every time."""

    chat: Chat
    limit: int
    is_told: bool = False

    def prompt(self, end: int, *, is_warm: bool) -> Prompt:
        chat, before = self.chat, self.chat.tokens_before
        if chat.fixed_tokens + before[end] <= self.limit:
            return SendAll(chat).prompt(end, is_warm=is_warm)
        brief = [new_tokens(BRIEF_TOKENS, chat.ident, end)] if self.is_told else []
        room = self.limit - chat.fixed_tokens - before[chat.head] - tokens_in(brief)
        start = newest_from(chat, end, room)
        pieces = [chat.tools_piece, *chat.pieces[: chat.head], *brief, *chat.pieces[start:end], ANSWER_START]
        return Prompt(pieces, (end, start) if self.is_told else None, self._read(start, end) if brief else 0)

    def _read(self, start: int, end: int) -> int:
        """By a summariser that builds on the brief before."""
        earlier = max((each for each in self.chat.requests if each < end), default=end)
        before = self.chat.tokens_before
        return BRIEF_TOKENS + min(before[end] - before[earlier], before[start] - before[self.chat.head])


@dataclass
class Compact:
    """Folds the oldest down to a target when the prompt would not fit, and keeps to that until it does so again.

    Attributes:
        chat: the conversation.
        limit: tokens of a prompt.
        target: tokens that a compaction aims at; 0 for the best by `economics`.
        is_appended: a brief is added to, and told anew only when its share is full; else it is told anew each time.
        keep_value: what a token of history is worth, for `economics`.
        is_early: also compact where nothing forces it and that costs less.
        prices: for that.
    """

    chat: Chat
    limit: int
    target: int
    is_appended: bool = False
    keep_value: float = 0.0
    is_early: bool = False
    prices: Prices = field(default_factory=Prices)

    def __post_init__(self) -> None:
        chat = self.chat
        self._pinned = chat.head
        first = chat.messages[chat.head]
        size = chat.tokens_before[chat.head + 1] - chat.tokens_before[chat.head]
        if first["role"] == "user" and size <= PIN_SHARE * self.limit:
            self._pinned += 1
        self._folded = self._pinned
        self._segments: list[bytes] = []
        self._last_tokens = 0

    def prompt(self, end: int, *, is_warm: bool) -> Prompt:
        read = 0
        if self._size(self._segments, self._folded, end) > self.limit or self._gains(end, is_warm):
            read = self._compact(end)
        chat = self.chat
        pieces = [chat.tools_piece, *chat.pieces[: self._pinned], *self._segments]
        pieces += [*chat.pieces[self._folded : end], ANSWER_START]
        self._last_tokens = tokens_in(pieces)
        return Prompt(pieces, self._folded if self._segments else None, read)

    def _size(self, segments: Sequence[bytes], folded: int, end: int) -> int:
        before = self.chat.tokens_before
        return self.chat.fixed_tokens + before[self._pinned] + tokens_in(segments) + before[end] - before[folded]

    def _places(self, end: int) -> Sequence[int]:
        """Where what is kept may begin."""
        starts = [start for start, _ in self.chat.units if start < end]
        return [start for start in starts if start > self._folded]

    def _planned(self, end: int) -> tuple[int, list[bytes]]:
        """Where what is kept will begin, and the brief before it."""
        places = self._places(end)
        if not places:
            return self._folded, self._segments
        sizes = [self._size([], place, end) for place in places]
        share = min(BRIEF_TOKENS, self.limit // 4)
        target = self.target or self._best_target(end, sizes[-1] + share)
        found = bisect_left(sizes, True, key=lambda size: size + share <= target)
        folded = places[min(found, len(places) - 1)]
        replaced = self.chat.tokens_before[folded] - self.chat.tokens_before[self._folded]
        return folded, self._told(folded, replaced, share)

    def _best_target(self, end: int, least: int) -> int:
        most = max(least, int(MOST_SHARE * self.limit))
        unchanged = self._size([], end, end)
        bounds = (min(least, self.limit), min(most, self.limit))
        return best_target_tokens(self.limit, bounds, unchanged, self._growth(end), self.prices, self.keep_value)

    def _told(self, folded: int, replaced: int, share: int) -> list[bytes]:
        ident = self.chat.ident, folded
        if not self.is_appended:
            return [new_tokens(min(share, (replaced + tokens_in(self._segments)) // 2), ident)]
        part = min(share // SEGMENTS, replaced // 2)
        if len(self._segments) < SEGMENTS:
            return [*self._segments, new_tokens(part, ident)]
        return [new_tokens(share // 2, ident), new_tokens(part, ident, "newest")]

    def _compact(self, end: int) -> int:
        before = self.chat.tokens_before
        folded, segments = self._planned(end)
        read = tokens_in(self._segments) + before[folded] - before[self._folded] if folded > self._folded else 0
        self._folded, self._segments = folded, segments
        return read

    def _gains(self, end: int, is_warm: bool) -> bool:
        """Whether compacting now is worth it though nothing forces it."""
        if not self.is_early or not self._last_tokens:
            return False
        folded, segments = self._planned(end)
        if folded == self._folded:
            return False
        chat = self.chat
        kept = 0
        for old, new in zip(self._segments, segments, strict=False):
            if old != new:
                break
            kept += len(old) // TOKEN_BYTES
        unchanged = tokens_in([chat.tools_piece, *chat.pieces[: self._pinned]]) + kept
        situation = Situation(
            prompt=self._size(self._segments, self._folded, end),
            cached=self._last_tokens if is_warm else 0,
            limit=self.limit,
            growth=self._growth(end),
        )
        offer = Offer(self._size(segments, folded, end), unchanged)
        return decide_compaction(situation, offer, self.prices, self.keep_value) is Verdict.GAINS

    def _growth(self, end: int) -> int:
        before = self.chat.tokens_before
        ends = [each for each in self.chat.requests if each <= end][-NEWEST_REQUESTS:]
        return estimate_growth(before[ends[-1]] - before[ends[0]], len(ends) - 1)
