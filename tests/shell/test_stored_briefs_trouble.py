"""Briefs over a state store that fails or holds what cannot be read, and over the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.context.shorten import Arrangement
from gateway.shell.state.briefs import SPACE, StoredBriefs
from gateway.shell.state.redis import RedisStateStore
from gateway.shell.state.sqlite import SqliteStateStore
from tests.redis_server import RedisServer, StallingWire, redis_server, shared_redis
from tests.shell.brief_worlds import TTL_S, S, Shared, T, arrangement, brief, chain, key

__all__ = ["redis_server", "shared_redis"]


@pytest.fixture
def shared() -> Shared:
    return Shared()


async def test_entries_that_cannot_be_read_are_absent_counted_and_written_over(shared: Shared) -> None:
    """Damaged, foreign, of another version, or moved here from another key."""
    await shared.process().put_if_absent(S, key(1), brief("good"))
    await shared.process().put_if_absent(S, key(2), brief("moved", 2))
    moved = await shared.store.get(SPACE, S + key(2) + b"a")
    assert moved is not None
    for number, value in ((2, b"\x63from the future"), (3, b""), (4, b"\x01damaged, plainly"), (5, moved)):
        await shared.store.put(SPACE, S + key(number) + b"a", value, TTL_S)
    briefs = shared.process()

    assert await briefs.find(S, chain(6)) == brief("good")
    assert briefs.ignored == {"form": 1, "unreadable": 1, "checksum": 2}
    assert await briefs.put_if_absent(S, key(4), brief("mended", 4)) == brief("mended", 4)
    assert await shared.process().find(S, chain(6)) == brief("mended", 4)


@pytest.mark.parametrize("mark", [b"", b"short", b"x" * 17, b"\xff" * 100])
async def test_a_mark_that_is_none_is_ignored(mark: bytes, shared: Shared) -> None:
    """The scope is empty then, until something is put."""
    await shared.process().put_if_absent(S, key(1), brief())
    await shared.store.put(SPACE, S, mark, TTL_S)
    briefs = shared.process()

    assert await briefs.find(S, chain(2)) is None
    assert briefs.ignored == {"mark": 1}
    await briefs.put_if_absent(S, key(2), brief("new", 2))
    assert await shared.process().find(S, chain(4)) == brief("new", 2)


async def test_without_the_store_memory_serves(shared: Shared) -> None:
    """What was applied stays, new ones are kept, nothing raises; a store that is back is used again."""
    briefs = shared.process()
    await briefs.put_if_absent(S, key(1), brief("before"))
    shared.store.is_down = True
    shared.let_pass(60)
    assert await briefs.find(S, chain(4)) == brief("before")
    await briefs.put_if_absent(S, key(2), brief("meanwhile", 2))
    await briefs.put_waiting(S, key(3), brief("next", 3))
    await briefs.put_arrangement(S, key(3), arrangement(2))
    assert await briefs.find(S, chain(4)) == brief("meanwhile", 2)
    assert await briefs.find_waiting(S, chain(4)) == brief("next", 3)
    assert await briefs.find_arrangement(S, chain(4)) == arrangement(2)
    assert await briefs.find(T, chain(4, 500)) is None
    assert briefs.is_empty(T)
    shared.store.is_down = False
    shared.let_pass(60)

    assert await briefs.find(S, chain(4)) == brief("meanwhile", 2)
    await briefs.put_if_absent(S, key(3), brief("after", 3))
    assert await shared.process().find(S, chain(4)) == brief("after", 3)


async def test_an_outage_is_asked_about_once_in_a_while(shared: Shared) -> None:
    """Not at each look-up of each request."""
    shared.store.is_down = True
    briefs = shared.process()
    for _ in range(10):
        await briefs.find(S, chain(400))
        await briefs.find_arrangement(S, chain(400))

    assert shared.trips() == [("get_many", 1)]


async def test_text_that_has_no_bytes_stays_in_memory(shared: Shared) -> None:
    """Half of a surrogate pair: the brief serves in this process, and that it is nowhere else is counted."""
    briefs = shared.process()
    odd = brief("\ud800")
    await briefs.put_if_absent(S, key(1), odd)
    await briefs.put_arrangement(S, key(1), Arrangement(1, (), ("\udfff",)))

    assert await briefs.find(S, chain(3)) is odd
    assert await briefs.find_arrangement(S, chain(3)) is not None
    assert briefs.ignored == {"unwritable": 2}


async def test_what_is_known_of_scopes_is_bounded(shared: Shared) -> None:
    """Of those that were asked for longest ago nothing is held, and all is found again."""
    briefs = shared.process()
    await briefs.put_if_absent(S, key(1), brief())
    held = briefs.held_bytes
    for number in range(20_000):
        await briefs.find(key(number), [])

    assert held > 0
    assert briefs.held_bytes == 0
    assert await briefs.find(S, chain(3)) == brief()


# The real stores


@pytest.fixture(params=["sqlite", "redis"])
async def real(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """Two connections to one store."""
    if request.param == "sqlite":
        stores: list[Any] = [SqliteStateStore(tmp_path / "state.db", 10**7) for _ in range(2)]
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        stores = [RedisStateStore(server.url, 10**7) for _ in range(2)]
    yield stores
    for store in stores:
        await store.close()


async def test_two_gateways_share_briefs(real: Any) -> None:
    """Through a real store: one applied brief for each of many prefixes, found by both, forgotten by both."""
    one, two = (StoredBriefs(store, 10**7, TTL_S, fresh_s=0.0) for store in real)
    for first in range(0, 50, 10):  # a few at a time: a slow machine needs no more patience than a store has
        numbers = range(first, first + 10)
        await asyncio.gather(
            *(one.put_if_absent(S, key(number), brief("1", number)) for number in numbers),
            *(two.put_if_absent(S, key(number), brief("2", number)) for number in numbers),
        )
    found = [[await each.find(S, [key(number)]) for number in range(50)] for each in (one, two)]
    assert found[0] == found[1]
    assert None not in found[0]

    assert await one.find(S, chain(1000)) == found[0][49]
    assert await two.forget(S) == 50
    assert await one.find(S, chain(1000)) is None
    assert [store.faults for store in real] == [{}, {}]


async def test_a_stalling_redis_costs_one_patience(redis_server: RedisServer) -> None:
    """Whatever is asked of the briefs meanwhile."""
    async with StallingWire(redis_server.port) as wire:
        store = RedisStateStore(wire.url, 10**7)
        briefs = StoredBriefs(store, 10**7, TTL_S, fresh_s=0.0)
        await briefs.put_if_absent(S, key(1), brief())
        wire.stall()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for _ in range(20):
            assert await briefs.find(S, chain(400)) == brief()
            await briefs.find_waiting(S, chain(400))
            await briefs.put_waiting(S, key(2), brief())
        took_s = loop.time() - began_s
        await store.close()

    assert took_s < 0.6
