"""What folded messages say goes to the memory that was named: once, in the order in which it was said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from gateway.core.context.brief import Stated
from gateway.core.facts.memory import Memory, Scope
from gateway.core.facts.mine import IS, SAID, MinedTurn
from gateway.core.routing.routes import Roles
from gateway.exchange import Exchange
from gateway.ports_memory import Folded
from gateway.shell.facts.chat_store import ChatMemoryStore
from gateway.shell.facts.miner import FoldMiner
from gateway.shell.facts.sqlite import SqliteMemoryStore
from gateway.tasks import TaskGroup
from tests.histories import body_of, exchange_of
from tests.shell.facts.memories import ALICE, BOB, NOW_US, OTHER, Clock

SAYS = ["I moved to Bergen in May.", "Congratulations on the move to Bergen!", "The rent is 900 EUR."]
Turn = tuple[str, str]


def digest_of(turn: Turn) -> bytes:
    return f"{turn[0]}: {turn[1]}".encode("utf-8", "surrogatepass").ljust(32)[:32]


class Shelf:
    """Takes what is to be stored."""

    def __init__(self) -> None:
        self.put: list[tuple[Scope, Memory]] = []

    def put_later(self, scope: Scope, memories: Sequence[Memory]) -> None:
        assert memories
        self.put += [(scope, memory) for memory in memories]


class World:
    """A miner with a clock."""

    def __init__(self, ttl_s: float | None = None, threshold: float = 0.0, store: Any = None) -> None:
        self.shelf = Shelf()
        self.tasks = TaskGroup()
        self.clock = Clock()
        self.miner = FoldMiner(store or self.shelf, self.tasks, ttl_s, threshold, self.clock)
        self.exchange: Exchange = exchange_of(body_of([{"role": "user", "content": "hi"}]), b"a" * 32, Roles.OPEN)
        self.read: list[str] = []

    def note(
        self,
        *says: str | Turn,
        scope: Scope = ALICE,
        statements: Sequence[Stated] = (),
        session: bytes = b"",
        first: int = 1,
        name: str = "",
        read: Callable[[int], MinedTurn] | None = None,
    ) -> None:
        """A fold of these messages, as `text` or (role, text), numbered from `first` on."""
        turns = [("user", each) if isinstance(each, str) else each for each in says]

        def read_turn(place: int) -> MinedTurn:
            self.read.append(turns[place][1])
            return MinedTurn(digest_of(turns[place]), turns[place][0], name, turns[place][1])

        digests = [digest_of(turn) for turn in turns]
        numbers = range(first, first + len(turns))
        self.miner.note(
            self.exchange,
            Folded(scope, session, b"fold" + b"".join(digests), digests, read or read_turn, statements, numbers),
        )

    async def mined(self) -> list[Memory]:
        """What has come so far, as observed."""
        await self.tasks.drain(10)
        return sorted([memory for _, memory in self.shelf.put], key=lambda memory: memory.observed_us)


def told(memories: Sequence[Memory]) -> list[str]:
    return [memory.object for memory in memories]


async def test_what_was_said_is_stored_with_its_origin() -> None:
    """In the memory of the request, with the session that it takes along when it is forgotten."""
    world = World()
    world.note(SAYS[0], ("assistant", SAYS[1]), session=b"s" * 32)
    first, second = await world.mined()
    origin = first.sources[0].origin

    assert [scope for scope, _ in world.shelf.put] == [ALICE] * 2
    assert (first.subject, first.predicate, first.object) == ("user", SAID, SAYS[0])
    assert (second.subject, second.object) == ("assistant", SAYS[1])
    assert origin is not None
    assert bytes.fromhex(origin.turn) == digest_of(("user", SAYS[0]))
    assert SAYS[0][origin.start : origin.end] == first.object
    assert {first.session, second.session} == {b"s" * 32}
    assert world.miner.mined == 2


async def test_2_a_message_is_mined_once() -> None:
    """However often its chat comes again, folded further each time; the same fold is not even looked at."""
    world = World()
    world.note(*SAYS[:2])
    world.note(*SAYS[:2])
    world.note(*SAYS)
    world.note(*SAYS[1:])

    assert told(await world.mined()) == SAYS
    assert world.read == SAYS


async def test_1_each_memory_has_its_own() -> None:
    """Another memory of the same client, and another client's of the same name, are mined for themselves."""
    world = World()
    for scope in (ALICE, BOB, OTHER, ALICE):
        world.note(SAYS[0], scope=scope)
    await world.mined()

    assert {(scope.owner, scope.name) for scope, _ in world.shelf.put} == {
        (scope.owner, scope.name) for scope in (ALICE, BOB, OTHER)
    }
    assert len(world.shelf.put) == 3
    assert len({memory.id for _, memory in world.shelf.put}) == 3


async def test_names_of_memories_do_not_run_together() -> None:
    """A client's bytes and a name side by side are another pair's."""
    world = World()
    world.note(SAYS[0], scope=Scope(b"a" * 32, "bc"))
    world.note(SAYS[0], scope=Scope(b"a" * 32 + b"b", "c"))

    assert len(await world.mined()) == 2


async def test_what_was_said_later_is_observed_later() -> None:
    """A microsecond apart within a fold; so of an attribute the value holds that was said last."""
    world = World()
    world.note(*[f"My phone: 555-{number:04}" for number in range(50)])
    memories = await world.mined()
    phones = [memory for memory in memories if memory.predicate == IS]

    assert [memory.observed_us for memory in memories] == list(range(NOW_US, NOW_US + len(memories)))
    assert [memory.object for memory in phones] == [f"555-{number:04}" for number in range(50)]
    assert len({memory.topic for memory in phones}) == 1
    assert all(one.observed_us < other.observed_us for one, other in pairwise(phones))


