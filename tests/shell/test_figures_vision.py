"""Figures of vision: every family is there from the first scrape on, with its values."""

from __future__ import annotations

from gateway.shell.telemetry.figures_vision import VisionFigures, vision_metrics


def test_figures_become_metrics() -> None:
    metrics = vision_metrics(
        VisionFigures(
            3, 40, 5000, 2, 1, {"hit": 7}, {"tries": 9, "retries": 1}, {"timeout": 4}, {"failed": 6}, {"died": 8}
        )
    )
    samples = {(each.name, *each.labels.values()): each.value for metric in metrics for each in metric.samples}

    assert samples == {
        ("vision_documents",): 3,
        ("vision_regions",): 40,
        ("vision_store_bytes",): 5000,
        ("vision_index_queue_depth",): 2,
        ("vision_breaker_state",): 1,
        ("vision_decode_cache_total", "hit"): 7,
        ("vision_decode_cache_total", "miss"): 0,
        ("vision_decode_tries_total", "tries"): 9,
        ("vision_decode_tries_total", "retries"): 1,
        ("vision_index_jobs_total", "succeeded"): 0,
        ("vision_index_jobs_total", "duplicate"): 0,
        ("vision_index_jobs_total", "failed"): 6,
        ("vision_index_jobs_total", "cancelled"): 0,
        ("vision_index_jobs_total", "given_back"): 0,
        ("vision_readers_total", "started"): 0,
        ("vision_readers_total", "died"): 8,
        ("vision_readers_total", "late"): 0,
        ("vision_faults_total", "disabled"): 0,
        ("vision_faults_total", "timeout"): 4,
        ("vision_faults_total", "upstream"): 0,
        ("vision_faults_total", "unreadable"): 0,
        ("vision_faults_total", "forbidden"): 0,
        ("vision_faults_total", "full"): 0,
        ("vision_faults_total", "down"): 0,
    }
