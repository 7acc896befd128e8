"""What the stages of memory share: the store and how long it is waited for, bodies that are read strictly, answers.

A store that is down is asked again until `wait_s` has passed, then the caller is told so: its calls may all be made
again. No stage sees a `MemoryFault`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from gateway.core.coded_errors import DISABLED
from gateway.core.errors import Refusal
from gateway.core.facts.memory import Memory, Scope, Sought
from gateway.core.facts.wire_contexts import ContextRules
from gateway.core.facts.wire_facts import FactRules
from gateway.core.facts.wire_json import invalid, read_json
from gateway.core.wire.headers import Headers
from gateway.core.wire.overrides import is_session_name
from gateway.core.wire.paths import memory_name_of
from gateway.exchange import Exchange
from gateway.ports_memory import Embedding, MemoryFault, MemoryStore

T = TypeVar("T")
DEFAULT_MEMORY = "default"
_JSON: Headers = [("Content-Type", "application/json")]
_PARSE_INLINE_BYTES = 65_536
"""Bodies up to this size are parsed on the event loop."""
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.05, 1.0
_TOLD_RETRY_S = 1


@dataclass(frozen=True, slots=True)
class Remembering:
    """What stages of memory need.

    Attributes:
        store: where memories are kept.
        facts: rules of facts.
        contexts: rules of texts.
        wait_s: how long a call waits for a store that is down.
        tally: what happened, by what and kind: duplicates, stored texts, faults of the store.
        now_us: microseconds since 1970.
        new_id: 32 hexadecimal digits that nobody has used or could guess.
        embedder: makes the vectors of questions; None where nobody does.
    """

    store: MemoryStore
    facts: FactRules
    contexts: ContextRules
    wait_s: float
    tally: Counter[tuple[str, str]]
    now_us: Callable[[], int]
    new_id: Callable[[], str]
    embedder: Embedding | None = None

    async def with_vector(self, exchange: Exchange, query: str, sought: Sought) -> Sought:
        """What is looked for, by its meaning too where that is known in time."""
        if self.embedder is None or not query.strip():
            return sought
        (vector,) = await self.embedder.embed(exchange, [query])
        return sought if vector is None else replace(sought, vector=vector, model=self.embedder.model)

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """What the store answers.

        Args:
            call: made again while the store is down.

        Raises:
            Refusal: 503, 504 or 507, it does not answer.
        """
        deadline_s = asyncio.get_running_loop().time() + self.wait_s
        pause_s = _FIRST_PAUSE_S
        refusal: Refusal | None = None
        while True:
            try:
                async with asyncio.timeout_at(deadline_s):
                    return await call()
            except TimeoutError:
                late = self._refusal_of(MemoryFault("timeout", f"no answer within {self.wait_s:g} seconds"))
                raise refusal or late from None  # one that was down, and was asked again, is still down
            except MemoryFault as fault:
                refusal = self._refusal_of(fault)
                if fault.kind == "full" or asyncio.get_running_loop().time() + pause_s >= deadline_s:
                    raise refusal from None
            await asyncio.sleep(pause_s)
            pause_s = min(_MAX_PAUSE_S, 2 * pause_s)

    async def scan(self, scope: Scope) -> AsyncGenerator[Memory, None]:
        """All memories of a scope; the store is waited for until the first, and then for each.

        Raises:
            Refusal: it does not answer.
        """
        scanning = await self.ask(lambda: _begun(self.store.scan(scope)))
        if scanning is None:
            return
        first, others = scanning
        async with aclosing(others):
            memory: Memory | None = first
            while memory is not None:
                yield memory
                memory = await self._next(others)

    async def _next(self, memories: AsyncGenerator[Memory, None]) -> Memory | None:
        try:
            async with asyncio.timeout(self.wait_s):
                return await anext(memories, None)
        except TimeoutError:
            raise self._refusal_of(MemoryFault("timeout", "it stopped answering")) from None
        except MemoryFault as fault:
            raise self._refusal_of(fault) from None

    def _refusal_of(self, fault: MemoryFault) -> Refusal:
        self.tally["fault", fault.kind] += 1
        if fault.kind == "full":
            message = f"The memory store is full: {fault.message}. Delete something, or raise facts.max_bytes."
            return Refusal(507, "memory_full", message)
        if fault.kind == "timeout":
            message = f"The memory store did not answer in time: {fault.message}. What was asked may have been done."
            return Refusal(504, "memory_timeout", message, retry_after_s=_TOLD_RETRY_S)
        message = f"The memory store cannot be asked now, after {self.wait_s:g} seconds (facts.wait_seconds)."
        return Refusal(503, "memory_unavailable", message, retry_after_s=_TOLD_RETRY_S)


async def _begun(
    memories: AsyncGenerator[Memory, None],
) -> tuple[Memory, AsyncGenerator[Memory, None]] | None:
    first = await anext(memories, None)
    return None if first is None else (first, memories)


def scope_of(exchange: Exchange) -> Scope:
    """Whose memory, and which, a request is about."""
    assert exchange.client is not None
    return Scope(exchange.client.scope, exchange.overrides.memory or DEFAULT_MEMORY)


def owner_of(exchange: Exchange) -> bytes:
    """Whose memories a request is about."""
    assert exchange.client is not None
    return exchange.client.scope


def named_scope(exchange: Exchange) -> Scope:
    """The same, where the memory's name stands in the path.

    Raises:
        Refusal: 400, it is no name.
    """
    name = memory_name_of(exchange.path) or ""
    if not is_session_name(name):
        expected = "1 to 128 printable ASCII characters"
        raise invalid(f"A memory's name is {expected}.", "name", expected, "another text")
    return Scope(owner_of(exchange), name)


def media_type_of(exchange: Exchange) -> str:
    """What a request says that its body is, without parameters.

    Raises:
        Refusal: 415, it is not in UTF-8.
    """
    kind, *parameters = (exchange.header("content-type") or "").lower().split(";")
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        charset = value.strip().strip('"')
        if name.strip() == "charset" and charset not in ("utf-8", "utf8", "us-ascii"):
            message = f"The request body must be in UTF-8, and its Content-Type says {charset[:32]!r}."
            raise invalid(message, "Content-Type", "charset=utf-8", charset[:32], 415)
    return kind.strip()


async def read_body(exchange: Exchange) -> Any:
    """The JSON value that a request's body is.

    Raises:
        Refusal: 400, 408, 413 or 415.
    """
    media_type_of(exchange)
    return await read_value(await exchange.inbound.read())


async def read_value(data: bytes) -> Any:
    """The value of a JSON text; a long one is read in a thread.

    Raises:
        Refusal: 400.
    """
    return await asyncio.to_thread(read_json, data) if len(data) > _PARSE_INLINE_BYTES else read_json(data)


async def answer_json(exchange: Exchange, told: Any, status: int = 200) -> None:
    """The gateway's own answer."""
    body = msgspec.json.encode(told)
    exchange.outcome.status = status
    await exchange.outbound.start(status, _JSON, len(body))
    await exchange.outbound.end(body)


async def answer_nothing(exchange: Exchange) -> None:
    """It is done, and there is nothing to say."""
    exchange.outcome.status = 204
    await exchange.outbound.start(204, [], 0)
    await exchange.outbound.end()


async def refuse_switched_off(exchange: Exchange) -> None:
    """In place of the stages of memory where there is none.

    Raises:
        Refusal: 503.
    """
    message = (
        "Memory is switched off on this gateway: facts.enabled is false, or facts.url is memory:// with several"
        " workers, of which each would remember something else."
    )
    raise Refusal(503, DISABLED, message)
