"""What asks a database of documents: a function runs within one transaction, so all that it reads is of one moment."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from gateway.core.facts.memory import Position, Scope
from gateway.core.vision.document import Document, Region
from gateway.ports_vision import DocumentPage
from gateway.shell.facts.rows import id_bytes, ids_bytes
from gateway.shell.vision import sqlite_contents as contents
from gateway.shell.vision import sqlite_rows as rows

_DOCUMENT = f"SELECT {rows.DOCUMENT_COLUMNS} FROM documents d CROSS JOIN scopes s ON s.id = d.scope"
_REGION = f"SELECT {rows.REGION_COLUMNS} FROM regions r CROSS JOIN documents d ON d.seq = r.document"


def find(db: sqlite3.Connection, scope: Scope, hash_: str) -> Document | None:
    """The finished document of these bytes in this scope."""
    values = (contents.scope_id_of(db, scope), rows.hash_bytes(hash_))
    found = db.execute(f"{_DOCUMENT} WHERE d.scope = ? AND d.hash = ? AND d.state = 1", values).fetchone()
    return None if found is None else rows.document_from(found)


def document(db: sqlite3.Connection, owner: bytes, doc_id: str) -> Document | None:
    """The finished document of this id, if it is this owner's."""
    values = (id_bytes(doc_id) or b"", owner)
    found = db.execute(f"{_DOCUMENT} WHERE d.id = ? AND d.state = 1 AND s.owner = ?", values).fetchone()
    return None if found is None else rows.document_from(found)


def data_of(db: sqlite3.Connection, owner: bytes, doc_id: str) -> bytes | None:
    """Its bytes."""
    owned = "scope IN (SELECT id FROM scopes WHERE owner = ?)"
    select = f"SELECT content FROM documents WHERE id = ? AND state = 1 AND {owned}"
    found = db.execute(select, (id_bytes(doc_id) or b"", owner)).fetchone()
    return None if found is None else contents.read(db, found[0])


def documents(db: sqlite3.Connection, scope: Scope, after: Position | None, limit: int) -> DocumentPage:
    """Some of the finished documents of a scope, and how many there are."""
    scope_id = contents.scope_id_of(db, scope)
    if scope_id is None:
        return DocumentPage((), 0)
    which, values = "d.scope = ? AND d.state = 1", [scope_id]
    (total,) = db.execute(f"SELECT count(*) FROM documents d WHERE {which}", values).fetchone()
    behind: list[object] = []
    if after is not None:
        which, behind = f"{which} AND (d.created_us, d.id) > (?, ?)", [after.observed_us, id_bytes(after.id) or b""]
    ordered = f"{_DOCUMENT} WHERE {which} ORDER BY d.created_us, d.id LIMIT ?"
    found = [rows.document_from(columns) for columns in db.execute(ordered, (*values, *behind, limit + 1))]
    shown = found[:limit]
    has_more = len(found) > limit and bool(shown)
    return DocumentPage(shown, total, Position(shown[-1].created_us, shown[-1].id) if has_more else None)


def regions(db: sqlite3.Connection, owner: bytes, region_ids: Sequence[str]) -> dict[str, Region]:
    """Regions of finished documents by id, as far as they are this owner's."""
    found: dict[str, Region] = {}
    owned = "d.scope IN (SELECT id FROM scopes WHERE owner = ?)"
    for id_ in ids_bytes(region_ids):
        columns = db.execute(f"{_REGION} WHERE r.id = ? AND d.state = 1 AND {owned}", (id_, owner)).fetchone()
        if columns is not None:
            region = rows.region_from(columns)
            found[region.id] = region
    return found


def regions_numbered(db: sqlite3.Connection, numbers: Sequence[int]) -> dict[int, Region]:
    """Regions by their numbers."""
    select = _REGION.replace("SELECT ", "SELECT r.seq, ", 1)
    found = db.execute(f"{select} WHERE r.seq IN (SELECT value FROM json_each(?))", (json.dumps(list(numbers)),))
    return {columns[0]: rows.region_from(columns[1:]) for columns in found}
