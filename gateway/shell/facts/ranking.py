"""Which memories of a scope to look at for a question, and in what order they answer it: BM25 at a bounded cost.

Pure. Looking at all that holds a frequent word would make a search as slow as its scope is large. So the words are
counted up to `MAX_COUNTED`, and looked up from the rarest on until `MAX_POSTINGS` entries are read; of what no longer
fits, only the newest are read. The `CANDIDATES` that hold the most, weighed by rarity, are scored by BM25 with all
words of the question, also those that were not looked up. A word that has to match exactly weighs double.

Invariants, each with a test of its own:
  1. What a search reads is bounded, whatever the question and the scope.
  2. Where all words are rarer than the bound, the order is that of BM25 over all that hold any of them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from gateway.core.facts.memory import Found, Memory, Sought

MAX_TERMS = 48
"""A question is asked by so many terms: the exact ones, then the most important."""
MAX_COUNTED = 512
MAX_POSTINGS = 4096
_LEAST_POSTINGS = 64
"""Of each word at least so many of the newest are read."""
CANDIDATES = 128
WIDE_SCOPE = 3_000
"""Up to so many memories in a scope a rough search returns all that was asked for; above, at most `CANDIDATES`."""
_FREQUENT_SHARE = 0.05
"""Of a large scope's memories, those that hold a word that was not counted to the end, as far as weight goes."""
_EXACT_WEIGHT = 2.0
_K1, _B = 1.2, 0.75


class Lookup(NamedTuple):
    """A word to look up: what a memory that holds it gets for it, and how many of the newest to read."""

    term: int
    weight: float
    take: int


def terms_to_ask(sought: Sought) -> list[int]:
    """The terms of a question that are asked at all."""
    exact = [term for term in sought.terms if term in sought.exact]
    others = [term for term in sought.terms if term not in sought.exact]
    return list(dict.fromkeys(exact + others))[:MAX_TERMS]


def in_all(by_class: Mapping[tuple[int, int], int], terms: Sequence[int], classes: Sequence[int]) -> dict[int, int]:
    """How many memories of any class hold each term, up to `MAX_COUNTED`."""
    return {term: min(sum(by_class.get((term, class_), 0) for class_ in classes), MAX_COUNTED) for term in terms}


def weigh(counts: Mapping[int, int], exact: Collection[int], memories: int) -> dict[int, float]:
    """What each word counts for.

    Args:
        counts: how many memories hold each, up to `MAX_COUNTED`.
        exact: words that weigh double.
        memories: how many there are in the scope, about.
    """
    weights = {}
    for term, count in counts.items():
        holding = count if count < MAX_COUNTED else max(count, int(memories * _FREQUENT_SHARE))
        rarity = math.log(1 + (max(memories, holding) - holding + 0.5) / (holding + 0.5))
        weights[term] = rarity * (_EXACT_WEIGHT if term in exact else 1.0)
    return weights


def plan_lookups(counts: Mapping[int, int], weights: Mapping[int, float], *, is_rough: bool = False) -> list[Lookup]:
    """What to read: the rarest whole, of the others the newest, as far as the bound allows."""
    left, lookups = MAX_POSTINGS // 2 if is_rough else MAX_POSTINGS, list[Lookup]()
    by_rarity = sorted((term for term, count in counts.items() if count), key=lambda term: -weights[term])
    for at, term in enumerate(by_rarity):
        is_whole = counts[term] < MAX_COUNTED
        # What a frequent word may take leaves something for each of those that come after it.
        room = left - _LEAST_POSTINGS * (len(by_rarity) - at - 1)
        take = max(_LEAST_POSTINGS, min(room, counts[term] if is_whole else MAX_POSTINGS))
        lookups.append(Lookup(term, weights[term], take))
        left = max(0, left - min(take, counts[term] if is_whole else take))
    return lookups


def scored_whole(limit: int) -> int:
    """How many are scored with all words, for so many to be returned."""
    return max(CANDIDATES, min(4 * limit, limit + CANDIDATES))


def found_roughly(limit: int, memories: int) -> int:
    """How many of a scope's memories a rough search returns: of a large scope those that are asked for are few, and
    what stands beside them is seldom there.
    """
    return limit if memories <= WIDE_SCOPE else min(limit, CANDIDATES)


def best(scores: Mapping[int, float], limit: int) -> list[int]:
    """So many of the best, best first: of equals the newest."""
    return [number for _, number in heapq.nlargest(limit, zip(scores.values(), scores, strict=True))]


def rank(candidates: Mapping[int, Sequence[int]], weights: Mapping[int, float]) -> list[int]:
    """The candidates that hold any of the words, best first; of equals the newest first.

    Args:
        candidates: the terms of each, repeats included, by number.
        weights: of the words.
    """
    if not candidates:
        return []
    mean = sum(map(len, candidates.values())) / len(candidates) or 1.0
    scores: dict[int, float] = {}
    for number, terms in candidates.items():
        times: dict[int, int] = {}
        for term in terms:
            if term in weights:
                times[term] = times.get(term, 0) + 1
        if times:
            damping = _K1 * (1 - _B + _B * len(terms) / mean)
            scores[number] = sum(weights[term] * n * (_K1 + 1) / (n + damping) for term, n in times.items())
    return sorted(scores, key=lambda number: (-scores[number], -number))


def found_by(
    lexical: Sequence[int], nearest: Mapping[int, float], memories: Mapping[int, Memory], limit: int
) -> list[Found]:
    """What was found by words, then by vector, both best first; what is in both comes once, with both its places.

    Args:
        lexical: numbers of what was found by words.
        nearest: cosines of what was found by vector, by number.
        memories: by number.
        limit: of each.
    """
    by_words = {number: place for place, number in enumerate(lexical[:limit])}
    by_vector = {number: place for place, number in enumerate(islice(nearest, limit))}
    return [
        Found(memories[number], by_words.get(number), by_vector.get(number), nearest.get(number))
        for number in dict.fromkeys([*by_words, *by_vector])
    ]
