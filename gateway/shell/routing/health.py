"""`ports.Health` in this process's memory: breakers by upstream and model, and what retries may still be made.

Only what is not as it should be is remembered, so models that clients make up take no memory: a success forgets a
breaker, and of those that fail the eldest go.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Set

from gateway.core.routing.breaker import (
    CLOSED,
    Breaker,
    BreakerState,
    Event,
    RetryBudget,
    after,
    ask,
    earned,
    give_back,
    spent,
)
from gateway.core.routing.routes import Route

MAX_BREAKERS = 1000


class RememberedHealth:
    """What this process has seen of upstreams.

    Args:
        clock: seconds, never going back.
        jitter: 0 to 1.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self._unwell: set[str] = set()
        self.transitions: Counter[str] = Counter(opened=0, closed=0, probed=0)
        self.denied_retries = 0

    def is_willing(self, route: Route, model: str) -> bool:
        breaker = self._breakers.get((route.name, model))
        if self._unwell and route.name in self._unwell:
            return False
        return breaker is None or ask(breaker, self._clock())[1]

    def may_ask(self, route: Route, model: str) -> bool:
        if self._unwell and route.name in self._unwell:
            return False
        breaker = self._breakers.get((route.name, model))
        if breaker is None:
            return True
        found, may = ask(breaker, self._clock())
        if found is not breaker:
            self._breakers[route.name, model] = found
            self.transitions["probed"] += 1
        return may

    def report(self, route: Route, model: str, event: Event, cooldown_s: float = 0.0) -> None:
        key = (route.name, model)
        breaker = self._breakers.get(key, CLOSED)
        if event is Event.SUCCESS:
            if breaker is not CLOSED:
                del self._breakers[key]
                self.transitions["closed"] += breaker.state is not BreakerState.CLOSED
            return
        found = after(breaker, event, route.breaker, self._clock(), self._jitter(), cooldown_s)
        self.transitions["opened"] += found.state is BreakerState.OPEN and breaker.state is not BreakerState.OPEN
        self._breakers.pop(key, None)
        self._breakers[key] = found
        if len(self._breakers) > MAX_BREAKERS:
            del self._breakers[next(iter(self._breakers))]

    def give_back(self, route: Route, model: str) -> None:
        key = (route.name, model)
        if (breaker := self._breakers.get(key)) is not None:
            self._breakers[key] = give_back(breaker)

    def note_call(self, route: Route) -> None:
        self._budgets[route.name] = earned(self._budgets.get(route.name, RetryBudget()), route.retry_ratio)

    def may_retry(self, route: Route) -> bool:
        self._budgets[route.name], may = spent(self._budgets.get(route.name, RetryBudget()))
        self.denied_retries += not may
        return may

    def probed(self, route: Route, *, is_well: bool) -> bool:
        """What a probe found; returns whether that is new."""
        was_well = route.name not in self._unwell
        if is_well:
            self._unwell.discard(route.name)
        else:
            self._unwell.add(route.name)
        return is_well != was_well

    def keep_probed(self, names: Set[str]) -> None:
        """Only these are probed from now on: of others nobody would notice that they are well again."""
        self._unwell &= names

    def states(self) -> Iterator[tuple[str, str, int]]:
        """Upstream, model and state of every breaker that is not closed, and of those that count failures."""
        for (upstream, model), breaker in self._breakers.items():
            yield upstream, model, breaker.state.value
        for upstream in sorted(self._unwell):
            yield upstream, "*", BreakerState.OPEN.value
