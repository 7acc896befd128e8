"""Regions get their vectors behind everybody's back: from a real store, by an endpoint that a test scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.core.facts.memory import Scope, Vector
from gateway.core.vision.document import Region
from gateway.ports_vision import VisionFault
from gateway.shell.vision.sqlite import SqliteDocumentStore
from gateway.shell.vision.vector_filler import RegionVectorFiller
from tests.shell.facts.vectors import MODEL, packed
from tests.shell.vision.documents import ALICE, BOB, Clock, index, laid, sought

IDLE_S, REST_S = 2.0, 30.0


class Endpoint:
    """Makes vectors of all texts but those in `fails`."""

    def __init__(self, model: str = MODEL) -> None:
        self.model = model
        self.fails: set[str] = set()
        self.asked: list[str] = []

    async def embed(self, exchange: None, texts: Sequence[str], patience_s: float | None = None) -> list[bytes | None]:
        assert exchange is None
        self.asked += texts
        return [None if text in self.fails else packed([1.0, len(text)]) for text in texts]


class Troubled(SqliteDocumentStore):
    """Fails as often as it is told to, and says when."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock=clock or Clock())
        self.failures = 0
        self.has_failed = asyncio.Event()
        self.was_filled = asyncio.Event()

    async def lacking_vectors(self, model: str, limit: int) -> Sequence[Region]:
        self._fail()
        return await super().lacking_vectors(model, limit)

    async def put_vectors(self, vectors: Sequence[Vector]) -> None:
        self._fail()
        await super().put_vectors(vectors)
        self.was_filled.set()

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            self.has_failed.set()
            raise VisionFault("down", "as told")


@pytest.fixture
async def troubled() -> AsyncIterator[Troubled]:
    made = Troubled()
    yield made
    await made.close()


async def lacking(store: SqliteDocumentStore, model: str = MODEL) -> int:
    return len(await store.lacking_vectors(model, 10_000))


async def by_vector(store: SqliteDocumentStore, scope: Scope) -> int:
    """How many are found by vector alone."""
    return len(await store.search(scope, sought("", vector=packed([1.0, 1.0]), model=MODEL), 10_000))


async def test_1_every_region_has_a_vector_in_the_end(troubled: Troubled) -> None:
    """Of every client; each is asked for once, by its caption and its text; one that says nothing is not asked for."""
    await index(troubled, ALICE, b"1", [[laid(f"Bay {number}.") for number in range(600)]])
    await index(troubled, BOB, b"2", [[laid("4 | 5", caption="Table 1"), laid(""), laid(" \n")]])
    endpoint = Endpoint()
    filler = RegionVectorFiller(troubled, endpoint, IDLE_S, REST_S)
    waits = [await filler.fill_some() for _ in range(4)]

    assert waits == [0.0, 0.0, 0.0, IDLE_S]
    assert (filler.filled, await lacking(troubled)) == (601, 0)
    assert len(endpoint.asked) == len(set(endpoint.asked)) == 601
    assert {"Bay 7.", "Table 1\n4 | 5"} <= set(endpoint.asked)
    assert (await by_vector(troubled, ALICE), await by_vector(troubled, BOB)) == (600, 1)


async def test_1_what_comes_later_is_filled_alone(troubled: Troubled) -> None:
    """What has a vector is not asked for again, unless another model is to make them."""
    await index(troubled, ALICE, b"1", [[laid("first")]])
    endpoint, other = Endpoint(), Endpoint("another")
    filler = RegionVectorFiller(troubled, endpoint, IDLE_S, REST_S)
    await filler.fill_some()
    await index(troubled, ALICE, b"2", [[laid("second")]])
    await filler.fill_some()
    await filler.fill_some()  # there is nothing left: another may
    await RegionVectorFiller(troubled, other, IDLE_S, REST_S).fill_some()

    assert endpoint.asked == ["first", "second"]
    assert other.asked == ["second", "first"]
    assert await lacking(troubled, "another") == 0


async def test_2_an_endpoint_that_fails_is_asked_again_later(troubled: Troubled) -> None:
    """What it made is kept, and the rest waits for its turn, not in a hurry."""
    await index(troubled, ALICE, b"1", [[laid("good"), laid("bad")]])
    endpoint = Endpoint()
    endpoint.fails = {"bad"}
    filler = RegionVectorFiller(troubled, endpoint, IDLE_S, REST_S)
    first = await filler.fill_some()
    left = await lacking(troubled)
    second = await filler.fill_some()
    endpoint.fails = set()
    third = await filler.fill_some()

    assert (first, second, third) == (REST_S, REST_S, 0.0)  # all have had their turn, and then it comes again
    assert left == 1
    assert endpoint.asked.count("good") == 1
    assert await lacking(troubled) == 0


async def test_2_a_store_that_is_down_is_asked_again(troubled: Troubled) -> None:
    """Whether it fails as it is asked or as it is told; the filler goes on until it is stopped."""
    await index(troubled, ALICE, b"1", [[laid("one")]])
    troubled.failures = 2
    filling = asyncio.create_task(RegionVectorFiller(troubled, Endpoint(), 0.0, 0.0).run())
    async with asyncio.timeout(10):
        await troubled.was_filled.wait()
    filling.cancel()
    await asyncio.wait([filling])

    assert troubled.has_failed.is_set()
    assert filling.cancelled()
    assert await lacking(troubled) == 0


async def test_3_texts_that_never_get_a_vector_keep_none_from_the_rest(troubled: Troubled) -> None:
    """Though they are newer, and more than are filled at once."""
    await index(troubled, ALICE, b"1", [[laid(f"old {number}") for number in range(20)]])
    bad = [f"bad {number}" for number in range(600)]
    await index(troubled, ALICE, b"2", [[laid(text) for text in bad]])
    endpoint = Endpoint()
    endpoint.fails = set(bad)
    filler = RegionVectorFiller(troubled, endpoint, IDLE_S, REST_S)
    for _ in range(12):
        await filler.fill_some()

    assert filler.filled == 20
    assert max(endpoint.asked.count(text) for text in bad) <= 4


async def test_4_one_worker_fills_at_a_time() -> None:
    """What one asks for no other does; another goes on when it is done, or when its lease has run out."""
    clock = Clock()
    store = Troubled(clock)
    await index(store, ALICE, b"1", [[laid(f"Bay {number}.") for number in range(300)]])
    first, second = Endpoint(), Endpoint()
    one, other = (RegionVectorFiller(store, endpoint, IDLE_S, REST_S) for endpoint in (first, second))
    waits = [await one.fill_some(), await other.fill_some()]
    asked_meanwhile = len(second.asked)
    clock.now_us += 100_000_000
    waits += [await other.fill_some(), await one.fill_some(), await other.fill_some()]
    await index(store, ALICE, b"2", [[laid("later")]])
    waits += [await one.fill_some()]
    await store.close()

    assert waits == [0.0, IDLE_S, 0.0, IDLE_S, IDLE_S, 0.0]
    assert asked_meanwhile == 0
    assert (len(first.asked), len(second.asked)) == (257, 44)


async def test_4_a_lease_of_a_clock_that_was_ahead_is_none() -> None:
    """Else nobody would fill for years."""
    clock = Clock()
    store = Troubled(clock)
    clock.now_us += 10**15
    assert await store.claim_filling("ahead", 90_000_000)
    clock.now_us -= 10**15

    assert await store.claim_filling("other", 90_000_000)
    assert not await store.claim_filling("ahead", 90_000_000)
    await store.close()
