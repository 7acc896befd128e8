"""Regions by meaning: from every kind of store, by themselves and beside words, within filters, and of living ones."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gateway.core.facts.memory import Vector
from gateway.core.vision.document import FoundRegion, Region, RegionsSought, RegionType
from gateway.ports_vision import VisionFault
from gateway.shell.vision import region_vectors, sqlite_schema
from gateway.shell.vision.region_vectors import RegionVectors
from gateway.shell.vision.sqlite import SqliteDocumentStore
from gateway.shell.vision.sqlite_vectors import VECTOR_BYTES
from tests.shell.facts.vectors import MODEL, cosine, packed, some_vector
from tests.shell.vision.documents import ALICE, BOB, OTHER, add_page, document, index, laid, sought, texts

Store = SqliteDocumentStore
EAST, NORTH, BETWEEN = packed([1.0, 0.0]), packed([0.0, 1.0]), packed([1.0, 1.0])


def near(vector: bytes, model: str = MODEL, question: str = "", **filters: object) -> RegionsSought:
    """A question by its vector, with words or without."""
    return sought(question, vector=vector, model=model, **filters)


async def embed(store: Store, regions: Sequence[Region], vectors: Sequence[bytes], model: str = MODEL) -> None:
    pairs = zip(regions, vectors, strict=True)
    await store.put_vectors([Vector(region.id, model, vector) for region, vector in pairs])


def similarities(found: Sequence[FoundRegion]) -> list[float | None]:
    return [None if each.similarity is None else round(each.similarity, 2) for each in found]


async def test_what_shares_no_word_is_found_by_its_vector(store: Store) -> None:
    """The nearest first, with its cosine as its score; what is not near at all is not found."""
    _, regions = await index(store, ALICE, b"1", [[laid("cellist"), laid("crates"), laid("both"), laid("mute")]])
    away = packed([-1.0, 0.1])
    await embed(store, regions, [EAST, NORTH, BETWEEN, away])
    found = await store.search(ALICE, near(packed([1.0, 0.2])), 9)

    assert texts(found) == ["cellist", "both", "crates"]
    assert similarities(found) == [0.98, 0.83, 0.2]
    assert [each.score for each in found] == [each.similarity for each in found]
    assert [each.matched for each in found] == [()] * 3
    assert texts(await store.search(ALICE, near(packed([1.0, 0.2])), 1)) == ["cellist"]


async def test_words_and_meaning_make_one_list(store: Store) -> None:
    """What both name is first; scores never rise; what has no vector is found by its words alone."""
    _, regions = await index(store, ALICE, b"1", [[laid("pump one"), laid("pump two"), laid("motor")]])
    await index(store, ALICE, b"2", [[laid("pump three")]])
    await embed(store, regions, [NORTH, EAST, packed([1.0, 0.1])])
    found = await store.search(ALICE, near(EAST, question="pump"), 9)

    assert texts(found)[0] == "pump two"
    assert set(texts(found)) == {"pump one", "pump two", "pump three", "motor"}
    assert dict(zip(texts(found), similarities(found), strict=True)) == {
        "pump two": 1.0,
        "motor": 1.0,
        "pump one": 0.0,
        "pump three": None,
    }
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


async def test_without_a_vector_nothing_is_as_if_there_were_any(store: Store) -> None:
    """Nor with one of another model or length."""
    _, regions = await index(store, ALICE, b"1", [[laid("pump one"), laid("motor"), laid("pump pump")]])
    before = await store.search(ALICE, sought("pump"), 9)
    await embed(store, regions, [EAST, EAST, NORTH])

    assert await store.search(ALICE, sought("pump"), 9) == before
    for strange in (
        near(EAST, "another", "pump"),
        near(packed([1.0] * 3), question="pump"),
        near(b"x", question="pump"),
    ):
        assert await store.search(ALICE, strange, 9) == before


async def test_only_the_scope_and_finished_documents(store: Store) -> None:
    """Others' regions, and those of a document that is being indexed, are neither found nor given vectors."""
    _, hers = await index(store, ALICE, b"1", [[laid("hers")]])
    _, his = await index(store, BOB, b"1", [[laid("his")]])
    _, other = await index(store, OTHER, b"1", [[laid("other")]])
    begun = document(ALICE, b"2")
    await store.begin(begun, b"2")
    hidden = await add_page(store, begun.id, 1, [laid("hidden")])
    lacking = {region.id for region in await store.lacking_vectors(MODEL, 9)}
    await embed(store, [*hers, *his, *other, *hidden], [EAST] * 4)

    assert lacking == {region.id for region in (*hers, *his, *other)}
    assert texts(await store.search(ALICE, near(EAST), 9)) == ["hers"]
    assert texts(await store.search(BOB, near(EAST), 9)) == ["his"]
    await store.finish(begun.id)
    assert [region.id for region in await store.lacking_vectors(MODEL, 9)] == [hidden[0].id]
    await embed(store, hidden, [EAST])
    assert texts(await store.search(ALICE, near(EAST), 9)) == ["hers", "hidden"]


