"""The stages of memory wait for a store that is down, say what became of each line, and hold no more than they must."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
import pytest_asyncio

from gateway.bulk import lines_of, store_lines
from gateway.core.errors import Refusal
from gateway.core.facts.memory import Level, Memory, Scope, Stored
from gateway.core.facts.wire_contexts import ContextRules
from gateway.core.facts.wire_facts import FactRules, parse_fact
from gateway.core.wire.headers import Headers
from gateway.core.wire.paths import endpoint_of
from gateway.exchange import Client, Exchange
from gateway.ports_memory import MemoryFault
from gateway.remembering import Remembering, scope_of
from gateway.shell.facts.sqlite import SqliteMemoryStore
from gateway.stages.export_memory import ExportMemoryStage
from gateway.stages.insert_facts import InsertFactsStage

NOW_US = 1_700_000_000_000_000
OWNER = b"a" * 32
NDJSON = "application/x-ndjson"


@dataclass
class Sending:
    """`exchange.Inbound`: a body in pieces; `read_out` is set once all of it has been asked for."""

    pieces: Sequence[bytes]
    given: int = 0
    read_out: asyncio.Event = field(default_factory=asyncio.Event)
    has_body: bool = True

    async def read(self) -> bytes:
        return b"".join(self.pieces)

    def stream(self) -> AsyncIterator[bytes]:
        raise NotImplementedError

    async def decoded(self, *, holds: bool = False) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.given += 1
            yield piece
            await asyncio.sleep(0)
        self.read_out.set()


@dataclass
class Reading:
    """`exchange.Outbound`: a client that reads nothing before `begins` is set."""

    begins: asyncio.Event
    is_open: bool = True
    status: int = 0
    written: bytes = b""
    has_started: bool = False
    is_ended: bool = False

    async def start(self, status: int, headers: Headers, length: int | None) -> None:
        self.status = status

    async def write(self, chunk: bytes) -> None:
        await self.begins.wait()
        if not self.is_open:
            raise ConnectionResetError
        self.has_started = True
        self.written += chunk

    async def end(self, chunk: bytes = b"") -> None:
        await self.write(chunk)
        self.is_ended = True

    async def refuse(self, refusal: Refusal, headers: Headers) -> None:
        raise NotImplementedError

    async def abort(self) -> None:
        raise NotImplementedError

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written.splitlines()]


class Failing(SqliteMemoryStore):
    """A real store, whose calls that are numbered in `faults` fail so; `hangs`: no other is ever answered."""

    def __init__(self, faults: dict[int, str] | None = None, *, hangs: bool = False) -> None:
        super().__init__(None, clock=lambda: NOW_US / 1e6)
        self._faults, self._hangs, self.calls = faults or {}, hangs, 0

    async def _begin(self) -> None:
        self.calls += 1
        if kind := self._faults.get(self.calls):
            raise MemoryFault(kind, "as told")
        if self._hangs:
            await asyncio.Event().wait()

    async def put(self, scope: Scope, memories: Sequence[Memory]) -> Sequence[Stored]:
        await self._begin()
        return await super().put(scope, memories)

    async def scan(self, scope: Scope) -> AsyncGenerator[Memory, None]:
        await self._begin()
        async for memory in super().scan(scope):
            yield memory
            await self._begin()


Make = Callable[..., Awaitable[Remembering]]


@pytest_asyncio.fixture
async def remembering_of() -> AsyncIterator[Make]:
    """Makes what stages share, over a store that is closed at the end."""
    made: list[Failing] = []

    async def make(faults: dict[int, str] | None = None, *, hangs: bool = False, wait_s: float = 30.0) -> Remembering:
        store = Failing(faults, hangs=hangs)
        made.append(store)
        numbers = count(1)
        contexts = ContextRules(True, dict.fromkeys(Level))
        return Remembering(
            store, FactRules(), contexts, wait_s, Counter(), lambda: NOW_US, lambda: f"{next(numbers):032x}"
        )

    yield make
    for store in made:
        await store.close()


def exchange_of(
    method: str, path: str, pieces: Sequence[bytes] = (), content_type: str = NDJSON, *, reads: bool = True
) -> Exchange:
    begins = asyncio.Event()
    if reads:
        begins.set()
    endpoint = endpoint_of(method, path)
    headers = [("Content-Type", content_type)]
    exchange = Exchange("r", method, path, path, headers, endpoint, Sending(pieces), Reading(begins), 0.0)
    exchange.client = Client("c", OWNER)
    return exchange


def facts(numbers: range) -> bytes:
    rows = ({"subject": f"s{number}", "predicate": "is", "object": "o"} for number in numbers)
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def seen(exchange: Exchange) -> Reading:
    assert isinstance(exchange.outbound, Reading)
    return exchange.outbound


async def insert(remembering: Remembering, exchange: Exchange) -> Reading:
    await InsertFactsStage(remembering)(exchange)
    return seen(exchange)


async def test_a_store_that_comes_back_in_time_costs_nobody_anything(remembering_of: Make) -> None:
    """The call is made again; what was counted says how often it failed."""
    remembering = await remembering_of({1: "down", 2: "down"})
    answered = await insert(remembering, exchange_of("POST", "/api/v1/facts", [facts(range(1))], "application/json"))

    assert (answered.status, answered.rows[0]["duplicate"]) == (201, False)
    assert remembering.tally == {("fault", "down"): 2, ("stored", "fact"): 1}


@pytest.mark.parametrize(
    ("kind", "status", "calls"), [("down", 503, None), ("timeout", 504, None), ("full", 507, 1), ("other", 503, None)]
)
async def test_a_store_that_does_not_answer(remembering_of: Make, kind: str, status: int, calls: int | None) -> None:
    """Says so: at once where waiting is of no use, else after `wait_s`."""
    remembering = await remembering_of(dict.fromkeys(range(1, 1000), kind), wait_s=0.2)
    exchange = exchange_of("POST", "/api/v1/facts", [facts(range(1))], "application/json")
    with pytest.raises(Refusal) as refused:
        await insert(remembering, exchange)
    store = remembering.store

    assert isinstance(store, Failing)
    assert (refused.value.status, (refused.value.retry_after_s or 0) > 0) == (status, kind != "full")
    assert store.calls == calls if calls else store.calls > 1
    assert remembering.tally["fault", kind] == store.calls
    assert not seen(exchange).written


async def test_a_store_that_hangs_is_given_up(remembering_of: Make) -> None:
    remembering = await remembering_of(hangs=True, wait_s=0.1)
    with pytest.raises(Refusal) as refused:
        await insert(remembering, exchange_of("POST", "/api/v1/facts", [facts(range(1))], "application/json"))

    assert (refused.value.status, remembering.tally["fault", "timeout"]) == (504, 1)


async def test_a_store_that_was_down_and_then_hangs_is_down(remembering_of: Make) -> None:
    """Many stores first wait for themselves to come back."""
    remembering = await remembering_of({1: "down"}, hangs=True, wait_s=0.3)
    with pytest.raises(Refusal) as refused:
        await insert(remembering, exchange_of("POST", "/api/v1/facts", [facts(range(1))], "application/json"))

    assert (refused.value.status, refused.value.retry_after_s) == (503, 1)


async def test_every_line_is_answered_in_order(remembering_of: Make) -> None:
    """Good ones are stored whatever stands beside them; blank ones are counted; the last needs no end."""
    bad = [b"nope\n", b"\n", b'{"subject": "s", "subject": "t"}\n', b"\xff\n", b"5\n", b"x" * 1_100_000 + b"\n"]
    body = facts(range(3)) + b"".join(bad) + facts(range(2, 300)).rstrip()
    remembering = await remembering_of()
    pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    answered = await insert(remembering, exchange_of("POST", "/api/v1/facts", pieces))
    errors = {row["line"]: row["error"] for row in answered.rows if "error" in row}

    assert [row["line"] for row in answered.rows] == [number for number in range(1, 308) if number != 5]
    assert sorted(errors) == [4, 6, 7, 8, 9]
    assert {error["code"] for error in errors.values()} == {"VALIDATION_ERROR"}
    assert "too long" in errors[9]["message"]
    assert [row["line"] for row in answered.rows if row.get("duplicate")] == [10]
    assert (answered.status, answered.is_ended, remembering.tally["stored", "fact"]) == (200, True, 300)


async def test_a_list_is_answered_as_lines_are(remembering_of: Make) -> None:
    items = [json.loads(line) for line in facts(range(250)).splitlines()]
    items[7] = {"subject": "alone"}
    remembering = await remembering_of()
    body = json.dumps(items).encode()
    answered = await insert(remembering, exchange_of("POST", "/api/v1/facts", [body], "application/json"))

    assert [row["line"] for row in answered.rows] == list(range(1, 251))
    assert [row["line"] for row in answered.rows if "error" in row] == [8]


@pytest.mark.parametrize("body", [b"[1, 2", b"[{}] x", b"[" * 100_000])
async def test_a_list_that_is_none_stores_nothing(remembering_of: Make, body: bytes) -> None:
    remembering = await remembering_of()
    with pytest.raises(Refusal) as refused:
        await insert(remembering, exchange_of("POST", "/api/v1/facts", [body], "application/json"))

    assert refused.value.status == 400


@pytest.mark.parametrize(("body", "kind"), [(b"", NDJSON), (b"\n\n", NDJSON), (b" [] ", "application/json")])
async def test_nothing_is_answered_by_nothing(remembering_of: Make, body: bytes, kind: str) -> None:
    answered = await insert(await remembering_of(), exchange_of("POST", "/api/v1/facts", [body], kind))

    assert (answered.status, answered.rows, answered.is_ended) == (200, [], True)


async def test_a_store_that_fails_at_once_refuses_the_whole(remembering_of: Make) -> None:
    """Nothing was said yet, so the client is told by the status."""
    remembering = await remembering_of({1: "full"})
    exchange = exchange_of("POST", "/api/v1/facts", [facts(range(1000))])
    with pytest.raises(Refusal):
        await insert(remembering, exchange)

    assert seen(exchange).status == 0


async def test_a_store_that_fails_on_the_way_says_what_is_not_stored(remembering_of: Make) -> None:
    """Every line is answered; those of the batch that failed, and all after it, are not stored."""
    remembering = await remembering_of({3: "full"})
    exchange = exchange_of("POST", "/api/v1/facts", [facts(range(500)) + b"nope\n" + facts(range(500, 900))])
    answered = await insert(remembering, exchange)
    stored = [row["line"] for row in answered.rows if "fact_id" in row]
    codes = Counter(row["error"]["code"] for row in answered.rows if "error" in row)

    assert [row["line"] for row in answered.rows] == list(range(1, 902))
    assert stored == list(range(1, 401))
    assert codes == {"UPSTREAM_ERROR": 500, "VALIDATION_ERROR": 1}
    assert exchange.outcome.status == 200


async def test_a_client_that_sends_all_before_it_reads_is_not_kept_waiting(remembering_of: Make) -> None:
    """As simple clients do: the gateway reads on while nobody reads its answer."""
    exchange = exchange_of(
        "POST", "/api/v1/facts", [facts(range(at, at + 100)) for at in range(0, 3000, 100)], reads=False
    )
    inserting = asyncio.create_task(insert(await remembering_of(), exchange))
    assert isinstance(exchange.inbound, Sending)
    async with asyncio.timeout(20):
        await exchange.inbound.read_out.wait()
        before = seen(exchange).written
        seen(exchange).begins.set()
        answered = await inserting

    assert before == b""
    assert len(answered.rows) == 3000


async def test_what_nobody_reads_is_bounded(remembering_of: Make) -> None:
    """Above it the gateway stops reading, too; once the answer is read, it goes on."""
    pieces = [facts(range(at, at + 100)) for at in range(0, 2000, 100)]
    exchange = exchange_of("POST", "/api/v1/facts", pieces, reads=False)
    remembering = await remembering_of()

    def parse(value: Any, now_us: int, memory_id: str) -> Any:
        return parse_fact(value, remembering.facts, now_us, memory_id)

    storing = asyncio.create_task(
        store_lines(exchange, remembering, scope_of(exchange), lines_of(exchange), parse, max_spooled_bytes=40_000)
    )
    sending = exchange.inbound
    assert isinstance(sending, Sending)
    done, _ = await asyncio.wait([storing], timeout=1.0)  # nothing can be awaited where nothing happens
    given = sending.given
    seen(exchange).begins.set()
    await storing

    assert done == set()
    assert given < len(pieces)
    assert len(seen(exchange).rows) == 2000


async def test_a_client_that_leaves_ends_the_work(remembering_of: Make) -> None:
    exchange = exchange_of("POST", "/api/v1/facts", [facts(range(at, at + 100)) for at in range(0, 3000, 100)])
    seen(exchange).is_open = False
    with pytest.raises(ConnectionError):
        await insert(await remembering_of(), exchange)

    assert isinstance(exchange.inbound, Sending)
    assert not exchange.inbound.read_out.is_set()


async def test_an_export_waits_for_the_store_and_is_whole_or_cut(remembering_of: Make) -> None:
    """Down at the beginning: asked again. Down on the way: an error, after which nothing ends the answer."""
    path = "/api/v1/memories/default/export"
    whole = exchange_of("GET", path)
    remembering = await remembering_of({2: "down"})
    await insert(remembering, exchange_of("POST", "/api/v1/facts", [facts(range(150))]))
    await ExportMemoryStage(remembering)(whole)
    failing = await remembering_of({1000: "down"})
    await insert(failing, exchange_of("POST", "/api/v1/facts", [facts(range(1500))]))
    cut = exchange_of("GET", path)
    with pytest.raises(Refusal) as refused:
        await ExportMemoryStage(failing)(cut)

    assert [row["subject"] for row in seen(whole).rows] == [f"s{number}" for number in range(150)]
    assert (seen(whole).status, seen(whole).is_ended) == (200, True)
    assert refused.value.status == 503
    assert (seen(cut).has_started, seen(cut).is_ended) == (True, False)
    assert (cut.outcome.status, cut.outcome.fault) == (200, "memory_unavailable")
