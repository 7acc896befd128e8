"""Who asks is who holds a known key, or whom a trusted proxy names; what they may do is what was granted."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.access import (
    ALL_GRANTS,
    CLIENT_HEADER,
    Directory,
    Grants,
    Identity,
    Permission,
    allowed_routes,
    decide_call,
    decide_model,
    is_trusted,
    key_digest,
    scope_of,
)
from gateway.core.errors import Refusal
from gateway.core.wire.headers import without_credentials
from gateway.core.wire.provider_keys import MASK, mask_body, mask_headers
from gateway.core.wire.request import OF_MEMORY, OF_VISION, Endpoint
from tests.histories import route_of

KEY, OTHER_KEY = "gw-alpha-key-of-many-bits", "gw-beta-key-of-many-bits"
ALPHA, BETA = Identity("alpha", scope_of("alpha")), Identity("beta", scope_of("beta"))
NAMED = Identity("named", scope_of("named"))
PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
DIRECTORY = Directory(
    {key_digest(KEY): ALPHA, key_digest(OTHER_KEY): BETA}, {"alpha": ALPHA, "beta": BETA, "named": NAMED}, PROXIES
)
OPEN = Directory({}, {"*": Identity("*", b"", Grants(models=("gpt-*",)))}, PROXIES)
Headers = list[tuple[str, str]]


def bearer(key: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {key}"


@pytest.mark.parametrize(
    "headers",
    [
        [bearer(KEY)],
        [("authorization", f"bearer  {KEY} ")],
        [("Api-Key", KEY)],
        [bearer(KEY), ("api-key", KEY)],
        [bearer(KEY), bearer(KEY)],
        [bearer(KEY), (CLIENT_HEADER, "beta")],
        [("Authorization", ""), ("api-key", KEY)],
    ],
)
def test_a_known_key_is_its_clients(headers: Headers) -> None:
    """However it is presented; a name that no trusted proxy sends counts nothing."""
    assert DIRECTORY.identify(headers, "192.0.2.1") is ALPHA


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ([], "didn't provide an API key"),
        ([("Authorization", "Bearer")], "didn't provide an API key"),
        ([("Authorization", "Bearer ")], "didn't provide an API key"),
        ([("Authorization", f"Basic {KEY}")], "must have the form"),
        ([("Authorization", KEY)], "must have the form"),
        ([bearer(KEY + "x")], "Incorrect API key"),
        ([bearer(KEY.upper())], "Incorrect API key"),
        ([bearer(f"{KEY} {KEY}")], "Incorrect API key"),
        ([bearer("\udcff\udcfe")], "Incorrect API key"),
        ([bearer("x" * 1_000_000)], "Incorrect API key"),
        ([bearer(key_digest(KEY).hex())], "Incorrect API key"),
        ([bearer(KEY), ("api-key", OTHER_KEY)], "2 different API keys"),
        ([bearer(KEY), bearer("nonsense")], "2 different API keys"),
        ([(CLIENT_HEADER, "alpha")], "didn't provide an API key"),
    ],
)
def test_all_others_are_nobody(headers: Headers, says: str) -> None:
    """401 in OpenAI's code; what is said never quotes a key."""
    with pytest.raises(Refusal, match=says) as refused:
        DIRECTORY.identify(headers, "192.0.2.1")

    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")
    assert KEY not in refused.value.message


@pytest.mark.parametrize("peer", ["10.1.2.3", "fd00::1", "::ffff:10.1.2.3"])
def test_a_trusted_proxy_names_the_client(peer: str) -> None:
    """And the key that comes along does not count."""
    assert DIRECTORY.identify([(CLIENT_HEADER, "named"), bearer(KEY)], peer) is NAMED
    for names in (["nobody"], ["*"], [""], ["alpha", "named"], ["a\nb"]):
        with pytest.raises(Refusal):
            DIRECTORY.identify([(CLIENT_HEADER, name) for name in names], peer)


def test_names_may_be_open() -> None:
    """Then each has a scope of its own, and all have one label."""
    one, two = (OPEN.identify([("X-Gateway-Client", name)], "10.0.0.1") for name in ("tenant-1", "tenant-2"))

    assert (one.name, two.name) == ("other", "other")
    assert one.scope == scope_of("tenant-1") != two.scope
    assert one.grants.models == ("gpt-*",)


@pytest.mark.parametrize("peer", ["", "unix", "11.0.0.1", "fe00::1", "::ffff:11.0.0.1", "10.0.0.1.evil"])
def test_other_peers_are_not_trusted(peer: str) -> None:
    assert not is_trusted(peer, PROXIES)


@given(headers=st.lists(st.tuples(st.sampled_from(["Authorization", "api-key", CLIENT_HEADER, "x"]), st.text())))
def test_no_headers_make_somebody_of_nobody(headers: Headers) -> None:
    """Whatever is sent: a client only by its own key."""
    found = None
    with contextlib.suppress(Refusal):
        found = DIRECTORY.identify(headers, "192.0.2.1")

    assert found is None or any((KEY if found is ALPHA else OTHER_KEY) in value for _, value in headers)


