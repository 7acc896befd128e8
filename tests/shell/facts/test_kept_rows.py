"""Rows that are kept between searches of a database are what stands there, whoever writes to it, and bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.facts.memory import Kind, Sought
from gateway.shell.facts import sqlite_read
from gateway.shell.facts.kept_rows import KeptRows
from gateway.shell.facts.sqlite import SqliteMemoryStore
from tests.shell.facts.memories import ALICE, fact

ROUGH = Sought(terms=fact("tram", "is", "blue").terms, is_rough=True)


@pytest.mark.parametrize("name", ["memory", "file"])
async def test_a_search_sees_what_was_written_since(tmp_path: Path, name: str) -> None:
    """By this store and by another process's: told again, ended, deleted and added."""
    path = tmp_path / "facts.db" if name == "file" else None
    store = SqliteMemoryStore(path)
    other = SqliteMemoryStore(path) if path else store

    async def shown() -> list[tuple[str, float, int]]:
        found = await store.search(ALICE, ROUGH, 99)
        return sorted((each.memory.object, each.memory.confidence, len(each.memory.sources)) for each in found)

    blue = fact("tram", "is", "blue", topic=True, confidence=0.5, observed_us=1)
    await store.put(ALICE, [blue])
    first = [await shown(), await shown()]
    await other.put(ALICE, [fact("tram", "is", "blue", topic=True, doc="b", confidence=0.9, observed_us=1)])
    again = await shown()
    await other.put(ALICE, [fact("tram", "is", "red", topic=True, observed_us=5)])
    ended = await shown()
    await other.delete(ALICE.owner, [each.memory.id for each in await store.search(ALICE, ROUGH, 9)], Kind.FACT)
    gone = await shown()
    for each in {store, other}:
        await each.close()

    assert first == [[("blue", 0.5, 1)]] * 2
    assert again == [("blue", 0.9, 2)]
    assert [object_ for object_, *_ in ended] == ["red"]
    assert gone == []


async def test_what_is_kept_is_bounded_and_whole() -> None:
    """However few may be kept, all that is asked for comes back; what is kept is not read again."""
    store = SqliteMemoryStore()
    await store.put(ALICE, [fact("tram", "is", str(number)) for number in range(30)])
    reads: list[int] = []

    def ask(db: object) -> list[list[int]]:
        def read(db: object, numbers: object) -> object:
            found = sqlite_read.found_rows(db, numbers)  # type: ignore[arg-type]
            reads.append(len(found))
            return found

        kept = KeptRows(read, max_rows=12)  # type: ignore[arg-type]
        asked = [range(1, 11), range(1, 11), range(5, 16), range(1, 31), [99]]
        return [sorted(row.seq for row in kept.rows(db, list(each))) for each in asked]  # type: ignore[arg-type]

    told = await store._read(ask)
    await store.close()

    assert told == [list(range(1, 11)), list(range(1, 11)), list(range(5, 16)), list(range(1, 31)), []]
    assert reads == [10, 11, 30, 0]


async def test_a_rough_search_finds_the_same_by_its_words() -> None:
    """Of a small memory: in another order, and all of it that holds any of the words."""
    store = SqliteMemoryStore()
    await store.put(ALICE, [fact("tram", "is", f"blue{number} or red") for number in range(200)])
    whole = await store.search(ALICE, Sought(terms=ROUGH.terms), 300)
    rough = await store.search(ALICE, ROUGH, 300)
    await store.close()

    assert len(rough) == 200
    assert {each.memory.id for each in whole} == {each.memory.id for each in rough}
