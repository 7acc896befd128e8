"""Recall, with what is known of each message kept between requests: a chat resends its history.

Where an endpoint makes vectors, how near passages are to the question counts, too, as far as that is known in time.
Records and answers are bounded together. Learning happens in a thread, and ranking where there is much to rank; the
caches of this module are only touched on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import msgspec

from gateway.core.context.brief import BRIEF_ROLE
from gateway.core.context.journal import Kept
from gateway.core.context.recall import Question, Recalled, ShownRegion, fit_recalled, recall
from gateway.core.context.recall_index import MessageTerms, learn_terms, learn_whole
from gateway.core.context.recall_pool import Pool, Remembered
from gateway.core.context.recall_rank import query_of
from gateway.core.context.render import turn_of
from gateway.core.context.units import Outline
from gateway.core.facts.reminders import Reminder
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.core.tokens.profiles import Profile
from gateway.core.tokens.weight import weigh_message
from gateway.core.vision.shown import fidelity_shown
from gateway.core.wire.message import reread_message, text_of
from gateway.core.wire.prefix import Digest
from gateway.exchange import Exchange
from gateway.ports import TextCounter

_ENTRY_BYTES = 220
_FRAME_TOKENS = 3
_INLINE_PASSAGES = 600
"""So many are ranked on the event loop, in about .5 ms: a thread's turn would cost as much as it spares."""
_PAUSE_EVERY, _PAUSE_S = 32, 1e-5
_NOTHING = Recalled("", 0, ())
Raws = Sequence[msgspec.Raw | bytes]


class Near(Protocol):
    """How near passages are to a question."""

    async def to(
        self, exchange: Exchange, question: Question, pool: Pool, read: Callable[[int], str], asked: str
    ) -> Sequence[float | None] | None: ...


