"""What must hold between options, beyond each one's own type and bounds."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway.core.context.plan import MIN_BRIEF_TOKENS
from gateway.settings import DEMO_URL, Cache, Settings, TokenBudget
from gateway.settings_clients import ClientOptions

SHARES = ("system_tokens", "running_brief", "recent_turns", "retrieved_context", "completion")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a configuration."""

    path: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


def check_settings(settings: Settings, faults: list[Fault]) -> list[str]:
    """Add faults for what contradicts; returns notes for a person, such as settings that work badly together."""
    notes: list[str] = []
    _check_upstreams(settings, faults, notes)
    _check_budget("token_budget", settings.token_budget, faults, notes)
    for pattern in settings.token_budget.models:
        resolve_budget(settings.token_budget, pattern, faults, notes)
    check_endpoint("summarizer.endpoint", settings.summarizer.endpoint, ("upstream", ""), faults)
    _check_clients(settings, faults, notes)
    _check_fallbacks(settings, faults)
    _check_limits(settings, faults, notes)
    check_exposure(settings, faults)
    _check_state(settings.state.url, faults, notes)
    _check_redis(settings.state.url, faults, notes)
    _check_cache(settings.cache, faults, notes)
    _check_prices(settings, faults)
    return notes


def resolve_budget(budget: TokenBudget, pattern: str, faults: list[Fault], notes: list[str]) -> TokenBudget | None:
    """The budget with the overrides of one model pattern, or None if they are at fault."""
    path = f'token_budget.models["{pattern}"]'
    merged = {name: getattr(budget, name) for name in budget.__struct_fields__ if name != "models"}
    try:
        found = msgspec.convert(merged | budget.models[pattern], TokenBudget)
    except msgspec.ValidationError as error:
        faults.append(Fault(path, str(error), "options of token_budget"))
        return None
    _check_budget(path, found, faults, notes)
    return found


def share_tokens(share: int | float, max_total: Any) -> int:
    """A share in tokens; a fraction is of max_total (`auto` counts as 8,000 until the model's window is known)."""
    if isinstance(share, float):
        return int(share * (max_total if isinstance(max_total, int) else 8000))
    return share


def _check_budget(path: str, budget: TokenBudget, faults: list[Fault], notes: list[str]) -> None:
    shares = {name: share_tokens(getattr(budget, name), budget.max_total) for name in SHARES}
    total = sum(shares.values())
    if isinstance(budget.max_total, int) and total > budget.max_total:
        listed = " + ".join(f"{name} {tokens}" for name, tokens in shares.items())
        faults.append(Fault(path, f"{listed} = {total}", f"shares that sum to at most max_total {budget.max_total}"))
    if shares["running_brief"] < MIN_BRIEF_TOKENS:
        notes.append(
            f"{path}.running_brief is {shares['running_brief']}: below {MIN_BRIEF_TOKENS} tokens no brief can say"
            " anything, so older turns are dropped without one."
        )


def _check_upstreams(settings: Settings, faults: list[Fault], notes: list[str]) -> None:
    names: set[str] = set()
    for place, upstream in enumerate(settings.upstreams):
        path = f"upstreams[{place}]"
        if upstream.name in names:
            faults.append(Fault(f"{path}.name", repr(upstream.name), "a name that no other upstream has"))
        names.add(upstream.name)
        check_endpoint(f"{path}.base_url", upstream.base_url, (DEMO_URL,), faults)
        _check_loop(f"{path}.base_url", upstream.base_url, settings, faults)
        if upstream.base_url == DEMO_URL:
            notes.append(
                f"{path} is the built-in demo: it answers from the prompt's own words and is no language model."
            )


def check_endpoint(path: str, url: str, words: tuple[str, ...], faults: list[Fault]) -> None:
    """Add a fault unless this is one of the words or a URL of HTTP without credentials."""
    if url in words:
        return
    expected = "an http:// or https:// URL" + (f" or {words[0]!r}" if words else "")
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or parts.query or parts.fragment:
        faults.append(Fault(path, repr(url), expected))
    elif parts.username or parts.password:
        faults.append(Fault(path, "credentials in the URL", "the key in api_key"))


def _check_loop(path: str, url: str, settings: Settings, faults: list[Fault]) -> None:
    """An upstream that is this gateway's own data port would be asked for ever."""
    parts = urlsplit(url) if "://" in url else None
    server = settings.server
    try:
        port = parts.port if parts else None
    except ValueError:
        return
    if parts and port and port == server.port and (is_loopback(parts.hostname or "") or parts.hostname == server.host):
        faults.append(Fault(path, repr(url), "another address than this gateway's own data port"))


def sqlite_path(url: str) -> Path | None:
    """The file that `sqlite:///path` names, absolute; None for any other URL."""
    found = _sqlite_url(url)
    return Path("/" + found[1]) if found else None


