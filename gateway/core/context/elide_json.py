"""A JSON value made shorter and still JSON: every key stays, long arrays and strings lose their middle.

Of an array stay the first items, the last, those that report errors or hold wanted names, and those whose keys or
kinds are unlike the others'; a string between them says how many are missing. Of a text of many lines stay the best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.core.context.elide_lines import best_lines, names_of, reports_error, short_line

_STEPS = tuple((max(1, int(100 * 0.8**step)), max(20, int(40_000 * 0.7**step))) for step in range(26))
"""Items an array keeps and characters a string keeps, from mild to hard."""
_MAX_DEPTH = 40
_MAX_LOOK_CHARS = 4_000


class _Limits(NamedTuple):
    items: int
    chars: int
    wanted: frozenset[str]


def shorten_json(
    value: Any, max_tokens: int, count_tokens: Callable[[str], int], wanted: Collection[str]
) -> str | None:
    """The value as JSON within a number of tokens, shortened about as little as that takes; None where it cannot be.

    Args:
        value: an object or array.
        max_tokens: the bound.
        count_tokens: tokens of a text.
        wanted: names and numbers whose items are worth keeping.
    """

    def shortened(step: int) -> str:
        items, chars = _STEPS[step]
        return msgspec.json.encode(_shorter(value, _Limits(items, chars, frozenset(wanted)), 0)).decode()

    low, high, found = 0, len(_STEPS) - 1, None
    while low <= high:  # the mildest step that fits
        middle = (low + high) // 2
        text = shortened(middle)
        if count_tokens(text) <= max_tokens:
            found, high = text, middle - 1
        else:
            low = middle + 1
    return found


def _shorter(value: Any, limits: _Limits, depth: int) -> Any:
    if isinstance(value, str):
        return _short_string(value, limits)
    if depth > _MAX_DEPTH:
        return "[… nested deeper …]" if isinstance(value, dict | list) else value
    if isinstance(value, dict):
        return {key: _shorter(item, limits, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return _short_array(value, limits, depth)
    return value


def _short_string(text: str, limits: _Limits) -> str:
    if len(text) <= limits.chars + 26:
        return text
    lines = best_lines(text, limits.chars, limits.wanted) if "\n" in text else ""
    return lines or short_line(text, limits.chars)


def _short_array(items: Sequence[Any], limits: _Limits, depth: int) -> list[Any]:
    kept = range(len(items)) if len(items) <= limits.items + 1 else _worth_keeping(items, limits)
    shown: list[Any] = []
    before = -1
    for place in kept:
        if place > before + 1:
            shown.append(f"[… {place - before - 1} more …]")
        shown.append(_shorter(items[place], limits, depth + 1))
        before = place
    if before < len(items) - 1:
        shown.append(f"[… {len(items) - 1 - before} more …]")
    return shown


def _worth_keeping(items: Sequence[Any], limits: _Limits) -> list[int]:
    kinds = [_kind(item) for item in items]
    alike = Counter(kinds)
    ranked = []
    for place, item in enumerate(items):
        text = msgspec.json.encode(item)[:_MAX_LOOK_CHARS].decode(errors="ignore")
        score = 2.0 * bool(reports_error(text)) + min(3, len(limits.wanted.intersection(names_of(text))))
        score += 1.5 * (alike[kinds[place]] * 8 < len(items))
        score += 1.2 * (place == 0) + 1.0 * (place == len(items) - 1)
        ranked.append((-score, place))
    return sorted(place for _, place in sorted(ranked)[: limits.items])


def _kind(item: Any) -> Any:
    return tuple(item) if isinstance(item, dict) else type(item).__name__
