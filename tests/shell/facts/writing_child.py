"""A process that stores facts as fast as it can and says which were acknowledged: `python -m ... PATH FIRST COUNT`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.shell.facts.sqlite import SqliteMemoryStore
from tests.shell.facts.memories import ALICE, fact

CALLERS = 16


async def main(path: str, first: int, count: int) -> None:
    store = SqliteMemoryStore(Path(path))
    numbers = iter(range(first, first + count))

    async def call() -> None:
        for number in numbers:
            one = fact("number", "is", str(number), observed_us=number, id=f"{number:032x}")
            await store.put(ALICE, [one])
            print(number, flush=True)

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
