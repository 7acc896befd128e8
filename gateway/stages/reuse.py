"""After identify: has this been answered already? Then that answer is the answer, and no later stage runs.

The stage runs the later stages itself, so that it sees how they end. An answer that passes is copied beside the bytes
that the client gets, and kept if it is whole. Of requests that ask the same at the same time one leads and asks the
upstream; the others wait for its answer, not longer than `wait_s`. Where the leader's client leaves, the next of them
leads; where its answer is not one to keep, each goes its own way.

A hit costs no upstream tokens and never meets a token limit: nothing is counted, reserved or billed for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from gateway.core.cache.answer import Record, events_of, is_whole_answer, is_whole_stream, kept_headers
from gateway.core.cache.question import Asker, question_key, wants_fresh
from gateway.core.errors import Refusal
from gateway.core.wire.headers import Headers, header_of
from gateway.core.wire.request import Endpoint
from gateway.exchange import Exchange, Outbound
from gateway.ports import AnswerStore
from gateway.tasks import TaskGroup

CACHE_HEADER = "x-gateway-cache"
_INLINE_BYTES = 131_072
"""Bodies and answers up to this size are read on the event loop: about a millisecond."""
Stage = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ReuseOptions:
    """What is kept, and how long a request waits for another's answer.

    Attributes:
        fingerprint: of the configuration that shapes prompts and chooses upstreams.
        only_deterministic: requests must say that they want the same answer each time.
        max_answer_bytes: larger answers are not kept.
        wait_s: for the answer to a request that asks the same.
    """

    fingerprint: bytes
    only_deterministic: bool
    max_answer_bytes: int
    wait_s: float


@dataclass(slots=True, eq=False)
class Flight:
    """A request whose answer others may wait for."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    record: Record | None = None
    was_left: bool = False
    """Its client has gone, so nobody knows yet what the answer would have been."""

    def end(self, record: Record | None, *, was_left: bool = False) -> None:
        """Tell those who wait."""
        self.record, self.was_left = record, was_left
        self.ended.set()


class ReuseStage:
    """Writes `outcome.cache`; answers what was answered before, else lets the later stages answer.

    Args:
        later: the stages after this one, in order.
        answers: where answers are kept.
        flights: requests that are being answered now, by key; of the process, so that a new configuration knows them.
        options: what is kept.
        tally: counts by (what, endpoint), and saved tokens by ("prompt" or "completion", endpoint).
        tasks: where an answer is kept after it was given.
    """

    def __init__(
        self,
        later: Sequence[Stage],
        answers: AnswerStore,
        flights: dict[bytes, Flight],
        options: ReuseOptions,
        tally: Counter[tuple[str, str]],
        tasks: TaskGroup,
    ) -> None:
        self._later = later
        self._answers = answers
        self._flights = flights
        self._options = options
        self._tally = tally
        self._tasks = tasks

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.request is None:
            await self._go_on(exchange)
            return
        key = await self._key_of(exchange)
        if key is None:
            await self._ask(exchange, _Copying(exchange.outbound, "bypass", None))
        elif wants_fresh(exchange.headers):
            await self._lead(exchange, key, Flight(), is_looked_up=False)
        else:
            await self._answer(exchange, key)

    async def _key_of(self, exchange: Exchange) -> bytes | None:
        request, client = exchange.request, exchange.client
        assert request is not None
        assert client is not None
        options = self._options
        asker = Asker(client.scope, options.fingerprint, exchange.target, exchange.headers, exchange.overrides)

        def key() -> bytes | None:
            return question_key(request, asker, only_deterministic=options.only_deterministic)

        return await asyncio.to_thread(key) if len(request.body) > _INLINE_BYTES else key()

    async def _answer(self, exchange: Exchange, key: bytes) -> None:
        """From the cache, from another request's answer, or as the one who asks for all."""
        flight = await self._landed(key) if key in self._flights else None
        if flight is None:
            flight = self._flights[key] = Flight()
            await self._lead(exchange, key, flight)
        elif flight.record is not None:
            await self._replay(exchange, flight.record)
        else:
            await self._lead(exchange, key, Flight(), is_looked_up=False)

    async def _landed(self, key: bytes) -> Flight | None:
        """The flight that was waited for, as long as that may be; None where there is none to wait for any more."""
        flight = None
        try:
            async with asyncio.timeout(self._options.wait_s):
                while flight := self._flights.get(key):
                    await flight.ended.wait()
                    if not flight.was_left:
                        break
        except TimeoutError:
            pass
        return flight

    async def _lead(self, exchange: Exchange, key: bytes, flight: Flight, *, is_looked_up: bool = True) -> None:
        """Answer, and let those who wait know how that went."""
        copy = _Copying(exchange.outbound, "miss", self._options.max_answer_bytes)
        try:
            record = await self._answers.get(key) if is_looked_up else None
            if record is not None:
                self._land(key, flight, record)
                await self._replay(exchange, record)
            else:
                await self._ask(exchange, copy)
        except (asyncio.CancelledError, ConnectionError):
            flight.was_left = not copy.is_whole
            raise
        finally:
            if copy.is_whole:
                self._tasks.spawn(self._keep(exchange, key, flight, copy), "keep an answer")
            elif not flight.ended.is_set():
                self._land(key, flight, None)

    async def _ask(self, exchange: Exchange, copy: _Copying) -> None:
        """Let the later stages answer, with our word among the headers."""
        exchange.outcome.cache = copy.word
        self._tally[copy.word, exchange.endpoint.value] += 1
        exchange.outbound = copy
        try:
            await self._go_on(exchange)
        finally:
            exchange.outbound = copy.inner

    async def _go_on(self, exchange: Exchange) -> None:
        for stage in self._later:
            await stage(exchange)

    async def _replay(self, exchange: Exchange, record: Record) -> None:
        outcome, outbound = exchange.outcome, exchange.outbound
        outcome.cache, outcome.status, outcome.is_stream = "hit", 200, record.is_stream
        endpoint = exchange.endpoint.value
        self._tally["hit", endpoint] += 1
        self._tally["prompt", endpoint] += record.prompt_tokens
        self._tally["completion", endpoint] += record.completion_tokens
        age_s = max(0, int(time.time() - record.stored_at_s))
        headers = [*record.headers, ("age", str(age_s)), (CACHE_HEADER, "hit")]
        outcome.first_byte_s = time.perf_counter() - exchange.started_s
        if not record.is_stream:
            await outbound.start(200, headers, len(record.body))
            await outbound.end(record.body)
            return
        await outbound.start(200, headers, None)
        for event in events_of(record.body):
            await outbound.write(event)
        await outbound.end()

    async def _keep(self, exchange: Exchange, key: bytes, flight: Flight, copy: _Copying) -> None:
        """Keep an answer if it is one to keep; who comes before it is kept finds it in the flight."""
        record = None
        try:
            is_own = not exchange.outcome.fallback_model  # another model's answer is none to give again
            if is_own and await _is_whole(exchange.endpoint, copy):
                usage = exchange.outcome.usage
                tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
                record = Record(copy.is_stream, kept_headers(copy.headers), copy.body, *tokens, time.time())
                flight.end(record)
                await self._answers.put(key, record)
                self._tally["store", exchange.endpoint.value] += 1
        finally:
            self._land(key, flight, record)

    def _land(self, key: bytes, flight: Flight, record: Record | None) -> None:
        flight.end(record, was_left=flight.was_left)
        if self._flights.get(key) is flight:
            del self._flights[key]