async def test_of_two_folds_the_later_is_observed_later() -> None:
    """Though the earlier takes longer, and clocks stand still or go back."""
    world = World()
    is_released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(place: int) -> MinedTurn:
        asyncio.run_coroutine_threadsafe(is_released.wait(), loop).result(10)
        return MinedTurn(b"\x01" * 32, "user", "", "My phone: 555-0001")

    world.note("My phone: 555-0001", read=slow)
    world.clock.now_us -= 500
    world.note("My phone: 555-0002")
    while not world.shelf.put:
        await asyncio.sleep(0)
    is_released.set()
    world.note("My phone: 555-0003")
    memories = await world.mined()
    observed = {memory.object: memory.observed_us for memory in memories if memory.predicate == IS}

    assert world.shelf.put[0][1].object.endswith("555-0002")
    assert observed["555-0001"] < observed["555-0002"] < observed["555-0003"]


@pytest.mark.parametrize(("ttl_s", "expected"), [(None, None), (10.0, NOW_US + 10_000_000)])
async def test_how_long_it_is_kept(ttl_s: float | None, expected: int | None) -> None:
    world = World(ttl_s)
    world.note(SAYS[0])

    assert [memory.expires_us for memory in await world.mined()] == [expected]


@pytest.mark.parametrize(("threshold", "predicates"), [(0.0, [SAID, IS]), (0.9, [SAID, IS]), (0.95, [SAID])])
async def test_what_is_not_sure_enough_is_not_kept(threshold: float, predicates: list[str]) -> None:
    world = World(threshold=threshold)
    world.note("Delivery address: 12 Harbour Street")

    assert [memory.predicate for memory in await world.mined()] == predicates


def stated(number: int, subject: str = "Margit", predicate: str = "lives in", object_: str = "Bergen") -> Stated:
    return Stated(subject, predicate, object_, number, "user", 2, 9)


async def test_statements_stand_where_they_were_found() -> None:
    """After what their message itself says, with that message's digest; what only one can hold takes a topic."""
    world = World()
    world.note(*SAYS, statements=[stated(8), stated(9, predicate="likes", object_="rent")], first=7)
    memories = await world.mined()
    origins = [memory.sources[0].origin for memory in memories]

    assert told(memories) == [SAYS[0], SAYS[1], "Bergen", SAYS[2], "rent"]
    assert [bool(memory.topic) for memory in memories] == [False, False, True, False, False]
    assert [bytes.fromhex(origin.turn) for origin in origins if origin] == [
        digest_of(("user", SAYS[place])) for place in (0, 1, 1, 2, 2)
    ]
    assert [(origin.start, origin.end) for origin in origins if origin and origin.start] == [(2, 9), (2, 9)]


async def test_a_statement_is_stored_once_for_each_message() -> None:
    """Briefs that go on state it again; another chat that says the same in the same place is another source."""
    world = World()
    world.note(SAYS[0], statements=[stated(1)])
    world.note(*SAYS, statements=[stated(1), stated(2, predicate="likes")])
    world.note("I moved to Bergen again.", statements=[stated(1)])
    memories = [memory for memory in await world.mined() if memory.subject == "Margit"]

    assert [(memory.predicate, memory.object) for memory in memories] == [
        ("lives in", "Bergen"),
        ("likes", "Bergen"),
        ("lives in", "Bergen"),
    ]
    assert memories[0].sources[0].origin != memories[2].sources[0].origin


async def test_a_statement_of_a_message_that_is_not_folded_is_passed_over() -> None:
    world = World()
    world.note(SAYS[0], statements=[stated(5)])

    assert told(await world.mined()) == [SAYS[0]]


ODD = [
    "half \ud800 a pair moved",
    "NUL \x00 in the middle of it",
    "one line\u2028and another",
    "漢字です。" * 900,
    "\udfff\ud800 wrong order",
]


async def test_any_text_can_be_stored() -> None:
    """In a real store, and found again: lone surrogates, NUL, names that hold them."""
    store = SqliteMemoryStore()
    patient = ChatMemoryStore(store)
    world = World(store=patient)
    for name in ("", "\ud800", "a\x00b", " \n ", "x" * 5000):
        for scope_name, says in enumerate(ODD):
            world.note(says, scope=Scope(b"a" * 32, f"{scope_name} {name!r:.20}"), name=name)
    await world.tasks.drain(10)
    await patient.close(10)
    kept = await store.names(b"a" * 32)
    await store.close()

    assert patient.dropped == 0
    assert len(kept) == 25
    assert 25 <= sum(kept.values()) <= world.miner.mined


async def test_3_a_message_that_cannot_be_read_fails_nothing() -> None:
    """What stands beside it in other folds is mined."""

    def broken(place: int) -> MinedTurn:
        raise ValueError("as told")

    world = World()
    world.note("something", read=broken)
    world.note(SAYS[0])

    assert told(await world.mined()) == [SAYS[0]]


async def test_3_noting_waits_for_nothing() -> None:
    """A thousand messages are noted before the first is read."""
    world = World()
    world.note(*[f"I counted {number} crates." for number in range(1000)])
    read = len(world.read)

    assert read == 0
    assert len(await world.mined()) == 1000
