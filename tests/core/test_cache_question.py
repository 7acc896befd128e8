"""Which requests may share an answer, and which never do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.cache.question import Asker, question_key, wants_fresh
from gateway.core.wire.overrides import NO_OVERRIDES, Compacting, Overrides
from gateway.core.wire.request import Endpoint, parse_metered
from tests.json_texts import VALUES

Json = dict[str, Any]
CHAT: Json = {"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "Hi"}]}
RESPONSE: Json = {"model": "m", "temperature": 0, "input": "Hi", "store": False}
COMPLETION: Json = {"model": "m", "temperature": 0, "prompt": "Hi"}
EMBEDDING: Json = {"model": "m", "input": "Hi"}
TOOL: Json = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {}, "b": {}}}}}
PATHS = {
    Endpoint.CHAT: "/v1/chat/completions",
    Endpoint.RESPONSES: "/v1/responses",
    Endpoint.COMPLETIONS: "/v1/completions",
    Endpoint.EMBEDDINGS: "/v1/embeddings",
}


def key_of(
    body: Json | bytes,
    endpoint: Endpoint = Endpoint.CHAT,
    *,
    scope: bytes = b"c",
    fingerprint: bytes = b"f",
    query: str = "",
    headers: list[tuple[str, str]] | None = None,
    overrides: Overrides = NO_OVERRIDES,
    only_deterministic: bool = True,
) -> bytes | None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    asker = Asker(scope, fingerprint, PATHS[endpoint] + query, headers or [], overrides)
    return question_key(parse_metered(endpoint, raw), asker, only_deterministic=only_deterministic)


LOOKED_UP: dict[str, tuple[Json, Endpoint]] = {
    "temperature 0": (CHAT, Endpoint.CHAT),
    "temperature 0.0": ({**CHAT, "temperature": 0.0}, Endpoint.CHAT),
    "a seed": ({"model": "m", "messages": CHAT["messages"], "seed": 7}, Endpoint.CHAT),
    "a stream": ({**CHAT, "stream": True}, Endpoint.CHAT),
    "several choices": ({**CHAT, "n": 3}, Endpoint.CHAT),
    "the client's tools": ({**CHAT, "tools": [TOOL]}, Endpoint.CHAT),
    "store, and no": ({**CHAT, "store": False}, Endpoint.CHAT),
    "a legacy completion": (COMPLETION, Endpoint.COMPLETIONS),
    "a response that is not stored": (RESPONSE, Endpoint.RESPONSES),
    "an embedding": (EMBEDDING, Endpoint.EMBEDDINGS),
    "a picture in the request": (
        {**CHAT, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
        Endpoint.CHAT,
    ),
}


@pytest.mark.parametrize(("body", "endpoint"), LOOKED_UP.values(), ids=LOOKED_UP)
def test_what_wants_the_same_answer_has_a_key(body: Json, endpoint: Endpoint) -> None:
    """Each time the same one."""
    key = key_of(body, endpoint)

    assert key is not None
    assert key == key_of(body, endpoint)


ELSEWHERE: dict[str, tuple[Json, Endpoint]] = {
    "stored": ({**CHAT, "store": True}, Endpoint.CHAT),
    "web search": ({**CHAT, "web_search_options": {}}, Endpoint.CHAT),
    "live search": ({**CHAT, "search_parameters": {"mode": "auto"}}, Endpoint.CHAT),
    "plugins": ({**CHAT, "plugins": [{"id": "web"}]}, Endpoint.CHAT),
    "a model that searches": ({**CHAT, "model": "gpt-4o-search-preview"}, Endpoint.CHAT),
    "a model that is online": ({**CHAT, "model": "openai/gpt-4o:online"}, Endpoint.CHAT),
    "audio": ({**CHAT, "modalities": ["text", "audio"], "audio": {"voice": "a", "format": "mp3"}}, Endpoint.CHAT),
    "a server's tool": ({**RESPONSE, "tools": [{"type": "web_search"}]}, Endpoint.RESPONSES),
    "tools that are none": ({**RESPONSE, "tools": ["web_search"]}, Endpoint.RESPONSES),
    "stored unless told not to": ({"model": "m", "temperature": 0, "input": "Hi"}, Endpoint.RESPONSES),
    "after another response": ({**RESPONSE, "previous_response_id": "resp_1"}, Endpoint.RESPONSES),
    "in a conversation": ({**RESPONSE, "conversation": "conv_1"}, Endpoint.RESPONSES),
    "in the background": ({**RESPONSE, "background": True}, Endpoint.RESPONSES),
    "a stored prompt": ({**RESPONSE, "prompt": {"id": "pmpt_1"}}, Endpoint.RESPONSES),
    "a stored item": ({**RESPONSE, "input": [{"type": "item_reference", "id": "i"}]}, Endpoint.RESPONSES),
    "a stored file": (
        {**RESPONSE, "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
        Endpoint.RESPONSES,
    ),
    "a picture on the web": (
        {**CHAT, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
        Endpoint.CHAT,
    ),
    "a picture on the web, in another form": (
        {**RESPONSE, "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y"}]}]},
        Endpoint.RESPONSES,
    ),
}


@pytest.mark.parametrize(("body", "endpoint"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_something_else_decides_has_none(body: Json, endpoint: Endpoint) -> None:
    """Neither with chance allowed."""
    assert key_of(body, endpoint) is None
    assert key_of(body, endpoint, only_deterministic=False) is None


@pytest.mark.parametrize(
    "change", [{"temperature": 0.1}, {"temperature": None}, {"temperature": False}, {"temperature": None, "seed": True}]
)
def test_chance_is_kept_only_when_that_is_wanted(change: Json) -> None:
    assert key_of({**CHAT, **change}) is None
    assert key_of({**CHAT, **change}, only_deterministic=False) is not None


@pytest.mark.parametrize("overrides", [Overrides(caches=False), Overrides(explains=True), Overrides(session="s")])
def test_requests_of_their_own_kind_have_none(overrides: Overrides) -> None:
    """One that wants no cache, one that wants its own receipt, and one whose prompt holds what a session keeps."""
    assert key_of(CHAT, overrides=overrides) is None


def test_what_the_client_says_of_caches_counts() -> None:
    assert key_of(CHAT, headers=[("Cache-Control", "No-Store, max-age=0")]) is None
    assert key_of(CHAT, headers=[("Cache-Control", "no-cache")]) == key_of(CHAT)
    assert wants_fresh([("cache-control", "private, No-Cache")])
    assert wants_fresh([("Cache-Control", "max-age=0")])
    assert not wants_fresh([("cache-control", "max-age=60")])
    assert not wants_fresh([])


DIFFERENT: dict[str, Json] = {
    "model": {**CHAT, "model": "m2"},
    "text": {**CHAT, "messages": [{"role": "user", "content": "Hi "}]},
    "role": {**CHAT, "messages": [{"role": "system", "content": "Hi"}]},
    "name": {**CHAT, "messages": [{"role": "user", "content": "Hi", "name": "ann"}]},
    "stream": {**CHAT, "stream": True},
    "usage in the stream": {**CHAT, "stream": True, "stream_options": {"include_usage": True}},
    "length": {**CHAT, "max_tokens": 5},
    "seed": {**CHAT, "seed": 1},
    "seed 2": {**CHAT, "seed": 2},
    "choices": {**CHAT, "n": 2},
    "stop": {**CHAT, "stop": ["a"]},
    "tools": {**CHAT, "tools": [TOOL]},
    "logprobs": {**CHAT, "logprobs": True},
    "penalty": {**CHAT, "frequency_penalty": 0.5},
    "an unknown field": {**CHAT, "top_k": 1},
    "a field that is null": {**CHAT, "top_k": None},
    "order in a schema": {
        **CHAT,
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"properties": {"b": {}, "a": {}}}}},
        ],
    },
}


def test_bodies_that_differ_have_keys_that_differ() -> None:
    """Among them two that differ in nothing but the order of a schema's properties, which is that of the answer."""
    keys = [key_of(body) for body in [CHAT, *DIFFERENT.values()]]

    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_all_else_that_shapes_an_answer_is_in_the_key() -> None:
    keys = [
        key_of(CHAT),
        key_of(CHAT, scope=b"d"),
        key_of(CHAT, fingerprint=b"g"),
        key_of(CHAT, query="?api-version=1"),
        key_of(CHAT, headers=[("OpenAI-Beta", "x=1")]),
        key_of(CHAT, headers=[("OpenAI-Beta", "x=2")]),
        key_of(CHAT, headers=[("OpenAI-Organization", "o")]),
        key_of(CHAT, headers=[("x-api-key", "k")]),
        key_of(CHAT, headers=[("x-whatever", "1")]),
        key_of(CHAT, overrides=Overrides(max_total_tokens=1000)),
        key_of(CHAT, overrides=Overrides(compacting=Compacting.OFF)),
        key_of(CHAT, overrides=Overrides(compacting=Compacting.SHADOW)),
        key_of(COMPLETION, Endpoint.COMPLETIONS),
        key_of(EMBEDDING, Endpoint.EMBEDDINGS),
        key_of(RESPONSE, Endpoint.RESPONSES),
        key_of({**RESPONSE, "metadata": {"a": "b"}}, Endpoint.RESPONSES),
    ]

    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_what_names_one_sending_is_not() -> None:
    """Labels, key order, white space, escapes, and the headers of clients and proxies."""
    labelled = {**CHAT, "user": "u1", "metadata": {"a": "b"}, "prompt_cache_key": "k", "safety_identifier": "s"}
    turned = b'{ "messages": [{"content": "H\\u0069", "role": "user"}],\n"temperature": 0, "model": "m"}'
    sent = [("X-Request-Id", "1"), ("traceparent", "00"), ("User-Agent", "x"), ("X-Stainless-Lang", "python")]

    assert key_of(labelled) == key_of(turned) == key_of(CHAT, headers=sent) == key_of(CHAT)


