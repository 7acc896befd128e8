"""One order of regions that were found by words and by meaning, and a score that never rises along it.

Pure. The order is reciprocal rank fusion, as of memories (`facts.fusion`): a place counts 1 / (60 + place), summed over
both lists. What two lists say of one region is no number that means anything in another search, so the score is the
greater of the share of the question's words and the cosine, and never less than that of what comes later.

Invariants, each with a test of its own:
  1. What is first in all lists is first; one list alone keeps its order.
  2. Scores are 0 to 1, never below a region's own, and never rise along the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

_FIRST = 60


def fuse_places(by_words: Sequence[int], by_meaning: Sequence[int]) -> list[int]:
    """What is in either list, best first; of equals what words found, then the first kept."""
    worth: dict[int, float] = {}
    for places in (by_words, by_meaning):
        for rank, place in enumerate(places):
            worth[place] = worth.get(place, 0.0) + 1 / (_FIRST + rank)
    lexical = set(by_words)
    return sorted(worth, key=lambda place: (-worth[place], place not in lexical, place))


def scores_in_order(shares: Sequence[float], cosines: Sequence[float | None]) -> list[float]:
    """The score of each, in their order.

    Args:
        shares: of the question's words that each answers, 0 to 1.
        cosines: to the question; None where there is no vector.
    """
    own = [min(1.0, max(share, cosine or 0.0)) for share, cosine in zip(shares, cosines, strict=True)]
    return list(accumulate(reversed(own), max))[::-1]
