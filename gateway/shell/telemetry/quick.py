"""prometheus_client's counter and histogram for one event loop: no lock, the bucket found by bisection.

Written by the event loop alone and read by it, so a plain number is enough; the library's own take a lock an
increment, and a request makes two dozen. No exemplars, no `_created` samples, no multi-process files.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import Counter, Histogram
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString


class QuickCounter(Counter):
    """A counter."""

    count: float

    def _metric_init(self) -> None:
        self.count = 0.0

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        self.count += amount

    def _child_samples(self) -> Iterable[Sample]:
        return (Sample("_total", {}, self.count, None, None),)


class QuickHistogram(Histogram):
    """A histogram."""

    counts: list[int]
    total: float

    def _metric_init(self) -> None:
        self.counts = [0] * len(self._upper_bounds)
        self.total = 0.0

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        self.total += amount
        self.counts[bisect_left(self._upper_bounds, amount)] += 1

    def _child_samples(self) -> Iterable[Sample]:
        bounds = map(floatToGoString, self._upper_bounds)
        below = list(accumulate(map(float, self.counts)))
        buckets = [Sample("_bucket", {"le": le}, count, None, None) for le, count in zip(bounds, below, strict=True)]
        sums = [Sample("_sum", {}, self.total, None, None)] if self._upper_bounds[0] >= 0 else []
        return (*buckets, Sample("_count", {}, below[-1], None, None), *sums)


C = TypeVar("C", QuickCounter, QuickHistogram)


class Labelled(dict[tuple[str, ...], C], Generic[C]):
    """A metric's children by label values, so that a known one costs one look-up."""

    def __init__(self, metric: C) -> None:
        super().__init__()
        self._metric: C = metric

    def __missing__(self, labels: tuple[str, ...]) -> C:
        child: C = self._metric.labels(*labels)
        self[labels] = child
        return child
