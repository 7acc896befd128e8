"""`ports_vision.Reader` by processes of their own: some that index, and one for whoever waits for an answer.

Processes are started when they are needed and end after a while without work. One that dies, hangs or takes more memory
than it may is replaced; what it was reading is tried once more, and is then a reason to refuse the document.

Invariants, each with a test of its own:
  1. Whatever a document does to a process, its reader is told so, and others go on.
  2. There are never more processes than were asked for, and none is left behind.
  3. Who waits for one region never waits for a whole document.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from gateway.core.vision.document import Box, LaidPage, Reading
from gateway.ports_vision import Inspected, VisionFault
from gateway.shell.vision import reader_wire as wire
from gateway.shell.vision.reader_process import CHILD, ReaderDied, ReaderProcess
from gateway.tasks import TaskGroup

T = TypeVar("T", bound=wire.Told)
_TRIES = 2
_HASH_HERE_BYTES = 1 << 18
_CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class ReaderRules:
    """How documents are read.

    Attributes:
        limits: of each process.
        processes: that index.
        page_s: how long one page may take.
        idle_s: after so long without work a process ends.
        child: what is run, behind Python.
    """

    limits: wire.Limits
    processes: int = 1
    page_s: float = 60.0
    idle_s: float = 60.0
    child: Sequence[str] = CHILD


class ChildReaders:
    """`ports_vision.Reader`.

    Args:
        rules: how documents are read.

    Attributes:
        tally: processes by what became of them: started, died, late.
    """

    def __init__(self, rules: ReaderRules) -> None:
        self.tally: Counter[str] = Counter()
        self._rules = rules
        self._tasks = TaskGroup()
        self._indexing = _Pool(rules, rules.processes, self._tasks, self.tally)
        self._answering = _Pool(rules, 1, self._tasks, self.tally)

    async def inspect(self, data: bytes) -> Inspected:
        hash_ = await _hash_of(data)
        told = await self._ask(self._indexing, wire.Inspect(hash_), data, wire.IsInspected, "The document")
        return told.inspected

    async def pages(self, data: bytes, first: int) -> AsyncGenerator[LaidPage, None]:
        hash_ = await _hash_of(data)
        inspected = await self._ask(self._indexing, wire.Inspect(hash_), data, wire.IsInspected, "The document")
        for page in range(first, inspected.inspected.pages + 1):
            asked = wire.ReadPage(hash_, page)
            yield (await self._ask(self._indexing, asked, data, wire.IsRead, f"Page {page}")).page

    async def render(self, data: bytes, page: int, box: Box | None, max_side_px: int) -> bytes:
        asked = wire.Render(await _hash_of(data), page, box, max_side_px)
        return (await self._ask(self._answering, asked, data, wire.IsRendered, f"Page {page}")).png

    async def decode(self, data: bytes, page: int, box: Box, dpi: int) -> Reading:
        asked = wire.Decode(await _hash_of(data), page, box, dpi)
        return (await self._ask(self._answering, asked, data, wire.IsDecoded, f"Page {page}")).reading

    async def close(self) -> None:
        await asyncio.gather(self._indexing.close(), self._answering.close())
        await self._tasks.drain(_CLOSE_S)

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [*self._indexing.pids, *self._answering.pids]

    async def _ask(
        self,
        pool: _Pool,
        asked: wire.Inspect | wire.ReadPage | wire.Render | wire.Decode,
        data: bytes,
        kind: type[T],
        what: str,
    ) -> T:
        """The answer of this kind.

        Raises:
            VisionFault: there is none.
        """
        for is_last in (False,) * (_TRIES - 1) + (True,):
            try:
                async with pool.reader(asked.hash) as reader, asyncio.timeout(self._rules.page_s):
                    told = await reader.ask(asked, data)
            except TimeoutError:
                self.tally["late"] += 1
                message = f"{what} took more than {self._rules.page_s:g} seconds to be read (vision.page_seconds)."
                raise VisionFault("timeout", message) from None
            except ReaderDied as died:
                self.tally["died"] += 1
                if is_last:
                    message = f"{what} could not be read: the process that read it failed twice, {died.how} at last."
                    raise VisionFault("unreadable", message) from None
                continue
            if isinstance(told, kind):
                return told
            raise self._fault_of(told, what)
        raise AssertionError("the last try answers or raises")

    def _fault_of(self, told: wire.Told, what: str) -> VisionFault:
        if isinstance(told, wire.Refused) and told.kind == "memory":
            most = self._rules.limits.memory_bytes
            return VisionFault(
                "unreadable", f"{what} needs more than {most} bytes to be read (vision.reader_memory_bytes)."
            )
        message = told.message if isinstance(told, wire.Refused) else f"{what} was answered by something else."
        return VisionFault("unreadable", message)


class _Pool:
    """So many processes at most, each for one caller at a time."""

    def __init__(self, rules: ReaderRules, most: int, tasks: TaskGroup, tally: Counter[str]) -> None:
        self._rules = rules
        self._turns = asyncio.Semaphore(most)
        self._idle: dict[ReaderProcess, asyncio.TimerHandle] = {}
        self._busy: set[ReaderProcess] = set()
        self._tasks = tasks
        self._tally = tally

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [reader.pid for reader in (*self._busy, *self._idle) if reader.is_alive]

    @asynccontextmanager
    async def reader(self, hash_: bytes) -> AsyncIterator[ReaderProcess]:
        """A process for one call, one that knows the document where there is one."""
        async with self._turns:
            reader = self._idle_one(hash_)
            if reader is None:
                reader = await ReaderProcess.start(self._rules.limits, self._rules.child)
                self._tally["started"] += 1
            self._busy.add(reader)
            try:
                yield reader
            finally:
                self._busy.discard(reader)
                self._rest(reader)

    def _idle_one(self, hash_: bytes) -> ReaderProcess | None:
        alive = [reader for reader in self._idle if reader.is_alive]
        found = next((reader for reader in alive if reader.newest == hash_), alive[-1] if alive else None)
        for reader in [each for each in self._idle if each is found or not each.is_alive]:
            self._idle.pop(reader).cancel()
        return found

    def _rest(self, reader: ReaderProcess) -> None:
        if not reader.is_alive:
            self._tasks.spawn(reader.close(), "end a reader")
            return
        end = asyncio.get_running_loop().call_later(self._rules.idle_s, self._end, reader)
        self._idle[reader] = end

    def _end(self, reader: ReaderProcess) -> None:
        self._idle.pop(reader, None)
        self._tasks.spawn(reader.close(), "end a reader")

    async def close(self) -> None:
        """End all."""
        for reader, timer in self._idle.items():
            timer.cancel()
            reader.kill()
        ended = [*self._idle, *self._busy]
        self._idle.clear()
        for reader in ended:
            await reader.close()


async def _hash_of(data: bytes) -> bytes:
    if len(data) <= _HASH_HERE_BYTES:
        return hashlib.sha256(data).digest()
    return await asyncio.to_thread(lambda: hashlib.sha256(data).digest())
