"""Chats that name memories, over a real store: whose they are, what they add, and that they are the same each time."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.context.terms import terms_of
from gateway.core.facts.memory import Anchor, Memory, Origin, Scope, Sought, Source, Wanted, fact_hash
from gateway.core.facts.mine import SAID
from gateway.fitting.memory import ChatMemory
from gateway.shell.facts.chat_store import ChatMemoryStore
from gateway.shell.facts.miner import FoldMiner
from gateway.shell.facts.reminding import StoredReminding
from gateway.shell.facts.sqlite import SqliteMemoryStore
from gateway.shell.state.journal import StoredJournal
from gateway.shell.state.key_value import MemoryStateStore
from gateway.stages.settle import Settle
from gateway.tasks import TaskGroup
from tests.histories import Message, Sent, World, budget_of, sessions
from tests.shell.facts.memories import fact, text
from tests.stages.test_settle import Silent

T = TypeVar("T")
LOOP = asyncio.new_event_loop()
ANN, BOB = b"a" * 32, b"b" * 32
BUDGET = budget_of(420, brief=60, recent=50, retrieved=160)
many = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


def run(work: Coroutine[Any, Any, T]) -> T:
    return LOOP.run_until_complete(work)


def ask(words: str) -> Message:
    return {"role": "user", "content": words}


def say(words: str) -> Message:
    return {"role": "assistant", "content": words}


class Memories:
    """A store of memories as chats have it."""

    def __init__(self, mines: bool = True) -> None:
        self.store = SqliteMemoryStore()
        self.tasks = TaskGroup()
        self.chats = ChatMemoryStore(self.store, search_s=30.0)
        self.reminding = StoredReminding(self.chats, 60.0)
        self.miner = FoldMiner(self.chats, self.tasks, None, 0.0)
        self.memory = ChatMemory(self.reminding, self.miner if mines else None)

    async def settled(self) -> None:
        """What was mined is stored."""
        await self.tasks.drain(10)
        while self.chats.waiting:
            await asyncio.sleep(0)

    async def put(self, owner: bytes, name: str, *memories: Memory) -> None:
        await self.store.put(Scope(owner, name), memories)


@pytest.fixture
async def memories() -> AsyncIterator[Memories]:
    made = Memories()
    yield made
    await made.settled()
    await made.store.close()


def recalled_text(sent: Sent) -> str:
    return sent.receipt.recalled.text if sent.receipt.recalled else ""


def without_recalled(sent: Sent) -> list[bytes]:
    recalled = recalled_text(sent)
    return [raw for raw in sent.raws if not recalled or json.loads(raw)["content"] != recalled]


# Whose they are

OPERATIONS = 10_000
MARK = re.compile(r"mk([ab])(red|blu)([12])")
TOPICS = ("harbour", "locker", "crates", "bakery", "violin", "garden", "ferry", "invoice")
QUESTIONS = [f"What about the {topic}?" for topic in TOPICS] + ["Yes, please.", "Go on."]


class Crowd:
    """Two clients, each with two memories, each with two conversations; all speak of the same things in the same
    words, and each word of a conversation bears its mark.
    """

    def __init__(self, memories: Memories, seed: int) -> None:
        self.memories = memories
        self.lot = random.Random(seed)
        self.tasks = TaskGroup()
        self.journal = StoredJournal(MemoryStateStore(10**7), self.tasks, 1000, 1000, 10**6, 10**6)
        self.world = World(BUDGET, journal=self.journal, memory=memories.memory)
        self.settle = Settle(self.world.counter, self.world.calibrations, Silent(), self.journal)
        self.said: dict[tuple[str, str, str], list[Message]] = {
            (client, memory, number): [] for client in "ab" for memory in ("red", "blu") for number in "12"
        }
        self.done: Counter[str] = Counter()
        self.foreign: list[str] = []
        self.seen: Counter[tuple[bool, bool]] = Counter()

    def words(self, who: tuple[str, str, str]) -> str:
        mark, topic = "mk" + "".join(who), self.lot.choice(TOPICS)
        return f"The {topic} number {self.lot.randrange(1000)} is {mark}."

    def check(self, who: tuple[str, str, str], shown: str, is_memory: bool) -> None:
        """Nothing of another client, and of the other memory only where it is the conversation's own."""
        for found in MARK.finditer(shown):
            client, memory, number = found.groups()
            is_own = (client, memory, number) == who
            if not (is_own or (is_memory and (client, memory) == who[:2])):
                self.foreign.append(f"{who} was shown {found[0]}")
            self.seen[is_own, is_memory] += 1

    async def chat(self, who: tuple[str, str, str], *, names_memory: bool, names_session: bool) -> None:
        """A request of one of the conversations: with its history, or in a named session with what is new only."""
        client, memory, number = who
        history = self.said[who]
        if len(history) > 44:
            history.clear()
        asked = ask(self.lot.choice(QUESTIONS) if self.lot.random() < 0.5 else self.words(who))
        shown = [asked] if names_session else [*history, asked]
        loop = [] if self.lot.random() < 0.8 else tool_round(self.words(who))
        sent = await self.world.send(
            [*shown, *loop],
            ANN if client == "a" else BOB,
            f"{memory}-{number}" if names_session else None,
            memory if names_memory else None,
        )
        assert sent.refusal is None
        sent.exchange.outcome.attempts, sent.exchange.outcome.status = 1, 200
        self.settle.finish(sent.exchange)
        self.check(who, recalled_text(sent), names_memory)
        self.check(who, sent.receipt.brief.body if sent.receipt.brief else "", False)
        history += [asked, *loop, say(self.words(who))]

    async def insert(self, who: tuple[str, str, str]) -> None:
        client, memory, _ = who
        one = fact("the " + self.lot.choice(TOPICS), "is", self.words(who), observed_us=self.lot.randrange(10**6))
        await self.memories.put(ANN if client == "a" else BOB, memory, one)

    async def query(self, who: tuple[str, str, str]) -> None:
        """By words, and as a page."""
        scope = Scope(ANN if who[0] == "a" else BOB, who[1])
        if self.lot.random() < 0.5:
            found = await self.memories.store.search(scope, Sought(terms_of(self.lot.choice(QUESTIONS))), 64)
            told = [each.memory for each in found]
        else:
            told = list((await self.memories.store.page(scope, Wanted(), None, 64)).memories)
        self.check(who, "\n".join(memory.text for memory in told), True)

    async def act(self) -> None:
        who, kind = self.lot.choice(list(self.said)), self.lot.random()
        if kind < 0.02:  # so that memories stay small, and ids and words come again
            self.done["memories deleted"] += 1
            await self.memories.store.delete_all(ANN if who[0] == "a" else BOB, who[1])
        elif kind < 0.32:
            self.done["facts stored"] += 1
            await self.insert(who)
        elif kind < 0.62:
            self.done["queries"] += 1
            await self.query(who)
        else:
            names_memory, names_session = self.lot.random() < 0.8, self.lot.random() < 0.4
            self.done[f"chats{' with a memory' * names_memory}{' in a session' * names_session}"] += 1
            await self.chat(who, names_memory=names_memory, names_session=names_session)


