"""End to end headers cross the gateway; hop-by-hop ones, cookies, its own, and replaced credentials do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.wire.gateway_headers import gateway_headers
from gateway.core.wire.headers import forwardable_request_headers, forwardable_response_headers, header_of

NAMES = [
    "Accept", "Authorization", "api-key", "X-Api-Key", "Connection", "Content-Type", "Content-Length", "Cookie",
    "Expect", "Host", "Keep-Alive", "OpenAI-Organization", "Set-Cookie", "TE", "Trailer", "Transfer-Encoding",
    "Upgrade", "X-Custom", "x-gateway-session", "X-Gateway-Budget", "x-request-id", "User-Agent", "traceparent",
]  # fmt: skip
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(NAMES).flatmap(lambda name: st.sampled_from([name, name.lower(), name.upper()])),
        st.sampled_from(["", "a", "close", "keep-alive, X-Custom", "TE , accept"]),
    ),
    max_size=10,
)


def sent(headers, *, is_metered=True, upstream_key=""):
    return forwardable_request_headers(headers, is_metered=is_metered, upstream_key=upstream_key, request_id="req_1")


def lower_names(headers):
    return {name.lower() for name, _ in headers}


END_TO_END = [("Content-Type", "application/json"), ("OpenAI-Beta", "a"), ("OpenAI-Beta", "b"), ("traceparent", "00-1")]


@pytest.mark.parametrize("is_metered", [True, False])
def test_end_to_end_headers_pass_in_order_and_as_spelled(is_metered):
    own = [("Accept-Encoding", "identity")] if is_metered else []

    assert sent(END_TO_END, is_metered=is_metered) == [*END_TO_END, *own, ("x-request-id", "req_1")]
    assert forwardable_response_headers(END_TO_END) == END_TO_END


REQUEST_DROPPED = [
    ("Connection", "close"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Authorization", "Basic x"),
    ("Proxy-Connection", "close"),
    ("TE", "trailers"),
    ("Trailer", "x"),
    ("Transfer-Encoding", "chunked"),
    ("Upgrade", "h2c"),
    ("Host", "gateway"),
    ("Content-Length", "5"),
    ("Cookie", "a=b"),
    ("Expect", "100-continue"),
    ("X-Gateway-Session", "s"),
    ("x-gateway-anything", "s"),
]


@pytest.mark.parametrize("is_metered", [True, False])
@pytest.mark.parametrize("header", REQUEST_DROPPED)
def test_what_concerns_this_hop_stays_here(header, is_metered):
    """Hop-by-hop headers, cookies and the gateway's own never reach an upstream."""
    assert header[0].lower() not in lower_names(sent([header], is_metered=is_metered))


def test_encodings_are_the_gateways_concern_only_where_it_reads():
    """A body that was read is sent decoded, and its answer is asked for plain; a passed one keeps both headers."""
    headers = [("Content-Encoding", "gzip"), ("Accept-Encoding", "br")]

    assert sent(headers) == [("Accept-Encoding", "identity"), ("x-request-id", "req_1")]
    assert sent(headers, is_metered=False) == [*headers, ("x-request-id", "req_1")]


CREDENTIALS = [
    ("authorization", "Bearer client"),
    ("API-Key", "client"),
    ("x-api-key", "client"),
    ("OpenAI-Organization", "org-client"),
    ("openai-project", "proj-client"),
]


def test_an_upstreams_own_key_replaces_the_clients():
    """The client's credentials pass where the upstream has no key, and never where it has one."""
    replaced = sent(CREDENTIALS, is_metered=False, upstream_key="sk-up")

    assert sent(CREDENTIALS, is_metered=False)[:-1] == CREDENTIALS
    assert replaced == [("Authorization", "Bearer sk-up"), ("x-request-id", "req_1")]


def test_a_request_id_that_stays_on_its_hop_is_replaced():
    """There is always one."""
    assert sent([("Connection", "x-request-id"), ("x-request-id", "mine")], is_metered=False) == [
        ("x-request-id", "req_1")
    ]


