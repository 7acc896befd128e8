"""Which upstream answers: retries and failover, the same for every kind of call.

Only before anything has reached the client. Each call's upstream learns what became of it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from gateway.core.errors import Refusal
from gateway.core.routing.breaker import Event, event_of_status
from gateway.core.routing.retry import Next, backoff_s, decide_after_fault, decide_after_status, parse_retry_after
from gateway.core.routing.routes import Route
from gateway.core.wire.headers import header_of
from gateway.exchange import Exchange
from gateway.ports import Health, UpstreamAnswer, UpstreamFault


class Reply(Protocol):
    """An answer worth passing on, and who gave it."""

    @property
    def answer(self) -> UpstreamAnswer: ...

    @property
    def route(self) -> Route: ...


R = TypeVar("R", bound=Reply)


class Attempts(Generic[R]):
    """Asks the routes of an exchange in their order.

    Args:
        health: how upstreams have answered lately.
        ask: makes one call, and raises `UpstreamFault` where no answer comes.
    """

    def __init__(self, health: Health, ask: Callable[[Exchange, Route], Awaitable[R]]) -> None:
        self._health = health
        self._ask = ask

    async def reply(self, exchange: Exchange, *, can_repeat: bool) -> R:
        """The first answer worth passing on, after retries and failover.

        Raises:
            Refusal: 502 or 504, no upstream answered.
        """
        model = exchange.request.model if exchange.request is not None else ""
        routes = [route for route in exchange.routes if self._health.is_willing(route, model)]
        routes = routes or list(exchange.routes[:1])  # all are left alone: better to ask one than nobody
        fault: UpstreamFault | None = None
        for place, route in enumerate(routes if can_repeat else routes[:1]):
            is_last = place + 1 == len(routes)
            if not self._health.may_ask(route, model) and not is_last:
                continue
            self._health.note_call(route)
            for tries in itertools.count(1):
                reply, fault = await self._try(exchange, route, model)
                retry_after_s = _retry_after_of(reply.answer) if reply is not None else None
                step = self._step(reply, fault, tries, route, retry_after_s, is_last=is_last, can_repeat=can_repeat)
                if reply is not None:
                    if step is Next.PASS_ON:
                        exchange.outcome.fault = ""
                        return reply
                    reply.answer.close()
                if step is Next.NEXT_ROUTE:
                    break
                await asyncio.sleep(backoff_s(tries, random.random(), retry_after_s))
        assert fault is not None
        raise refusal_of(fault, routes)

    async def _try(self, exchange: Exchange, route: Route, model: str) -> tuple[R | None, UpstreamFault | None]:
        """One call, whose upstream's health is told what became of it: a reply, or a fault."""
        try:
            reply = await self._ask(exchange, route)
        except UpstreamFault as fault:
            exchange.outcome.upstream, exchange.outcome.fault = route.name, fault.kind
            self._health.report(route, model, Event.FAILURE)
            return None, fault
        except BaseException:
            self._health.give_back(route, model)
            raise
        retry_after_s = _retry_after_of(reply.answer)
        self._health.report(route, model, event_of_status(reply.answer.status, retry_after_s), retry_after_s or 0.0)
        return reply, None

    def _step(
        self,
        reply: R | None,
        fault: UpstreamFault | None,
        tries: int,
        route: Route,
        retry_after_s: float | None,
        *,
        is_last: bool,
        can_repeat: bool,
    ) -> Next:
        """What to do after a call; a reply is passed on where nothing else is left."""
        if reply is not None:
            step = decide_after_status(reply.answer.status, tries, route, retry_after_s, is_last=is_last)
        else:
            step = decide_after_fault(fault is not None and fault.is_retryable and can_repeat, tries, route)
        if reply is not None and not can_repeat:
            return Next.PASS_ON
        if step is Next.SAME_ROUTE and not self._health.may_retry(route):
            step = Next.NEXT_ROUTE
        return Next.PASS_ON if reply is not None and is_last and step is Next.NEXT_ROUTE else step


def refusal_of(fault: UpstreamFault, routes: Sequence[Route]) -> Refusal:
    """What a client is told of an upstream that gave no answer, or broke off."""
    is_late = fault.kind.endswith("timeout")
    code = f"upstream_{fault.kind}" if is_late or fault.kind == "too_large" else "upstream_error"
    names = ", ".join(route.name for route in routes)
    return Refusal(
        504 if is_late else 502, code, f"The upstream failed ({fault.kind}): {fault.message}. Asked: {names}."
    )


def _retry_after_of(answer: UpstreamAnswer) -> float | None:
    value = header_of(answer.headers, "retry-after") if answer.status >= 400 else None
    return parse_retry_after(value, time.time()) if value is not None else None
