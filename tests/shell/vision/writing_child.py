"""A process that keeps documents as fast as it can and says which pages and documents were acknowledged.

python -m tests.shell.vision.writing_child PATH FIRST COUNT
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.shell.vision.sqlite import SqliteDocumentStore
from tests.shell.vision.documents import ALICE, add_page, document, laid

PAGES, REGIONS, CALLERS = 4, 3, 4


def data_of(number: int) -> bytes:
    return b"%d " % number * 500


async def main(path: str, first: int, count: int) -> None:
    store = SqliteDocumentStore(Path(path))
    numbers = iter(range(first, first + count))

    async def call() -> None:
        for number in numbers:
            begun = document(ALICE, data_of(number), PAGES, created_us=number)
            for page in range(await store.begin(begun, data_of(number)) + 1, PAGES + 1):
                parts = [laid(f"number {number} page {page} region {each}") for each in range(REGIONS)]
                await add_page(store, begun.id, page, parts)
                print("page", number, page, flush=True)
            await store.finish(begun.id)
            print("document", number, flush=True)

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
