"""Documents of a memory beside what it holds otherwise: in time, of its own scope, for those who may."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set

import pytest

from gateway.core.access import ALL_GRANTS, Permission
from gateway.core.facts.memory import Scope
from gateway.core.facts.reminders import Place, Reminder
from gateway.core.routing.routes import Roles
from gateway.core.vision.document import Document, FoundRegion, RegionsSought
from gateway.exchange import Client, Exchange
from gateway.ports_vision import VisionFault
from gateway.shell.vision.reminding import CANDIDATES, DocumentReminding
from tests.core.vision.test_shown import found
from tests.histories import body_of, exchange_of

OWNER = b"a" * 32
SCOPE = Scope(OWNER, "depot")
REMINDER = Reminder(-1, "f" * 32, "user", "", "[8 May 2023]\nThe locker is open.", 9, "m1", heading="8 May 2023")


class Memories:
    """Remembers one thing."""

    async def find(self, exchange: Exchange, scope: Scope, asked: str, contained: Set[str]) -> Sequence[Reminder]:
        return [REMINDER]


class Documents:
    """One document with two regions; fails or hangs when told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Scope, RegionsSought, int]] = []
        self.named: list[str] = []
        self.fault: Exception | None = None
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def search(self, scope: Scope, sought: RegionsSought, limit: int) -> Sequence[FoundRegion]:
        self.asked.append((scope, sought, limit))
        await self.may_go_on.wait()
        if self.fault is not None:
            raise self.fault
        return [found("Total due: EUR 12", 2), found("Terms", 1)]

    async def document(self, owner: bytes, doc_id: str) -> Document | None:
        self.named.append(doc_id)
        return Document(doc_id, SCOPE, "0" * 64, "https://example.com/bill.pdf", "application/pdf", 9, {}, 2, 0)


def exchange_for(*lacking: Permission) -> Exchange:
    exchange = exchange_of(body_of([{"role": "user", "content": "hi"}]), OWNER, Roles.OPEN)
    grants = ALL_GRANTS.__class__(may=ALL_GRANTS.may - frozenset(lacking))
    exchange.client = Client("ann", OWNER, grants)
    return exchange


def reminding(documents: Documents, deadline_s: float = 60.0) -> DocumentReminding:
    return DocumentReminding(Memories(), documents, deadline_s)  # type: ignore[arg-type]


async def test_regions_come_before_what_is_remembered() -> None:
    """Numbered before it; a document is asked for its name once."""
    documents = Documents()
    both = reminding(documents)
    first = await both.find(exchange_for(), SCOPE, "What is the total due?", frozenset())
    again = await both.find(exchange_for(), SCOPE, "What is the total due?", frozenset())

    assert [(each.number, each.label) for each in first] == [(-3, "d1"), (-2, "d2"), (-1, "m1")]
    assert [each.place for each in first] == [Place("d" * 32, 1), Place("d" * 32, 2), None]
    assert first[0].heading == "bill.pdf, page 1"
    assert list(again) == list(first)
    assert documents.named == ["d" * 32]
    assert {(scope, limit) for scope, _, limit in documents.asked} == {(SCOPE, CANDIDATES)}
    assert both.tally == {"found": 2}


async def test_who_may_not_see_documents_gets_none() -> None:
    """They are not looked at."""
    documents = Documents()
    told = await reminding(documents).find(exchange_for(Permission.VISION), SCOPE, "What is due?", frozenset())

    assert told == [REMINDER]
    assert documents.asked == []


@pytest.mark.parametrize("kind", ["down", "timeout"])
async def test_a_fault_costs_the_documents_only(kind: str) -> None:
    """It is counted by its kind."""
    documents = Documents()
    documents.fault = VisionFault(kind, "no")
    both = reminding(documents)

    assert await both.find(exchange_for(), SCOPE, "What is due?", frozenset()) == [REMINDER]
    assert both.tally == {kind: 1}


async def test_a_store_that_hangs_costs_the_deadline() -> None:
    """What is remembered is told all the same."""
    documents = Documents()
    documents.may_go_on.clear()
    both = reminding(documents, deadline_s=0.01)

    assert await both.find(exchange_for(), SCOPE, "What is due?", frozenset()) == [REMINDER]
    assert both.tally == {"timeout": 1}


async def test_a_message_without_words_asks_for_nothing() -> None:
    """There is nothing to look up."""
    documents = Documents()

    assert await reminding(documents).find(exchange_for(), SCOPE, "?!", frozenset()) == [REMINDER]
    assert documents.asked == []


class Endpoint:
    """Makes one vector of everything, or none in time."""

    model = "embedder"

    def __init__(self, vector: bytes | None) -> None:
        self.vector = vector
        self.asked: list[str] = []

    async def embed(
        self, exchange: Exchange | None, texts: Sequence[str], patience_s: float | None = None
    ) -> list[bytes | None]:
        self.asked += texts
        return [self.vector] * len(texts)


@pytest.mark.parametrize("vector", [b"\x00<", None])
async def test_a_question_is_asked_by_its_meaning_where_that_is_known(vector: bytes | None) -> None:
    """Beside its words; where the endpoint is late, by these alone; of a long message its end makes the vector."""
    documents, endpoint = Documents(), Endpoint(vector)
    both = DocumentReminding(Memories(), documents, 60.0, endpoint)  # type: ignore[arg-type]
    await both.find(exchange_for(), SCOPE, "x" * 5000 + " What is due?", frozenset())
    ((_, sought, _),) = documents.asked

    assert sought.terms
    assert (sought.vector, sought.model) == ((vector, "embedder") if vector else (b"", ""))
    assert [len(asked) for asked in endpoint.asked] == [2000]


async def test_a_message_without_words_may_have_a_meaning() -> None:
    """It is asked by that alone."""
    documents = Documents()
    both = DocumentReminding(Memories(), documents, 60.0, Endpoint(b"\x00<"))  # type: ignore[arg-type]

    assert len(await both.find(exchange_for(), SCOPE, "?!", frozenset())) == 3
    assert not documents.asked[0][1].terms


async def test_who_may_not_see_documents_is_not_embedded_for_them() -> None:
    """Nobody pays for what is not looked at."""
    endpoint = Endpoint(b"\x00<")
    both = DocumentReminding(Memories(), Documents(), 60.0, endpoint)  # type: ignore[arg-type]

    assert await both.find(exchange_for(Permission.VISION), SCOPE, "What is due?", frozenset()) == [REMINDER]
    assert endpoint.asked == []
