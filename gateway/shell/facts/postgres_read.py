"""What asks the memories in PostgreSQL. What a search reads is bounded: see `ranking`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from gateway.core.facts.memory import Kind, Memory, Page, Position, Scope, Sought, Wanted
from gateway.shell.facts import ranking, rows
from gateway.shell.facts.postgres_schema import MAX_INDEXED_DIMENSIONS
from gateway.shell.facts.postgres_write import halfvec
from gateway.shell.facts.rows import Row

Connection = AsyncConnection[Any]
EXACT_VECTORS = 4000
"""The vectors of a scope are all compared up to so many; where there are more, the index is asked."""
_ROW_BYTES = 700
"""Of a memory in its table, about: how many there are in all is told by its size, which is always known."""
_ALIVE = "(m.expires_us IS NULL OR m.expires_us > %s)"
_BEHIND = "(m.observed_us, m.id) > (%s, %s)"


class Place(NamedTuple):
    """A scope, how many memories it holds, about, and how many hold which word, by word and class."""

    scope_id: int
    memories: int
    counts: Mapping[tuple[int, int], int]


async def _all(db: Connection, statement: str, values: Sequence[object]) -> list[Any]:
    return await (await db.execute(statement.encode(), values)).fetchall()


async def place_of(
    db: Connection, collection: str, scope: Scope, classes: Sequence[int], words: Sequence[int]
) -> Place | None:
    """Where a scope's memories are, if it was ever written to; counts end at `MAX_COUNTED`."""
    listed = f"SELECT 1 FROM {collection}_postings p WHERE p.bucket = s.id * 16 + c.class AND p.word = w.word LIMIT %s"
    held = f"SELECT 1 FROM {collection}_memories m WHERE m.scope = {collection}_scopes.id LIMIT %s"
    in_all = f"SELECT pg_relation_size('{collection}_memories'::regclass) / {_ROW_BYTES}"
    select = (
        f"WITH s AS MATERIALIZED (SELECT id, (SELECT count(*) FROM ({held}) h) AS held, ({in_all}) AS in_all"
        f" FROM {collection}_scopes WHERE owner = %s AND name = %s)"
        f" SELECT s.id, s.held, s.in_all, w.word, c.class, (SELECT count(*) FROM ({listed}) l)"
        " FROM s CROSS JOIN unnest(%s::int[]) c (class) LEFT JOIN unnest(%s::bigint[]) w (word) ON true"
    )
    most, wide = ranking.MAX_COUNTED, ranking.WIDE_SCOPE + 1
    values = (wide, scope.owner, rows.scope_name(scope.name), most, list(classes) or [0], list(words))
    found = await _all(db, select, values)
    if not found:
        return None
    scope_id, held_here, everywhere = found[0][:3]
    counts = {(word, class_): count for *_, word, class_, count in found if word is not None}
    return Place(scope_id, held_here if held_here < wide else max(held_here, everywhere), counts)


async def get(db: Connection, collection: str, owner: bytes, id_: bytes, kind: Kind, now_us: int) -> Memory | None:
    """The memory of this id, if it is this owner's and of this kind."""
    owned = f"m.scope IN (SELECT id FROM {collection}_scopes WHERE owner = %s)"
    select = f"SELECT {rows.COLUMNS} FROM {collection}_memories m WHERE m.id = %s AND {_ALIVE} AND {owned}"
    found = await _all(db, select, (id_, now_us, owner))
    memory = rows.row_from(found[0]).memory if found else None
    return memory if memory is not None and memory.kind is kind else None


async def page(
    db: Connection, collection: str, scope: Scope, wanted: Wanted, after: Position | None, limit: int, now_us: int
) -> Page:
    """Some of the memories that are wanted, and how many there are."""
    classes = rows.classes_of(wanted.kind, wanted.level, with_ended=wanted.with_ended)
    words = rows.wanted_words(wanted)
    place = await place_of(db, collection, scope, classes, words)
    if place is None:
        return Page((), 0)
    condition = f"m.scope = %s AND m.class = ANY(%s) AND {_ALIVE} AND m.confidence >= %s"
    values: list[object] = [place.scope_id, classes, now_us, wanted.min_confidence]
    first, source = "", f"{collection}_memories m"
    if words:
        counts = ranking.in_all(place.counts, words, classes)
        words.sort(key=lambda word: counts[word])
        first, listed = _holding(collection, place.scope_id, classes, words)
        values, source = [*listed, *values], "own CROSS JOIN LATERAL " + _row_of(collection)
    [(total,)] = await _all(db, f"{first}SELECT count(*) FROM {source} WHERE {condition}", values)
    if after is not None:
        condition, values = f"{condition} AND {_BEHIND}", [*values, after.observed_us, rows.id_bytes(after.id) or b""]
    select = f"{first}SELECT {rows.COLUMNS} FROM {source} WHERE {condition} ORDER BY m.observed_us, m.id LIMIT %s"
    found = await _all(db, select, [*values, limit + 1])
    return rows.page_of([rows.row_from(columns).memory for columns in found], total, limit)