class _Copying:
    """The client's side, with a header of ours, and with a copy of what passes as long as that is small enough.

    Args:
        inner: the client's side itself.
        word: of our header.
        max_bytes: of the copy; None for none at all.
    """

    __slots__ = ("_chunks", "_max_bytes", "_size", "headers", "inner", "is_stream", "is_whole", "word")

    def __init__(self, inner: Outbound, word: str, max_bytes: int | None) -> None:
        self.inner = inner
        self.word = word
        self._max_bytes = max_bytes
        self._chunks: list[bytes] | None = None if max_bytes is None else []
        self._size = 0
        self.headers: Headers = []
        self.is_stream = False
        self.is_whole = False

    @property
    def body(self) -> bytes:
        """What has passed."""
        chunks = self._chunks or []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    @property
    def has_started(self) -> bool:
        return self.inner.has_started

    @property
    def is_open(self) -> bool:
        return self.inner.is_open

    def drop(self) -> None:
        """There is nothing to keep."""
        self._chunks, self.is_whole = None, False

    async def start(self, status: int, headers: Headers, length: int | None) -> None:
        self.headers = headers
        kind = (header_of(headers, "content-type") or "").lower()
        self.is_stream = kind.startswith("text/event-stream")
        is_content = self.is_stream or "json" in kind
        if status != 200 or not is_content or header_of(headers, "content-encoding") is not None:
            self.drop()
        await self.inner.start(status, [*headers, (CACHE_HEADER, self.word)], length)

    async def write(self, chunk: bytes) -> None:
        self._take(chunk)
        await self.inner.write(chunk)

    async def end(self, chunk: bytes = b"") -> None:
        self._take(chunk)
        self.is_whole = self._chunks is not None
        await self.inner.end(chunk)

    async def refuse(self, refusal: Refusal, headers: Headers) -> None:
        self.drop()
        await self.inner.refuse(refusal, headers)

    async def abort(self) -> None:
        self.drop()
        await self.inner.abort()

    def _take(self, chunk: bytes) -> None:
        if self._chunks is None or not chunk:
            return
        self._size += len(chunk)
        if self._max_bytes is not None and self._size > self._max_bytes:
            self.drop()
        else:
            self._chunks.append(chunk)


async def _is_whole(endpoint: Endpoint, copy: _Copying) -> bool:
    check = is_whole_stream if copy.is_stream else is_whole_answer
    body = copy.body
    return await asyncio.to_thread(check, endpoint, body) if len(body) > _INLINE_BYTES else check(endpoint, body)
