"""A process that has a document read, for a test to kill: it prints its reader's process id.

python -m tests.shell.vision.reader_parent
"""

from __future__ import annotations

import asyncio

from gateway.shell.vision.reader_process import ReaderOptions
from gateway.shell.vision.readers import ChildReaders
from gateway.shell.vision.source import ReadLimits
from tests.shell.vision.bad_reader import document


async def main() -> None:
    readers = ChildReaders(ReaderOptions(ReadLimits(), module="tests.shell.vision.bad_reader"))
    async for _ in readers.pages(document(2, p2="hang"), 1):
        print(*readers.pids, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
