"""Tool definitions as the text that OpenAI's models are shown, which is what tool definitions are billed as.

A namespace in TypeScript's manner, without indentation:

    namespace functions {

    // What the tool does
    type f = (_: {
    // What the parameter is
    city: string,
    days?: 1 | 2, // default: 1
    }) => any;

    } // namespace functions

Titles, descriptions and defaults are comments; a parameter object without any comment is one line; constraints
(`minimum`, `format`, `additionalProperties` ...) are not shown. Unions and arrays whose members carry comments span
lines. Source: 436 recorded requests with tools, 2024-02 to 2026-08 (gpt-4 to gpt-5.6); that long unions and arrays
look as they do is also seen in published prompts of these models (2025-08).

Invariants, each with a test of its own:
  1. Whatever the schema is (recursive, enormous, malformed): a text, or None where rendering it takes more than
     `_MAX_WORK`; never an exception.
  2. No description is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.core.tokens.content import as_json

TOOLS_HEAD: Final = "# Tools\n\n## functions\n\nnamespace functions {\n\n"
TOOLS_TAIL: Final = "\n\n} // namespace functions"
_MAX_WORK: Final = 1_000_000
"""Characters and schemas that are rendered of one request. A reference counts each time that it is followed, so that
a small schema whose references multiply is given up after about a tenth of a second."""
_MAX_DEPTH: Final = 40
_COMMENT = "//"


class TooLarge(Exception):  # noqa: N818 - it is what the schema is
    """More than is rendered."""


class _Allowance:
    """What of `_MAX_WORK` is left."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _MAX_WORK

    def spend(self, work: int) -> None:
        """Take a piece of it.

        Raises:
            TooLarge: nothing is left.
        """
        self._left -= work
        if self._left < 0:
            raise TooLarge


class Manner(NamedTuple):
    """What differs between model families.

    Attributes:
        is_first: gpt-4-0613's and its kin's: no titles, and every object spans lines.
        splits_type_lists: `"type": ["string", "null"]` becomes a union whose members repeat the description.
    """

    is_first: bool = False
    splits_type_lists: bool = False


def render_tools(functions: Sequence[Any], manner: Manner) -> str | None:
    """The whole namespace.

    Args:
        functions: objects with `name`, `description`, `parameters` (or, of a custom tool, `format`).
        manner: of the model's family.

    Returns:
        None where the schemas are too large or are none: what is then billed is best taken for their JSON.
    """
    try:
        allowance = _Allowance()
        known = [function for function in functions if isinstance(function, Mapping)]
        rendered = [_Writer(manner, function, allowance).function() for function in known]
    except (TooLarge, RecursionError):
        return None
    return TOOLS_HEAD + "\n\n".join(rendered) + TOOLS_TAIL if rendered else None


