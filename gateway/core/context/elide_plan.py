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


def plan_elisions(results: Sequence[Result], room_tokens: int) -> dict[int, int]:
    """How many tokens each result that must be shortened keeps, by its number; empty when all fit.

    Args:
        results: oldest first.
        room_tokens: what they may take together.
    """
    if sum(result.tokens for result in results) <= room_tokens:
        return {}
    newest = {result.digest: result.number for result in results}
    caps: dict[int, int] = {}
    weights: dict[int, float] = {}
    for result in results:
        if newest[result.digest] != result.number and result.tokens > REPEAT_TOKENS:
            caps[result.number], weights[result.number] = REPEAT_TOKENS, 0.0
        else:
            caps[result.number] = result.tokens
            weight = (_RELATED_FACTOR if result.is_related else 1.0) / (1 + result.age / _HALF_AFTER)
            weights[result.number] = weight if result.age else _NEWEST_FACTOR

    def kept(level: int) -> dict[int, int]:
        """What each keeps at this level."""
        return {
            number: min(cap, max(min(cap, MIN_RESULT_TOKENS), int(level * weights[number])))
            for number, cap in caps.items()
        }

    low, high = 0, max(int(result.tokens * (1 + result.age / _HALF_AFTER)) for result in results) + 1
    while low < high:  # the highest level at which they fit
        middle = (low + high + 1) // 2
        if sum(kept(middle).values()) <= room_tokens:
            low = middle
        else:
            high = middle - 1
    plan = kept(low)
    return {result.number: plan[result.number] for result in results if plan[result.number] < result.tokens}
