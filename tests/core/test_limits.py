"""Limits: what they let through, what they say, and that both can be relied upon."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits.decision import Limit, Refused, decide, is_idle, settle, state_of
from gateway.core.limits.gauge import (
    DAY_US,
    MAX_PER_DAY,
    MAX_PER_MINUTE,
    MINUTE_US,
    Gauge,
    Kind,
    brought_up,
    fresh,
    full_in_us,
    left,
    taken,
    wait_us,
)
from gateway.core.limits.rules import Rule, RuleTable, Use
from gateway.core.limits.wording import limit_headers, refusal_of, render_time

NOW = 20_000 * DAY_US + 12_345_678
TOKENS = Kind.TOKENS
amounts = st.integers(1, MAX_PER_MINUTE)
kinds = st.sampled_from(list(Kind))


@st.composite
def buckets(draw: st.DrawFn) -> tuple[int, Gauge]:
    """A bucket's amount, and what is stored of it."""
    amount = draw(amounts)
    level = draw(st.integers(-(10**15), amount * MINUTE_US))
    return amount, Gauge(level, NOW - draw(st.integers(-DAY_US, 400 * DAY_US)))


@given(bucket=buckets(), later=st.integers(0, 10**18))
def test_a_bucket_never_holds_more_than_a_minutes_amount(bucket: tuple[int, Gauge], later: int) -> None:
    """However long nobody takes any; and every number stays one that a double holds exactly."""
    amount, gauge = bucket
    found = brought_up(TOKENS, amount, gauge, NOW + later)

    assert gauge.level <= found.level <= amount * MINUTE_US < 2**53
    assert left(TOKENS, amount, found) <= amount


@given(bucket=buckets(), share=st.floats(0, 1))
def test_waiting_as_told_is_enough(bucket: tuple[int, Gauge], share: float) -> None:
    """And a microsecond less is not."""
    amount, gauge = bucket
    units = max(1, round(amount * share))
    present = brought_up(TOKENS, amount, gauge, NOW)
    wait = wait_us(TOKENS, amount, present, units, NOW)

    assert wait >= 0
    assert wait_us(TOKENS, amount, brought_up(TOKENS, amount, gauge, NOW + wait), units, NOW + wait) == 0
    if wait:
        before = NOW + wait - 1
        assert wait_us(TOKENS, amount, brought_up(TOKENS, amount, gauge, before), units, before) == 1


@given(amount=st.integers(1, 500), asked=st.lists(st.tuples(st.integers(0, 40_000_000), st.integers(1, 500))))
def test_minutes_let_in_no_more_than_their_amounts(amount: int, asked: list[tuple[int, int]]) -> None:
    """n minutes at most n + 1 of them, whoever asks for how much and when."""
    limit = Limit(b"", TOKENS, amount)
    gauge, now, let_in = fresh(TOKENS, amount, NOW), NOW, 0
    for pause, units in asked:
        now += pause
        (gauge,), refused = decide([limit], [gauge], [units], now)
        let_in += 0 if refused else units

        assert let_in * MINUTE_US <= amount * MINUTE_US + (now - NOW) * amount


@given(bucket=buckets(), back=st.integers(1, 10**15))
def test_a_clock_that_goes_back_gives_nothing(bucket: tuple[int, Gauge], back: int) -> None:
    amount, gauge = bucket
    present = brought_up(TOKENS, amount, gauge, NOW)

    assert brought_up(TOKENS, amount, present, NOW - back) == present


