"""The tables of a file of documents, and the steps that led to them.

A step that was released is never changed; what is new is another step.

A document's `state` is 0 while it is indexed, 1 once it is finished, 2 when it was let go; `purged` is the last word
that was taken out of the lists since. A job's `status` is 0 while it is queued, 1 while it is a worker's, 2 at its end.

`lists` is the index of what regions are found by (see `region_lists`): for each word of a scope, the regions that hold
it, packed, in a row for each `BLOCK` of region numbers. A list of a hundred thousand regions is read in 25 rows, so a
search can weigh all that hold any of its words, whatever it filters by. `contents` are bytes, kept once for the jobs
and documents that use them, in parts so that none is larger than SQLite moves with ease. A region's `model` is the one
that made its vector, or found nothing in it to make one of; 0 for none. `filling` says whose turn it is to have vectors
made.
"""

from __future__ import annotations

from gateway.shell.facts.sqlite_file import Format

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE scopes (id INTEGER PRIMARY KEY AUTOINCREMENT, owner BLOB NOT NULL, name BLOB NOT NULL,"
        " UNIQUE (owner, name))",
        "CREATE TABLE contents (id INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,"
        " uses INTEGER NOT NULL)",
        "CREATE TABLE content_parts (id INTEGER PRIMARY KEY, content INTEGER NOT NULL, place INTEGER NOT NULL,"
        " data BLOB NOT NULL, UNIQUE (content, place))",
        "CREATE TABLE documents ("
        "seq INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL, scope INTEGER NOT NULL, state INTEGER NOT NULL,"
        " hash BLOB NOT NULL, content INTEGER NOT NULL, created_us INTEGER NOT NULL, touched_us INTEGER NOT NULL,"
        " regions INTEGER NOT NULL, size INTEGER NOT NULL, purged INTEGER NOT NULL DEFAULT -9223372036854775808,"
        " body BLOB NOT NULL)",
        "CREATE UNIQUE INDEX documents_id ON documents (id, state) WHERE state < 2",
        "CREATE INDEX documents_hash ON documents (scope, hash)",
        "CREATE INDEX documents_order ON documents (scope, created_us, id) WHERE state = 1",
        "CREATE INDEX documents_hidden ON documents (scope) WHERE state != 1",
        "CREATE INDEX documents_unfinished ON documents (touched_us) WHERE state = 0",
        "CREATE INDEX documents_gone ON documents (seq) WHERE state = 2",
        "CREATE TABLE pages (document INTEGER NOT NULL, number INTEGER NOT NULL, first INTEGER NOT NULL,"
        " count INTEGER NOT NULL, size INTEGER NOT NULL, words BLOB NOT NULL, PRIMARY KEY (document, number))"
        " WITHOUT ROWID",
        "CREATE TABLE regions (seq INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL, document INTEGER NOT NULL,"
        " body BLOB NOT NULL)",
        "CREATE INDEX regions_id ON regions (id)",
        "CREATE TABLE lists (scope INTEGER NOT NULL, word INTEGER NOT NULL, block INTEGER NOT NULL,"
        " data BLOB NOT NULL, PRIMARY KEY (scope, word, block)) WITHOUT ROWID",
        "CREATE TABLE jobs ("
        "seq INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, scope INTEGER NOT NULL,"
        " status INTEGER NOT NULL, created_us INTEGER NOT NULL, ended_us INTEGER, worker TEXT NOT NULL,"
        " lease_until_us INTEGER NOT NULL, document BLOB, content INTEGER, size INTEGER NOT NULL, body BLOB NOT NULL)",
        "CREATE INDEX jobs_open ON jobs (created_us, seq) WHERE status < 2",
        "CREATE INDEX jobs_ended ON jobs (coalesce(ended_us, created_us)) WHERE status = 2",
        "CREATE INDEX jobs_scope ON jobs (scope)",
        "CREATE TABLE figures (id INTEGER PRIMARY KEY, bytes INTEGER NOT NULL)",
        "INSERT INTO figures VALUES (0, 0)",
    ),
    (
        "CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "ALTER TABLE regions ADD COLUMN model INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX regions_model ON regions (model, seq)",
        "CREATE TABLE vectors (seq INTEGER PRIMARY KEY AUTOINCREMENT, region INTEGER NOT NULL UNIQUE,"
        " scope INTEGER NOT NULL, model INTEGER NOT NULL, data BLOB NOT NULL)",
        "CREATE INDEX vectors_scope ON vectors (scope, model, seq)",
        "CREATE TABLE filling (id INTEGER PRIMARY KEY, worker TEXT NOT NULL, until_us INTEGER NOT NULL)",
        "INSERT INTO filling VALUES (0, '', 0)",
    ),
)
FORMAT = Format(0x4C4D4756, _MIGRATIONS, "documents", "vision.url", "gateway.vision")
