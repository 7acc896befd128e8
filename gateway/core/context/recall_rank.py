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
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain
from typing import NamedTuple

from gateway.core.context.recall_pool import Pool, Remembered
from gateway.core.context.terms import hard_terms_of, terms_of, words_by_term

_K1 = 1.2
_B = 0.6
_NEIGHBOURS = (0.5, 0.3, 0.15)
"""What a passage lends to those one, two and three places away."""
_FEEDBACK_PASSAGES = 10
_FEEDBACK_TERMS = 30
_FEEDBACK_WEIGHT = 0.3
_FLOOR = 0.2
"""Of one of the best scores: what a full passage is worth though it shares no term, once others do."""
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
_SHORT_QUERY_TERMS = 4
_CONTEXT_WEIGHT = 0.3
_STEP_WEIGHT = 0.5

_asks_assistant = re.compile(
    r"\byou(?:['’]ve| have| had| just)?(?: \w+ly| already)? (?:said|suggested|recommended|mentioned|told|gave|wrote"
    r"|proposed|listed|explained|showed|answered|advised|described|provided|came up with)\b"
    r"|\bdid you (?:\w+ly )?(?:say|suggest|recommend|mention|tell|give|write|propose|list|explain|show|answer)\b"
    r"|\byour (?:(?:first|last|earlier|previous) )?(?:answer|advice|suggestions?|recommendations?|explanation)\b"
    r"|\b(?:hast du|du hast|haben sie|sie haben)\b.*\b(?:gesagt|empfohlen|vorgeschlagen|erwähnt|geschrieben|gezeigt)\b"
    r"|\b(?:dijiste|recomendaste|sugeriste|mencionaste|explicaste|escribiste)\b"
    r"|[你您](?:刚才|之前|上次)?(?:说过|說過|建议|建議|推荐|推薦|提到|写的|寫的|给我的|給我的)"
    r"|(?:言った|言って|勧めて|すすめて|提案し)"
    r"|(?:قلت|اقترحت|أوصيت|ذكرت)",
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


def query_of(latest: str, before: str = "", names: Sequence[str] = ()) -> Query:
    """The query of a user message.

    Args:
        latest: its text.
        before: what was said just before it, which counts only where the message itself says little.
        names: paths, identifiers and numbers that the newest steps of an agent use, beyond the message.
    """
    weights = dict.fromkeys(terms_of(latest), 1.0)
    if len(weights) < _SHORT_QUERY_TERMS:
        weights |= {term: _CONTEXT_WEIGHT for term in terms_of(before) if term not in weights}
        words = {**words_by_term(before), **words_by_term(latest)}
    else:
        words = words_by_term(latest)
    for term in hard_terms_of(latest):
        weights[term] = _HARD_FACTOR
    for name in names:
        for term in terms_of(name):
            if term not in weights:
                weights[term] = _STEP_WEIGHT
                words[term] = name
    named = frozenset(word.lower() for word in _words(latest))
    return Query(weights, words, named, bool(_asks_assistant(latest)))


Hits = dict[int, list[int]]
"""The terms that a passage holds, by its place; only passages that hold one."""


class Ranking(NamedTuple):
    """What the passages of a pool are worth, in its order, and what each matched."""

    scores: Sequence[float]
    hits: Hits


def rank_passages(query: Query, pool: Pool) -> Ranking | None:
    """What each passage of the pool is worth; None where none shares a term with the query.

    Args:
        query: what is looked for.
        pool: folded messages.
    """
    speakers = _speakers_of(query, pool)
    weights = {**query.weights}
    for name in speakers.named_terms & weights.keys():
        weights[name] = _SPEAKER_NAME_WEIGHT
    hits = _find(pool, weights)
    if not hits:
        return None
    scores = _score(pool, hits, weights, _rarity(pool, weights))
    factors = _factors(query, pool, speakers.named)
    told = _with_feedback(pool, scores, factors, weights)
    scores = _with_neighbours(_with_headings(told, query, pool.messages))
    floor = _FLOOR * sorted(scores)[-min(5, len(scores))]
    full = 1.5 * pool.mean_length
    rate = floor / full
    step = _RECENCY / len(scores)
    worth = [
        (score + (rate * passage.length if passage.length < full else floor)) * factor * (1 + step * place)
        for place, (passage, score, factor) in enumerate(zip(pool.passages, scores, factors, strict=True))
    ]
    return Ranking(worth, hits)


def _find(pool: Pool, terms: Iterable[int]) -> Hits:
    """Which of the terms each passage holds."""
    hits: Hits = {}
    for term in terms:
        for place in pool.postings.get(term, ()):
            hits.setdefault(place, []).append(term)
    return hits


def _rarity(pool: Pool, terms: Iterable[int]) -> dict[int, float]:
    """Inverse document frequency of each term that some passage holds."""
    total = len(pool.passages)
    holding = {term: len(pool.postings[term]) for term in terms if term in pool.postings}
    return {term: math.log(1 + (total - n + 0.5) / (n + 0.5)) for term, n in holding.items()}


def _score(pool: Pool, hits: Hits, weights: Mapping[int, float], rarity: Mapping[int, float]) -> list[float]:
    """BM25 of each passage."""
    worth = {term: rare * weights[term] * (_K1 + 1) for term, rare in rarity.items()}
    worth_of = worth.__getitem__
    flat, by_length = _K1 * (1 - _B), _K1 * _B / pool.mean_length
    scores = [0.0] * len(pool.passages)
    for place, found in hits.items():
        passage = pool.passages[place]
        norm = flat + by_length * passage.length
        score = sum(map(worth_of, found)) / (1 + norm)
        for term, times in passage.repeats:
            if term in found:
                score += worth[term] * (times / (times + norm) - 1 / (1 + norm))
        scores[place] = score
    return scores


def _with_feedback(
    pool: Pool, scores: Sequence[float], factors: Sequence[float], asked: Mapping[int, float]
) -> Sequence[float]:
    """The scores and what passages share with the best ones beyond the query itself."""
    worth = [score * factor for score, factor in zip(scores, factors, strict=True)]
    best = sorted(range(len(worth)), key=worth.__getitem__, reverse=True)[:_FEEDBACK_PASSAGES]
    best = [place for place in best if scores[place]]
    total = sum(scores[place] for place in best)
    shares: defaultdict[int, float] = defaultdict(float)
    for place in best:
        share = scores[place] / total
        for term in pool.passages[place].terms:
            shares[term] += share
    holding = Counter(chain.from_iterable(pool.passages[place].terms for place in best))
    rarity = _rarity(pool, [term for term in shares if holding[term] > 1 and term not in asked])
    gains = {term: shares[term] * rare for term, rare in rarity.items()}
    chosen = sorted(gains, key=lambda term: (-gains[term], term))[:_FEEDBACK_TERMS]
    if not chosen:
        return scores
    scale = _FEEDBACK_WEIGHT / gains[chosen[0]]
    weights = {term: scale * gains[term] for term in chosen}
    more = _score(pool, _find(pool, chosen), weights, {term: rarity[term] for term in chosen})
    return [score + extra for score, extra in zip(scores, more, strict=True)]


def _with_neighbours(scores: Sequence[float]) -> list[float]:
    first, second, third = _NEIGHBOURS
    edge = [0.0] * 3
    padded = [*edge, *scores, *edge]
    return [
        own + first * (a1 + b1) + second * (a2 + b2) + third * (a3 + b3)
        for a3, a2, a1, own, b1, b2, b3 in zip(*(padded[shift:] for shift in range(7)), strict=False)
    ]


def _with_headings(scores: Sequence[float], query: Query, pool: Sequence[Remembered]) -> Sequence[float]:
    """A heading (the date of a session) holds for all that follows it, up to the next one."""
    headings = [each.terms.heading_terms for each in pool if each.terms.heading_terms]
    asked = [query.weights.keys() & terms for terms in headings]
    if not any(asked):
        return scores
    holding = Counter(chain.from_iterable(asked))
    worth = {term: math.log(1 + (len(headings) - n + 0.5) / (n + 0.5)) for term, n in holding.items()}
    gains: list[float] = []
    gain = 0.0
    for each in pool:
        if each.terms.heading_terms:
            gain = _HEADING_WEIGHT * sum(worth[term] for term in query.weights.keys() & each.terms.heading_terms)
        gains += [gain] * len(each.terms.passages)
    return [score + gain for score, gain in zip(scores, gains, strict=True)]


class _Speakers(NamedTuple):
    """Labels that the query names, unless it names all of them, and the terms of their names."""

    named: frozenset[str]
    named_terms: frozenset[int]


def _speakers_of(query: Query, pool: Pool) -> _Speakers:
    speakers = pool.speakers
    named = frozenset(speaker for speaker in speakers if not query.named.isdisjoint(_words(speaker)))
    terms = frozenset(term for speaker in named for term in terms_of(speaker))
    return _Speakers(named if len(named) < len(speakers) else frozenset(), terms)


def _factors(query: Query, pool: Pool, speakers: Set[str]) -> Sequence[float]:
    """What passages count by who says them and whether they say anything."""
    factors: list[float] = []
    for each in pool.messages:
        if speakers:
            factor = _SPEAKER_FACTOR if each.terms.speaker in speakers else 1.0
        elif query.asks_assistant:
            factor = _ASSISTANT_FACTOR if each.role == "assistant" else 1.0
        else:
            factor = _USER_FACTOR if each.role == "user" and not each.terms.speaker else 1.0
        factors += [factor] * len(each.terms.passages)
    return [
        factor * _ONLY_ASKS_FACTOR if passage.only_asks else factor
        for factor, passage in zip(factors, pool.passages, strict=True)
    ]