def _check_prices(settings: Settings, faults: list[Fault]) -> None:
    for pattern, row in settings.prices.items():
        path = f'prices["{pattern}"]'
        read = row.cached_input
        if read is not None and not 0 <= read <= row.input:
            faults.append(Fault(f"{path}.cached_input", str(read), f"a price from 0 to that of input, {row.input}"))
        if row.cache_write is not None and not row.cache_write >= (read or 0):
            expected = "a price that is not below that of cached_input"
            faults.append(Fault(f"{path}.cache_write", str(row.cache_write), expected))
        if row.output is not None and not row.output >= 0:
            faults.append(Fault(f"{path}.output", str(row.output), "a price from 0"))


_sqlite_url = re.compile(r"sqlite:///+(?!/)([^?#]+)").fullmatch


def _check_state(url: str, faults: list[Fault], notes: list[str]) -> None:
    path = sqlite_path(url)
    expected = '"memory://", "sqlite:///path/to/file" with an absolute path to a file, or "redis://host:6379/0"'
    if path is None and url != "memory://" and not is_redis(url):
        faults.append(Fault("state.url", repr(without_password(url)), expected))
    elif path is not None and (url.endswith("/") or path.is_dir()):
        faults.append(Fault("state.url", f"{url!r}, a folder", expected))
    elif path is not None and not path.parent.is_dir():
        notes.append(f"state.url names {path}, but there is no folder {path.parent} here: nothing would be kept.")


def is_redis(url: str) -> bool:
    """Whether it names a Redis."""
    return url.startswith(("redis://", "rediss://"))


def limit_store_url(settings: Settings) -> str | None:
    """The Redis that keeps the rate limits, or None where each process keeps its own."""
    named = settings.rate_limit_store.url
    return named or (settings.state.url if is_redis(settings.state.url) else None)


def without_password(url: str) -> str:
    """A URL as an error or a log may show it."""
    return re.sub(r"//.*@", "//(hidden)@", url)


_redis_database = re.compile(r"/?|/\d{1,5}").fullmatch
_redis_options = re.compile(r"(?:ssl_ca_certs|ssl_certfile|ssl_keyfile)=[^=&]+").fullmatch


def _check_redis(
    url: str,
    faults: list[Fault],
    notes: list[str],
    find_package: Callable[[str], object] = find_spec,
    path: str = "state.url",
) -> None:
    if not is_redis(url):
        return
    shown = repr(without_password(url))
    try:
        parts = urlsplit(url)
        is_url = bool(parts.hostname) and parts.port != 0 and bool(_redis_database(parts.path)) and not parts.fragment
        options = parts.query.split("&") if parts.query else []
    except ValueError:
        is_url, options = False, []
    if not is_url or not all(map(_redis_options, options)):
        expected = "redis://[user:password@]host[:port][/database], or rediss:// with ?ssl_ca_certs=FILE at most"
        faults.append(Fault(path, shown, expected))
    elif find_package("redis") is None:
        expected = "the extra that talks to it: pip install 'llm-gateway[redis]'"
        faults.append(Fault(path, f"{shown}, and no package redis", expected))
    elif parts.scheme == "redis" and parts.password and not is_loopback(parts.hostname or ""):
        notes.append(f"{path} sends its password, and what users said, in the clear; rediss:// is TLS.")


def _check_cache(
    cache: Cache, faults: list[Fault], notes: list[str], find_package: Callable[[str], object] = find_spec
) -> None:
    if cache.url != "memory://" and not is_redis(cache.url):
        expected = '"memory://" or "redis://host:6379/0"'
        faults.append(Fault("cache.url", repr(without_password(cache.url)), expected))
    _check_redis(cache.url, faults, notes, find_package, "cache.url")
    if cache.max_answer_bytes > cache.max_bytes:
        expected = f"at most cache.max_bytes, {cache.max_bytes}"
        faults.append(Fault("cache.max_answer_bytes", str(cache.max_answer_bytes), expected))
    if cache.enabled and find_package("aiocache") is None:
        expected = "the extra that keeps answers: pip install 'llm-gateway[cache]'"
        faults.append(Fault("cache.enabled", "true, and no package aiocache", expected))


