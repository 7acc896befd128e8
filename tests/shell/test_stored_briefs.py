"""Briefs over a state store: shared between processes, remembered across restarts."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ports import BriefStore
from gateway.shell.state.memory import MemoryBriefStore
from tests.shell.brief_worlds import FRESH_S, TTL_S, S, Shared, T, arrangement, brief, chain, key


@pytest.fixture
def shared() -> Shared:
    return Shared()


# One process: as in memory


async def test_it_is_a_store_of_briefs(shared: Shared) -> None:
    """The first applied one stays; one that waits is not applied; of arrangements the last; of a chain the deepest."""
    briefs = shared.process()
    applied = await briefs.put_if_absent(S, key(1), brief("applied"))
    await briefs.put_if_absent(S, key(3), brief("deeper", 3))
    await briefs.put_waiting(S, key(4), brief("waiting", 4))
    await briefs.put_waiting(S, key(4), brief("late", 4))
    await briefs.put_arrangement(S, key(5), arrangement(1))
    await briefs.put_arrangement(S, key(5), arrangement(3))

    assert await briefs.put_if_absent(S, key(1), brief("again")) is applied
    assert await briefs.find(S, chain(3)) is applied
    assert await briefs.find(S, chain(9)) == brief("deeper", 3)
    assert await briefs.find_waiting(S, chain(9)) == brief("waiting", 4)
    assert await briefs.find_arrangement(S, chain(9)) == arrangement(3)
    assert await briefs.find(S, chain(9, 100)) is None
    assert await briefs.find(S, []) is None
    assert briefs.newest == brief("waiting", 4)


STEPS = ["put", "wait", "arrange", "find", "find waiting", "find arranged", "forget", "restart", "apply"]
operations = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from([S, T]), st.integers(0, 80)), max_size=40)


@settings(max_examples=200)
@given(steps=operations)
async def test_a_stored_brief_is_as_one_in_memory(steps: list[tuple[str, bytes, int]]) -> None:
    """Any sequence of calls answers as the store in memory does, with restarts in between; scopes do not mix."""
    shared, memory = Shared(), MemoryBriefStore(10**9)
    stored = shared.process()

    async def step(store: BriefStore, name: str, scope: bytes, number: int, label: str) -> object:
        salted = [scope[:1] + each[1:] for each in chain(number + 1)]
        if name == "put":
            return await store.put_if_absent(scope, salted[-1], brief(label, number))
        if name == "wait":
            return await store.put_waiting(scope, salted[-1], brief(label, number))
        if name == "apply":
            waiting = await store.find_waiting(scope, salted)
            if waiting is None:
                return None
            return await store.put_if_absent(scope, salted[waiting.covers], waiting)
        if name == "arrange":
            return await store.put_arrangement(scope, salted[-1], arrangement(number))
        if name == "find":
            return await store.find(scope, salted)
        if name == "find waiting":
            return await store.find_waiting(scope, salted)
        return await store.find_arrangement(scope, salted)

    for place, (name, scope, number) in enumerate(steps):
        if name == "restart":
            stored = shared.process()
        elif name == "forget":
            assert await stored.forget(scope) == await memory.forget(scope)
        else:
            answers = [await step(store, name, scope, number, f"{place}") for store in (stored, memory)]

            assert answers[0] == answers[1]
        if not memory.is_empty(scope):
            assert not stored.is_empty(scope)
    assert not stored.ignored


# Several processes


async def test_a_restart_loses_nothing(shared: Shared) -> None:
    before = shared.process()
    await before.put_if_absent(S, key(3), brief("applied", 3))
    await before.put_waiting(S, key(5), brief("waiting", 5))
    await before.put_arrangement(S, key(6), arrangement(3))
    after = shared.process()

    assert not after.is_empty(S)
    assert await after.find(S, chain(8)) == brief("applied", 3)
    assert await after.find_waiting(S, chain(8)) == brief("waiting", 5)
    assert await after.find_arrangement(S, chain(8)) == arrangement(3)


async def test_of_two_that_fold_one_prefix_one_is_applied(shared: Shared) -> None:
    """The loser takes the winner's, and so does who looks later."""
    one, two, three = shared.process(), shared.process(), shared.process()
    first, second = await asyncio.gather(
        one.put_if_absent(S, key(1), brief("one")), two.put_if_absent(S, key(1), brief("two"))
    )

    assert first == second
    assert [await each.find(S, chain(2)) for each in (one, two, three)] == [first] * 3
    assert one.writes + two.writes == 1


