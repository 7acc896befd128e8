"""Documents in a file outlive the process, damage and other processes; what every store promises is elsewhere."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gateway.core.vision.document import JobStatus
from gateway.ports_vision import VisionFault
from gateway.shell.facts.sqlite_file import DAMAGED
from gateway.shell.vision import sqlite_write
from gateway.shell.vision.sqlite import SqliteDocumentStore
from tests.shell.vision.documents import ALICE, BOB, NOW_US, add_page, document, index, job, laid, sought, texts
from tests.shell.vision.writing_child import PAGES, REGIONS, data_of

ROOT = Path(__file__).resolve().parents[3]


def child(path: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.shell.vision.writing_child", str(path), str(first), str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def figures_are_right(path: Path) -> None:
    """The file is sound, what is counted is what there is, and nothing is left of what is not there."""
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (held,) = db.execute("SELECT bytes FROM figures").fetchone()
        tables = ("documents", "pages", "jobs", "contents")
        assert held == sum(db.execute(f"SELECT coalesce(sum(size), 0) FROM {table}").fetchone()[0] for table in tables)
        listed = "SELECT coalesce(sum(length(data)), 0) / 11 FROM lists WHERE word = -1"
        (regions,) = db.execute("SELECT count(*) FROM regions").fetchone()
        assert db.execute(listed).fetchone() == (regions,)
        assert db.execute("SELECT coalesce(sum(count), 0) FROM pages").fetchone() == (regions,)
        used = "SELECT content FROM documents UNION SELECT content FROM jobs WHERE content IS NOT NULL"
        assert set(db.execute("SELECT id FROM contents")) == set(db.execute(used))
        assert set(db.execute("SELECT DISTINCT content FROM content_parts")) <= set(db.execute(used))
    db.close()


@pytest.mark.parametrize("after", [1, 40, 150])
async def test_kill_9_leaves_documents_whole_or_not_at_all(tmp_path: Path, after: int) -> None:
    """In the midst of pages; every acknowledged page is taken up again, and the file is sound."""
    path = tmp_path / "vision.db"
    process = child(path, 0, 1000)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(after)]
    process.kill()
    said += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    told = [line.split() for line in said if line.endswith("\n")]
    finished = {int(words[1]) for words in told if words[0] == "document"}
    pages = {(int(words[1]), int(words[2])) for words in told if words[0] == "page"}
    store = SqliteDocumentStore(path)
    listed = (await store.documents(ALICE, None, 2000)).documents
    kept = {each.created_us for each in listed}
    for each in listed:
        found = await store.search(ALICE, sought("number", doc_ids=frozenset([each.id])), 99)
        assert each.regions == len(found) == PAGES * REGIONS
        assert await store.data_of(ALICE.owner, each.id) == data_of(each.created_us)
    for number in {number for number, _ in pages} - kept:
        begun = document(ALICE, data_of(number), PAGES, created_us=number)
        assert await store.begin(begun, data_of(number)) >= max(page for each, page in pages if each == number)
    await store.close()
    figures_are_right(path)

    assert len(told) >= after
    assert finished <= kept


async def test_processes_share_a_file(tmp_path: Path) -> None:
    """All that two of them and this one keep at once is there, also to a reader that was open all along."""
    path = tmp_path / "vision.db"
    store = SqliteDocumentStore(path)
    assert (await store.documents(ALICE, None, 1)).total == 0
    processes = [child(path, first, 12) for first in (0, 6)]
    await asyncio.gather(*(index(store, BOB, b"%d" % number, [[laid("bob")]]) for number in range(30)))
    codes = [await asyncio.to_thread(process.wait) for process in processes]
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()

    assert codes == [0, 0]
    assert (await store.documents(ALICE, None, 1)).total == 18
    assert len(await store.search(ALICE, sought("region"), 999)) == 18 * PAGES * REGIONS
    assert len(await store.search(BOB, sought("bob"), 99)) == 30
    assert store.faults == {}
    await store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    figures_are_right(path)


async def test_two_stores_never_have_one_job(tmp_path: Path) -> None:
    """Two of them claim as fast as they can; leases that run out go to one of them."""
    stores = [SqliteDocumentStore(tmp_path / "vision.db") for _ in range(2)]
    jobs = [job(ALICE, created_us=number) for number in range(40)]
    for each in jobs:
        await stores[0].put_job(each, None, 99)

    async def claim(store: SqliteDocumentStore, worker: str, now_us: int) -> list[str]:
        claimed = []
        while found := await store.claim_job(worker, now_us, 100):
            claimed.append(found.id)
        return claimed

    for now_us in (NOW_US, NOW_US + 100):
        calls = [claim(store, f"{n}-{m}", now_us) for n, store in enumerate(stores) for m in range(3)]
        each_ones = await asyncio.gather(*calls)
        assert sorted(id_ for ids in each_ones for id_ in ids) == sorted(each.id for each in jobs)
    done = msgspec.structs.replace(jobs[0], status=JobStatus.SUCCEEDED, ended_us=NOW_US)
    saved = [await store.save_job(done, f"{n}-{m}", 0) for n, store in enumerate(stores) for m in range(3)]

    assert saved.count(True) == 1
    for store in stores:
        await store.close()


async def test_a_document_is_let_go_a_little_at_a_time(tmp_path: Path) -> None:
    """It is gone for all readers after the first step; others get in between, and sweeping ends what was begun."""
    path = tmp_path / "vision.db"
    store, other = SqliteDocumentStore(path), SqliteDocumentStore(path)
    pages = [[laid(f"pump {' '.join(f'w{number}x{n}' for n in range(3))}")] for number in range(300)]
    large, _ = await index(store, ALICE, b"x" * 3_000_000, pages)
    small, _ = await index(store, ALICE, b"y", [[laid("pump small")]])
    steps = 0

    async def purge_once() -> bool:
        nonlocal steps
        steps += 1
        return await store._write(sqlite_write.purge_some)

    assert await store._write(lambda db: sqlite_write.delete(db, ALICE.owner, large.id))
    while await purge_once():
        assert await other.document(ALICE.owner, large.id) is None
        assert texts(await other.search(ALICE, sought("pump"), 9)) == ["pump small"]
        await index(other, BOB, b"%d" % steps, [[laid("between")]])

    assert steps >= 6
    assert await other._write(lambda db: sqlite_write.delete(db, ALICE.owner, small.id))
    assert await store.sweep(0) == 0
    assert await store.delete_all(BOB.owner) == steps - 1
    assert await store.held_bytes() == 0
    assert await store.sweep(0) == 0
    await store.close()
    await other.close()
    figures_are_right(path)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM lists").fetchone() == (0,)
    db.close()
    assert path.stat().st_size < 300_000


async def test_nothing_is_on_disk_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in memory is in memory."""
    monkeypatch.chdir(tmp_path)
    store = SqliteDocumentStore()
    await index(store, ALICE, b"x" * 100_000, [[laid("pump")]])
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
    path = tmp_path / "vision.db"
    store = SqliteDocumentStore(path)
    await index(store, ALICE, b"old", [[laid(f"old {number}")] for number in range(30)])
    await store.close()
    damage(path)
    spoiled = path.read_bytes()
    store = SqliteDocumentStore(path)
    await store.open()
    await index(store, ALICE, b"new", [[laid("new")]])
    found = await store.search(ALICE, sought("old new"), 9)
    await store.close()

    assert texts(found) == ["new"]
    assert store.faults == {"set_aside": 1}
    assert path.with_name("vision.db" + DAMAGED).read_bytes()[4096:] == spoiled[4096:]
    assert "the file of documents was set aside" in caplog.text


