"""What searching regions of documents takes, at a hundred thousand regions in one scope and at other sizes.

    python3 dev.py bench-vision-search [--sizes 10000,100000] [--pages 50] [--memory] [--vectors 384]

Documents of so many pages with ten regions each are kept in a file, one call a page as indexing does; a region has 20
to 100 words by Zipf's law from 30,000, one in eight a caption, and a document a title, a team of ten and a year of
five. Then 200 questions of each kind are asked for ten regions each; most kinds ask for one that is there, by words of
it and some that are not in it, and "found" is how often it is among the ten. Documents are made
beforehand; times are of the calls alone, as their caller sees them. With `--vectors` every region gets one of so many
numbers at the end, drawn at random, and questions come with that of their region, blurred.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.facts import resident_mib
from benchmarks.facts_texts import Texts
from benchmarks.measurement import percentile
from gateway.core.context.terms import name_terms
from gateway.core.facts.memory import Scope, Vector
from gateway.core.vision.document import (
    Box,
    Document,
    LaidPage,
    LaidRegion,
    PageSize,
    Region,
    RegionsSought,
    RegionType,
)
from gateway.shell.vision.sqlite import SqliteDocumentStore

SCOPE = Scope(b"o" * 32, "bench")
SIZE = PageSize(1224, 1584)
REGIONS_A_PAGE, QUESTIONS, LIMIT = 10, 200, 10
MODEL, VECTORS_AT_ONCE = "bench", 256
TYPES = [RegionType.TEXT] * 7 + [RegionType.TABLE, RegionType.FIGURE, RegionType.CODE]


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """A region that was kept, and its document."""

    region: Region
    document: Document


class Documents:
    """A source of documents; the same seed gives the same ones."""

    def __init__(self, pages: int, first: int = 0) -> None:
        self._chance = random.Random(11)
        self._texts = Texts(2)
        self._pages = pages
        self._number = first

    def words(self, count: int) -> list[str]:
        return self._texts._some_words(count)

    def make(self) -> tuple[Document, list[list[Region]]]:
        """Another document with its pages."""
        self._number += 1
        chance, id_ = self._chance, f"{self._number:032x}"
        year, team = 2020 + chance.randrange(5), f"team{chance.randrange(10)}"
        metadata = {"title": " ".join(self.words(4)), "team": team, "year": year, "number": self._number}
        pages = [[self._region(id_, page) for _ in range(REGIONS_A_PAGE)] for page in range(1, self._pages + 1)]
        hash_ = f"{self._number:064x}"
        source = f"https://docs.example.com/{'-'.join(self.words(2))}.pdf"
        made = Document(id_, SCOPE, hash_, source, "application/pdf", 1000, metadata, self._pages, self._number)
        return made, pages

    def _region(self, doc_id: str, page: int) -> Region:
        chance = self._chance
        words = self.words(chance.randint(20, 100))
        if chance.random() < 0.5:
            words.insert(chance.randrange(len(words)), f"svc-{chance.getrandbits(40):010x}")
        caption = " ".join(self.words(8)) if chance.random() < 0.125 else ""
        laid = LaidRegion(Box(0, 0, 100, 100), chance.choice(TYPES), " ".join(words), caption)
        return Region(f"{chance.getrandbits(128):032x}", doc_id, page, laid, len(words), SIZE)


class Bench:
    """A store that grows.

    Args:
        store: to measure.
        made: what is put into it.
    """

    def __init__(self, store: SqliteDocumentStore, made: Documents) -> None:
        self._store = store
        self._made = made
        self._known: list[Known] = []
        self._chance = random.Random(13)
        self._common = _most_common(made.words(20_000), 60)

    async def grow(self, regions: int, disk_bytes: Callable[[], int]) -> None:
        """To so many regions."""
        began, taken_s = len(self._known), 0.0
        while len(self._known) < regions:
            document, pages = self._made.make()
            self._known += [Known(region, document) for page in pages for region in page]
            began_s = time.perf_counter()
            await self._keep(document, pages)
            taken_s += time.perf_counter() - began_s
        each, held = disk_bytes() / len(self._known), await self._store.held_bytes()
        print(f"{len(self._known):,} regions; {(len(self._known) - began) / taken_s:,.0f} regions/s", end="")
        print(f" ({(len(self._known) - began) / REGIONS_A_PAGE / taken_s:,.0f} pages/s) kept", end="")
        print(f"; {each:,.0f} bytes each on the disk, {held / len(self._known):,.0f} by the store's reckoning")

    async def _keep(self, document: Document, pages: Sequence[Sequence[Region]]) -> None:
        await self._store.begin(document, document.id.encode())
        for number, page in enumerate(pages, 1):
            await self._store.add_page(document.id, number, LaidPage(SIZE, [each.laid for each in page]), page)
        await self._store.finish(document.id)

    async def _keep_all(self, made: Sequence[tuple[Document, Sequence[Sequence[Region]]]]) -> None:
        for document, pages in made:
            await self._keep(document, pages)

    async def delete_large(self) -> None:
        """A document of 500 pages, and how long others' writes wait meanwhile."""
        document, pages = Documents(500, first=1_000_000).make()
        await self._keep(document, pages)
        began_s = time.perf_counter()
        deleting = asyncio.create_task(self._store.delete_document(SCOPE.owner, document.id))
        waits = []
        while not deleting.done():
            asked_s = time.perf_counter()
            await self._store.claim_job("nobody", 0, 0)
            waits.append(time.perf_counter() - asked_s)
        taken_s = time.perf_counter() - began_s
        print(f"  a document of 500 pages is deleted in {taken_s:.2f} s; others' writes wait", end="")
        print(f" {statistics.median(waits) * 1e3:.0f} ms, at most {max(waits) * 1e3:.0f} ms")

    async def ask_all(self) -> None:
        """Each kind of question."""
        kinds: dict[str, Callable[[Known], tuple[str, Mapping[str, Any]]]] = {
            "words of it": lambda known: (self._some_of(known, 6), {}),
            "an identifier of it": lambda known: (self._identifier_of(known), {}),
            "three words of it": lambda known: (" ".join(self._chance.sample(_words(known), 3)), {}),
            "frequent words of it": lambda known: (self._frequent_of(known), {}),
            "and by its type": lambda known: (
                self._some_of(known, 6),
                {"types": frozenset([known.region.laid.type])},
            ),
            "and by its document": lambda known: (self._some_of(known, 3), {"doc_ids": frozenset([known.document.id])}),
            "and by its page": lambda known: (
                self._some_of(known, 3),
                {"first_page": known.region.page, "last_page": known.region.page},
            ),
            "and by its team": lambda known: (
                self._some_of(known, 6),
                {"metadata": {"team": known.document.metadata["team"]}},
            ),
            "and by its number": lambda known: (
                self._some_of(known, 3),
                {"metadata": {"number": known.document.metadata["number"]}},
            ),
            "frequent, all filters": lambda known: (
                " ".join([*self._chance.sample(self._common, 5), self._chance.choice(_words(known))]),
                {
                    "types": frozenset([known.region.laid.type]),
                    "first_page": known.region.page,
                    "last_page": known.region.page + 4,
                    "metadata": {"team": known.document.metadata["team"], "year": known.document.metadata["year"]},
                },
            ),
        }
        for name, ask in kinds.items():
            await self._ask(name, ask)
        made = [self._made.make() for _ in range(8)]
        keeping = asyncio.create_task(self._keep_all(made))
        await self._ask("words of it, meanwhile", kinds["words of it"])
        print(
            f"    (meanwhile: while documents are kept; {'they still were' if not keeping.done() else 'they were not'})"
        )
        await keeping

    async def ask_near(self, dimensions: int) -> None:
        """By vectors, alone, beside words, and within a filter."""
        began_s = time.perf_counter()
        for first in range(0, len(self._known), VECTORS_AT_ONCE):
            places = range(first, min(len(self._known), first + VECTORS_AT_ONCE))
            vectors = [Vector(self._known[at].region.id, MODEL, vector_of(at, dimensions)) for at in places]
            await self._store.put_vectors(vectors)
        taken_s = time.perf_counter() - began_s
        print(f"  {len(self._known) / taken_s:,.0f} vectors of {dimensions} numbers kept a second", flush=True)
        places_of = {known.region.id: place for place, known in enumerate(self._known)}

        def near(known: Known) -> dict[str, Any]:
            place = places_of[known.region.id]
            return {"vector": vector_of(place, dimensions, self._chance.getrandbits(32)), "model": MODEL}

        before_mib, began_s = resident_mib(), time.perf_counter()
        await self._store.search(SCOPE, RegionsSought([], **near(self._known[0])), LIMIT)
        first_ms = (time.perf_counter() - began_s) * 1e3
        await self._ask("by a vector", lambda known: ("", near(known)))
        await self._ask("by a vector and words", lambda known: (self._some_of(known, 6), near(known)))

        def by_type(known: Known) -> dict[str, Any]:
            return {"types": frozenset([known.region.laid.type])} | near(known)

        await self._ask("by vector, words, type", lambda known: (self._some_of(known, 6), by_type(known)))
        print(f"  the first search took {first_ms:,.0f} ms; memory {resident_mib() - before_mib:+.0f} MiB")

    def _some_of(self, known: Known, count: int) -> str:
        words = _words(known)
        return " ".join([*self._chance.sample(words, min(count, len(words))), *self._made.words(3)])

    def _frequent_of(self, known: Known) -> str:
        return " ".join([word for word in dict.fromkeys(_words(known)) if word in self._common][:6])

    def _identifier_of(self, known: Known) -> str:
        named = [word for word in _words(known) if word.startswith("svc-")]
        return named[0] if named else self._some_of(known, 6)

    async def _ask(self, name: str, ask: Callable[[Known], tuple[str, Mapping[str, Any]]]) -> None:
        taken, found = [], 0
        for _ in range(QUESTIONS):
            known = self._chance.choice(self._known)
            question, filters = ask(known)
            named = name_terms(question)
            sought = RegionsSought(list(named.words), named.hard, **filters)
            began_s = time.perf_counter()
            answers = await self._store.search(SCOPE, sought, LIMIT)
            taken.append(time.perf_counter() - began_s)
            found += known.region.id in {answer.region.id for answer in answers}
        middle, high = statistics.median(taken) * 1e3, percentile(taken, 0.99) * 1e3
        print(f"  {name:24} p50 {middle:5.1f} ms, p99 {high:5.1f} ms, found {found / QUESTIONS:6.1%}", flush=True)


