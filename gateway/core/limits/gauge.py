"""The arithmetic of one limit: how much is left, may this much be taken, and how long until it may.

Pure: no clock, no store, no lock. The caller brings what was last stored and the time; the answer is what to store
next. All numbers are integers below 2^53 and no division decides anything, so the same arithmetic can be done line by
line where numbers are doubles.

Three kinds. A *bucket* refills evenly: it holds what a minute allows and starts full. Its level is counted in units
times microseconds of a minute, so that a microsecond adds exactly the amount of a minute. It may owe, when more was
used than was taken for it. A *day* counts what was used since midnight UTC. *Concurrency* counts what is out now.

Invariants, each with a test of its own:
  1. A bucket never holds more than a minute's amount, and n minutes let in at most n + 1 of them.
  2. Waiting as told is enough, and a microsecond less is not.
  3. What is given back or found to be missing later changes the level by exactly that.
  4. A clock that goes back gives nothing, and loses nothing but the time that it went back.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
MAX_PER_MINUTE = 100_000_000
MAX_PER_DAY = 1_000_000_000_000_000
"""Both keep every number below 2^53."""
_LOWEST = -3 * 10**15
"""What a bucket owes at most: 50 million tokens."""


class Kind(enum.Enum):
    """What a limit counts; the value is its word in metrics, logs and errors."""

    REQUESTS = "requests_per_minute"
    TOKENS = "tokens_per_minute"
    CONCURRENT = "concurrent_requests"
    DAY_TOKENS = "tokens_per_day"
    DAY_COST = "cost_per_day"


BUCKETS = (Kind.REQUESTS, Kind.TOKENS)
DAYS = (Kind.DAY_TOKENS, Kind.DAY_COST)
"""Tuples: to hash a member takes longer than to compare two."""


class Gauge(NamedTuple):
    """What is stored of a limit: of a bucket its level and when that was so (microseconds); of a day what was used and
    on which (days since 1970); of concurrency what is out, and 0.
    """

    level: int
    at: int


def fresh(kind: Kind, amount: int, now_us: int) -> Gauge:
    """A limit of which nothing is known."""
    if kind in BUCKETS:
        return Gauge(amount * MINUTE_US, now_us)
    return Gauge(0, now_us // DAY_US if kind in DAYS else 0)


def brought_up(kind: Kind, amount: int, gauge: Gauge, now_us: int) -> Gauge:
    """The same at a later time: refilled, or a new day."""
    level, at = gauge
    if kind in BUCKETS:
        if now_us <= at:
            return Gauge(min(level, amount * MINUTE_US), at)
        lacking = amount * MINUTE_US - level
        elapsed = now_us - at
        is_full = elapsed >= -(-lacking // amount)
        return Gauge(amount * MINUTE_US if is_full else level + elapsed * amount, now_us)
    if kind in DAYS and now_us // DAY_US > at:
        return Gauge(0, now_us // DAY_US)
    return gauge


def left(kind: Kind, amount: int, gauge: Gauge) -> int:
    """Whole units that may be taken now, below 0 where some are owed; the gauge is brought up."""
    return gauge.level // MINUTE_US if kind in BUCKETS else amount - gauge.level


def wait_us(kind: Kind, amount: int, gauge: Gauge, units: int, now_us: int) -> int:
    """How long until so many units may be taken if nobody else takes any: 0 for now, of concurrency an estimate.

    Args:
        kind: of the limit.
        amount: of it, at least `units`.
        gauge: brought up to now.
        units: that are asked for.
        now_us: microseconds since 1970.
    """
    if left(kind, amount, gauge) >= units:
        return 0
    if kind in BUCKETS:
        ready_us = gauge.at - (-(units * MINUTE_US - gauge.level) // amount)
        return ready_us - now_us
    return (gauge.at + 1) * DAY_US - now_us if kind in DAYS else 1_000_000


def taken(kind: Kind, amount: int, gauge: Gauge, units: int) -> Gauge:
    """With so many units taken, or given back where they are below 0; the gauge is brought up."""
    if kind in BUCKETS:
        return Gauge(max(_LOWEST, min(amount * MINUTE_US, gauge.level - units * MINUTE_US)), gauge.at)
    return Gauge(max(0, gauge.level + units), gauge.at)


def full_in_us(kind: Kind, amount: int, gauge: Gauge, now_us: int) -> int:
    """How long until nothing is missing any more, if nobody takes any."""
    if kind in BUCKETS:
        return max(0, gauge.at - (-(amount * MINUTE_US - gauge.level) // amount) - now_us)
    if kind in DAYS:
        return (gauge.at + 1) * DAY_US - now_us if gauge.level else 0
    return 0
