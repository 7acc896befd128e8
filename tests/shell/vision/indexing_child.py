"""A process that indexes one document into a file, a page at a time, for a test to kill.

python -m tests.shell.vision.indexing_child PATH: it prints the job's id, then each page that was kept; it waits before
the third page for ever.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.shell.vision.reader_process import ReaderOptions
from gateway.shell.vision.readers import ChildReaders
from gateway.shell.vision.source import ReadLimits
from gateway.shell.vision.sqlite import SqliteDocumentStore
from tests.shell.vision.bad_reader import document
from tests.shell.vision.documents import ALICE
from tests.shell.vision.indexing import Works


async def main(path: str) -> None:
    store = SqliteDocumentStore(Path(path))
    readers = ChildReaders(ReaderOptions(ReadLimits(), module="tests.shell.vision.bad_reader"))
    work = Works(store, readers)
    job = await work.submit(document(4, Path(path + ".flag"), p3="hang"))
    print(job.id, flush=True)
    await work.jobs.start()
    while (now := await store.job(ALICE.owner, job.id)) is not None and now.pages_done < 2:
        await asyncio.sleep(0.005)
    print(*readers.pids, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
