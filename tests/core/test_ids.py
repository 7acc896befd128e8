"""Ids, wherever they stand; and never in what somebody said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.routing.ids import MAX_IDS, ids_in_answer, ids_in_body, ids_in_path, ids_in_values

PATHS = {
    "/v1/responses/resp_68a1b2c3d4": ["resp_68a1b2c3d4"],
    "/v1/responses/resp_68a1b2c3d4/cancel": ["resp_68a1b2c3d4"],
    "/v1/files/file-abc123XYZ/content": ["file-abc123XYZ"],
    "/v1/threads/thread_abc123/runs/run_9876abc": ["thread_abc123", "run_9876abc"],
    "/v1/fine_tuning/jobs/ftjob-abc123": ["ftjob-abc123"],
    "/v1/vector_stores/vs_abc123/file_batches/vsfb_ab1234": ["vs_abc123", "file_batches", "vsfb_ab1234"],
    "/v1/files": [],
    "/v1/audio/transcriptions": [],
    "/v1/files/%2e%2e": [],
}


@pytest.mark.parametrize(("path", "expected"), PATHS.items())
def test_2_ids_in_a_path(path: str, expected: list[str]) -> None:
    """What only looks like one is looked up in vain."""
    assert ids_in_path(path) == expected


def test_2_ids_in_a_request() -> None:
    """By the keys that name what it is about: as they are, or as an object with an id."""
    assert ids_in_body(b'{"input_file_id":"file-abc123","endpoint":"/v1/responses"}') == ["file-abc123"]
    assert ids_in_body(b'{"conversation":{"id":"conv_abc123"},"metadata":{"file_id":"file-abc123"}}') == ["conv_abc123"]
    assert ids_in_values([b'"resp_abc123"', b"null", b"17", b'"no id"', b"{broken"]) == ["resp_abc123"]
    for other in (b"", b"[]", b"nonsense", b'{"file_id":17}', b"[" * 100_000):
        assert ids_in_body(other) == []


def test_2_ids_in_an_answer() -> None:
    """Of what was made, and of what came of it."""
    batch = {"id": "batch_abc123", "object": "batch", "input_file_id": "file-in1234", "output_file_id": "file-out1234"}
    event = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_abc123","obje'
    listed = {"data": [{"id": f"file-{number:06}"} for number in range(500)]}

    assert ids_in_answer(json.dumps(batch).encode()) == ["batch_abc123", "file-in1234", "file-out1234"]
    assert ids_in_answer(event) == ["resp_abc123"]
    assert len(ids_in_answer(json.dumps(listed).encode())) == MAX_IDS


@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_1_what_was_said_is_no_id(before: str, after: str) -> None:
    """Whatever a model quotes."""
    said = before + '"id": "file-abc123", "file_id":"file-abc123"' + after
    body = json.dumps({"id": "resp_own1234", "output": [{"content": [{"text": said}]}]}).encode()

    assert ids_in_answer(body) == ["resp_own1234"]
