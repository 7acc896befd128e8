"""What a memory holds for a user's message, from a real store: in time, of its own scope, by words and by vectors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from gateway.core.facts.memory import Anchor, Found, Origin, Scope, Sought, Source, fact_hash
from gateway.core.facts.mine import SAID
from gateway.core.facts.reminders import Reminder
from gateway.core.routing.routes import Roles
from gateway.exchange import Exchange
from gateway.ports_memory import MemoryFault
from gateway.shell.facts.chat_store import ChatMemoryStore
from gateway.shell.facts.reminding import CANDIDATES, StoredReminding
from gateway.shell.facts.sqlite import SqliteMemoryStore
from tests.histories import body_of, exchange_of
from tests.shell.facts.memories import ALICE, BOB, OTHER, fact, text
from tests.shell.facts.vectors import MODEL, packed, vector_of

EXCHANGE: Exchange = exchange_of(body_of([{"role": "user", "content": "hi"}]), b"a" * 32, Roles.OPEN)


class Watched(SqliteMemoryStore):
    """Notes what it is asked, and fails or hangs when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Scope, Sought, int]] = []
        self.fault: Exception | None = None
        self.hangs = asyncio.Event()
        self.hangs.set()

    async def search(self, scope: Scope, sought: Sought, limit: int) -> Sequence[Found]:
        self.asked.append((scope, sought, limit))
        await self.hangs.wait()
        if self.fault is not None:
            raise self.fault
        return await super().search(scope, sought, limit)


class Embedder:
    """Answers with what it is given."""

    model = MODEL

    def __init__(self, vector: bytes | None) -> None:
        self.vector = vector
        self.asked: list[tuple[Exchange | None, list[str]]] = []

    async def embed(self, exchange: Exchange | None, texts: Sequence[str]) -> list[bytes | None]:
        self.asked.append((exchange, list(texts)))
        return [self.vector] * len(texts)


@pytest.fixture
async def store() -> AsyncIterator[Watched]:
    made = Watched()
    yield made
    await made.close()


async def find(
    reminding: StoredReminding, asked: str, scope: Scope = ALICE, contained: set[str] | None = None
) -> Sequence[Reminder]:
    return await reminding.find(EXCHANGE, scope, asked, contained or set())


def shown(reminders: Sequence[Reminder]) -> list[str]:
    return [each.text.partition("\n")[2] for each in reminders]


async def test_what_shares_words_is_found(store: Watched) -> None:
    """As reminders, in the order of observation; the look-up is counted and timed."""
    await store.put(
        ALICE,
        [
            fact("Ann", SAID, "The locker has the code 7T-4093.", observed_us=2),
            text("The locker is in Bergen.", observed_us=1),
            text("Tea is hot."),
        ],
    )
    times: list[float] = []
    reminding = StoredReminding(store, 5.0, None, times.append)
    found = await find(reminding, "Which code has the locker?")
    nothing = await find(reminding, "submarine")

    assert shown(found) == ["The locker is in Bergen.", "The locker has the code 7T-4093."]
    assert nothing == []
    assert reminding.tally == {"found": 1, "nothing": 1}
    assert len(times) == 2
    assert store.asked[0][2] == CANDIDATES


async def test_2_only_the_scope_that_was_asked_for(store: Watched) -> None:
    """Not another client's memory of the same name, and not another of the same client."""
    for scope, code in ((ALICE, "1111"), (BOB, "2222"), (OTHER, "3333")):
        await store.put(scope, [text(f"The locker has the code {code}.")])
    reminding = StoredReminding(store, 5.0)
    found = [shown(await find(reminding, "locker code", scope)) for scope in (ALICE, BOB, OTHER)]
    nobody = await find(reminding, "locker code", Scope(b"c" * 32, "notes"))

    assert found == [[f"The locker has the code {code}."] for code in ("1111", "2222", "3333")]
    assert nobody == []
    assert [scope for scope, _, _ in store.asked[:3]] == [ALICE, BOB, OTHER]


@pytest.mark.parametrize("kind", ["down", "timeout", "full"])
async def test_1_a_store_that_fails_costs_the_reminders(store: Watched, kind: str) -> None:
    """Nothing is raised, and the fault is counted by its kind."""
    store.fault = MemoryFault(kind, "as told")
    reminding = StoredReminding(store, 5.0)

    assert await find(reminding, "locker code") == []
    assert reminding.tally == {kind: 1}


