"""Any sequence of calls leaves a store as it leaves a dictionary: what `MemoryStore` promises, told plainly."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gateway.core.context.terms import terms_of
from gateway.core.facts.memory import Kind, Level, Memory, Scope, Sought, Wanted
from gateway.ports_memory import MemoryStore
from gateway.shell.facts.postgres import PostgresMemoryStore
from gateway.shell.facts.sqlite import SqliteMemoryStore
from tests.postgres_server import PostgresServer
from tests.shell.facts.memories import Clock, fact, text

OWNERS, NAMES, WORDS = (0, 1), ("notes", "Notes"), ("alpha", "Beta", "gamma'; --")
_examples = itertools.count()


@dataclass
class Entry:
    """What a dictionary knows of a memory."""

    first: Memory
    documents: list[str | None]
    confidence: float
    seen_us: int
    ended_us: int | None
    expires_us: int | None
    topic: bytes


class Model:
    """All scopes, as dictionaries by key."""

    def __init__(self) -> None:
        self.scopes: dict[Scope, dict[bytes, Entry]] = {}

    def put(self, scope: Scope, memory: Memory, now_us: int) -> bool:
        """Whether it was a duplicate."""
        entries = self.scopes.setdefault(scope, {})
        self.forget(now_us)
        old = entries.get(memory.key)
        document = memory.sources[0].source_doc
        if old is None and memory.expires_us is not None and memory.expires_us <= now_us:
            return False
        if old is None:
            entry = entries[memory.key] = Entry(
                memory, [document], memory.confidence, memory.observed_us, None, memory.expires_us, memory.topic
            )
        else:
            entry = old
            entry.documents += [] if document in old.documents else [document]
            entry.confidence = max(old.confidence, memory.confidence)
            entry.seen_us = max(old.seen_us, memory.observed_us)
            if old.ended_us is not None and old.ended_us <= memory.observed_us:
                entry.ended_us = None
            both = (old.expires_us, memory.expires_us)
            entry.expires_us = None if None in both else max(both)  # type: ignore[type-var]
            entry.topic = old.topic or memory.topic
        if memory.topic:
            self.take_place(entries, entry, memory)
        return old is not None

    def take_place(self, entries: dict[bytes, Entry], entry: Entry, memory: Memory) -> None:
        others = [e for e in entries.values() if e is not entry and e.topic == memory.topic and e.ended_us is None]
        for other in others:
            if other.seen_us < memory.observed_us:
                other.ended_us = memory.observed_us
        later = [e for e in others if e.seen_us > entry.seen_us]
        if later and entry.ended_us is None:
            observed = [e.first.observed_us if e.first.observed_us > entry.seen_us else e.seen_us for e in later]
            entry.ended_us = min(observed)

    def forget(self, now_us: int) -> int:
        gone = 0
        for entries in self.scopes.values():
            for key in [k for k, e in entries.items() if e.expires_us is not None and e.expires_us <= now_us]:
                del entries[key]
                gone += 1
        return gone


memories = st.builds(
    lambda subject, predicate, object_, topic, observed_us, ttl_us, confidence, doc: (
        lambda now_us: fact(
            subject,
            predicate,
            object_,
            topic=topic,
            observed_us=observed_us,
            expires_us=None if ttl_us is None else now_us + ttl_us,
            confidence=confidence,
            doc=doc,
        )
    ),
    st.sampled_from(WORDS[:2]),
    st.sampled_from(("is", "IS", "has")),
    st.sampled_from(WORDS),
    st.booleans(),
    st.integers(0, 6),
    st.sampled_from((None, None, 0, 3, 9)),
    st.sampled_from((0.25, 0.5, 1.0)),
    st.sampled_from(("d1", "d2", None)),
) | st.builds(
    lambda words, observed_us, level: lambda now_us: text(words, level, observed_us=observed_us),
    st.sampled_from(WORDS),
    st.integers(0, 6),
    st.sampled_from(Level),
)


class Machine(RuleBasedStateMachine):
    """The store and the dictionary, side by side."""

    make: Callable[[Clock], MemoryStore]
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.example = next(_examples)
        self.store = self.make(self.clock)
        self.model = Model()

    def scope(self, owner: int, name: str) -> Scope:
        return Scope(bytes([owner]) + self.example.to_bytes(31), name)

    def all_scopes(self) -> list[Scope]:
        return [self.scope(owner, name) for owner in OWNERS for name in NAMES]

    @rule(owner=st.sampled_from(OWNERS), name=st.sampled_from(NAMES), making=st.lists(memories, min_size=1, max_size=4))
    def put(self, owner: int, name: str, making: Sequence[Callable[[int], Memory]]) -> None:
        scope, made = self.scope(owner, name), [make(self.clock.now_us) for make in making]
        stored = self.runner.run(self.store.put(scope, made))
        for memory, each in zip(made, stored, strict=True):
            assert each.is_duplicate == self.model.put(scope, memory, self.clock.now_us)
            known = self.model.scopes[scope].get(memory.key)
            assert each.id == (known.first.id if known else memory.id)

    @rule(by_us=st.integers(1, 5))
    def wait(self, by_us: int) -> None:
        self.clock.now_us += by_us

    @rule()
    def sweep(self) -> None:
        self.runner.run(self.store.sweep())

        assert self.runner.run(self.store.sweep()) == 0

    @rule(scope=st.integers(0, 3), place=st.integers(0, 9), kind=st.sampled_from(Kind))
    def delete(self, scope: int, place: int, kind: Kind) -> None:
        chosen = self.all_scopes()[scope]
        self.model.forget(self.clock.now_us)
        entries = self.model.scopes.get(chosen, {})
        ids = [entry.first.id for entry in entries.values()][place : place + 2]
        kept = {k: e for k, e in entries.items() if e.first.id not in ids or e.first.kind is not kind}
        other = Scope(b"x" * 32, chosen.name)

        assert self.runner.run(self.store.delete(other.owner, ids, kind)) == 0
        assert self.runner.run(self.store.delete(chosen.owner, ids, kind)) == len(entries) - len(kept)
        self.model.scopes[chosen] = kept

    @rule(
        owner=st.sampled_from(OWNERS), name=st.none() | st.sampled_from(NAMES), kind=st.none() | st.sampled_from(Kind)
    )
    def delete_all(self, owner: int, name: str | None, kind: Kind | None) -> None:
        gone = 0
        self.model.forget(self.clock.now_us)
        for scope in [self.scope(owner, each) for each in NAMES if name in (None, each)]:
            entries = self.model.scopes.get(scope, {})
            kept = {k: e for k, e in entries.items() if kind not in (None, e.first.kind)}
            gone += len(entries) - len(kept)
            self.model.scopes[scope] = kept

        assert self.runner.run(self.store.delete_all(self.scope(owner, "").owner, name, kind=kind)) == gone

    @invariant()
    def every_scope_is_as_it_should_be(self) -> None:
        self.model.forget(self.clock.now_us)
        for scope in self.all_scopes():
            entries = sorted(self.model.scopes.get(scope, {}).values(), key=lambda e: (e.first.observed_us, e.first.id))
            page = self.runner.run(self.store.page(scope, Wanted(with_ended=True), None, 2))
            found, total = [*page.memories], page.total
            while page.next is not None:
                page = self.runner.run(self.store.page(scope, Wanted(with_ended=True), page.next, 2))
                found += page.memories

            assert total == len(entries)
            assert [shown(memory) for memory in found] == [expected(entry) for entry in entries]
            self.searches_are_right(scope, [entry for entry in entries if entry.ended_us is None])

    def searches_are_right(self, scope: Scope, holding: Sequence[Entry]) -> None:
        for word in WORDS:
            terms = list(dict.fromkeys(terms_of(word)))
            found = self.runner.run(self.store.search(scope, Sought(terms), 99))

            assert {each.memory.id for each in found} == {
                entry.first.id for entry in holding if set(terms) & set(entry.first.terms)
            }


def shown(memory: Memory) -> tuple[object, ...]:
    documents = sorted(str(source.source_doc) for source in memory.sources)
    told = (memory.id, memory.text, memory.observed_us, memory.ended_us, memory.expires_us, memory.confidence)
    return (*told, memory.topic, documents)


def expected(entry: Entry) -> tuple[object, ...]:
    first = entry.first
    told = (first.id, first.text, first.observed_us, entry.ended_us, entry.expires_us, entry.confidence)
    return (*told, entry.topic, sorted(map(str, entry.documents)))


def run(make: Callable[[Clock], MemoryStore], runner: asyncio.Runner, examples: int, steps: int) -> None:
    kind = type("Running", (Machine,), {"make": staticmethod(make), "runner": runner})
    limits = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(kind, settings=limits)  # type: ignore[no-untyped-call]


def test_sqlite_is_as_a_dictionary() -> None:
    """In memory; each example has a store of its own."""
    made: list[SqliteMemoryStore] = []

    def make(clock: Clock) -> SqliteMemoryStore:
        made.append(SqliteMemoryStore(clock=clock))
        return made[-1]

    with asyncio.Runner() as runner:
        run(make, runner, 25, 20)
        for store in made:
            runner.run(store.close())


def test_postgres_is_as_a_dictionary(postgres_server: PostgresServer) -> None:
    """One database for all examples, with owners of their own."""
    store = PostgresMemoryStore(postgres_server.dsn)

    def make(clock: Clock) -> PostgresMemoryStore:
        store._clock = clock
        return store

    with asyncio.Runner() as runner:
        run(make, runner, 6, 12)
        runner.run(store.close())
