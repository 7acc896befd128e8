"""`ports.AnswerStore` in a Redis that replicas share, through aiocache's Redis backend.

A slow or absent Redis costs one request at most `OP_S`: then all are misses at once, until it has answered in the
background. Redis bounds its own memory (`maxmemory` with an `allkeys` policy) and lets answers go when their time is
over. The URL, which may hold a password, is never logged, nor is anything of a key or value.

Invariants, each with a test of its own:
  1. Whatever Redis does or does not do, no call raises, and each returns in bounded time.
  2. What stands there that is no answer of ours is as good as absent, and counted.
  3. After an outage it is used again, without a request having waited for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiocache import RedisCache
from aiocache.serializers import NullSerializer
from redis.asyncio.connection import BlockingConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway.core.cache.answer import Record, read_record, write_record
from gateway.tasks import TaskGroup

_log = logging.getLogger("gateway.cache")
OP_S = 0.25
"""What a call may take, with a connection at hand or without."""
_REST_S, _MAX_REST_S = 0.5, 15.0
_MAX_CONNECTIONS = 32
_SPACE = "llm-gateway:answer"
_PROBE = "probe"


class RedisAnswers:
    """Answers in a Redis.

    Args:
        url: `redis://[user:password@]host:port/database`, or `rediss://` for TLS.
        ttl_s: how long an answer may be used.
    """

    def __init__(self, url: str, ttl_s: float) -> None:
        self._ttl_s = float(ttl_s)
        self._cache = _connect(url)
        self._tasks = TaskGroup()
        self._is_down = False
        self.held_bytes = 0
        self.evicted = 0
        self.faults: Counter[str] = Counter()

    async def open(self) -> None:
        """Connect now, rather than at the first use, so that trouble is logged at the start."""
        await self._run(lambda: self._cache.get(_PROBE))

    async def close(self) -> None:
        """Let go."""
        self._is_down = True
        await self._tasks.drain(0)
        await self._cache.client.aclose()
        await self._cache.client.connection_pool.disconnect()

    async def get(self, key: bytes) -> Record | None:
        value = await self._run(lambda: self._cache.get(key.hex()))
        if value is None:
            return None
        record = read_record(value)
        if record is None:
            self.faults["unreadable"] += 1
        return record

    async def put(self, key: bytes, record: Record) -> None:
        value = write_record(record)
        await self._run(lambda: self._cache.set(key.hex(), value, ttl=self._ttl_s))

    async def _run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Ask Redis; None where that fails or takes too long."""
        if self._is_down:
            self.faults["down"] += 1
            return None
        try:
            return await work()
        except ResponseError:  # it lives and says no: one command is lost
            self.faults["refused"] += 1
            return None
        except (RedisError, OSError, TimeoutError) as error:
            is_slow = "imeout" in type(error).__name__
            self.faults["slow" if is_slow else "error"] += 1
            self._rest(error)
            return None

    def _rest(self, error: Exception) -> None:
        if self._is_down:
            return
        self._is_down = True
        _log.error(
            "the response cache failed; answering without it until it is back", extra={"error": type(error).__name__}
        )
        self._tasks.spawn(self._wait_for_it(), "wait for the response cache")

    async def _wait_for_it(self) -> None:
        """Ask at growing intervals whether it is back."""
        rest_s = _REST_S
        while True:
            await asyncio.sleep(rest_s)
            rest_s = min(2 * rest_s, _MAX_REST_S)
            try:
                # The name may stand for another server by now.
                await self._cache.client.connection_pool.disconnect(inuse_connections=False)
                await self._cache.get(_PROBE)
            except (RedisError, OSError, TimeoutError):
                continue
            self._is_down = False
            _log.info("the response cache is back")
            return


def _connect(url: str) -> RedisCache:
    """aiocache's Redis backend with bounded waits; it takes a URL's parts one by one."""
    parts: dict[str, Any] = dict(parse_url(url))
    host, port, database = parts.pop("host", "localhost"), parts.pop("port", 6379), parts.pop("db", 0)
    password = parts.pop("password", None)
    bounds = {"protocol": 2, "driver_info": None, "socket_timeout": OP_S, "timeout": OP_S}
    return RedisCache(
        serializer=NullSerializer(encoding=None),
        namespace=_SPACE,
        timeout=OP_S,
        endpoint=host,
        port=port,
        db=database,
        password=password,
        pool_max_size=_MAX_CONNECTIONS,
        create_connection_timeout=OP_S,
        connection_pool_class=BlockingConnectionPool,
        connection_pool_kwargs={**parts, **bounds, "retry": Retry(NoBackoff(), 0)},
    )
