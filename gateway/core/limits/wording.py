"""Rate limits as clients are told of them: OpenAI's headers, its 429, and its way to write a time.

Source: platform.openai.com/docs/guides/rate-limits (2026-01).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gateway.core.errors import Refusal
from gateway.core.limits.decision import Refused, State
from gateway.core.limits.gauge import Kind
from gateway.core.wire.headers import Headers

_SHOWN = {Kind.REQUESTS: "requests", Kind.TOKENS: "tokens"}
_WORDS = {
    Kind.REQUESTS: "requests per min (RPM)",
    Kind.TOKENS: "tokens per min (TPM)",
    Kind.CONCURRENT: "concurrent requests",
    Kind.DAY_TOKENS: "tokens per day (TPD)",
    Kind.DAY_COST: "cost per day (USD)",
}
_NANOS = 1_000_000_000


def render_time(time_us: int) -> str:
    """A time as OpenAI writes it: 120ms, 1s, 1.5s, 6m0s, 2h3m0s; rounded up to the millisecond."""
    ms = -(-time_us // 1000)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    seconds = f"{rest_ms / 1000:g}s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def limit_headers(states: Sequence[State]) -> Headers:
    """`x-ratelimit-*` of requests and tokens a minute, of the strictest limit of each."""
    headers: Headers = []
    for kind, word in _SHOWN.items():
        found = min((state for state in states if state.limit.kind is kind), key=_left, default=None)
        if found is not None:
            headers.append((f"x-ratelimit-limit-{word}", str(found.limit.amount)))
            headers.append((f"x-ratelimit-remaining-{word}", str(max(0, found.left))))
            headers.append((f"x-ratelimit-reset-{word}", render_time(found.full_in_us)))
    return headers


def _left(state: State) -> int:
    return state.left


def refusal_of(refused: Refused, client: str, model: str | None, states: Sequence[State] = ()) -> Refusal:
    """The answer to a request that a limit refuses: 429 with a wait, or 400 where no wait helps."""
    limit, asked = refused.limit, refused.asked
    is_cost = limit.kind is Kind.DAY_COST
    amount, used, wanted = (
        f"{number / _NANOS:.6g}" if is_cost else str(number)
        for number in (limit.amount, limit.amount - refused.left, asked)
    )
    place = f"for {model[:200]} " if model else ""
    counted = f"Limit {amount}, Used {used}, Requested {wanted}."
    if refused.wait_us is None:
        message = (
            f"This request asks for more than client {client!r} may use at once {place}on {_WORDS[limit.kind]}:"
            f" Limit {amount}, Requested {wanted}. Send less, or ask for a shorter answer."
        )
        return Refusal(400, "request_exceeds_rate_limit", message)
    message = (
        f"Rate limit reached {place}in client {client} on {_WORDS[limit.kind]}: {counted}"
        f" Please try again in {render_time(refused.wait_us)}."
    )
    wait_ms = -(-refused.wait_us // 1000)
    return Refusal(
        429,
        "rate_limit_exceeded",
        message,
        retry_after_s=math.ceil(refused.wait_us / 1e6),
        error_type=_SHOWN.get(limit.kind, "requests" if limit.kind is Kind.CONCURRENT else "tokens"),
        headers=[("retry-after-ms", str(wait_ms)), *limit_headers(states)],
    )
