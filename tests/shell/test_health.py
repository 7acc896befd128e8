"""What a process has seen of upstreams: only what is amiss, and only so much of it."""

from __future__ import annotations

from dataclasses import replace

from gateway.core.routing.breaker import BreakerRules, Event
from gateway.shell.routing.health import MAX_BREAKERS, RememberedHealth
from tests.histories import route_of

ROUTE = replace(route_of(), breaker=BreakerRules(2, 10.0), retry_ratio=0.0)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def health_at(clock: Clock) -> RememberedHealth:
    return RememberedHealth(clock, lambda: 0.5)


def test_a_model_that_fails_is_left_alone_and_tried_again() -> None:
    """Others of the upstream are not; one probe, and after its success everybody."""
    clock = Clock()
    health = health_at(clock)
    for _ in range(2):
        assert health.may_ask(ROUTE, "m")
        health.report(ROUTE, "m", Event.FAILURE)

    assert not health.is_willing(ROUTE, "m")
    assert health.is_willing(ROUTE, "other")
    clock.now_s = 10.0
    assert health.is_willing(ROUTE, "m")
    assert health.may_ask(ROUTE, "m")
    assert not health.is_willing(ROUTE, "m")
    health.give_back(ROUTE, "m")
    assert health.may_ask(ROUTE, "m")
    health.report(ROUTE, "m", Event.SUCCESS)
    assert health.may_ask(ROUTE, "m")
    assert health.may_ask(ROUTE, "m")
    assert list(health.states()) == []
    assert health.transitions == {"opened": 1, "probed": 2, "closed": 1}


def test_to_look_claims_nothing() -> None:
    clock = Clock()
    health = health_at(clock)
    health.report(ROUTE, "m", Event.COOLDOWN, 5.0)
    clock.now_s = 5.0

    assert all(health.is_willing(ROUTE, "m") for _ in range(3))
    assert health.may_ask(ROUTE, "m")


def test_made_up_models_take_no_memory() -> None:
    """Neither those that work nor those that fail."""
    health = health_at(Clock())
    for number in range(3 * MAX_BREAKERS):
        health.report(ROUTE, f"good-{number}", Event.SUCCESS)
        health.report(ROUTE, f"bad-{number}", Event.FAILURE)

    assert len(list(health.states())) == MAX_BREAKERS


def test_a_retry_takes_of_the_budget() -> None:
    """Ten without any traffic that earns more."""
    health = health_at(Clock())
    made = sum(health.may_retry(ROUTE) for _ in range(50))

    assert (made, health.denied_retries) == (10, 40)
