"""What every store of documents promises, searches aside."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.facts.memory import Position, Scope
from gateway.core.vision.document import JobError, JobStatus, RegionType
from gateway.ports_vision import VisionFault
from gateway.shell.vision.sqlite import SqliteDocumentStore
from tests.shell.vision.documents import (
    ALICE,
    BOB,
    NOW_US,
    OTHER,
    Clock,
    add_page,
    document,
    index,
    job,
    laid,
    new_id,
    sought,
    texts,
)

Store = SqliteDocumentStore
PDF = b"%PDF-1.7 " * 100


async def test_a_document_is_hidden_until_it_is_finished(store: Store) -> None:
    """Nobody finds it, its bytes, its regions or its words before; then all of it is as it was given."""
    begun = document(ALICE, PDF, 2, source="a.pdf", metadata={"team": "blue", "n": [1, {"x": None}]}, created_us=5)
    await store.begin(begun, PDF)
    regions = await add_page(store, begun.id, 1, [laid("first words", RegionType.CODE, "cap", confidence=0.5)])
    regions += await add_page(store, begun.id, 2, [laid("second words", has_text_layer=False)])
    ids = [region.id for region in regions]

    assert await store.find(ALICE, begun.hash) is None
    assert await store.document(ALICE.owner, begun.id) is None
    assert await store.data_of(ALICE.owner, begun.id) is None
    assert await store.regions(ALICE.owner, ids) == {}
    assert await store.search(ALICE, sought("words"), 9) == []
    assert (await store.documents(ALICE, None, 9)).total == 0

    finished = await store.finish(begun.id)

    assert finished == msgspec.structs.replace(begun, regions=2)
    assert await store.find(ALICE, begun.hash) == finished
    assert await store.document(ALICE.owner, begun.id) == finished
    assert await store.data_of(ALICE.owner, begun.id) == PDF
    assert await store.regions(ALICE.owner, ids) == {region.id: region for region in regions}
    assert texts(await store.search(ALICE, sought("second words"), 9)) == ["second words", "first words"]
    assert (await store.documents(ALICE, None, 9)).documents == [finished]


async def test_what_is_anothers_is_not_there(store: Store) -> None:
    """Not by id, not in a list, not in a search, not to delete; nor another scope of the same owner, in lists."""
    finished, regions = await index(store, ALICE, PDF, [[laid("secret words")]])
    ids = [region.id for region in regions]

    for scope in (BOB, OTHER):
        assert await store.find(scope, finished.hash) is None
        assert await store.search(scope, sought("secret words"), 9) == []
        assert await store.search(scope, sought("secret", doc_ids=frozenset([finished.id])), 9) == []
        assert (await store.documents(scope, None, 9)).total == 0
    assert await store.document(BOB.owner, finished.id) is None
    assert await store.data_of(BOB.owner, finished.id) is None
    assert await store.regions(BOB.owner, ids) == {}
    assert not await store.delete_document(BOB.owner, finished.id)
    assert await store.delete_all(BOB.owner) == 0
    assert await store.regions(OTHER.owner, ids) == {regions[0].id: regions[0]}
    assert await store.document(ALICE.owner, finished.id) == finished


@pytest.mark.parametrize(
    "strange", ["", "x", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "' OR 1=1 --", "\ud800", new_id()]
)
async def test_strange_ids_are_of_nothing(store: Store, strange: str) -> None:
    """Whatever is asked for by an id that is none."""
    await index(store, ALICE, PDF, [[laid("words")]])

    assert await store.document(ALICE.owner, strange) is None
    assert await store.data_of(ALICE.owner, strange) is None
    assert await store.regions(ALICE.owner, [strange]) == {}
    assert not await store.delete_document(ALICE.owner, strange)
    assert await store.job(ALICE.owner, strange) is None
    assert await store.job_data(strange) is None
    assert await store.search(ALICE, sought("words", doc_ids=frozenset([strange])), 9) == []


async def test_the_same_bytes_are_a_document_of_each_scope(store: Store) -> None:
    """Their bytes are kept once, and each goes by itself."""
    await index(store, ALICE, PDF * 1000, [[]])
    one = await store.held_bytes()
    hers, _ = await index(store, BOB, PDF * 1000, [[]])

    assert await store.held_bytes() - one < 1000
    assert await store.delete_all(ALICE.owner) == 1
    assert await store.data_of(BOB.owner, hers.id) == PDF * 1000
    assert await store.delete_document(BOB.owner, hers.id)
    assert await store.held_bytes() == 0


async def test_bytes_of_many_parts_come_back(store: Store) -> None:
    """And so do none at all."""
    data = bytes(range(256)) * 10_000
    large, _ = await index(store, ALICE, data, [[]])
    empty, _ = await index(store, ALICE, b"", [[]])

    assert await store.data_of(ALICE.owner, large.id) == data
    assert await store.data_of(ALICE.owner, empty.id) == b""


async def test_an_earlier_start_is_taken_up(store: Store) -> None:
    """`begin` says how many of the first pages are there; a page that is there is replaced."""
    begun = document(ALICE, PDF, 4)

    assert await store.begin(begun, PDF) == 0
    await add_page(store, begun.id, 1, [laid("old one")])
    await add_page(store, begun.id, 2, [laid("two")])
    await add_page(store, begun.id, 4, [laid("four")])

    assert await store.begin(begun, PDF) == 2
    await add_page(store, begun.id, 1, [laid("one"), laid("more")])
    await add_page(store, begun.id, 3, [laid("three")])
    assert await store.begin(begun, PDF) == 4
    finished = await store.finish(begun.id)
    assert finished.regions == 5
    found = await store.search(ALICE, sought("one two three four old"), 9)
    assert sorted(texts(found)) == ["four", "one", "three", "two"]


async def test_a_start_told_otherwise_begins_anew(store: Store) -> None:
    """Its pages were listed under other metadata."""
    await store.begin(document(ALICE, PDF, 1, metadata={"team": "blue"}), PDF)
    begun = document(ALICE, PDF, 1, metadata={"team": "red"})
    await add_page(store, begun.id, 1, [laid("words")])

    assert await store.begin(begun, PDF) == 0
    await add_page(store, begun.id, 1, [laid("words")])
    await store.finish(begun.id)
    assert texts(await store.search(ALICE, sought("words", metadata={"team": "red"}), 9)) == ["words"]
    assert await store.search(ALICE, sought("words", metadata={"team": "blue"}), 9) == []
    assert await store.search(ALICE, sought("blue"), 9) == []


async def test_a_document_that_is_indexed_again_is_swapped(store: Store) -> None:
    """The old one is there until the new one is finished, and then nothing of it; it was indexed first when it was."""
    old, old_regions = await index(store, ALICE, PDF, [[laid("old words")]], created_us=5, metadata={"v": 1})
    before = await store.held_bytes()
    begun = document(ALICE, PDF, 1, created_us=9, metadata={"v": 2})
    await store.begin(begun, PDF)
    await add_page(store, begun.id, 1, [laid("new words")])

    assert await store.document(ALICE.owner, old.id) == old
    assert texts(await store.search(ALICE, sought("words"), 9)) == ["old words"]

    finished = await store.finish(begun.id)

    assert finished == msgspec.structs.replace(begun, created_us=5, regions=1)
    assert texts(await store.search(ALICE, sought("old new words"), 9)) == ["new words"]
    assert await store.regions(ALICE.owner, [old_regions[0].id]) == {}
    assert (await store.documents(ALICE, None, 9)).documents == [finished]
    assert await store.held_bytes() == before


async def test_an_abandoned_start_leaves_what_was_finished(store: Store) -> None:
    """And nothing else."""
    old, _ = await index(store, ALICE, PDF, [[laid("old words")]])
    before = await store.held_bytes()
    await store.begin(document(ALICE, PDF, 1), PDF)
    await add_page(store, old.id, 1, [laid("new words")])
    await store.abandon(old.id)

    assert await store.document(ALICE.owner, old.id) == old
    assert texts(await store.search(ALICE, sought("words"), 9)) == ["old words"]
    assert await store.held_bytes() == before


async def test_a_document_with_pages_missing_is_not_finished(store: Store) -> None:
    """A document is found whole or not at all."""
    begun = document(ALICE, PDF, 2)
    await store.begin(begun, PDF)
    await add_page(store, begun.id, 2, [laid("two")])

    with pytest.raises(ValueError, match="has 2 pages, and 1 of them"):
        await store.finish(begun.id)
    assert await store.document(ALICE.owner, begun.id) is None


async def test_who_comes_second_finds_it_done(store: Store) -> None:
    """Two index the same: the second one's page and finish change nothing."""
    finished, _ = await index(store, ALICE, PDF, [[laid("words")]])
    await add_page(store, finished.id, 1, [laid("other words")])

    assert await store.finish(finished.id) == finished
    assert texts(await store.search(ALICE, sought("words"), 9)) == ["words"]


