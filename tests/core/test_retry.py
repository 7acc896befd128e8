"""After a failure: patience where it helps, another route where it may, and never more calls than allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.routing.retry import (
    MAX_RETRY_AFTER_S,
    Next,
    backoff_s,
    decide_after_fault,
    decide_after_status,
    parse_retry_after,
)
from gateway.core.routing.routes import Roles, Route, StreamUsage, Timeouts


def route(max_retries: int) -> Route:
    return Route(
        name="up",
        base_url="http://up",
        api_key="",
        models=("*",),
        priority=0,
        roles=Roles.OPEN,
        stream_usage=StreamUsage.ASK,
        timeouts=Timeouts(1, 1, 1, 1, 1),
        max_retries=max_retries,
    )


STATUSES = [
    (200, 1, None, Next.PASS_ON),
    (400, 1, None, Next.PASS_ON),
    (401, 1, None, Next.PASS_ON),
    (404, 1, None, Next.PASS_ON),
    (408, 1, None, Next.PASS_ON),
    (501, 1, None, Next.PASS_ON),
    (429, 1, None, Next.NEXT_ROUTE),
    (429, 1, 0.5, Next.NEXT_ROUTE),
    (500, 1, None, Next.NEXT_ROUTE),
    (502, 1, None, Next.SAME_ROUTE),
    (503, 2, None, Next.SAME_ROUTE),
    (504, 3, None, Next.NEXT_ROUTE),
    (529, 1, None, Next.SAME_ROUTE),
    (503, 1, MAX_RETRY_AFTER_S, Next.SAME_ROUTE),
    (503, 1, MAX_RETRY_AFTER_S + 0.1, Next.NEXT_ROUTE),
]


@pytest.mark.parametrize(("status", "tries", "retry_after_s", "expected"), STATUSES)
def test_a_status_calls_for_its_step(status, tries, retry_after_s, expected):
    """With two retries: what will repeat is passed on, overload is retried, the rest is tried elsewhere."""
    assert decide_after_status(status, tries, route(2), retry_after_s) is expected


@pytest.mark.parametrize(
    ("tries", "retry_after_s", "expected"),
    [
        (1, 1.0, Next.SAME_ROUTE),
        (2, MAX_RETRY_AFTER_S, Next.SAME_ROUTE),
        (3, 1.0, Next.NEXT_ROUTE),
        (1, 20.0, Next.NEXT_ROUTE),
        (1, None, Next.NEXT_ROUTE),
    ],
)
def test_a_limited_upstream_is_waited_for_where_nobody_else_is_left(tries, retry_after_s, expected):
    """If it says for how long, and that is not long."""
    assert decide_after_status(429, tries, route(2), retry_after_s, is_last=True) is expected


FAULTS = [
    (True, 1, Next.SAME_ROUTE),
    (True, 2, Next.SAME_ROUTE),
    (True, 3, Next.NEXT_ROUTE),
    (False, 1, Next.NEXT_ROUTE),
]


@pytest.mark.parametrize(("is_retryable", "tries", "expected"), FAULTS)
def test_a_fault_calls_for_its_step(is_retryable, tries, expected):
    """What may have been executed is not repeated on the same route."""
    assert decide_after_fault(is_retryable, tries, route(2)) is expected


@given(st.integers(100, 599), st.integers(0, 9), st.none() | st.floats(0, 100), st.booleans())
def test_a_route_is_never_called_more_often_than_allowed(status, max_retries, retry_after_s, is_fault):
    """One call and its retries, whatever goes wrong."""
    tries = 1
    while tries <= 20:
        step = (
            decide_after_fault(True, tries, route(max_retries))
            if is_fault
            else decide_after_status(status, tries, route(max_retries), retry_after_s)
        )
        if step is not Next.SAME_ROUTE:
            break
        tries += 1

    assert tries <= max_retries + 1


@given(st.integers(1, 100), st.floats(0, 1), st.none() | st.floats(0, 10))
def test_the_wait_is_bounded_and_as_long_as_asked(tries, jitter, retry_after_s):
    """Between half of and the whole doubling step, 2 s at most; longer only where the server asks for it."""
    step = min(2.0, 0.1 * 2 ** (tries - 1))
    wait = backoff_s(tries, jitter, retry_after_s)

    assert wait >= (retry_after_s or 0.0)
    assert step / 2 <= wait <= max(step, retry_after_s or 0.0)


def test_waits_double():
    assert [backoff_s(tries, 1.0, None) for tries in range(1, 7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]


HEADERS = [
    (None, None),
    ("5", 5.0),
    ("0", 0.0),
    ("0.25", 0.25),
    (" 3 ", 3.0),
    ("-1", None),
    ("", None),
    ("soon", None),
    ("nan", None),
    ("inf", None),
    ("86400", None),
    ("Wed, 21 Oct 2026 07:28:04 GMT", 4.0),
    ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
    ("Thu, 22 Oct 2026 07:28:01 GMT", None),
    ("Wed, 99 Oct 2026 07:28:00 GMT", None),
]
NOW_S = 1792567680.0
"""Wed, 21 Oct 2026 07:28:00 GMT."""


@pytest.mark.parametrize(("value", "seconds"), HEADERS)
def test_retry_after_is_a_number_or_a_date(value, seconds):
    assert parse_retry_after(value, NOW_S) == seconds


@given(st.text(max_size=20))
def test_any_retry_after_is_seconds_or_none(value):
    seconds = parse_retry_after(value, NOW_S)

    assert seconds is None or 0 <= seconds < 86_400
