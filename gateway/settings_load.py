"""From a YAML file and the environment to `Settings`, with every fault found at once.

Order: the file, `${ENV}` and `${ENV:-default}` expanded in its texts; then `GATEWAY__SECTION__KEY` overrides; then
types and bounds; then `*_file` secrets; then what must hold between options (`settings_check`). A fault names its
path, what was found and what was expected; unknown keys come with the nearest known one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec
import yaml

from gateway.settings import DEMO_URL, LATER, Server, Settings, SummarizerSettings
from gateway.settings_check import Fault, check_settings
from gateway.settings_check_memory import check_memory
from gateway.settings_check_vision import check_vision
from gateway.settings_clients import ClientOptions, RateLimit
from gateway.settings_memory import Embeddings
from gateway.settings_upstreams import UpstreamOptions
from gateway.settings_vision import Vision

ENV_PREFIX = "GATEWAY__"
_variable = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_index = re.compile(r"\[\d+\]")
_SECRET = re.compile(r"(?:api_key|admin_token|key_sha256)$", re.IGNORECASE)


class InvalidSettings(Exception):  # noqa: N818 - it carries faults, plural
    """A configuration that cannot be used; `faults` says why, all of it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration; `notes` are worth a person's attention and no reason to stop.

    `files` are those that it was read from.
    """

    settings: Settings
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not the last one's silent victory."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_settings(path: Path | None, environment: Mapping[str, str]) -> Loaded:
    """Read a configuration.

    Args:
        path: a YAML file, or None for defaults and environment only.
        environment: of the process.

    Raises:
        InvalidSettings: with all faults.
    """
    faults: list[Fault] = []
    tree = _read_file(path) if path else {}
    tree = _expand(tree, "", environment, faults)
    _override(tree, environment, faults)
    if tree.get("upstreams") in (None, []):
        tree["upstreams"] = [_default_upstream(environment)]
    settings = _convert(Settings, tree, "", faults)
    if settings is None:
        raise InvalidSettings(faults)
    settings = _with_secrets(settings, faults)
    notes = check_settings(settings, faults) + check_memory(settings, faults) + check_vision(settings, faults)
    if faults:
        raise InvalidSettings(faults)
    return Loaded(settings, tuple(notes), tuple(_files_of(path, settings)))


def _files_of(path: Path | None, settings: Settings) -> Iterator[Path]:
    if path:
        yield path
    named = [settings.server.admin_token_file, settings.summarizer.api_key_file, settings.vision.api_key_file]
    named += [upstream.api_key_file for upstream in settings.upstreams]
    named += [settings.facts.embeddings.api_key_file] if settings.facts.embeddings else []
    yield from (Path(file) for file in named if file)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise InvalidSettings([Fault(str(path), error.strerror or str(error), "a readable file")]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidSettings([Fault(str(path), " ".join(str(error).split()), "valid YAML")]) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InvalidSettings([Fault(str(path), type(tree).__name__, "a mapping of sections")])
    return tree


def _default_upstream(environment: Mapping[str, str]) -> dict[str, Any]:
    base_url = environment.get("OPENAI_BASE_URL", "")
    key = environment.get("OPENAI_API_KEY", "")
    if not base_url:
        return {"name": "demo", "base_url": DEMO_URL}
    return {"name": "openai", "base_url": base_url, "api_key": key}


class _FromText(str):
    """A text that came from the environment: it may stand for a number or a boolean."""

    __slots__ = ()


def _expand(value: Any, path: str, environment: Mapping[str, str], faults: list[Fault]) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, _join(path, str(key)), environment, faults) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, f"{path}[{i}]", environment, faults) for i, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replaced(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if name not in environment and default is None:
            faults.append(
                Fault(
                    path,
                    f"${{{name}}}",
                    f"the environment variable {name} to be set, or ${{{name}:-default}}",
                )
            )
        return environment.get(name) or default or ""

    return _FromText(_variable.sub(replaced, value))


def _override(tree: dict[str, Any], environment: Mapping[str, str], faults: list[Fault]) -> None:
    """Apply `GATEWAY__A__B=value`; a number in the path picks a list's element."""
    for name in sorted(environment):
        if not name.startswith(ENV_PREFIX):
            continue
        keys = name.removeprefix(ENV_PREFIX).lower().split("__")
        text = environment[name]
        try:
            value = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
        except yaml.YAMLError:
            value = text
        is_tree = isinstance(value, dict | list | bool) or (value is None and text)
        leaf = value if is_tree else _FromText(value if isinstance(value, str) else text)
        if not _put(tree, keys, leaf):
            faults.append(Fault(name, text if not _SECRET.search(name) else "(hidden)", "the path of an option"))


