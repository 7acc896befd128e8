"""A tool result, a log or a document made shorter by its structure: what is left out is said, what is kept is exact.

JSON keeps its shape: every key, the first and last items of long arrays, the items that stand out. Text keeps whole
lines: its head and tail, lines that report errors, lines that hold wanted names, lines unlike the others. Blobs
(base64 and the like) become a note of their length. Nothing is cut inside a word while there is another way.

Invariants, each with a test of its own:
  1. The result takes at most `max_tokens`, and is never longer than the text; a text that fits comes back as it is.
  2. Same input, same bytes.
  3. Arguments stay a JSON object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from gateway.core.context.elide_json import shorten_json
from gateway.core.context.elide_lines import best_lines
from gateway.core.context.trim import trim_text

CountTokens = Callable[[str], int]
"""Tokens of a text."""
_blob = re.compile(r"(?:data:[\w/+.-]+;base64,)?[A-Za-z0-9+/_-]{240,}={0,2}")
_MIN_ROOM_TOKENS = 8
_MAX_ROUNDS = 6
NO_NAMES: frozenset[str] = frozenset()


def elide_text(
    text: str, max_tokens: int, count_tokens: CountTokens, wanted: Collection[str] = NO_NAMES, recall_id: str = ""
) -> str:
    """The text within a number of tokens.

    Args:
        text: the whole.
        max_tokens: the bound.
        count_tokens: tokens of a text.
        wanted: names, paths and numbers whose lines are worth keeping.
        recall_id: what the whole can be asked for by; "" for nothing.
    """
    total = count_tokens(text)
    if total <= max_tokens:
        return text
    bare = _without_blobs(text)
    note = f"[shortened from {total} tokens{f'; recall id {recall_id}' if recall_id else ''}]\n"
    for lead in (note, ""):
        shorter = _fitted(bare, max_tokens, count_tokens, wanted, lead)
        if shorter and len(shorter) <= len(text):
            return shorter
    trimmed = trim_text(bare, max_tokens, count_tokens)
    return trimmed if len(trimmed) <= len(text) else ""


def elide_arguments(
    arguments: str, max_tokens: int, count_tokens: CountTokens, wanted: Collection[str] = NO_NAMES
) -> str:
    """A tool call's arguments within a number of tokens: still a JSON object, with the same keys where they have room.

    Args:
        arguments: as the model wrote them.
        max_tokens: the bound; a note of about 12 tokens stays in any case, if the arguments are longer than that.
        count_tokens: tokens of a text.
        wanted: names and numbers worth keeping.
    """
    total = count_tokens(arguments)
    if total <= max_tokens:
        return arguments
    value = _parsed(arguments)
    shorter = shorten_json(value, max_tokens, count_tokens, wanted) if isinstance(value, dict) else None
    shorter = shorter or f'{{"shortened": "from {total} tokens"}}'
    return shorter if len(shorter) < len(arguments) else arguments


def _fitted(text: str, max_tokens: int, count_tokens: CountTokens, wanted: Collection[str], lead: str) -> str | None:
    """The lead and the shortened text, within the bound; None where that leaves nothing."""
    room = max_tokens - count_tokens(lead)
    if lead and room < 3 * max_tokens // 4:
        return None
    if (value := _parsed(text)) is not None and (shorter := shorten_json(value, room, count_tokens, wanted)):
        body = lead + shorter
        return body if count_tokens(body) <= max_tokens else None
    chars_a_token = len(text) / (count_tokens(text) or 1)
    for _ in range(_MAX_ROUNDS):
        if room < _MIN_ROOM_TOKENS or not (body := best_lines(text, int(room * chars_a_token), wanted)):
            return None
        tokens = count_tokens(lead + body)
        if tokens <= max_tokens:
            return lead + body
        room = min(room - 4, int(room * max_tokens / tokens))
    return None


def _parsed(text: str) -> Any:
    """The object or array that the text is, or None."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) and value else None


def _without_blobs(text: str) -> str:
    return _blob.sub(lambda found: _blob_note(found[0]), text)


def _blob_note(blob: str) -> str:
    is_path_or_word = blob.count("/") > len(blob) // 12 or blob.isalpha()
    return blob if is_path_or_word else f"{blob[:24]}[… {len(blob)} characters of encoded data …]"
