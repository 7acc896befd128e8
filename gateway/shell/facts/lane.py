"""One thread that owns one connection to SQLite: calls wait in line, and those that wait together share a transaction.

The event loop never runs a statement. All writes that wait when the thread is free are done in one transaction, each
behind a savepoint of its own, and are acknowledged after its commit: a thousand callers share one `fsync`, and what
fails for one does not fail for the others. It knows no tables; what to do about an error is the store's.

Invariants, each with a test of its own:
  1. A write is acknowledged only when it is committed; one that failed has changed nothing.
  2. A call that is given up still runs, or does not run at all; never half.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from gateway.ports_memory import MemoryFault

T = TypeVar("T")
MAX_WAITING = 2048
_MAX_TOGETHER = 256


class Opener(Protocol):
    """Gives the connection, and is told of errors."""

    def connected(self) -> sqlite3.Connection:
        """The connection as it is now to be used; raises MemoryFault where there is none."""

    def failed(self, error: sqlite3.Error) -> MemoryFault:
        """An error that spoils the connection or the transaction, as what callers are told."""

    def disconnect(self) -> None:
        """Close the connection."""


class _Call(NamedTuple):
    work: Callable[[sqlite3.Connection], Any]
    is_write: bool
    future: asyncio.Future[Any]


class Lane:
    """A thread and its connection.

    Args:
        opener: of the connection; all of it runs in the thread.
        name: of the thread.
        what: is kept there, as messages say it.
    """

    def __init__(self, opener: Opener, name: str, what: str = "memories") -> None:
        self._opener = opener
        self._what = what
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._is_started = False
        self._is_closed = False
        self._ended: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def call(self, work: Callable[[sqlite3.Connection], T], *, is_write: bool, patience_s: float) -> T:
        """Have work done in the thread.

        Raises:
            MemoryFault: it could not be done, or was not done in time; then it may still be done later.
            ValueError: whatever the work refuses.
        """
        if self._is_closed:
            raise MemoryFault("down", f"the store of {self._what} is closed")
        if self._calls.qsize() >= MAX_WAITING:
            raise MemoryFault("timeout", f"{MAX_WAITING} calls wait for the store of {self._what} already")
        if not self._is_started:
            self._is_started = True
            self._loop = asyncio.get_running_loop()
            self._thread.start()
        future = asyncio.get_running_loop().create_future()
        self._calls.put(_Call(work, is_write, future))
        try:
            async with asyncio.timeout(patience_s):  # `wait_for` would lose a cancellation that meets the result
                result: T = await future
        except TimeoutError:
            raise MemoryFault("timeout", f"the store of {self._what} did not answer in {patience_s:g} s") from None
        return result

    async def close(self) -> None:
        """Do what waits, then let go of the connection."""
        if not self._is_closed:
            self._is_closed = True
            if self._is_started:
                self._ended = asyncio.get_running_loop().create_future()
                self._calls.put(None)
        if self._ended is not None:
            await asyncio.shield(self._ended)

    # What follows runs in the thread.

    def _run(self) -> None:
        while (first := self._calls.get()) is not None:
            together, is_last = [first], False
            with contextlib.suppress(queue.Empty):
                while len(together) < _MAX_TOGETHER and not is_last:
                    following = self._calls.get_nowait()
                    is_last = following is None
                    if following is not None:
                        together.append(following)
            self._do(together)
            if is_last:
                break
        self._opener.disconnect()
        self._tell(self._finish)

    def _do(self, calls: list[_Call]) -> None:
        wanted = [call for call in calls if not call.future.cancelled()]
        is_write = any(call.is_write for call in wanted)
        try:
            db = self._opener.connected()
            db.execute("BEGIN IMMEDIATE" if is_write else "BEGIN")
            results = [_done(db, call) for call in wanted]
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._answer_all(wanted, self._opener.failed(error))
        except MemoryFault as fault:
            self._answer_all(wanted, fault)
        else:
            self._tell(lambda: _answer(wanted, results))

    def _answer_all(self, calls: list[_Call], error: Exception) -> None:
        self._tell(lambda: _answer(calls, [error] * len(calls)))

    def _tell(self, what: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                self._loop.call_soon_threadsafe(what)

    def _finish(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


def _done(db: sqlite3.Connection, call: _Call) -> Any:
    """What one call comes to; a refusal undoes what that call did, and only that."""
    if not call.is_write:
        return _attempted(db, call)
    db.execute("SAVEPOINT one")
    result = _attempted(db, call)
    if isinstance(result, Exception):
        db.execute("ROLLBACK TO one")
    db.execute("RELEASE one")
    return result


def _attempted(db: sqlite3.Connection, call: _Call) -> Any:
    try:
        return call.work(db)
    except (sqlite3.IntegrityError, sqlite3.DataError) as error:
        return ValueError(f"it cannot be stored: {error}")
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001 - it is told to the caller, and to no other
        return error


def _answer(calls: list[_Call], results: list[Any]) -> None:
    for call, result in zip(calls, results, strict=True):
        if call.future.done():
            continue
        if isinstance(result, Exception):
            call.future.set_exception(result)
        else:
            call.future.set_result(result)