def _put(tree: Any, keys: list[str], value: Any) -> bool:
    for place, key in enumerate(keys):
        is_last = place + 1 == len(keys)
        if isinstance(tree, list):
            if not key.isdigit() or int(key) >= len(tree):
                return False
            if is_last:
                tree[int(key)] = value
            tree = tree[int(key)]
        elif isinstance(tree, dict):
            if is_last:
                tree[key] = value
            elif tree.get(key) is None:
                tree[key] = {}  # a section that is null in the file is one with defaults from here on
            tree = tree[key]
        else:
            return False
    return True


def _convert(kind: type[Any], value: Any, path: str, faults: list[Fault]) -> Any:
    """A section of options from a tree; faults are gathered, and an option at fault is left at its default.

    None stands for a section that cannot be made at all.
    """
    if not isinstance(value, dict):
        faults.append(Fault(path or "the file", _show(path, value), "a mapping"))
        return None
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    faults += [_unknown_key(path, str(key), list(fields)) for key in value if key not in fields]
    found: dict[str, Any] = {}
    for name, field in fields.items():
        here = _join(path, name)
        if name in value:
            converted = _convert_field(field.type, value[name], here, faults)
            if converted is not _AT_FAULT:
                found[name] = converted
        elif field.required:
            faults.append(Fault(here, "nothing", "a value"))
    is_whole = all(name in found for name, field in fields.items() if field.required)
    return kind(**found) if is_whole else None


_AT_FAULT = object()
_LISTS: Mapping[str, type[Any]] = {
    "upstreams": UpstreamOptions,
    "clients": ClientOptions,
    "rate_limits": RateLimit,
}


def _convert_field(kind: Any, value: Any, path: str, faults: list[Fault]) -> Any:
    plain = _plain_type(kind)
    if optional := _optional_section(plain):
        if value is None:
            return None
        plain = optional
    if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
        return _convert(plain, {} if value is None else value, path, faults) or _AT_FAULT
    if path in _LISTS and isinstance(value, list):
        items = [_convert(_LISTS[path], item, f"{path}[{i}]", faults) for i, item in enumerate(value)]
        return [item for item in items if item is not None]
    try:
        return msgspec.convert(_plain(value), kind, strict=not isinstance(value, _FromText))
    except msgspec.ValidationError as error:
        problem, _, inner = str(error).partition(" - at `$")
        expected = problem.removeprefix("Expected ").partition(", got ")[0]
        faults.append(Fault(path + inner.rstrip("`"), _show(path, value), expected))
        return _AT_FAULT


def _plain(value: Any) -> Any:
    if isinstance(value, _FromText):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _plain_type(kind: Any) -> Any:
    return getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind


def _optional_section(kind: Any) -> type[Any] | None:
    """The section, of a type that is a section or null."""
    kinds = [each for each in get_args(kind) if each is not type(None)]
    is_section = len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], msgspec.Struct)
    return kinds[0] if is_section and type(None) in get_args(kind) else None


def _unknown_key(path: str, key: str, known: list[str]) -> Fault:
    here = _join(path, key)
    if _index.sub("[]", here) in LATER:
        return Fault(here, "an option of a later version", "nothing here: this version does not have it yet")
    near = difflib.get_close_matches(key, known, n=1)
    expected = f"a known option; did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}"
    return Fault(here, "an unknown option", expected)


def _with_secrets(settings: Settings, faults: list[Fault]) -> Settings:
    upstreams = [
        _with_file(upstream, "api_key", f"upstreams[{i}]", faults) for i, upstream in enumerate(settings.upstreams)
    ]
    summarizer = _with_file(settings.summarizer, "api_key", "summarizer", faults)
    server = _with_file(settings.server, "admin_token", "server", faults)
    facts = settings.facts
    if facts.embeddings is not None:
        embeddings = _with_file(facts.embeddings, "api_key", "facts.embeddings", faults)
        facts = msgspec.structs.replace(facts, embeddings=embeddings)
    vision = _with_file(settings.vision, "api_key", "vision", faults)
    return msgspec.structs.replace(
        settings, upstreams=upstreams, summarizer=summarizer, server=server, facts=facts, vision=vision
    )


S = TypeVar("S", UpstreamOptions, SummarizerSettings, Server, Embeddings, Vision)


def _with_file(options: S, name: str, path: str, faults: list[Fault]) -> S:
    """The options with a secret read from the file that `<name>_file` names, if it names one."""
    file = getattr(options, f"{name}_file")
    if file is None:
        return options
    if getattr(options, name):
        faults.append(Fault(f"{path}.{name}_file", f"{name} beside it", "one of the two"))
        return options
    try:
        secret = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(f"{path}.{name}_file", f"{file}: {error}", "a readable file"))
        return options
    return msgspec.structs.replace(options, **{name: secret})


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _show(path: str, value: Any) -> str:
    """A value as an error may show it: secrets are not, and what a list or mapping holds may be one."""
    if _SECRET.search(path):
        return "(hidden)"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(_plain(value))
    return text if len(text) <= 80 else text[:77] + "..."