def _check_clients(settings: Settings, faults: list[Fault], notes: list[str]) -> None:
    _check_proxies(settings, faults, notes)
    names: set[str] = set()
    owners: dict[str, str] = {}
    for place, client in enumerate(settings.clients):
        path = f"clients[{place}]"
        if client.name in names:
            faults.append(Fault(f"{path}.name", repr(client.name), "a name that no other client has"))
        names.add(client.name)
        digests = key_digests(client)
        if not all(map(_is_digest, digests)):
            faults.append(
                Fault(f"{path}.key_sha256", "(hidden)", "SHA-256 in 64 hexadecimal digits, or a list of such")
            )
        if client.name in ("default", "other"):
            faults.append(Fault(f"{path}.name", repr(client.name), "another name: this one is a label of its own"))
        if client.name == "*" and digests:
            faults.append(Fault(f"{path}.key_sha256", "a key of the client '*'", "null: a proxy names these clients"))
        if not digests and not settings.server.trusted_proxies:
            faults.append(Fault(f"{path}.key_sha256", "null", "a digest, or server.trusted_proxies that name it"))
        for digest in digests:
            if owners.setdefault(digest, client.name) != client.name or digests.count(digest) > 1:
                faults.append(Fault(f"{path}.key_sha256", f"the key of {owners[digest]!r}", "a key of its own"))
            if digest == _EMPTY_KEY:
                faults.append(Fault(f"{path}.key_sha256", "the digest of an empty key", "that of a key"))
        notes += [
            f"{path}.upstreams: {pattern!r} matches no upstream."
            for pattern in client.upstreams
            if not any(fnmatchcase(upstream.name, pattern) for upstream in settings.upstreams)
        ]
    if settings.clients:
        notes.extend(
            f"upstreams[{place}] ({upstream.name}) has no api_key, and clients' own keys are never forwarded: it is"
            " called without one."
            for place, upstream in enumerate(settings.upstreams)
            if not upstream.api_key and upstream.base_url != DEMO_URL
        )


_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch
_EMPTY_KEY = hashlib.sha256(b"").hexdigest()


def key_digests(client: ClientOptions) -> list[str]:
    """The SHA-256 of a client's keys, in lower case."""
    given = client.key_sha256
    return [digest.lower() for digest in ([given] if isinstance(given, str) else given or [])]


def _check_fallbacks(settings: Settings, faults: list[Fault]) -> None:
    for pattern, models in settings.fallbacks.items():
        for model in models:
            patterns = [each for upstream in settings.upstreams for each in (*upstream.models, *upstream.model_aliases)]
            if not any(fnmatchcase(model, each) for each in patterns):
                faults.append(Fault(f'fallbacks["{pattern}"]', repr(model), "a model that some upstream serves"))


def _check_limits(settings: Settings, faults: list[Fault], notes: list[str]) -> None:
    known = [client.name for client in settings.clients] or ["default"]
    for place, row in enumerate(settings.rate_limits):
        path = f"rate_limits[{place}]"
        numbers = (row.requests_per_minute, row.tokens_per_minute, row.concurrent_requests, row.tokens_per_day)
        if not any(numbers) and row.cost_per_day_usd is None:
            faults.append(Fault(path, "no limit", "requests_per_minute, tokens_per_minute or another"))
        if not any(fnmatchcase(name, row.client) for name in [*known, "other"]):
            notes.append(f"{path}.client: {row.client!r} matches no client ({', '.join(known)}), so it never holds.")
        if row.cost_per_day_usd is not None and not any(_may_meet(row.model, each) for each in settings.prices):
            notes.append(
                f"{path}.cost_per_day_usd: no row of prices is for {row.model!r}, so its requests cost nothing."
            )
        completion = share_tokens(settings.token_budget.completion, settings.token_budget.max_total)
        least = min(filter(None, (row.tokens_per_minute, row.tokens_per_day)), default=None)
        if least is not None and least < completion:
            notes.append(f"{path}: {least} tokens are less than the {completion} that an answer alone may take.")
    store = settings.rate_limit_store.url
    if store and not is_redis(store):
        faults.append(Fault("rate_limit_store.url", repr(without_password(store)), '"redis://host:6379/0", or ""'))
    _check_redis(store, faults, notes, path="rate_limit_store.url")


def _may_meet(pattern: str, other: str) -> bool:
    """Whether one of two patterns covers the other; those that only overlap are none of ours to find."""
    return fnmatchcase(pattern, other) or fnmatchcase(other, pattern)


def _check_proxies(settings: Settings, faults: list[Fault], notes: list[str]) -> None:
    for place, network in enumerate(settings.server.trusted_proxies):
        try:
            if ipaddress.ip_network(network).prefixlen == 0:
                notes.append(f"server.trusted_proxies[{place}], {network!r}, is everybody: anyone may name any client.")
        except ValueError as error:
            faults.append(Fault(f"server.trusted_proxies[{place}]", f"{network!r} ({error})", "a network"))
    if settings.server.trusted_proxies and not settings.clients:
        notes.append("server.trusted_proxies is of no use without clients.")


def check_exposure(settings: Settings, faults: list[Fault]) -> None:
    """A provider's key must not be anyone's to spend who reaches the port."""
    server = settings.server
    keys = [upstream.api_key for upstream in settings.upstreams] + [settings.summarizer.api_key]
    keys += [settings.facts.embeddings.api_key] if settings.facts.embeddings else []
    has_key = any(keys)
    if has_key and not settings.clients and not server.allow_anonymous and not is_loopback(server.host):
        faults.append(
            Fault(
                "server.host",
                f"{server.host!r} with an upstream's api_key and no clients",
                "a loopback address, clients with keys (`llm-gateway key` makes one), or server.allow_anonymous: true"
                " if anyone who reaches the port may spend the key",
            )
        )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
