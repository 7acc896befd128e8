"""The supervisor's own metrics: its workers, and the configuration, of which every worker would tell the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.shell.telemetry.metrics import counter_metric, gauge_metric


class SupervisorMetrics:
    """Counts what only the supervisor knows.

    Args:
        count_ready: how many workers accept requests now.
    """

    def __init__(self, count_ready: Callable[[], int]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.exits: Counter[str] = Counter(crash=0, exit=0, start=0)
        self._reloads: Counter[str] = Counter(applied=0, refused=0)
        self._is_valid = 1
        self._count_ready = count_ready
        self.registry.register(_Own(self._collect))

    def count_reload(self, *, is_applied: bool) -> None:
        """A changed configuration was taken up, or refused."""
        self._reloads["applied" if is_applied else "refused"] += 1
        self._is_valid = int(is_applied)

    def _collect(self) -> Iterable[Metric]:
        return [
            gauge_metric("gateway_workers", "Worker processes that accept requests.", self._count_ready()),
            counter_metric(
                "gateway_worker_exits",
                "Workers that ended without being told to: by a signal or an error (crash), in order (exit), or"
                " before they were ready (start).",
                "reason",
                dict(self.exits),
            ),
            counter_metric(
                "gateway_config_reloads", "Configuration reloads, by result.", "result", dict(self._reloads)
            ),
            gauge_metric(
                "gateway_config_last_reload_successful", "1 unless the last reload was refused.", self._is_valid
            ),
        ]


class _Own(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()
