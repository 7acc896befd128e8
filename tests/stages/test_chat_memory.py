"""Chats that name memories, over a real store: whose they are, what they add, and that they are the same each time."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.context.facts import canonical_digest
from gateway.core.context.terms import terms_of
from gateway.core.facts.memory import Anchor, Kind, Memory, Origin, Scope, Sought, Source, Wanted, fact_hash
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
from tests.histories import Message, Sent, World, budget_of, per_four_chars, sessions
from tests.shell.facts.memories import fact, text
from tests.stages.test_settle import Silent

T = TypeVar("T")
LOOP = asyncio.new_event_loop()
ANN, BOB = b"a" * 32, b"b" * 32
BUDGET = budget_of(900, brief=120, recent=60, retrieved=300)
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
        miner = FoldMiner(self.chats, self.tasks, None, 0.0) if mines else None
        self.memory = ChatMemory(self.reminding, miner)

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
        return f"The {topic} number {self.lot.randrange(1000)} is {mark}, and the {topic} is {mark} still."

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
        if len(history) > 50:
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
        if kind < 0.2:
            self.done["facts stored"] += 1
            await self.insert(who)
        elif kind < 0.4:
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
    totals = await memories.store.totals()
    print(f"{crowd.done.total()} operations in {time.perf_counter() - started_s:.1f} s: {dict(crowd.done)}")
    print(f"marks seen, by (own, of a memory): {dict(crowd.seen)}; {totals[Kind.FACT]} facts in the store")
    print(f"look-ups: {dict(memories.reminding.tally)}")

    assert crowd.foreign == []
    assert crowd.done.total() == OPERATIONS
    assert crowd.seen[False, True] > 10_000
    assert crowd.seen[True, False] > 100
    assert totals[Kind.FACT] > 1000
