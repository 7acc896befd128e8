"""Vectors near a question: exact where there are few, by their signs where there are many, and never stale."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gateway.core.facts.memory import Kind, Sought, Vector, Wanted
from gateway.shell.facts.sqlite import SqliteMemoryStore
from tests.shell.facts.memories import ALICE, fact
from tests.shell.facts.vectors import MODEL, cosine, packed, some_vector, vector_of

near = pytest.importorskip("gateway.shell.facts.near", reason="numpy is not installed")


def near_to(chance: random.Random, centre: list[float]) -> bytes:
    return packed([c + 0.5 * chance.gauss(0, 1) for c in centre])


async def test_many_are_found_by_their_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of clustered vectors at least nine in ten of the ten nearest are found, in the order of their cosines."""
    monkeypatch.setattr(near, "EXACT_VECTORS", 100)
    monkeypatch.setattr(near, "RESCORED", 150)
    chance = random.Random(2)
    centres = [[chance.gauss(0, 1) for _ in range(96)] for _ in range(20)]
    store = SqliteMemoryStore()
    memories = [fact("n", "is", str(n)) for n in range(1500)]
    vectors = [near_to(chance, centres[n % 20]) for n in range(1500)]
    await store.put(ALICE, memories)
    await store.put_vectors([vector_of(*both) for both in zip(memories, vectors, strict=True)])
    hits = 0
    for n in range(20):
        query = near_to(chance, centres[n])
        found = await store.search(ALICE, Sought((), vector=query, model=MODEL), 10)
        closeness = {memory.id: cosine(vector, query) for memory, vector in zip(memories, vectors, strict=True)}
        best = sorted(closeness, key=lambda each: -closeness[each])[:10]
        ids = [each.memory.id for each in found]
        hits += len(set(ids) & set(best))

        assert ids == sorted(ids, key=lambda each: -closeness[each])
    assert hits >= 180
    await store.close()


@pytest.mark.parametrize("exact", [1000, 10])
async def test_what_others_do_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: int) -> None:
    """Vectors that another process adds, replaces and deletes, few and very many of them."""
    monkeypatch.setattr(near, "EXACT_VECTORS", exact)
    chance = random.Random(3)
    one, other = SqliteMemoryStore(tmp_path / "facts.db"), SqliteMemoryStore(tmp_path / "facts.db")
    query = packed([1, *[0] * 15])

    async def nearest() -> list[str]:
        return [each.memory.text for each in await one.search(ALICE, Sought((), vector=query, model=MODEL), 3)]

    crowd = [fact("n", "is", str(n)) for n in range(300)]
    await other.put(ALICE, crowd)
    await other.put_vectors([vector_of(memory, some_vector(chance, 16)) for memory in crowd])
    assert len(await nearest()) == 3

    await other.put_vectors([vector_of(crowd[7], query)])
    assert (await nearest())[0] == "n is 7"
    await other.put_vectors([vector_of(crowd[7], packed([-1, *[0] * 15])), vector_of(crowd[9], query)])
    assert (await nearest())[0] == "n is 9"
    await other.delete(ALICE.owner, [memory.id for memory in crowd[9:]], Kind.FACT)
    assert len(await nearest()) == 3
    assert {*await nearest()} <= {f"n is {n}" for n in range(9)}
    await other.delete(ALICE.owner, [memory.id for memory in crowd[1:9]], Kind.FACT)
    assert await nearest() == ["n is 0"]
    assert await nearest() == ["n is 0"]
    assert (await one.page(ALICE, Wanted(), None, 9)).total == 1
    await one.close()
    await other.close()


async def test_what_is_kept_is_bounded() -> None:
    """The scope that was asked for longest ago is read again."""
    store = SqliteMemoryStore()
    kept = near.Near(max_bytes=60_000)
    scopes = [ALICE.__class__(b"a" * 32, f"s{n}") for n in range(6)]
    for scope in scopes:
        memories = [fact("n", "is", str(n)) for n in range(100)]
        await store.put(scope, memories)
        await store.put_vectors([Vector(memory.id, MODEL, packed([1] * 16)) for memory in memories])
    store._near, store._near_of = kept, await store._read(lambda db: db)
    for scope in scopes * 2:
        found = await store.search(scope, Sought((), vector=packed([1] * 16), model=MODEL), 5)

        assert len(found) == 5
        assert kept.held_bytes <= 60_000
    await store.close()


async def test_numbers_that_are_none_are_passed_over() -> None:
    """Infinity and what is not a number spoil no order."""
    store = SqliteMemoryStore()
    memories = [fact("n", "is", str(n)) for n in range(3)]
    await store.put(ALICE, memories)
    odd = (b"\x00\x7c\x00\x7c", b"\x00\x7e\x00\x7e", packed([1, 1]))
    await store.put_vectors([vector_of(*both) for both in zip(memories, odd, strict=True)])
    found = await store.search(ALICE, Sought((), vector=packed([1, 1]), model=MODEL), 5)

    assert found[0].memory.text == "n is 2"
    assert len(found) == 3
    await store.close()
