"""What a run of the load is asked to do, what its connections count, and the numbers that come out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, how hard and how long."""

    port: int
    request: Callable[[], bytes]
    connections: int = 1
    measure_s: float = 2.0
    warm_s: float = 0.3
    is_stream: bool = False
    window_edge: Callable[[], float] = lambda: 0.0  # CPU seconds of the target, read at both ends of the window


@dataclass(slots=True)
class Result:
    """What one run saw; times in microseconds."""

    requests: int = 0
    seconds: float = 0.0
    per_second: float = 0.0
    p50_us: float = 0.0
    p99_us: float = 0.0
    events: int = 0
    events_per_second: float = 0.0
    first_p50_us: float = 0.0
    first_p99_us: float = 0.0
    failed: int = 0
    failure: str = ""
    target_cpu_s: float = 0.0
    cpu_us_per_request: float = 0.0
    cpu_us_per_event: float = 0.0
    target_busy: float = 0.0


def percentile(values: list[float], share: float) -> float:
    """Nearest rank; 0 for nothing."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


@dataclass(slots=True)
class Window:
    """Counts shared by all connections of a run."""

    plan: Plan
    ended: asyncio.Event
    is_open: bool = False
    is_over: bool = False
    opened_at: float = 0.0
    closed_at: float = 0.0
    cpu_s: float = 0.0
    latencies: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    events: int = 0
    failed: int = 0
    failure: str = ""
    live: int = 0

    def open(self) -> None:
        """The warm-up is over."""
        self.cpu_s = -self.plan.window_edge()
        self.opened_at = time.perf_counter()
        self.is_open = True

    def close(self) -> None:
        """Count nothing more; connections stop after the answer they wait for."""
        if self.is_open:
            self.closed_at = time.perf_counter()
            self.cpu_s += self.plan.window_edge()
        self.is_open, self.is_over = False, True

    def fail(self, what: bytes) -> None:
        """A wrong answer, a lost connection or an unfinished stream."""
        self.failed += 1
        self.failure = self.failure or what[:300].decode("latin-1")

    def leave(self) -> None:
        """One connection less."""
        self.live -= 1
        if not self.live:
            self.close()
            self.ended.set()

    def result(self) -> Result:
        """The numbers."""
        seconds = max(self.closed_at - self.opened_at, 1e-9)
        count, cpu_us = len(self.latencies), self.cpu_s * 1e6
        return Result(
            requests=count,
            seconds=seconds,
            per_second=count / seconds,
            p50_us=percentile(self.latencies, 0.5) * 1e6,
            p99_us=percentile(self.latencies, 0.99) * 1e6,
            events=self.events,
            events_per_second=self.events / seconds,
            first_p50_us=percentile(self.firsts, 0.5) * 1e6,
            first_p99_us=percentile(self.firsts, 0.99) * 1e6,
            failed=self.failed + self.live,
            failure=self.failure or ("unfinished when time was up" if self.live else ""),
            target_cpu_s=self.cpu_s,
            cpu_us_per_request=cpu_us / count if count else 0.0,
            cpu_us_per_event=cpu_us / self.events if self.events else 0.0,
            target_busy=self.cpu_s / seconds,
        )