@pytest.mark.parametrize("value", [b"1e999", b"-1e999", b"1" * 400, b'"0"', b"[0]", b"{}"])
@pytest.mark.parametrize("name", [b"temperature", b"seed", b"extra"])
def test_odd_values_are_no_trouble(name: bytes, value: bytes) -> None:
    """Whatever an upstream may make of them."""
    odd = b'{"model": "m", "%b": %b, "messages": [{"role": "user", "content": "Hi"}]}' % (name, value)
    key = key_of(odd, only_deterministic=False)

    assert key is None or key == key_of(odd, only_deterministic=False)
    assert key_of(odd) in (None, key)


def test_a_key_that_stands_twice_is_not_guessed_at() -> None:
    """Who reads it may take the first or the last."""
    twice = b'{"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "a", "content": "b"}]}'

    assert key_of(twice) is None


@given(st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8))
def test_no_two_clients_share_a_key(one: bytes, other: bytes, first: bytes, second: bytes) -> None:
    """However their scopes, and the configuration's fingerprint, run together."""
    same = key_of(CHAT, scope=one, fingerprint=first) == key_of(CHAT, scope=other, fingerprint=second)

    assert same == ((one, first) == (other, second))


def by_name(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of one name keep their order."""
    return sorted(headers, key=lambda pair: pair[0])


NAMES = st.text("xyz-", min_size=1, max_size=4).map(lambda name: f"h{name}")


@given(
    st.lists(st.tuples(NAMES, st.text("ab,:", max_size=4)), max_size=4),
    st.lists(st.tuples(NAMES, st.text("ab,:", max_size=4)), max_size=4),
)
def test_no_two_sets_of_headers_run_together(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> None:
    assert (key_of(CHAT, headers=one) == key_of(CHAT, headers=other)) == (by_name(one) == by_name(other))


def normal(value: Any) -> str:
    """Values as JSON tells them apart: 1, 1.0 and true are three."""
    return json.dumps(value, sort_keys=False)


@given(VALUES, VALUES)
def test_two_values_of_a_field_are_two_questions(one: Any, other: Any) -> None:
    """Whatever they hold; what cannot be told apart for sure has no key at all."""
    keys = [key_of({**CHAT, "extra": value}) for value in (one, other)]

    assert keys[0] is None or (keys[0] == keys[1]) == (normal(one) == normal(other))