class _Writer:
    """Renders one function, following references within its parameters."""

    def __init__(self, manner: Manner, function: Mapping[str, Any], allowance: _Allowance) -> None:
        self._manner = manner
        self._spend = allowance.spend
        self._function = function
        root = function.get("parameters")
        self._root: Mapping[str, Any] = root if isinstance(root, Mapping) else {}

    def function(self) -> str:
        name, description = self._function.get("name", ""), self._function.get("description")
        lines = comment_lines(description) if isinstance(description, str) and description else []
        custom = self._function.get("format")
        is_custom = self._function.get("type") == "custom" and "parameters" not in self._function
        if isinstance(custom, Mapping) or is_custom:
            lines += _grammar_lines(custom)
            return "\n".join([*lines, f"type {name} = (FREEFORM) => any;"])
        if not _properties(self._root):
            return "\n".join([*lines, f"type {name} = () => any;"])
        head = "".join(line + "\n" for line in self._comments(self._root))
        return "\n".join([*lines, f"type {name} = (_: {head}{self._object(self._root, 0)}) => any;"])

    def _resolved(self, schema: Any, depth: int) -> Mapping[str, Any]:
        """The schema with a reference in it followed; {} for what is no schema."""
        self._spend(8)
        followed = 0
        while isinstance(schema, Mapping) and isinstance(reference := schema.get("$ref"), str):
            target = self._target(reference)
            followed += 1
            if target is None or followed > _MAX_DEPTH or depth > _MAX_DEPTH:
                break
            self._spend(len(target))
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        return schema if isinstance(schema, Mapping) else {}

    def _target(self, reference: str) -> Mapping[str, Any] | None:
        place: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            place = place.get(step) if isinstance(place, Mapping) else None
        return place if isinstance(place, Mapping) else None

    def _comments(self, schema: Mapping[str, Any]) -> list[str]:
        title, description = schema.get("title"), schema.get("description")
        lines: list[str] = []
        if not self._manner.is_first and isinstance(title, str) and title:
            lines.append(f"{_COMMENT} {title}")
        if isinstance(description, str) and description:
            lines += ([_COMMENT] if lines else []) + comment_lines(description)
        self._spend(sum(map(len, lines)))
        return lines

    def _object(self, schema: Mapping[str, Any], depth: int) -> str:
        """An object with properties: one line if nothing in it carries a comment."""
        required = schema.get("required")
        needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
        self._spend(len(needed))
        lines: list[str] = []
        plain: list[str] = []
        is_plain = not self._manner.is_first
        for name, inner in _properties(schema).items():
            field = self._resolved(inner, depth)
            comments = self._comments(field)
            shown = self._type(field, depth + 1)
            mark = "" if name in needed else "?"
            default = f"{_COMMENT} default: {self._json(field['default'])}" if "default" in field else ""
            if shown.startswith("\n"):
                lines += [*comments, *([default] if default else []), f"{name}{mark}:{shown}\n,"]
            else:
                lines += [*comments, f"{name}{mark}: {shown}," + (f" {default}" if default else "")]
            is_plain = is_plain and not (comments or default or "\n" in shown)
            plain.append(f"{name}{mark}: {shown}")
        return "{ " + ", ".join(plain) + " }" if is_plain else "{\n" + "\n".join(lines) + "\n}"

    def _type(self, schema: Mapping[str, Any], depth: int) -> str:
        """A type; one that begins with a line end is a union of several lines."""
        if depth > _MAX_DEPTH:
            return "any"
        if isinstance(values := schema.get("enum"), list) and values:
            return " | ".join(map(self._json, values))
        if "const" in schema:
            return self._json(schema["const"])
        for key in ("anyOf", "oneOf"):
            if isinstance(members := schema.get(key), list) and members:
                return self._union([self._resolved(member, depth) for member in members], depth)
        kind = schema.get("type")
        if isinstance(kind, list) and kind:
            self._spend(len(kind) * len(schema))
            rest = schema if self._manner.splits_type_lists else {**schema, "description": None, "title": None}
            return self._union([{**rest, "type": each} for each in kind], depth)
        return self._single(kind, schema, depth)

    def _single(self, kind: Any, schema: Mapping[str, Any], depth: int) -> str:
        if kind == "array":
            return self._array(schema, depth)
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, depth) if _properties(schema) else "object"
        return kind if kind in ("string", "number", "integer", "boolean", "null") else "any"

    def _array(self, schema: Mapping[str, Any], depth: int) -> str:
        items = schema.get("items")
        if not isinstance(items, Mapping) or not items:
            return "any[]"
        member = self._resolved(items, depth)
        shown = self._type(member, depth + 1)
        comments = self._comments(member)
        if comments or "\n" in shown:
            return "\n".join(["Array<", *comments, shown.lstrip("\n"), ">"])
        return f"({shown})[]" if " | " in shown and not shown.startswith("{") else f"{shown}[]"

    def _json(self, value: Any) -> str:
        shown = as_json(value)
        self._spend(len(shown))
        return shown

    def _union(self, members: Sequence[Mapping[str, Any]], depth: int) -> str:
        shown = [(self._comments(member), self._type(member, depth + 1)) for member in members]
        if not any(comments or "\n" in text for comments, text in shown):
            return " | ".join(text for _, text in shown)
        lines = [line for comments, text in shown for line in (*comments, f" | {text}")]
        return "\n" + "\n".join(lines)


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def comment_lines(text: str) -> list[str]:
    """A text as comment lines: each stripped, blank ones kept as bare marks but for those around the text."""
    lines = [line.strip() for line in text.strip().split("\n")]
    return [f"{_COMMENT} {line}" if line else _COMMENT for line in lines]


def _grammar_lines(custom: Any) -> list[str]:
    """A custom tool's grammar, as it may be shown; `sections.py` adds what is known to be missing."""
    if not isinstance(custom, Mapping) or not isinstance(definition := custom.get("definition"), str):
        return []
    return comment_lines(definition)
