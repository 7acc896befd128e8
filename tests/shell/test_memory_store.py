"""The store of briefs in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.brief import Brief, Level, Segment
from gateway.core.context.supersede import Quote
from gateway.shell.state.memory import MemoryBriefStore


def brief(text: str = "x", covers: int = 1) -> Brief:
    return Brief(covers, Level.EXTRACTIVE, (Segment(1, covers, (Quote(1, "Never."),), text),), 0, 10)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def test_the_deepest_of_a_chain_is_found() -> None:
    """Of the keys that a history contains, the last one with a brief counts."""
    store = MemoryBriefStore(10**6)
    for number in (1, 3, 9):
        await store.put_if_absent(b"s", key(number), brief(covers=number))

    assert await store.find(b"s", [key(number) for number in range(6)]) == brief(covers=3)
    assert await store.find(b"s", [key(2)]) is None
    assert await store.find(b"s", []) is None
    assert (store.hits, store.misses) == (1, 2)


async def test_what_was_applied_first_stays() -> None:
    """Two replicas or two requests may fold the same prefix; both use the one that came first."""
    store = MemoryBriefStore(10**6)
    first = await store.put_if_absent(b"s", key(1), brief("first"))

    assert await store.put_if_absent(b"s", key(1), brief("second")) is first
    assert await store.find(b"s", [key(1)]) is first
    assert store.writes == 1


async def test_one_that_waits_is_not_applied() -> None:
    """It waits beside an applied one or alone, the first that came; the deepest of a chain is found."""
    store = MemoryBriefStore(10**6)
    await store.put_if_absent(b"s", key(1), brief("applied"))
    await store.put_waiting(b"s", key(1), brief("late"))
    await store.put_waiting(b"s", key(1), brief("later"))
    await store.put_waiting(b"s", key(2), brief("ahead"))

    assert await store.find_waiting(b"s", [key(1)]) == brief("late")
    assert await store.find_waiting(b"s", [key(1), key(2)]) == brief("ahead")
    assert await store.find_waiting(b"s", [key(3)]) is None
    assert await store.find(b"s", [key(1), key(2)]) == brief("applied")


async def test_what_waited_may_be_applied() -> None:
    """Then it waits no more, and is held once."""
    store = MemoryBriefStore(10**6)
    ahead = brief("ahead")
    await store.put_waiting(b"s", key(1), ahead)
    held = store.held_bytes

    assert store.is_empty(b"s")
    assert await store.put_if_absent(b"s", key(1), ahead) is ahead
    assert await store.find_waiting(b"s", [key(1)]) is None
    assert store.held_bytes == held
    assert not store.is_empty(b"s")


async def test_a_scope_is_empty_until_it_holds_something_and_again_after() -> None:
    """The fast path asks this before any digest is made."""
    store = MemoryBriefStore(4000)
    await store.put_if_absent(b"one", key(1), brief())

    assert (store.is_empty(b"one"), store.is_empty(b"two")) == (False, True)
    await store.put_if_absent(b"two", key(2), brief("y" * 5000))

    assert (store.is_empty(b"one"), store.is_empty(b"two")) == (True, False)


async def test_the_least_recently_used_goes_first() -> None:
    """A look-up keeps a brief; what nobody asked for goes, its better one with it."""
    store = MemoryBriefStore(10_000)
    for number in (1, 2, 3):
        await store.put_if_absent(b"s", key(number), brief("y" * 1500))
    await store.put_waiting(b"s", key(2), brief("z" * 1500))
    await store.find(b"s", [key(1)])
    await store.put_if_absent(b"s", key(4), brief("y" * 2500))

    assert await store.find(b"s", [key(1)]) is not None
    assert await store.find(b"s", [key(3)]) is None
    assert store.held_bytes <= 10_000


@pytest.mark.parametrize("text", ["a", "é", "字", "😀"])
async def test_wide_characters_are_counted_as_wide(text: str) -> None:
    """The bound is on memory, not on characters."""
    store = MemoryBriefStore(10**6)
    await store.put_if_absent(b"s", key(1), brief(text * 10_000))

    assert store.held_bytes >= 10_000 * max(1, len(text.encode("utf-16-le")) if ord(text) > 255 else 1)


operations = st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.integers(0, 3000)), max_size=60)


@given(operations=operations, max_bytes=st.integers(1000, 20_000))
async def test_it_stays_within_its_bytes(operations: list[tuple[bool, int, int]], max_bytes: int) -> None:
    """Whatever is put, in whatever order: within the bound, or down to one brief; and the sum is the sum."""
    store = MemoryBriefStore(max_bytes)
    for is_better, number, size in operations:
        made = brief("y" * size)
        if is_better:
            await store.put_waiting(bytes([number % 3]), key(number), made)
        else:
            await store.put_if_absent(bytes([number % 3]), key(number), made)
            assert await store.find(b"s", [key(number)]) is not None

        assert store.held_bytes <= max_bytes or len(store) == 1
        assert (len(store) == 0) == (store.held_bytes == 0)
        assert {scope for scope in range(3) if not store.is_empty(bytes([scope]))} == {
            number % 3 for number in range(13) if await store.find(b"", [key(number)])
        }
