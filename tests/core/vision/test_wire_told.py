"""What clients are told of documents: why a region was found, a piece of its text, jobs and documents as they are."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.terms import name_terms, terms_of
from gateway.core.facts.memory import Scope
from gateway.core.vision.document import (
    Box,
    Document,
    FoundRegion,
    Job,
    JobError,
    JobStatus,
    LaidRegion,
    PageSize,
    Reading,
    Region,
    RegionType,
)
from gateway.core.vision.wire_told import (
    snippet,
    told_document,
    told_found,
    told_job,
    told_reading,
    unknown_regions,
    why_relevant,
)

SCOPE = Scope(b"o" * 32, "default")


def region(text: str, caption: str = "", **fields: Any) -> Region:
    laid = LaidRegion(Box(10, 20, 300, 40), RegionType.TABLE, text, caption, **fields)
    return Region("a" * 32, "d" * 32, 3, laid, 17, PageSize(1224, 1584))


def found(question: str, of: Region, similarity: float | None = None) -> tuple[FoundRegion, dict[int, str]]:
    """As a store finds it: the question's terms that the region holds, or its document."""
    words = name_terms(question).words
    return FoundRegion(of, 0.73456, tuple(words), similarity), words


def test_a_region_that_was_found() -> None:
    told = told_found(*found("invoice 2024-00917", region("Invoice 2024-00917\nTea | 4.50", "Table 2: dues")))

    assert told == {
        "region_id": "a" * 32,
        "doc_id": "d" * 32,
        "page": 3,
        "bbox": {"x": 10, "y": 20, "w": 300, "h": 40},
        "page_size": {"width": 1224, "height": 1584},
        "type": "table",
        "score": 0.7346,
        "why_relevant": "holds `invoice`, `2024-00917`; caption: Table 2: dues",
        "has_vt": False,
        "token_estimate": 17,
        "caption": "Table 2: dues",
        "text": "Invoice 2024-00917 Tea | 4.50",
    }


def test_why_says_where_each_word_stands() -> None:
    of = region("Tea and milk", "Table of prices", has_text_layer=False)
    told = told_found(*found("milk prices 2024", of, 0.812))

    assert told["why_relevant"] == "holds `milk`; caption holds `prices`; its document says `2024`"
    assert told["has_vt"]


def test_why_of_what_shares_no_word_is_its_meaning() -> None:
    """With how near it is; its caption is told all the same."""
    told = why_relevant(FoundRegion(region("Tea", "Table 1"), 0.81, (), 0.812), {})

    assert told == "near in meaning (similarity 0.81); caption: Table 1"


def test_a_picture_without_text_has_no_text() -> None:
    assert "text" not in told_found(*found("prices", region("", "Table of prices")))


@given(st.text(max_size=60), st.text(max_size=200), st.text(max_size=60))
def test_why_names_only_words_of_the_question_that_are_there(question: str, text: str, caption: str) -> None:
    """Invariant 1."""
    words = name_terms(question).words
    there = set(terms_of(text)) | set(terms_of(caption))
    matched = tuple(term for term in words if term in there)
    told = why_relevant(FoundRegion(region(text, caption), 1.0, matched), words)
    before_caption = told.partition("caption: ")[0]

    assert all(word in question for word in re.findall(r"(?<=`)[^`]+(?=`(?:,|;|$))", before_caption))
    assert "its document says" not in before_caption or "its document says" in question


@given(st.text(alphabet="ab é\n", max_size=2000), st.lists(st.text(alphabet="abé", min_size=1, max_size=4), max_size=3))
def test_a_snippet_is_a_piece_of_the_text(text: str, words: list[str]) -> None:
    """Invariant 2."""
    told = snippet(text, words)
    piece = told.removeprefix("... ").removesuffix(" ...")

    assert piece in re.sub(r"\s+", " ", text)
    assert len(told) <= 250


def test_a_snippet_is_around_the_word() -> None:
    text = "filler words " * 100 + "the total is 42 EUR " + "more words " * 100

    assert "total is 42" in snippet(text, ["TOTAL"])
    assert snippet(text, ["absent"]).startswith("filler")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, {"status": "queued", "progress": 0.0}),
        ({"status": JobStatus.RUNNING, "pages": 4, "pages_done": 1}, {"progress": 0.25, "pages": 4, "pages_done": 1}),
        (
            {"status": JobStatus.SUCCEEDED, "doc_id": "d", "is_duplicate": True, "ended_us": 2_000_000},
            {"progress": 1.0, "doc_id": "d", "duplicate": True, "ended_at": "1970-01-01T00:00:02Z"},
        ),
        (
            {"status": JobStatus.FAILED, "error": JobError("VALIDATION_ERROR", "It is encrypted.")},
            {"status": "failed", "error": {"code": "VALIDATION_ERROR", "message": "It is encrypted."}},
        ),
    ],
)
def test_a_job(changes: dict[str, Any], told: dict[str, Any]) -> None:
    job = Job("j" * 32, SCOPE, "a.pdf", True, {}, False, 1_000_000)
    found_ = told_job(msgspec.structs.replace(job, **changes))

    assert {name: found_[name] for name in told} == told
    assert (found_["job_id"], found_["source"]) == ("j" * 32, "a.pdf")
    assert ("error" in found_, "doc_id" in found_) == ("error" in told, "doc_id" in told)


def test_a_document() -> None:
    document = Document("d" * 32, SCOPE, "h" * 64, "a.pdf", "application/pdf", 9, {"a": 1}, 2, 1_000_000, 5)

    assert told_document(document) == {
        "doc_id": "d" * 32,
        "source": "a.pdf",
        "media_type": "application/pdf",
        "size_bytes": 9,
        "hash": "h" * 64,
        "metadata": {"a": 1},
        "pages": 2,
        "regions": 5,
        "created_at": "1970-01-01T00:00:01Z",
    }


def test_a_reading() -> None:
    whole, cut = told_reading("r", Reading("x", 0.98765), "1x"), told_reading("r", Reading("x", None, True), "1x")

    assert whole == {"region_id": "r", "text": "x", "fidelity": "1x", "confidence": 0.9877}
    assert cut == {"region_id": "r", "text": "x", "fidelity": "1x", "confidence": None, "truncated": True}


def test_unknown_regions_are_named() -> None:
    refusal = unknown_regions(["a", "b\n" * 100])

    assert (refusal.status, refusal.param) == (404, "region_ids")
    assert "'a'" in refusal.message
    assert "\n" not in refusal.message
