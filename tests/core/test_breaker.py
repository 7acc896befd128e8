"""A breaker leaves alone what fails, tries it again one at a time, and forgets what works."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.routing.breaker import (
    CLOSED,
    MAX_CREDIT,
    MAX_OPEN_TIMES,
    Breaker,
    BreakerRules,
    BreakerState,
    Event,
    RetryBudget,
    after,
    ask,
    earned,
    event_of_status,
    give_back,
    spent,
)

RULES = BreakerRules(failures=3, reset_s=10.0)
OPEN = Breaker(BreakerState.OPEN, until_s=110.0)
PROBING = Breaker(BreakerState.HALF_OPEN, is_probing=True)
S, F, C = Event.SUCCESS, Event.FAILURE, Event.COOLDOWN


@pytest.mark.parametrize(
    ("before", "event", "expected"),
    [
        (CLOSED, S, CLOSED),
        (CLOSED, F, CLOSED._replace(failures=1)),
        (CLOSED._replace(failures=2), F, Breaker(BreakerState.OPEN, until_s=110.0)),
        (CLOSED._replace(failures=2), S, CLOSED),
        (CLOSED, C, Breaker(BreakerState.OPEN, until_s=104.0)),
        (OPEN, F, OPEN),
        (OPEN, S, CLOSED),
        (OPEN, C, OPEN),
        (OPEN._replace(until_s=102.0), C, OPEN._replace(until_s=104.0)),
        (PROBING, S, CLOSED),
        (PROBING, F, Breaker(BreakerState.OPEN, until_s=120.0, reopened=1)),
        (PROBING._replace(reopened=1), F, Breaker(BreakerState.OPEN, until_s=140.0, reopened=2)),
        (PROBING, C, Breaker(BreakerState.OPEN, until_s=104.0)),
    ],
)
def test_the_table(before: Breaker, event: Event, expected: Breaker) -> None:
    """State by event, at 100 s, without jitter, a cooldown of 4 s."""
    assert after(before, event, RULES, 100.0, 0.5, 4.0) == expected


steps = st.lists(st.tuples(st.sampled_from(["ask", "answer", "leave"]), st.sampled_from(Event), st.floats(0, 40)))


@given(steps=steps, jitter=st.floats(0, 1))
def test_one_probe_at_a_time(steps: list[tuple[str, Event, float]], jitter: float) -> None:
    """Whatever happens: half-open lets one through, and open nobody before its time."""
    breaker, now, probes = CLOSED, 0.0, 0
    for step, event, pause in steps:
        now += pause
        if step == "ask":
            before = breaker
            breaker, may = ask(breaker, now)
            assert may is (
                before.state is BreakerState.CLOSED
                or (before.state is BreakerState.OPEN and now >= before.until_s)
                or (before.state is BreakerState.HALF_OPEN and not before.is_probing)
            )
            probes += may and breaker.state is BreakerState.HALF_OPEN
        elif step == "answer":
            breaker, probes = after(breaker, event, RULES, now, jitter, 5.0), 0
            assert breaker.until_s <= now + max(5.0, RULES.reset_s * MAX_OPEN_TIMES * 1.1)
        else:
            breaker, probes = give_back(breaker), 0
        assert probes <= 1
        assert ask(breaker, now + 1000)[1] or breaker.is_probing


def test_a_probe_whose_client_left_gives_its_place_back() -> None:
    tried, _ = ask(OPEN, 110.0)

    assert tried == PROBING._replace(until_s=110.0)
    assert ask(tried, 110.0)[1] is False
    assert ask(give_back(tried), 110.0)[1] is True
    assert give_back(OPEN) == OPEN


@pytest.mark.parametrize(
    ("status", "retry_after_s", "event"),
    [
        (200, None, S),
        (400, None, S),
        (401, None, S),
        (429, None, S),
        (429, 3.0, C),
        (500, None, F),
        (503, None, F),
        (503, 2.0, C),
        (529, None, F),
    ],
)
def test_whose_fault_an_answer_is(status: int, retry_after_s: float | None, event: Event) -> None:
    """A wrong request is none of the upstream's faults; one that names a time is taken at its word."""
    assert event_of_status(status, retry_after_s) is event


@given(calls=st.integers(0, 500), ratio=st.floats(0, 1))
def test_retries_are_a_share_of_the_traffic(calls: int, ratio: float) -> None:
    """Beyond a handful, whatever fails."""
    budget, retries = RetryBudget(), 0
    for _ in range(calls):
        budget = earned(budget, ratio)
        for _ in range(3):
            budget, may = spent(budget)
            retries += may

    assert retries <= MAX_CREDIT + calls * ratio + 1e-6
