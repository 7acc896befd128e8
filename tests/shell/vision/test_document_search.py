"""Searches of documents: the best are found whatever is filtered, and scores mean the same everywhere."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.vision.document import Document, Region, RegionsSought, RegionType
from gateway.core.vision.region_words import FULL, document_terms, impacts_of
from gateway.ports_vision import VisionFault
from gateway.shell.vision import region_lists
from gateway.shell.vision.sqlite import SqliteDocumentStore
from tests.shell.vision.documents import ALICE, BOB, OTHER, add_page, document, index, laid, new_id, sought, texts

sqlite_search = pytest.importorskip("gateway.shell.vision.sqlite_search", reason="numpy is not installed")
region_layouts = pytest.importorskip("gateway.shell.vision.region_layouts", reason="numpy is not installed")
Store = SqliteDocumentStore


async def test_what_a_region_is_found_by(store: Store) -> None:
    """Its text, its caption, its document's metadata and name: in this order, where nothing else differs."""
    words = [["harbour", ""], ["nothing", "the harbour"], ["nothing", ""]]
    pages = [[laid(text, caption=caption) for text, caption in words]]
    await index(store, ALICE, b"1", pages)
    await index(store, ALICE, b"2", [[laid("by its metadata")]], metadata={"title": ["the harbour", {"x": 1}]})
    await index(store, ALICE, b"3", [[laid("by its name at last")]], source="https://x.example/a/The%20Harbour.pdf?b=c")
    found = await store.search(ALICE, sought("harbour"), 9)

    assert texts(found) == ["harbour", "nothing", "by its metadata", "by its name at last"]
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert found[0].score > found[1].score > found[2].score > 0
    assert await store.search(ALICE, sought("example"), 9) == []


async def test_what_matched_is_told_by_weight(store: Store) -> None:
    """Rare words before frequent ones, whole identifiers first; only such as the region holds."""
    await index(store, ALICE, b"1", [[laid("pump")] * 50 + [laid("pump valve svc-17"), laid("valve")]])
    asked = sought("pump valve svc-17 absent")
    found = await store.search(ALICE, asked, 60)
    whole = next(iter(asked.exact))

    assert texts(found)[:2] == ["pump valve svc-17", "valve"]
    assert found[0].matched[0] == whole
    assert set(found[0].matched) == set(asked.terms) - {asked.terms[-1]}
    assert found[1].matched == (asked.terms[1],)
    assert list(found[0].matched).index(asked.terms[1]) < list(found[0].matched).index(asked.terms[0])


async def test_a_score_is_the_share_that_is_answered(store: Store) -> None:
    """Never above 1, near it where all is said often and little else; less with each word that is not answered."""
    await index(store, ALICE, b"1", [[laid("pump valve"), laid("pump " * 200 + "valve " * 200)]])
    both = await store.search(ALICE, sought("pump valve"), 9)
    half = await store.search(ALICE, sought("pump valve absent missing"), 9)

    assert 0.5 < both[0].score <= 1
    assert half[0].score == pytest.approx(both[0].score / 2, rel=0.15)
    assert (await store.search(ALICE, sought("absent"), 9)) == []


async def test_scores_of_a_small_and_a_large_scope_compare(store: Store) -> None:
    """A few regions do not say what is rare: the same answer has about the same score in both."""
    await index(store, ALICE, b"1", [[laid("pump valve")]])
    await index(store, OTHER, b"2", [[laid(f"word{number}") for number in range(300)] + [laid("pump valve")]])
    small, large = [(await store.search(scope, sought("pump absent"), 1))[0] for scope in (ALICE, OTHER)]

    assert small.score == pytest.approx(large.score, rel=0.1)


async def test_filters_are_pushed_down(store: Store) -> None:
    """The worst of very many is found where it alone passes, by each filter."""
    many = [[laid("pump pump pump") for _ in range(200)] for _ in range(5)]
    await index(store, ALICE, b"many", many, metadata={"team": "blue", "n": 1})
    worst = [[laid("x")], [laid("pump and many other words " * 20, RegionType.CODE)]]
    other, _ = await index(store, ALICE, b"other", [*worst, [], [], [], [], [], [laid("y")]], metadata={"team": "red"})
    last = await add_page_to(store, 7)
    filters: list[dict[str, Any]] = [
        {"types": frozenset([RegionType.CODE])},
        {"doc_ids": frozenset([other.id, new_id(), "x"])},
        {"metadata": {"team": "red"}, "last_page": 6},
        {"types": frozenset([RegionType.CODE, RegionType.TABLE]), "first_page": 2, "last_page": 2},
    ]

    for each in filters:
        assert [found.region.laid.type for found in await store.search(ALICE, sought("pump", **each), 3)] == [
            RegionType.CODE
        ]
    assert await store.search(ALICE, sought("pump", first_page=6, last_page=6), 3) == []
    assert texts(await store.search(ALICE, sought("pump", first_page=7), 3)) == [last]
    for nothing in ({"types": frozenset()}, {"doc_ids": frozenset()}, {"first_page": 9}, {"last_page": 0}):
        assert await store.search(ALICE, sought("pump", **nothing), 3) == []  # type: ignore[arg-type]
    assert len(await store.search(ALICE, sought("pump", first_page=-5, last_page=2**70, metadata={}), 2000)) == 1002


