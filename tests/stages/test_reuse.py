"""Requests that ask the same share an answer, within one client, and never one that is not whole."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.core.cache.answer import Record
from gateway.core.errors import Refusal
from gateway.core.routing.routes import Roles
from gateway.core.wire.headers import Headers
from gateway.core.wire.usage import Usage
from gateway.exchange import Exchange
from gateway.stages.reuse import Flight, ReuseOptions, ReuseStage
from gateway.tasks import TaskGroup
from tests.histories import exchange_of

Later = Callable[[Exchange], Awaitable[None]]
JSON: Headers = [("content-type", "application/json"), ("x-request-id", "req_1")]
SSE: Headers = [("content-type", "text/event-stream; charset=utf-8"), ("x-request-id", "req_1")]
WHOLE = json.dumps({"choices": [{"index": 0, "finish_reason": "stop"}]}).encode()
CUT_SHORT = json.dumps({"choices": [{"index": 0, "finish_reason": "length"}]}).encode()
EVENTS = [
    b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    b": wait\n\n",
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\n\r\n',
    b"data: [DONE]\n\n",
]
PATIENCE_S = 30
OPTIONS = ReuseOptions(b"f", only_deterministic=True, max_answer_bytes=10_000, wait_s=PATIENCE_S)


@dataclass
class Seen:
    """`exchange.Outbound` that remembers; `chunks` are the writes. One whose client has left takes no more."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    length: int | None = None
    chunks: list[bytes] = field(default_factory=list)
    has_started: bool = False
    is_open: bool = True
    is_ended: bool = False
    refusal: Refusal | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def word(self) -> str | None:
        return dict(self.headers).get("x-gateway-cache")

    async def start(self, status: int, headers: Headers, length: int | None) -> None:
        self.status, self.headers, self.length = status, headers, length

    async def write(self, chunk: bytes) -> None:
        if not self.is_open:
            raise ConnectionResetError
        self.has_started = True
        self.chunks.append(chunk)

    async def end(self, chunk: bytes = b"") -> None:
        await self.write(chunk)
        self.is_ended = True

    async def refuse(self, refusal: Refusal, headers: Headers) -> None:
        self.refusal = refusal

    async def abort(self) -> None:
        self.is_open = False


@dataclass
class Kept:
    """`ports.AnswerStore` in a dictionary."""

    records: dict[bytes, Record] = field(default_factory=dict)
    looked_up: int = 0
    putting: asyncio.Event | None = None

    async def get(self, key: bytes) -> Record | None:
        self.looked_up += 1
        await asyncio.sleep(0)
        return self.records.get(key)

    async def put(self, key: bytes, record: Record) -> None:
        if self.putting is not None:
            await self.putting.wait()
        self.records[key] = record


@dataclass
class World:
    """A cache in front of `upstream`, which is asked `asked` times."""

    upstream: Later
    options: ReuseOptions = OPTIONS
    kept: Kept = field(default_factory=Kept)
    flights: dict[bytes, Flight] = field(default_factory=dict)
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)
    tasks: TaskGroup = field(default_factory=TaskGroup)
    asked: int = 0

    async def _later(self, exchange: Exchange) -> None:
        self.asked += 1
        await self.upstream(exchange)

    async def ask(self, exchange: Exchange | None = None) -> Seen:
        exchange = exchange or question()
        own = exchange.outbound
        stage = ReuseStage([self._later], self.kept, self.flights, self.options, self.tally, self.tasks)
        try:
            await stage(exchange)
        finally:
            assert exchange.outbound is own
        assert isinstance(own, Seen)
        return own

    async def settled(self) -> None:
        """Waits until what was answered is kept."""
        await self.tasks.drain(PATIENCE_S)

    def counted(self, what: str) -> int:
        return self.tally[what, "chat_completions"]


