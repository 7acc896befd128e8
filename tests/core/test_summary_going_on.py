"""What asks for a brief at the end of a conversation that was sent already."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.context.summary_going_on import render_going_on
from gateway.core.wire.request import Endpoint, MeteredRequest, parse_metered

SENT = b'[{"role":"system","content":"s"}, {"role": "user","content":"one"}]'


def request_of(**fields: Any) -> MeteredRequest:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one"}], **fields}
    return parse_metered(Endpoint.CHAT, json.dumps(body).encode())


def asked(request: MeteredRequest, *, is_addition: bool = False) -> dict[str, Any]:
    body = render_going_on(request, SENT, 100, is_addition=is_addition)
    assert body is not None
    assert SENT[:-1] in body
    found: dict[str, Any] = json.loads(body)
    return found


def test_what_is_cached_is_sent_as_it_was() -> None:
    """Tools and what says where the cache is; nothing that would stream, repeat or call."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = asked(request_of(tools=tools, prompt_cache_key="k", stream=True, n=3, tool_choice="required", seed=1))

    assert body["tools"] == tools
    assert (body["tool_choice"], body["prompt_cache_key"]) == ("none", "k")
    assert sorted(body) == ["max_tokens", "messages", "model", "prompt_cache_key", "tool_choice", "tools"]
    assert [message["role"] for message in body["messages"]] == ["system", "user", "user"]


def test_functions_are_not_called_either() -> None:
    assert asked(request_of(functions=[{"name": "f"}]))["function_call"] == "none"


def test_only_what_is_new_where_the_brief_goes_on() -> None:
    """Else everything, the brief so far included."""
    whole, addition = (asked(request_of(), is_addition=each)["messages"][-1]["content"] for each in (False, True))

    assert "the running brief so far included" in whole
    assert "after the running brief add to it" in addition


@pytest.mark.parametrize("model", ["o3-mini", "gpt-5"])
def test_models_that_think_have_room_for_it(model: str) -> None:
    body = asked(request_of(model=model))

    assert body["max_completion_tokens"] > 2000
    assert "max_tokens" not in body


@pytest.mark.parametrize("key", ["response_format", "prediction", "audio", "modalities"])
def test_an_answer_in_another_form_is_no_brief(key: str) -> None:
    """A field that is null says nothing."""
    assert render_going_on(request_of(**{key: {"type": "text"}}), SENT, 100, is_addition=False) is None
    assert render_going_on(request_of(**{key: None}), SENT, 100, is_addition=False) is not None
