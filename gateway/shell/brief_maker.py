"""Makes briefs: a language model within a deadline, else extraction, which needs nothing and always fits.

One fold per prefix at a time; one that nobody waits for any more is dropped. A written brief that comes after the
deadline is kept and becomes the ground of the next compaction; what was applied stays applied. Ahead of need, the next
brief is made in the background and waits until a request overflows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from gateway.core.context.brief import BRIEF_ROLE, Brief, FoldJob, Level, Stated
from gateway.core.context.fold import CountBrief, CountTokens, Frame, fold_extractive, fold_written, frame_brief
from gateway.core.facts.statements import hold_to_span, with_newest
from gateway.core.tokens.profiles import Profile
from gateway.core.tokens.weight import weigh_message
from gateway.exchange import Exchange
from gateway.ports import BriefStore, TextCounter
from gateway.shell.summarizer import Summarizer, Written
from gateway.tasks import TaskGroup

MAX_WRITING = 32
"""Summaries in flight; above this, folds are extractive at once."""
Writing: TypeAlias = asyncio.Task[Brief | None]


def _written(writing: Writing | None) -> Brief | None:
    """What a summary has come to: None while it is written, or if it failed; failures are logged by the task group."""
    if writing is None or not writing.done() or writing.cancelled() or writing.exception() is not None:
        return None
    return writing.result()


def _folded(job: FoldJob, frame: Frame, written: Written, count: CountTokens, count_brief: CountBrief) -> Brief | None:
    """The brief that was written, with what it states as far as the folded messages support that."""
    brief = fold_written(job, frame, written.text, count, count_brief)
    return _with_statements(job, brief, hold_to_span(written.statements, frame.turns)) if brief is not None else None


def _with_statements(job: FoldJob, brief: Brief, newer: Sequence[Stated] = ()) -> Brief:
    """The brief with what the one before stated, which may have come too late to be used, and what is new."""
    earlier = job.earlier.statements if job.earlier else ()
    return replace(brief, statements=with_newest(earlier, newer)) if earlier or newer else brief


@dataclass(slots=True)
class _Folding:
    """A fold under way, and how many requests wait for it."""

    task: asyncio.Task[tuple[Brief, bool]]
    waiters: int = 0


class StoredBriefMaker:
    """`ports.BriefMaker` over a store.

    Args:
        store: where briefs are kept.
        counter: tokenizers.
        summarizer: writes briefs, or None for extraction only.
        deadline_s: how long a request waits for a written brief.
        tasks: where late summaries go on.
    """

    def __init__(
        self,
        store: BriefStore,
        counter: TextCounter,
        summarizer: Summarizer | None,
        deadline_s: float,
        tasks: TaskGroup,
    ) -> None:
        self._store = store
        self._counter = counter
        self._summarizer = summarizer
        self._deadline_s = deadline_s
        self._tasks = tasks
        self._folding: dict[bytes, _Folding] = {}
        self._preparing: dict[bytes, asyncio.Task[None]] = {}
        self._writing = 0

    @property
    def takes_time(self) -> bool:
        return self._summarizer is not None and not self._summarizer.is_off

    @property
    def reuses_prompts(self) -> bool:
        return self._summarizer is not None and self._summarizer.reuses_prompts

    async def make(
        self, exchange: Exchange, scope: bytes, key: bytes, job: FoldJob, *, may_wait: bool = True
    ) -> tuple[Brief, bool]:
        assert exchange.count is not None
        folding = self._folding.get(key)
        if is_first := folding is None:
            task = self._tasks.spawn(self._fold(exchange, scope, key, job, may_wait), "fold")
            folding = self._folding[key] = _Folding(task)
            task.add_done_callback(lambda _: self._folding.pop(key, None))
        folding.waiters += 1
        try:
            # A client that leaves must not take the others' fold with it, but the last one does.
            brief, is_new = await asyncio.shield(folding.task)
        finally:
            folding.waiters -= 1
            if not folding.waiters:
                folding.task.cancel()
        return brief, is_new and is_first

    async def refold(self, profile: Profile, job: FoldJob) -> Brief:
        return await asyncio.to_thread(self._extract, profile, job)

    def prepare(
        self, exchange: Exchange, scope: bytes, base: bytes, key: bytes, make_job: Callable[[], FoldJob]
    ) -> None:
        if base not in self._preparing:
            preparing = self._tasks.spawn(self._prepare(exchange, scope, key, make_job), "prepare")
            self._preparing[base] = preparing
            preparing.add_done_callback(lambda _: self._preparing.pop(base, None))

    async def prepared(self, base: bytes) -> bool:
        preparing = self._preparing.get(base)
        if preparing is None:
            return True
        await asyncio.wait({preparing}, timeout=self._deadline_s)
        return preparing.done()

    async def _prepare(self, exchange: Exchange, scope: bytes, key: bytes, make_job: Callable[[], FoldJob]) -> None:
        assert exchange.count is not None
        profile = exchange.count.profile
        job = await asyncio.to_thread(make_job)
        writing = self._begin_writing(exchange, profile, job)
        if writing is not None:
            await asyncio.wait({writing})
        brief = _written(writing) or await self.refold(profile, job)
        await self._store.put_waiting(scope, key, brief)

    async def _fold(
        self, exchange: Exchange, scope: bytes, key: bytes, job: FoldJob, may_wait: bool
    ) -> tuple[Brief, bool]:
        assert exchange.count is not None
        profile = exchange.count.profile
        present = await self._store.find(scope, [key])  # another fold may have ended since this request looked
        if present is not None:
            return present, False
        writing = self._begin_writing(exchange, profile, job) if may_wait else None
        try:
            if writing is not None:
                await asyncio.wait({writing}, timeout=self._deadline_s)
            brief = _written(writing)
            if brief is None:
                extract = await self.refold(profile, job)
                brief = _written(writing) or extract  # it may have come while the extract was made
        except asyncio.CancelledError:
            if writing is not None:
                writing.cancel()
            raise
        applied = await self._store.put_if_absent(scope, key, brief)
        if writing is not None and brief.level is Level.EXTRACTIVE:
            self._tasks.spawn(self._keep_late(writing, scope, key), "late summary")
        return applied, applied is brief

    def _begin_writing(self, exchange: Exchange, profile: Profile, job: FoldJob) -> Writing | None:
        if self._summarizer is None or self._summarizer.is_off or self._writing >= MAX_WRITING:
            return None
        self._writing += 1
        writing = self._tasks.spawn(self._write(self._summarizer, exchange, profile, job), "summary")
        writing.add_done_callback(self._wrote)
        return writing

    def _wrote(self, _: object) -> None:
        self._writing -= 1

    async def _write(self, summarizer: Summarizer, exchange: Exchange, profile: Profile, job: FoldJob) -> Brief | None:
        count, count_brief = self._counts(profile)
        frame = await asyncio.to_thread(frame_brief, job, count, count_brief)
        written = await summarizer.write(exchange, profile, job, frame.body_tokens, is_addition=bool(frame.kept))
        return await asyncio.to_thread(_folded, job, frame, written, count, count_brief)

    async def _keep_late(self, writing: Writing, scope: bytes, key: bytes) -> None:
        await asyncio.wait({writing})
        brief = _written(writing)
        if brief is not None:
            await self._store.put_waiting(scope, key, brief)

    def _extract(self, profile: Profile, job: FoldJob) -> Brief:
        count, count_brief = self._counts(profile)
        brief = fold_extractive(job, frame_brief(job, count, count_brief), count, count_brief)
        return _with_statements(job, brief)

    def _counts(self, profile: Profile) -> tuple[CountTokens, CountBrief]:
        """How texts and briefs are counted, in the calling thread."""
        count = partial(self._counter.count_here, profile)

        def count_brief(text: str) -> int:
            weight = weigh_message({"role": BRIEF_ROLE, "content": text}, profile)
            return weight.fixed_tokens + sum(map(count, weight.texts))

        return count, count_brief
