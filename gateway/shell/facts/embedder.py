"""Embeddings from an OpenAI-compatible endpoint: in batches, each text once, never waited for longer than allowed.

What is not there in time is asked for all the same, and is there the next time. An endpoint that fails again and again
is left alone for a while; nobody's request fails for want of a vector.

Invariants, each with a test of its own:
  1. A text is asked for once while its vector is held or on its way, however many want it.
  2. `embed` returns in time, with None for what has not come; it never raises for faults of the endpoint. A request
     waits once, however often it wants vectors.
  3. What is held is bounded.
  4. A text that the endpoint refuses costs no other its vector; a blank one has none and is not asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

from gateway.core.facts.embeddings import read_embeddings, render_embeddings_request
from gateway.core.routing.routes import Route
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.core.wire.usage import usage_of_answer
from gateway.exchange import Exchange
from gateway.ports import Upstream, UpstreamCall, UpstreamFault
from gateway.shell.side_calls import ask, known_there, side_headers
from gateway.tasks import TaskGroup

_log = logging.getLogger("gateway.embeddings")
_MAX_ANSWER_BYTES = 64 << 20
_MAX_PENDING = 16_384
"""Texts on their way; above this, no more are asked for."""
_ENTRY_BYTES, _WAITED_BYTES = 150, 1 << 20
_FAILURES, _REST_S = 3, 30.0
_REFUSED = frozenset({400, 413, 422})
"""Statuses that may be meant for one text of many."""


@dataclass(frozen=True, slots=True)
class EmbeddingOptions:
    """Who embeds.

    Attributes:
        route: the endpoint, or None for the request's own upstream.
        home: for what is on nobody's account where the endpoint is not known; None for nowhere.
        model: that it is asked for.
        batch_size: texts of one call.
        deadline_s: how long a request waits.
        timeout_s: of one call.
        max_calls: at the same time.
    """

    route: Route | None
    home: Route | None
    model: str
    batch_size: int
    deadline_s: float
    timeout_s: float = 30.0
    max_calls: int = 4


class Embedder:
    """Vectors of texts.

    Args:
        options: who embeds.
        upstream: the way there.
        tasks: where calls go on that nobody waits for any longer.
        max_bytes: bound of the vectors held.
        clock: seconds, for rests.

    Attributes:
        charge: told what a call took, for whose request; None where nobody counts.
        tally: calls, failures, texts and prompt_tokens.
    """

    def __init__(
        self,
        options: EmbeddingOptions,
        upstream: Upstream,
        tasks: TaskGroup,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options
        self._upstream = upstream
        self._tasks = tasks
        self._clock = clock
        self.charge: Callable[[Exchange, int, int], None] | None = None
        self._vectors = TwoGenerationCache[bytes](max_bytes, _ENTRY_BYTES, len)
        self._waited_s = TwoGenerationCache[float](_WAITED_BYTES, _ENTRY_BYTES)
        self._pending: dict[bytes, asyncio.Future[bytes | None]] = {}
        self._calls = asyncio.Semaphore(options.max_calls)
        self._failures_in_row = 0
        self._rests_until_s = 0.0
        self.tally = Counter[str]()

    @property
    def model(self) -> str:
        """That makes the vectors: those of others are not comparable."""
        return self.options.model

    @property
    def is_own(self) -> bool:
        """Whether there is somebody to ask on nobody's account."""
        return (self.options.route or self.options.home) is not None

    @property
    def held_bytes(self) -> int:
        """About what the vectors take."""
        return self._vectors.held_bytes

    async def embed(
        self, exchange: Exchange | None, texts: Sequence[str], patience_s: float | None = None
    ) -> list[bytes | None]:
        """The vectors of these texts, as far as they are there in time.

        Args:
            exchange: on whose account; None for the gateway's own.
            texts: any.
            patience_s: how long to wait; None for as long as a request does.
        """
        keys = [self._key_of(exchange, text) for text in texts]
        found = self._vectors.get_many(keys)
        missing = {
            key: text for key, text, vector in zip(keys, texts, found, strict=True) if vector is None and text.strip()
        }
        if missing:
            self._ask_for(exchange, missing)
            waited = {self._pending[key] for key in missing if key in self._pending}
            if waited:
                await self._wait(exchange, waited, patience_s)
            found = self._vectors.get_many(keys)
        return found

    async def _wait(
        self, exchange: Exchange | None, waited: Set[asyncio.Future[bytes | None]], patience_s: float | None
    ) -> None:
        """Wait for these; a request that wants vectors again waits for what is left of its time."""
        if exchange is None or patience_s is not None:
            await asyncio.wait(waited, timeout=self.options.deadline_s if patience_s is None else patience_s)
            return
        loop, name = asyncio.get_running_loop(), exchange.request_id.encode("utf-8", "surrogatepass")
        before_s, started_s = self._waited_s.get(name) or 0.0, loop.time()
        if before_s < self.options.deadline_s:
            await asyncio.wait(waited, timeout=self.options.deadline_s - before_s)
            self._waited_s.put(name, before_s + loop.time() - started_s)

    def _key_of(self, exchange: Exchange | None, text: str) -> bytes:
        """A text; vectors that a client's own key paid for are that client's."""
        client = exchange.client if exchange is not None and self.options.route is None else None
        scope = client.scope if client is not None else b""
        return hashlib.sha256(bytes([len(scope)]) + scope + text.encode("utf-8", "surrogatepass")).digest()

    def _ask_for(self, exchange: Exchange | None, missing: dict[bytes, str]) -> None:
        if self._clock() < self._rests_until_s:
            return
        fresh = [(key, text) for key, text in missing.items() if key not in self._pending]
        fresh = fresh[: max(0, _MAX_PENDING - len(self._pending))]
        loop = asyncio.get_running_loop()
        for key, _ in fresh:
            self._pending[key] = loop.create_future()
        for start in range(0, len(fresh), self.options.batch_size):
            self._tasks.spawn(self._embed(exchange, fresh[start : start + self.options.batch_size]), "embeddings")

    async def _embed(self, exchange: Exchange | None, batch: Sequence[tuple[bytes, str]]) -> None:
        """One call; whoever waits is told when it has ended, however it did."""
        try:
            async with self._calls:
                vectors = await self._made(exchange, [text for _, text in batch])
            for (key, _), vector in zip(batch, vectors, strict=True):
                if vector is not None:
                    self._vectors.put(key, vector)
        finally:
            for key, _ in batch:
                waiting = self._pending.pop(key)
                if not waiting.done():
                    waiting.set_result(None)

    async def _made(self, exchange: Exchange | None, texts: Sequence[str]) -> Sequence[bytes | None]:
        """The vectors of these texts; where they are refused together, of each half by itself."""
        status, vectors = await self._call(exchange, texts)
        half = len(texts) // 2
        if vectors is not None or status not in _REFUSED or not half:
            return vectors or [None] * len(texts)
        return [*await self._made(exchange, texts[:half]), *await self._made(exchange, texts[half:])]

    async def _call(self, exchange: Exchange | None, texts: Sequence[str]) -> tuple[int, list[bytes] | None]:
        """The status of a call, 0 where there is none, and what it made."""
        own = exchange.routes[0] if exchange is not None and exchange.routes else self.options.home
        route = self.options.route or own
        if route is None or self._clock() < self._rests_until_s:
            return 0, None
        headers = side_headers(exchange, route, is_own_upstream=self.options.route is None)
        body = render_embeddings_request(self.options.model, texts)
        call = known_there(UpstreamCall(route, "POST", "/embeddings", headers, body), self.options.model)
        self.tally["calls"] += 1
        try:
            async with asyncio.timeout(self.options.timeout_s):
                status, answer = await ask(self._upstream, call, _MAX_ANSWER_BYTES)
        except (UpstreamFault, TimeoutError) as fault:
            self._failed(str(fault) or type(fault).__name__)
            return 0, None
        if status != 200:
            self._failed(f"status {status}", is_open=status in _REFUSED and len(texts) > 1)
            return status, None
        vectors = await asyncio.to_thread(read_embeddings, answer, len(texts))
        if vectors is None:
            self._failed("not one vector for each text")
            return status, None
        self._failures_in_row = 0
        self.tally["texts"] += len(texts)
        if (usage := usage_of_answer(answer)) is not None:
            self.tally["prompt_tokens"] += usage.prompt_tokens
            if self.charge is not None and exchange is not None:
                self.charge(exchange, usage.prompt_tokens, 0)
        return status, vectors

    def _failed(self, reason: str, *, is_open: bool = False) -> None:
        """Note a call in vain; it is open whether the endpoint is to blame, or one of several texts."""
        self.tally["failures"] += 1
        self._failures_in_row += not is_open
        _log.warning("no embeddings", extra={"reason": reason[:200]})
        if self._failures_in_row >= _FAILURES:
            self._failures_in_row = 0
            self._rests_until_s = self._clock() + _REST_S
            _log.warning("embeddings rest", extra={"seconds": _REST_S})
