"""Memories in a file outlive the process, damage and other processes; what every store promises is elsewhere."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core.facts.memory import Kind, Wanted
from gateway.ports_memory import MemoryFault
from gateway.shell.facts.sqlite import SqliteMemoryStore
from gateway.shell.facts.sqlite_file import DAMAGED
from tests.shell.facts.memories import ALICE, BOB, NOW_US, Clock, fact, same, text, told

ROOT = Path(__file__).resolve().parents[3]


def child(path: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.shell.facts.writing_child", str(path), str(first), str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("after", [1, 700, 2500])
async def test_what_was_acknowledged_outlives_kill_9(tmp_path: Path, after: int) -> None:
    """In the midst of 10,000 inserts; the file is sound, and a new process goes on with it."""
    path = tmp_path / "facts.db"
    process = child(path, 0, 10_000)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(after)]
    process.kill()
    said += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    acknowledged = {int(line) for line in said if line.endswith("\n")}
    store = SqliteMemoryStore(path)
    kept = {memory.observed_us async for memory in store.scan(ALICE)}
    (stored,) = await store.put(ALICE, [fact("one", "is", "more")])
    await store.close()
    with sqlite3.connect(path) as db:
        checked = db.execute("PRAGMA integrity_check").fetchall()
        (postings,) = db.execute("SELECT count(DISTINCT memory) FROM postings").fetchone()
        (counted,) = db.execute("SELECT memories FROM figures WHERE kind = 0").fetchone()
    db.close()

    assert after <= len(acknowledged) < 10_000
    assert acknowledged <= kept
    assert checked == [("ok",)]
    assert postings == counted == len(kept) + 1
    assert not stored.is_duplicate


async def test_processes_share_a_file(tmp_path: Path) -> None:
    """All that two of them and this one store at once is there, also to a reader that was open all along."""
    path = tmp_path / "facts.db"
    store = SqliteMemoryStore(path)
    assert (await store.page(ALICE, Wanted(), None, 1)).total == 0
    processes = [child(path, first, 300) for first in (0, 200)]
    await asyncio.gather(*(store.put(BOB, [fact("bob", "is", str(number))]) for number in range(300)))
    codes = [await asyncio.to_thread(process.wait) for process in processes]
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()

    assert codes == [0, 0]
    assert (await store.page(ALICE, Wanted(), None, 1)).total == 500
    assert (await store.page(BOB, Wanted(), None, 1)).total == 300
    assert store.faults == {}
    await store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_nothing_is_on_disk_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteMemoryStore()
    await store.put(ALICE, [text(f"number {number}") for number in range(100)])
    await store.close()

    assert list(tmp_path.iterdir()) == []


def damaged_in_the_middle(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    for page in range(1, len(raw) // 4096):
        raw[page * 4096 : page * 4096 + 200] = os.urandom(200)
    path.write_bytes(raw)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"hello" * 1000),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "damaged in the middle": damaged_in_the_middle,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_file_is_set_aside(
    tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    """Loudly; its bytes are kept, and a new file serves reader and writer."""
    path = tmp_path / "facts.db"
    store = SqliteMemoryStore(path)
    await store.put(ALICE, [text(f"number {number}") for number in range(100)])
    await store.close()
    damage(path)
    spoiled = path.read_bytes()
    store = SqliteMemoryStore(path)
    await store.open()
    await store.put(ALICE, [text("new")])
    page = await store.page(ALICE, Wanted(), None, 9)
    await store.close()

    assert told(page.memories) == ["new"]
    assert store.faults == {"set_aside": 1}
    assert path.with_name("facts.db" + DAMAGED).read_bytes()[4096:] == spoiled[4096:]
    assert "set aside" in caplog.text


async def test_a_file_that_another_process_sets_aside_is_let_go(tmp_path: Path) -> None:
    """The next call uses the new one, and nothing is written into the old."""
    path = tmp_path / "facts.db"
    store = SqliteMemoryStore(path)
    await store.put(ALICE, [text("old")])
    for suffix in ("", "-wal", "-shm"):
        path.with_name(f"facts.db{suffix}").rename(tmp_path / f"aside{suffix}")
    await store.put(ALICE, [text("new")])

    assert told((await store.page(ALICE, Wanted(), None, 9)).memories) == ["new"]
    await store.close()
    with sqlite3.connect(tmp_path / "aside") as db:
        assert db.execute("SELECT count(*) FROM memories").fetchone() == (1,)
    db.close()


def another_programs(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE customers (name TEXT)")
    db.close()


def from_the_future(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id = 0x4C4D4746")
        db.execute("PRAGMA user_version = 99")
        db.execute("CREATE TABLE memories (name TEXT)")
    db.close()


@pytest.mark.parametrize(("make", "said"), [(another_programs, "another program"), (from_the_future, "later version")])
async def test_what_is_not_ours_is_left_alone(
    tmp_path: Path, make: Callable[[Path], None], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another program's database, and a later version's: not a byte changes, and each call says that there is none."""
    path = tmp_path / "app.db"
    make(path)
    before = path.read_bytes()
    store = SqliteMemoryStore(path)
    calls = [store.open, store.totals, store.sweep, lambda: store.put(ALICE, [text("x")])]
    for call in calls:
        with pytest.raises(MemoryFault, match=said) as failed:
            await call()
        assert failed.value.kind == "down"
    await store.close()

    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["app.db"]
    assert 1 <= caplog.text.count("cannot be used") <= 2