async def add_page_to(store: Store, page: int) -> str:
    """Another document that says it on this page alone."""
    begun = document(ALICE, b"far", page)
    await store.begin(begun, b"far")
    for number in range(1, page + 1):
        await add_page(store, begun.id, number, [laid("pump far away")] if number == page else [])
    await store.finish(begun.id)
    return "pump far away"


METADATA: dict[str, Any] = {
    "text": "red",
    "number": 1,
    "fraction": 1.5,
    "yes": True,
    "nothing": None,
    "list": [1, "a", {"b": [2.0]}],
    "object": {"a": 1, "b": 2},
    "": "",
}


async def test_metadata_are_equal_as_json(store: Store) -> None:
    """However numbers are spelt and keys are ordered; and a type is never another one."""
    await index(store, ALICE, b"1", [[laid("pump")]], metadata=METADATA)
    same: list[Mapping[str, Any]] = [
        *({key: value} for key, value in METADATA.items()),
        METADATA,
        {"number": 1.0},
        {"list": [1.0, "a", {"b": [2]}]},
        {"object": {"b": 2, "a": 1.0}},
    ]
    others: list[Mapping[str, Any]] = [
        {"text": "Red"},
        {"text": None},
        {"number": True},
        {"number": "1"},
        {"number": 2},
        {"yes": 1},
        {"yes": "true"},
        {"nothing": 0},
        {"nothing": ""},
        {"absent": None},
        {"list": ["a", 1, {"b": [2]}]},
        {"list": "red"},
        {"object": {"a": 1}},
        {"text": "red", "number": 2},
        {"Text": "red"},
        {"text": "\ud800"},
        {"\ud800": 1},
        {"text": object()},
    ]

    for each in same:
        assert len(await store.search(ALICE, sought("pump", metadata=each), 9)) == 1, each
    for each in others:
        assert await store.search(ALICE, sought("pump", metadata=each), 9) == [], each


async def test_strange_questions_are_answered(store: Store) -> None:
    """Nothing asked, nothing wanted, far too much asked; a scope that is not there."""
    await index(store, ALICE, b"1", [[laid("pump")]])
    many = RegionsSought(list(range(5000)), frozenset(range(4000)))

    assert await store.search(ALICE, RegionsSought([]), 9) == []
    assert await store.search(ALICE, sought("pump"), 0) == []
    assert await store.search(ALICE, many, 9) == []
    assert await store.search(BOB, sought("pump"), 9) == []
    assert texts(await store.search(ALICE, sought("pump " * 9), 9)) == ["pump"]


async def test_regions_without_words_are_no_trouble(store: Store) -> None:
    """A picture that shows no text, and one among others."""
    await index(store, ALICE, b"1", [[laid("", RegionType.FIGURE)], [laid(""), laid("pump"), laid("!?")]])

    assert texts(await store.search(ALICE, sought("pump"), 9)) == ["pump"]


async def test_what_is_read_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the rare words are read whole, and of frequent ones the newest."""
    await index(store, ALICE, b"1", [[laid("pump old")] + [laid("pump") for _ in range(5000)] + [laid("pump new")]])
    monkeypatch.setattr(sqlite_search, "MAX_ENTRIES", 100)
    found = await store.search(ALICE, sought("pump old new"), 2)

    assert sorted(texts(found)) == ["pump new", "pump old"]
    assert found[0].region.laid.text == "pump new"
    assert len(found[1].matched) == 1


async def test_without_numpy_it_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents are kept all the same."""
    monkeypatch.setitem(sys.modules, "gateway.shell.vision.sqlite_search", None)
    finished, _ = await index(store, ALICE, b"1", [[laid("pump")]])
    with pytest.raises(VisionFault, match="extra vision") as failed:
        await store.search(ALICE, sought("pump"), 9)

    assert failed.value.kind == "disabled"
    assert await store.document(ALICE.owner, finished.id) == finished


