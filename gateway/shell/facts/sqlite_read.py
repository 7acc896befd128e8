"""What asks a database of memories: a function runs within one transaction, so all that it reads is of one moment."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from gateway.core.facts.memory import Kind, Memory, Page, Position, Scope, Sought, Wanted
from gateway.shell.facts import ranking, rows
from gateway.shell.facts.kept_rows import KeptRows
from gateway.shell.facts.rows import Row
from gateway.shell.facts.sqlite_write import SELECT

_ALIVE = "(m.expires_us IS NULL OR m.expires_us > ?)"
_BEHIND = "(m.observed_us, m.id) > (?, ?)"
_COUNTED = (
    "SELECT group_concat((SELECT count(*) FROM (SELECT 1 FROM postings p WHERE p.bucket = json_extract(w.value, '$[0]')"
    f" AND p.word = json_extract(w.value, '$[1]') LIMIT {ranking.MAX_COUNTED}))) FROM json_each(?) w"
)
_NEWEST = (
    "SELECT group_concat(memory) FROM"
    " (SELECT memory FROM postings WHERE bucket = ? AND word = ? ORDER BY memory DESC LIMIT ?)"
)
# A search asks for few rows of many values: with each row the thread lets go of Python's lock, and has to get it again
# from a busy event loop.


def scope_id_of(db: sqlite3.Connection, scope: Scope) -> int | None:
    """The number of a scope that has been written to."""
    name = (scope.owner, rows.scope_name(scope.name))
    found = db.execute("SELECT id FROM scopes WHERE owner = ? AND name = ?", name).fetchone()
    return None if found is None else int(found[0])


def get(db: sqlite3.Connection, owner: bytes, id_: bytes, kind: Kind, now_us: int) -> Memory | None:
    """The memory of this id, if it is this owner's and of this kind."""
    owned = "m.scope IN (SELECT id FROM scopes WHERE owner = ?)"
    columns = db.execute(f"{SELECT} WHERE m.id = ? AND {_ALIVE} AND {owned}", (id_, now_us, owner)).fetchone()
    memory = rows.row_from(columns).memory if columns else None
    return memory if memory is not None and memory.kind is kind else None


def page(db: sqlite3.Connection, scope: Scope, wanted: Wanted, after: Position | None, limit: int, now_us: int) -> Page:
    """Some of the memories that are wanted, and how many there are."""
    scope_id = scope_id_of(db, scope)
    if scope_id is None:
        return Page((), 0)
    source, condition, values = _wanted(db, scope_id, wanted, now_us)
    (total,) = db.execute(f"SELECT count(*) FROM {source} WHERE {condition}", values).fetchone()
    select = SELECT.replace("memories m", source)
    if after is not None:
        condition, values = f"{condition} AND {_BEHIND}", [*values, after.observed_us, rows.id_bytes(after.id) or b""]
    ordered = f"{select} WHERE {condition} ORDER BY m.observed_us, m.id LIMIT ?"
    memories = [rows.row_from(columns).memory for columns in db.execute(ordered, (*values, limit + 1))]
    return rows.page_of(memories, total, limit)


def _wanted(db: sqlite3.Connection, scope_id: int, wanted: Wanted, now_us: int) -> tuple[str, str, list[object]]:
    """From where, under what condition, and with what values these are selected."""
    classes = rows.classes_of(wanted.kind, wanted.level, with_ended=wanted.with_ended)
    words = wanted_in_order(db, scope_id, classes, rows.wanted_words(wanted))
    condition = f"m.scope = ? AND m.class IN ({','.join(map(str, classes))}) AND {_ALIVE}"
    values: list[object] = [scope_id, now_us]
    if wanted.min_confidence > 0:
        condition, values = f"{condition} AND m.confidence >= ?", [*values, wanted.min_confidence]
    if not words:
        return "memories m", condition, values
    buckets = ",".join(str(rows.bucket_of(scope_id, class_)) for class_ in classes)
    for word in words[1:]:
        own = f"SELECT 1 FROM postings o WHERE o.bucket = {scope_id * 16} + m.class AND o.word = ? AND o.memory = m.seq"
        condition, values = f"{condition} AND EXISTS ({own})", [*values, word]
    listed = f"p.bucket IN ({buckets}) AND p.word = ?"
    return "postings p CROSS JOIN memories m ON m.seq = p.memory", f"{listed} AND {condition}", [words[0], *values]


