"""A handshake crosses with everything that it needs and nothing that it must not carry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Refusal
from gateway.core.wire.headers import header_of
from gateway.core.wire.upgrade import (
    accept_of,
    decide_upgrade,
    flaw_of_switch,
    handshake_headers,
    model_of_query,
    with_model,
    with_plain_key,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GOOD = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "WebSocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY),
]
SECRETS = st.text("abcXYZ0189-_", min_size=1, max_size=30)


def test_the_sample_of_the_rfc():
    """RFC 6455, section 1.3."""
    assert accept_of(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_a_good_handshake_is_one():
    assert decide_upgrade("GET", GOOD) is None


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", GOOD),
        ("GET", GOOD[1:]),
        ("GET", GOOD[:-1]),
        ("GET", [*GOOD, GOOD[-1]]),
        ("GET", [*GOOD[:-1], ("Sec-WebSocket-Key", "AAAA")]),
        ("GET", [*GOOD, ("Content-Length", "3")]),
        ("GET", [*GOOD, ("Transfer-Encoding", "chunked")]),
        ("GET", [*GOOD[:2], ("Sec-WebSocket-Version", "8"), GOOD[3]]),
        ("GET", [*GOOD[:2], GOOD[3]]),
    ],
)
def test_what_is_none_is_refused(method, headers):
    refusal = decide_upgrade(method, headers)

    assert refusal is not None
    assert refusal.status in (400, 426)


@given(key=SECRETS, before=st.lists(st.sampled_from(["realtime", "openai-beta.v1", "x"]), max_size=3))
def test_1_a_key_becomes_a_header(key, before):
    offered = [*before, f"openai-insecure-api-key.{key}", "openai-project.p1"]
    headers = with_plain_key([*GOOD, ("Sec-WebSocket-Protocol", ", ".join(offered))])

    assert header_of(headers, "authorization") == f"Bearer {key}"
    assert header_of(headers, "openai-project") == "p1"
    assert header_of(headers, "sec-websocket-protocol") == (", ".join(before) if before else None)
    assert headers[: len(GOOD)] == GOOD


def test_1_other_headers_stay_as_they_are():
    headers = [*GOOD, ("Sec-WebSocket-Protocol", "realtime,x"), ("Authorization", "Bearer a")]

    assert with_plain_key(headers) == headers


@pytest.mark.parametrize("authorization", ["Bearer other", "Basic abc"])
def test_1_two_keys_are_refused(authorization):
    protocol = ("Sec-WebSocket-Protocol", "openai-insecure-api-key.abc")
    with pytest.raises(Refusal) as refused:
        with_plain_key([("Authorization", authorization), protocol])

    assert refused.value.status == 401
    assert "abc" not in refused.value.message


def test_1_the_same_key_twice_is_one():
    headers = [("Authorization", "Bearer abc"), ("Sec-WebSocket-Protocol", "openai-insecure-api-key.abc")]

    assert with_plain_key(headers) == [("Authorization", "Bearer abc")]


QUERIES = {
    "/v1/realtime": None,
    "/v1/realtime?": None,
    "/v1/realtime?models=a": None,
    "/v1/realtime?model=gpt-4o": "gpt-4o",
    "/v1/realtime?x=1&model=a%2Fb+c&y": "a/b c",
    "/v1/realtime?mod%65l=a": "a",
    "/v1/realtime?Model=a": "a",
}


@pytest.mark.parametrize("target", QUERIES)
def test_2_the_model_of_a_query(target):
    assert model_of_query(target) == QUERIES[target]


@pytest.mark.parametrize(
    "query", ["model=a&model=a", "model=a&MODEL=b", "model=a;model=b", "model=", "model", "model=%00"]
)
def test_2_a_query_that_may_mean_two_models_is_refused(query):
    with pytest.raises(Refusal) as refused:
        model_of_query(f"/v1/realtime?{query}")

    assert refused.value.status == 400


@given(model=st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable() and ";" not in text))
def test_2_another_model_is_read_again(model):
    target = with_model("/v1/realtime?a=%41&model=x&b", model)

    assert model_of_query(target) == model
    assert target.startswith("/v1/realtime?a=%41&model=")
    assert target.endswith("&b")


ANSWER = [("Upgrade", "websocket"), ("Connection", "upgrade"), ("Sec-WebSocket-Accept", accept_of(KEY))]
ASKED = [*GOOD, ("Sec-WebSocket-Protocol", "realtime, other")]


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER[1:],
        [("Upgrade", "h2c"), *ANSWER[1:]],
        ANSWER[:2],
        [*ANSWER[:2], ("Sec-WebSocket-Accept", accept_of(KEY[::-1]))],
        [*ANSWER, ("Sec-WebSocket-Extensions", "permessage-deflate")],
        [*ANSWER, ("Sec-WebSocket-Protocol", "third")],
    ],
)
def test_3_an_answer_to_another_question_is_none(answer):
    assert flaw_of_switch(ASKED, answer)


@pytest.mark.parametrize("protocol", [[], [("Sec-WebSocket-Protocol", "realtime")]])
def test_3_a_good_answer_is_one(protocol):
    assert flaw_of_switch(ASKED, [*ANSWER, *protocol]) is None


def test_extensions_are_not_offered():
    headers = handshake_headers([("Sec-WebSocket-Extensions", "permessage-deflate"), ("Sec-WebSocket-Key", KEY)])

    assert header_of(headers, "sec-websocket-extensions") is None
    assert header_of(headers, "sec-websocket-key") == KEY
    assert header_of(headers, "upgrade") == "websocket"
