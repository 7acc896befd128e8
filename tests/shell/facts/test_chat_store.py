"""A store as chats use it bears with one that fails, hangs and comes again; its pauses are a clock's of the test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.core.facts.memory import Found, Kind, Memory, Scope, Sought, Stored, Wanted
from gateway.ports_memory import MemoryFault
from gateway.shell.facts.chat_store import ChatMemoryStore
from gateway.shell.facts.sqlite import SqliteMemoryStore
from tests.shell.facts.memories import ALICE, BOB, fact, told

QUESTION = Sought(terms=[1])


class Unsteady(SqliteMemoryStore):
    """A store in memory that fails as often as it is told to, before or after it has done its work, or hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[str] = []
        self.asked = 0
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.batches: list[int] = []

    async def _meet(self) -> None:
        self.asked += 1
        await self.hangs.wait()
        if self.failures:
            raise MemoryFault(self.failures.pop(0), "as told")

    async def put(self, scope: Scope, memories: Sequence[Memory]) -> Sequence[Stored]:
        is_late = self.failures[:1] == ["late"]
        if is_late:
            self.failures[0] = "down"
            await super().put(scope, memories)
        await self._meet()
        self.batches.append(len(memories))
        return await super().put(scope, memories)

    async def search(self, scope: Scope, sought: Sought, limit: int) -> Sequence[Found]:
        await self._meet()
        if sought.model == "bad":
            raise ValueError("as told")
        return await super().search(scope, sought, limit)


class Hands:
    """A clock's."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def chat_store(store: Unsteady, **rest: Any) -> ChatMemoryStore:
    return ChatMemoryStore(store, **({"chance": lambda: 0.0, "search_s": 30.0} | rest))


async def test_a_search_that_hangs_is_left_to_itself() -> None:
    """The chat goes on; a later search succeeds."""
    store, hands = Unsteady(), Hands()
    calls = chat_store(store, search_s=0.01, clock=hands)
    store.hangs.clear()
    with pytest.raises(MemoryFault) as failed:
        await calls.search(ALICE, QUESTION, 3)
    store.hangs.set()
    hands.now_s += 1

    assert failed.value.kind == "timeout"
    assert await chat_store(store).search(ALICE, QUESTION, 3) == []
    await store.close()


async def test_after_a_fault_searches_rest() -> None:
    """For a pause that doubles while the store fails; then one search finds out, and all go on."""
    store, hands = Unsteady(), Hands()
    calls = chat_store(store, clock=hands)
    store.failures = ["down"] * 3
    asked_s: list[float] = []
    while store.failures or calls.is_resting:
        before = store.asked
        with contextlib.suppress(MemoryFault):
            await calls.search(ALICE, QUESTION, 3)
        asked_s += [hands.now_s] * (store.asked - before)
        hands.now_s += 0.05
    first, second, third = (later_s - s for s, later_s in itertools.pairwise(asked_s))

    assert 0.4 < first < second / 1.5 < third / 2.25
    assert calls.faults["down"] == 3
    assert calls.faults["resting"] > 20
    await store.close()


@pytest.mark.parametrize("end", ["cancelled", "refused"])
async def test_a_probe_that_ends_otherwise_gives_its_place_back(end: str) -> None:
    """Its client left, or its question was wrong."""
    store, hands = Unsteady(), Hands()
    calls = chat_store(store, clock=hands)
    store.failures = ["down"]
    with pytest.raises(MemoryFault):
        await calls.search(ALICE, QUESTION, 3)
    hands.now_s += 5
    if end == "cancelled":
        store.hangs.clear()
        probe = asyncio.create_task(calls.search(ALICE, QUESTION, 3))
        while store.asked < 2:
            await asyncio.sleep(0)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        store.hangs.set()
    else:
        with pytest.raises(ValueError, match="as told"):
            await calls.search(ALICE, Sought(terms=[1], model="bad"), 3)

    assert await calls.search(ALICE, QUESTION, 3) == []
    await store.close()


async def test_what_is_put_later_is_stored() -> None:
    """After faults, too; what waits for one scope is put together."""
    store = Unsteady()
    calls = chat_store(store)
    store.failures = ["down", "timeout", "full", "down", "down"]
    for number in range(1000):
        calls.put_later(ALICE if number < 600 else BOB, [fact("s", "p", str(number))])
    calls.put_later(ALICE, [])
    assert calls.waiting == 1000

    await calls.close(30)
    assert (calls.waiting, calls.dropped) == (0, 0)
    assert await store.names(ALICE.owner) | await store.names(BOB.owner) == {"notes": 400}
    assert await store.totals() == {Kind.FACT: 1000, Kind.CONTEXT: 0}
    assert max(store.batches) > 100
    await store.close()


async def test_the_oldest_that_wait_are_dropped() -> None:
    """When there are more than may be; what cannot be stored at all is dropped, and nothing else with it."""
    store = Unsteady()
    calls = chat_store(store, max_later=10)
    store.hangs.clear()
    for number in range(25):
        calls.put_later(Scope(b"a" * 32, f"s{number}"), [fact("s", "p", str(number))])
    assert (calls.waiting, calls.dropped) == (10, 15)
    store.hangs.set()
    await calls.close(30)
    assert sorted(await store.names(b"a" * 32)) == sorted(f"s{number}" for number in range(15, 25))

    calls.put_later(ALICE, [fact("s", "p", "good"), fact("s", "p", "bad", id="x"), fact("s", "p", "too")])
    await calls.close(30)
    assert (calls.waiting, calls.dropped) == (0, 16)
    assert sorted(told((await store.page(ALICE, Wanted(), None, 9)).memories)) == ["s p good", "s p too"]
    await store.close()


async def test_closing_ends_by_its_deadline() -> None:
    """What still waits is counted."""
    store = Unsteady()
    calls = chat_store(store)
    store.hangs.clear()
    for number in range(7):
        calls.put_later(ALICE, [fact("s", "p", str(number))])
    await calls.close(0.01)

    assert (calls.waiting, calls.dropped) == (0, 7)
    store.hangs.set()
    await store.close()