def wanted_in_order(db: sqlite3.Connection, scope_id: int, classes: Sequence[int], words: Sequence[int]) -> list[int]:
    """Words by how many memories hold them, fewest first."""
    counts = _counts(db, scope_id, classes, words)
    return sorted(words, key=lambda word: sum(counts.get((word, class_), 0) for class_ in classes))


def _counts(
    db: sqlite3.Connection, scope_id: int, classes: Sequence[int], words: Sequence[int]
) -> dict[tuple[int, int], int]:
    """How many memories of each class hold each word, as far as they are counted."""
    asked = [(word, class_) for word in words for class_ in classes]
    listed = json.dumps([(rows.bucket_of(scope_id, class_), word) for word, class_ in asked])
    return dict(zip(asked, _numbers(db.execute(_COUNTED, (listed,))), strict=True))


def _numbers(found: sqlite3.Cursor) -> list[int]:
    """The numbers of a row that lists them."""
    (listed,) = found.fetchone()
    return list(map(int, listed.split(","))) if listed else []


def by_words(
    db: sqlite3.Connection, scope_id: int, sought: Sought, limit: int, now_us: int, kept: KeptRows
) -> list[Row]:
    """The memories that hold and answer the question best by its words, best first."""
    classes = rows.classes_of(sought.kind, sought.level)
    terms = ranking.terms_to_ask(sought)
    by_class = _counts(db, scope_id, classes, terms)
    counts = ranking.in_all(by_class, terms, classes)
    if not any(counts.values()):
        return []
    weights = ranking.weigh(counts, sought.exact, _memories(db, scope_id))
    scores: dict[int, float] = {}
    for lookup in ranking.plan_lookups(counts, weights, is_rough=sought.is_rough):
        for class_ in classes:
            if by_class[lookup.term, class_]:
                bucket = rows.bucket_of(scope_id, class_)
                for number in _numbers(db.execute(_NEWEST, (bucket, lookup.term, lookup.take))):
                    scores[number] = scores.get(number, 0.0) + lookup.weight
    if sought.is_rough:
        most = ranking.found_roughly(limit, _counted(db, scope_id, ranking.WIDE_SCOPE + 1))
        best = living(db, ranking.best(scores, most), sought, now_us)
        return sorted(kept.rows(db, best), key=lambda row: (-scores[row.seq], -row.seq))
    candidates = _terms_of(db, ranking.best(scores, ranking.scored_whole(limit)), sought, now_us)
    best = ranking.rank(candidates, weights)[:limit]
    found = {row.seq: row for row in found_rows(db, best)}
    return [found[number] for number in best]


def living(db: sqlite3.Connection, numbers: Sequence[int], sought: Sought, now_us: int) -> list[int]:
    """Those of these numbers that hold, and are what is sought."""
    condition, values = _sought(numbers, sought, now_us)
    return _numbers(db.execute(f"SELECT group_concat(seq) FROM memories m WHERE {condition}", values))


def _terms_of(db: sqlite3.Connection, numbers: Sequence[int], sought: Sought, now_us: int) -> dict[int, Sequence[int]]:
    """The terms of those that hold, and are what is sought."""
    condition, values = _sought(numbers, sought, now_us)
    select = f"SELECT group_concat(seq || ' ' || hex(terms)) FROM memories m WHERE {condition}"
    (listed,) = db.execute(select, values).fetchone()
    each = [one.split(" ") for one in listed.split(",")] if listed else []
    return {int(number): rows.terms_from(bytes.fromhex(data)) for number, data in each}


def _sought(numbers: Sequence[int], sought: Sought, now_us: int) -> tuple[str, tuple[object, ...]]:
    """The condition of those of these numbers that hold and are what is sought."""
    classes = ",".join(map(str, rows.classes_of(sought.kind, sought.level)))
    is_one = f"m.seq IN (SELECT value FROM json_each(?)) AND m.class IN ({classes})"
    condition = f"{is_one} AND {_ALIVE} AND (m.class != 0 OR m.confidence >= ?)"
    return condition, (json.dumps(list(numbers)), now_us, sought.min_confidence)