def question(client: bytes = b"c", headers: Headers | None = None, **fields: Any) -> Exchange:
    body = {"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "Hi"}], **fields}
    exchange = exchange_of(json.dumps(body).encode(), client, Roles.OPEN)
    exchange.outbound = Seen()
    exchange.headers = headers or []
    return exchange


async def say_whole(exchange: Exchange, body: bytes = WHOLE, headers: Headers = JSON, status: int = 200) -> None:
    exchange.outcome.attempts, exchange.outcome.status = 1, status
    exchange.outcome.usage = Usage(11, 4)
    await exchange.outbound.start(status, headers, len(body))
    await exchange.outbound.end(body)


async def say_stream(exchange: Exchange, events: list[bytes] = EVENTS) -> None:
    exchange.outcome.is_stream = True
    await exchange.outbound.start(200, SSE, None)
    for event in events:
        await exchange.outbound.write(event[:5])
        await exchange.outbound.write(event[5:])
    await exchange.outbound.end()


async def test_an_answer_is_returned_again() -> None:
    """The same bytes and content type, without the ids of the first sending, and nothing is billed."""
    world = World(say_whole)
    first = await world.ask()
    await world.settled()
    again = question()
    second = await world.ask(again)

    assert world.asked == 1
    assert (first.word, second.word) == ("miss", "hit")
    assert second.body == first.body == WHOLE
    assert (second.status, second.length, second.is_ended) == (200, len(WHOLE), True)
    assert dict(second.headers).keys() == {"content-type", "age", "x-gateway-cache"}
    assert (again.outcome.status, again.outcome.attempts, again.outcome.usage) == (200, 0, None)
    assert (again.outcome.cache, again.outcome.upstream) == ("hit", "")
    assert [world.counted(what) for what in ("hit", "miss", "store", "prompt", "completion")] == [1, 1, 1, 11, 4]


async def test_a_stream_is_returned_event_by_event() -> None:
    world = World(say_stream)
    first = await world.ask(question(stream=True))
    await world.settled()
    again = question(stream=True)
    second = await world.ask(again)

    assert second.body == first.body == b"".join(EVENTS)
    assert [chunk for chunk in second.chunks if chunk] == EVENTS
    assert (second.word, second.length, again.outcome.is_stream) == ("hit", None, True)
    assert world.asked == 1


async def test_neither_form_is_made_from_the_other() -> None:
    world = World(say_whole)
    await world.ask()
    await world.settled()
    await world.ask(question(stream=True))

    assert world.asked == 2


async def test_clients_do_not_share() -> None:
    world = World(say_whole)
    await world.ask(question(b"one"))
    await world.settled()
    other = await world.ask(question(b"two"))

    assert (other.word, world.asked) == ("miss", 2)


async def say_failure(exchange: Exchange) -> None:
    raise Refusal(502, "upstream_error", "down")


async def say_half(exchange: Exchange) -> None:
    """As forward does where a stream breaks off between two events."""
    await exchange.outbound.start(200, SSE, None)
    await exchange.outbound.write(EVENTS[0])
    raise Refusal(502, "upstream_error", "cut")


async def say_cut(exchange: Exchange) -> None:
    """As forward does where a stream breaks off within an event."""
    await exchange.outbound.start(200, SSE, None)
    await exchange.outbound.write(EVENTS[0][:9])
    await exchange.outbound.abort()


NOT_KEPT: dict[str, Later] = {
    "an error status": lambda exchange: say_whole(exchange, status=500),
    "created": lambda exchange: say_whole(exchange, status=201),
    "cut at its limit": lambda exchange: say_whole(exchange, CUT_SHORT),
    "compressed": lambda exchange: say_whole(exchange, headers=[*JSON, ("content-encoding", "gzip")]),
    "of another type": lambda exchange: say_whole(exchange, headers=[("content-type", "text/plain")]),
    "too large": lambda exchange: say_whole(exchange, WHOLE + b" " * 10_000),
    "a stream without its end mark": lambda exchange: say_stream(exchange, EVENTS[:-1]),
    "a refusal": say_failure,
    "half a stream": say_half,
    "half an event": say_cut,
}


@pytest.mark.parametrize("name", NOT_KEPT)
async def test_what_is_not_whole_is_not_kept(name: str) -> None:
    """The next one asks again; those who wait at the same time go their own way."""
    world = World(NOT_KEPT[name])
    answers = await asyncio.gather(*(world.ask() for _ in range(4)), return_exceptions=True)
    await world.settled()

    assert len(answers) == 4
    assert world.asked == 4
    assert world.kept.records == {}
    assert world.flights == {}


@pytest.mark.parametrize(
    ("headers", "fields"), [([], {"temperature": 1}), ([("cache-control", "no-store")], {}), ([], {"store": True})]
)
async def test_what_is_not_to_be_cached_passes_by(headers: Headers, fields: dict[str, Any]) -> None:
    world = World(say_whole)
    answers = [await world.ask(question(headers=headers, **fields)) for _ in range(2)]
    await world.settled()

    assert [answer.word for answer in answers] == ["bypass", "bypass"]
    assert (world.asked, world.kept.looked_up, world.kept.records) == (2, 0, {})
    assert world.counted("bypass") == 2


async def test_a_client_that_wants_it_fresh_gets_it_fresh() -> None:
    """And the next one what that brought."""
    world = World(say_whole)
    await world.ask()
    await world.settled()
    world.upstream = lambda exchange: say_whole(exchange, WHOLE + b" ")
    fresh = await world.ask(question(headers=[("cache-control", "no-cache")]))
    await world.settled()
    later = await world.ask()

    assert [answer.body for answer in (fresh, later)] == [WHOLE + b" "] * 2
    assert (fresh.word, later.word, world.asked) == ("miss", "hit", 2)


class Gate:
    """An upstream that answers when it is told to; `is_open` for one call and those after it."""

    def __init__(self, then: Later) -> None:
        self.open = asyncio.Event()
        self.came = asyncio.Event()
        self._then = then

    async def __call__(self, exchange: Exchange) -> None:
        self.came.set()
        await self.open.wait()
        await self._then(exchange)


async def test_of_twenty_at_once_one_asks() -> None:
    """The others wait, and get the very same bytes, also while the answer is still being put away."""
    gate = Gate(say_stream)
    world = World(gate, kept=Kept(putting=asyncio.Event()))
    asking = [asyncio.create_task(world.ask(question(stream=True))) for _ in range(20)]
    await gate.came.wait()
    gate.open.set()
    answers = await asyncio.gather(*asking)
    late = await world.ask(question(stream=True))
    assert world.kept.putting is not None
    world.kept.putting.set()
    await world.settled()

    assert world.asked == world.kept.looked_up == 1
    assert {answer.body for answer in [*answers, late]} == {b"".join(EVENTS)}
    assert sorted(str(answer.word) for answer in answers) == ["hit"] * 19 + ["miss"]
    assert late.word == "hit"
    assert world.flights == {}


async def test_a_leader_that_leaves_takes_nobody_with_it() -> None:
    """The next of those who wait asks in its place, and only that one."""
    gate = Gate(say_whole)
    world = World(gate)
    leader = asyncio.create_task(world.ask())
    await gate.came.wait()
    others = [asyncio.create_task(world.ask()) for _ in range(5)]
    await asyncio.sleep(0)
    leader.cancel()
    gate.open.set()
    answers = await asyncio.gather(*others)
    await world.settled()

    assert leader.cancelled()
    assert world.asked == 2
    assert [answer.body for answer in answers] == [WHOLE] * 5
    assert world.flights == {}


async def test_one_that_waits_and_leaves_disturbs_nobody() -> None:
    gate = Gate(say_whole)
    world = World(gate)
    leader = asyncio.create_task(world.ask())
    await gate.came.wait()
    leaves, stays = (asyncio.create_task(world.ask()) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    gate.open.set()

    assert (await leader).word == "miss"
    assert (await stays).word == "hit"
    assert world.asked == 1


async def test_an_answer_that_is_complete_is_kept_though_its_client_has_left() -> None:
    world = World(say_whole)
    gone = question()
    assert isinstance(gone.outbound, Seen)
    gone.outbound.is_open = False
    with pytest.raises(ConnectionResetError):
        await world.ask(gone)
    await world.settled()
    again = await world.ask()

    assert (again.word, again.body, world.asked) == ("hit", WHOLE, 1)


async def test_nobody_waits_longer_than_the_deadline() -> None:
    """Then each asks for itself, and what it brings is kept."""
    gate = Gate(say_whole)
    world = World(gate, replace(OPTIONS, wait_s=0.01))
    leader = asyncio.create_task(world.ask())
    await gate.came.wait()
    world.upstream = say_whole
    other = await world.ask()
    gate.open.set()
    await leader
    await world.settled()

    assert (other.word, other.body, world.asked) == ("miss", WHOLE, 2)
    assert world.flights == {}


async def test_a_new_configuration_asks_anew() -> None:
    """Other budgets or upstreams are another fingerprint."""
    world = World(say_whole)
    await world.ask()
    await world.settled()
    world.options = replace(OPTIONS, fingerprint=b"g")
    answer = await world.ask()

    assert (answer.word, world.asked) == ("miss", 2)


async def test_what_has_no_body_of_ours_passes_untouched() -> None:
    """Paths that are passed through get no word of ours."""
    world = World(say_whole)
    exchange = question()
    exchange.request = None
    answer = await world.ask(exchange)

    assert answer.word is None
    assert exchange.outcome.cache == ""
