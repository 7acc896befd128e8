"""Which tool results and call arguments are shortened, and to how much: stale ones first, older repeats to a note.

The newest results keep most; how much an older one keeps falls with the number of units after it, and rises where
it holds names that the newest steps use. Pure arithmetic over token counts; `elide_text` does the shortening.

Invariants, each with a test of its own:
  1. Results together take at most the room, or each is down to `MIN_RESULT_TOKENS` or less.
  2. None grows; of identical results only the newest is kept at length.
  3. The plan is a function of what it is given, so a request that holds the same messages plans the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MIN_RESULT_TOKENS = 40
"""A result is not shortened below this: head, tail and a line between."""
REPEAT_TOKENS = 24
"""What the note takes that stands for an older copy."""
_HALF_AFTER = 6
"""A result keeps half as much as the newest when this many units came after it."""
_RELATED_FACTOR = 2.0
_NEWEST_FACTOR = 8.0
"""The newest result is what the next step is about."""


class Result(NamedTuple):
    """A tool result, or the arguments of a call, that may be shortened.

    Attributes:
        number: of its message.
        tokens: what it takes.
        age: how many units came after its own.
        digest: equal for equal results.
        is_related: it holds names that the newest steps use.
    """

    number: int
    tokens: int
    age: int
    digest: bytes
    is_related: bool = False


class Elision(NamedTuple):
    """How a result is shortened: to how many tokens, or to a note that an equal one stands at a later number."""

    tokens: int
    same_as: int | None = None


def note_of_repeat(same_as: int) -> str:
    """What stands in place of a result that comes again later."""
    return f"[the same text as in message {same_as}]"


def plan_elisions(results: Sequence[Result], room_tokens: int) -> dict[int, Elision]:
    """How each result that must be shortened is, by its number; empty when all fit.

    Args:
        results: oldest first.
        room_tokens: what they may take together.
    """
    if sum(result.tokens for result in results) <= room_tokens:
        return {}
    newest = {result.digest: result.number for result in results}
    repeats = {
        result.number: newest[result.digest]
        for result in results
        if newest[result.digest] != result.number and result.tokens > REPEAT_TOKENS
    }
    alone = [result for result in results if result.number not in repeats]
    level = _highest_level(alone, room_tokens - REPEAT_TOKENS * len(repeats))
    plan = {}
    for result in results:
        if result.number in repeats:
            plan[result.number] = Elision(REPEAT_TOKENS, repeats[result.number])
        elif (kept := _kept_at(level, result)) < result.tokens:
            plan[result.number] = Elision(kept)
    return plan


def _highest_level(results: Sequence[Result], room_tokens: int) -> int:
    """The highest level at which they fit, or 0."""
    low, high = 0, max((int(result.tokens / _weight_of(result)) + 1 for result in results), default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(_kept_at(middle, result) for result in results) <= room_tokens:
            low = middle
        else:
            high = middle - 1
    return low


def _kept_at(level: int, result: Result) -> int:
    """What a result keeps at this level; never more than it has."""
    return min(result.tokens, max(MIN_RESULT_TOKENS, int(level * _weight_of(result))))


def _weight_of(result: Result) -> float:
    if not result.age:
        return _NEWEST_FACTOR
    return (_RELATED_FACTOR if result.is_related else 1.0) / (1 + result.age / _HALF_AFTER)