async def test_what_one_applies_the_other_finds(shared: Shared) -> None:
    """After `fresh_s` at the latest, a deeper brief, one that waits, and a new arrangement."""
    one, two = shared.process(), shared.process()
    await one.put_if_absent(S, key(3), brief("old", 3))
    await one.put_arrangement(S, key(5), arrangement(3))
    assert await two.find(S, chain(40)) == brief("old", 3)
    assert await two.find_arrangement(S, chain(40)) == arrangement(3)
    await one.put_if_absent(S, key(30), brief("new", 30))
    await one.put_waiting(S, key(35), brief("next", 35))
    await one.put_arrangement(S, key(5), arrangement(4))
    shared.let_pass(FRESH_S)

    assert await two.find(S, chain(40)) == brief("new", 30)
    assert await two.find_waiting(S, chain(40)) == brief("next", 35)
    assert await two.find_arrangement(S, chain(40)) == arrangement(4)


async def test_what_came_while_one_wrote_is_not_missed(shared: Shared) -> None:
    """Two write at the same time; each finds the other's, whichever mark stands in the end."""
    processes = [shared.process() for _ in range(8)]
    for each in processes:
        await each.find(S, chain(30))
    await asyncio.gather(
        *(each.put_if_absent(S, key(number), brief(f"{number}", number)) for number, each in enumerate(processes, 1))
    )
    shared.let_pass(FRESH_S)

    assert [await each.find(S, chain(30)) for each in processes] == [brief("8", 8)] * 8


async def test_what_waited_and_was_applied_waits_no_more(shared: Shared) -> None:
    """Not after a restart either."""
    one = shared.process()
    await one.put_waiting(S, key(1), brief("ahead"))
    waiting = await one.find_waiting(S, chain(2))
    assert waiting is not None
    await one.put_if_absent(S, key(1), waiting)

    assert await shared.process().find_waiting(S, chain(2)) is None
    assert await shared.process().find(S, chain(2)) == waiting


async def test_what_is_forgotten_is_gone_everywhere(shared: Shared) -> None:
    """Here at once, elsewhere after `fresh_s`; other scopes keep theirs; what comes later is found."""
    one, two = shared.process(), shared.process()
    for scope, salt in ((S, 0), (T, 500)):
        await one.put_if_absent(scope, key(1 + salt), brief("kept"))
        await one.put_waiting(scope, key(2 + salt), brief("waiting"))
        await one.put_arrangement(scope, key(3 + salt), arrangement(1))
        assert await two.find(scope, chain(4, salt)) is not None
        assert await two.find_waiting(scope, chain(4, salt)) is not None
        assert await two.find_arrangement(scope, chain(4, salt)) is not None

    assert await one.forget(S) == 3
    assert await one.find(S, chain(4)) is None
    assert one.is_empty(S)
    await one.put_if_absent(S, key(2), brief("new"))
    shared.let_pass(FRESH_S)

    assert await two.find_waiting(S, chain(4)) is None
    assert await two.find_arrangement(S, chain(4)) is None
    assert await two.find(S, chain(2)) is None
    assert await two.find(S, chain(4)) == brief("new")
    assert await two.find(T, chain(4, 500)) == brief("kept")
    assert await one.forget(S) == 1
    assert await one.forget(S) == 0


# The hot path


