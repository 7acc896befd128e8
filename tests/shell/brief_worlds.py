"""Processes that share a store of briefs, with a clock that passes when told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.core.context.brief import Brief, Level, Segment
from gateway.core.context.shorten import Arrangement, Shortened
from gateway.core.context.supersede import Quote
from gateway.shell.state.briefs import StoredBriefs
from gateway.shell.state.key_value import MemoryStateStore
from tests.redis_server import redis_server, shared_redis

__all__ = ["redis_server", "shared_redis"]
S, T = b"s" * 32, b"t" * 32
TTL_S, FRESH_S = 1000.0, 1.0


def brief(text: str = "x", covers: int = 1) -> Brief:
    return Brief(covers, Level.EXTRACTIVE, (Segment(1, covers, (Quote(1, "Never."),), text),), 0, 10)


def arrangement(covers: int) -> Arrangement:
    return Arrangement(covers, (Shortened(1, b"guard", 50, 0, 20),), ("a.py",))


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def chain(length: int, first: int = 0) -> list[bytes]:
    return [key(number) for number in range(first, first + length)]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class WatchedStore(MemoryStateStore):
    """Notes each round trip, and can be made to fail as stores do: nothing raises, nothing is found or kept."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(10**8, clock)
        self.trips: list[tuple[str, int]] = []
        self.is_down = False

    def _goes(self, name: str, keys: int = 1) -> bool:
        self.trips.append((name, keys))
        return not self.is_down

    async def get(self, space: str, key: bytes) -> bytes | None:
        return await super().get(space, key) if self._goes("get") else None

    async def get_many(self, space: str, keys: Sequence[bytes]) -> list[bytes | None] | None:
        return await super().get_many(space, keys) if self._goes("get_many", len(keys)) else None

    async def put(self, space: str, key: bytes, value: bytes, ttl_s: float | None = None) -> None:
        assert ttl_s is not None
        if self._goes("put"):
            await super().put(space, key, value, ttl_s)

    async def put_if_absent(self, space: str, key: bytes, value: bytes, ttl_s: float | None = None) -> bytes:
        return await super().put_if_absent(space, key, value, ttl_s) if self._goes("put_if_absent") else value

    async def prolong(self, space: str, keys: Sequence[bytes], ttl_s: float) -> None:
        if self._goes("prolong", len(keys)):
            await super().prolong(space, keys, ttl_s)


@dataclass
class Shared:
    """One store, and as many processes as are asked for."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.store = WatchedStore(self.clock)

    def process(self, max_bytes: int = 10**7) -> StoredBriefs:
        return StoredBriefs(self.store, max_bytes, TTL_S, FRESH_S, self.clock)

    def let_pass(self, seconds: float) -> None:
        self.clock.now_s += seconds

    def trips(self) -> list[tuple[str, int]]:
        """The round trips since the last time: what was asked, and for how many keys."""
        made, self.store.trips = self.store.trips, []
        return made