async def test_a_document_deleted_while_it_is_indexed_is_not_kept(store: Store) -> None:
    """Whoever indexes it is told."""
    begun = document(ALICE, PDF, 1)
    await store.begin(begun, PDF)
    await store.delete_all(ALICE.owner)

    with pytest.raises(VisionFault, match="deleted while it was indexed"):
        await add_page(store, begun.id, 1, [laid("words")])
    with pytest.raises(VisionFault, match="deleted while it was indexed"):
        await store.finish(begun.id)
    assert await store.held_bytes() == 0


async def test_documents_are_listed_in_order(store: Store) -> None:
    """By time and id, page by page, with how many there are."""
    made = [(await index(store, ALICE, b"%d" % number, [[]], created_us=number // 3))[0] for number in range(10)]
    expected = sorted(made, key=lambda each: (each.created_us, each.id))
    listed, after = [], None
    while True:
        page = await store.documents(ALICE, after, 4)
        listed += page.documents
        after = page.next
        assert page.total == 10
        if after is None:
            break

    assert listed == expected
    assert (await store.documents(ALICE, Position(99, ""), 4)).documents == []


async def test_all_of_a_scope_or_an_owner_go(store: Store) -> None:
    """Documents, finished or not, and jobs, with their bytes; how many were finished is told."""
    await index(store, ALICE, b"1", [[laid("words")]])
    await index(store, OTHER, b"2", [[laid("words")]])
    await index(store, BOB, b"3", [[laid("words")]])
    before = await store.held_bytes()
    await store.begin(document(ALICE, b"4", 1), b"4")
    mine = job(ALICE)
    await store.put_job(mine, b"5" * 1000, 9)

    assert await store.delete_all(ALICE.owner, ALICE.name) == 1
    assert await store.job(ALICE.owner, mine.id) is None
    assert await store.job_data(mine.id) is None
    assert await store.held_bytes() < before
    assert await store.search(ALICE, sought("words"), 9) == []
    assert len(await store.search(OTHER, sought("words"), 9)) == 1
    assert await store.delete_all(ALICE.owner) == 1
    assert len(await store.search(BOB, sought("words"), 9)) == 1
    assert await store.delete_all(BOB.owner) == 1
    assert await store.held_bytes() == 0


async def test_a_job_lives_from_queue_to_end(store: Store) -> None:
    """It is claimed once, saved by its worker only, and its bytes go when it ends."""
    mine = job(ALICE, is_uploaded=True, metadata={"a": 1})
    await store.put_job(mine, b"data", 9)

    assert await store.job(ALICE.owner, mine.id) == mine
    assert await store.job(BOB.owner, mine.id) is None
    assert await store.waiting_jobs() == 1
    running = msgspec.structs.replace(mine, status=JobStatus.RUNNING)
    assert await store.claim_job("w1", NOW_US, 100) == running
    assert await store.waiting_jobs() == 0
    assert await store.claim_job("w2", NOW_US + 99, 100) is None
    assert await store.job_data(mine.id) == b"data"
    further = msgspec.structs.replace(running, doc_id=new_id(), pages=4, pages_done=1)
    assert not await store.save_job(further, "w2", NOW_US + 200)
    assert await store.save_job(further, "w1", NOW_US + 200)
    assert await store.job(ALICE.owner, mine.id) == further
    assert await store.claim_job("w2", NOW_US + 199, 100) is None
    assert await store.claim_job("w2", NOW_US + 200, 100) == further
    assert not await store.save_job(further, "w1", NOW_US + 900)
    done = msgspec.structs.replace(further, status=JobStatus.FAILED, error=JobError("X", "y"), ended_us=NOW_US + 5)
    assert await store.save_job(done, "w2", 0)
    assert await store.job(ALICE.owner, mine.id) == done
    assert await store.job_data(mine.id) is None
    assert not await store.save_job(done, "w2", 0)
    assert await store.claim_job("w3", NOW_US + 10_000, 100) is None


async def test_a_job_may_go_back_to_the_queue(store: Store) -> None:
    """A worker that is ending gives it back, and any may claim it at once."""
    mine = job(ALICE)
    await store.put_job(mine, None, 9)
    claimed = await store.claim_job("w1", NOW_US, 10**9)
    assert claimed is not None
    assert await store.save_job(msgspec.structs.replace(claimed, status=JobStatus.QUEUED), "w1", 0)

    assert await store.waiting_jobs() == 1
    assert await store.claim_job("w2", NOW_US, 10) == claimed


async def test_the_oldest_job_is_claimed_first(store: Store) -> None:
    """Whether it waits or was left by a worker."""
    jobs = [job(ALICE, created_us=at) for at in (3, 1, 2)]
    for each in jobs:
        await store.put_job(each, None, 9)
    claimed = [await store.claim_job("w", NOW_US, 10) for _ in range(2)]
    left = await store.claim_job("w", NOW_US + 10, 10)

    assert [each.created_us for each in [*claimed, left] if each is not None] == [1, 2, 1]


async def test_a_queue_that_is_full_says_so(store: Store) -> None:
    """With its bound; what was refused is not there."""
    for _ in range(2):
        await store.put_job(job(ALICE), None, 2)
    refused = job(ALICE)
    with pytest.raises(VisionFault, match="2 documents wait to be indexed already, of at most 2") as failed:
        await store.put_job(refused, b"x", 2)

    assert failed.value.kind == "busy"
    assert await store.job(ALICE.owner, refused.id) is None
    await store.claim_job("w", NOW_US, 10)
    await store.put_job(refused, b"x", 2)


async def test_a_job_is_cancelled_once(store: Store) -> None:
    """By its owner, before it ends; its worker learns it when it saves."""
    mine = job(ALICE)
    await store.put_job(mine, b"data", 9)
    running = await store.claim_job("w", NOW_US, 100)
    assert running is not None
    ended = msgspec.structs.replace(mine, status=JobStatus.FAILED, error=JobError("C", "cancelled"), ended_us=7)
    with pytest.raises(ValueError, match="has to have ended"):
        await store.cancel_job(mine)

    assert not await store.cancel_job(msgspec.structs.replace(ended, scope=BOB))
    assert await store.cancel_job(ended)
    assert not await store.cancel_job(ended)
    assert await store.job(ALICE.owner, mine.id) == ended
    assert not await store.save_job(running, "w", NOW_US + 100)
    assert await store.job_data(mine.id) is None


async def test_a_sweep_lets_go_of_what_has_ended(store: Store, clock: Clock) -> None:
    """Jobs that ended before, and starts that no job is about; what runs, and what is newer, stays."""
    old, new, running = job(ALICE, 1), job(ALICE, 2), job(ALICE, 3)
    for each, ended_us in ((old, NOW_US), (new, NOW_US + 50)):
        await store.put_job(each, b"x", 9)
        done = msgspec.structs.replace(each, status=JobStatus.SUCCEEDED, ended_us=ended_us)
        assert await store.cancel_job(done)
    await store.put_job(running, b"y", 9)
    claimed = await store.claim_job("w", NOW_US, 10)
    assert claimed is not None
    left, worked, fresh = (document(ALICE, data, 2) for data in (b"left", b"worked", b"fresh"))
    for begun in (left, worked):
        await store.begin(begun, begun.hash.encode())
        await add_page(store, begun.id, 1, [laid("words")])
    await store.save_job(msgspec.structs.replace(claimed, doc_id=worked.id), "w", NOW_US + 20)
    clock.now_us += 50
    await store.begin(fresh, b"fresh")

    assert await store.sweep(NOW_US + 50) == 2
    assert await store.job(ALICE.owner, old.id) is None
    assert await store.job(ALICE.owner, new.id) is not None
    assert await store.job_data(running.id) == b"y"
    assert await store.begin(worked, b"") == 1
    with pytest.raises(VisionFault):
        await add_page(store, left.id, 2, [])
    await add_page(store, fresh.id, 1, [])
    assert await store.sweep(NOW_US + 50) == 0


async def test_what_cannot_be_stored_is_refused(store: Store) -> None:
    """Before anything of it is kept."""
    begun = document(ALICE, PDF, 1)
    await store.begin(begun, PDF)
    before = await store.held_bytes()
    bad = [
        lambda: store.begin(document(ALICE, b"x", 1, source="\ud800"), b"x"),
        lambda: store.begin(document(ALICE, b"x", 1, metadata={"a": object()}), b"x"),
        lambda: store.begin(document(ALICE, b"x", 1, id="x"), b"x"),
        lambda: store.begin(document(ALICE, b"x", 1, hash="x"), b"x"),
        lambda: store.begin(document(ALICE, b"x", 1, created_us=2**63), b"x"),
        lambda: store.begin(document(Scope(b"a" * 32, "\ud800"), b"x", 1, id=new_id()), b"x"),
        lambda: store.begin(document(BOB, b"x", 1, id=begun.id), b"x"),
        lambda: add_page(store, begun.id, 1, [laid("\ud800")]),
        lambda: add_page(store, begun.id, 0, []),
        lambda: add_page(store, begun.id, 2, []),
        lambda: store.put_job(job(ALICE, source="\ud800"), None, 9),
        lambda: store.put_job(job(ALICE, id="x"), None, 9),
    ]
    for call in bad:
        with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
            await call()

    assert await store.held_bytes() == before
    await add_page(store, begun.id, 1, [laid("nul \x00 and \N{SNOWMAN}", caption="\x00")])
    await store.finish(begun.id)
    assert texts(await store.search(ALICE, sought("nul"), 9)) == ["nul \x00 and \N{SNOWMAN}"]


async def test_a_full_store_refuses_with_numbers(clock: Clock) -> None:
    """Bytes, pages and jobs alike; what was kept stays, and what is deleted makes room for as much."""
    store = SqliteDocumentStore(None, 100_000, clock)
    kept, _ = await index(store, ALICE, b"k" * 50_000, [[laid("kept words")]])
    held = await store.held_bytes()
    room = 100_000 - held
    begun = document(ALICE, b"small", 9)
    for call in (
        lambda: store.begin(document(ALICE, b"x" * (room + 1), 1), b"x" * (room + 1)),
        lambda: store.put_job(job(ALICE), b"x" * (room + 1), 9),
    ):
        with pytest.raises(VisionFault, match=f"take {held} of 100000 bytes, and {room + 1} more") as failed:
            await call()
        assert failed.value.kind == "full"
    await store.begin(begun, b"small")
    with pytest.raises(VisionFault, match="delete documents, or raise"):
        await add_page(store, begun.id, 1, [laid("word " * 10_000)])

    assert await store.begin(begun, b"small") == 0
    await store.abandon(begun.id)
    assert await store.held_bytes() == held
    assert texts(await store.search(ALICE, sought("kept"), 9)) == ["kept words"]
    await store.delete_document(ALICE.owner, kept.id)
    await index(store, ALICE, b"n" * 90_000, [[laid("new words")]])
    await store.close()
