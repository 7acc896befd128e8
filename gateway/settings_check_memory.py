"""What must hold between the options of memory, and of what they need."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from urllib.parse import urlsplit

from gateway.settings import Settings
from gateway.settings_check import Fault, check_endpoint, is_loopback, sqlite_path, without_password

_PACKAGES = {"postgres": "psycopg", "embeddings": "numpy"}
_POSTGRES = ("postgresql", "postgres")


def check_memory(
    settings: Settings, faults: list[Fault], find_package: Callable[[str], object] = find_spec
) -> list[str]:
    """Add faults for what contradicts; returns notes for a person."""
    options, notes = settings.facts, list[str]()
    if not options.enabled:
        return notes
    path = sqlite_path(options.url)
    if is_postgres(options.url):
        _check_postgres(options.url, faults, notes, find_package)
    elif path is not None:
        if options.url.endswith("/") or path.is_dir():
            faults.append(Fault("facts.url", f"{options.url!r}, a folder", "the path of a file"))
        elif not path.parent.is_dir():
            notes.append(f"facts.url names {path}, but there is no folder {path.parent} here: nothing would be kept.")
        if path == sqlite_path(settings.state.url):
            faults.append(Fault("facts.url", "the file of state.url", "a file of its own"))
    elif options.url != "memory://":
        expected = '"memory://", "sqlite:///path/to/file" with an absolute path, or "postgresql://host/database"'
        faults.append(Fault("facts.url", repr(without_password(options.url)), expected))
    elif not has_memory(settings):
        notes.append("facts.url is memory://, which several workers cannot share: memory is off.")
    if options.embeddings is not None:
        _need("facts.embeddings", "embeddings", "embeddings", faults, find_package)
        base_url = options.embeddings.base_url
        check_endpoint("facts.embeddings.base_url", base_url, ("upstream",), faults)
        if base_url == "upstream" and options.embeddings.api_key:
            faults.append(Fault("facts.embeddings.api_key", "(hidden)", "a base_url of its own, whose key it is"))
    return notes


def has_memory(settings: Settings) -> bool:
    """Whether anything is remembered with this configuration."""
    options = settings.facts
    return options.enabled and (options.url != "memory://" or settings.server.workers == 1)


def is_postgres(url: str) -> bool:
    """Whether it names a PostgreSQL."""
    return url.partition("://")[0] in _POSTGRES


def _check_postgres(url: str, faults: list[Fault], notes: list[str], find_package: Callable[[str], object]) -> None:
    shown = repr(without_password(url))
    try:
        parts = urlsplit(url)
        is_url = bool(parts.path.strip("/")) and parts.port != 0 and not parts.fragment
    except ValueError:
        is_url, parts = False, urlsplit("")
    if not is_url:
        expected = "postgresql://[user:password@][host][:port]/database[?option=value]"
        faults.append(Fault("facts.url", shown, expected))
        return
    _need("facts.url", shown, "postgres", faults, find_package)
    if find_package("psycopg") is not None and not _is_conninfo(url):
        faults.append(Fault("facts.url", shown, "options that libpq knows"))
    is_encrypted = any(mode in parts.query for mode in ("sslmode=require", "sslmode=verify"))
    if parts.hostname and not is_loopback(parts.hostname) and not is_encrypted:
        notes.append("facts.url sends what is remembered in the clear where the server allows it: sslmode=verify-full.")


def _is_conninfo(url: str) -> bool:
    """Whether the client reads it, where there is one."""
    try:
        from psycopg import Error, conninfo  # an extra
    except ImportError:
        return True
    try:
        conninfo.conninfo_to_dict(url)
    except Error:
        return False
    return True


def _need(path: str, shown: str, extra: str, faults: list[Fault], find_package: Callable[[str], object]) -> None:
    if find_package(_PACKAGES[extra]) is None:
        expected = f"the extra that it needs: pip install 'llm-gateway[{extra}]'"
        faults.append(Fault(path, f"{shown}, and no package {_PACKAGES[extra]}", expected))
