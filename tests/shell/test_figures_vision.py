"""Figures of vision: every family is there from the first scrape on, with its values."""

from __future__ import annotations

from gateway.shell.telemetry.figures_vision import VisionFigures, vision_metrics


def test_figures_become_metrics() -> None:
    told = [
        {"hit": 7},
        {"tries": 9, "retries": 1},
        {"timeout": 4},
        {"found": 2},
        {"read": 5},
        {"failed": 6},
        {"TIMEOUT": 6},
    ]
    metrics = vision_metrics(VisionFigures(3, 40, 5000, 2, 1, *told, readers={"started": 9, "memory": 8}))
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
        ("vision_readers_total", "started"): 9,
        ("vision_readers_total", "memory"): 8,
        **{
            ("vision_readers_total", what): 0 for what in ("crashed", "killed", "broken", "garbage", "ended", "timeout")
        },
        ("vision_faults_total", "disabled"): 0,
        ("vision_faults_total", "timeout"): 4,
        ("vision_faults_total", "upstream"): 0,
        ("vision_faults_total", "unreadable"): 0,
        ("vision_faults_total", "forbidden"): 0,
        ("vision_faults_total", "full"): 0,
        ("vision_faults_total", "busy"): 0,
        ("vision_faults_total", "down"): 0,
        ("vision_index_jobs_total", "succeeded"): 0,
        ("vision_index_jobs_total", "failed"): 6,
        ("vision_index_jobs_total", "cancelled"): 0,
        ("vision_index_jobs_total", "released"): 0,
        ("vision_index_failures_total", "TIMEOUT"): 6,
        **{
            ("vision_index_failures_total", code): 0
            for code in ("VALIDATION_ERROR", "UPSTREAM_ERROR", "UPSTREAM_DISABLED", "INTERNAL_ERROR")
        },
        ("vision_chat_searches_total", "found"): 2,
        ("vision_chat_searches_total", "nothing"): 0,
        ("vision_chat_searches_total", "timeout"): 0,
        ("vision_chat_searches_total", "down"): 0,
        ("vision_chat_pictures_total", "read"): 5,
        ("vision_chat_pictures_total", "empty"): 0,
        ("vision_chat_pictures_total", "failed"): 0,
        ("vision_chat_pictures_total", "dropped"): 0,
    }
