"""What must hold between the options of vision, and of what they need."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from gateway.core.vision.sources import SourceRules
from gateway.settings import Settings
from gateway.settings_check import Fault, check_endpoint, sqlite_path, without_password
from gateway.settings_vision import Vision

_PACKAGES = {"pypdfium2": "documents are", "rapidocr": "text in pictures is"}
_REMOTE = ("openai", "remote")


def check_vision(
    settings: Settings, faults: list[Fault], find_package: Callable[[str], object] = find_spec
) -> list[str]:
    """Add faults for what contradicts; returns notes for a person."""
    options, notes = settings.vision, list[str]()
    if not options.enabled:
        return notes
    _check_store(settings, faults, notes)
    _check_backend(options, faults)
    _check_fetching(options, faults)
    if not has_vision(settings):
        return notes
    missing = [f"{what} not read" for package, what in _PACKAGES.items() if find_package(package) is None]
    if missing:
        # It is on by default, and a gateway without the extra is a usual one: whoever asks is told by a 503.
        wants = options.backend != "local" or options.url != "memory://"
        notes += [f"vision: {', '.join(missing)} without pip install 'llm-gateway[vision]'."] if wants else []
    return notes


def has_vision(settings: Settings) -> bool:
    """Whether documents are kept with this configuration."""
    options = settings.vision
    return options.enabled and (options.url != "memory://" or settings.server.workers == 1)


def _check_store(settings: Settings, faults: list[Fault], notes: list[str]) -> None:
    url = settings.vision.url
    path = sqlite_path(url)
    if path is not None:
        if url.endswith("/") or path.is_dir():
            faults.append(Fault("vision.url", f"{url!r}, a folder", "the path of a file"))
        elif not path.parent.is_dir():
            notes.append(f"vision.url names {path}, but there is no folder {path.parent} here: nothing would be kept.")
        for name, other in (("state.url", settings.state.url), ("facts.url", settings.facts.url)):
            if path == sqlite_path(other):
                faults.append(Fault("vision.url", f"the file of {name}", "a file of its own"))
    elif url != "memory://":
        expected = '"memory://", or "sqlite:///path/to/file" with an absolute path'
        faults.append(Fault("vision.url", repr(without_password(url)), expected))
    elif not has_vision(settings):
        notes.append("vision.url is memory://, which several workers cannot share: vision is off.")


def _check_backend(options: Vision, faults: list[Fault]) -> None:
    if options.backend in _REMOTE and not options.service_url:
        faults.append(Fault("vision.service_url", "nothing", f"the URL of who reads for backend {options.backend}"))
    elif options.service_url:
        check_endpoint("vision.service_url", options.service_url, (), faults)


def _check_fetching(options: Vision, faults: list[Fault]) -> None:
    fetch = options.fetch
    for name, rows in (("allow", fetch.allow), ("allow_addresses", fetch.allow_addresses)):
        for place, row in enumerate(rows):
            try:
                SourceRules([row], []) if name == "allow" else SourceRules([], [row])
            except ValueError as error:
                expected = "a host, *.host or the beginning of a URL" if name == "allow" else "a network: 10.1.0.0/16"
                faults.append(Fault(f"vision.fetch.{name}[{place}]", str(error), expected))
    if fetch.file_root is not None and not Path(fetch.file_root).is_dir():
        faults.append(Fault("vision.fetch.file_root", repr(fetch.file_root), "a folder that is there"))
