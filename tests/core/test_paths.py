"""Which call a request line is: the gateway's own paths take certain methods, and names in them come back whole."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.wire.paths import endpoint_of, is_of_memory, is_of_vision, local_methods, memory_name_of
from gateway.core.wire.request import OF_MEMORY, OF_VISION, Endpoint

ROOT = "/api/v1/"
CALLS = [
    ("POST", "facts", Endpoint.FACTS),
    ("POST", "facts/query", Endpoint.FACTS_QUERY),
    ("GET", "facts/0a", Endpoint.FACT),
    ("DELETE", "facts/0a", Endpoint.FACT),
    ("POST", "contexts", Endpoint.CONTEXTS),
    ("POST", "contexts/search", Endpoint.CONTEXTS_SEARCH),
    ("POST", "contexts/delete", Endpoint.CONTEXTS_DELETE),
    ("POST", "contexts/clear", Endpoint.CONTEXTS_CLEAR),
    ("GET", "contexts/0a", Endpoint.CONTEXT),
    ("DELETE", "contexts/0a", Endpoint.CONTEXT),
    ("GET", "memories", Endpoint.MEMORIES),
    ("DELETE", "memories", Endpoint.MEMORIES),
    ("DELETE", "memories/x", Endpoint.MEMORIES),
    ("GET", "memories/x/export", Endpoint.MEMORIES_EXPORT),
    ("POST", "memories/x/import", Endpoint.MEMORIES_IMPORT),
    ("POST", "vision/search", Endpoint.VISION_SEARCH),
    ("POST", "vision/decode", Endpoint.VISION_DECODE),
    ("POST", "vision/index", Endpoint.VISION_INDEX),
    ("GET", "vision/index/jobs/0a", Endpoint.VISION_JOB),
    ("DELETE", "vision/index/jobs/0a", Endpoint.VISION_JOB),
    ("GET", "vision/documents", Endpoint.VISION_DOCUMENTS),
    ("GET", "vision/documents/0a", Endpoint.VISION_DOCUMENT),
    ("DELETE", "vision/documents/0a", Endpoint.VISION_DOCUMENT),
    ("GET", "vision/regions/0a/image", Endpoint.VISION_IMAGE),
    ("POST", "tokens/count", Endpoint.TOKENS_COUNT),
    ("DELETE", "sessions/x", Endpoint.SESSIONS),
    ("DELETE", "sessions/x/y", Endpoint.SESSIONS),
]
NO_CALLS = [
    ("GET", "facts"),
    ("POST", "vision"),
    ("GET", "vision/search"),
    ("GET", "vision/index/jobs"),
    ("GET", "vision/index/jobs/0a/b"),
    ("GET", "vision/regions/0a"),
    ("GET", "vision/regions//image"),
    ("GET", "vision/documents/"),
    ("GET", "visions/documents"),
    ("GET", "facts/query"),
    ("PATCH", "facts/0a"),
    ("GET", "facts/"),
    ("GET", "facts//"),
    ("GET", "facts/0a/b"),
    ("GET", "memories/x"),
    ("GET", "memories/x/y/export"),
    ("GET", "memories/x/export/"),
    ("HEAD", "memories"),
    ("DELETE", "sessions/"),
    ("POST", "Facts"),
]


@pytest.mark.parametrize(("method", "path", "endpoint"), CALLS)
def test_a_call_of_the_gateways_own(method: str, path: str, endpoint: Endpoint) -> None:
    assert endpoint_of(method, ROOT + path) is endpoint
    assert local_methods(ROOT + path)[method] is endpoint
    assert is_of_memory(ROOT + path) is (endpoint in OF_MEMORY)
    assert is_of_vision(ROOT + path) is (endpoint in OF_VISION)


@pytest.mark.parametrize(("method", "path"), NO_CALLS)
def test_what_is_none(method: str, path: str) -> None:
    assert endpoint_of(method, ROOT + path) is Endpoint.PASSTHROUGH


def test_a_path_says_which_methods_it_takes() -> None:
    assert list(local_methods(f"{ROOT}facts/0a")) == ["GET", "DELETE"]
    assert list(local_methods(f"{ROOT}facts")) == ["POST"]
    assert not local_methods("/v1/models")


@given(st.text(min_size=1, max_size=30).filter(lambda name: name.isprintable()))
def test_a_name_comes_back_as_it_was(name: str) -> None:
    """Whatever it holds, slashes and braces too, and it is one call."""
    path = f"{ROOT}memories/{quote(name, safe='')}/export"

    assert memory_name_of(path) == name
    assert memory_name_of(f"{ROOT}vision/index/jobs/{quote(name, safe='')}") == name
    assert endpoint_of("GET", path) is Endpoint.MEMORIES_EXPORT


def test_every_call_of_memory_and_vision_has_a_path() -> None:
    assert {endpoint for _, _, endpoint in CALLS} >= OF_MEMORY | OF_VISION
