"""One order of what was found by words and by meaning: reciprocal rank fusion.

A place counts 1 / (60 + place), summed over both lists (Cormack, Clarke, Buettcher: Reciprocal Rank Fusion, SIGIR
2009), as a share of what the first place in every list that was asked would count.

Invariants, each with a test of its own:
  1. Scores are above 0 and at most 1, and never rise along the list.
  2. What is first in all lists has score 1.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.facts.memory import Found, Memory

_FIRST = 60.0


def fuse(found: Iterable[Found]) -> list[tuple[Memory, float]]:
    """Memories, best first, with their scores; of equals the newest first."""
    each = list(found)
    lists = sum(
        any(getattr(one, name) is not None for one in each) for name in ("lexical_rank", "vector_rank")
    )  # a list in which nothing was found is none
    scored = [(one.memory, _worth(one) / max(1, lists)) for one in each]
    return sorted(scored, key=lambda pair: (-pair[1], -pair[0].observed_us, pair[0].id))


def _worth(found: Found) -> float:
    ranks = (found.lexical_rank, found.vector_rank)
    return sum(_FIRST / (_FIRST + rank) for rank in ranks if rank is not None)
