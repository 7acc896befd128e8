"""What changes documents in a database: each function runs within a transaction that the caller begins and commits.

A document that is let go is gone for all readers at once; what it took is removed a little at a time (`purge_some`),
so that nobody waits long.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.core.vision.document import Document, Region
from gateway.core.vision.region_words import FULL, document_terms, impacts_of, labels_of
from gateway.ports_vision import VisionFault
from gateway.shell.facts.rows import id_bytes, scope_name
from gateway.shell.vision import sqlite_contents as contents
from gateway.shell.vision import sqlite_rows as rows
from gateway.shell.vision import sqlite_vectors as vectors
from gateway.shell.vision.region_lists import LAYOUT, ListedRegions, runs_by_block, without, words_bytes, words_from

DOCUMENT_BYTES, PAGE_BYTES, REGION_BYTES = 400, 100, 105
"""What each takes beside its own bytes, as measured: its columns with their indexes."""
PURGED_PAGES, PURGED_WORDS = 256, 1000
_NOTHING_PURGED = -(1 << 63)
_SELECT = f"SELECT {rows.DOCUMENT_COLUMNS} FROM documents d CROSS JOIN scopes s ON s.id = d.scope"
_ADD_TO_LIST = (
    "INSERT INTO lists (scope, word, block, data) VALUES (?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET data = CAST(data || excluded.data AS BLOB)"
)


class _Kept(NamedTuple):
    """A document that is not finished: its number, its scope's, itself."""

    seq: int
    scope_id: int
    document: Document


class _Page(NamedTuple):
    """A page that is kept: the numbers of its regions, what it takes, and what it is listed under."""

    number: int
    first: int
    regions: int
    size: int
    words: list[int]


def begin(db: sqlite3.Connection, document: Document, data: bytes, now_us: int, max_bytes: int) -> int:
    """Start to keep a document; returns how many of its first pages are there.

    Raises:
        ValueError: it cannot be stored.
        VisionFault: `full`.
    """
    id_, hash_, body = rows.known_id(document.id), rows.hash_bytes(document.hash), rows.document_body(document)
    scope_id = contents.scope_id_for(db, document.scope)
    if db.execute("SELECT 1 FROM documents WHERE id = ? AND state < 2 AND scope != ?", (id_, scope_id)).fetchone():
        raise ValueError(f"document {document.id} is of another scope")
    known = db.execute("SELECT seq, body, hash FROM documents WHERE id = ? AND state = 0", (id_,)).fetchone()
    if known is not None and known[1:] == (body, hash_):
        db.execute("UPDATE documents SET touched_us = ? WHERE seq = ?", (now_us, known[0]))
        return _first_pages(db, known[0])
    if known is not None:  # told otherwise than before: what it is found by is not the same
        db.execute("UPDATE documents SET state = 2 WHERE seq = ?", known[:1])
    content = contents.keep(db, data, max_bytes)
    size = DOCUMENT_BYTES + len(body)
    contents.take(db, size, max_bytes)
    db.execute(
        "INSERT INTO documents (id, scope, state, hash, content, created_us, touched_us, regions, size, body)"
        " VALUES (?, ?, 0, ?, ?, ?, ?, 0, ?, ?)",
        (id_, scope_id, hash_, content, document.created_us, now_us, size, body),
    )
    return 0


def _first_pages(db: sqlite3.Connection, seq: int) -> int:
    """How many pages are there from the first on without a gap."""
    first = 0
    for (number,) in db.execute("SELECT number FROM pages WHERE document = ? ORDER BY number", (seq,)):
        if number != first + 1:
            break
        first = number
    return first