def another_programs(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE customers (name TEXT)")
    db.close()


def of_memories(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id = 0x4C4D4746")
        db.execute("PRAGMA user_version = 1")
        db.execute("CREATE TABLE memories (name TEXT)")
    db.close()


def from_the_future(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id = 0x4C4D4756")
        db.execute("PRAGMA user_version = 99")
        db.execute("CREATE TABLE documents (name TEXT)")
    db.close()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (another_programs, r"another program.*vision\.url"),
        (of_memories, "another program"),
        (from_the_future, "later version"),
    ],
)
async def test_what_is_not_ours_is_left_alone(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    """Another program's database, one of memories, a later version's: not a byte changes, and each call says so."""
    path = tmp_path / "app.db"
    make(path)
    before = path.read_bytes()
    store = SqliteDocumentStore(path)
    begun = document(ALICE, b"x", 1)
    calls: list[Callable[[], object]] = [
        store.open,
        store.waiting_jobs,
        lambda: store.sweep(0),
        lambda: store.begin(begun, b"x"),
        lambda: add_page(store, begun.id, 1, []),
        lambda: store.search(ALICE, sought("x"), 9),
    ]
    for call in calls:
        with pytest.raises(VisionFault, match=said) as failed:
            await call()  # type: ignore[misc]
        assert failed.value.kind == "down"
    await store.close()

    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["app.db"]


async def test_a_file_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    """And one that waits too long for another process is a timeout."""
    store = SqliteDocumentStore(tmp_path / "absent" / "vision.db")
    with pytest.raises(VisionFault) as failed:
        await store.open()
    await store.close()

    assert failed.value.kind == "down"


async def test_one_that_fails_takes_no_other_with_it() -> None:
    """Calls that share a transaction fail alone, and what they had done is undone."""
    store = SqliteDocumentStore(None, 60_000)
    calls = [store.put_job(job(ALICE), b"%d" % number * size, 99) for number in range(9) for size in (100, 70_000)]
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(result) for result in results] == [type(None), VisionFault] * 9
    assert await store.waiting_jobs() == 9
    assert await store.delete_all(ALICE.owner) == 0
    assert await store.held_bytes() == 0
    await store.close()


async def test_a_closed_store_says_so() -> None:
    """Each call after it."""
    store = SqliteDocumentStore()
    await store.open()
    await store.close()
    await store.close()
    with pytest.raises(VisionFault, match="the store of documents is closed") as failed:
        await store.waiting_jobs()

    assert failed.value.kind == "down"