def _row_of(collection: str) -> str:
    """The row of each number: looked up by it, whatever the planner believes of how many there are."""
    return f"(SELECT * FROM {collection}_memories WHERE seq = own.memory OFFSET 0) m"


def _holding(collection: str, scope_id: int, classes: Sequence[int], words: Sequence[int]) -> tuple[str, list[object]]:
    """The memories that hold all words, as `own`; materialised, so that the list of the first word is read first."""
    buckets = [rows.bucket_of(scope_id, class_) for class_ in classes]
    condition, values = "p.bucket = ANY(%s) AND p.word = %s", [buckets, words[0]]
    for word in words[1:]:
        held = f"SELECT 1 FROM {collection}_postings o WHERE (o.bucket, o.word, o.memory) = (p.bucket, %s, p.memory)"
        condition, values = f"{condition} AND EXISTS ({held})", [*values, word]
    return f"WITH own AS MATERIALIZED (SELECT p.memory FROM {collection}_postings p WHERE {condition}) ", values


async def by_words(db: Connection, collection: str, place: Place, sought: Sought, limit: int, now_us: int) -> list[int]:
    """The numbers of the memories that hold and answer the question best by its words, best first; of a rough question
    in no order.
    """
    classes = rows.classes_of(sought.kind, sought.level)
    terms = ranking.terms_to_ask(sought)
    counts = ranking.in_all(place.counts, terms, classes)
    if not any(counts.values()):
        return []
    weights = ranking.weigh(counts, sought.exact, place.memories)
    asked = [
        (rows.bucket_of(place.scope_id, class_), *lookup)
        for lookup in ranking.plan_lookups(counts, weights, is_rough=sought.is_rough)
        for class_ in classes
        if place.counts[lookup.term, class_]
    ]
    newest = (
        f"SELECT memory FROM {collection}_postings WHERE bucket = w.bucket AND word = w.word"
        " ORDER BY memory DESC LIMIT w.take"
    )
    best = (
        "SELECT p.memory FROM unnest(%s::bigint[], %s::bigint[], %s::float8[], %s::int[])"
        f" w (bucket, word, weight, take) CROSS JOIN LATERAL ({newest}) p"
        " GROUP BY p.memory ORDER BY sum(w.weight) DESC, p.memory DESC LIMIT %s"
    )
    told = "m.seq" if sought.is_rough else "m.seq, m.terms"
    select = (
        f"SELECT {told} FROM {collection}_memories m WHERE m.seq = ANY(ARRAY({best})) AND m.class = ANY(%s)"
        f" AND {_ALIVE} AND (m.class != 0 OR m.confidence >= %s)"
    )
    limit = ranking.found_roughly(limit, place.memories) if sought.is_rough else limit
    most = limit if sought.is_rough else ranking.scored_whole(limit)
    values = [*map(list, zip(*asked, strict=True)), most, classes, now_us]
    found = await _all(db, select, [*values, sought.min_confidence])
    if sought.is_rough:
        return [seq for (seq,) in found]
    return ranking.rank({seq: rows.terms_from(data) for seq, data in found}, weights)[:limit]