def add_page(
    db: sqlite3.Connection, doc_id: str, number: int, regions: Sequence[Region], now_us: int, max_bytes: int
) -> None:
    """Keep a page of a document that is not finished; of one that another has finished meanwhile, nothing.

    Raises:
        ValueError: it cannot be stored.
        VisionFault: `full`, or `down` where there is no such document any more.
    """
    kept = _unfinished(db, doc_id)
    if kept is None:
        finished(db, doc_id)
        return
    if not 1 <= number <= kept.document.pages:
        raise ValueError(f"document {doc_id} has {kept.document.pages} pages, this is page {number}")
    for old in _pages(db, kept.seq, "number = ?", [number]):
        _take_out(db, kept.scope_id, old.words, _runs([old]))
        _remove_pages(db, kept.seq, kept.scope_id, [old])
    bodies = [(rows.known_id(region.id), kept.seq, rows.region_body(region, number)) for region in regions]
    seqs = [
        int(db.execute("INSERT INTO regions (id, document, body) VALUES (?, ?, ?)", body).lastrowid or 0)
        for body in bodies
    ]
    words = document_terms(kept.document.source, kept.document.metadata)
    labels = dict.fromkeys(labels_of(kept.document.metadata), FULL)
    listed = ListedRegions()
    for seq, region in zip(seqs, regions, strict=True):
        listed.add(seq, (kept.seq, number, region.laid.type), impacts_of(region.laid, words) | labels)
    db.executemany(_ADD_TO_LIST, ((kept.scope_id, *row) for row in listed.rows()))
    named = words_bytes(listed.words)
    size = PAGE_BYTES + len(named) + sum(REGION_BYTES + len(body) for *_, body in bodies) + listed.held_bytes
    contents.take(db, size, max_bytes)
    first = seqs[0] if seqs else 0
    db.execute("INSERT INTO pages VALUES (?, ?, ?, ?, ?, ?)", (kept.seq, number, first, len(seqs), size, named))
    db.execute("UPDATE documents SET touched_us = ? WHERE seq = ?", (now_us, kept.seq))


def _unfinished(db: sqlite3.Connection, doc_id: str) -> _Kept | None:
    select = _SELECT.replace("SELECT ", "SELECT d.seq, d.scope, ", 1)
    found = db.execute(f"{select} WHERE d.id = ? AND d.state = 0", (rows.known_id(doc_id),)).fetchone()
    return None if found is None else _Kept(found[0], found[1], rows.document_from(found[2:]))


def finished(db: sqlite3.Connection, doc_id: str) -> Document:
    """The finished document of this id.

    Raises:
        VisionFault: `down`, there is none.
    """
    found = db.execute(f"{_SELECT} WHERE d.id = ? AND d.state = 1", (rows.known_id(doc_id),)).fetchone()
    if found is None:
        raise VisionFault("down", f"document {doc_id} is not kept any more: it was deleted while it was indexed")
    return rows.document_from(found)


def finish(db: sqlite3.Connection, doc_id: str) -> Document:
    """Let a document be found in place of the one of the same id, if all its pages are there.

    Raises:
        ValueError: they are not.
        VisionFault: `down`, there is no such document any more.
    """
    kept = _unfinished(db, doc_id)
    if kept is None:
        return finished(db, doc_id)
    counted = "SELECT count(*), coalesce(sum(count), 0) FROM pages WHERE document = ?"
    pages, regions = db.execute(counted, (kept.seq,)).fetchone()
    if pages != kept.document.pages:
        raise ValueError(f"document {doc_id} has {kept.document.pages} pages, and {pages} of them are kept")
    of_old = "SELECT seq, created_us FROM documents WHERE id = ? AND state = 1"
    old = db.execute(of_old, (rows.known_id(doc_id),)).fetchone()
    created_us = kept.document.created_us
    if old is not None:
        db.execute("UPDATE documents SET state = 2 WHERE seq = ?", old[:1])
        created_us = min(created_us, old[1])
    change = (regions, created_us, kept.seq)
    db.execute("UPDATE documents SET state = 1, regions = ?, created_us = ? WHERE seq = ?", change)
    return finished(db, doc_id)


def abandon(db: sqlite3.Connection, doc_id: str) -> None:
    """Let go of a document that is not finished."""
    db.execute("UPDATE documents SET state = 2 WHERE id = ? AND state = 0", (rows.known_id(doc_id),))


def delete(db: sqlite3.Connection, owner: bytes, doc_id: str) -> bool:
    """Let go of a finished document, if it is this owner's; returns whether there was one.

    If it is being indexed again, that is let go, too: else it would be back in a while.
    """
    owned = "scope IN (SELECT id FROM scopes WHERE owner = ?)"
    values = (id_bytes(doc_id) or b"", owner)
    if db.execute(f"SELECT 1 FROM documents WHERE id = ? AND state = 1 AND {owned}", values).fetchone() is None:
        return False
    db.execute(f"UPDATE documents SET state = 2 WHERE id = ? AND state < 2 AND {owned}", values)
    return True


def delete_all(db: sqlite3.Connection, owner: bytes, name: str | None) -> int:
    """Let all documents of an owner go, or of one scope, finished or not; returns how many were finished."""
    which, values = all_of(owner, name)
    (count,) = db.execute(f"SELECT count(*) FROM documents WHERE state = 1 AND {which}", values).fetchone()
    db.execute(f"UPDATE documents SET state = 2 WHERE state < 2 AND {which}", values)
    return int(count)


