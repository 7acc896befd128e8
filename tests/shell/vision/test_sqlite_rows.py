"""What is kept of documents, regions and jobs comes back the same, or is refused before anything is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.facts.memory import Scope
from gateway.core.vision.document import (
    Box,
    Document,
    Job,
    JobError,
    JobStatus,
    LaidRegion,
    PageSize,
    Region,
    RegionType,
)
from gateway.shell.vision import sqlite_rows as rows

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**63), 2**63 - 1)
ids = st.binary(min_size=16, max_size=16).map(bytes.hex)
scopes = st.builds(Scope, st.binary(min_size=32, max_size=32), texts)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
objects = st.dictionaries(texts, values, max_size=3)
documents = st.builds(
    Document,
    id=ids,
    scope=scopes,
    hash=st.binary(min_size=32, max_size=32).map(bytes.hex),
    source=texts,
    media_type=texts,
    size_bytes=st.integers(0, 2**40),
    metadata=objects,
    pages=st.integers(0, 2**20),
    created_us=numbers,
    regions=st.integers(0, 2**20),
)
places = st.integers(-5, 2**31)
regions = st.builds(
    Region,
    id=ids,
    doc_id=ids,
    page=st.integers(1, 2**32 - 1),
    laid=st.builds(
        LaidRegion,
        box=st.builds(Box, places, places, places, places),
        type=st.sampled_from(RegionType),
        text=texts,
        caption=texts,
        has_text_layer=st.booleans(),
        confidence=st.floats(0, 1),
    ),
    token_estimate=st.integers(0, 2**31),
    page_size=st.builds(PageSize, places, places),
)
jobs = st.builds(
    Job,
    id=ids,
    scope=scopes,
    source=texts,
    is_uploaded=st.booleans(),
    metadata=objects,
    is_forced=st.booleans(),
    created_us=numbers,
    status=st.sampled_from(JobStatus),
    doc_id=st.just("") | ids,
    pages_done=places,
    pages=places,
    is_duplicate=st.booleans(),
    error=st.none() | st.builds(JobError, texts, texts),
    ended_us=st.none() | numbers,
)


@given(document=documents)
def test_documents_come_back(document: Document) -> None:
    """With metadata of any JSON."""
    scope = document.scope
    columns = (rows.known_id(document.id), scope.owner, scope.name.encode(), rows.hash_bytes(document.hash))

    assert (
        rows.document_from((*columns, document.created_us, document.regions, rows.document_body(document))) == document
    )


@given(region=regions)
def test_regions_come_back(region: Region) -> None:
    """Whatever stands there."""
    columns = (rows.known_id(region.id), rows.known_id(region.doc_id))

    assert rows.region_from((*columns, rows.region_body(region, region.page))) == region


@given(job=jobs)
def test_jobs_come_back(job: Job) -> None:
    """In every status."""
    columns = (rows.known_id(job.id), job.scope.owner, job.scope.name.encode(), rows.status_number(job.status))

    assert rows.job_from((*columns, job.created_us, job.ended_us, rows.job_body(job))) == job


@given(job=jobs, document=documents, text=st.sampled_from(["\ud800", "a\udfffb"]))
def test_what_has_no_form_in_utf8_is_refused(job: Job, document: Document, text: str) -> None:
    """Wherever it stands."""
    for told in ({"source": text}, {"metadata": {text: 1}}, {"metadata": {"a": [text]}}, {"metadata": {"a": object()}}):
        with pytest.raises(ValueError, match="cannot be stored"):
            rows.document_body(Document(**{**_fields(document), **told}))
        with pytest.raises(ValueError, match="cannot be stored"):
            rows.job_body(Job(**{**_fields(job), **told}))


def _fields(record: Document | Job) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__struct_fields__}
