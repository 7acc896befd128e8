"""What named sessions have said: in every store, by several processes, and where the store fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.core.context.facts import MessageFacts, learn_facts
from gateway.core.context.journal import session_key
from gateway.core.tokens.weight import Weight
from gateway.exchange import Session
from gateway.ports import StateStore
from gateway.shell.state.journal import SPACE, StoredJournal
from gateway.shell.state.key_value import MemoryStateStore
from gateway.tasks import TaskGroup
from tests.redis_server import redis_server, shared_redis
from tests.shell.test_state_store import MAX_BYTES, World

__all__ = ["redis_server", "shared_redis"]
SCOPE = b"b" * 32
MINE = Session(session_key(b"me", "trip"), SCOPE)


class Process:
    """A gateway process, as far as its journal goes."""

    def __init__(self, store: StateStore, max_messages: int = 100, max_bytes: int = 50_000, near: int = 10**6) -> None:
        self.tasks = TaskGroup()
        self.journal = StoredJournal(store, self.tasks, 1000, max_messages, max_bytes, near)

    async def keep(self, *texts: str, session: Session = MINE) -> None:
        self.journal.keep(session, *read(texts))
        await self.tasks.drain(5)

    async def texts(self, session: Session = MINE) -> list[str]:
        return [kept.text for kept in await self.journal.read(session.key)]

    async def numbers(self) -> list[int]:
        return [kept.number for kept in await self.journal.read(MINE.key)]


def read(texts: Sequence[str]) -> tuple[list[bytes], list[MessageFacts]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": text} for text in texts]
    raws = [json.dumps(message).encode() for message in messages]
    return raws, [learn_facts(message, Weight((), 0), len(message["content"])) for message in messages]


@pytest_asyncio.fixture(params=["memory", "sqlite", "redis"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    async with AsyncExitStack() as stack:
        yield World(request.param, tmp_path, server, stack)


async def test_messages_come_back_in_the_order_of_their_first_coming(world: World) -> None:
    """Each once, with numbers that only grow, to this process and to another."""
    store = await world.store()
    here, there = Process(store), Process(store)
    await here.keep("one", "two")
    await here.keep("two", "three")
    await there.keep("one", "four")
    await here.keep("five")

    assert await here.texts() == await there.texts() == ["one", "two", "three", "four", "five"]
    assert await here.numbers() == await there.numbers() == [1, 2, 3, 4, 5]


async def test_many_messages_take_many_segments(world: World) -> None:
    """A process that starts later reads all of them."""
    store = await world.store(10**7)
    texts = [f"message {number}" for number in range(500)]
    await Process(store, 2000, 10**6).keep(*texts)

    assert await Process(store, 2000, 10**6).texts() == texts


async def test_processes_that_write_at_once_lose_nothing(world: World) -> None:
    """Whoever comes second writes behind the first; what both bring is there once."""
    store = await world.store()
    processes = [Process(store) for _ in range(4)]
    await asyncio.gather(*(process.keep("shared", f"own {at}") for at, process in enumerate(processes)))
    seen = [await process.texts() for process in (*processes, Process(store))]

    assert all(texts == seen[0] for texts in seen)
    assert sorted(seen[0]) == ["own 0", "own 1", "own 2", "own 3", "shared"]
    assert await processes[0].numbers() == sorted(set(await processes[0].numbers()))


async def test_the_oldest_go_first(world: World) -> None:
    """By number and by bytes; numbers go on, and a process that starts later sees the same."""
    store = await world.store()
    by_number, by_bytes = Process(store, max_messages=16), Process(store, max_bytes=4000)
    other = Session(session_key(b"me", "long"), SCOPE)
    for turn in range(30):
        await by_number.keep(f"turn {turn}")
        await by_bytes.keep(f"turn {turn} " + "x" * 500, session=other)

    assert await by_number.texts() == await Process(store).texts() == [f"turn {turn}" for turn in range(14, 30)]
    assert await by_number.numbers() == list(range(15, 31))
    assert [text.split(" x")[0] for text in await by_bytes.texts(other)] == [f"turn {turn}" for turn in range(25, 30)]


async def test_one_message_above_the_bound_is_not_kept(world: World) -> None:
    """Nor does it drive out what is there."""
    process = Process(await world.store(), max_bytes=4000)
    await process.keep("short")
    await process.keep("x" * 90_000)

    assert await process.texts() == ["short"]


async def test_what_is_not_used_goes(world: World) -> None:
    """After its time; what is read lives on."""
    store = await world.store()
    process = Process(store)
    other = Session(session_key(b"me", "other"), SCOPE)
    await process.keep("used")
    await process.keep("unused", session=other)
    world.let_pass(900)
    reader = Process(store)
    await reader.texts()
    await reader.tasks.drain(5)
    world.let_pass(900)

    assert await process.texts() == await reader.texts() == ["used"]
    assert await process.texts(other) == []


async def test_what_is_forgotten_is_gone_everywhere(world: World) -> None:
    """At once, here and for other processes; other sessions stay, and a new one of the name starts empty."""
    store = await world.store()
    here, there = Process(store), Process(store)
    other = Session(session_key(b"somebody", "trip"), SCOPE)
    await here.keep("mine")
    await here.keep("theirs", session=other)
    await there.keep("mine too")
    gone = await here.journal.forget(MINE.key)
    again = await here.journal.forget(MINE.key)

    assert gone is not None
    assert again is not None
    assert (gone.was_there, list(gone.brief_scopes), again.was_there) == (True, [SCOPE], False)
    assert await here.texts() == await there.texts() == []
    assert await there.texts(other) == ["theirs"]

    await there.keep("new")

    assert await here.texts() == ["new"]


async def test_what_is_still_being_written_is_forgotten_too(world: World) -> None:
    """A call that comes while the request before it is written waits for it; so does a request that reads."""
    process = Process(await world.store())
    process.journal.keep(MINE, *read(["one"]))
    process.journal.keep(MINE, *read(["two"]))
    seen = await process.texts()
    process.journal.keep(MINE, *read(["three"]))
    gone = await process.journal.forget(MINE.key)

    assert seen == ["one", "two"]
    assert gone is not None
    assert gone.was_there
    assert await process.texts() == []


async def test_damaged_entries_are_as_good_as_absent(world: World) -> None:
    """They are counted; the session goes on."""
    store = await world.store()
    await Process(store).keep("one")
    await Process(store).keep("two")
    names = [name async for name, _ in store.scan(SPACE, MINE.key + b"m")]
    await store.put(SPACE, names[0], b"\x01garbage")
    process = Process(store)

    assert await process.texts() == ["two"]
    assert process.journal.ignored.total() == 1


async def test_a_session_whose_head_is_lost_is_found_again(world: World) -> None:
    """By the next message that is kept, behind all others; a head that cannot be read is as good as lost."""
    store = await world.store()
    process = Process(store)
    texts = [f"message {number}" for number in range(20)]
    for text in texts:
        await process.keep(text)
    await store.put(SPACE, MINE.key, b"no head")
    await process.keep("newer")
    damaged = await process.texts()
    await store.delete(SPACE, MINE.key)
    await process.keep("newest")

    assert damaged == [*texts, "newer"]
    assert await process.texts() == [*texts, "newer", "newest"]


async def test_what_is_held_in_memory_is_bounded() -> None:
    """The sessions used least go from memory, and are read again."""
    process = Process(MemoryStateStore(10**7), near=20_000)
    sessions = [Session(session_key(b"me", str(number)), SCOPE) for number in range(50)]
    for session in sessions:
        await process.keep("x" * 1000, session=session)

    assert process.journal.held_bytes <= 20_000
    assert await process.texts(sessions[0]) == ["x" * 1000]


class DeadStore(MemoryStateStore):
    """`ports.StateStore` that cannot be asked."""

    async def get_many(self, space: str, keys: Sequence[bytes]) -> list[bytes | None] | None:
        return None

    async def delete_prefix(self, space: str, prefix: bytes) -> int:
        return 0


async def test_without_a_store_nothing_is_kept_and_nothing_fails() -> None:
    """And nobody is told that something was forgotten."""
    process = Process(DeadStore(MAX_BYTES))
    await process.keep("one")

    assert await process.texts() == []
    assert await process.journal.forget(MINE.key) is None
