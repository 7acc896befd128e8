"""After a failed attempt: the same route again, the next one, or pass the failure on?

Only before the first byte has reached the client. Statuses that will repeat are passed on; a route that fell silent is
not asked twice; one that is limited and says for how long is asked again only where nobody else is left.
"""

from __future__ import annotations

import enum
from email.utils import parsedate_to_datetime

from gateway.core.routing.routes import Route

_OVERLOADED = frozenset({502, 503, 504, 529})
_ELSEWHERE = frozenset({429, 500})
MAX_RETRY_AFTER_S = 5.0
"""A server that asks for more patience than this is left alone for this request."""


class Next(enum.Enum):
    """What to do now."""

    PASS_ON = enum.auto()
    SAME_ROUTE = enum.auto()
    NEXT_ROUTE = enum.auto()


def decide_after_status(
    status: int, tries: int, route: Route, retry_after_s: float | None, *, is_last: bool = False
) -> Next:
    """What an answer's status calls for.

    Args:
        status: of the answer.
        tries: calls made to this route, this one included.
        route: the one that answered.
        retry_after_s: its Retry-After, or None.
        is_last: no other route is left.
    """
    if status == 429 and is_last and retry_after_s is not None and retry_after_s <= MAX_RETRY_AFTER_S:
        return Next.SAME_ROUTE if tries <= route.max_retries else Next.NEXT_ROUTE
    is_patient = retry_after_s is None or retry_after_s <= MAX_RETRY_AFTER_S
    if status in _OVERLOADED:
        return Next.SAME_ROUTE if tries <= route.max_retries and is_patient else Next.NEXT_ROUTE
    return Next.NEXT_ROUTE if status in _ELSEWHERE else Next.PASS_ON


def decide_after_fault(is_retryable: bool, tries: int, route: Route) -> Next:
    """What a call without an answer calls for; one that may have been executed silently is not repeated there."""
    return Next.SAME_ROUTE if is_retryable and tries <= route.max_retries else Next.NEXT_ROUTE


def backoff_s(tries: int, jitter: float, retry_after_s: float | None) -> float:
    """Seconds to wait before the next call to the same route: 0.1 doubling to 2, times 0.5 to 1; Retry-After at least.

    Args:
        tries: calls made so far, from 1.
        jitter: 0 to 1.
        retry_after_s: what the server asked for, or None.
    """
    own = min(2.0, 0.1 * 2.0 ** (tries - 1)) * (0.5 + 0.5 * jitter)
    return max(own, retry_after_s or 0.0)


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date (RFC 9110, 10.2.3); None for nonsense.

    Args:
        value: of the header.
        now_s: seconds since 1970.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = max(0.0, parsedate_to_datetime(value).timestamp() - now_s)
        except (ValueError, OverflowError):
            return None
    return seconds if 0 <= seconds < 86_400 else None