class RememberingRecaller:
    """`ports_memory.Recaller`.

    Args:
        counter: tokenizers.
        digest: 128 bits over the bytes of each message, seeded per process.
        max_bytes: bound of all records and answers.

    Attributes:
        near: how near passages are; None where nobody makes vectors.
    """

    near: Near | None = None

    def __init__(self, counter: TextCounter, digest: Digest, max_bytes: int) -> None:
        self._counter = counter
        self._digest = digest
        self._terms = TwoGenerationCache[MessageTerms](max_bytes * 5 // 8, _ENTRY_BYTES, _size_of_terms)
        self._pools = TwoGenerationCache[Pool](max_bytes // 4, _ENTRY_BYTES, _size_of_pool)
        self._answers = TwoGenerationCache[Recalled](max_bytes * 3 // 32, _ENTRY_BYTES, _size_of)
        self._newest = TwoGenerationCache[bytes](max_bytes // 32, _ENTRY_BYTES)

    @property
    def held_bytes(self) -> int:
        """About what all of it takes."""
        return sum(kind.held_bytes for kind in (self._terms, self._pools, self._answers, self._newest))

    async def recall(
        self, exchange: Exchange, profile: Profile, raws: Raws, outline: Outline, question: Question
    ) -> Recalled | None:
        found = self._answers.get(question.key)
        if found is None:
            found = await self._look_up(exchange, profile, raws, outline, question) or _NOTHING
            self._answers.put(question.key, found)
        return found if found.text else None

    async def _look_up(
        self, exchange: Exchange, profile: Profile, raws: Raws, outline: Outline, question: Question
    ) -> Recalled | None:
        pool = self._pools.get(question.pool)
        read = partial(_text, raws, outline, question.base, _texts_beside(question))
        if pool is not None and self.near is None and len(pool.passages) <= _INLINE_PASSAGES:
            return self._answer(profile, raws, outline, question, read, pool, None)
        if pool is None:
            records = await self._records(raws, outline, question.numbers)
            beside = await self._remember_beside(question)
            beginning = self._beginning(raws, outline, question)
            earlier = self._pools.get(self._newest.get(beginning) or b"")
            pool = await asyncio.to_thread(_pool_of, outline, records, beside, question.base, earlier)
            self._pools.put(question.pool, pool)
            self._newest.put(beginning, question.pool)
        near = None
        if self.near is not None:
            latest = text_of(reread_message(raws[outline.places[question.latest - 1]]))
            near = await self.near.to(exchange, question, pool, read, latest)
        return await asyncio.to_thread(self._answer, profile, raws, outline, question, read, pool, near)

    def _beginning(self, raws: Raws, outline: Outline, question: Question) -> bytes:
        """Names the oldest message that may be recalled, and so, mostly, the chat: its pools grow at the other end."""
        if question.kept:
            return question.kept[0].canonical
        return b"".join(self._digest([raws[outline.places[number - 1]] for number in question.numbers[:1]], 0))

    async def _records(self, raws: Raws, outline: Outline, numbers: Sequence[int]) -> dict[int, MessageTerms]:
        """What is known of these messages; what is not yet is learned."""
        keys = self._digest([raws[outline.places[number - 1]] for number in numbers], 0)
        found = self._terms.get_many(keys)
        missing = [place for place, record in enumerate(found) if record is None]
        learned = (
            await asyncio.to_thread(_learn, raws, outline, [numbers[place] for place in missing]) if missing else {}
        )
        for place in missing:
            self._terms.put(keys[place], learned[numbers[place]])
        known = {number: record for number, record in zip(numbers, found, strict=True) if record is not None}
        return dict(sorted((known | learned).items()))

    async def _remember_beside(self, question: Question) -> list[Remembered]:
        """What a memory and a session give beside the chat's own messages, with its records."""
        beside: list[Kept | Reminder] = [*question.reminders, *question.kept]
        keys = [*(each.key for each in question.reminders), *(each.canonical for each in question.kept)]
        known = self._terms.get_many(keys)
        missing = [place for place, record in enumerate(known) if record is None]
        learned = await asyncio.to_thread(_learn_beside, [beside[place] for place in missing]) if missing else []
        for place, record in zip(missing, learned, strict=True):
            self._terms.put(keys[place], record)
            known[place] = record
        records = iter([record for record in known if record is not None])
        return [
            *(
                Remembered(each.number, each.role, each.tokens, next(records), each.label, each.confidence)
                for each in question.reminders
            ),
            *(
                Remembered(each.number, each.role, max(0, each.tokens - _FRAME_TOKENS), next(records))
                for each in question.kept
            ),
        ]

    def _answer(
        self,
        profile: Profile,
        raws: Raws,
        outline: Outline,
        question: Question,
        read: Callable[[int], str],
        pool: Pool,
        near: Sequence[float | None] | None,
    ) -> Recalled | None:
        latest = text_of(reread_message(raws[outline.places[question.latest - 1]]))
        newest = question.base + question.latest - 1
        query = query_of(latest, partial(read, newest) if newest else None, question.names)
        picks = recall(query, pool, question.room_tokens, near)
        found = fit_recalled(picks, pool, read, question.room_tokens, partial(self._cost, profile, pool))
        return found and _with_origins(found, question.reminders)

    def _cost(self, profile: Profile, pool: Pool, lines: Sequence[str]) -> int:
        """Tokens of a message of these lines, each of which begins with neither white space nor a slash."""
        count = partial(self._counter.count_here, profile)
        whole = "".join(lines)
        weight = weigh_message({"role": BRIEF_ROLE, "content": whole}, profile)
        if weight.all_texts == (whole,) and self._counter.counts_lines_apart(profile):
            return weight.total([pool.memo.tokens_of(lines, profile.encoding, count)])
        return weight.total([count(each) for each in weight.all_texts])


def _with_origins(recalled: Recalled, reminders: Sequence[Reminder]) -> Recalled:
    """What is put into the prompt, with the memories and the regions that it may be from."""
    if not reminders:
        return recalled
    shown: dict[int, int] = {}
    for pick in recalled.picks:
        shown[pick.number] = shown.get(pick.number, 0) + pick.end - pick.start
    regions = {
        each.number: ShownRegion(
            each.id, each.place.doc_id, each.place.page, fidelity_shown(shown[each.number], _chars_of(each)).value
        )
        for each in reminders
        if each.place is not None and each.number in shown
    }
    memories = {each.number: each.id for each in reminders if each.place is None}
    return recalled._replace(memories=memories, regions=regions)


def _chars_of(reminder: Reminder) -> int:
    """Characters of its text below the heading."""
    return len(reminder.text) - len(reminder.heading) - len("[]\n")


def _pool_of(
    outline: Outline,
    records: Mapping[int, MessageTerms],
    beside: Sequence[Remembered],
    base: int,
    earlier: Pool | None,
) -> Pool:
    facts = [outline.facts[outline.places[number - 1]] for number in records]
    costs = [max(0, fact.tokens - _FRAME_TOKENS) for fact in facts]
    numbers = [base + number for number in records]
    pool = Pool([*beside, *map(Remembered, numbers, [fact.role for fact in facts], costs, records.values())])
    if earlier is not None:
        pool.take_over(earlier)
    return pool


def _learn(raws: Raws, outline: Outline, numbers: Sequence[int]) -> dict[int, MessageTerms]:
    """The records of messages, with pauses, in which the event loop gets Python's lock."""
    records = {}
    for place, number in enumerate(numbers):
        if place % _PAUSE_EVERY == 0:
            time.sleep(_PAUSE_S)
        message = reread_message(raws[outline.places[number - 1]])
        records[number] = learn_terms(turn_of(number, message).text, str(message.get("name") or ""))
    return records


def _learn_beside(texts: Sequence[Kept | Reminder]) -> list[MessageTerms]:
    records = []
    for place, each in enumerate(texts):
        if place % _PAUSE_EVERY == 0:
            time.sleep(_PAUSE_S)
        known = None
        if isinstance(each, Reminder) and each.terms:
            known = learn_whole(each.heading, each.text[len(each.heading) + len("[]\n") :], each.name, each.terms)
        records.append(known or learn_terms(each.text, each.name))
    return records


def _texts_beside(question: Question) -> dict[int, str]:
    """Texts that are no messages of the chat, by number."""
    kept = {each.number: each.text for each in question.kept}
    return {each.number: each.text for each in question.reminders} | kept


def _text(raws: Raws, outline: Outline, base: int, beside: Mapping[int, str], number: int) -> str:
    """The text of a message, or a memory, by its number in what is recalled."""
    if number <= base:
        return beside[number]
    return turn_of(number, reread_message(raws[outline.places[number - base - 1]])).text


def _size_of_terms(terms: MessageTerms) -> int:
    return terms.size_bytes


def _size_of_pool(pool: Pool) -> int:
    return pool.size_bytes


def _size_of(recalled: Recalled) -> int:
    asked = len(recalled.picks[0].asked) if recalled.picks else 0
    return 6 * len(recalled.text) + 200 * (len(recalled.picks) + asked)
