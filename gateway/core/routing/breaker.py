"""A circuit breaker: an upstream that fails again and again is left alone for a while, then tried by one request.

Pure: the caller brings the time. What happens is a table of state and event:

| state     | success  | failure                                    | cooldown (a 429 or 503 that names a time) |
|-----------|----------|--------------------------------------------|--------------------------------------------|
| closed    | closed   | one more; open after so many in a row       | open until then                            |
| open      | closed   | open, as before                            | open until then, if that is later           |
| half-open | closed   | open, for twice as long as before           | open until then                            |

An open breaker becomes half-open when its time is over and somebody asks: that one may, as the probe, and nobody else
until it is known what became of it. Events of requests that were let through earlier count in any state.

Invariants, each with a test of its own:
  1. Half-open lets through one at a time.
  2. A probe that ends without an event, because its client left, gives its place back.
  3. An open breaker lets nobody through before its time, and somebody at its time.
  4. A success closes it, whatever it was.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

MAX_OPEN_TIMES = 10.0
"""A breaker that opens again and again stays open for so many times its first time at most."""


class BreakerState(enum.Enum):
    """The value is what the gauge shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Event(enum.Enum):
    """What became of a call, as far as its upstream is to blame."""

    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    COOLDOWN = enum.auto()


class Breaker(NamedTuple):
    """One breaker.

    Attributes:
        state: its state.
        failures: in a row, while closed.
        until_s: when an open one may be tried.
        reopened: how often a probe has failed since it was last closed.
        is_probing: a half-open one has let its probe through.
    """

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    until_s: float = 0.0
    reopened: int = 0
    is_probing: bool = False


class BreakerRules(NamedTuple):
    """When it opens (failures in a row), and for how long at first."""

    failures: int
    reset_s: float


CLOSED = Breaker()
USUAL_RULES = BreakerRules(5, 30.0)


def ask(breaker: Breaker, now_s: float) -> tuple[Breaker, bool]:
    """Whether a request may be sent now, and the breaker after that."""
    if breaker.state is BreakerState.CLOSED:
        return breaker, True
    if breaker.state is BreakerState.OPEN and now_s < breaker.until_s:
        return breaker, False
    if breaker.state is BreakerState.HALF_OPEN and breaker.is_probing:
        return breaker, False
    return breaker._replace(state=BreakerState.HALF_OPEN, is_probing=True), True


def after(
    breaker: Breaker, event: Event, rules: BreakerRules, now_s: float, jitter: float, cooldown_s: float = 0.0
) -> Breaker:
    """The breaker after an event.

    Args:
        breaker: before it.
        event: what happened.
        rules: of the upstream.
        now_s: on the caller's clock.
        jitter: 0 to 1; replicas that opened together do not all come back together.
        cooldown_s: of a cooldown, how long the upstream wants to be left alone.
    """
    if event is Event.SUCCESS:
        return CLOSED
    if event is Event.COOLDOWN:
        until_s = max(breaker.until_s, now_s + cooldown_s) if breaker.state is BreakerState.OPEN else now_s + cooldown_s
        return breaker._replace(state=BreakerState.OPEN, until_s=until_s, is_probing=False)
    if breaker.state is BreakerState.OPEN:
        return breaker
    if breaker.state is BreakerState.HALF_OPEN:
        reopened = breaker.reopened + 1
        times = min(MAX_OPEN_TIMES, 2.0**reopened)
        return Breaker(BreakerState.OPEN, 0, now_s + _jittered(rules.reset_s * times, jitter), reopened)
    failures = breaker.failures + 1
    if failures < rules.failures:
        return breaker._replace(failures=failures)
    return Breaker(BreakerState.OPEN, 0, now_s + _jittered(rules.reset_s, jitter))


def give_back(breaker: Breaker) -> Breaker:
    """The breaker once a probe has ended without an event."""
    return breaker._replace(is_probing=False) if breaker.state is BreakerState.HALF_OPEN else breaker


def _jittered(time_s: float, jitter: float) -> float:
    return time_s * (0.9 + 0.2 * jitter)


_FAILED = frozenset({500, 502, 503, 504, 529})


def event_of_status(status: int, retry_after_s: float | None) -> Event:
    """What an answer says of its upstream: that a request was wrong is none of its faults, and that it is limited is no
    failure, but a reason to leave it alone as long as it says.
    """
    if status in (429, 503) and retry_after_s is not None:
        return Event.COOLDOWN
    return Event.FAILURE if status in _FAILED else Event.SUCCESS


class RetryBudget(NamedTuple):
    """Retries that an upstream may still be asked for: a share of its recent traffic, so that retries never storm."""

    credit: float = 10.0


MAX_CREDIT = 10.0


def earned(budget: RetryBudget, ratio: float) -> RetryBudget:
    """The budget after another first call."""
    return RetryBudget(min(MAX_CREDIT, budget.credit + ratio))


def spent(budget: RetryBudget) -> tuple[RetryBudget, bool]:
    """The budget after a retry, and whether that may be made at all."""
    return (RetryBudget(budget.credit - 1), True) if budget.credit >= 1 else (budget, False)
