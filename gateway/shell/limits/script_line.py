"""Calls of scripts to one Redis, many in one round trip: what is asked while an answer is awaited goes together next.

A Redis that is slow, away, or says no to everything costs a caller at most the time limit, once: then calls fail at
once until it has answered in the background. Nothing is ever sent twice, but for a script that Redis does not know yet.
The URL, which may hold a password, is never logged.

Invariants, each with a test of its own:
  1. A call returns what Redis said, or raises `LineDownError`, within the time limit.
  2. After an outage it is used again, without a caller having waited for it.
  3. Calls that come together share a round trip.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from gateway.shell.limits.scripts import Call
from gateway.tasks import TaskGroup

_log = logging.getLogger("gateway.limits")
_CONNECT_S = 0.5
_REST_S, _MAX_REST_S = 0.25, 5.0
_PROBE = b"llm-gateway:limit:probe"
_MAX_CALLS = 256
"""In one round trip: about 5 ms of Redis."""


class LineDownError(Exception):
    """Redis did not answer in time, or not as it should; whether it did what it was asked is not known."""


class ScriptLine:
    """One Redis, or one cluster.

    Args:
        url: `redis://[user:password@]host:port/database`, or `rediss://` for TLS.
        is_cluster: whether it is one node of a cluster.
        timeout_s: what a round trip may take.
        fell: called when it is given up.
        rose: called when it is back.
    """

    def __init__(
        self, url: str, is_cluster: bool, timeout_s: float, fell: Callable[[], None], rose: Callable[[], None]
    ) -> None:
        self._url = url
        self._is_cluster = is_cluster
        self._timeout_s = timeout_s
        self._fell = fell
        self._rose = rose
        self._redis: Any = _connect(url, is_cluster, timeout_s)
        self._queue: list[tuple[Call, asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._tasks = TaskGroup()
        self.is_down = False
        self.round_trips = 0
        self.faults: Counter[str] = Counter()

    async def open(self) -> None:
        """Connect now, so that trouble is logged at the start rather than met by a request."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                await self._redis.ping()
        except (RedisError, OSError, TimeoutError) as error:
            self._fall(error)

    async def close(self) -> None:
        """Let go, after what is queued was sent."""
        if self._sending is not None and not self.is_down:
            await asyncio.wait([self._sending], timeout=self._timeout_s)
        self.is_down = True
        await self._tasks.drain(0)
        await _let_go(self._redis)

    def call(self, call: Call) -> asyncio.Future[Any]:
        """Send a call with the next round trip; the future fails with `LineDownError`, or holds what Redis returned."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.is_down:
            self.faults["down"] += 1
            future.set_exception(LineDownError())
            return future
        self._queue.append((call, future))
        if self._sending is None or self._sending.done():
            self._sending = self._tasks.spawn(self._send_all(), "ask redis for limits")
        return future

    async def _send_all(self) -> None:
        while self._queue:
            batch, self._queue = self._queue[:_MAX_CALLS], self._queue[_MAX_CALLS:]
            calls, futures = [call for call, _ in batch], [future for _, future in batch]
            try:
                async with asyncio.timeout(self._timeout_s):
                    answers = await self._round_trip(calls)
            except (RedisError, OSError, TimeoutError) as error:
                answers = [error] * len(batch)
                self._fall(error)
            except BaseException as error:
                for future in futures:
                    _fail(future, error)
                raise
            for future, answer in zip(futures, answers, strict=True):
                if isinstance(answer, Exception):
                    self._note(answer)
                    _fail(future, LineDownError())
                elif not future.done():
                    future.set_result(answer)
            if self.is_down:
                for _, future in self._queue:
                    _fail(future, LineDownError())
                self._queue = []

    async def _round_trip(self, calls: list[Call]) -> list[Any]:
        """What Redis answers each; in a second one for scripts that it did not know."""
        answers = await self._pipelined(calls, [("EVALSHA", call.script.sha) for call in calls])
        unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            again = [calls[place] for place in unknown]
            late = await self._pipelined(again, [("EVAL", call.script.text) for call in again])
            for place, answer in zip(unknown, late, strict=True):
                answers[place] = answer
        return answers

    async def _pipelined(self, calls: list[Call], how: list[tuple[str, str]]) -> list[Any]:
        self.round_trips += 1
        pipeline = self._redis.pipeline() if self._is_cluster else self._redis.pipeline(transaction=False)
        for call, (command, script) in zip(calls, how, strict=True):
            pipeline.execute_command(command, script, len(call.keys), *call.keys, *call.args)
        found: list[Any] = await pipeline.execute(raise_on_error=False)
        return found

    def _note(self, error: Exception) -> None:
        """One call failed: what Redis says of a single key is no outage, all else is."""
        if not self.is_down and not (isinstance(error, ResponseError) and "WRONGTYPE" in str(error)):
            self._fall(error)
        else:
            self.faults["foreign" if "WRONGTYPE" in str(error) else "error"] += 1

    def _fall(self, error: Exception) -> None:
        is_slow = "imeout" in type(error).__name__
        self.faults["slow" if is_slow else "refused" if isinstance(error, ResponseError) else "error"] += 1
        if self.is_down:
            return
        self.is_down = True
        _log.error(
            "the store of rate limits failed; each replica goes on with its share until it is back",
            extra={"error": type(error).__name__},
        )
        self._fell()
        self._tasks.spawn(self._wait_for_it(), "wait for the store of rate limits")

    async def _wait_for_it(self) -> None:
        """Ask at growing intervals whether it is back, and takes writes."""
        rest_s = _REST_S
        while True:
            await asyncio.sleep(rest_s)
            rest_s = min(2 * rest_s, _MAX_REST_S)
            if await self._answers(self._is_back):
                self.is_down = False
                _log.info("the store of rate limits is back")
                self._rose()
                return

    async def _answers(self, ask: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with asyncio.timeout(_CONNECT_S):
                await ask()
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    async def _is_back(self) -> None:
        before, self._redis = self._redis, _connect(self._url, self._is_cluster, self._timeout_s)
        await _let_go(before)  # the name may stand for another server by now, the slots be elsewhere
        await self._redis.set(_PROBE, b"1", px=1000)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever asked may have left


async def _let_go(client: Any) -> None:
    await client.aclose()
    if isinstance(client, Redis):
        await client.connection_pool.disconnect()


def _connect(url: str, is_cluster: bool, timeout_s: float) -> Any:
    if is_cluster:
        return RedisCluster.from_url(
            url, protocol=2, socket_connect_timeout=_CONNECT_S, socket_timeout=_CONNECT_S, retry=Retry(NoBackoff(), 0)
        )
    pool = BlockingConnectionPool.from_url(
        url,
        protocol=2,
        driver_info=None,
        socket_connect_timeout=_CONNECT_S,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        max_connections=4,
        timeout=_CONNECT_S,
    )
    return Redis(connection_pool=pool)
