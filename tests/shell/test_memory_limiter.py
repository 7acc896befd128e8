"""The limiter of one process: what is taken comes back, and what it remembers is bounded."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.limits.decision import Limit
from gateway.core.limits.gauge import DAY_US, Kind
from gateway.shell.limits.memory import MemoryLimiter

pytestmark = pytest.mark.asyncio
START = 20_000 * DAY_US


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_us = START

    def __call__(self) -> int:
        return self.now_us


def limits_of(client: bytes, amount: int = 10) -> list[Limit]:
    return [Limit(client + kind.value.encode(), kind, amount) for kind in (Kind.TOKENS, Kind.CONCURRENT)]


async def test_what_is_taken_comes_back() -> None:
    """Of concurrency all, of tokens what was not used; and a minute later everything."""
    clock = Clock()
    limiter = MemoryLimiter(clock)
    limits = limits_of(b"a")
    first = await limiter.take(limits, [6, 1])
    second = await limiter.take(limits, [6, 1])
    limiter.settle(limits, [6, 1], [2, 0], first.day)
    third = await limiter.take(limits, [6, 1])
    clock.now_us += 60_000_000
    fourth = limiter.peek(limits, [10, 1])

    assert first.refused is None
    assert second.refused is not None
    assert (second.refused.limit, second.refused.left) == (limits[0], 4)
    assert third.refused is None
    assert [state.left for state in third.states] == [2, 9]
    assert fourth.refused is None


async def test_to_peek_takes_nothing() -> None:
    limiter = MemoryLimiter(Clock())
    for _ in range(100):
        assert limiter.peek(limits_of(b"a"), [10, 10]).refused is None

    assert len(limiter) == 0


async def test_clients_have_limits_of_their_own() -> None:
    limiter = MemoryLimiter(Clock())
    verdicts = [await limiter.take(limits_of(client), [10, 1]) for client in (b"a", b"b", b"a")]

    assert [verdict.refused is None for verdict in verdicts] == [True, True, False]


async def test_many_at_once_take_no_more_than_there_is() -> None:
    limiter = MemoryLimiter(Clock())
    verdicts = await asyncio.gather(*(limiter.take(limits_of(b"a", 7), [1, 1]) for _ in range(50)))

    assert sum(verdict.refused is None for verdict in verdicts) == 7


async def test_memory_is_bounded() -> None:
    """Clients that have nothing missing are forgotten first, and those that are active are not."""
    clock = Clock()
    limiter = MemoryLimiter(clock, max_limits=100)
    await limiter.take(limits_of(b"active"), [9, 1])
    for number in range(2000):
        limits = limits_of(str(number).encode())
        await limiter.take(limits, [1, 1])
        limiter.settle(limits, [1, 1], [0, 0], START // DAY_US)
        await limiter.take(limits_of(b"active"), [0, 0])

        assert len(limiter) <= 102
    refused = (await limiter.take(limits_of(b"active"), [9, 1])).refused

    assert refused is not None
    assert limiter.forgotten == 0


async def test_an_attack_costs_those_who_come_seldom() -> None:
    """Where nothing is idle the least used go, which is counted."""
    limiter = MemoryLimiter(Clock(), max_limits=10)
    for number in range(50):
        await limiter.take(limits_of(str(number).encode()), [1, 1])

    assert len(limiter) <= 12
    assert limiter.forgotten > 0