def tool_round(words: str) -> list[Message]:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": words},
    ]


async def test_not_one_foreign_fact(memories: Memories) -> None:
    """In ten thousand requests and operations, in an order drawn by lot: eight at a time, of eight conversations."""
    crowd = Crowd(memories, 20260101)
    started_s = time.perf_counter()
    for _ in range(OPERATIONS // 8):
        await asyncio.gather(*(crowd.act() for _ in range(8)))
    await memories.settled()
    print(f"{crowd.done.total()} operations in {time.perf_counter() - started_s:.1f} s: {dict(crowd.done)}")
    print(f"marks seen, by (own, of a memory): {dict(crowd.seen)}; {memories.miner.mined} facts mined")
    print(f"look-ups: {dict(memories.reminding.tally)}")

    assert crowd.foreign == []
    assert crowd.done.total() == OPERATIONS
    assert crowd.seen[False, True] > 5_000
    assert crowd.seen[True, False] > 100
    assert memories.miner.mined > 1000


# What they add


@many
@given(session=sessions())
def test_without_the_header_memory_changes_no_byte(session: list[list[Message]]) -> None:
    """Whatever the store holds, of that very client, too."""

    async def both() -> None:
        memories = Memories()
        await memories.put(ANN, "red", *(text(f"{word} {word} staging Friday Kowalski") for word in TOPICS))
        plain, with_memory = World(BUDGET), World(BUDGET, memory=memories.memory)
        for messages in session:
            one, other = await plain.send(messages, ANN), await with_memory.send(messages, ANN)

            assert one.exchange.prompt == other.exchange.prompt
            assert str(one.refusal) == str(other.refusal)
            assert one.exchange.receipt == other.exchange.receipt
        assert memories.reminding.tally.total() == 0
        await memories.settled()
        await memories.store.close()

    run(both())


@many
@given(session=sessions(must_be_valid=True), words=st.lists(st.sampled_from(TOPICS), max_size=30))
def test_4_a_named_memory_uses_free_budget_only(session: list[list[Message]], words: list[str]) -> None:
    """With it the prompt fits as without, and all but what is recalled is the same; no request is refused for it."""

    async def both() -> None:
        memories = Memories(mines=False)
        said = [f"The {word} is of Anna Kowalski, 1,250.50 EUR, db-7.internal, A-20391." for word in words]
        await memories.put(ANN, "red", *map(text, said))
        plain, with_memory = World(BUDGET), World(BUDGET, memory=memories.memory)
        for messages in session:
            one = await plain.send(messages, ANN)
            other = await with_memory.send(messages, ANN, memory="red")

            assert (one.refusal is None) == (other.refusal is None)
            if other.refusal is None:
                assert with_memory.recount(other.forwarded) <= other.limit
                assert without_recalled(other) == without_recalled(one)
                assert len(recalled_text(other)) <= 4 * max(0, other.limit - one.receipt.sections.get("brief", 0))
        await memories.store.close()

    run(both())


async def test_5_same_input_and_store_same_bytes() -> None:
    """Memories that are the same but for when they were stored, in two processes."""
    lot = random.Random(7)
    told = [(lot.choice(TOPICS), lot.randrange(10**6)) for _ in range(200)]
    history = [
        message for n in range(20) for message in (ask(f"Crate {n} of the {TOPICS[n % 8]}?"), say("Noted. " * 9))
    ]
    chats = [[*history[: 2 * n], ask(QUESTIONS[n % 8])] for n in range(20)]
    forwarded = []
    for order in (1, -1):
        memories = Memories(mines=False)
        made = [
            text(f"The {topic} has {us} crates.", id=f"{us:032x}", observed_us=us) for topic, us in dict(told).items()
        ] + [fact(topic, "has", f"{us} crates", id=f"{us + 10**7:032x}", observed_us=us) for topic, us in told]
        await memories.put(ANN, "red", *made[::order])
        world = World(BUDGET, memory=memories.memory)
        forwarded.append([(await world.send(chat, ANN, memory="red")).forwarded for chat in chats])
        again = [(await world.send(chat, ANN, memory="red")).forwarded for chat in chats]
        await memories.store.close()

        assert again == forwarded[-1]
    assert forwarded[0] == forwarded[1]
    assert sum(b"<recalled>" in each for each in forwarded[0]) > 10


async def test_a_tool_loop_keeps_what_it_began_with(memories: Memories) -> None:
    """Though the store has changed meanwhile, in each way; the next question sees the change."""
    await memories.put(ANN, "red", text("The locker of Margit has the code 7T-4093."))
    world = World(BUDGET, memory=memories.memory)
    question = ask("Which code has the locker of Margit?")
    first = await world.send([question], ANN, memory="red")
    loop = [question]
    prompts = [first.raws]
    for step in range(4):
        if step == 1:
            await memories.put(ANN, "red", text("The locker of Margit was emptied."))
        if step == 2:
            await memories.store.delete_all(ANN)
        loop += tool_round(f"step {step}")
        prompts.append((await world.send(loop, ANN, memory="red")).raws)
    after = await world.send([*loop, say("7T-4093."), question], ANN, memory="red")

    assert "7T-4093" in recalled_text(first)
    assert all(later[: len(former)] == former for former, later in itertools.pairwise(prompts))
    assert recalled_text(after) == ""


async def test_a_tool_loop_shows_nothing_of_another_chat(memories: Memories) -> None:
    """Of the same client and memory, which asks in the same words: what was recalled for that is its own."""
    await memories.put(ANN, "red", text("Tea is served at the harbour."))
    world = World(BUDGET, memory=memories.memory)
    asked = ask("Yes, the harbour, please.")
    long_chats = [
        [message for n in range(30) for message in (ask(f"The harbour of {city} has crate {n}."), say("Noted. " * 9))]
        for city in ("Bergen", "Lisbon")
    ]
    recalled = [recalled_text(await world.send([*chat, asked], ANN, memory="red")) for chat in long_chats]
    loops = [
        recalled_text(await world.send([*chat, asked, *tool_round("done")], ANN, memory="red")) for chat in long_chats
    ]

    assert ["Lisbon" in each for each in recalled] == [False, True]
    assert ["Lisbon" in each for each in loops] == [False, True]
    assert ["Bergen" in each for each in loops] == [True, False]


async def test_a_memory_that_gets_another_heading_is_read_anew(memories: Memories) -> None:
    """Told again in a session with a date: what is recalled is whole under either."""
    says = "The locker of Margit has the code 7T-4093."
    hash_ = fact_hash("user", SAID, says, Anchor())
    plain = fact("user", SAID, says, sources=[Source(hash_)])
    dated = fact(
        "user", SAID, says, sources=[Source(hash_, origin=Origin("ab" * 32, 0, 42, "user", "the 8th of May 2023"))]
    )
    world = World(BUDGET, memory=memories.memory)
    question = ask("Which code has the locker of Margit?")
    shown = []
    for memory in (plain, dated):
        await memories.put(ANN, "red", memory)
        shown.append(recalled_text(await world.send([question], ANN, memory="red")).splitlines()[2:-1])

    assert shown == [["[1970-01-01]", f"m1 memory: {says}"], ["[the 8th of May 2023]", f"m1 user: {says}"]]


async def test_each_of_many_memories_is_whole(memories: Memories) -> None:
    """What users said is under no name but their role, however often they speak."""
    for number in range(6):
        says = f"The locker {number} has the code 7T-{number}."
        origin = Origin(f"{number:064x}", 0, len(says), "user")
        source = Source(fact_hash("user", SAID, says, Anchor()), origin=origin)
        await memories.put(ANN, "red", fact("user", SAID, says, sources=[source], observed_us=number))
    world = World(BUDGET, memory=memories.memory)
    shown = recalled_text(await world.send([ask("Which codes have the lockers?")], ANN, memory="red"))

    assert shown.splitlines()[2:-1] == [
        "[1970-01-01]",
        *(f"m{number + 1} user: The locker {number} has the code 7T-{number}." for number in range(6)),
    ]
