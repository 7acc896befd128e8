"""A web page may call only where its origin is listed, and never by another name for this machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.wire.origin import OriginRules, decide_origin, host_of, is_loopback_host

PAGE = "https://app.example"
CLOSED = OriginRules(frozenset(), is_loopback=True)
LISTED = OriginRules(frozenset({PAGE}), is_loopback=True)
OPEN = OriginRules(frozenset({"*"}), is_loopback=True)
PUBLIC = OriginRules(frozenset(), is_loopback=False)
LOCAL = "localhost:8080"

DECISIONS = [
    ("a program", None, LOCAL, CLOSED, None),
    ("a program without a host", None, None, CLOSED, None),
    ("a page", PAGE, LOCAL, CLOSED, "origin_not_allowed"),
    ("a listed page", PAGE, LOCAL, LISTED, None),
    ("a page of another scheme", "http://app.example", LOCAL, LISTED, "origin_not_allowed"),
    ("a page of a longer name", PAGE + ".evil.example", LOCAL, LISTED, "origin_not_allowed"),
    ("a page on another port", PAGE + ":8443", LOCAL, LISTED, "origin_not_allowed"),
    ("a sandboxed page", "null", LOCAL, LISTED, "origin_not_allowed"),
    ("an empty origin", "", LOCAL, LISTED, "origin_not_allowed"),
    ("any page where all may", "https://any.example", LOCAL, OPEN, None),
    ("a rebound name", None, "evil.example:8080", CLOSED, "host_not_allowed"),
    ("a rebound name where all pages may", PAGE, "evil.example:8080", OPEN, "host_not_allowed"),
    ("any name on a public address", None, "gateway.example", PUBLIC, None),
    ("a page on a public address", PAGE, "gateway.example", PUBLIC, "origin_not_allowed"),
]


@pytest.mark.parametrize(
    ("origin", "host", "rules", "code"), [row[1:] for row in DECISIONS], ids=[row[0] for row in DECISIONS]
)
def test_pages_and_names_are_judged(origin, host, rules, code):
    refusal = decide_origin(origin, host, rules)

    assert (refusal and refusal.code) == code
    assert refusal is None or refusal.status == 403


HOSTS = [
    ("localhost", "localhost"),
    ("localhost:8080", "localhost"),
    ("127.0.0.1:80", "127.0.0.1"),
    ("[::1]:8080", "::1"),
    ("[::1]", "::1"),
    ("::1", "::1"),
    ("evil.example:80:80", "evil.example:80:80"),
    ("", ""),
]


@pytest.mark.parametrize(("authority", "host"), HOSTS)
def test_the_host_of_an_authority(authority, host):
    assert host_of(authority) == host


LOOPBACK = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "app.localhost",
    "127.0.0.1",
    "127.8.9.10",
    "::1",
    "0:0:0:0:0:0:0:1",
]
ELSEWHERE = [
    "", ".", "localhost.example", "notlocalhost", "127.0.0.1.example", "127.1", "0x7f.0.0.1", "2130706433", "0.0.0.0",
    "10.0.0.1", "::", "::2", "127.0.0.1@evil.example", "127.0.0.1 evil.example", "[::1]",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK)
def test_names_that_can_only_mean_this_machine(host):
    assert is_loopback_host(host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_names_that_may_mean_another(host):
    assert not is_loopback_host(host)


@given(st.text(max_size=30) | st.none(), st.text(max_size=30) | st.none(), st.booleans())
def test_any_headers_are_judged(origin, host, is_loopback):
    """No header raises; a page that is not listed never passes, nor a foreign name on a loopback address."""
    refusal = decide_origin(origin, host, OriginRules(frozenset({PAGE}), is_loopback))
    is_foreign = is_loopback and host is not None and not is_loopback_host(host_of(host))

    assert (refusal is not None) == (origin not in (None, PAGE) or is_foreign)
