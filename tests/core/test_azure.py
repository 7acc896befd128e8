"""Azure's request lines, read and written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.routing.azure import Plain, azure_target, read_azure, with_model

READ = {
    "a deployment": (
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        Plain("/v1/chat/completions", "gpt-4o"),
    ),
    "escaped": ("/openai/deployments/my%20own/embeddings", Plain("/v1/embeddings", "my own")),
    "other options": (
        "/openai/deployments/a/audio/speech?x=1&api-version=1&y=2",
        Plain("/v1/audio/speech?x=1&y=2", "a"),
    ),
    "no deployment": ("/openai/responses?api-version=preview", Plain("/v1/responses", "")),
    "its newer form": ("/openai/v1/chat/completions", Plain("/v1/chat/completions", "")),
    "an id": ("/openai/files/file-1/content?api-version=1", Plain("/v1/files/file-1/content", "")),
}


@pytest.mark.parametrize(("target", "plain"), READ.values(), ids=READ)
def test_request_lines_are_read(target: str, plain: Plain) -> None:
    assert read_azure(target) == plain


@given(target=st.text(st.sampled_from("/openaivdplymts1?=&-%20.")))
def test_1_other_paths_come_back_as_they_were(target: str) -> None:
    if not target.startswith("/openai/"):
        assert read_azure(target) == Plain(target, "")


@given(
    name=st.text(min_size=1, max_size=20),
    path=st.sampled_from(["/chat/completions", "/embeddings", "/audio/transcriptions"]),
    query=st.sampled_from(["", "&x=1", "&x=1&y=a%20b"]),
)
def test_2_there_and_back(name: str, path: str, query: str) -> None:
    """Whatever a deployment is called."""
    sent = azure_target(path + ("?" + query[1:] if query else ""), name, "2024-10-21")

    assert read_azure("/openai" + sent) == Plain("/v1" + path + ("?" + query[1:] if query else ""), name)


def test_what_has_no_deployment_keeps_its_path() -> None:
    assert azure_target("/responses", "gpt-4o", "preview") == "/responses?api-version=preview"
    assert azure_target("/chat/completions", "", "v") == "/chat/completions?api-version=v"
    assert azure_target("/files?api-version=old&limit=2", "", "new") == "/files?limit=2&api-version=new"


BODIES = {
    b'{"messages":[]}': {"model": 'a"b', "messages": []},
    b' { "messages" : [] }': {"model": 'a"b', "messages": []},
    b'{"model":"other","n":1}': {"model": 'a"b', "n": 1},
    b"{}": {"model": 'a"b'},
}


@pytest.mark.parametrize(("body", "expected"), BODIES.items())
def test_the_body_names_the_deployment(body: bytes, expected: object) -> None:
    assert json.loads(with_model(body, 'a"b')) == expected


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'{"a":1', b'{"model":1,"model":2}'])
def test_what_is_no_object_is_left_to_whoever_parses_it(body: bytes) -> None:
    assert with_model(body, "a") == body