def test_every_presented_key_is_hashed_before_it_is_looked_up() -> None:
    """So that how long an answer takes says nothing of how much of a key was right."""
    hashed: list[str] = []

    def digest(key: str) -> bytes:
        hashed.append(key)
        return key_digest(key)

    directory = Directory(DIRECTORY.by_digest, {}, (), digest)
    for headers in ([bearer(KEY)], [bearer(KEY[:-1] + "?")], [bearer("x"), ("api-key", KEY)]):
        with contextlib.suppress(Refusal):
            directory.identify(headers, "")

    assert hashed == [KEY, KEY[:-1] + "?", "x", KEY]


NOTHING = Identity("app", b"", Grants(may=frozenset()))


@pytest.mark.parametrize(
    ("endpoint", "headers", "names"),
    [
        (Endpoint.PASSTHROUGH, [], "passthrough"),
        (Endpoint.SESSIONS, [], "overrides"),
        (Endpoint.CHAT, [("X-Gateway-Budget", "100")], "x-gateway-budget"),
        (Endpoint.CHAT, [("x-gateway-session", "s")], "x-gateway-session"),
        (Endpoint.CHAT, [("x-gateway-client", "s"), ("x-request-id", "r")], None),
        (Endpoint.EMBEDDINGS, [], None),
        (Endpoint.CHAT, [("x-gateway-memory", "m")], "x-gateway-memory"),
        *((endpoint, [("x-gateway-memory", "m")], "facts") for endpoint in sorted(OF_MEMORY, key=str)),
        *((endpoint, [("x-gateway-memory", "m")], "vision") for endpoint in sorted(OF_VISION, key=str)),
    ],
)
def test_what_is_not_granted_is_refused(endpoint: Endpoint, headers: Headers, names: str | None) -> None:
    """In words that name the permission; who has it may."""
    refusal = decide_call(endpoint, headers, NOTHING)

    assert decide_call(endpoint, headers, Identity("app", b"", ALL_GRANTS)) is None
    assert (refusal is None) is (names is None)
    if refusal is not None and names is not None:
        assert refusal.status == 403
        assert names in refusal.message


@pytest.mark.parametrize("endpoint", sorted(OF_MEMORY, key=str))
def test_memory_takes_its_own_permission_alone(endpoint: Endpoint) -> None:
    """A client that may override nothing may name its memory there, and nothing else."""
    client = Identity("app", b"", Grants(may=frozenset({Permission.FACTS})))

    assert decide_call(endpoint, [("X-Gateway-Memory", "m")], client) is None
    assert decide_call(endpoint, [("x-gateway-budget", "5")], client) is not None


@pytest.mark.parametrize("endpoint", sorted(OF_VISION, key=str))
def test_vision_takes_its_own_permission_alone(endpoint: Endpoint) -> None:
    client = Identity("app", b"", Grants(may=frozenset({Permission.VISION})))

    assert decide_call(endpoint, [("X-Gateway-Memory", "m"), ("X-Use-OCR", "true")], client) is None
    assert decide_call(endpoint, [("x-gateway-budget", "5")], client) is not None


def test_models_and_upstreams_go_by_patterns() -> None:
    """A model that one may not use is one that does not exist."""
    grants = Grants(models=("gpt-4o*", "o3"), upstreams=("open*",))
    refusal = decide_model("gpt-5", grants)
    first, second = route_of(), route_of()

    assert decide_model("gpt-4o-mini", grants) is None
    assert refusal is not None
    assert (refusal.status, refusal.code) == (404, "model_not_found")
    assert allowed_routes([first, second], grants) == []
    assert allowed_routes([first], Grants(upstreams=("up*",))) == [first]
    assert allowed_routes([first], ALL_GRANTS) == [first]


def test_scopes_are_of_names() -> None:
    """No name's scope is another's, nor what a request without clients has."""
    assert len({scope_of(name) for name in ("a", "b", "", "a\0b", "default")}) == 5
    assert scope_of("a") == scope_of("a")
    assert key_digest("a") != scope_of("a")


@given(other=st.text("abc ", max_size=5))
def test_no_key_goes_on(other: str) -> None:
    """Neither where keys stand nor where one was repeated."""
    headers = [bearer(KEY), ("X-Copy", f"{other}{KEY}{other}"), ("X-Other", other), ("api-key", KEY)]

    assert without_credentials(headers) == [("X-Other", other)]


@pytest.mark.parametrize("key", ["sk-provider-key-0123456789", "sk-with.special+chars*"])
def test_providers_keys_are_masked(key: str) -> None:
    """In errors that quote them; words that are no secrets stay."""
    body: Any = mask_body(f'{{"error": "Incorrect key {key}, {key}!"}}'.encode(), [key, "EMPTY", ""])

    assert key.encode() not in body
    assert body.count(MASK.encode()) == 2
    assert mask_headers([("www-authenticate", f"key={key}")], [key]) == [("www-authenticate", f"key={MASK}")]
    assert mask_body(b"EMPTY", ["EMPTY"]) == b"EMPTY"
