"""The store in a file outlives trouble with the file; what every store promises is in `test_state_store`."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.shell.state.key_value import ENTRY_BYTES
from gateway.shell.state.sqlite import APPLICATION_ID, DAMAGED, SqliteStateStore
from tests.shell.test_state_store import MAX_BYTES, Clock, listed


@asynccontextmanager
async def opened(path: Path, max_bytes: int = MAX_BYTES, clock: Clock | None = None) -> AsyncIterator[SqliteStateStore]:
    store = SqliteStateStore(path, max_bytes, clock or Clock())
    try:
        yield store
    finally:
        await store.close()


async def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    """Neither an orderly one, nor one without a close; the file is its owner's alone."""
    path = tmp_path / "state.db"
    async with opened(path) as store:
        await store.put("s", b"a", b"1", ttl_s=1000)
    killed = SqliteStateStore(path, MAX_BYTES, Clock())
    await killed.put("s", b"b", b"2")
    async with opened(path) as store:
        assert await listed(store) == [(b"a", b"1"), (b"b", b"2")]
        assert store.held_bytes == 2 * (ENTRY_BYTES + 3)
    await killed.close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def damaged_in_the_middle(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    for page in range(1, len(raw) // 4096):
        raw[page * 4096 : page * 4096 + 200] = os.urandom(200)
    path.write_bytes(raw)


def from_the_future(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"hello" * 1000),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "damaged in the middle": damaged_in_the_middle,
    "of a newer format": from_the_future,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_file_is_set_aside(
    tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    """Loudly; its bytes are kept, and a new file serves."""
    path = tmp_path / "state.db"
    async with opened(path) as store:
        for number in range(100):
            await store.put("s", b"%d" % number, b"x" * 500)
    damage(path)
    spoiled = path.read_bytes()
    async with opened(path) as store:
        await store.open()
        await store.put("s", b"k", b"v")

        assert await listed(store) == [(b"k", b"v")]
        assert store.faults == {"set_aside": 1}
    assert path.with_name("state.db" + DAMAGED).read_bytes()[4096:] == spoiled[4096:]
    assert "set aside" in caplog.text


async def test_damage_while_in_use_is_survived(tmp_path: Path) -> None:
    """Whatever happens to the file under a running store, calls return, and in the end it works again."""
    path = tmp_path / "state.db"
    async with opened(path) as store:
        for number in range(100):
            await store.put("s", b"%d" % number, b"x" * 500)
        store._thread.submit(lambda: store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")).result()  # type: ignore[union-attr]
        damaged_in_the_middle(path)
        for number in range(300):
            await store.put("s", b"n%d" % number, b"x" * 500)
        await store.put("s", b"last", b"v")

        assert await store.get("s", b"last") == b"v"
        assert set(store.faults) <= {"set_aside", "damaged"}


async def test_another_programs_database_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE customers (name TEXT)")
    db.close()
    before = path.read_bytes()
    async with opened(path) as store:
        await store.put("s", b"k", b"v")

        assert await store.get("s", b"k") is None
        assert await store.put_if_absent("s", b"k", b"v") == b"v"
        assert await store.delete_prefix("s", b"") == 0
        assert await listed(store) == []
        assert store.faults == {"down": 5}
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["app.db"]
    assert "another program" in caplog.records[0].error  # type: ignore[attr-defined]


async def test_a_place_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not with each call, and it stops nothing."""
    async with opened(tmp_path / "no" / "such" / "folder.db") as store:
        for _ in range(20):
            assert await store.get("s", b"k") is None
    assert store.faults == {"down": 20}
    assert caplog.text.count("cannot be used") == 1


async def test_a_locked_file_is_waited_for_a_little(tmp_path: Path) -> None:
    """Another process writes for long: calls return in bounded time, what they wanted is lost and counted."""
    path = tmp_path / "state.db"
    async with opened(path) as store:
        await store.put("s", b"k", b"old")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        began_s = asyncio.get_running_loop().time()
        await store.put("s", b"k", b"new")
        took_s = asyncio.get_running_loop().time() - began_s
        found = await store.get("s", b"k")
        other.execute("ROLLBACK")
        other.close()
        await store.put("s", b"k", b"newer")

        assert took_s < 1
        assert found == b"old"
        assert store.faults == {"busy": 1}
        assert await store.get("s", b"k") == b"newer"


async def test_two_processes_may_share_a_file(tmp_path: Path) -> None:
    """Each sees what the other wrote, and the first of two still stands."""
    async with opened(tmp_path / "f") as one, opened(tmp_path / "f") as two:
        await one.put("s", b"k", b"1")

        assert await two.get("s", b"k") == b"1"
        assert await two.put_if_absent("s", b"k", b"2") == b"1"


async def test_processes_that_start_together_share_a_file(tmp_path: Path) -> None:
    """Whichever makes it: all of them use it, and of their writes one stands."""
    for place in range(20):
        async with AsyncExitStack() as stack:
            path = tmp_path / f"{place}"
            stores = [await stack.enter_async_context(opened(path)) for _ in range(4)]
            await asyncio.gather(*(store.open() for store in stores))
            stood = await asyncio.gather(
                *(store.put_if_absent("s", b"k", b"%d" % number) for number, store in enumerate(stores))
            )

            assert len(set(stood)) == 1
            assert [store.faults for store in stores] == [{}] * 4


async def test_a_stuck_disk_holds_nobody_up(tmp_path: Path) -> None:
    """A call gives up after its patience; a thousand waiting ones are enough; afterwards all is well."""
    async with opened(tmp_path / "f") as store:
        release = threading.Event()
        store._thread.submit(release.wait)
        began_s = asyncio.get_running_loop().time()
        found = await asyncio.gather(*(store.get("s", b"k") for _ in range(1500)))
        took_s = asyncio.get_running_loop().time() - began_s
        release.set()
        while store._pending:
            await asyncio.sleep(0.01)
        await store.put("s", b"k", b"v")

        assert found == [None] * 1500
        assert took_s < 2
        assert store.faults == {"overloaded": 476, "slow": 1024}
        assert await store.get("s", b"k") == b"v"


async def test_one_call_waits_for_a_stuck_disk_and_those_after_it_do_not(tmp_path: Path) -> None:
    """What they wrote arrives when the disk does."""
    async with opened(tmp_path / "f") as store:
        release = threading.Event()
        store._thread.submit(release.wait)
        await store.get("s", b"k")
        began_s = asyncio.get_running_loop().time()
        for number in range(100):
            await store.put("s", b"%d" % number, b"v")
        took_s = asyncio.get_running_loop().time() - began_s
        release.set()
        while store._pending:
            await asyncio.sleep(0.01)

        assert took_s < 0.2
        assert store.faults == {"slow": 101}
        assert len(await listed(store)) == 100


async def test_the_file_stays_small(tmp_path: Path) -> None:
    """A thousand times the bound is written; the file and its log stay within a few times the bound."""
    path = tmp_path / "f"
    async with opened(path, 500_000) as store:
        for number in range(3000):
            await store.put("s", b"%d" % (number % 777), os.urandom(3000))
        size = sum(entry.stat().st_size for entry in tmp_path.iterdir())

        assert store.held_bytes <= 500_000
        assert size < 6_000_000
        assert not store.faults


async def test_room_that_is_free_goes_back_to_the_disk(tmp_path: Path) -> None:
    """Once most of what was kept has expired, making room gives back many pages, not one."""
    path, clock = tmp_path / "f", Clock()
    async with opened(path, 500_000, clock) as store:
        for number in range(55):
            await store.put("s", b"%d" % number, os.urandom(8_000), ttl_s=10)
        clock.now_s += 60
        for number in range(12):
            await store.put("s", b"later %d" % number, os.urandom(8_000))
        db = sqlite3.connect(path)
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.close()

    assert pages < 60


async def test_a_closed_store_is_quiet(tmp_path: Path) -> None:
    """A late write is lost and counted, and does not open the file again."""
    store = SqliteStateStore(tmp_path / "f", MAX_BYTES, Clock())
    await store.put("s", b"k", b"v")
    await store.close()
    await store.put("s", b"k", b"w")

    assert store.faults == {"closed": 1}
    assert Record.owner(tmp_path / "f") == APPLICATION_ID


class Record:
    """What stands in a file."""

    @staticmethod
    def owner(path: Path) -> int:
        db = sqlite3.connect(path)
        (found,) = db.execute("PRAGMA application_id").fetchone()
        db.close()
        return int(found)
