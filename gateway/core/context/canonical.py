"""A message's canonical form: what stays the same when a client stores its history and writes it anew.

Clients rewrite what they resend: keys in another order, null fields, a lone text part in place of a string, marks for
the prompt cache, tool arguments parsed and written again, fields that came with an answer. Only the digest is made of
this form; what is forwarded, counted and told in a brief are the client's own bytes.

The same: key order; fields that are null, in the message, its parts, calls and what these hold; a content that is
empty, null or absent; a lone text part and its text; `cache_control` anywhere; the message's own `id`; no calls,
refusal or annotations at all, however that is written; `detail: auto` (the documented default) and an image's URL
without its object; arguments that are the same JSON object, and no arguments (`""`, `{}`); a call's `index`, and its
`type` where that is `function`; the results of parsing (`parsed`, `parsed_arguments`); annotations of an answer; its
recording once it has an id; its thinking, which many clients leave out once the next question is asked.

Not the same: several text parts and their joined text (upstreams render the two differently); whatever else differs.

Invariants, each with a test of its own:
  1. A message and any such rewriting of it have one form.
  2. Two messages of one form have the same role, name, words, parts, refusal, call ids, tools and arguments.
  3. Arguments that are no JSON object, are very long or deep, hold a key twice or a text that is not Unicode, are
     compared letter by letter; numbers are equal only where their exact values are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.core.wire.message import is_deeper

_encode_sorted = msgspec.json.Encoder(order="deterministic").encode

_MESSAGE_ASIDE = frozenset(
    {"cache_control", "id", "annotations", "parsed", "reasoning", "reasoning_content", "reasoning_details"}
    | {"thinking_blocks"}
)
_PART_ASIDE = frozenset({"cache_control", "annotations"})
_CALL_ASIDE = frozenset({"cache_control", "index"})
_FUNCTION_ASIDE = frozenset({"cache_control", "parsed_arguments"})
_MAY_BE_EMPTY = ("content", "tool_calls", "refusal")
_NO_ARGUMENTS = msgspec.Raw(b"{}")
_MAX_ARGUMENT_NESTING = 100
"""Deeper arguments are compared as text: whether they can be parsed would depend on the caller's stack."""
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,9}))?")
_MAX_PLAIN_LENGTH = 40
"""Numbers that take more than this in plain digits are written with a power."""
_MAX_ARGUMENTS_LENGTH = 2**17
"""Longer arguments are compared as text, so that nothing but numbers cannot hold up the event loop."""


def canonical_digest(message: Mapping[str, Any]) -> bytes:
    """SHA-256 of the message's canonical form."""
    return hashlib.sha256(_encode_sorted(_canonical(message))).digest()


def _canonical(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = _without(message, _MESSAGE_ASIDE)
    if isinstance(content := kept.get("content"), list):
        kept["content"] = _canonical_parts(content)
    if calls := kept.get("tool_calls"):
        kept["tool_calls"] = [_canonical_call(call) for call in calls]
    if isinstance(call := kept.get("function_call"), dict):
        kept["function_call"] = _canonical_function(call)
    if isinstance(audio := kept.get("audio"), dict) and audio.get("id"):
        kept["audio"] = {"id": audio["id"]}
    for key in _MAY_BE_EMPTY:
        if key in kept and not kept[key]:
            del kept[key]
    return kept


def _without(fields: Mapping[str, Any], aside: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None and key not in aside}


def _canonical_parts(parts: Sequence[Mapping[str, Any]]) -> str | list[dict[str, Any]]:
    found = [_canonical_part(part) for part in parts]
    if len(found) == 1 and found[0].keys() == {"type", "text"} and found[0]["type"] == "text":
        text: str = found[0]["text"]
        return text
    return found


def _canonical_part(part: Mapping[str, Any]) -> dict[str, Any]:
    kept = _without(part, _PART_ASIDE)
    if isinstance(url := kept.get("image_url"), str):
        kept["image_url"] = {"url": url}
    for key, value in kept.items():
        if isinstance(value, dict):
            kept[key] = _without(value, _PART_ASIDE)
    if isinstance(image := kept.get("image_url"), dict) and image.get("detail") == "auto":
        del image["detail"]
    return kept


def _canonical_call(call: Mapping[str, Any]) -> dict[str, Any]:
    kept = _without(call, _CALL_ASIDE)
    if isinstance(function := kept.get("function"), dict):
        kept["function"] = _canonical_function(function)
        if kept.get("type") == "function":
            del kept["type"]
    elif isinstance(custom := kept.get("custom"), dict):
        kept["custom"] = _without(custom, _CALL_ASIDE)
    return kept


def _canonical_function(function: Mapping[str, Any]) -> dict[str, Any]:
    kept = _without(function, _FUNCTION_ASIDE)
    kept["arguments"] = _canonical_arguments(kept.get("arguments", ""))
    return kept


def _canonical_arguments(text: Any) -> Any:
    """Arguments as one JSON object in its only writing; the text itself where they are none."""
    if not isinstance(text, str):
        return text
    if not text or text == "{}":
        return _NO_ARGUMENTS
    if len(text) > _MAX_ARGUMENTS_LENGTH:
        return text
    try:
        tree = _parse_arguments(text)
        brackets = text.count("{") + text.count("[")
        if not isinstance(tree, dict) or (brackets > _MAX_ARGUMENT_NESTING and is_deeper(tree, _MAX_ARGUMENT_NESTING)):
            return text
        return msgspec.Raw(_encode_sorted(tree))
    except (ValueError, RecursionError):
        return text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key is there twice")
    return fields


def _integer(digits: str) -> msgspec.Raw:
    return msgspec.Raw(digits.encode())


def _decimal(literal: str) -> msgspec.Raw:
    """A number's exact value, written in one way: plainly where that is short, else as digits and a power."""
    has_power = "e" in literal or "E" in literal
    if not has_power and literal[-1] != "0" and len(literal) <= _MAX_PLAIN_LENGTH:
        return msgspec.Raw(literal.encode())
    found = _NUMBER.fullmatch(literal)
    if found is None:
        return msgspec.Raw(literal.encode())
    sign, whole, fraction, power = found[1], found[2], found[3] or "", int(found[4] or 0)
    digits = (whole + fraction).lstrip("0")
    shortest = digits.rstrip("0")
    if not shortest:
        return msgspec.Raw(f"{sign}0".encode())
    power += len(digits) - len(shortest) - len(fraction)
    plain_length = len(sign) + (len(shortest) + power if power >= 0 else max(len(shortest), 1 - power) + 1)
    if plain_length > _MAX_PLAIN_LENGTH:
        return msgspec.Raw(f"{sign}{shortest}e{power}".encode())
    if power >= 0:
        return msgspec.Raw(f"{sign}{shortest}{'0' * power}".encode())
    padded = shortest.rjust(1 - power, "0")
    return msgspec.Raw(f"{sign}{padded[:power]}.{padded[power:]}".encode())


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_parse_arguments = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_decimal, parse_constant=_no_number
).decode
