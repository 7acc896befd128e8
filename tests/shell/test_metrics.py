"""Metrics: the quick histogram counts as the library's own, labels stay a closed set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest

from gateway.shell.telemetry.metrics import MAX_MODELS, OTHER, Metrics
from gateway.shell.telemetry.quick import QuickCounter, QuickHistogram

BUCKETS = (-1.0, 0.0, 0.5, 1.0, 5.0)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32) | st.sampled_from(BUCKETS), max_size=20))
def test_the_quick_histogram_is_the_library_s(amounts: list[float]) -> None:
    """Whatever is observed, bounds included, the exposition is the same."""
    expositions = []
    for kind in (Histogram, QuickHistogram):
        registry = CollectorRegistry()
        child = kind("h", "Help.", ["a"], buckets=BUCKETS, registry=registry).labels("x")
        for amount in amounts:
            child.observe(amount)
        expositions.append(generate_latest(registry))

    assert _without_created(expositions[0]) == _without_created(expositions[1])


@given(st.lists(st.floats(0, 1e9, width=32), max_size=20))
def test_the_quick_counter_is_the_library_s(amounts: list[float]) -> None:
    """Whatever is added, the exposition is the same."""
    expositions = []
    for kind in (Counter, QuickCounter):
        registry = CollectorRegistry()
        child = kind("c", "Help.", ["a"], registry=registry).labels("x")
        for amount in amounts:
            child.inc(amount)
        expositions.append(generate_latest(registry))

    assert _without_created(expositions[0]) == _without_created(expositions[1])


def _without_created(exposition: bytes) -> list[bytes]:
    return [line for line in exposition.splitlines() if b"_created" not in line]


def test_model_labels_are_a_closed_set() -> None:
    """Names that no upstream answered for, and those beyond the bound, are one label."""
    metrics = Metrics()
    made_up = {metrics.model_label(f"made-up-{i}", is_known=False) for i in range(500)}
    known = {metrics.model_label(f"known-{i}", is_known=True) for i in range(500)}

    assert made_up == {OTHER}
    assert len(known) == MAX_MODELS + 1
    assert metrics.model_label("known-0", is_known=False) == "known-0"
