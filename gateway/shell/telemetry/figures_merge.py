"""The metrics of several processes as those of one.

Counters and histograms are summed; what ended processes had counted stays in the sum, so that no counter ever falls.
A gauge is summed over the living, or joined as `_JOINED` says.

Invariants, each with a test of its own:
  1. The sum of one process alone is what that process shows.
  2. The order of processes does not matter.
  3. A process that ends takes nothing of a counter with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

Join = Callable[[float, float], float]
_SUMMED_KINDS = frozenset({"counter", "histogram"})
_JOINED: Mapping[str, Join] = {
    "process_start_time_seconds": min,
    "process_max_fds": min,
    "python_info": max,
    "circuit_breaker_state": max,
    "token_correction_ratio": max,
    "token_correction_margin_ratio": max,
    "gateway_config_last_reload_successful": min,
    "rate_limit_store_up": min,
    "rate_limit_replicas": max,
    "memory_items": max,
    "vision_breaker_state": max,
    "vision_documents": max,
    "vision_regions": max,
    "vision_store_bytes": max,
    "vision_index_queue_depth": max,
}
"""Gauges of which every process shows the same thing, or of which the worst is what matters."""


class Point(msgspec.Struct, frozen=True, array_like=True):
    """One sample: its full name, its labels in order, its value."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric with all of its samples."""

    name: str
    kind: str
    help: str
    points: tuple[Point, ...]


def families_of(registry: Collector) -> list[Family]:
    """Everything that a registry shows now."""
    return [
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            tuple(Point(found.name, tuple(found.labels.items()), found.value) for found in metric.samples),
        )
        for metric in registry.collect()
    ]


def merge_families(each: Iterable[Sequence[Family]]) -> list[Family]:
    """The families of several processes as one list, in the order in which they first appear."""
    kinds: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in each:
        for family in families:
            kinds.setdefault(family.name, family)
            joined = values.setdefault(family.name, {})
            join = _JOINED.get(family.name)
            for point in family.points:
                key = (point.name, point.labels)
                known = joined.get(key)
                if known is None:
                    joined[key] = point.value
                else:
                    joined[key] = join(known, point.value) if join else known + point.value
    return [
        Family(name, kinds[name].kind, kinds[name].help, tuple(Point(*key, value) for key, value in found.items()))
        for name, found in values.items()
    ]


def lasting(families: Sequence[Family]) -> list[Family]:
    """What stays of a process that has ended: what it had counted."""
    return [family for family in families if family.kind in _SUMMED_KINDS]


def render_families(families: Sequence[Family]) -> tuple[bytes, str]:
    """The text exposition, and its content type."""
    registry = CollectorRegistry()
    registry.register(_Fixed(families))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Fixed(Collector):
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.help, family.kind)
            for point in family.points:
                metric.add_sample(point.name, dict(point.labels), point.value)
            yield metric
