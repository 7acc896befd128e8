"""What every store promises of searches by vector."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from gateway.core.facts.memory import Kind, Level, Memory, Scope, Sought, Vector
from gateway.ports_memory import MemoryStore
from tests.shell.facts.memories import ALICE, BOB, NOW_US, Clock, fact, text
from tests.shell.facts.vectors import MODEL, cosine, packed, some_vector, vector_of

pytestmark = pytest.mark.usefixtures("with_vectors")


async def nearest(store: MemoryStore, scope: Scope, vector: bytes, limit: int = 10, **rest: object) -> list[str]:
    """Texts found by vector, best first."""
    sought = Sought(terms=(), vector=vector, model=MODEL, **rest)  # type: ignore[arg-type]
    found = await store.search(scope, sought, limit)

    assert [each.vector_rank for each in found] == list(range(len(found)))
    return [each.memory.text for each in found]


def by_cosine(memories: Sequence[Memory], vectors: Sequence[bytes], query: bytes) -> list[str]:
    closest = sorted(zip(memories, vectors, strict=True), key=lambda pair: -cosine(pair[1], query))
    return [memory.text for memory, _ in closest]


async def test_the_nearest_come_first(store: MemoryStore) -> None:
    """As if each was compared; another scope's, another model's and other lengths are passed over."""
    chance = random.Random(1)
    memories = [fact("number", "is", str(n)) for n in range(300)]
    vectors = [some_vector(chance) for _ in memories]
    await store.put(ALICE, memories)
    await store.put(BOB, [fact("bob's", "is", "1", id="b" * 32)])
    await store.put_vectors([vector_of(*both) for both in zip(memories, vectors, strict=True)])
    query = some_vector(chance)
    await store.put_vectors([Vector("b" * 32, MODEL, query), Vector("c" * 32, MODEL, query)])
    odd = [fact("odd", "is", "1"), fact("odd", "is", "2")]
    await store.put(ALICE, odd)
    await store.put_vectors([Vector(odd[0].id, "other", query), Vector(odd[1].id, MODEL, query + query)])

    found = await store.search(ALICE, Sought(terms=(), vector=query, model=MODEL), 5)
    cosines = {memory.id: cosine(vector, query) for memory, vector in zip(memories, vectors, strict=True)}

    assert [each.similarity for each in found] == pytest.approx([cosines[each.memory.id] for each in found], abs=2e-3)
    assert await nearest(store, ALICE, query) == by_cosine(memories, vectors, query)[:10]
    assert await nearest(store, BOB, query) == ["bob's is 1"]
    assert await nearest(store, Scope(b"c" * 32, "notes"), query) == []
    assert await store.search(ALICE, Sought((), vector=query, model="unknown"), 9) == []


async def test_what_changes_counts_at_once(store: MemoryStore, clock: Clock) -> None:
    """Added, replaced, ended, deleted, expired and told again."""
    a, b, c = packed([1, 0, 0, 0]), packed([0.8, 0.6, 0, 0]), packed([0, 1, 0, 0])
    one, two = fact("x", "p", "1", topic=True), fact("y", "p", "2")
    await store.put(ALICE, [one, two])
    await store.put_vectors([vector_of(one, a), vector_of(two, b)])
    assert await nearest(store, ALICE, a) == ["x p 1", "y p 2"]

    three = fact("z", "p", "3", expires_us=NOW_US + 9)
    await store.put(ALICE, [three])
    await store.put_vectors([vector_of(three, a), vector_of(one, c)])
    assert await nearest(store, ALICE, a) == ["z p 3", "y p 2", "x p 1"]

    await store.put(ALICE, [fact("x", "p", "4", topic=True, observed_us=5)])
    clock.now_us += 9
    assert await nearest(store, ALICE, a) == ["y p 2"]

    await store.put(ALICE, [replace(one, id="0" * 32, observed_us=9)])
    assert one.id in [memory.id for memory in await store.lacking_vectors(MODEL, 9)]
    await store.put_vectors([vector_of(one, a)])
    assert await nearest(store, ALICE, a) == ["x p 1", "y p 2"]

    await store.delete(ALICE.owner, [one.id], Kind.FACT)
    assert await nearest(store, ALICE, a) == ["y p 2"]


async def test_what_is_found_by_both_comes_once(store: MemoryStore) -> None:
    memories = [text("alpha beta"), text("gamma delta"), text("epsilon beta")]
    await store.put(ALICE, memories)
    near = [packed([1, 0]), packed([0.9, 0.4]), packed([0, 1])]
    await store.put_vectors([vector_of(*both) for both in zip(memories, near, strict=True)])
    alpha, beta = memories[0].terms
    found = await store.search(ALICE, Sought([alpha, beta], vector=packed([1, 0]), model=MODEL), 2)

    assert [(each.memory.text, each.lexical_rank, each.vector_rank) for each in found] == [
        ("alpha beta", 0, 0),
        ("epsilon beta", 1, None),
        ("gamma delta", None, 1),
    ]


async def test_how_near_each_is_is_told(store: MemoryStore) -> None:
    """None for what was found by its words alone, and has no vector of this model and length, say."""
    chance = random.Random(3)
    memories = [text(f"alpha {n}") for n in range(40)]
    vectors = [some_vector(chance) for _ in memories]
    others = [text("alpha none"), text("alpha other"), text("alpha longer")]
    await store.put(ALICE, [*memories, *others])
    await store.put_vectors([vector_of(*both) for both in zip(memories, vectors, strict=True)])
    query = some_vector(chance)
    await store.put_vectors([vector_of(others[1], query, "other"), vector_of(others[2], query + query)])
    found = await store.search(ALICE, Sought([memories[0].terms[0]], vector=query, model=MODEL), 43)
    told = {each.memory.id: each.similarity for each in found}
    plain = await store.search(ALICE, Sought([memories[0].terms[0]]), 5)

    assert len(told) == 43
    assert [told[each.id] for each in others] == [None] * 3
    for memory, vector in zip(memories, vectors, strict=True):
        assert told[memory.id] == pytest.approx(cosine(vector, query), abs=2e-3)
    assert [each.similarity for each in plain] == [None] * 5


async def test_vectors_are_sought_of_what_is_asked_for(store: MemoryStore) -> None:
    """By kind, level and confidence, however near others are."""
    query, far = packed([1, 0]), packed([0.1, 1])
    crowd = [fact("a", "crowd", str(n), confidence=0.1) for n in range(400)]
    wanted = [fact("s", "p", "o", confidence=0.9), text("now", Level.IMMEDIATE), text("long", Level.LONG_TERM)]
    await store.put(ALICE, [*crowd, *wanted])
    await store.put_vectors([*(vector_of(each, query) for each in crowd), *(vector_of(each, far) for each in wanted)])

    assert await nearest(store, ALICE, query, 3, kind=Kind.CONTEXT) in (["now", "long"], ["long", "now"])
    assert await nearest(store, ALICE, query, 3, level=Level.IMMEDIATE) == ["now"]
    assert await nearest(store, ALICE, query, 1, kind=Kind.FACT, min_confidence=0.5) == ["s p o"]


async def test_lacking_are_the_newest_without(store: MemoryStore) -> None:
    """Of this model; what has ended needs none."""
    memories = [fact("s", "p", str(n), observed_us=n) for n in range(6)]
    await store.put(ALICE, memories[:3])
    await store.put(BOB, memories[3:])
    await store.put(BOB, [fact("t", "p", str(n), topic=True, observed_us=10 + n) for n in range(2)])
    await store.put_vectors([vector_of(memories[4], packed([1, 1])), vector_of(memories[1], packed([1, 1]), "old")])

    assert [memory.text for memory in await store.lacking_vectors(MODEL, 4)] == ["t p 1", "s p 5", "s p 3", "s p 2"]
    assert len(await store.lacking_vectors(MODEL, 99)) == 6
    assert len(await store.lacking_vectors("new", 99)) == 7


@pytest.mark.parametrize("data", [b"", b"odd"])
async def test_what_is_no_vector_is_refused(store: MemoryStore, data: bytes) -> None:
    one = fact("s", "p", "o")
    await store.put(ALICE, [one])
    with pytest.raises(ValueError, match="float16"):
        await store.put_vectors([vector_of(one, data)])