async def test_filters_are_looked_at_first(store: Store) -> None:
    """The farthest of many is found where it alone passes."""
    _, many = await index(store, ALICE, b"many", [[laid("x") for _ in range(200)]], metadata={"team": "blue"})
    last, few = await index(
        store, ALICE, b"few", [[laid("y")], [laid("far", RegionType.CODE)]], metadata={"team": "red"}
    )
    await embed(store, many, [EAST] * 200)
    await embed(store, few, [EAST, packed([0.1, 1.0])])
    filters: list[dict[str, object]] = [
        {"types": frozenset([RegionType.CODE])},
        {"doc_ids": frozenset([last.id]), "first_page": 2},
        {"metadata": {"team": "red"}, "last_page": 2, "first_page": 2},
    ]

    for each in filters:
        assert texts(await store.search(ALICE, near(EAST, **each), 3)) == ["far"]
    assert await store.search(ALICE, near(EAST, types=frozenset()), 3) == []


async def test_what_is_deleted_is_not_near_any_more(store: Store) -> None:
    """At once, by document, by scope, or because it was indexed again; and what it took is given back."""
    before = await store.held_bytes()
    first, regions = await index(store, ALICE, b"1", [[laid("one")]])
    without = await store.held_bytes()
    await embed(store, regions, [EAST])
    taken = await store.held_bytes() - without
    seen = [texts(await store.search(ALICE, near(EAST), 9))]
    _, again = await index(store, ALICE, b"1", [[laid("anew")]])
    await embed(store, [*regions, *again], [EAST, EAST])
    seen.append(texts(await store.search(ALICE, near(EAST), 9)))
    await store.delete_document(ALICE.owner, first.id)
    seen.append(texts(await store.search(ALICE, near(EAST), 9)))
    _, more = await index(store, ALICE, b"2", [[laid("two")]])
    await embed(store, more, [EAST])
    await store.delete_all(ALICE.owner)
    seen.append(texts(await store.search(ALICE, near(EAST), 9)))

    assert taken == VECTOR_BYTES + len(EAST)
    assert seen == [["one"], ["anew"], [], []]
    assert await store.held_bytes() == before


async def test_another_model_makes_others(store: Store) -> None:
    """Each region lacks one until the other model has made it, and then has that alone; nothing is counted twice."""
    _, regions = await index(store, ALICE, b"1", [[laid("one"), laid("two"), laid("")]])
    await embed(store, regions, [EAST, NORTH, b""])
    held = await store.held_bytes()
    lacking = [len(await store.lacking_vectors(model, 9)) for model in (MODEL, "another")]
    await embed(store, regions, [NORTH, EAST, b""], "another")

    assert lacking == [0, 3]
    assert await store.lacking_vectors("another", 9) == []
    assert await store.held_bytes() == held
    assert texts(await store.search(ALICE, near(EAST, "another"), 1)) == ["two"]
    assert [region.laid.text for region in await store.lacking_vectors(MODEL, 2)] == ["", "two"]


async def test_there_is_no_more_than_there_is_room_for(tmp_path: Path) -> None:
    """Vectors that do not fit are refused together, and nothing goes for them."""
    store = SqliteDocumentStore(tmp_path / "vision.db", 65_536)
    _, regions = await index(store, ALICE, b"1", [[laid(str(number)) for number in range(20)]])
    held = await store.held_bytes()
    with pytest.raises(VisionFault, match="max_bytes") as failed:
        await embed(store, regions, [packed([1.0] * 2000)] * 20)

    assert failed.value.kind == "full"
    assert await store.held_bytes() == held
    assert len(await store.lacking_vectors(MODEL, 99)) == 20
    await store.close()


async def test_a_file_of_the_version_before_is_taken_up(tmp_path: Path) -> None:
    """Its regions are found as before, and lack vectors."""
    path = tmp_path / "vision.db"
    await old_file(path)
    store = SqliteDocumentStore(path)
    found = await store.search(ALICE, sought("pump"), 9)
    lacking = await store.lacking_vectors(MODEL, 9)
    await embed(store, lacking, [EAST] * len(lacking))

    assert texts(found) == ["pump"]
    assert [region.id for region in lacking] == [found[0].region.id]
    assert similarities(await store.search(ALICE, near(EAST), 9)) == [1.0]
    await store.delete_all(ALICE.owner)
    assert await store.held_bytes() == 0
    await store.close()


async def old_file(path: Path) -> None:
    """A document in a file before there were vectors."""
    store = SqliteDocumentStore(path)
    await index(store, ALICE, b"1", [[laid("pump")]])
    await store.close()
    with sqlite3.connect(path) as db:
        for undone in ("TABLE filling", "TABLE vectors", "INDEX regions_model", "TABLE models"):
            db.execute(f"DROP {undone}")
        db.execute("ALTER TABLE regions DROP COLUMN model")
        db.execute("PRAGMA user_version = 1")
    db.close()
    assert len(sqlite_schema.FORMAT.migrations) == 2


