"""Which passages of folded messages the latest user message needs: lexical ranking, no model, deterministic.

BM25 over stems, numbers, paths and identifiers; then once more with the terms that the best passages have in common
(feedback), because an answer rarely uses the question's own words. A passage shares its worth with its neighbours,
because what is asked and what is answered stand side by side. Whoever the question names, or asks about, counts more.
The weights were chosen on recorded conversations with every second one held out; within broad ranges they
matter little.

Invariants, each with a test of its own:
  1. Same input, same scores; the order of hashing plays no part.
  2. Without a term in common, nothing is found.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from heapq import nlargest
from operator import add
from typing import NamedTuple

from gateway.core.context.recall_pool import Pool
from gateway.core.context.terms import name_terms, terms_of

_NEIGHBOURS = (0.5, 0.3, 0.15)
"""What a passage lends to those one, two and three places away."""
_FEEDBACK_PASSAGES = 10
_FEEDBACK_TERMS = 30
_FEEDBACK_WEIGHT = 0.3
_BEST = 5
_FLOOR = 0.2
"""Of one of the best scores: what a full passage counts though it shares no term, once others do."""
_NEAR_FLOOR = 0.1
"""The same where vectors say more about what shares no word."""
_NEAR_WEIGHT = 1.0
"""Of one of the best scores, what one of the nearest passages gains, for itself and its neighbours,"""
_NEAR_ITSELF_WEIGHT = 0.5
"""and once more for itself."""
_LEAST_NEAR, _LEAST_SPAN = 2, 1e-6
_MOST_CLOSE = 5.0
"""Where one stands out among many that are equally far."""
_SPEAKER_FACTOR = 3.0
_SPEAKER_NAME_WEIGHT = 0.1
"""The name of a speaker is in the label; in the text it is more often an address."""
_USER_FACTOR = 3.0
"""What users said is short, is what they ask about, and nobody can generate it again."""
_ASSISTANT_FACTOR = 2.0
_ONLY_ASKS_FACTOR = 0.8
_HARD_FACTOR = 1.5
_HEADING_WEIGHT = 0.3
_RECENCY = 0.1
SHORT_QUERY_TERMS = 4
_CONTEXT_WEIGHT = 0.3
_STEP_WEIGHT = 0.5

_asks_assistant = re.compile(
    r"(?=[ydhsrme你您言勧す提قاأذ])(?:"  # what any of these begins with: looked for first, for speed
    r"\byou(?:['’]ve| have| had| just)?(?: \w+ly| already)? (?:said|suggested|recommended|mentioned|told|gave|wrote"
    r"|proposed|listed|explained|showed|answered|advised|described|provided|came up with)\b"
    r"|\bdid you (?:\w+ly )?(?:say|suggest|recommend|mention|tell|give|write|propose|list|explain|show|answer)\b"
    r"|\byour (?:(?:first|last|earlier|previous) )?(?:answer|advice|suggestions?|recommendations?|explanation)\b"
    r"|\b(?:hast du|du hast|haben sie|sie haben)\b.*\b(?:gesagt|empfohlen|vorgeschlagen|erwähnt|geschrieben|gezeigt)\b"
    r"|\b(?:dijiste|recomendaste|sugeriste|mencionaste|explicaste|escribiste)\b"
    r"|[你您](?:刚才|之前|上次)?(?:说过|說過|建议|建議|推荐|推薦|提到|写的|寫的|给我的|給我的)"
    r"|(?:言った|言って|勧めて|すすめて|提案し)"
    r"|(?:قلت|اقترحت|أوصيت|ذكرت))",
    re.IGNORECASE,
).search
_words = re.compile(r"[^\W_]+").findall


class Query(NamedTuple):
    """What is looked for.

    Attributes:
        weights: by term.
        words: the words that the terms come from, for the receipt.
        named: all words of it in lower case, to find speakers by.
        asks_assistant: it asks what the assistant said.
    """

    weights: Mapping[int, float]
    words: Mapping[int, str]
    named: Set[str]
    asks_assistant: bool


def query_of(latest: str, before: Callable[[], str] | None = None, names: Sequence[str] = ()) -> Query:
    """The query of a user message.

    Args:
        latest: its text.
        before: reads what was said just before it, which counts only where the message itself says little.
        names: paths, identifiers and numbers that the newest steps of an agent use, beyond the message.
    """
    said = name_terms(latest)
    weights = dict.fromkeys(said.words, 1.0)
    words = said.words
    if before is not None and len(weights) < SHORT_QUERY_TERMS:
        around = name_terms(before())
        weights |= {term: _CONTEXT_WEIGHT for term in around.words if term not in weights}
        words = {**around.words, **words}
    weights |= dict.fromkeys(said.hard, _HARD_FACTOR)
    for name in names:
        for term in terms_of(name):
            if term not in weights:
                weights[term] = _STEP_WEIGHT
                words[term] = name
    named = frozenset(_words(latest.lower()))
    return Query(weights, words, named, bool(_asks_assistant(latest)))


def rank_passages(query: Query, pool: Pool, near: Sequence[float | None] | None = None) -> list[float] | None:
    """What each passage of the pool is worth for the room that it takes, in its order; None where none shares a term
    with the query, and none is known to be near.

    Args:
        query: what is looked for.
        pool: folded messages.
        near: the cosine of each passage's vector to the question's, None for a passage without one.
    """
    weights = {term: weight for term, weight in query.weights.items() if term in pool.postings}
    closeness = closeness_of(near) if near is not None else None
    if not weights and closeness is None:
        return None
    speakers = _speakers_of(query, pool)
    for name in speakers.named_terms & weights.keys():
        weights[name] = _SPEAKER_NAME_WEIGHT
    scores = pool.bm25({term: weight * pool.rarity_of(term) for term, weight in weights.items()})
    who = (speakers.named, query.asks_assistant)
    factors, gains = pool.memo.factors_of(who, partial(_factors, pool, *who))
    told = _with_feedback(pool, scores, factors, query.weights)
    if closeness is not None:
        told = _raised(told, _NEAR_WEIGHT, [near * near for near in closeness])
    scores = _with_neighbours(_with_headings(told, query, pool))
    if closeness is not None:
        scores = _raised(scores, _NEAR_ITSELF_WEIGHT, closeness)
    floor = (_FLOOR if closeness is None else _NEAR_FLOOR) * nlargest(_BEST, scores)[-1]
    return [
        (score + floor * fullness) * gain for score, fullness, gain in zip(scores, pool.fullness, gains, strict=True)
    ]


def closeness_of(near: Sequence[float | None]) -> list[float] | None:
    """How near each passage is, on a scale from the middle one, 0, to the best ones, about 1 and at most
    `_MOST_CLOSE`; None where two or fewer are known.

    Args:
        near: cosines, None where there is none.
    """
    known = sorted(cosine for cosine in near if cosine is not None)
    if len(known) <= _LEAST_NEAR:
        return None
    half = len(known) // 2
    middle, best = known[half], known[max(half + 1, len(known) - _BEST)]
    span = max(best - middle, (known[-1] - middle) / _MOST_CLOSE, _LEAST_SPAN)
    return [0.0 if cosine is None else max(0.0, (cosine - middle) / span) for cosine in near]


def _raised(scores: Sequence[float], weight: float, closeness: Sequence[float]) -> list[float]:
    """The scores with nearness added, so that one of the nearest gains a share of one of the best."""
    gain = weight * (nlargest(_BEST, scores)[-1] or 1.0)
    return [score + gain * near for score, near in zip(scores, closeness, strict=True)]


def _with_feedback(
    pool: Pool, scores: Sequence[float], factors: Sequence[float], asked: Mapping[int, float]
) -> Sequence[float]:
    """The scores and what passages share with the best ones beyond the query itself."""
    best = _best_places(scores, factors, _FEEDBACK_PASSAGES)
    total = sum(scores[place] for place in best)
    once: dict[int, float] = {}
    shared: dict[int, float] = {}
    for place in best:
        share = scores[place] / total
        for term in pool.passages[place].terms:
            if term not in once:
                once[term] = share
            elif term not in asked:
                shared[term] = shared.get(term, once[term]) + share
    rarity = {term: pool.rarity_of(term) for term in shared}
    losses = sorted((-share * rarity[term], term) for term, share in shared.items())[:_FEEDBACK_TERMS]
    if not losses:
        return scores
    scale = _FEEDBACK_WEIGHT / losses[0][0]
    more = pool.bm25({term: scale * loss * rarity[term] for loss, term in losses})
    return list(map(add, scores, more))


def _best_places(scores: Sequence[float], factors: Sequence[float], most: int) -> list[int]:
    """Where so many of the best stand, best first, and of equals the first first; none that scores nothing."""
    best: list[tuple[float, int]] = []
    least = 0.0
    for place, (score, factor) in enumerate(zip(scores, factors, strict=True)):
        if score * factor > least:
            best.append((-score * factor, place))
            if len(best) == 4 * most:  # now and then: sorting costs more than a longer list
                best.sort()
                del best[most:]
                least = -best[-1][0]
    return [place for _, place in sorted(best)[:most]]


def _with_neighbours(scores: Sequence[float]) -> list[float]:
    first, second, third = _NEIGHBOURS
    before3 = before2 = before1 = 0.0
    own, after1, after2, *later = *scores, 0.0, 0.0, 0.0
    shared = []
    for after3 in later:
        shared.append(own + first * (before1 + after1) + second * (before2 + after2) + third * (before3 + after3))
        before3, before2, before1, own, after1, after2 = before2, before1, own, after1, after2, after3
    return shared


def _with_headings(scores: Sequence[float], query: Query, pool: Pool) -> Sequence[float]:
    """A heading (the date of a session) holds for all that follows it, up to the next one."""
    gains: dict[int, list[float]] = {}
    for term in sorted(query.weights.keys() & pool.sections_with.keys()):
        holding = pool.sections_with[term]
        worth = math.log(1 + (len(pool.sections) - len(holding) + 0.5) / (len(holding) + 0.5))
        for section in holding:
            gains.setdefault(section, []).append(worth)
    if not gains:
        return scores
    raised = list(scores)
    for section, parts in gains.items():
        start, end = pool.sections[section]
        gain = _HEADING_WEIGHT * sum(parts)
        raised[start:end] = [score + gain for score in raised[start:end]]
    return raised


class _Speakers(NamedTuple):
    """Labels that the query names, unless it names all of them, and the terms of their names."""

    named: frozenset[str]
    named_terms: frozenset[int]


def _speakers_of(query: Query, pool: Pool) -> _Speakers:
    speakers = pool.speakers
    named = frozenset(speaker for speaker in speakers if not query.named.isdisjoint(_words(speaker)))
    terms = frozenset(term for speaker in named for term in terms_of(speaker))
    return _Speakers(named if len(named) < len(speakers) else frozenset(), terms)


def _factors(pool: Pool, speakers: Set[str], asks_assistant: bool) -> tuple[list[float], list[float]]:
    """What passages count by who says them and whether they say anything; and the same for the room that each takes,
    with a little more for what is newer.
    """
    if speakers:
        factors = [_SPEAKER_FACTOR if speaker in speakers else 1.0 for speaker in pool.said_by]
    elif asks_assistant:
        factors = [_ASSISTANT_FACTOR if role == "assistant" else 1.0 for role in pool.roles]
    else:
        factors = [
            _USER_FACTOR if role == "user" and not speaker else 1.0
            for role, speaker in zip(pool.roles, pool.said_by, strict=True)
        ]
    factors = [
        (factor * _ONLY_ASKS_FACTOR if passage.only_asks else factor) * confidence
        for factor, passage, confidence in zip(factors, pool.passages, pool.confidences, strict=True)
    ]
    step = _RECENCY / len(factors)
    gains = [
        factor * (1 + step * place) / math.sqrt(cost)
        for place, (factor, cost) in enumerate(zip(factors, pool.costs, strict=True))
    ]
    return factors, gains
