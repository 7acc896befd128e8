"""Figures of memory: what failed is counted whoever asked, and what was not asked is no failure."""

from __future__ import annotations

from types import SimpleNamespace

from gateway.core.facts.memory import Kind
from gateway.shell.telemetry.figures_memory import RESTING, ChatFigures, memory_metrics


def test_faults_are_counted_whoever_met_them() -> None:
    """Calls of the API and chats alike; a store that was left alone has not failed."""
    chats = ChatFigures(3, 1, 40, {"found": 5}, {"down": 2, RESTING: 9}, {"texts": 7}, 100)
    kept = SimpleNamespace(items={Kind.FACT: 4})
    metrics = memory_metrics(kept, SimpleNamespace(evicted=6), {("fault", "down"): 1, ("fault", "timeout"): 4}, chats)
    samples = {(each.name, *each.labels.values()): each.value for metric in metrics for each in metric.samples}

    assert {key[1]: value for key, value in samples.items() if key[0] == "memory_store_errors_total"} == {
        "down": 3,
        "timeout": 4,
        "full": 0,
    }
    assert samples["memory_queue_depth",] == 3
    assert samples["memory_dropped_total", "queue"] == 1
    assert samples["memory_mined_total",] == 40
    assert samples["memory_items", "fact"] == 4
    assert samples["memory_evictions_total", "room"] == 6
    assert samples["embeddings_total", "texts"] == 7


def test_without_a_store_there_is_nothing_to_tell() -> None:
    assert memory_metrics(None, None, {}) == []
