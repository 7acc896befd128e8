"""Which web pages may call: a page in a browser must not spend a laptop's key.

Requests with an `Origin` that is not listed are refused; on a loopback address also those whose `Host` is another
name, which is how DNS rebinding shows. Programs send no Origin and are not concerned.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from gateway.core.errors import Refusal


@dataclass(frozen=True, slots=True)
class OriginRules:
    """`allowed` origins (`https://app.example`, or `*`); `is_loopback`: the server listens on a loopback address."""

    allowed: frozenset[str]
    is_loopback: bool


def decide_origin(origin: str | None, host: str | None, rules: OriginRules) -> Refusal | None:
    """The refusal that these headers deserve, or None."""
    if origin is not None and origin not in rules.allowed and "*" not in rules.allowed:
        return Refusal(
            403,
            "origin_not_allowed",
            f"Requests from the web page {origin[:200]!r} are refused; server.allowed_origins lists who may call.",
        )
    if rules.is_loopback and host is not None and not is_loopback_authority(host):
        return Refusal(
            403,
            "host_not_allowed",
            f"The Host header names {host[:200]!r}, but this gateway listens on a loopback address only.",
        )
    return None


def host_of(authority: str) -> str:
    """The host of `host`, `host:port` or `[v6]:port`."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.rpartition(":")[0] if authority.count(":") == 1 else authority


@lru_cache(maxsize=1024)
def is_loopback_authority(authority: str) -> bool:
    """Whether a Host header can only mean this machine."""
    return is_loopback_host(host_of(authority))


def is_loopback_host(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
