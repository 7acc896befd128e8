"""Documents for tests of stores."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from gateway.core.context.terms import name_terms
from gateway.core.facts.memory import Scope
from gateway.core.vision.document import (
    Box,
    Document,
    FoundRegion,
    Job,
    LaidPage,
    LaidRegion,
    PageSize,
    Region,
    RegionsSought,
    RegionType,
)
from gateway.ports_vision import DocumentStore

ALICE = Scope(b"a" * 32, "notes")
BOB = Scope(b"b" * 32, "notes")
OTHER = Scope(b"a" * 32, "other")
NOW_US = 1_000_000_000
SIZE = PageSize(1224, 1584)
_ids = random.Random(7)


class Clock:
    """Seconds that a test sets."""

    def __init__(self, now_us: int = NOW_US) -> None:
        self.now_us = now_us

    def __call__(self) -> float:
        return self.now_us / 1e6


def new_id() -> str:
    return f"{_ids.getrandbits(128):032x}"


def laid(text: str, type_: RegionType = RegionType.TEXT, caption: str = "", **rest: Any) -> LaidRegion:
    return LaidRegion(Box(10, 20, 300, 40), type_, text, caption, **rest)


def document(scope: Scope, data: bytes, pages: int = 1, **rest: Any) -> Document:
    """A document of these bytes, with the id that they have in this scope."""
    hash_ = hashlib.sha256(data).hexdigest()
    id_ = hashlib.sha256(scope.owner + scope.name.encode() + data).hexdigest()[:32]
    told: dict[str, Any] = {
        "id": id_,
        "scope": scope,
        "hash": hash_,
        "source": "",
        "media_type": "application/pdf",
        "size_bytes": len(data),
        "metadata": {},
        "pages": pages,
        "created_us": 1,
    }
    return Document(**(told | rest))


def regions_of(doc_id: str, page: int, parts: Sequence[LaidRegion]) -> list[Region]:
    return [Region(new_id(), doc_id, page, part, len(part.text) // 4, SIZE) for part in parts]


async def add_page(store: DocumentStore, doc_id: str, page: int, parts: Sequence[LaidRegion]) -> list[Region]:
    """Keep a page of these parts."""
    regions = regions_of(doc_id, page, parts)
    await store.add_page(doc_id, page, LaidPage(SIZE, parts), regions)
    return regions


async def index(
    store: DocumentStore, scope: Scope, data: bytes, pages: Sequence[Sequence[LaidRegion]], **rest: Any
) -> tuple[Document, list[Region]]:
    """Keep a whole document."""
    begun = document(scope, data, len(pages), **rest)
    await store.begin(begun, data)
    regions = [
        region for number, parts in enumerate(pages, 1) for region in await add_page(store, begun.id, number, parts)
    ]
    return await store.finish(begun.id), regions


def sought(question: str, **rest: Any) -> RegionsSought:
    named = name_terms(question)
    return RegionsSought(list(named.words), named.hard, **rest)


def texts(found: Sequence[FoundRegion]) -> list[str]:
    return [each.region.laid.text for each in found]


def job(scope: Scope, created_us: int = 1, **rest: Any) -> Job:
    told: dict[str, Any] = {
        "id": new_id(),
        "scope": scope,
        "source": "https://docs.example.com/a.pdf",
        "is_uploaded": False,
        "metadata": {},
        "is_forced": False,
        "created_us": created_us,
    }
    return Job(**(told | rest))