async def test_where_regions_stand_is_kept_until_somebody_writes(tmp_path: Path) -> None:
    """This store or another one on the file; and no more of it than the bound."""
    path = tmp_path / "vision.db"
    store, other = SqliteDocumentStore(path), SqliteDocumentStore(path)
    await index(store, ALICE, b"1", [[laid("pump one")]])
    await index(store, BOB, b"2", [[laid("pump two"), laid("pump three")]])
    both = [texts(await store.search(scope, sought("pump"), 9)) for scope in (ALICE, BOB)]
    assert store._searched is not None
    layouts = store._searched.layouts
    kept = [layouts.regions]
    layouts._max_regions = 2
    for scope in (ALICE, BOB):
        await store.search(scope, sought("pump"), 9)
        kept.append(layouts.regions)
    await index(other, ALICE, b"3", [[laid("pump four")]])
    more = texts(await store.search(ALICE, sought("pump"), 9))
    await other.delete_all(ALICE.owner)

    assert both == [["pump one"], ["pump two", "pump three"]]
    assert kept == [3, 1, 2]
    assert more == ["pump one", "pump four"]
    assert await store.search(ALICE, sought("pump"), 9) == []
    await store.close()
    await other.close()


WORDS = ("pump", "valve", "harbour", "svc-17", "zebra")
said = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
parts = st.builds(laid, said, st.sampled_from(RegionType), st.just("") | said)
books = st.tuples(
    st.lists(st.lists(parts, max_size=4), min_size=1, max_size=3),
    st.fixed_dictionaries({}, optional={"team": st.sampled_from(["zebra", "red"]), "n": st.integers(0, 1)}),
)
questions = st.builds(
    lambda words, **rest: (" ".join(words), {key: value for key, value in rest.items() if value is not None}),
    st.lists(st.sampled_from([*WORDS, "absent"]), min_size=1, max_size=4),
    types=st.none() | st.frozensets(st.sampled_from(RegionType), min_size=1),
    first_page=st.none() | st.integers(0, 3),
    last_page=st.none() | st.integers(1, 3),
    metadata=st.none() | st.fixed_dictionaries({}, optional={"team": st.just("red"), "n": st.integers(0, 1)}),
    documents=st.none() | st.sets(st.integers(0, 4)),
)


def scored(sought_: RegionsSought, kept: list[tuple[Document, Region]]) -> Iterator[tuple[float, str]]:
    """Every region that passes, scored by what the docstring of `sqlite_search` says."""
    all_impacts = [impacts_of(region.laid, document_terms(doc.source, doc.metadata)) for doc, region in kept]
    weights = {}
    for term in sought_.terms:
        holding = sum(term in impacts for impacts in all_impacts)
        rarity = math.log(1 + (max(len(kept), sqlite_search.LEAST_REGIONS) - holding + 0.5) / (holding + 0.5))
        weights[term] = rarity * (2 if term in sought_.exact else 1)
    for (doc, region), impacts in zip(kept, all_impacts, strict=True):
        passes = (
            (sought_.types is None or region.laid.type in sought_.types)
            and (sought_.doc_ids is None or doc.id in sought_.doc_ids)
            and (sought_.first_page is None or region.page >= sought_.first_page)
            and (sought_.last_page is None or region.page <= sought_.last_page)
            and all(doc.metadata.get(key) == value for key, value in (sought_.metadata or {}).items())
        )
        score = sum(weight * impacts.get(term, 0) / FULL for term, weight in weights.items()) / sum(weights.values())
        if passes and score > 0:
            yield score, region.id


@pytest.mark.parametrize("block_bits", [1, 12])
@settings(max_examples=60, deadline=None)
@given(made=st.lists(books, min_size=1, max_size=4), asked=questions, limit=st.integers(1, 12))
def test_the_answer_is_that_of_scoring_each(
    block_bits: int, made: list[tuple[Any, Any]], asked: tuple[str, Any], limit: int
) -> None:
    """Whatever the regions, the question, the filters, and how lists are cut into blocks."""

    async def run() -> None:
        store, kept, ids = SqliteDocumentStore(), list[tuple[Document, Region]](), []
        for number, (pages, metadata) in enumerate(made):
            doc, regions = await index(store, ALICE, b"%d" % number, pages, metadata=metadata)
            kept += [(doc, region) for region in regions]
            ids.append(doc.id)
        await index(store, BOB, b"other", [[laid(" ".join(WORDS))]])
        question, filters = asked[0], dict(asked[1])
        chosen = filters.pop("documents", None)
        if chosen is not None:
            filters["doc_ids"] = frozenset(ids[place] for place in chosen if place < len(ids))
        sought_ = sought(question, **filters)
        found = await store.search(ALICE, sought_, limit)
        await store.close()
        expected = {id_: score for score, id_ in scored(sought_, kept)}
        best = sorted(expected.values(), reverse=True)[:limit]

        assert [each.score for each in found] == pytest.approx(best, abs=1e-5)
        assert [expected[each.region.id] for each in found] == pytest.approx(best, abs=1e-5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(region_lists, "BLOCK_BITS", block_bits)
        patch.setattr(region_lists, "BLOCK", 1 << block_bits)
        patch.setattr(region_layouts, "BLOCK_BITS", block_bits)
        patch.setattr(region_layouts, "BLOCK", 1 << block_bits)
        asyncio.run(run())