async def test_a_known_chat_costs_one_round_trip(shared: Shared) -> None:
    """A chat of 400 messages that is resent every turn: the mark and what is new; within `fresh_s` what is new."""
    briefs = shared.process()
    await briefs.put_if_absent(S, key(300), brief("old", 300))
    await briefs.put_waiting(S, key(370), brief("next", 370))
    await briefs.put_arrangement(S, key(350), arrangement(300))

    async def turn(length: int) -> list[tuple[str, int]]:
        assert await briefs.find(S, chain(length)) == brief("old", 300)
        assert await briefs.find_arrangement(S, chain(length - 300, 300)) == arrangement(300)
        assert await briefs.find_waiting(S, chain(length - 301, 301)) == brief("next", 370)
        return [trip for trip in shared.trips() if trip[0] != "prolong"]

    await turn(400)

    assert await turn(400) == []
    assert await turn(402) == [("get_many", 3 * 2)]
    shared.let_pass(FRESH_S)
    assert await turn(402) == [("get_many", 1)]
    shared.let_pass(FRESH_S)
    assert await turn(404) == [("get_many", 1 + 3 * 2)]
    await shared.process().put_waiting(S, key(9999), brief("of another chat"))
    shared.trips()
    shared.let_pass(FRESH_S)
    assert await turn(406) == [("get_many", 1 + 3 * 2), ("get_many", 3 * 104)]


async def test_a_cold_chat_costs_few_round_trips(shared: Shared) -> None:
    """After a restart, 10,000 messages back: the newest are asked for first, and never all of them one by one."""
    await shared.process().put_if_absent(S, key(9950), brief("near", 9950))
    await shared.process().put_if_absent(S, key(20), brief("far", 20))
    near, far, none = shared.process(), shared.process(), shared.process()
    shared.trips()
    assert await near.find(S, chain(10_000)) == brief("near", 9950)
    assert shared.trips() == [("get_many", 1), ("get_many", 3 * 64), ("prolong", 2)]
    assert await far.find(S, chain(9900)) == brief("far", 20)
    assert len(shared.trips()) <= 8
    assert await none.find(S, chain(10_000, 20_000)) is None
    assert len(shared.trips()) <= 7

    assert await none.find(S, chain(10_001, 20_000)) is None
    assert await none.find_arrangement(S, chain(10_001, 20_000)) is None
    assert shared.trips() == [("get_many", 3)]


async def test_a_scope_without_briefs_is_known_to_be_empty(shared: Shared) -> None:
    """For `fresh_s` after it was asked for; before that nothing is known; a brief elsewhere is found after it."""
    one, two = shared.process(), shared.process()
    assert not one.is_empty(S)
    assert await one.find(S, chain(400)) is None
    assert shared.trips() == [("get_many", 1)]
    assert one.is_empty(S)
    await two.put_if_absent(S, key(1), brief())
    assert one.is_empty(S)
    shared.let_pass(FRESH_S)

    assert not one.is_empty(S)
    assert not two.is_empty(S)
    assert await one.find(S, chain(400)) == brief()
    assert not one.is_empty(S)


# Time and room


async def test_what_is_used_lives_on_and_what_is_not_goes(shared: Shared) -> None:
    """Use costs a write only now and then; an expired brief is absent to whoever does not hold it."""
    one = shared.process()
    for number in (1, 2):
        await one.put_if_absent(S, key(number), brief(f"{number}", number))
    shared.trips()
    for _ in range(100):
        shared.let_pass(TTL_S / 40)
        assert await one.find(S, [key(2)]) == brief("2", 2)
    prolonged = [trip for trip in shared.trips() if trip[0] == "prolong"]

    assert 15 <= len(prolonged) <= 25
    assert await shared.process().find(S, [key(1)]) is None
    assert await shared.process().find(S, [key(2)]) == brief("2", 2)


async def test_what_memory_has_no_room_for_is_found_in_the_store(shared: Shared) -> None:
    briefs = shared.process(max_bytes=5000)
    for number in range(50):
        await briefs.put_if_absent(S, key(number), brief("y" * 1000 + f"{number}", number))

    assert briefs.held_bytes <= 5000
    for number in (0, 25, 49, 0):
        assert await briefs.find(S, [key(number)]) == brief("y" * 1000 + f"{number}", number)
    assert briefs.held_bytes <= 5000