async def test_a_full_store_lets_the_oldest_go(tmp_path: Path) -> None:
    """What has expired first, then what has ended, then what was stored first; and it is counted."""
    clock = Clock()
    store = SqliteMemoryStore(tmp_path / "facts.db", max_bytes=400_000, clock=clock)
    await store.put(ALICE, [fact("old", "was", str(n), topic=True, observed_us=n) for n in range(50)])
    await store.put(ALICE, [text("expires " * 50 + str(n), expires_us=NOW_US + 5) for n in range(100)])
    clock.now_us += 10
    kept = [text(f"kept {n}") for n in range(200)]
    await store.put(ALICE, kept)
    assert store.evicted == 0

    newest = [text(f"number {n}") for n in range(3000)]
    for first in range(0, 3000, 100):
        await store.put(BOB, newest[first : first + 100])
    left = [memory async for memory in store.scan(BOB)]
    totals = await store.totals()

    assert store.evicted >= 2000
    assert totals[Kind.CONTEXT] + totals[Kind.FACT] + store.evicted == 3250
    assert {memory.id for memory in left} == {memory.id for memory in newest[-len(left) :]}
    assert same(await store.get(BOB.owner, newest[-1].id, Kind.CONTEXT), newest[-1])
    assert (await store.page(ALICE, Wanted(with_ended=True), None, 9)).total == 0
    await store.close()
    size = sum(each.stat().st_size for each in tmp_path.iterdir())
    assert size < 4_000_000


async def test_a_put_larger_than_the_store_is_refused() -> None:
    store = SqliteMemoryStore(max_bytes=10_000)
    await store.put(ALICE, [text("small")])
    with pytest.raises(ValueError, match="larger"):
        await store.put(ALICE, [text("x" * 20_000)])

    assert told((await store.page(ALICE, Wanted(), None, 9)).memories) == ["small"]
    await store.close()


async def test_one_that_fails_takes_no_other_with_it() -> None:
    """Calls that share a transaction fail alone."""
    store = SqliteMemoryStore()
    good = [fact("good", "is", str(number)) for number in range(50)]
    bad = [fact("bad", "is", str(number), id=good[0].id) for number in range(50)]
    calls = [store.put(ALICE, [memory]) for pair in zip(good, bad, strict=True) for memory in pair]
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert [isinstance(result, ValueError) for result in results] == [False, True] * 50
    assert (await store.page(ALICE, Wanted(), None, 1)).total == 50
    await store.close()


async def test_a_closed_store_says_so() -> None:
    store = SqliteMemoryStore()
    await store.put(ALICE, [text("x")])
    await store.close()
    await store.close()
    with pytest.raises(MemoryFault, match="closed"):
        await store.totals()
