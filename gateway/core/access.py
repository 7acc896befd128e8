"""Who asks, by key or by a trusted proxy's word, and what that client may do.

Keys are known by their SHA-256 only. A key has 256 random bits, so a digest that leaks gives nothing to guess, and how
long a look-up by digest takes says nothing about any key: each presented key is hashed first, and what is compared are
digests, of which a caller cannot choose a byte. Nothing here quotes a key.

Invariants, each with a test of its own:
  1. Who presents no known key, or two different ones, is nobody.
  2. A name counts only from a peer in `proxies`, and then the key does not.
  3. A client's scope depends on its name alone: a new key finds the old briefs, another name never does.
"""

from __future__ import annotations

import enum
import hashlib
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import msgspec

from gateway.core.errors import Refusal
from gateway.core.routing.routes import Route
from gateway.core.wire.headers import GATEWAY_PREFIX
from gateway.core.wire.overrides import MEMORY_HEADER
from gateway.core.wire.request import OF_MEMORY, OF_VISION, READ_BY_STAGES, Endpoint

CLIENT_HEADER = "x-gateway-client"
DEFAULT_CLIENT = "default"
ANY_NAME = "*"
OTHER = "other"
"""The label of all clients that only a proxy knows: metrics stay bounded."""
_ALL = ("*",)
_UNREAD = frozenset({Endpoint.PASSTHROUGH, Endpoint.REALTIME})
_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}").fullmatch
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Permission(enum.Enum):
    """What a client may do beside calling what is metered; the value is its name in `may`."""

    PASSTHROUGH = "passthrough"
    OVERRIDES = "overrides"
    FACTS = "facts"
    VISION = "vision"


class Grants(msgspec.Struct, frozen=True):
    """What a client may use: patterns of model names and of upstreams' names, permissions, and tokens of a request."""

    models: tuple[str, ...] = _ALL
    upstreams: tuple[str, ...] = _ALL
    may: frozenset[Permission] = frozenset(Permission)
    max_total_tokens: int | None = None


ALL_GRANTS = Grants()


class Identity(msgspec.Struct, frozen=True):
    """A client that was recognised."""

    name: str
    scope: bytes
    grants: Grants = ALL_GRANTS


def scope_of(name: str) -> bytes:
    """What separates a named client's briefs and sessions from all others', own-key clients' included."""
    return hashlib.sha256(b"client\0" + name.encode("utf-8", "surrogatepass")).digest()


def key_digest(key: str) -> bytes:
    """By what a key is known; header bytes that are no UTF-8 are hashed as they came."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True, slots=True)
class Directory:
    """All clients.

    Attributes:
        by_digest: SHA-256 of a key -> whose it is.
        by_name: whom a trusted proxy may name; `*` stands for every other name.
        proxies: from whom `x-gateway-client` counts.
        digest: of a key.
    """

    by_digest: Mapping[bytes, Identity]
    by_name: Mapping[str, Identity]
    proxies: tuple[Network, ...] = ()
    digest: Callable[[str], bytes] = key_digest

    def identify(self, headers: Sequence[tuple[str, str]], peer: str) -> Identity:
        """The client of a request.

        Args:
            headers: as received.
            peer: the address at the other end of the connection, "" if it has none.

        Raises:
            Refusal: 401.
        """
        names, keys = _presented(headers)
        if names and is_trusted(peer, self.proxies):
            return self._named(names)
        if not keys:
            raise _nobody(
                "You didn't provide an API key. You need to provide your API key in an Authorization header using"
                " Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
            )
        found = [self.by_digest.get(self.digest(key)) for key in keys]
        if len(keys) > 1:
            raise _nobody(f"Found {len(keys)} different API keys in this request's headers, expected one.")
        if found[0] is None:
            raise _nobody("Incorrect API key provided. This gateway takes the keys of its own clients only.")
        return found[0]

    def _named(self, names: Sequence[str]) -> Identity:
        if len(names) > 1:
            raise _nobody(f"Found {len(names)} headers {CLIENT_HEADER}, expected one; does the proxy replace it?")
        name = names[0]
        known = self.by_name.get(name) if name != ANY_NAME else None
        if known is not None:
            return known
        others = self.by_name.get(ANY_NAME)
        if others is None or not _is_name(name):
            raise _nobody(f"The header {CLIENT_HEADER} names no client of this gateway.")
        return Identity(OTHER, scope_of(name), others.grants)


def _presented(headers: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """The names and the different keys that a request's headers hold; an empty key is none.

    Raises:
        Refusal: 401, an Authorization of another scheme.
    """
    names: list[str] = []
    keys: list[str] = []
    for header, value in headers:
        lower = header.lower()
        if lower == CLIENT_HEADER:
            names.append(value.strip())
            continue
        if lower == "api-key":
            key = value.strip()
        elif lower == "authorization":
            scheme, _, rest = value.strip().partition(" ")
            if scheme and scheme.lower() != "bearer":
                raise _nobody("The Authorization header must have the form 'Bearer YOUR_KEY'.")
            key = rest.strip()
        else:
            continue
        if key and key not in keys:
            keys.append(key)
    return names, keys


def _nobody(message: str) -> Refusal:
    return Refusal(401, "invalid_api_key", message, headers=[("WWW-Authenticate", "Bearer")])


def is_trusted(peer: str, proxies: Sequence[Network]) -> bool:
    """Whether an address is a trusted proxy's; an IPv4 address within IPv6 is that IPv4 address."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    found = mapped or address
    return any(found in network for network in proxies if network.version == found.version)