async def nearest(
    db: Connection, collection: str, place: Place, sought: Sought, limit: int, now_us: int
) -> dict[int, float]:
    """The numbers of the memories that hold and are nearest to the vector, best first, with their cosines."""
    dimensions = len(sought.vector) // 2
    select = f"SELECT id FROM {collection}_models WHERE name = %s AND dimensions = %s"
    models = await _all(db, select, (sought.model.encode("utf-8", "replace"), dimensions))
    if not models:
        return {}
    own = f"v.scope = %s AND v.model = {int(models[0][0])} AND v.class = ANY(%s)"
    lives = (
        f"SELECT {_ALIVE} AND (m.class != 0 OR m.confidence >= %s) FROM {collection}_memories m WHERE m.seq = v.memory"
    )
    classes = rows.classes_of(sought.kind, sought.level)
    counted = f"SELECT 1 FROM {collection}_vectors v WHERE v.scope = %s AND v.model = {int(models[0][0])} LIMIT %s"
    [(count,)] = await _all(db, f"SELECT count(*) FROM ({counted}) c", (place.scope_id, EXACT_VECTORS + 1))
    closeness = f"v.data::halfvec({dimensions}) <#> %s::halfvec({dimensions})"
    source = f"SELECT v.memory, {closeness} AS d FROM {collection}_vectors v WHERE {own}"
    told = [halfvec(sought.vector), place.scope_id, classes]
    if count > EXACT_VECTORS and dimensions <= MAX_INDEXED_DIMENSIONS:
        # In the order of the index, which reads on until it has found enough.
        in_order = f"{source} AND ({lives}) ORDER BY d LIMIT %s"
        select = f"WITH v AS MATERIALIZED ({in_order}) SELECT v.memory, v.d FROM v ORDER BY d, v.memory DESC"
        found = await _all(db, select, [*told, now_us, sought.min_confidence, limit])
    else:
        # All are put in order first; whether they live is asked of the best alone.
        in_order = f"{source} ORDER BY d, v.memory DESC OFFSET 0"
        select = f"SELECT v.memory, v.d FROM ({in_order}) v WHERE ({lives}) LIMIT %s"
        found = await _all(db, select, [*told, now_us, sought.min_confidence, limit])
    return {number: -product for number, product in found}  # vectors have length 1, and <#> is the negative product


async def found_rows(db: Connection, collection: str, numbers: Sequence[int]) -> list[Row]:
    """Rows of these numbers, in no order."""
    select = f"SELECT {rows.COLUMNS} FROM {collection}_memories m WHERE m.seq = ANY(%s)"
    return [rows.row_from(columns) for columns in await _all(db, select, (list(numbers),))] if numbers else []


async def some_of_scope(
    db: Connection, collection: str, scope: Scope, after: Position | None, limit: int, now_us: int
) -> list[Memory]:
    """Some of a scope's memories, ended ones included, behind a position."""
    which = f"SELECT id FROM {collection}_scopes WHERE owner = %s AND name = %s"
    condition = f"m.scope = ({which}) AND {_ALIVE}"
    values: list[object] = [scope.owner, rows.scope_name(scope.name), now_us]
    if after is not None:
        condition, values = f"{condition} AND {_BEHIND}", [*values, after.observed_us, rows.id_bytes(after.id)]
    select = f"SELECT {rows.COLUMNS} FROM {collection}_memories m WHERE {condition}"
    found = await _all(db, f"{select} ORDER BY m.observed_us, m.id LIMIT %s", [*values, limit])
    return [rows.row_from(columns).memory for columns in found]


async def names(db: Connection, collection: str, owner: bytes, now_us: int) -> dict[str, int]:
    """How many memories each of the owner's scopes holds."""
    counted = (
        f"SELECT s.name, count(*) FROM {collection}_scopes s JOIN {collection}_memories m ON m.scope = s.id"
        f" WHERE s.owner = %s AND {_ALIVE} GROUP BY s.id, s.name ORDER BY s.name"
    )
    return {name.decode(): count for name, count in await _all(db, counted, (owner, now_us))}


async def lacking_vectors(db: Connection, collection: str, model: str, limit: int, now_us: int) -> list[Memory]:
    """Memories that hold and have no vector of this model, newest first."""
    others = f"SELECT id FROM {collection}_models WHERE name != %s"
    numbers = [0, *(number for (number,) in await _all(db, others, (model.encode("utf-8", "replace"),)))]
    newest = (
        f"SELECT {rows.COLUMNS} FROM {collection}_memories m WHERE m.model = n AND m.ended_us IS NULL AND {_ALIVE}"
        " ORDER BY m.observed_us DESC, m.id DESC LIMIT %s"
    )
    select = f"SELECT m.* FROM unnest(%s::int[]) n CROSS JOIN LATERAL ({newest}) m"
    found = await _all(db, f"{select} ORDER BY m.observed_us DESC, m.id DESC LIMIT %s", (numbers, now_us, limit, limit))
    return [rows.row_from(columns).memory for columns in found]


async def totals(db: Connection, collection: str, now_us: int) -> dict[Kind, int]:
    """How many memories there are of each kind that have not expired."""
    counted = f"SELECT m.class %% 8 != 0, count(*) FROM {collection}_memories m WHERE {_ALIVE} GROUP BY 1"
    counts = dict(await _all(db, counted, (now_us,)))
    return {Kind.FACT: counts.get(False, 0), Kind.CONTEXT: counts.get(True, 0)}