async def test_1_a_store_that_hangs_costs_the_deadline(store: Watched) -> None:
    """And no more, also where it does not let go; then the patient store leaves it alone."""
    store.hangs.clear()
    direct, patient = StoredReminding(store, 0.05), ChatMemoryStore(store, search_s=0.05)
    behind = StoredReminding(patient, 5.0)
    started_s = time.perf_counter()
    found = [await find(direct, "locker"), await find(behind, "locker"), await find(behind, "locker")]
    took_s = time.perf_counter() - started_s
    store.hangs.set()
    print(f"three look-ups of a store that hangs took {took_s * 1e3:.0f} ms")

    assert found == [[], [], []]
    assert direct.tally == {"timeout": 1}
    assert behind.tally == {"timeout": 1, "down": 1}
    assert len(store.asked) == 2


async def test_the_questions_vector_goes_along(store: Watched) -> None:
    """What shares no word is found by it, with its similarity; on the request's account."""
    near, far = text("The cellist sleeps until ten."), text("Crates were counted.")
    await store.put(ALICE, [near, far])
    pytest.importorskip("numpy", "2", reason="numpy is not installed")
    await store.put_vectors([vector_of(near, packed([1, 0.1])), vector_of(far, packed([0, 1]))])
    embedder = Embedder(packed([1, 0]))
    found = await find(StoredReminding(store, 5.0, embedder), "When does the musician get up?")
    similarities = {each.id: each.similarity for each in found}

    assert similarities[near.id] == pytest.approx(0.995, abs=1e-2)
    assert (similarities.get(far.id) or 0) < 0.1
    assert embedder.asked == [(EXCHANGE, ["When does the musician get up?"])]
    assert (store.asked[0][1].vector, store.asked[0][1].model) == (embedder.vector, MODEL)


async def test_without_a_vector_it_is_found_by_words(store: Watched) -> None:
    """An endpoint that is late or down costs the vector only."""
    await store.put(ALICE, [text("The locker is in Bergen.")])

    assert shown(await find(StoredReminding(store, 5.0, Embedder(None)), "locker")) == ["The locker is in Bergen."]
    assert store.asked[0][1].vector == b""


@pytest.mark.parametrize("asked", ["", " \n", "?!", "the of and"])
async def test_a_message_that_says_nothing_asks_nothing(store: Watched, asked: str) -> None:
    """Neither the store, nor, where it is blank, the endpoint."""
    await store.put(ALICE, [text("The of and."), text("locker")])
    embedder = Embedder(None)

    assert await find(StoredReminding(store, 5.0, embedder), asked) == []
    assert store.asked == []
    assert len(embedder.asked) == bool(asked.strip())


async def test_any_message_can_be_looked_up(store: Watched) -> None:
    """Huge ones by their ends, where the question stands; with halves of surrogate pairs, NUL, and many numbers."""
    await store.put(ALICE, [text("The locker is in Bergen.")])
    reminding = StoredReminding(store, 30.0)
    filler = " ".join(f"word{number}" for number in range(60_000))
    asked: list[Any] = [
        filler + " locker?",
        "\ud800 locker \x00",
        "locker' OR 1=1; --",
        'locker" * NEAR( AND',
        "字" * 9000,
    ]
    found = [shown(await find(reminding, each)) for each in asked]
    whole = await find(reminding, f"locker? {filler[:5000]}")

    assert found == [["The locker is in Bergen."]] * 4 + [[]]
    assert shown(whole) == ["The locker is in Bergen."]


async def test_what_the_chat_contains_is_left_out(store: Watched) -> None:
    """It is visible, or recalled as the message that it is."""
    turn = "ab" * 32
    hash_ = fact_hash("user", SAID, "My locker is blue.", Anchor())
    mined = fact("user", SAID, "My locker is blue.", sources=[Source(hash_, origin=Origin(turn, 0, 18, "user"))])
    await store.put(ALICE, [mined, text("The locker is in Bergen.")])
    reminding = StoredReminding(store, 5.0)

    assert shown(await find(reminding, "locker", contained={turn})) == ["The locker is in Bergen."]
    assert len(await find(reminding, "locker")) == 2