async def test_another_process_counts_at_the_next_search(tmp_path: Path) -> None:
    """What it adds and what it deletes."""
    path = tmp_path / "vision.db"
    store, other = SqliteDocumentStore(path), SqliteDocumentStore(path)
    first, regions = await index(store, ALICE, b"1", [[laid("one")]])
    await embed(store, regions, [EAST])
    seen = [texts(await store.search(ALICE, near(EAST), 9))]
    _, more = await index(other, ALICE, b"2", [[laid("two")]])
    await embed(other, more, [EAST])
    seen.append(texts(await store.search(ALICE, near(EAST), 9)))
    await other.delete_document(ALICE.owner, first.id)
    seen.append(texts(await store.search(ALICE, near(EAST), 9)))

    assert seen == [["one"], ["one", "two"], ["two"]]
    await store.close()
    await other.close()


@pytest.mark.parametrize("is_exact", [True, False])
async def test_the_answer_is_that_of_comparing_with_each(
    store: Store, monkeypatch: pytest.MonkeyPatch, is_exact: bool
) -> None:
    """As long as they fit; of signs it is that as well where there are fewer than are compared again."""
    monkeypatch.setattr(region_vectors, "_AT_ONCE", 50)
    chance = random.Random(3)
    _, regions = await index(store, ALICE, b"1", [[laid(f"w{number}") for number in range(300)]])
    vectors = [some_vector(chance) for _ in regions]
    await embed(store, regions[:130], vectors[:130])
    await store.search(ALICE, sought("w1"), 1)
    assert store._searched is not None
    if not is_exact:
        store._searched.vectors = RegionVectors(12_000)
    await store.search(ALICE, near(vectors[0]), 1)
    await embed(store, regions[130:], vectors[130:])
    by_id = dict(zip((region.id for region in regions), vectors, strict=True))
    for _ in range(10):
        asked = some_vector(chance)
        found = await store.search(ALICE, near(asked, question="w7"), 20)
        expected = sorted(by_id, key=lambda id_: -cosine(by_id[id_], asked))[:19]

        assert {each.region.id for each in found} >= set(expected)
        for each in found:
            assert each.similarity == pytest.approx(cosine(by_id[each.region.id], asked), abs=0.01)
    kept = list(store._searched.vectors._kept.values())
    assert [each.is_exact for each in kept] == [is_exact]
    if not is_exact:
        assert store._searched.vectors.held_bytes <= 12_000


async def test_of_signs_the_nearest_are_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among far more than are compared again."""
    monkeypatch.setattr(region_vectors, "RESCORED", 60)
    chance = np.random.default_rng(5)
    _, regions = await index(store, ALICE, b"1", [[laid("x") for _ in range(2000)]])
    made = chance.normal(size=(2000, 64))
    await embed(store, regions, [packed(row.tolist()) for row in made])
    await store.search(ALICE, sought("x"), 1)
    assert store._searched is not None
    store._searched.vectors = RegionVectors(100_000)
    hits = 0
    for place in range(0, 2000, 100):
        asked = packed((made[place] + chance.normal(scale=0.5, size=64)).tolist())
        hits += (await store.search(ALICE, near(asked), 1))[0].region.id == regions[place].id

    assert hits == 20


async def test_what_is_kept_is_bounded(store: Store) -> None:
    """The scope that was asked for longest ago goes first; one that is too large by itself is not kept at all."""
    for scope in (ALICE, BOB):
        _, regions = await index(store, scope, b"1", [[laid("x") for _ in range(40)]])
        await embed(store, regions, [EAST] * 40)
    await store.search(ALICE, near(EAST), 1)
    assert store._searched is not None
    held = store._searched.vectors.held_bytes
    store._searched.vectors = kept = RegionVectors(held + 10)
    sizes = []
    for scope in (ALICE, BOB, ALICE):
        assert len(await store.search(scope, near(EAST), 50)) == 40
        sizes.append((len(kept._kept), kept.held_bytes))
    store._searched.vectors = none = RegionVectors(10)

    assert sizes == [(1, held)] * 3
    assert len(await store.search(ALICE, near(EAST), 50)) == 40
    assert none.held_bytes == 0


async def test_what_has_gone_is_not_kept_for_ever(store: Store) -> None:
    """When much of it has gone, all is read anew."""
    first, gone = await index(store, ALICE, b"1", [[laid("x") for _ in range(100)]])
    _, left = await index(store, ALICE, b"2", [[laid("y") for _ in range(30)]])
    await embed(store, [*gone, *left], [EAST] * 130)
    await store.search(ALICE, near(EAST), 1)
    assert store._searched is not None
    before = store._searched.vectors.held_bytes
    await store.delete_document(ALICE.owner, first.id)

    assert len(await store.search(ALICE, near(EAST), 200)) == 30
    assert store._searched.vectors.held_bytes < before / 3