@given(kind=kinds, amount=amounts, units=st.integers(0, 10**6), used=st.integers(0, 10**6), later=st.integers(0, 10**7))
def test_what_is_put_right_is_what_was_used(kind: Kind, amount: int, units: int, used: int, later: int) -> None:
    """Reserved and then put right on the same day, it is as if what was used had been taken at once."""
    limit = Limit(b"", kind, amount)
    start = brought_up(kind, amount, fresh(kind, amount, NOW), NOW)
    reserved = taken(kind, amount, start, units)
    after = settle(limit, reserved, units, used, NOW, NOW // DAY_US)
    at_once = taken(kind, amount, start, used)

    assert after == at_once
    much_later = NOW + 3 * DAY_US + later
    assert settle(limit, reserved, units, used, much_later, NOW // DAY_US).level >= min(0, after.level)


@given(
    units=st.lists(st.integers(0, 30), min_size=4, max_size=4),
    spent=st.lists(st.integers(0, 30), min_size=4, max_size=4),
)
def test_all_limits_or_none(units: list[int], spent: list[int]) -> None:
    """A refusal takes nothing; what is let through takes from each; a wait as told is enough for all."""
    limits = [Limit(bytes([place]), kind, 20) for place, kind in enumerate(list(Kind)[:4])]
    gauges = [taken(each.kind, 20, fresh(each.kind, 20, NOW), gone) for each, gone in zip(limits, spent, strict=True)]
    after, refused = decide(limits, gauges, units, NOW)

    if refused is None:
        for limit, gauge, now, asked in zip(limits, gauges, after, units, strict=True):
            assert left(limit.kind, 20, now) == left(limit.kind, 20, gauge) - asked
            assert left(limit.kind, 20, now) >= 0 or not asked
    else:
        assert after == gauges
        assert (refused.wait_us is None) is any(asked > 20 for asked in units)
        if refused.wait_us is not None and refused.limit.kind is not Kind.CONCURRENT:
            again = decide(limits, after, units, NOW + refused.wait_us)[1]
            assert again is None or again.limit.kind is Kind.CONCURRENT


def test_days_are_those_of_utc() -> None:
    """What a day has used is gone at midnight, and what comes late is not put on the next day."""
    limit = Limit(b"", Kind.DAY_TOKENS, 100)
    evening = (NOW // DAY_US + 1) * DAY_US - 1_000_000
    (gauge,), _ = decide([limit], [fresh(Kind.DAY_TOKENS, 100, evening)], [90], evening)
    _, refused = decide([limit], [gauge], [11], evening)
    (morning,), allowed = decide([limit], [gauge], [11], evening + 1_000_000)

    assert refused == Refused(limit, 10, 11, 1_000_000)
    assert allowed is None
    assert settle(limit, morning, 90, 200, evening + 2_000_000, evening // DAY_US) == morning
    assert settle(limit, gauge, 90, 200, evening, evening // DAY_US).level == 200


def test_numbers_stay_exact_in_doubles() -> None:
    """At the largest amounts and debts."""
    lowest = taken(TOKENS, MAX_PER_MINUTE, Gauge(0, NOW), 10**12)

    assert MAX_PER_MINUTE * MINUTE_US - lowest.level < 2**53
    assert MAX_PER_DAY < 2**53
    assert NOW + 100 * 365 * DAY_US < 2**53


@given(kind=kinds, units=st.integers(0, 50), pause=st.integers(0, 2 * MINUTE_US))
def test_idle_limits_are_as_good_as_new(kind: Kind, units: int, pause: int) -> None:
    """What may be forgotten is what differs in nothing from what was never known."""
    limit = Limit(b"", kind, 50)
    gauge = taken(kind, 50, fresh(kind, 50, NOW), units)
    now = NOW + pause

    if is_idle(limit, gauge, now):
        assert brought_up(kind, 50, gauge, now) == fresh(kind, 50, now)
    assert is_idle(limit, gauge, now) is (full_in_us(kind, 50, brought_up(kind, 50, gauge, now), now) == 0) or (
        kind is Kind.CONCURRENT
    )


RULES = [
    Rule("*", "*", {Kind.REQUESTS: 10}),
    Rule("app*", "gpt-4o*", {Kind.TOKENS: 100, Kind.CONCURRENT: 2}),
    Rule("app", "*", {Kind.TOKENS: 50}, is_shadow=True),
]


def test_every_matching_rule_holds() -> None:
    """For each client apart, and for the models of a rule together; calls without a model match `*` only."""
    table = RuleTable(RULES)
    one = table.limits_for(b"1", "app", "gpt-4o")
    two = table.limits_for(b"2", "app-2", "gpt-4o-mini")

    assert [(limit.kind, limit.amount) for limit in one.strict] == [
        (Kind.REQUESTS, 10), (Kind.TOKENS, 100), (Kind.CONCURRENT, 2),
    ]  # fmt: skip
    assert [limit.amount for limit in one.shadow] == [50]
    assert two.shadow == ()
    assert not {limit.key for limit in one.strict} & {limit.key for limit in two.strict}
    assert table.limits_for(b"1", "app", "gpt-4o-mini") == one
    assert [limit.kind for limit in table.limits_for(b"1", "app", None).strict] == [Kind.REQUESTS]
    assert [limit.kind for limit in table.limits_for(b"1", "web", "o3").strict] == [Kind.REQUESTS]
    assert len({limit.key for limit in (*one.strict, *one.shadow)}) == 4


def test_rules_are_known_by_what_they_say() -> None:
    """Moved in the list, a rule keeps its counts; another amount is another rule."""
    keys = {limit.key for limit in RuleTable(RULES).limits_for(b"1", "app", "gpt-4o").strict}
    moved = {limit.key for limit in RuleTable(RULES[::-1]).limits_for(b"1", "app", "gpt-4o").strict}
    other = RuleTable([Rule("*", "*", {Kind.REQUESTS: 11})]).limits_for(b"1", "app", "gpt-4o").strict

    assert keys == moved
    assert other[0].key not in keys


def test_made_up_names_take_no_memory_for_ever() -> None:
    table = RuleTable(RULES)

    for number in range(25_000):
        table.limits_for(b"1", "app", f"gpt-4o-{number}")

    assert len(table._known) <= 10_000
    assert len(table._shared) == 1


def test_made_up_models_share_their_clients_limits() -> None:
    """A name costs its place, and not limits of its own."""
    table = RuleTable(RULES)
    one = table.limits_for(b"1", "app", "gpt-4o-1")

    assert table.limits_for(b"1", "app", "gpt-4o-2") is one
    assert table.limits_for(b"2", "app", "gpt-4o-2") != one
    assert table.limits_for(b"1", "app", "o3") != one


@pytest.mark.parametrize(
    ("time_us", "shown"),
    [
        (0, "0ms"),
        (1, "1ms"),
        (120_000, "120ms"),
        (1_000_000, "1s"),
        (1_500_000, "1.5s"),
        (360_000_000, "6m0s"),
        (61_250_000, "1m1.25s"),
        (7_380_000_000, "2h3m0s"),
    ],
)
def test_times_are_written_as_openai_writes_them(time_us: int, shown: str) -> None:
    assert render_time(time_us) == shown


def test_headers_are_of_the_strictest_limit() -> None:
    """Of each kind that OpenAI has a header for; nothing is below 0."""
    limits = [Limit(b"a", Kind.TOKENS, 100), Limit(b"b", Kind.TOKENS, 10), Limit(b"c", Kind.CONCURRENT, 1)]
    gauges = [Gauge(60 * MINUTE_US, NOW), Gauge(-5 * MINUTE_US, NOW), Gauge(1, 0)]
    states = [state_of(limit, gauge, NOW) for limit, gauge in zip(limits, gauges, strict=True)]

    assert limit_headers(states) == [
        ("x-ratelimit-limit-tokens", "10"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "1m30s"),
    ]


def test_a_refusal_has_the_numbers_and_the_wait() -> None:
    """As OpenAI's does; one that no wait helps is a 400 without any."""
    limit = Limit(b"", Kind.TOKENS, 1000)
    refusal = refusal_of(Refused(limit, 200, 300, 6_000_001), "app", "gpt-4o")
    hopeless = refusal_of(Refused(limit, 200, 1300, None), "app", "gpt-4o")
    money = refusal_of(Refused(Limit(b"", Kind.DAY_COST, 2_000_000_000), 500_000_000, 600_000_000, 1), "app", "o3")

    assert (refusal.status, refusal.code, refusal.error_type) == (429, "rate_limit_exceeded", "tokens")
    assert "Limit 1000, Used 800, Requested 300. Please try again in 6.001s." in refusal.message
    assert (refusal.retry_after_s, dict(refusal.headers)["retry-after-ms"]) == (7, "6001")
    assert (hopeless.status, hopeless.code, hopeless.retry_after_s) == (400, "request_exceeds_rate_limit", None)
    assert "Limit 2, Used 1.5, Requested 0.6" in money.message
    assert re.search(r"cost per day \(USD\)", money.message)


def test_a_use_is_told_by_kind() -> None:
    use = Use(1, 20, 3, 40)

    assert [use.of(kind) for kind in Kind] == [1, 20, 3, 20, 40]