def decide_call(endpoint: Endpoint, headers: Sequence[tuple[str, str]], client: Identity) -> Refusal | None:
    """The refusal of a call that the client may not make, or None; the model is not known yet."""
    may = client.grants.may
    if endpoint in _UNREAD and Permission.PASSTHROUGH not in may:
        return _denied(client.name, Permission.PASSTHROUGH, "paths that are passed through")
    if endpoint in OF_MEMORY and Permission.FACTS not in may:
        return _denied(client.name, Permission.FACTS, "facts, contexts and memories")
    if endpoint in OF_VISION and Permission.VISION not in may:
        return _denied(client.name, Permission.VISION, "documents and their regions")
    may_override = Permission.OVERRIDES in may
    if may_override and Permission.FACTS in may:
        return None
    if endpoint is Endpoint.SESSIONS and not may_override:
        return _denied(client.name, Permission.OVERRIDES, "named sessions")
    for lower in (name.lower() for name, _ in headers):
        if lower == MEMORY_HEADER and endpoint in READ_BY_STAGES:
            continue  # it changes no request to a model
        if lower == MEMORY_HEADER and Permission.FACTS not in may:
            return _denied(client.name, Permission.FACTS, f"the header {MEMORY_HEADER}")
        if lower.startswith(GATEWAY_PREFIX) and lower != CLIENT_HEADER and not may_override:
            return _denied(client.name, Permission.OVERRIDES, f"the header {lower[:64]}")
    return None


def _denied(name: str, permission: Permission, what: str) -> Refusal:
    message = f"The client {name!r} may not use {what}: its `may` does not list {permission.value!r}."
    return Refusal(403, "permission_denied", message)


def decide_model(model: str, grants: Grants) -> Refusal | None:
    """The refusal of a model that the client may not use, worded as for one that does not exist."""
    if _matches(model, grants.models):
        return None
    return model_not_found(model)


def decide_socket(model: str | None, grants: Grants, *, is_metered: bool) -> Refusal | None:
    """The refusal of a websocket that the client may not open, or None.

    What is said on it is not read. A client whose models are limited must name its model in the query, and may not
    open one where each message names a model.

    Args:
        model: as the query names it, or None.
        grants: the client's.
        is_metered: the path is that of a metered endpoint.
    """
    if grants.models == _ALL:
        return None
    if model is None or is_metered:
        message = "Your key is for certain models, so a websocket must name one of them in the query of /v1/realtime."
        return Refusal(403, "permission_denied", message, param="model")
    return decide_model(model, grants)


def model_not_found(model: str) -> Refusal:
    """What OpenAI says of models that do not exist and of those that are not one's own (2026-01)."""
    message = f"The model `{model[:200]}` does not exist or you do not have access to it."
    return Refusal(404, "model_not_found", message, param="model")


def allowed_routes(routes: Sequence[Route], grants: Grants) -> Sequence[Route]:
    """Those of the routes whose upstream the client may use, in their order."""
    if grants.upstreams == _ALL:
        return routes
    return [route for route in routes if _matches(route.name, grants.upstreams)]


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return patterns == _ALL or any(fnmatchcase(name, pattern) for pattern in patterns)
