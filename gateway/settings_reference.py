"""config/gateway.yaml and its JSON Schema, made from the options table so that they cannot disagree with it."""

from __future__ import annotations

import json
import textwrap
from typing import Annotated, Any, get_args, get_origin

import msgspec

from gateway.settings import Settings
from gateway.settings_upstreams import UpstreamOptions

_HEADER = """\
# yaml-language-server: $schema=gateway.schema.json
#
# Every option of the gateway at its default. This file is made by `python3 dev.py docs`; copy what you change into a
# file of your own and start with `llm-gateway serve --config FILE` (or LLM_GATEWAY_CONFIG=FILE).
#
# ${NAME} and ${NAME:-default} are replaced by environment variables; GATEWAY__SECTION__KEY=value overrides an option,
# such as GATEWAY__SERVER__PORT=9090. `llm-gateway check --config FILE` says everything that is wrong at once. A changed
# file is applied within server.watch_seconds, or by SIGHUP, whole or not at all; server, rate_limit_store, state,
# facts, vision, cache and telemetry need a restart.
"""
_WIDTH = 116
_EXAMPLE_UPSTREAM = {"name": "openai", "base_url": "https://api.openai.com/v1", "api_key": "${OPENAI_API_KEY:-}"}


def render_schema() -> str:
    """The JSON Schema of a configuration file, for editors."""
    (reference,), components = msgspec.json.schema_components([Settings], ref_template="#/$defs/{name}")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "llm-gateway configuration",
        **reference,
        "$defs": components,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def render_reference() -> str:
    """A YAML file that holds every option at its default, with its help."""
    lines = [_HEADER]
    for field in msgspec.structs.fields(Settings):
        kind, text = _described(field.type)
        if field.name == "upstreams":
            lines += [*_comment(text, 0), "upstreams:", *_example_upstream(), ""]
            continue
        if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
            lines += [*_comment(text, 0), f"{field.name}: {json.dumps(field.default_factory())}", ""]
            continue
        lines += _comment(" ".join((kind.__doc__ or "").split()), 0)
        lines += [f"{field.name}:", *_section(kind, kind(), 2), ""]
    return "\n".join(lines).rstrip() + "\n"


def _example_upstream() -> list[str]:
    """One upstream with every option; in a file it stands in place of the environment's."""
    rendered = _section(UpstreamOptions, msgspec.convert(_EXAMPLE_UPSTREAM, UpstreamOptions), 4)
    first = next(place for place, line in enumerate(rendered) if not line.lstrip().startswith("#"))
    rendered[first] = "  - " + rendered[first].lstrip()
    return rendered[:first] + rendered[first:]


def _section(kind: type[Any], values: Any, indent: int) -> list[str]:
    lines: list[str] = []
    for field in msgspec.structs.fields(kind):
        inner, text = _described(field.type)
        value = getattr(values, field.name)
        if isinstance(value, msgspec.Struct):
            lines += _comment(" ".join((type(value).__doc__ or "").split()), indent)
            lines += [f"{' ' * indent}{field.name}:", *_section(type(value), value, indent + 2)]
            continue
        lines += _comment(" ".join(part for part in (text, _bounds(inner)) if part), indent)
        lines.append(f"{' ' * indent}{field.name}: {json.dumps(value, ensure_ascii=False)}")
    return lines


def _comment(text: str, indent: int) -> list[str]:
    return [f"{' ' * indent}# {line}" for line in textwrap.wrap(text, _WIDTH - indent)] if text else []


def _described(kind: Any) -> tuple[Any, str]:
    """A field's type, and its description."""
    if get_origin(kind) is not Annotated:
        return kind, ""
    inner, *metas = get_args(kind)
    texts = [meta.description for meta in metas if isinstance(meta, msgspec.Meta) and meta.description]
    return inner, " ".join(texts)


def _bounds(kind: Any) -> str:
    """The words that an option takes, if it takes only some."""
    words = [word for part in (kind, *get_args(kind)) for word in _literals(part)]
    return f"One of: {', '.join(map(str, words))}." if len(words) > 1 else ""


def _literals(kind: Any) -> list[Any]:
    return list(get_args(kind)) if str(get_origin(kind)) == "typing.Literal" else []
