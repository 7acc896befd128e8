"""Which regions answer a question, by numpy over packed lists: all that hold any of its words are weighed.

A region's score is the share of the question that it answers: over the words of the question, the weight of each (its
rarity; double for numbers, paths and identifiers) times its impact on the region (`region_words`), by the sum of all
weights. It is BM25 divided by the most that these words could give, so it orders regions as BM25 does, is never above
1, and a word that nobody holds counts against everybody. A word is as rare as it is in its scope, but no scope is taken
to hold fewer than `LEAST_REGIONS`, so that a few regions do not say what is frequent. Of equals comes first what was
kept first.

Filters are looked at before the best are chosen, so they lose nothing. What a search reads is bounded by
`MAX_ENTRIES`, which a hundred thousand regions do not come to; beyond, of the most frequent words only the newest
entries are read.

A question with a vector is answered by meaning, too (`region_vectors`), and the best `FUSED` of both become one list
(`core.vision.fused`); one without is answered as if there were no vectors. Needs numpy; whoever imports this module
finds out whether it is there.

Invariants, each with a test of its own:
  1. The answer is that of scoring every region that passes the filters, one by one.
  2. What is not of a finished document of the scope is never found.
  3. What is read is bounded, whatever the question and the scope.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.vision.document import FoundRegion, RegionsSought
from gateway.core.vision.fused import fuse_places, scores_in_order
from gateway.core.vision.region_words import FULL, labels_of
from gateway.shell.facts.rows import ids_bytes
from gateway.shell.vision.region_layouts import Layout, Layouts
from gateway.shell.vision.region_lists import ENTRY_BYTES, MAX_PAGE, TYPES
from gateway.shell.vision.region_vectors import NOTHING, Nearest, RegionVectors
from gateway.shell.vision.sqlite_read import regions_numbered

MAX_TERMS = 48
"""A question is asked by so many terms: the exact ones, then the most important."""
MAX_ENTRIES = 2_000_000
LEAST_REGIONS = 1_000
FUSED = 64
"""By words and by meaning so many at least are looked at, to make one list of them."""
_EXACT_WEIGHT = 2.0
_NO_LABEL = -(1 << 63)
_ENTRY = np.dtype([("at", "<u2"), ("impact", "u1")])
_LENGTHS = (
    "SELECT l.word, sum(length(l.data)) FROM json_each(?) w CROSS JOIN lists l ON l.scope = ? AND l.word = w.value"
    " GROUP BY l.word"
)
_NEWEST = "SELECT block, data FROM lists WHERE scope = ? AND word = ? ORDER BY block DESC"


class Searched:
    """What is kept of a database between searches.

    Attributes:
        layouts: where regions stand.
        vectors: what they mean.
    """

    def __init__(self) -> None:
        self.layouts = Layouts()
        self.vectors = RegionVectors()


def search(
    db: sqlite3.Connection, searched: Searched, scope_id: int, sought: RegionsSought, limit: int
) -> list[FoundRegion]:
    """The regions that answer best, best first."""
    terms = _terms_to_ask(sought)
    held = _entries_of(db, scope_id, terms)
    if not (held or sought.vector) or limit <= 0:
        return []
    layout = searched.layouts.layout(db, scope_id)
    if layout is None:
        return []
    weights = _weigh(terms, held, sought.exact, layout.regions)
    scores = np.zeros(len(layout.numbers), np.float32)
    places: dict[int, NDArray[np.int64]] = {}
    left = MAX_ENTRIES
    for term in sorted(held, key=lambda term: held[term]):
        place, entries = _read(db, scope_id, term, layout.slots, left)
        scores[place] += entries["impact"] * np.float32(weights[term] / FULL)
        places[term] = place
        left = max(0, left - len(place))
    passing = _may_be_found(db, scope_id, sought, layout)
    best, nearest = _best(scores, passing, max(limit, FUSED) if sought.vector else limit), NOTHING
    if sought.vector:
        asked = (sought.model, sought.vector)
        by_words: list[int] = best.tolist()
        nearest = searched.vectors.nearest(db, layout, scope_id, asked, passing, by_words, max(limit, FUSED))
        best = np.array(fuse_places(by_words, nearest.places)[:limit], np.int64)
    return _found(db, [int(number) for number in layout.numbers[best]], best, scores, places, weights, nearest)


def _terms_to_ask(sought: RegionsSought) -> list[int]:
    """The terms of a question that are asked at all."""
    exact = [term for term in sought.terms if term in sought.exact]
    return list(dict.fromkeys([*exact, *sought.terms]))[:MAX_TERMS]


def _entries_of(db: sqlite3.Connection, scope_id: int, words: Sequence[int]) -> dict[int, int]:
    """How many regions hold each of these words, of those that any holds; what is going or coming is counted, too."""
    found = db.execute(_LENGTHS, (json.dumps(list(words)), scope_id))
    return {word: length // ENTRY_BYTES for word, length in found}


def _weigh(terms: Sequence[int], held: Mapping[int, int], exact: frozenset[int], regions: int) -> dict[int, float]:
    """What each word counts for."""
    weights = {}
    for term in terms:
        holding = held.get(term, 0)
        rarity = math.log(1 + (max(regions, holding, LEAST_REGIONS) - holding + 0.5) / (holding + 0.5))
        weights[term] = rarity * (_EXACT_WEIGHT if term in exact else 1.0)
    return weights


def _may_be_found(db: sqlite3.Connection, scope_id: int, sought: RegionsSought, layout: Layout) -> NDArray[np.bool_]:
    """Which places are taken by regions of finished documents that pass all filters."""
    passing = np.zeros(len(layout.numbers), np.bool_)
    passing[layout.places] = _pass(db, scope_id, sought, layout)
    for label in _labels(sought):
        labelled = np.zeros(len(passing), np.bool_)
        labelled[_read(db, scope_id, label, layout.slots, layout.regions)[0]] = True
        passing &= labelled
    return passing


def _labels(sought: RegionsSought) -> list[int]:
    """What the metadata that are sought are listed under; for what no document can have, something that none is."""
    try:
        return labels_of(sought.metadata or {})
    except (UnicodeEncodeError, TypeError, OverflowError, RecursionError):
        return [_NO_LABEL]


def _pass(db: sqlite3.Connection, scope_id: int, sought: RegionsSought, layout: Layout) -> NDArray[np.bool_]:
    """Which regions are of finished documents, and pass all filters but those by metadata."""
    passes = np.ones(layout.regions, np.bool_)
    if sought.doc_ids is None:
        hidden = db.execute("SELECT seq FROM documents WHERE scope = ? AND state != 1", (scope_id,)).fetchall()
        if hidden:
            passes &= ~np.isin(layout.documents, [seq for (seq,) in hidden])
    else:
        one = "SELECT seq FROM documents WHERE id = ? AND state = 1 AND scope = ?"
        found = [db.execute(one, (id_, scope_id)).fetchone() for id_ in ids_bytes(sought.doc_ids)]
        passes &= np.isin(layout.documents, [each[0] for each in found if each is not None])
    if sought.types is not None:
        passes &= np.array([type_ in sought.types for type_ in TYPES])[layout.types]
    if sought.first_page is not None:
        passes &= layout.pages >= min(max(sought.first_page, 0), MAX_PAGE)
    if sought.last_page is not None:
        passes &= layout.pages <= min(max(sought.last_page, 0), MAX_PAGE)
    return passes


def _read(
    db: sqlite3.Connection, scope_id: int, word: int, slots: Mapping[int, int], most: int
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Places and entries of a word: all, or of the newest blocks about so many."""
    parts: list[bytes] = []
    bases: list[int] = []
    counts: list[int] = []
    left = most
    for block, data in db.execute(_NEWEST, (scope_id, word)):
        if left <= 0:
            break
        parts.append(data)
        bases.append(slots[block])
        counts.append(len(data) // ENTRY_BYTES)
        left -= counts[-1]
    entries = np.frombuffer(b"".join(parts), _ENTRY)
    return entries["at"] + np.repeat(np.array(bases, np.int64), counts), entries


def _best(scores: NDArray[np.float32], may_be_found: NDArray[np.bool_], limit: int) -> NDArray[np.int64]:
    """The places of the best, best first; of equals the first."""
    places = np.flatnonzero((scores > 0) & may_be_found)
    reached = scores[places]
    if len(places) > limit:
        least = np.partition(reached, len(places) - limit)[len(places) - limit]
        above = places[reached > least]
        places = np.concatenate([above, places[reached == least][: limit - len(above)]])
        reached = scores[places]
    order = np.lexsort((places, -reached))
    return places[order]


def _found(
    db: sqlite3.Connection,
    numbers: Sequence[int],
    best: NDArray[np.int64],
    scores: NDArray[np.float32],
    places: Mapping[int, NDArray[np.int64]],
    weights: Mapping[int, float],
    nearest: Nearest,
) -> list[FoundRegion]:
    """What was found, with the words that each holds, what weighs most first."""
    ranks = np.full(len(scores), -1, np.int32)
    ranks[best] = np.arange(len(best))
    matched: list[list[int]] = [[] for _ in numbers]
    for term in sorted(places, key=lambda term: -weights[term]):
        holders = ranks[places[term]]
        for rank in holders[holders >= 0]:
            matched[rank].append(term)
    most = sum(weights.values()) or 1.0
    regions = regions_numbered(db, numbers)
    cosines = [nearest.cosines.get(place) for place in best.tolist()]
    reached = scores_in_order([float(scores[place]) / most for place in best], cosines)
    return [
        FoundRegion(regions[number], score, tuple(terms), cosine)
        for number, score, terms, cosine in zip(numbers, reached, matched, cosines, strict=True)
    ]
