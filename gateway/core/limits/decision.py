"""One decision over all limits of a request: all are taken from, or none.

Invariants, each with a test of its own:
  1. A refusal takes nothing from any limit.
  2. Who is refused and waits as told is not refused by the same limit, if nobody else came.
  3. What a settled request has taken is what it has used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.core.limits.gauge import BUCKETS, DAYS, Gauge, Kind, brought_up, full_in_us, left, taken, wait_us


class Limit(NamedTuple):
    """One limit of one client.

    Attributes:
        key: names it among all: the client's scope, and the rule.
        kind: what it counts.
        amount: of it.
    """

    key: bytes
    kind: Kind
    amount: int


class Refused(NamedTuple):
    """Which limit said no. `wait_us` is None where no wait helps: one request asks for more than there ever is."""

    limit: Limit
    left: int
    asked: int
    wait_us: int | None


class State(NamedTuple):
    """What a client is told of one limit after a decision."""

    limit: Limit
    left: int
    full_in_us: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """A limiter's decision.

    Attributes:
        refused: the limit that said no, or None: then everything was taken.
        states: of all limits asked, after that.
        day: on which it was decided (days since 1970).
        lease: under which it was taken; only the limiter knows what that means.
    """

    refused: Refused | None
    states: Sequence[State]
    day: int
    lease: str = ""


def decide(
    limits: Sequence[Limit], gauges: Sequence[Gauge], units: Sequence[int], now_us: int
) -> tuple[list[Gauge], Refused | None]:
    """Take these units from these limits, or nothing.

    Args:
        limits: of the request.
        gauges: as last stored, in the same order.
        units: asked of each.
        now_us: microseconds since 1970.

    Returns:
        The gauges to store, and which limit refused: of several the one that asks for the longest wait.
    """
    present = [brought_up(limit.kind, limit.amount, gauge, now_us) for limit, gauge in zip(limits, gauges, strict=True)]
    refused: Refused | None = None
    for limit, gauge, asked in zip(limits, present, units, strict=True):
        if asked > limit.amount:
            return present, Refused(limit, left(limit.kind, limit.amount, gauge), asked, None)
        wait = wait_us(limit.kind, limit.amount, gauge, asked, now_us) if asked else 0
        if wait > 0 and (refused is None or wait > (refused.wait_us or 0)):
            refused = Refused(limit, left(limit.kind, limit.amount, gauge), asked, wait)
    if refused is not None:
        return present, refused
    return [
        taken(limit.kind, limit.amount, gauge, asked)
        for limit, gauge, asked in zip(limits, present, units, strict=True)
    ], None


def settle(limit: Limit, gauge: Gauge, reserved: int, used: int, now_us: int, day: int) -> Gauge:
    """The gauge once a request has used so much of what was taken for it.

    Args:
        limit: that was taken from.
        gauge: as last stored.
        reserved: what was taken.
        used: what was used; of concurrency nothing is, once a request ends.
        now_us: microseconds since 1970.
        day: on which it was taken (days since 1970): what a past day lacked or had over is its own.
    """
    present = brought_up(limit.kind, limit.amount, gauge, now_us)
    if limit.kind in DAYS and present.at != day:
        return present
    return taken(limit.kind, limit.amount, present, used - reserved)


def state_of(limit: Limit, gauge: Gauge, now_us: int) -> State:
    """What is left of a limit, and when it will be whole again."""
    return State(limit, left(limit.kind, limit.amount, gauge), full_in_us(limit.kind, limit.amount, gauge, now_us))


def is_idle(limit: Limit, gauge: Gauge, now_us: int) -> bool:
    """Whether it is as if nothing had ever been taken, and so need not be remembered."""
    present = brought_up(limit.kind, limit.amount, gauge, now_us)
    missing = left(limit.kind, limit.amount, present) < limit.amount
    return not missing if limit.kind in BUCKETS else present.level == 0