def test_a_clients_own_request_id_is_kept():
    assert sent([("X-Request-Id", "mine")], is_metered=False) == [("X-Request-Id", "mine")]


RESPONSE_DROPPED = [
    ("Connection", "close"),
    ("Keep-Alive", "timeout=5"),
    ("Transfer-Encoding", "chunked"),
    ("Proxy-Authenticate", "Basic"),
    ("Upgrade", "h2c"),
    ("Content-Length", "5"),
    ("Set-Cookie", "a=b"),
    ("Alt-Svc", 'h3=":443"'),
    ("X-Gateway-Upstream", "other"),
]


@pytest.mark.parametrize("header", RESPONSE_DROPPED)
def test_an_upstreams_hop_cookies_and_gateway_headers_stay_there(header):
    assert forwardable_response_headers([header]) == []


@pytest.mark.parametrize("name", ["x-request-id", "openai-processing-ms", "x-ratelimit-limit-requests", "retry-after"])
def test_an_upstreams_own_headers_pass(name):
    assert forwardable_response_headers([(name, "7")]) == [(name, "7")]


def test_names_listed_in_connection_stay_too():
    """RFC 9110, section 7.6.1: whatever `Connection` names belongs to this hop."""
    hop = [("Connection", "close, X-Hop"), ("X-Hop", "1"), ("connection", "x-other"), ("X-OTHER", "2")]
    headers = [*hop, ("X-On", "3")]

    assert sent(headers, is_metered=False) == [("X-On", "3"), ("x-request-id", "req_1")]
    assert forwardable_response_headers(headers) == [("X-On", "3")]


@given(HEADERS, st.booleans(), st.sampled_from(["", "sk-up"]))
def test_any_headers_keep_the_rules(headers, is_metered, upstream_key):
    """Nothing is invented, nothing reordered, nothing forbidden sent, and there is one request id at least."""
    result = sent(headers, is_metered=is_metered, upstream_key=upstream_key)
    own = [("Authorization", "Bearer sk-up"), ("Accept-Encoding", "identity"), ("x-request-id", "req_1")]
    kept = [header for header in result if header not in own]
    rest = iter(headers)

    assert all(header in rest for header in kept)
    assert not lower_names(kept) & {"connection", "te", "host", "cookie", "content-length", "upgrade", "expect"}
    assert not any(name.startswith("x-gateway-") for name in lower_names(result))
    assert "x-request-id" in lower_names(result)
    assert not (upstream_key and lower_names(kept) & {"authorization", "api-key", "x-api-key"})
    assert all(header in headers for header in forwardable_response_headers(headers))


def test_a_header_is_found_by_its_lower_case_name():
    headers = [("Retry-After", "1"), ("RETRY-AFTER", "2")]

    assert header_of(headers, "retry-after") == "1"
    assert header_of(headers, "date") is None


OWN = {
    "counted and budgeted": (
        {"upstream": "up", "prompt_tokens": 9, "remaining_tokens": 91, "level": "none", "saved_tokens": 0},
        {
            "x-gateway-upstream": "up",
            "x-gateway-tokens-prompt": "9",
            "x-gateway-tokens-remaining": "91",
            "x-gateway-compaction": "none",
            "x-gateway-tokens-saved": "0",
        },
    ),
    "counted only": (
        {"upstream": "up", "prompt_tokens": 9, "remaining_tokens": None, "level": "", "saved_tokens": 0},
        {"x-gateway-upstream": "up", "x-gateway-tokens-prompt": "9"},
    ),
    "no upstream answered": (
        {"upstream": "", "prompt_tokens": None, "remaining_tokens": None, "level": "", "saved_tokens": 0},
        {},
    ),
}


@pytest.mark.parametrize(("facts", "headers"), OWN.values(), ids=OWN)
def test_the_gateways_own_headers_say_what_is_known(facts, headers):
    assert dict(gateway_headers(**facts)) == headers
