"""`ports.StateStore` in a Redis: state that replicas share (Redis 6.2 or newer, or what speaks as it does; no cluster).

A slow or absent Redis costs a request at most `OP_S`, and only the first: then nobody asks it until it has answered a
ping in the background. Meanwhile look-ups find nothing and writes are lost; both are counted. Redis bounds its own
memory (`maxmemory`, with an `allkeys` policy); here only single values are bounded. The URL, which may hold a password,
is never logged.

Invariants, beside those of `key_value` that are not about room, each with a test of its own:
  1. Whatever Redis does or does not do, no call raises, and each returns in bounded time.
  2. Keys of other programs in the same database are not read, listed, or deleted.
  3. After an outage it is used again, within seconds, and without a request having waited for it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from gateway.shell.state.key_value import size_of
from gateway.tasks import TaskGroup

T = TypeVar("T")
_log = logging.getLogger("gateway.state")
CONNECT_S = 0.5
OP_S = 0.25
"""What a call may take, with a connection at hand or without."""
_REST_S, _MAX_REST_S = 0.5, 15.0
_MAX_CONNECTIONS = 32
_PAGE_ENTRIES = 256
_PREFIX = b"llm-gateway:"
_special = re.compile(rb"[\\*?\[\]^-]")


class RedisStateStore:
    """A Redis.

    Args:
        url: `redis://[user:password@]host:port/database`, or `rediss://` for TLS.
        max_bytes: above this a single value is not stored.
    """

    def __init__(self, url: str, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        pool = BlockingConnectionPool.from_url(
            url,
            protocol=2,
            driver_info=None,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=OP_S,
            retry=Retry(NoBackoff(), 0),
            max_connections=_MAX_CONNECTIONS,
            timeout=CONNECT_S,
        )
        self._redis: Redis = Redis(connection_pool=pool)
        self._tasks = TaskGroup()
        self._is_down = False
        self._is_closed = False
        self._rest_s = _REST_S
        self._back_at_s = 0.0
        self.held_bytes = 0
        self.evicted = 0
        self.faults: Counter[str] = Counter()

    async def open(self) -> None:
        """Connect now, rather than at the first use, so that trouble is logged at the start."""
        await self._run(self._redis.ping, None, patience_s=CONNECT_S)

    async def close(self) -> None:
        """Let go."""
        self._is_closed = True
        await self._tasks.drain(0)
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def get(self, space: str, key: bytes) -> bytes | None:
        found = await self.get_many(space, [key])
        return found[0] if found else None

    async def get_many(self, space: str, keys: Sequence[bytes]) -> list[bytes | None] | None:
        names = [_name(space, key) for key in keys]
        if not names:
            return []
        # What is of another type, put there by somebody else, comes as None.
        return await self._run(lambda: self._redis.mget(names), None)

    async def put(self, space: str, key: bytes, value: bytes, ttl_s: float | None = None) -> None:
        name = _name(space, key)
        if self._has_room(space, key, value):
            await self._run(lambda: self._redis.set(name, value, px=_milliseconds(ttl_s)), None)
        else:
            await self.delete(space, key)

    async def put_if_absent(self, space: str, key: bytes, value: bytes, ttl_s: float | None = None) -> bytes:
        name = _name(space, key)
        if not self._has_room(space, key, value):
            return await self.get(space, key) or value

        async def put() -> bytes:
            async with self._redis.pipeline(transaction=True) as both:
                both.set(name, value, px=_milliseconds(ttl_s), nx=True)
                both.get(name)
                _, standing = await both.execute(raise_on_error=False)
            if isinstance(standing, ResponseError) and _reason_of(standing) == "foreign":
                self.faults["foreign"] += 1
                await self._redis.set(name, value, px=_milliseconds(ttl_s))
                return value
            if isinstance(standing, Exception):
                raise standing
            return value if standing is None else bytes(standing)

        return await self._run(put, value)

    async def prolong(self, space: str, keys: Sequence[bytes], ttl_s: float) -> None:
        async def prolong() -> None:
            async with self._redis.pipeline(transaction=False) as all_of_them:
                for key in keys:
                    all_of_them.pexpire(_name(space, key), _milliseconds(ttl_s) or 1)
                await all_of_them.execute()

        await self._run(prolong, None)

    async def delete(self, space: str, key: bytes) -> None:
        await self._run(lambda: self._redis.unlink(_name(space, key)), 0)

    async def delete_prefix(self, space: str, prefix: bytes) -> int:
        names, gone = await self._names(space, prefix), 0
        for first in range(0, len(names), _PAGE_ENTRIES):
            page = names[first : first + _PAGE_ENTRIES]
            gone += await self._run(lambda page=page: self._redis.unlink(*page), 0)  # type: ignore[misc]
        return gone

    async def scan(self, space: str, prefix: bytes = b"") -> AsyncGenerator[tuple[bytes, bytes], None]:
        names, before = sorted(await self._names(space, prefix)), len(_name(space, b""))
        for first in range(0, len(names), _PAGE_ENTRIES):
            page = names[first : first + _PAGE_ENTRIES]
            values = await self._run(lambda page=page: self._redis.mget(page), None)  # type: ignore[misc]
            for name, value in zip(page, values or (), strict=False):
                if value is not None:
                    yield name[before:], value

    async def _names(self, space: str, prefix: bytes) -> list[bytes]:
        """All names that begin so; Redis looks at every key that it has."""
        pattern = _special.sub(rb"\\\g<0>", _name(space, prefix)) + b"*"
        names: set[bytes] = set()
        cursor = 0
        while True:
            answer = await self._run(lambda cursor=cursor: self._redis.scan(cursor, pattern, 1000), None)  # type: ignore[misc]
            if answer is None:
                return list(names)
            cursor, page = answer
            names.update(page)
            if not cursor:
                return list(names)

    def _has_room(self, space: str, key: bytes, value: bytes) -> bool:
        if size_of(space, key, value) <= self._max_bytes:
            return True
        self.faults["full"] += 1
        return False

    async def _run(self, work: Callable[[], Awaitable[Any]], otherwise: T, *, patience_s: float = OP_S) -> Any | T:
        """Ask Redis; where that fails or takes too long, what stands for "not stored"."""
        if self._is_closed or self._is_down:
            self.faults["closed" if self._is_closed else "down"] += 1
            return otherwise
        try:
            async with asyncio.timeout(patience_s):
                return await work()
        except ResponseError as error:
            self._refused(error)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
        return otherwise

    def _refused(self, error: ResponseError) -> None:
        """Redis lives and says no: one command is lost."""
        reason = _reason_of(error)
        self.faults[reason] += 1
        if reason in ("error", "read_only"):
            self._rest(reason, error)

    def _failed(self, error: Exception) -> None:
        reason = "slow" if "imeout" in type(error).__name__ else "error"
        self.faults[reason] += 1
        self._rest(reason, error)

    def _rest(self, reason: str, error: Exception) -> None:
        if self._is_down or self._is_closed:
            return
        self._is_down = True
        if time.monotonic() - self._back_at_s > _MAX_REST_S:
            self._rest_s = _REST_S
        _log.error(
            "the state store failed; going on without it until it answers",
            extra={"reason": reason, "error": _text_of(error)},
        )
        self._tasks.spawn(self._wait_for_it(), "wait for redis")

    async def _wait_for_it(self) -> None:
        """Ask at growing intervals whether it is back."""
        while self._is_down:
            await asyncio.sleep(self._rest_s)
            self._rest_s = min(2 * self._rest_s, _MAX_REST_S)
            try:
                async with asyncio.timeout(CONNECT_S):
                    # The name may stand for another server by now.
                    await self._redis.connection_pool.disconnect(inuse_connections=False)
                    await self._redis.ping()
            except (RedisError, OSError, TimeoutError):
                continue
            self._is_down = False
            self._back_at_s = time.monotonic()
            _log.info("the state store is back")


def _reason_of(error: ResponseError) -> str:
    if isinstance(error, OutOfMemoryError):
        return "full"
    if isinstance(error, ReadOnlyError):
        return "read_only"
    return "foreign" if "WRONGTYPE" in str(error) else "error"


def _text_of(error: Exception) -> str:
    """What an error says, without the command, which holds what users said."""
    return f"{type(error).__name__}: {str(error).rpartition('caused error: ')[2]}"


def _name(space: str, key: bytes) -> bytes:
    return _PREFIX + space.encode() + b":" + key


def _milliseconds(ttl_s: float | None) -> int | None:
    return None if ttl_s is None else max(1, round(ttl_s * 1000))