def model_id_of(db: sqlite3.Connection, name: str) -> int | None:
    """The number of a model that made vectors here."""
    found = db.execute("SELECT id FROM models WHERE name = ?", (name,)).fetchone()
    return None if found is None else int(found[0])


def _memories(db: sqlite3.Connection, scope_id: int) -> int:
    """How many memories a scope holds, about: exact for small ones."""
    count = _counted(db, scope_id, ranking.MAX_COUNTED)
    if count < ranking.MAX_COUNTED:
        return count
    (in_all,) = db.execute("SELECT sum(memories) FROM figures").fetchone()
    return max(count, int(in_all))


def _counted(db: sqlite3.Connection, scope_id: int, most: int) -> int:
    """How many memories a scope holds, up to so many."""
    counted = "SELECT count(*) FROM (SELECT 1 FROM memories WHERE scope = ? LIMIT ?)"
    (count,) = db.execute(counted, (scope_id, most)).fetchone()
    return int(count)


def found_rows(db: sqlite3.Connection, numbers: Sequence[int]) -> list[Row]:
    """Rows of these numbers, in no order."""
    is_one = "m.seq IN (SELECT value FROM json_each(?))"
    return [rows.row_from(columns) for columns in db.execute(f"{SELECT} WHERE {is_one}", (json.dumps(list(numbers)),))]


def some_of_scope(
    db: sqlite3.Connection, scope: Scope, after: Position | None, limit: int, now_us: int
) -> list[Memory]:
    """Some of a scope's memories, ended ones included, behind a position."""
    scope_id = scope_id_of(db, scope)
    condition = f"m.scope = ? AND {_ALIVE}"
    values: list[object] = [scope_id, now_us]
    if after is not None:
        condition, values = f"{condition} AND {_BEHIND}", [*values, after.observed_us, rows.id_bytes(after.id)]
    ordered = f"{SELECT} WHERE {condition} ORDER BY m.observed_us, m.id LIMIT ?"
    return [rows.row_from(columns).memory for columns in db.execute(ordered, (*values, limit))]


def names(db: sqlite3.Connection, owner: bytes, now_us: int) -> dict[str, int]:
    """How many memories each of the owner's scopes holds."""
    counted = (
        f"SELECT s.name, count(*) FROM scopes s CROSS JOIN memories m ON m.scope = s.id WHERE s.owner = ? AND {_ALIVE}"
        " GROUP BY s.id ORDER BY s.name"
    )
    return {name.decode(): count for name, count in db.execute(counted, (owner, now_us))}


def lacking_vectors(db: sqlite3.Connection, model: str, limit: int, now_us: int) -> list[Memory]:
    """Memories that hold and have no vector of this model, newest first."""
    found: list[Memory] = []
    numbers = [0, *(number for (number,) in db.execute("SELECT id FROM models WHERE name != ?", (model,)))]
    for number in numbers:
        condition = f"m.model = ? AND m.ended_us IS NULL AND {_ALIVE}"
        ordered = f"{SELECT} WHERE {condition} ORDER BY m.observed_us DESC, m.id DESC LIMIT ?"
        found += [rows.row_from(columns).memory for columns in db.execute(ordered, (number, now_us, limit))]
    return sorted(found, key=lambda memory: (memory.observed_us, memory.id), reverse=True)[:limit]


def totals(db: sqlite3.Connection, now_us: int) -> dict[Kind, int]:
    """How many memories there are of each kind that have not expired."""
    counts = dict(db.execute("SELECT kind, memories FROM figures").fetchall())
    expired = "SELECT class % 8 != 0, count(*) FROM memories WHERE expires_us <= ? GROUP BY 1"
    for kind, count in db.execute(expired, (now_us,)):
        counts[kind] -= count
    return {Kind.FACT: counts[0], Kind.CONTEXT: counts[1]}
