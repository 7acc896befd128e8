"""What an upstream's error says, in whatever wrapping: the beginnings of its messages, and its codes.

Vendors put the message in `error.message`, `message`, `detail`, `error` or a list of these; gateways put another's
whole answer, as JSON or as a Python text, into their own message, behind names of exceptions. Only beginnings are
given, and only of what stands where an error's message stands: text that an error quotes from a request is never one
of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

_MAX_BODY_BYTES = 65_536
_MAX_CHARS = 1_500
_MAX_DEPTH = 6
_TEXTS = ("message", "error", "detail", "msg", "error_message", "raw")
_INNER = ("error", "errors", "detail", "innererror", "inner_error", "metadata", "provider_specific_fields", "message")
_CODES = ("code", "type", "error_type", "reason")
_NUMBERS = ("n_ctx", "n_prompt_tokens")
_decode = msgspec.json.Decoder().decode

_wrapper = re.compile(
    r"""\s*(?:
        (?:[A-Za-z_]\w*\.)*\w*(?:Error|Exception)\b(?:\s*[:\-]\s*|\s+(?=\w*(?:Error|Exception)\b))
      | Error\ code:\ \d{3}\s*-\s*
      | \d{3}(?:\ Bad\ Request)?:?\s+
      | <\d{3}>\s*
      | (?:[A-Za-z]\w*\.)+InvalidParameter:\s*
      | An\ error\ occurred\ \(\w+\)\ when\ calling\ the\ \w+\ operation:\s*
      | Input\ validation\ error:\s*
      | Invalid\ request:\s*
      | invalid\ params,\s*
      | Cannot\ process\ new\ request:\s*
      | Encountered\ an\ error\ when\ fetching\ new\ request:\s*
    )""",
    re.VERBOSE | re.IGNORECASE,
).match
_message = re.compile(
    r"""(?:b['"])?\s?[\[{][\[{\s]*
    (?:['"](?:error|errors|error_type|type|object|code|status|param|request_id|id)['"]\s?:\s?
       (?:[\[{][\[{\s]*|['"][\w.\-\ ]{0,80}['"]|-?\d{1,9}|null|None)\s?,?\s?){0,8}
    ['"](?:message|error|detail)['"]\s?:\s?b?['"]""",
    re.VERBOSE,
).match
"""To the message of an error that stands in a text, past what else an error has before it, and past nothing else."""
_spaces = re.compile(r"\s+")


class ErrorText(msgspec.Struct, frozen=True):
    """An error as far as it can be read.

    Attributes:
        heads: beginnings of messages, the outermost first, without wrapping, with plain quotes and single spaces.
        codes: whatever stands where codes and types stand, in lower case.
        numbers: what llama.cpp says beside its message, by name.
    """

    heads: tuple[str, ...]
    codes: frozenset[str]
    numbers: Mapping[str, int]


def read_error(body: bytes) -> ErrorText:
    """Read an error's body: its JSON, or as a text what is none."""
    heads: list[str] = []
    codes: set[str] = set()
    numbers: dict[str, int] = {}
    try:
        found = _decode(body) if len(body) <= _MAX_BODY_BYTES else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = {"message": body[:_MAX_CHARS].decode("utf-8", "replace")}
    for tree in _objects(found, 0):
        for name in _TEXTS:
            if isinstance(text := tree.get(name), str):
                heads.extend(_heads(text))
        codes.update(str(tree[name]).lower() for name in _CODES if isinstance(tree.get(name), str | int))
        numbers |= {name: tree[name] for name in _NUMBERS if isinstance(tree.get(name), int)}
    return ErrorText(tuple(heads), frozenset(codes), numbers)


def _objects(found: Any, depth: int) -> Iterator[dict[str, Any]]:
    """An error's objects, outermost first."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(found, list):
        for each in found[:4]:
            yield from _objects(each, depth + 1)
    elif isinstance(found, dict):
        yield found
        for name in _INNER:
            if isinstance(found.get(name), dict | list):
                yield from _objects(found[name], depth + 1)


def _heads(text: str) -> Iterator[str]:
    """The message, and those that it wraps."""
    text = _plain(text)
    for _ in range(_MAX_DEPTH):
        while wrapping := _wrapper(text):
            text = text[wrapping.end() :]
        yield text.strip()
        inner = _message(text)
        if inner is None:
            return
        text = text[inner.end() :]


def _plain(text: str) -> str:
    cut = text[:_MAX_CHARS].replace("\\n", " ").replace("\\", "").replace("’", "'").replace("`", "")
    return _spaces.sub(" ", cut)
