"""The scripts in a real Redis against the arithmetic that they repeat."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.limits.decision import Limit, decide, settle
from gateway.core.limits.gauge import DAY_US, MAX_PER_DAY, MAX_PER_MINUTE, Gauge, Kind, fresh
from gateway.shell.limits.scripts import BODIES, Call, key_name, read_taken, script_of, settle_call, take_call
from tests.redis_server import RedisServer, redis_server, shared_redis

__all__ = ["redis_server", "shared_redis"]

GIVEN_CLOCK = "local now = tonumber(ARGV[#ARGV])\n"
TAKE, SETTLE = (script_of(BODIES[name], GIVEN_CLOCK) for name in ("take", "settle"))
START = 1_798_000_000_000_000
LEASE = 30_000_000
YEARS = 10**15
LASTS = "a lease that lasts"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def client(shared_redis: RedisServer) -> Any:
    with shared_redis.client() as found:
        yield found


def run(client: redis.Redis, call: Call, now_us: int) -> Any:
    return client.eval(call.script.text, len(call.keys), *call.keys, *call.args, now_us)


def limit_of(kind: Kind, amount: int) -> Limit:
    """A limit that no other test knows."""
    return Limit(next(_numbers).to_bytes(16) + kind.value.encode(), kind, amount)


def take(client: redis.Redis, limits: list[Limit], units: list[int], now_us: int, lease: str = "a") -> Any:
    return read_taken(run(client, take_call(limits, units, lease, YEARS if lease == LASTS else LEASE, TAKE), now_us))


def put_right(
    client: redis.Redis, limits: list[Limit], was: list[int], used: list[int], now_us: int, day: int, lease: str = "a"
) -> None:
    run(client, settle_call(limits, was, used, lease, LEASE, day, SETTLE), now_us)


amounts = st.one_of(st.integers(1, 20), st.integers(1, MAX_PER_MINUTE), st.just(MAX_PER_MINUTE))
limits_of_one = st.lists(
    st.tuples(st.sampled_from(list(Kind)), amounts, st.booleans()), min_size=1, max_size=3, unique_by=lambda row: row[0]
)
steps = st.lists(
    st.tuples(
        st.one_of(st.integers(-5_000_000, 90_000_000), st.sampled_from([0, 1, DAY_US, 3 * DAY_US])),
        st.lists(st.one_of(st.integers(0, 30), st.integers(0, MAX_PER_MINUTE + 1)), min_size=3, max_size=3),
        st.lists(st.one_of(st.integers(0, 60), st.integers(0, 3 * MAX_PER_MINUTE)), min_size=3, max_size=3),
        st.booleans(),
    ),
    max_size=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=limits_of_one, moves=steps)
def test_1_a_script_decides_as_python_does(client: Any, rows: list[Any], moves: list[Any]) -> None:
    """Any kinds, amounts up to the largest, clocks that go back, and use far above what was taken."""
    scope = next(_numbers).to_bytes(16)
    limits = [
        Limit(scope + kind.value.encode(), kind, MAX_PER_DAY if most and kind.value.endswith("day") else amount)
        for kind, amount, most in rows
    ]
    now_us = START
    stored: dict[Limit, Gauge] = {}
    for later_us, asked, used, is_settled in moves:
        now_us += later_us
        units = asked[: len(limits)]
        gauges = [stored.get(limit) or fresh(limit.kind, limit.amount, now_us) for limit in limits]
        after, refused = decide(limits, gauges, units, now_us)
        before = decide(limits, gauges, [0] * len(limits), now_us)[0]
        taken = take(client, limits, units, now_us, LASTS)
        assert (taken.is_granted, taken.present) == (refused is None, before)
        if refused is not None:
            continue
        stored |= {limit: gauge for limit, gauge, n in zip(limits, after, units, strict=True) if n}
        if is_settled:
            real = [0 if limit.kind is Kind.CONCURRENT else n for limit, n in zip(limits, used, strict=False)]
            day = now_us // DAY_US
            put_right(client, limits, units, real, now_us, day, LASTS)
            stored = {
                limit: settle(limit, gauge, was, now, now_us, day)
                for limit, gauge, was, now in zip(limits, after, units, real, strict=True)
            }


@pytest.mark.parametrize("kind", [Kind.TOKENS, Kind.CONCURRENT, Kind.DAY_TOKENS, Kind.DAY_COST])
def test_2_what_a_lease_held_comes_back(client: Any, kind: Kind) -> None:
    """All of it, when the lease has run out and not before; what another lease holds stays."""
    limit = limit_of(kind, 100)
    assert take(client, [limit], [70], START, "killed").is_granted
    assert take(client, [limit], [30], START, "alive").is_granted

    if kind is not Kind.TOKENS:  # a bucket refills meanwhile
        assert not take(client, [limit], [1], START + LEASE - 1, "other").is_granted
    run(client, settle_call([limit], [30], [30], "alive", LEASE, START // DAY_US, SETTLE), START + LEASE - 1)
    later = take(client, [limit], [70], START + LEASE, "other")

    assert later.is_granted
    if kind is Kind.CONCURRENT:
        assert later.present == [Gauge(0, 0)]


@pytest.mark.parametrize("kind", [Kind.TOKENS, Kind.DAY_TOKENS])
def test_3_whoever_ends_after_that_is_charged_in_full(client: Any, kind: Kind) -> None:
    """What was given back for a dead replica is taken again, if it was only away."""
    limit = limit_of(kind, 1000)
    day = START // DAY_US
    take(client, [limit], [600], START, "slow")
    empty = take(client, [limit], [1000], START + LEASE + 60_000_000, "other")
    assert empty.is_granted
    put_right(client, [limit], [1000], [1000], START + LEASE + 60_000_000, day, "other")
    put_right(client, [limit], [600], [500], START + LEASE + 60_000_000, day, "slow")

    owed = take(client, [limit], [0], START + LEASE + 60_000_000, "other").present[0].level
    assert owed == (-500 * 60_000_000 if kind is Kind.TOKENS else 1500)


def test_a_day_that_is_over_gives_nothing_to_the_next(client: Any) -> None:
    """A hold of yesterday is not returned to today, by its lease or by its end."""
    limit = limit_of(Kind.DAY_TOKENS, 100)
    midnight = (START // DAY_US + 1) * DAY_US
    take(client, [limit], [80], midnight - 1, "a")
    take(client, [limit], [50], midnight + 1, "b")
    put_right(client, [limit], [80], [10], midnight + 2, midnight // DAY_US - 1, "a")

    assert take(client, [limit], [0], midnight + 3).present == [Gauge(50, midnight // DAY_US)]
    assert take(client, [limit], [0], midnight + LEASE + 1).present == [Gauge(0, midnight // DAY_US)]


def test_4_numbers_stay_exact_at_the_edges(client: Any) -> None:
    """The largest bucket, empty and owing all that it may, a microsecond from a whole unit."""
    limit = limit_of(Kind.TOKENS, MAX_PER_MINUTE)
    day = START // DAY_US
    assert take(client, [limit], [MAX_PER_MINUTE], START).is_granted
    put_right(client, [limit], [MAX_PER_MINUTE], [5 * MAX_PER_MINUTE], START, day)
    assert take(client, [limit], [0], START).present == [Gauge(-3 * 10**15, START)]
    assert take(client, [limit], [0], START + 30_000_001).present == [Gauge(MAX_PER_MINUTE, START + 30_000_001)]
    odd = limit_of(Kind.TOKENS, 7)
    take(client, [odd], [7], START)
    wait_us = -(-60_000_000 // 7)
    assert not take(client, [odd], [1], START + wait_us - 1).is_granted
    assert take(client, [odd], [1], START + wait_us).is_granted


def test_what_nobody_uses_is_forgotten(client: Any) -> None:
    """Every key has an end; what is owed is remembered until it is paid."""
    kinds = {kind: limit_of(kind, 60) for kind in Kind}
    for limit in kinds.values():
        take(client, [limit], [6], START)
    left_s = {kind: client.pttl(key_name(limit.key)) / 1000 for kind, limit in kinds.items()}
    assert all(60 < left <= 200 for kind, left in left_s.items() if kind in (Kind.TOKENS, Kind.REQUESTS))
    assert 59 < left_s[Kind.CONCURRENT] <= 60
    assert all(86_400 <= left_s[kind] <= 2 * 86_400 for kind in (Kind.DAY_TOKENS, Kind.DAY_COST))

    owing = limit_of(Kind.TOKENS, 60)
    put_right(client, [owing], [0], [6000], START, START // DAY_US)
    assert client.pttl(key_name(owing.key)) / 1000 > 99 * 60


def test_limits_of_one_client_lie_in_one_slot(client: Any) -> None:
    """So that a cluster decides on all of them at once."""
    names = {key_name(bytes(32) + rule).split(b"}")[0] for rule in (b"a", b"b")}
    assert len(names) == 1
    assert key_name(bytes(32)).split(b"}")[0] != key_name(bytes([1] * 32)).split(b"}")[0]
