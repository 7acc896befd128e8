"""`ports.Decoder` on this machine: a document's own text, or what is read of its page at the size of the fidelity.

A reading that is given up goes on until its own time is over: to end it would be to end its process, which has loaded
its models by then, and the next reading would have to wait for them anew. The next one begins, and its document is
fetched, once that has ended: however many are given up, one document is held.
"""

from __future__ import annotations

import asyncio

from gateway.core.routing.breaker import Event
from gateway.core.vision.document import Fidelity, Reading, Region
from gateway.core.vision.fidelity import LOCAL_DPI
from gateway.exchange import Exchange
from gateway.ports_vision import Reader, ToDecode, VisionFault
from gateway.shell.vision.backend import BackendFault
from gateway.tasks import TaskGroup


class LocalDecoder:
    """Decodes with a reader.

    Args:
        reader: of documents.
        tasks: where readings go on that nobody waits for any longer.
        reads_pictures: text is read from pictures, too.
    """

    def __init__(self, reader: Reader, tasks: TaskGroup, *, reads_pictures: bool) -> None:
        self._reader = reader
        self._tasks = tasks
        self._turn = asyncio.Lock()
        self.version = "local:ocr" if reads_pictures else "local:text"

    async def decode(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading:
        region = wanted.region
        await self._turn.acquire()
        try:
            data = await wanted.fetch_data()
            decoding = self._tasks.spawn(self._read(data, region, LOCAL_DPI[fidelity]), "decode a region")
        except BaseException:
            self._turn.release()
            raise
        decoding.add_done_callback(lambda _: self._turn.release())
        read = await asyncio.shield(decoding)
        if isinstance(read, VisionFault):
            # The same page takes as long again; only a machine that is overloaded is left alone.
            event = Event.FAILURE if read.kind == "timeout" else None
            raise BackendFault(read.kind, read.message, is_passing=False, event=event)
        return read

    async def _read(self, data: bytes, region: Region, dpi: int) -> Reading | VisionFault:
        try:
            return await self._reader.decode(data, region.page, region.laid.box, dpi)
        except VisionFault as fault:
            return fault