def one_of(doc_id: str) -> tuple[str, list[bytes]]:
    """The condition of what is kept under an id."""
    return "id = ?", [rows.known_id(doc_id)]


def all_of(owner: bytes, name: str | None) -> tuple[str, list[bytes]]:
    """The condition of an owner's documents, or of those of one scope."""
    condition, values = scopes_of(owner, name)
    return f"scope IN (SELECT id FROM scopes WHERE {condition})", values


def scopes_of(owner: bytes, name: str | None) -> tuple[str, list[bytes]]:
    """The condition of this owner's scopes, or of the one of this name."""
    if name is None:
        return "owner = ?", [owner]
    return "owner = ? AND name = ?", [owner, scope_name(name)]


def forget_unfinished(db: sqlite3.Connection, touched_before_us: int) -> int:
    """Let go of documents that no job is about, and that nobody has added to since; returns how many."""
    is_open = "SELECT 1 FROM jobs j WHERE j.status < 2 AND j.document = documents.id"
    forgotten = f"UPDATE documents SET state = 2 WHERE state = 0 AND touched_us < ? AND NOT EXISTS ({is_open})"
    return db.execute(forgotten, (touched_before_us,)).rowcount


def purge_some(db: sqlite3.Connection, condition: str = "1", values: Sequence[object] = ()) -> bool:
    """Remove some of what a document took that was let go and meets a condition; returns whether there was any.

    Of `PURGED_PAGES` pages at a time first the words go, some in each step, each from the lists of all these pages at
    once; then the pages themselves, and where they stand.
    """
    which = f"state = 2 AND {condition} ORDER BY seq LIMIT 1"
    gone = db.execute(f"SELECT seq, scope, content, size, purged FROM documents WHERE {which}", values).fetchone()
    if gone is None:
        return False
    seq, scope_id, content, size, purged = gone
    pages = _pages(db, seq, "1 ORDER BY number LIMIT ?", [PURGED_PAGES])
    if not pages:
        contents.let_go(db, content)
        contents.give_back(db, size)
        db.execute("DELETE FROM documents WHERE seq = ?", (seq,))
        return True
    words = sorted({word for page in pages for word in page.words})
    some = words[bisect_right(words, purged) :][:PURGED_WORDS]
    if some:
        _take_out(db, scope_id, some, _runs(pages))
    else:
        _remove_pages(db, seq, scope_id, pages)
    db.execute("UPDATE documents SET purged = ? WHERE seq = ?", (some[-1] if some else _NOTHING_PURGED, seq))
    return True


def _pages(db: sqlite3.Connection, seq: int, condition: str, values: list[int]) -> list[_Page]:
    """Pages of a document."""
    select = f"SELECT number, first, count, size, words FROM pages WHERE document = ? AND {condition}"
    found = db.execute(select, (seq, *values))
    return [_Page(number, first, regions, size, words_from(words)) for number, first, regions, size, words in found]


def _runs(pages: Sequence[_Page]) -> dict[int, list[range]]:
    return runs_by_block(range(page.first, page.first + page.regions) for page in pages if page.regions)


def _remove_pages(db: sqlite3.Connection, seq: int, scope_id: int, pages: Sequence[_Page]) -> None:
    """Remove these pages of a document, whose words have been taken out."""
    _take_out(db, scope_id, [LAYOUT], _runs(pages))
    for page in pages:
        vectors.remove(db, range(page.first, page.first + page.regions))
        db.execute("DELETE FROM regions WHERE seq >= ? AND seq < ?", (page.first, page.first + page.regions))
        db.execute("DELETE FROM pages WHERE document = ? AND number = ?", (seq, page.number))
    contents.give_back(db, sum(page.size for page in pages))


def _take_out(db: sqlite3.Connection, scope_id: int, words: Iterable[int], gone: dict[int, list[range]]) -> None:
    """Take regions out of lists: runs of each block."""
    listed = json.dumps(sorted(words))
    select = (
        "SELECT word, data FROM json_each(?) w CROSS JOIN lists l ON l.scope = ? AND l.word = w.value AND l.block = ?"
    )
    for block, within in gone.items():
        found = db.execute(select, (listed, scope_id, block)).fetchall()
        left = [(without(word, data, within), word) for word, data in found]
        keyed = [(data, scope_id, word, block) for data, word in left if data]
        db.executemany("UPDATE lists SET data = ? WHERE scope = ? AND word = ? AND block = ?", keyed)
        empty = [(scope_id, word, block) for data, word in left if not data]
        db.executemany("DELETE FROM lists WHERE scope = ? AND word = ? AND block = ?", empty)
