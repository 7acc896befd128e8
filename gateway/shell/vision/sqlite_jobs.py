"""Jobs in a database of documents: each function runs within a transaction that the caller begins and commits.

A job that is claimed is leased to its worker until a time; what a worker saves of a job counts only while the job is
its own and has not ended. Writers take turns, whatever their process, so that one job is never two workers'.
"""

from __future__ import annotations

import sqlite3

from gateway.core.vision.document import Job
from gateway.ports_vision import VisionFault
from gateway.shell.facts.rows import id_bytes
from gateway.shell.vision import sqlite_contents as contents
from gateway.shell.vision import sqlite_rows as rows
from gateway.shell.vision.sqlite_write import all_of

JOB_BYTES = 300
"""What a job takes beside its own bytes, as measured."""
_SWEPT_AT_ONCE = 64
_SELECT = f"SELECT {rows.JOB_COLUMNS} FROM jobs j CROSS JOIN scopes s ON s.id = j.scope"


def put(db: sqlite3.Connection, job: Job, data: bytes | None, queue_max: int, max_bytes: int) -> None:
    """Keep a new job.

    Raises:
        ValueError: it cannot be stored.
        VisionFault: `busy` or `full`.
    """
    id_, body = rows.known_id(job.id), rows.job_body(job)
    queued = waiting(db)
    if queued >= queue_max:
        message = f"{queued} documents wait to be indexed already, of at most {queue_max}; try again in a while."
        raise VisionFault("busy", message)
    scope_id, size = contents.scope_id_for(db, job.scope), JOB_BYTES + len(body)
    content = None if data is None else contents.keep(db, data, max_bytes)
    contents.take(db, size, max_bytes)
    db.execute(
        "INSERT INTO jobs (id, scope, status, created_us, ended_us, worker, lease_until_us, document, content, size,"
        " body) VALUES (?, ?, ?, ?, ?, '', 0, ?, ?, ?, ?)",
        (
            id_,
            scope_id,
            rows.status_number(job.status),
            job.created_us,
            job.ended_us,
            id_bytes(job.doc_id),
            content,
            size,
            body,
        ),
    )


def get(db: sqlite3.Connection, owner: bytes, job_id: str) -> Job | None:
    """A job, if it is this owner's."""
    found = db.execute(f"{_SELECT} WHERE j.id = ? AND s.owner = ?", (id_bytes(job_id) or b"", owner)).fetchone()
    return None if found is None else rows.job_from(found)


def data_of(db: sqlite3.Connection, job_id: str) -> bytes | None:
    """The bytes that came with it, until it ended."""
    found = db.execute("SELECT content FROM jobs WHERE id = ?", (id_bytes(job_id) or b"",)).fetchone()
    return None if found is None or found[0] is None else contents.read(db, found[0])


def waiting(db: sqlite3.Connection) -> int:
    """Jobs that are queued."""
    (count,) = db.execute("SELECT count(*) FROM jobs WHERE status = 0 AND status < 2").fetchone()
    return int(count)


def claim(db: sqlite3.Connection, worker: str, now_us: int, lease_us: int) -> Job | None:
    """The oldest job that waits for a worker, now this one's."""
    is_free = "status < 2 AND (status = 0 OR lease_until_us <= ?)"
    oldest = f"SELECT seq FROM jobs WHERE {is_free} ORDER BY created_us, seq LIMIT 1"
    found = db.execute(oldest, (now_us,)).fetchone()
    if found is None:
        return None
    lease = (worker, now_us + lease_us, *found)
    db.execute("UPDATE jobs SET status = 1, worker = ?, lease_until_us = ? WHERE seq = ?", lease)
    return rows.job_from(db.execute(f"{_SELECT} WHERE j.seq = ?", found).fetchone())


def save(db: sqlite3.Connection, job: Job, worker: str, lease_until_us: int) -> bool:
    """Keep how far a job is; False where it is not this worker's to say.

    Raises:
        ValueError: it cannot be stored.
    """
    mine = db.execute(
        "SELECT seq, content, size FROM jobs WHERE id = ? AND status = 1 AND worker = ?",
        (rows.known_id(job.id), worker),
    ).fetchone()
    if mine is None:
        return False
    _write(db, mine, job, lease_until_us)
    return True


def cancel(db: sqlite3.Connection, job: Job) -> bool:
    """End a job as this record says; returns whether it had not ended.

    Raises:
        ValueError: the record is of no ended job, or cannot be stored.
    """
    if rows.status_number(job.status) != rows.ENDED:
        raise ValueError(f"a cancelled job has to have ended, this one is {job.status.value}")
    found = db.execute(
        "SELECT j.seq, j.content, j.size FROM jobs j CROSS JOIN scopes s ON s.id = j.scope"
        " WHERE j.id = ? AND j.status < 2 AND s.owner = ?",
        (rows.known_id(job.id), job.scope.owner),
    ).fetchone()
    if found is None:
        return False
    _write(db, found, job, 0)
    return True


def _write(db: sqlite3.Connection, found: tuple[int, int | None, int], job: Job, lease_until_us: int) -> None:
    seq, content, old_size = found
    status, body = rows.status_number(job.status), rows.job_body(job)
    if status == rows.ENDED:
        contents.let_go(db, content)
        content = None
    size = JOB_BYTES + len(body)
    contents.give_back(db, old_size - size)  # a few bytes more or less: a job that runs is never refused its end
    db.execute(
        "UPDATE jobs SET status = ?, ended_us = ?, lease_until_us = ?, document = ?, content = ?, size = ?, body = ?"
        " WHERE seq = ?",
        (status, job.ended_us, lease_until_us, id_bytes(job.doc_id), content, size, body, seq),
    )


def delete_all(db: sqlite3.Connection, owner: bytes, name: str | None) -> None:
    """Let all jobs of an owner go, or of one scope."""
    _remove(db, *all_of(owner, name), -1)


def sweep_some(db: sqlite3.Connection, ended_before_us: int) -> int:
    """Let go of some jobs that ended before; returns how many."""
    return _remove(db, "status = 2 AND coalesce(ended_us, created_us) < ?", [ended_before_us], _SWEPT_AT_ONCE)


def _remove(db: sqlite3.Connection, condition: str, values: list[bytes] | list[int], limit: int) -> int:
    gone = db.execute(f"SELECT seq, content, size FROM jobs WHERE {condition} LIMIT ?", (*values, limit)).fetchall()
    for seq, content, size in gone:
        contents.let_go(db, content)
        contents.give_back(db, size)
        db.execute("DELETE FROM jobs WHERE seq = ?", (seq,))
    return len(gone)
