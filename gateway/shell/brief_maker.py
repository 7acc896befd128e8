"""Makes briefs: a language model within a deadline, else extraction, which needs nothing and always fits.

One fold per prefix at a time. A written brief that comes after the deadline is kept and becomes the ground of the
next compaction; what was applied stays applied.
"""

from __future__ import annotations

import asyncio
from functools import partial

from gateway.core.context.brief import BRIEF_ROLE, Brief, FoldJob, fold_extractive, fold_written
from gateway.core.tokens.profiles import Profile
from gateway.core.tokens.weight import weigh_message
from gateway.exchange import Exchange
from gateway.ports import BriefStore, TextCounter
from gateway.shell.summarizer import Summarizer
from gateway.tasks import TaskGroup

MAX_WRITING = 32
"""Summaries in flight; above this, folds are extractive at once."""


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
        self._folding: dict[bytes, asyncio.Task[Brief]] = {}
        self._writing = 0

    async def make(self, exchange: Exchange, scope: bytes, key: bytes, job: FoldJob) -> Brief:
        assert exchange.count is not None
        folding = self._folding.get(key)
        if folding is None:
            folding = self._tasks.spawn(self._fold(exchange, exchange.count.profile, scope, key, job), "fold")
            self._folding[key] = folding
            folding.add_done_callback(lambda _: self._folding.pop(key, None))
        return await asyncio.shield(folding)  # a client that leaves must not take the others' fold with it

    async def shrink(self, profile: Profile, brief: Brief, max_tokens: int) -> Brief:
        job = FoldJob(brief.covers, brief, (), max_tokens)
        return await self._extract(profile, job)

    async def _extract(self, profile: Profile, job: FoldJob) -> Brief:
        count = partial(self._counter.count_here, profile)
        return await asyncio.to_thread(fold_extractive, job, count, partial(self._count_brief, profile))

    async def _fold(self, exchange: Exchange, profile: Profile, scope: bytes, key: bytes, job: FoldJob) -> Brief:
        written = await self._written_in_time(exchange, profile, key, job)
        brief = written or await self._extract(profile, job)
        return await self._store.put_if_absent(scope, key, brief)

    async def _written_in_time(self, exchange: Exchange, profile: Profile, key: bytes, job: FoldJob) -> Brief | None:
        if self._summarizer is None or self._writing >= MAX_WRITING:
            return None
        writing = self._tasks.spawn(self._write(exchange, profile, job), "summary")
        done, _ = await asyncio.wait({writing}, timeout=self._deadline_s)
        if done:
            return writing.result()
        self._tasks.spawn(self._adopt_late(writing, key), "late summary")
        return None

    async def _write(self, exchange: Exchange, profile: Profile, job: FoldJob) -> Brief | None:
        assert self._summarizer is not None
        self._writing += 1
        try:
            written = await self._summarizer.write(exchange, profile, job)
        finally:
            self._writing -= 1
        count = partial(self._counter.count_here, profile)
        return await asyncio.to_thread(fold_written, job, written, count, partial(self._count_brief, profile))

    async def _adopt_late(self, writing: asyncio.Task[Brief | None], key: bytes) -> None:
        brief = await writing
        if brief is not None:
            await self._store.put_better(key, brief)

    def _count_brief(self, profile: Profile, text: str) -> int:
        weight = weigh_message({"role": BRIEF_ROLE, "content": text}, profile)
        return weight.fixed_tokens + sum(self._counter.count_here(profile, part) for part in weight.texts)
