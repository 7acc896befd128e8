"""The summariser: an OpenAI-compatible endpoint that writes briefs, with retries, backoff and a bound on its time."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from gateway.core.context.brief import FoldJob
from gateway.core.context.summary import read_summary, render_summary_request
from gateway.core.context.summary_going_on import render_going_on
from gateway.core.facts.statements import Statement, read_statements
from gateway.core.routing.routes import Route
from gateway.core.tokens.profiles import Profile
from gateway.core.wire.headers import Headers
from gateway.core.wire.usage import usage_of_answer
from gateway.exchange import Exchange
from gateway.ports import TextCounter, Upstream, UpstreamCall, UpstreamFault
from gateway.shell.side_calls import ask, known_there, side_headers

_log = logging.getLogger("gateway.summarizer")
_FATAL_STATUSES = frozenset({401, 403, 404})
_MAX_ANSWER_BYTES = 1024 * 1024
_MIN_BODY_TOKENS = 32
"""Where a brief has less room than this for its body, nobody is asked to write it."""
_INSTRUCTION_TOKENS = 256
"""What the summariser is told beside the turns, generously."""
_GOING_ON_TOKENS = 512
"""The same at the end of what was sent already, and what its answer may be longer than its share."""


@dataclass(frozen=True, slots=True)
class SummarizerOptions:
    """How briefs are written.

    Attributes:
        route: the summariser's own endpoint, or None for the request's own upstream.
        model: its model, "" for the request's own.
        timeout_s: of one call.
        max_retries: further calls after a failed one.
        max_input_tokens: what folded turns may take of a prompt.
        backoff_s: unit of the waits between calls, which double.
        breaker_failures: after so many in a row nobody is asked, and folds are extractive at once,
        breaker_rest_s: for so long.
        reuses_prompts: the request's own model is asked at the end of what it was sent already, which is cached there.
        states: facts are asked for, too, where the request names a memory.
    """

    route: Route | None
    model: str
    timeout_s: float
    max_retries: int
    max_input_tokens: int
    backoff_s: float = 0.25
    breaker_failures: int = 5
    breaker_rest_s: float = 30.0
    reuses_prompts: bool = False
    states: bool = False


class Written(NamedTuple):
    """What the summariser has written: the body of a brief, "" for none, and what it states beside it."""

    text: str
    statements: tuple[Statement, ...] = ()


_NOTHING = Written("")


class Summarizer:
    """Asks the summariser for the body of a brief.

    Args:
        options: how.
        upstream: the way there.
        counter: tokenizers.
        tally: `calls`, `failures`, `prompt_tokens` and `completion_tokens` are added here; it may outlive this one.
        charge: told what each brief took, prompt and answer, for whose request it was asked; None where nobody counts.
    """

    def __init__(
        self,
        options: SummarizerOptions,
        upstream: Upstream,
        counter: TextCounter,
        tally: Counter[str] | None = None,
        charge: Callable[[Exchange, int, int], None] | None = None,
    ) -> None:
        self._charge = charge
        self._options = options
        self._upstream = upstream
        self._counter = counter
        self._refuses_schema: set[str] = set()
        self._refuses_prompt: set[str] = set()
        self._failures_in_row = 0
        self._rests_until_s = 0.0
        self._is_off = False
        self.tally = Counter[str]() if tally is None else tally

    @property
    def is_off(self) -> bool:
        """Whether nobody is asked now: until reload after a hopeless answer, for a while after many failures."""
        return self._is_off or time.monotonic() < self._rests_until_s

    @property
    def reuses_prompts(self) -> bool:
        """Whether what was sent so far is of use: only to the upstream and the model that it was sent to."""
        return self._options.reuses_prompts and self._options.route is None and not self._options.model

    async def write(
        self, exchange: Exchange, profile: Profile, job: FoldJob, body_tokens: int, *, is_addition: bool = False
    ) -> Written:
        """The body of a brief, if one could be had; bounded by timeouts and retries, never raises for faults.

        Args:
            exchange: the request that needs it; its model, upstream and key are used where no others are configured.
            profile: how to count.
            job: what to fold.
            body_tokens: what the body may take.
            is_addition: only what is new is to be told.
        """
        if self.is_off or exchange.request is None or body_tokens < _MIN_BODY_TOKENS:
            return _NOTHING
        if not any(turn.text.strip() for turn in job.turns):
            return _NOTHING  # a summary of nothing would be an invention
        route = self._options.route or (exchange.routes[0] if exchange.routes else None)
        if route is None:
            return _NOTHING
        model = self._options.model or exchange.request.model
        room = self._room_for_turns(exchange, job, body_tokens)
        if room < _MIN_BODY_TOKENS:
            return _NOTHING
        count = partial(self._counter.count_here, profile)
        states = self._options.states and exchange.overrides.memory is not None
        render = partial(
            render_summary_request, job, model, room, body_tokens, count, is_addition=is_addition, states=states
        )
        headers = side_headers(exchange, route, is_own_upstream=self._options.route is None)
        gone_on = await self._go_on(exchange, route, headers, job, body_tokens, is_addition=is_addition)
        if gone_on.text:
            return gone_on
        attempt = 0
        while attempt <= self._options.max_retries and not self.is_off:
            if attempt:
                await asyncio.sleep(random.uniform(0.5, 1.0) * self._options.backoff_s * 2**attempt)
            has_schema = route.name not in self._refuses_schema
            body = await asyncio.to_thread(render, has_schema=has_schema)
            written = await self._ask(exchange, UpstreamCall(route, "POST", "/chat/completions", headers, body))
            if written is not None:
                return written
            # An endpoint that takes no schema is asked again at once, and that is no retry.
            attempt += has_schema is (route.name not in self._refuses_schema)
        return _NOTHING

    async def _go_on(
        self, exchange: Exchange, route: Route, headers: Headers, job: FoldJob, body_tokens: int, *, is_addition: bool
    ) -> Written:
        """The brief asked for at the end of what was sent so far, once; nothing where that cannot be."""
        request, receipt = exchange.request, exchange.receipt
        if not job.sent or not self.reuses_prompts or request is None or receipt is None:
            return _NOTHING
        key = f"{route.name} {request.model}"
        room = receipt.budget.max_total_tokens - _GOING_ON_TOKENS - body_tokens
        if key in self._refuses_prompt or receipt.billed_at_most(job.sent_tokens) > room:
            return _NOTHING
        states = self._options.states and exchange.overrides.memory is not None
        body = render_going_on(request, job.sent, body_tokens, is_addition=is_addition, states=states)
        if body is None:
            return _NOTHING
        self.tally["reused_prompts"] += 1
        written = await self._ask(exchange, UpstreamCall(route, "POST", "/chat/completions", headers, body))
        if written is not None and not written.text:
            self._refuses_prompt.add(key)
            _log.warning("briefs are asked for in prompts of their own again", extra={"upstream": route.name})
        return written or _NOTHING

    def _room_for_turns(self, exchange: Exchange, job: FoldJob, body_tokens: int) -> int:
        """What folded turns may take; where the request's own model writes, its whole prompt keeps the same budget."""
        room = self._options.max_input_tokens
        if self._options.route is None and exchange.receipt is not None:
            earlier = job.earlier.tokens if job.earlier else 0
            window = exchange.receipt.budget.max_total_tokens
            room = min(room, window - body_tokens - earlier - _INSTRUCTION_TOKENS)
        return max(0, room)

    async def _ask(self, exchange: Exchange, call: UpstreamCall) -> Written | None:
        """One call; None if another may do better."""
        self.tally["calls"] += 1
        if exchange.request is not None:
            call = known_there(call, self._options.model or exchange.request.model)
        try:
            async with asyncio.timeout(self._options.timeout_s):
                status, body = await ask(self._upstream, call, _MAX_ANSWER_BYTES)
        except (UpstreamFault, TimeoutError) as fault:
            self._failed("no answer", str(fault) or type(fault).__name__)
            return None
        if status == 200:
            return self._read(exchange, body)
        if status in (400, 422) and b"response_format" in body and call.route.name not in self._refuses_schema:
            self._refuses_schema.add(call.route.name)
            return None
        self._failed("error status", str(status), is_endpoints=status >= 500 or status in (408, 429))
        if status in _FATAL_STATUSES and self._options.route is not None:
            self._is_off = True
            _log.error("summariser is off until reload", extra={"status": status})
        is_hopeless = status < 500 and status not in (408, 409, 429)
        return _NOTHING if is_hopeless else None

    def _read(self, exchange: Exchange, body: bytes) -> Written:
        usage = usage_of_answer(body)
        if usage is not None:
            self.tally["prompt_tokens"] += usage.prompt_tokens
            self.tally["completion_tokens"] += usage.completion_tokens
            if self._charge is not None:
                self._charge(exchange, usage.prompt_tokens, usage.completion_tokens)
        written = read_summary(body)
        if written:
            self._failures_in_row = 0
        else:
            self._failed("no brief in its answer", "empty, cut off, or not the object asked for")
        return Written(written, read_statements(body)) if written else _NOTHING

    def _failed(self, what: str, reason: str, *, is_endpoints: bool = True) -> None:
        """A call came to nothing; what only the client's own key or request is to blame for trips no breaker."""
        self.tally["failures"] += 1
        self._failures_in_row += is_endpoints
        if self._failures_in_row >= self._options.breaker_failures:
            self._failures_in_row = 0
            self._rests_until_s = time.monotonic() + self._options.breaker_rest_s
            _log.warning("summariser rests", extra={"seconds": self._options.breaker_rest_s})
        _log.warning("summariser failed: %s", what, extra={"reason": reason[:200]})
