"""The tables of a file of memories, and the steps that led to them: `PRAGMA user_version` says which were taken.

A step that was released is never changed; what is new is another step.

`postings` is the index of all that memories are looked up by (see `rows`): a list of memories for each word of a
bucket, newest last. Beside FTS5 it is two to three times as large, but a list is of one scope alone, its length is
known without reading it, it is read from its end, and what was stored is removed without being told again.
"""

from __future__ import annotations

from gateway.shell.facts.sqlite_file import Format

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE scopes (id INTEGER PRIMARY KEY AUTOINCREMENT, owner BLOB NOT NULL, name BLOB NOT NULL,"
        " UNIQUE (owner, name))",
        "CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE memories ("
        "seq INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, scope INTEGER NOT NULL,"
        " class INTEGER NOT NULL, key BLOB NOT NULL, topic BLOB, session BLOB, observed_us INTEGER NOT NULL,"
        " seen_us INTEGER NOT NULL, ended_us INTEGER, expires_us INTEGER, confidence REAL NOT NULL,"
        " model INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL, body BLOB NOT NULL, terms BLOB NOT NULL,"
        " UNIQUE (scope, key))",
        "CREATE INDEX memories_order ON memories (scope, observed_us, id, class, expires_us)",
        "CREATE INDEX memories_topic ON memories (scope, topic) WHERE topic IS NOT NULL AND ended_us IS NULL",
        "CREATE INDEX memories_session ON memories (session) WHERE session IS NOT NULL",
        "CREATE INDEX memories_expires ON memories (expires_us) WHERE expires_us IS NOT NULL",
        "CREATE INDEX memories_ended ON memories (seq) WHERE ended_us IS NOT NULL",
        "CREATE INDEX memories_model ON memories (model, observed_us, id) WHERE ended_us IS NULL",
        "CREATE TABLE postings (bucket INTEGER NOT NULL, word INTEGER NOT NULL, memory INTEGER NOT NULL,"
        " PRIMARY KEY (bucket, word, memory)) WITHOUT ROWID",
        "CREATE TABLE vectors (seq INTEGER PRIMARY KEY AUTOINCREMENT, memory INTEGER NOT NULL UNIQUE,"
        " scope INTEGER NOT NULL, class INTEGER NOT NULL, model INTEGER NOT NULL, data BLOB NOT NULL)",
        "CREATE INDEX vectors_scope ON vectors (scope, model, seq)",
        "CREATE TABLE figures (kind INTEGER PRIMARY KEY, memories INTEGER NOT NULL, bytes INTEGER NOT NULL)",
        "INSERT INTO figures VALUES (0, 0, 0), (1, 0, 0)",
    ),
)
FORMAT = Format(0x4C4D4746, _MIGRATIONS, "memories", "facts.url", "gateway.facts")
