"""JSON that was sent to be remembered, read strictly: what two parsers could read differently is refused.

No key may stand twice at any depth, no number is NaN or infinite, no text holds NUL or half of a surrogate pair, and
what is nested deeper than a parser can follow is no JSON here. Fields are then held against a struct's types and
bounds; whatever is wrong is told with the field's path, what was expected, and what was found.

Invariants, each with a test of its own:
  1. Any bytes give a value or a 400.
  2. What is said of a fault shows no more than a few characters of what was sent, and no secret.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn, TypeVar

import msgspec

from gateway.core.context.secrets import mask_secrets
from gateway.core.errors import Refusal

S = TypeVar("S")
_SHOWN_CHARS = 48
_bad_char = re.compile("[\0\ud800-\udfff]").search
_may_hold_bad_char = re.compile(r"\\u(?:0000|[dD][89a-fA-F])").search
_place = re.compile(r" - at `(?:key in )?\$([^`]*)`$").search
_missing = re.compile(r"^Object missing required field `([^`]+)`").match
_unknown = re.compile(r"^Object contains unknown field `([^`]+)`").match
_steps = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\.\.\.)\]").findall


class _Twice(Exception):  # noqa: N818 - what is wrong, and never seen outside
    """A key stands twice in one object."""


def invalid(message: str, field: str = "", expected: str = "", found: str = "", status: int = 400) -> Refusal:
    """The refusal of what a request says.

    Args:
        message: for a person.
        field: at fault, as a path, "" for the whole.
        expected: there.
        found: there.
        status: HTTP's.
    """
    told = {"field": field, "expected": expected, "found": found}
    details = {name: value for name, value in told.items() if value}
    return Refusal(status, "invalid_value", message, param=field or None, details=details)


def wrong_field(field: str, expected: str, found: str) -> Refusal:
    """A 400 about one field."""
    return invalid(f"`{field}` must be {expected}, found {found}.", field, expected, found)


def read_json(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        Refusal: 400, it is none, or is one that parsers disagree about.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _no_json(f"it is not UTF-8 at byte {error.start}") from None
    if not text.strip(" \t\r\n"):
        raise _no_json("it is empty")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
        if _may_hold_bad_char(text):
            _check_texts(value, "")
    except _Twice as twice:
        raise wrong_field(str(twice), "sent once", "the key twice in one object") from None
    except RecursionError:
        raise _no_json("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _no_json(f"{error.msg} at character {error.pos}") from None
    except ValueError:
        raise _no_json("it holds a number of thousands of digits") from None
    return value


def read_fields(value: Any, kind: type[S]) -> S:
    """A JSON value as this struct.

    Raises:
        Refusal: 400, naming the field at fault.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _wrong(str(error), value, kind) from None
    except RecursionError:
        raise _no_json("it is nested too deeply") from None


def _no_json(why: str) -> Refusal:
    return invalid(f"JSON was expected, and {why}.", expected="JSON in UTF-8", found=why)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Twice(next(_shortened(key) for place, key in enumerate(keys) if key in keys[:place]))
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise _no_json(f"{name} is no JSON number")


def _check_texts(value: Any, path: str) -> None:
    if isinstance(value, str):
        if bad := _bad_char(value):
            found = "U+0000" if bad[0] == "\0" else "half of a surrogate pair"
            raise wrong_field(path or "$", "text that can be stored", f"{found} at character {bad.start()}")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key, f"{path}.(key)" if path else "(key)")
            _check_texts(item, f"{path}.{_shortened(key)}" if path else _shortened(key))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            _check_texts(item, f"{path}[{place}]")


def _wrong(text: str, value: Any, kind: type[Any]) -> Refusal:
    """From what msgspec says of a value to what the gateway says."""
    place = _place(text)
    path = place[1].lstrip(".") if place else ""
    problem = text[: place.start()] if place else text
    if named := _missing(problem) or _unknown(problem):
        field = _shortened(f"{path}.{named[1]}" if path else named[1])
        if problem.startswith("Object missing"):
            return invalid(f"`{field}` is missing.", field, "a value", "nothing")
        return invalid(f"`{field}` is no field that is known here.", field, "a known field", "another one")
    expected = problem.removeprefix("Expected ").partition(", got ")[0]
    for name, plain in _PLAIN.items():
        expected = expected.replace(f"`{name}`", plain)
    if problem.startswith("Invalid RFC3339"):
        expected = "a time as in RFC 3339, such as 2025-01-31T12:00:00Z"
    elif problem.startswith("Number out of range"):
        expected = "a value in its bounds"
    elif problem.startswith("Invalid enum"):
        expected = _words_at(kind, path)
    found = _shown(_at(value, path))
    if not path:
        return invalid(f"JSON that is {expected} was expected, found {found}.", "", expected, found)
    return wrong_field(_shortened(path), expected, found)


_PLAIN = {
    "str | null": "a string or null",
    "float | null": "a number or null",
    "int | null": "a whole number or null",
    "object | null": "an object or null",
    "array | null": "a list or null",
    "datetime | null": "a time as in RFC 3339, or null",
    "str": "a string",
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "datetime": "a time as in RFC 3339",
}


def _words_at(kind: type[Any], path: str) -> str:
    """The words that may stand at a path of a struct."""
    found: Any = msgspec.inspect.type_info(kind)
    for key, _ in _steps(path):
        found = next((each for each in _parts_of(found) if not isinstance(each, msgspec.inspect.NoneType)), found)
        if isinstance(found, msgspec.inspect.StructType):
            found = next((field.type for field in found.fields if field.encode_name == key), found)
        elif isinstance(found, msgspec.inspect.ListType):
            found = found.item_type
    words = [
        str(member.value)
        for each in _parts_of(found)
        if isinstance(each, msgspec.inspect.EnumType)
        for member in each.cls
    ]
    return f"one of {', '.join(words)}" if words else "one of the words that it takes"


def _parts_of(kind: Any) -> tuple[Any, ...]:
    return tuple(kind.types) if isinstance(kind, msgspec.inspect.UnionType) else (kind,)


def _at(value: Any, path: str) -> Any:
    """What stands at a path; the value itself where it leads nowhere."""
    for key, index in _steps(path):
        try:
            value = value[key] if key else value[int(index)]
        except (KeyError, IndexError, ValueError, TypeError):
            return value
    return value


def _shown(value: Any) -> str:
    """A value as an error may show it."""
    if isinstance(value, str):
        return json.dumps(mask_secrets(value)) if len(value) <= _SHOWN_CHARS else f"{len(value):,} characters"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        return _shortened(repr(value) if abs(value) < 10**_SHOWN_CHARS else "a number of many digits")
    return f"a list of {len(value):,}" if isinstance(value, list) else "an object"


def _shortened(text: str) -> str:
    """A path or key, as an error may show it."""
    plain = mask_secrets(_without_bad("?", text[: 2 * _SHOWN_CHARS]))
    return plain if len(plain) <= _SHOWN_CHARS else plain[: _SHOWN_CHARS - 3] + "..."


_without_bad = re.compile("[\0-\x1f\ud800-\udfff]").sub
