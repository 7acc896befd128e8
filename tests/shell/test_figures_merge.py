"""The metrics of several processes are shown as those of one, and no counter ever falls."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from gateway.shell.telemetry.figures_merge import (
    Family,
    Point,
    families_of,
    lasting,
    merge_families,
    render_families,
)
from tests.gateway_process import parse_samples

LABELS = st.sampled_from([(), (("model", "a"),), (("model", "b"),)])


def counter(values: dict[tuple[tuple[str, str], ...], int]) -> Family:
    return Family("requests", "counter", "help", tuple(Point("requests_total", *each) for each in values.items()))


counters = st.dictionaries(LABELS, st.integers(0, 2**40), max_size=3).map(counter)
processes = st.lists(st.lists(counters, max_size=1), max_size=4)


def totals(families: Sequence[Family]) -> dict[tuple[tuple[str, str], ...], float]:
    return {point.labels: point.value for family in families for point in family.points}


def real_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("requests", "How many.", ["model"], registry=registry).labels('o"dd\n').inc(3)
    Gauge("in_flight", "Now.", registry=registry).set(2)
    Histogram("seconds", "How long.", buckets=(1, 2), registry=registry).observe(1.5)
    return registry


def test_one_process_shows_what_it_has() -> None:
    """The sum of one is that one, to the last byte."""
    registry = real_registry()

    assert render_families(merge_families([families_of(registry)]))[0] == generate_latest(registry)


def test_two_processes_are_summed() -> None:
    """Counters, buckets, sums and gauges add up; label values survive as they are."""
    each = [families_of(real_registry()), families_of(real_registry())]

    shown = parse_samples(render_families(merge_families(each))[0].decode())

    assert shown.total("requests_total", model='o"dd\n') == 6
    assert shown.total("in_flight") == 4
    assert shown.total("seconds_bucket", le="2.0") == 2
    assert shown.total("seconds_sum") == 3


def test_what_all_show_alike_is_not_summed() -> None:
    """The start is the earliest, a breaker the worst."""
    names = ("process_start_time_seconds", "circuit_breaker_state")
    each = [[Family(name, "gauge", "", (Point(name, (), value),)) for name in names] for value in (2.0, 1.0)]

    shown = {family.name: family.points[0].value for family in merge_families(each)}

    assert shown == {"process_start_time_seconds": 1.0, "circuit_breaker_state": 2.0}


@given(each=processes, seed=st.randoms(use_true_random=False))
def test_order_does_not_matter(each: list[list[Family]], seed: object) -> None:
    shuffled = list(each)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]

    assert totals(merge_families(shuffled)) == totals(merge_families(each))


@given(each=processes)
def test_an_end_takes_nothing_away(each: list[list[Family]]) -> None:
    """Whoever ends, and in which order: counters stay what they were."""
    before = totals(merge_families(each))
    ended: list[Family] = []
    living = list(each)

    while living:
        ended = merge_families([ended, lasting(living.pop())])
        assert totals(merge_families([ended, *living])) == before


def test_gauges_of_the_dead_are_gone() -> None:
    families = families_of(real_registry())

    assert {family.name for family in lasting(families)} == {"requests", "seconds"}
