"""Making briefs: one fold at a time, a deadline, and a rung below for everything that can go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from gateway.core.context.brief import Brief, FoldJob, Level
from gateway.core.context.extractive import Turn
from gateway.core.routing.routes import Roles
from gateway.core.tokens.profiles import Profile
from gateway.exchange import Count, Exchange
from gateway.shell.brief_maker import MAX_WRITING, StoredBriefMaker
from gateway.shell.state.memory import MemoryBriefStore
from gateway.tasks import TaskGroup
from tests.histories import (
    PROFILE,
    FakeCounter,
    FakeSummarizer,
    StuckSummarizer,
    body_of,
    exchange_of,
    failing,
    nothing,
    per_four_chars,
    too_long,
)

KEY, OTHER = b"k" * 32, b"o" * 32
TURNS = (
    Turn(1, "user", "Never deploy on a Friday. The host is db-7.internal:5432."),
    Turn(2, "assistant", "Understood. The migration moved 1,204 rows."),
)
JOB = FoldJob(2, (), None, TURNS, 300)


@dataclass
class Bench:
    """A maker and its world; `asks` is what a request does."""

    summarizer: FakeSummarizer | None = None
    deadline_s: float = 5.0
    store: MemoryBriefStore = field(default_factory=lambda: MemoryBriefStore(10**7))
    tasks: TaskGroup = field(default_factory=TaskGroup)

    def __post_init__(self) -> None:
        counter = FakeCounter(per_four_chars)
        self.maker = StoredBriefMaker(self.store, counter, self.summarizer, self.deadline_s, self.tasks)  # type: ignore[arg-type]

    async def asks(self, key: bytes = KEY, job: FoldJob = JOB) -> tuple[Brief, bool]:
        return await self.maker.make(counted_exchange(), b"scope", key, job)


def counted_exchange() -> Exchange:
    exchange = exchange_of(body_of([{"role": "user", "content": "hi"}]), b"client", Roles.OPEN)
    exchange.count = Count(PROFILE, 1, 1)
    return exchange


async def test_without_a_summariser_a_brief_is_extracted() -> None:
    """It needs nothing, holds the facts and the rules, and is applied."""
    bench = Bench()
    brief, is_new = await bench.asks()

    assert (brief.level, is_new) == (Level.EXTRACTIVE, True)
    assert "db-7.internal:5432" in brief.body
    assert [quote.text for quote in brief.ledger] == ["Never deploy on a Friday."]
    assert await bench.store.find(b"scope", [KEY]) is brief


async def test_a_summary_in_time_is_the_brief() -> None:
    bench = Bench(FakeSummarizer())
    brief, is_new = await bench.asks()

    assert (brief.level, is_new) == (Level.BRIEF, True)
    assert brief.body.startswith("told 1:")
    assert [quote.text for quote in brief.ledger] == ["Never deploy on a Friday."]


@pytest.mark.parametrize(
    ("answer", "level"),
    [(nothing, Level.EXTRACTIVE), (failing, Level.EXTRACTIVE), (too_long, Level.BRIEF)],
    ids=["empty", "failing", "too long"],
)
async def test_a_bad_summary_costs_one_rung_at_most(answer: object, level: Level) -> None:
    """Nothing usable: the extract. Too much: its best lines. In no case an error, in no case over the bound."""
    brief, _ = await Bench(FakeSummarizer(answer)).asks()  # type: ignore[arg-type]

    assert brief.level is level
    assert brief.tokens <= JOB.max_tokens


async def test_a_stuck_summariser_does_not_hold_the_request() -> None:
    """At the deadline the extract is applied; a summary that comes later is kept beside it."""
    summarizer = StuckSummarizer()
    bench = Bench(summarizer, deadline_s=0.01)
    brief, is_new = await asyncio.wait_for(bench.asks(), 2)

    assert (brief.level, is_new) == (Level.EXTRACTIVE, True)
    assert await bench.store.find_waiting(b"scope", [KEY]) is None
    summarizer.release.set()
    await bench.tasks.drain(5)

    better = await bench.store.find_waiting(b"scope", [KEY])
    assert better is not None
    assert better.level is Level.BRIEF
    assert await bench.store.find(b"scope", [KEY]) is brief


async def test_a_summary_that_comes_while_the_extract_is_made_is_used() -> None:
    """Between the deadline and the end of the extraction it is still in time."""
    summarizer = StuckSummarizer()

    class SlowExtract(StoredBriefMaker):
        async def refold(self, profile: Profile, job: FoldJob) -> Brief:
            extract = await super().refold(profile, job)
            summarizer.release.set()
            while self._writing:
                await asyncio.sleep(0)
            return extract

    bench = Bench(summarizer)
    bench.maker = SlowExtract(bench.store, FakeCounter(per_four_chars), summarizer, 0, bench.tasks)  # type: ignore[arg-type]
    brief, _ = await bench.asks()

    assert brief.level is Level.BRIEF


async def test_a_late_failure_is_nobodys() -> None:
    """A summariser that breaks after the deadline leaves the extract where it is."""

    class LateFailure(StuckSummarizer):
        async def write(self, *_: object) -> str:
            await self.release.wait()
            raise RuntimeError("the summariser broke late")

    summarizer = LateFailure()
    bench = Bench(summarizer, deadline_s=0)
    brief, _ = await bench.asks()
    summarizer.release.set()
    await bench.tasks.drain(5)

    assert await bench.store.find_waiting(b"scope", [KEY]) is None
    assert await bench.store.find(b"scope", [KEY]) is brief


async def test_fifty_requests_share_one_fold() -> None:
    """One prefix, one call of the summariser, one of them says that it is new."""
    bench = Bench(FakeSummarizer())
    made = await asyncio.gather(*(bench.asks() for _ in range(50)))

    assert bench.summarizer is not None
    assert len(bench.summarizer.jobs) == 1
    assert len({id(brief) for brief, _ in made}) == 1
    assert sum(is_new for _, is_new in made) == 1


async def test_a_request_that_looked_too_early_folds_nothing_again() -> None:
    """Between a look-up and the fold another request may have ended one: its brief serves."""
    bench = Bench(FakeSummarizer())
    first, _ = await bench.asks()
    second, is_new = await bench.asks()

    assert bench.summarizer is not None
    assert (second, is_new) == (first, False)
    assert len(bench.summarizer.jobs) == 1


async def test_other_prefixes_do_not_wait() -> None:
    """A fold that is stuck holds up only those who wait for it."""
    summarizer = StuckSummarizer()
    bench = Bench(summarizer)
    stuck = asyncio.ensure_future(bench.asks())
    while not summarizer.jobs:
        await asyncio.sleep(0)
    bench.maker._summarizer = None
    brief, _ = await asyncio.wait_for(bench.asks(OTHER), 2)

    assert brief.level is Level.EXTRACTIVE
    assert not stuck.done()
    summarizer.release.set()
    await stuck


async def test_who_leaves_takes_nobody_with_it() -> None:
    """The first to ask is cancelled, and the rest; the fold goes on and is stored."""
    summarizer = StuckSummarizer()
    bench = Bench(summarizer)
    requests = [asyncio.ensure_future(bench.asks()) for _ in range(5)]
    while not summarizer.jobs:
        await asyncio.sleep(0)
    for request in requests[:3]:
        request.cancel()
    summarizer.release.set()
    made = await asyncio.gather(*requests, return_exceptions=True)

    assert [isinstance(each, asyncio.CancelledError) for each in made] == [True] * 3 + [False] * 2
    assert len(summarizer.jobs) == 1
    assert await bench.store.find(b"scope", [KEY]) is not None


async def test_a_fold_that_nobody_waits_for_is_dropped() -> None:
    """When the last client has left, so has the summary; the next to ask begins anew."""
    summarizer = StuckSummarizer()
    bench = Bench(summarizer)
    requests = [asyncio.ensure_future(bench.asks()) for _ in range(3)]
    while not summarizer.jobs:
        await asyncio.sleep(0)
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    await bench.tasks.drain(1)
    summarizer.release.set()
    brief, is_new = await bench.asks()

    assert len(summarizer.jobs) == 2
    assert (brief.level, is_new) == (Level.BRIEF, True)


async def test_the_next_brief_waits_until_it_is_needed() -> None:
    """Made once for a base, whatever it takes; it waits and is not applied."""
    summarizer = StuckSummarizer()
    bench = Bench(summarizer)
    for key in (KEY, OTHER):
        bench.maker.prepare(counted_exchange(), b"scope", b"base", key, lambda: JOB)
    await asyncio.wait_for(bench.maker.prepared(b"other base"), 1)
    summarizer.release.set()
    await asyncio.wait_for(bench.maker.prepared(b"base"), 2)
    waiting = await bench.store.find_waiting(b"scope", [KEY])

    assert waiting is not None
    assert waiting.level is Level.BRIEF
    assert await bench.store.find_waiting(b"scope", [OTHER]) is None
    assert await bench.store.find(b"scope", [KEY]) is None


async def test_what_is_not_ready_is_waited_for_no_longer_than_the_deadline() -> None:
    """A stuck preparation costs a request its deadline at most."""
    summarizer = StuckSummarizer()
    bench = Bench(summarizer, deadline_s=0.01)
    bench.maker.prepare(counted_exchange(), b"scope", b"base", KEY, lambda: JOB)
    await asyncio.wait_for(bench.maker.prepared(b"base"), 2)

    assert await bench.store.find_waiting(b"scope", [KEY]) is None
    summarizer.release.set()
    await bench.tasks.drain(5)


async def test_without_a_written_one_an_extract_waits() -> None:
    bench = Bench(FakeSummarizer(nothing))
    bench.maker.prepare(counted_exchange(), b"scope", b"base", KEY, lambda: JOB)
    await bench.tasks.drain(5)
    waiting = await bench.store.find_waiting(b"scope", [KEY])

    assert waiting is not None
    assert waiting.level is Level.EXTRACTIVE


async def test_only_so_many_summaries_are_written_at_once() -> None:
    """Above the bound folds are extractive at once; when some have ended there is room again."""
    summarizer = StuckSummarizer()
    bench = Bench(summarizer, deadline_s=0)
    made = await asyncio.gather(*(bench.asks(number.to_bytes(32, "big")) for number in range(MAX_WRITING + 20)))

    assert {brief.level for brief, _ in made} == {Level.EXTRACTIVE}
    assert len(summarizer.jobs) == MAX_WRITING
    summarizer.release.set()
    await bench.tasks.drain(5)
    await bench.asks(OTHER)
    await bench.tasks.drain(5)

    assert len(summarizer.jobs) == MAX_WRITING + 1


async def test_a_summariser_that_is_off_is_not_asked() -> None:
    summarizer = FakeSummarizer()
    summarizer.is_off = True
    brief, _ = await Bench(summarizer).asks()

    assert brief.level is Level.EXTRACTIVE
    assert summarizer.jobs == []


async def test_a_brief_for_one_request_is_not_stored() -> None:
    """A smaller one for a request that has less room leaves the applied one alone."""
    bench = Bench()
    facts = " ".join(f"Unit {number} weighs {number * 37} kg." for number in range(30))
    applied, _ = await bench.asks(job=FoldJob(3, (), None, (*TURNS, Turn(3, "user", facts)), 300))
    smaller = await bench.maker.refold(PROFILE, FoldJob(3, (), applied, (), 150))

    assert smaller.tokens <= 150 < applied.tokens
    assert await bench.store.find(b"scope", [KEY]) is applied


class DroppingStore(MemoryBriefStore):
    """Keeps nothing: a store so small, or so slow, that each brief is gone when it is looked for."""

    async def find(self, scope: bytes, chain: Sequence[bytes]) -> Brief | None:
        return None


async def test_a_store_that_keeps_nothing_still_serves() -> None:
    """Each request folds for itself then, and is answered."""
    bench = Bench(store=DroppingStore(1))

    assert [(await bench.asks())[1], (await bench.asks())[1]] == [True, False]
