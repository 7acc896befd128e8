"""Memories get their vectors behind everybody's back: from a real store, by an endpoint that a test scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.core.facts.memory import Memory, Scope, Sought, Vector
from gateway.core.facts.mine import SAID
from gateway.ports_memory import MemoryFault
from gateway.shell.facts.filler import VectorFiller
from gateway.shell.facts.sqlite import SqliteMemoryStore
from tests.shell.facts.memories import ALICE, BOB, fact, text
from tests.shell.facts.vectors import MODEL, packed

pytest.importorskip("numpy", "2", reason="numpy is not installed")
IDLE_S, REST_S = 5.0, 30.0


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


class Troubled(SqliteMemoryStore):
    """Fails as often as it is told to, and says when."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.has_failed = asyncio.Event()

    async def lacking_vectors(self, model: str, limit: int) -> Sequence[Memory]:
        if self.failures:
            self.failures -= 1
            self.has_failed.set()
            raise MemoryFault("down", "as told")
        return await super().lacking_vectors(model, limit)

    async def put_vectors(self, vectors: Sequence[Vector]) -> None:
        if self.failures:
            self.failures -= 1
            self.has_failed.set()
            raise MemoryFault("down", "as told")
        await super().put_vectors(vectors)


@pytest.fixture
async def troubled() -> AsyncIterator[Troubled]:
    made = Troubled()
    yield made
    await made.close()


async def lacking(store: SqliteMemoryStore, model: str = MODEL) -> int:
    return len(await store.lacking_vectors(model, 10_000))


async def by_vector(store: SqliteMemoryStore, scope: Scope) -> int:
    """How many are found by vector alone."""
    sought = Sought([], vector=packed([1.0, 1.0]), model=MODEL)
    return len(await store.search(scope, sought, 10_000))


async def test_1_every_memory_has_a_vector_in_the_end(troubled: Troubled) -> None:
    """Of every client; each is asked for once, by what a reader is shown of it."""
    await troubled.put(ALICE, [fact("Ann", SAID, f"I counted {number} crates.") for number in range(600)])
    await troubled.put(BOB, [text("A note."), fact("bay 12", "is", "free")])
    endpoint = Endpoint()
    filler = VectorFiller(troubled, endpoint, IDLE_S, REST_S)
    waits = [await filler.fill_some() for _ in range(4)]

    assert waits == [0.0, 0.0, 0.0, IDLE_S]
    assert (filler.filled, await lacking(troubled)) == (602, 0)
    assert len(endpoint.asked) == len(set(endpoint.asked)) == 602
    assert {"A note.", "bay 12 is free", "I counted 7 crates."} <= set(endpoint.asked)
    assert (await by_vector(troubled, ALICE), await by_vector(troubled, BOB)) == (600, 2)


async def test_1_what_comes_later_is_filled_alone(troubled: Troubled) -> None:
    """What has a vector is not asked for again, unless another model is to make them."""
    await troubled.put(ALICE, [text("first")])
    endpoint, other = Endpoint(), Endpoint("another")
    filler = VectorFiller(troubled, endpoint, IDLE_S, REST_S)
    await filler.fill_some()
    await troubled.put(ALICE, [text("second")])
    await filler.fill_some()
    await VectorFiller(troubled, other, IDLE_S, REST_S).fill_some()

    assert endpoint.asked == ["first", "second"]
    assert sorted(other.asked) == ["first", "second"]
    assert await lacking(troubled, "another") == 0


async def test_2_an_endpoint_that_fails_is_asked_again_later(troubled: Troubled) -> None:
    """What it made is kept, and the rest waits for its turn, not in a hurry."""
    await troubled.put(ALICE, [text("good"), text("bad")])
    endpoint = Endpoint()
    endpoint.fails = {"bad"}
    filler = VectorFiller(troubled, endpoint, IDLE_S, REST_S)
    first = await filler.fill_some()
    left = await lacking(troubled)
    second = await filler.fill_some()
    endpoint.fails = set()
    third = await filler.fill_some()

    assert (first, second, third) == (REST_S, REST_S, 0.0)  # all have had their turn, and then it comes again
    assert left == 1
    assert endpoint.asked.count("good") == 1
    assert await lacking(troubled) == 0


async def test_3_texts_that_never_get_a_vector_keep_none_from_the_rest(troubled: Troubled) -> None:
    """Though they are newer, and more than are filled at once."""
    await troubled.put(ALICE, [text(f"old {number}", observed_us=1) for number in range(20)])
    bad = [text(f"bad {number}", observed_us=2) for number in range(600)]
    await troubled.put(ALICE, bad)
    endpoint = Endpoint()
    endpoint.fails = {memory.object for memory in bad}
    filler = VectorFiller(troubled, endpoint, IDLE_S, REST_S)
    for _ in range(12):
        await filler.fill_some()

    assert filler.filled == 20
    assert max(endpoint.asked.count(memory.object) for memory in bad) <= 4


async def test_2_a_store_that_is_down_is_asked_again(troubled: Troubled) -> None:
    """Whether it fails as it is asked or as it is told; the filler goes on for ever, until it is stopped."""
    await troubled.put(ALICE, [text("good")])
    troubled.failures = 3
    endpoint = Endpoint()
    running = asyncio.create_task(VectorFiller(troubled, endpoint, 0.001, 0.001).run())
    await troubled.has_failed.wait()
    async with asyncio.timeout(10):
        while await by_vector(troubled, ALICE) != 1:
            await asyncio.sleep(0.001)
    is_over = running.done()
    running.cancel()
    await asyncio.wait([running])

    assert not is_over
    assert troubled.failures == 0
    assert running.cancelled()


async def test_a_memory_that_is_gone_meanwhile_is_passed_over(troubled: Troubled) -> None:
    """The others get theirs."""
    gone, stays = text("gone"), text("stays")
    await troubled.put(ALICE, [gone, stays])

    class Slow(Endpoint):
        async def embed(
            self, exchange: None, texts: Sequence[str], patience_s: float | None = None
        ) -> list[bytes | None]:
            await troubled.delete(ALICE.owner, [gone.id], gone.kind)
            return await super().embed(exchange, texts, patience_s)

    waited_s = await VectorFiller(troubled, Slow(), IDLE_S, REST_S).fill_some()

    assert waited_s == 0.0
    assert await lacking(troubled) == 0
    assert await by_vector(troubled, ALICE) == 1
