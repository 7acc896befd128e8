"""`ports_vision.Reader` by processes of their own: a pool for indexing, and one process beside it for chats.

A process is started when it is needed, and ended when it has had no work for a while. One that crashes, runs out of
memory or talks nonsense is replaced and the page tried once more; the second time the page is `unreadable`. One that
takes too long is killed, which is `timeout` at once: it would most likely take as long again.

Invariants, each with a test of its own:
  1. Whatever a document does to its process, other documents are read.
  2. A call that is cancelled leaves no process that works for nobody.
  3. What renders and decodes never waits for what indexes.
  4. After `close` no process is left.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

import msgspec

from gateway.core.vision.document import Box, LaidPage, Reading
from gateway.ports_vision import Inspected, VisionFault
from gateway.shell.vision import reader_frames as frames
from gateway.shell.vision.reader_process import Held, ReaderDied, ReaderOptions, ReaderProcess
from gateway.tasks import TaskGroup

T = TypeVar("T")
_log = logging.getLogger("gateway.vision.readers")
_TRIES = 2
_HASHED_HERE_BYTES = 1 << 18
_PNG = b"\x89PNG\r\n\x1a\n"
_inspected = msgspec.msgpack.Decoder(Inspected).decode
_laid_page = msgspec.msgpack.Decoder(LaidPage).decode
_reading = msgspec.msgpack.Decoder(Reading).decode


class ChildReaders:
    """Reads documents in processes.

    Args:
        options: how.

    Attributes:
        started: processes, so far.
        deaths: processes that ended before their time, by kind: `crashed`, `killed`, `memory`, `broken`, `garbage`,
            `ended`, `timeout`.
    """

    def __init__(self, options: ReaderOptions) -> None:
        self._options = options
        self.started = 0
        self.deaths: Counter[str] = Counter()
        self._tasks = TaskGroup()
        self._index = _Pool(self, options.workers)
        self._chats = _Pool(self, 1)

    @property
    def pids(self) -> list[int]:
        """Of processes that run."""
        return [process.pid for pool in (self._index, self._chats) for process in pool.processes]

    async def inspect(self, data: bytes) -> Inspected:
        """See `Reader`."""
        held = await self._held(data)
        order = frames.Inspect(held.hash)
        return await self._index.call(held, order, frames.MAX_PAGE_BYTES, _inspected, "The document")

    async def pages(self, data: bytes, first: int) -> AsyncGenerator[LaidPage, None]:
        """See `Reader`."""
        held = await self._held(data)
        inspect = frames.Inspect(held.hash)
        inspected = await self._index.call(held, inspect, frames.MAX_PAGE_BYTES, _inspected, "The document")
        for page in range(first, inspected.pages + 1):
            order = frames.ReadPage(held.hash, page)
            yield await self._index.call(held, order, frames.MAX_PAGE_BYTES, _laid_page, f"Page {page}")

    async def render(self, data: bytes, page: int, box: Box | None, max_side_px: int) -> bytes:
        """See `Reader`."""
        held = await self._held(data)
        order = frames.Render(held.hash, page, box, max_side_px)
        return await self._chats.call(held, order, frames.MAX_PICTURE_BYTES, _png, f"Page {page}")

    async def decode(self, data: bytes, page: int, box: Box, dpi: int) -> Reading:
        """See `Reader`."""
        held = await self._held(data)
        order = frames.Decode(held.hash, page, box, dpi)
        return await self._chats.call(held, order, frames.MAX_PAGE_BYTES, _reading, f"Page {page}")

    async def close(self) -> None:
        """See `Reader`."""
        await asyncio.gather(self._index.close(), self._chats.close())
        await self._tasks.drain(5)

    async def _held(self, data: bytes) -> Held:
        """A document by its hash.

        Raises:
            VisionFault: `unreadable`, it is too large.
        """
        if len(data) > (most := self._options.max_document_bytes):
            raise VisionFault("unreadable", f"The document has {len(data)} bytes; the limit is {most}.")
        if len(data) <= _HASHED_HERE_BYTES:
            return Held(hashlib.sha256(data).hexdigest(), data)
        return Held((await asyncio.to_thread(hashlib.sha256, data)).hexdigest(), data)

    async def start_process(self) -> ReaderProcess:
        """One more process."""
        process = await ReaderProcess.start(self._options, self._tasks)
        self.started += 1
        return process

    def bury(self, process: ReaderProcess) -> None:
        """See to it that a process is gone."""
        self._tasks.spawn(process.end(), "end of a reader")

    @property
    def options(self) -> ReaderOptions:
        """How documents are read."""
        return self._options


class _Pool:
    """So many processes at most, each for one call at a time; callers wait in turn."""

    def __init__(self, readers: ChildReaders, size: int) -> None:
        self._readers = readers
        self._room = asyncio.Semaphore(size)
        self._free: dict[ReaderProcess, asyncio.TimerHandle] = {}
        self.processes: set[ReaderProcess] = set()
        self._is_closed = False

    async def call(self, held: Held, order: frames.Work, max_bytes: int, decode: Callable[[bytes], T], what: str) -> T:
        """Have an order carried out.

        Raises:
            VisionFault: `unreadable`, `timeout`, `disabled`, or `down` where no process can be started.
        """
        async with self._room:
            for _ in range(_TRIES):
                try:
                    return await self._try(held, order, max_bytes, decode)
                except TimeoutError:
                    self._readers.deaths["timeout"] += 1
                    _log.warning("a page took too long to read", extra={"order": type(order).__name__})
                    page_s = self._readers.options.page_s
                    raise VisionFault("timeout", f"{what} took longer than {page_s:g} s to read.") from None
                except ReaderDied as death:
                    last = death
            raise VisionFault("unreadable", f"{what} cannot be read: the process that reads it {last.message}, twice.")

    async def _try(self, held: Held, order: frames.Work, max_bytes: int, decode: Callable[[bytes], T]) -> T:
        process = await self._take(held.hash)
        try:
            async with asyncio.timeout(self._readers.options.page_s):
                return await process.ask(held, order, max_bytes, decode)
        except ReaderDied as death:
            if self._is_closed:
                raise _closing() from None
            self._readers.deaths[death.kind] += 1
            said = {"kind": death.kind, "order": type(order).__name__, "places": process.places()}
            _log.warning("a process that reads documents ended", extra=said)
            raise
        finally:
            self._give_back(process)

    async def _take(self, hash_: str) -> ReaderProcess:
        """A free process, one that has the document if there is one; else a new one."""
        for process in [each for each in self._free if not each.is_alive]:
            self._forget(process)
        self._refuse_if_closed()
        if self._free:
            process = max(self._free, key=lambda each: each.holds(hash_))
            self._free.pop(process).cancel()
            return process
        process = await self._readers.start_process()
        self.processes.add(process)
        try:
            self._refuse_if_closed()
        except VisionFault:
            self._forget(process)
            raise
        return process

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise _closing()

    def _give_back(self, process: ReaderProcess) -> None:
        if not process.is_alive or self._is_closed:
            self._forget(process)
            return
        loop = asyncio.get_running_loop()
        self._free[process] = loop.call_later(self._readers.options.idle_s, self._forget, process)

    def _forget(self, process: ReaderProcess) -> None:
        """Let a process end that nobody is using."""
        if (timer := self._free.pop(process, None)) is not None:
            timer.cancel()
        if process in self.processes:
            self.processes.discard(process)
            process.kill()
            self._readers.bury(process)

    async def close(self) -> None:
        """End all processes, whatever they do."""
        self._is_closed = True
        for process in list(self.processes):
            self._forget(process)


def _closing() -> VisionFault:
    return VisionFault("disabled", "The gateway is closing: nothing is read any more.")


def _png(body: bytes) -> bytes:
    if not body.startswith(_PNG):
        raise ValueError("no PNG")
    return body
