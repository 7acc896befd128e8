"""`ports.Limiter` in this process's memory: nothing is awaited, so nothing falls between reading and writing.

Bounded: limits of which nothing is missing need not be remembered, and go first; then those that were used least
lately, whose clients start anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from gateway.core.limits.decision import Limit, Refused, Verdict, decide, is_idle, settle, state_of
from gateway.core.limits.gauge import DAY_US, Gauge, brought_up, fresh, left

MAX_LIMITS = 200_000
"""About 60 MB."""
_LOOKED_AT = 64
"""Of the eldest, at a time."""


def wall_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class MemoryLimiter:
    """Limits of one process.

    Args:
        clock_us: microseconds since 1970.
        max_limits: that are remembered.
    """

    def __init__(self, clock_us: Callable[[], int] = wall_us, max_limits: int = MAX_LIMITS) -> None:
        self._clock_us = clock_us
        self._max_limits = max_limits
        self._gauges: dict[bytes, tuple[Limit, Gauge]] = {}
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._gauges)

    def peek(self, limits: Sequence[Limit], units: Sequence[int]) -> Verdict:
        now_us = self._clock_us()
        present, refused = decide(limits, self._read(limits, now_us), units, now_us)
        return verdict_of(limits, present, refused, now_us) if refused else Verdict(None, (), now_us // DAY_US)

    async def take(self, limits: Sequence[Limit], units: Sequence[int]) -> Verdict:
        now_us = self._clock_us()
        present, refused = decide(limits, self._read(limits, now_us), units, now_us)
        self._write(limits, present, now_us)
        return verdict_of(limits, present, refused, now_us)

    def settle(
        self, limits: Sequence[Limit], reserved: Sequence[int], used: Sequence[int], day: int, lease: str = ""
    ) -> None:
        now_us = self._clock_us()
        changed = [each for each in zip(limits, reserved, used, strict=True) if each[1] != each[2]]
        which = [limit for limit, _, _ in changed]
        settled = [
            settle(limit, gauge, was, now, now_us, day)
            for (limit, was, now), gauge in zip(changed, self._read(which, now_us), strict=True)
        ]
        self._write(which, settled, now_us)

    def begin(self, limit: Limit, gauge: Gauge) -> None:
        """No more is left of a limit than this gauge says, wherever it is from."""
        now_us = self._clock_us()
        present = brought_up(limit.kind, limit.amount, gauge, now_us)
        known = self._gauges.get(limit.key)
        if known is not None:
            other = brought_up(limit.kind, limit.amount, known[1], now_us)
            present = min(present, other, key=lambda each: left(limit.kind, limit.amount, each))
        self._write([limit], [present], now_us)

    def _read(self, limits: Sequence[Limit], now_us: int) -> list[Gauge]:
        found = [self._gauges.get(limit.key) for limit in limits]
        return [
            each[1] if each is not None else fresh(limit.kind, limit.amount, now_us)
            for limit, each in zip(limits, found, strict=True)
        ]

    def _write(self, limits: Sequence[Limit], gauges: Sequence[Gauge], now_us: int) -> None:
        for limit, gauge in zip(limits, gauges, strict=True):
            self._gauges.pop(limit.key, None)  # the latest used stands last
            self._gauges[limit.key] = (limit, gauge)
        while len(self._gauges) > self._max_limits:
            self._make_room(now_us)

    def _make_room(self, now_us: int) -> None:
        eldest = [key for key, _ in zip(self._gauges, range(_LOOKED_AT), strict=False)]
        idle = [key for key in eldest if is_idle(*self._gauges[key], now_us)]
        for key in idle or eldest[:1]:
            del self._gauges[key]
        self.forgotten += not idle


def verdict_of(
    limits: Sequence[Limit], gauges: Sequence[Gauge], refused: Refused | None, now_us: int, lease: str = ""
) -> Verdict:
    """A decision, from the gauges that it left."""
    states = [state_of(limit, gauge, now_us) for limit, gauge in zip(limits, gauges, strict=True)]
    return Verdict(refused, states, now_us // DAY_US, lease)
