"""The service contract: what it tells is read safely, kept in one form, and its regions are found again by ours."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.vision.document import Fidelity, PageSize, Reading, Region, RegionType
from gateway.core.vision.service_wire import (
    laid_of,
    pages_of,
    read_decoding,
    read_job,
    read_kept,
    render_decoding,
    render_kept,
    render_order,
    service_id_of,
)

Json = dict[str, Any]
REGIONS: list[Json] = [
    {
        "region_id": "s1",
        "page": 1,
        "bbox": {"x": 1, "y": 2.4, "w": 30, "h": 4},
        "type": "table",
        "text": "a | b",
        "caption": "T",
        "page_size": {"width": 100, "height": 200},
        "confidence": 0.5,
    },
    {"region_id": "s2", "page": 1, "bbox": {"x": 1, "y": 90, "w": 30, "h": 4}, "type": "sketch", "score": 1},
    {"region_id": "s3", "page": 3, "text": "last"},
]
JOB: Json = {"job_id": "j", "status": "succeeded", "progress": 1, "pages": 3, "regions": REGIONS}


def kept_of(job: Json) -> bytes:
    found = read_job(json.dumps(job).encode())
    assert found is not None
    return render_kept("http://h/a.pdf", found)


def test_a_job_becomes_pages() -> None:
    kept = read_kept(kept_of(JOB))
    assert kept is not None
    first, second, third = pages_of(kept, 1)

    assert (kept.pages, kept.doc_url) == (3, "http://h/a.pdf")
    assert first.size == PageSize(100, 200)
    assert [(each.type, each.text, each.caption, each.confidence) for each in first.regions] == [
        (RegionType.TABLE, "a | b", "T", 0.5),
        (RegionType.TEXT, "", "", 0.0),
    ]
    assert not any(each.has_text_layer for each in first.regions)
    assert second.regions == []
    assert [each.text for each in third.regions] == ["last"]
    assert list(pages_of(kept, 3)) == [third]


def test_many_pages_cost_no_more_than_their_regions() -> None:
    """Each region is looked at once, and not again for each page."""
    regions = [{"region_id": f"s{number}", "page": number} for number in range(1, 20_001)]
    kept = read_kept(kept_of({"job_id": "j", "status": "succeeded", "pages": 20_000, "regions": regions}))

    assert kept is not None
    assert sum(len(page.regions) for page in pages_of(kept, 1)) == 20_000


def test_what_is_kept_is_the_same_for_the_same_regions() -> None:
    """Invariant 2: so that the same document is known again."""
    mixed = random.Random(1).sample(REGIONS, len(REGIONS))

    assert kept_of(JOB) == kept_of(JOB | {"job_id": "other", "regions": mixed})
    assert kept_of(JOB) != kept_of(JOB | {"regions": REGIONS[:2]})


def test_a_region_of_ours_is_found_among_theirs() -> None:
    kept = read_kept(kept_of(JOB))
    assert kept is not None
    ours = [Region("a" * 32, "d", each.page, laid_of(each), 1, PageSize(1, 1)) for each in kept.regions]

    assert [service_id_of(kept, region) for region in ours] == [each.region_id for each in kept.regions]
    assert service_id_of(kept, Region("a", "d", 9, ours[0].laid, 1, PageSize(1, 1))) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [(None, ""), ("broken", "broken"), ({"code": "x", "message": "broken"}, "broken"), ("x" * 900, "x" * 500)],
)
def test_why_a_job_failed(error: Any, reason: str) -> None:
    job = read_job(json.dumps({"job_id": "j", "status": "failed", "error": error}).encode())

    assert job is not None
    assert job.reason == reason


def test_a_decoding() -> None:
    results = [
        {"region_id": "other", "text": "no"},
        {"region_id": "s1", "text": "yes", "confidence": 0.9, "fidelity": "1x"},
    ]
    body = json.dumps({"results": results}).encode()

    assert read_decoding(body, "s1") == Reading("yes", 0.9)
    assert read_decoding(body, "absent") is None
    assert json.loads(render_decoding("s1", Fidelity.EXACT)) == {"region_ids": ["s1"], "fidelity": "1x"}
    assert json.loads(render_order("http://h/")) == {"doc_url": "http://h/", "metadata": {}, "force_reindex": False}


@pytest.mark.parametrize("confidence", [7, -1, None])
def test_a_confidence_that_is_none_is_none(confidence: float | None) -> None:
    body = json.dumps({"results": [{"region_id": "s", "text": "t", "confidence": confidence}]}).encode()

    assert read_decoding(body, "s") == Reading("t", None)


@given(st.binary())
def test_any_bytes_are_an_answer_or_none(body: bytes) -> None:
    assert read_job(body) is None
    assert read_kept(body) is None
    assert read_decoding(body, "s") is None


@pytest.mark.parametrize(
    "job",
    [
        {"job_id": ""},
        {"job_id": "j", "regions": [{"region_id": "r", "page": 0}]},
        {"job_id": "j", "regions": [{"region_id": "r", "bbox": {"x": -1}}]},
        {"job_id": "j", "regions": [{"region_id": "r", "bbox": {"x": 1e300}}]},
        {"job_id": "j", "pages": "x"},
    ],
)
def test_jobs_that_are_none(job: Json) -> None:
    assert read_job(json.dumps(job).encode()) is None