def vector_of(place: int, dimensions: int, blur: int | None = None) -> bytes:
    """Of a region, by its place; or one that a question about it might have, at a cosine of about .7."""
    vector = np.random.default_rng(place).normal(size=dimensions)
    if blur is not None:
        vector = vector + np.random.default_rng(blur).normal(size=dimensions)
    return bytes((vector / np.linalg.norm(vector)).astype("<f2").tobytes())


def _words(known: Known) -> list[str]:
    return known.region.laid.text.split()


def _most_common(words: Sequence[str], count: int) -> list[str]:
    return [word for word, _ in Counter(words).most_common(count)]


async def measure(arguments: argparse.Namespace, path: Path | None) -> None:
    before_mib = resident_mib()
    store = SqliteDocumentStore(path, 1 << 40)
    bench = Bench(store, Documents(arguments.pages))
    for size in map(int, arguments.sizes.split(",")):
        await bench.grow(size, lambda: sum(each.stat().st_size for each in path.parent.iterdir()) if path else 0)
        print(f"  load {os.getloadavg()[0]:.1f}; memory {resident_mib() - before_mib:+.0f} MiB, the making included")
        await bench.ask_all()
    if arguments.vectors:
        await bench.ask_near(arguments.vectors)
    await bench.delete_large()
    await store.close()


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000", help="in regions, rising")
    parser.add_argument("--pages", type=int, default=50, help="of a document")
    parser.add_argument("--vectors", type=int, default=0, help="numbers of each region's vector; 0: there are none")
    parser.add_argument("--memory", action="store_true", help="without a file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(arguments, None if arguments.memory else Path(folder) / "vision.db"))


if __name__ == "__main__":
    main()
