"""What every store of memories promises: the same tests for SQLite in memory, in a file, and for PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.context.terms import name_terms, terms_of
from gateway.core.facts.memory import (
    Anchor,
    Kind,
    Level,
    Memory,
    Origin,
    Position,
    Scope,
    Sought,
    Source,
    Wanted,
    fact_hash,
    plain,
)
from gateway.ports_memory import MemoryStore
from gateway.shell.facts.rows import MAX_SOURCES
from tests.shell.facts.memories import ALICE, BOB, NOW_US, OTHER, Clock, fact, new_id, same, text, told

ALL = Wanted(with_ended=True)


def asking(question: str, **rest: object) -> Sought:
    named = name_terms(question)
    return Sought(terms=list(named.words), exact=named.hard, **rest)  # type: ignore[arg-type]


async def found(store: MemoryStore, scope: Scope, question: str, limit: int = 10) -> list[str]:
    return [each.memory.text for each in await store.search(scope, asking(question), limit)]


async def test_what_is_put_comes_back_whole(store: MemoryStore) -> None:
    """Every field of a fact and of a text."""
    origin = Origin("ab" * 32, 3, 9)
    sources = [Source("cd" * 32, "doc ünïcode", Anchor("d", 3, "r", "v", "p:1"), origin), Source("ef" * 32)]
    one = fact(
        "The 服务",
        "läuft auf",
        "port 8080 😀",
        topic=True,
        confidence=0.25,
        expires_us=NOW_US + 1,
        datatype="int",
        session=b"s" * 16,
        sources=sources,
        observed_us=-5,
    )
    other = text("Zeile\n\x00 eins", Level.IMMEDIATE, metadata={"a": [1, None, {"b": "\x00"}], "": 2.5})
    stored = await store.put(ALICE, [one, other])

    assert [(each.id, each.is_duplicate) for each in stored] == [(one.id, False), (other.id, False)]
    assert same(await store.get(ALICE.owner, one.id, Kind.FACT), one)
    assert same(await store.get(ALICE.owner, other.id, Kind.CONTEXT), other)
    assert await store.get(ALICE.owner, one.id, Kind.CONTEXT) is None
    assert await store.get(BOB.owner, one.id, Kind.FACT) is None
    assert await store.get(ALICE.owner, "no id", Kind.FACT) is None


async def test_a_fact_told_again_is_a_duplicate(store: MemoryStore) -> None:
    """It adds its sources, raises confidence and expiry, and changes nothing else."""
    first = fact("API", "limit", "600", doc="a", confidence=0.9, expires_us=NOW_US + 10, observed_us=5)
    again = fact("api ", "LIMIT", "600", doc="b", confidence=0.5, expires_us=NOW_US + 20, observed_us=9)
    await store.put(ALICE, [first])
    (stored,) = await store.put(ALICE, [again])
    (kept,) = (await store.page(ALICE, ALL, None, 9)).memories

    assert stored.is_duplicate
    assert stored.id == first.id
    assert same(kept, replace(first, sources=[*first.sources, *again.sources], expires_us=NOW_US + 20))


async def test_sources_are_the_newest(store: MemoryStore) -> None:
    """One that is there already is not added again; a document whose source went is no longer a way to the fact."""
    for number in range(MAX_SOURCES + 3):
        await store.put(ALICE, [fact("s", "p", "o", doc=f"d{number}"), fact("s", "p", "o", doc=f"d{number}")])
    (kept,) = (await store.page(ALICE, ALL, None, 9)).memories

    assert [source.source_doc for source in kept.sources] == [f"d{number}" for number in range(3, MAX_SOURCES + 3)]
    assert (await store.page(ALICE, Wanted(source_doc="d2"), None, 9)).total == 0
    assert (await store.page(ALICE, Wanted(source_doc="d3"), None, 9)).total == 1


async def test_a_put_that_is_made_again_is_no_duplicate(store: MemoryStore) -> None:
    """A caller who was not told makes the same call again, under the same ids."""
    both = [fact("s", "p", "o", topic=True), text("t")]
    first = await store.put(ALICE, both)

    assert await store.put(ALICE, both) == first
    assert (await store.page(ALICE, ALL, None, 9)).total == 2


def mined(object_: str, start: int, **rest: Any) -> Memory:
    """A fact from a place in a message."""
    origin = Origin("0f" * 32, start, start + 9, "user")
    source = Source(fact_hash("s", "lives in", object_, Anchor()), None, Anchor(), origin)
    return fact("s", "lives in", object_, topic=True, sources=[source], **rest)


async def test_what_is_mined_in_the_same_place_again_is_no_news(store: MemoryStore) -> None:
    """Of a process that has forgotten what it mined, an old statement does not take the place of a later one."""
    await store.put(ALICE, [mined("Oslo", 0, observed_us=1), mined("Rome", 50, observed_us=2)])
    again = await store.put(ALICE, [mined("Oslo", 0, observed_us=8, confidence=1.0)])
    before = (await store.page(ALICE, ALL, None, 9)).memories
    await store.put(ALICE, [mined("Oslo", 90, observed_us=9)])
    after = (await store.page(ALICE, ALL, None, 9)).memories

    assert [each.is_duplicate for each in again] == [True]
    assert {each.object: each.ended_us for each in before} == {"Oslo": 2, "Rome": None}
    assert {each.object: each.ended_us for each in after} == {"Oslo": None, "Rome": 9}


async def test_what_is_put_as_ended_ends_nothing(store: MemoryStore) -> None:
    """A history that is taken elsewhere, where something came to hold again, is there as it was."""
    told = [
        fact("s", "lives in", "Oslo", topic=True, observed_us=1),
        fact("s", "lives in", "Rome", topic=True, observed_us=3, ended_us=5),
    ]
    await store.put(ALICE, told)

    assert [each.ended_us for each in (await store.page(ALICE, ALL, None, 9)).memories] == [None, 5]


async def test_two_documents_with_like_anchors_are_two_sources(store: MemoryStore) -> None:
    one = fact("s", "p", "o")
    other = fact("s", "p", "o", sources=[replace(one.sources[0], source_doc="b.pdf")])
    await store.put(ALICE, [one, other])
    (kept,) = (await store.page(ALICE, ALL, None, 9)).memories

    assert [source.source_doc for source in kept.sources] == [None, "b.pdf"]


async def test_within_one_call_the_second_is_the_duplicate(store: MemoryStore) -> None:
    one, other = fact("s", "p", "o", doc="a"), fact("S", "P", "O", doc="b")
    stored = await store.put(ALICE, [one, other])

    assert [(each.id, each.is_duplicate) for each in stored] == [(one.id, False), (one.id, True)]


BAD = {
    "a lone surrogate in a fact": lambda: fact("s", "p", "\ud800"),
    "a lone surrogate in metadata": lambda: text("t", metadata={"a": "\udfff"}),
    "a lone surrogate in a document": lambda: fact("s", "p", "o", sources=[Source("00", "\ud800")]),
    "an id that is none": lambda: fact("s", "p", "o", id="x"),
    "an id in capitals": lambda: fact("s", "p", "o", id="A" * 32),
    "a time beyond 64 bits": lambda: fact("s", "p", "o", observed_us=2**63),
    "a term beyond 32 bits": lambda: fact("s", "p", "o", terms=[2**32]),
    "a confidence above 1": lambda: fact("s", "p", "o", confidence=1.5),
    "metadata that is no JSON": lambda: text("t", metadata={"a": object()}),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
async def test_what_cannot_be_stored_is_refused_whole(store: MemoryStore, make) -> None:  # type: ignore[no-untyped-def]
    """With `ValueError`, and nothing of the same call is stored."""
    with pytest.raises(ValueError, match="memory"):
        await store.put(ALICE, [fact("good", "p", "o"), make()])

    assert (await store.page(ALICE, ALL, None, 9)).total == 0
    with pytest.raises(ValueError, match="scope"):
        await store.put(Scope(ALICE.owner, "\ud800"), [fact("s", "p", "o")])


async def test_an_id_is_one_memorys(store: MemoryStore) -> None:
    """A second memory of another's id is refused; the first is untouched."""
    one = fact("s", "p", "o")
    await store.put(ALICE, [one])
    with pytest.raises(ValueError, match="stored"):
        await store.put(BOB, [fact("s", "p", "other", id=one.id), fact("x", "y", "z")])

    assert same(await store.get(ALICE.owner, one.id, Kind.FACT), one)
    assert (await store.page(BOB, ALL, None, 9)).total == 0


async def test_a_later_statement_takes_the_place_of_an_earlier_one(store: MemoryStore) -> None:
    """In whatever order they arrive; other topics, other scopes and what has no topic are left alone."""
    at = {80: 10, 81: 30, 82: 20}
    for port, observed_us in at.items():
        await store.put(ALICE, [fact("app", "port", str(port), topic=True, observed_us=observed_us)])
    await store.put(ALICE, [fact("app", "port", "99", observed_us=1), fact("app", "host", "h", topic=True)])
    await store.put(BOB, [fact("app", "port", "80", topic=True)])
    shown = (await store.page(ALICE, Wanted(subject="app", predicate="port"), None, 9)).memories
    ended = (await store.page(ALICE, Wanted(predicate="port", with_ended=True), None, 9)).memories

    assert [memory.object for memory in shown] == ["99", "81"]
    assert [(memory.object, memory.ended_us) for memory in ended] == [
        ("99", None),
        ("80", 30),
        ("82", 30),
        ("81", None),
    ]
    assert await found(store, ALICE, "app port 80 82") == ["app port 99", "app port 81", "app host h"]
    assert (await store.page(BOB, Wanted(), None, 9)).total == 1


async def test_of_statements_of_one_moment_all_hold(store: MemoryStore) -> None:
    await store.put(ALICE, [fact("app", "port", port, topic=True, observed_us=7) for port in ("1", "2")])

    assert (await store.page(ALICE, Wanted(), None, 9)).total == 2


async def test_what_was_said_again_holds_again(store: MemoryStore) -> None:
    """And ends what had taken its place; what is said late between the two has ended."""
    ports = [("80", 10), ("81", 20), ("80", 30), ("82", 25)]
    for port, observed_us in ports:
        await store.put(ALICE, [fact("app", "port", port, topic=True, observed_us=observed_us)])
    ended = (await store.page(ALICE, ALL, None, 9)).memories

    assert [(memory.object, memory.ended_us) for memory in ended] == [("80", None), ("81", 30), ("82", 30)]
    assert await found(store, ALICE, "port 80") == ["app port 80"]


async def test_what_has_expired_is_not_there(store: MemoryStore, clock: Clock) -> None:
    """It is not returned, not counted, not a duplicate, ends nothing; sweeping removes it."""
    gone = fact("app", "port", "80", topic=True, observed_us=50, expires_us=NOW_US + 5, doc="d")
    await store.put(ALICE, [gone, text("port 80 forever"), text("a port for now", expires_us=NOW_US + 5)])
    clock.now_us += 5

    assert await store.get(ALICE.owner, gone.id, Kind.FACT) is None
    assert told((await store.page(ALICE, ALL, None, 9)).memories) == ["port 80 forever"]
    assert (await store.page(ALICE, Wanted(source_doc="d"), None, 9)).total == 0
    assert await found(store, ALICE, "port 80") == ["port 80 forever"]
    assert await store.names(ALICE.owner) == {"notes": 1}
    assert await store.totals() == {Kind.FACT: 0, Kind.CONTEXT: 1}
    assert [memory.text async for memory in store.scan(ALICE)] == ["port 80 forever"]
    assert await store.delete(ALICE.owner, [gone.id], Kind.FACT) == 0

    again = fact("app", "port", "80", topic=True, observed_us=40)
    earlier = fact("app", "port", "81", topic=True, observed_us=30)
    stored = [*await store.put(ALICE, [earlier]), *await store.put(ALICE, [again])]

    assert [each.is_duplicate for each in stored] == [False, False]
    assert same(await store.get(ALICE.owner, again.id, Kind.FACT), again)
    assert await store.sweep() == 1
    assert await store.sweep() == 0
    assert await store.totals() == {Kind.FACT: 2, Kind.CONTEXT: 1}


async def test_pages_follow_each_other(store: MemoryStore) -> None:
    """In the order of observation and id, also where many were observed at once; each has the total."""
    memories = [fact("s", "p", str(number), observed_us=number // 7) for number in range(50)]
    await store.put(ALICE, memories)
    await store.put(BOB, [fact("s", "p", "bob's")])
    seen, after, totals = [], None, set()
    for _ in range(20):
        page = await store.page(ALICE, Wanted(), after, 4)
        seen += page.memories
        totals.add(page.total)
        if (after := page.next) is None:
            break

    assert [memory.id for memory in seen] == [
        memory.id for memory in sorted(memories, key=lambda memory: (memory.observed_us, memory.id))
    ]
    assert totals == {50}
    assert [memory.id async for memory in store.scan(ALICE)] == [memory.id for memory in seen]
    assert (await store.page(ALICE, Wanted(), Position(99, "f" * 32), 4)).memories == []
    assert (await store.page(ALICE, Wanted(), None, 50)).next is None


async def test_every_filter_of_a_page(store: MemoryStore) -> None:
    """Alone and together."""
    await store.put(
        ALICE,
        [
            fact("App", "port", "80", doc="a", confidence=0.5),
            fact("App", "Host", "db-1.example.com", doc="b", confidence=0.9, observed_us=2),
            text("the app listens", Level.SHORT_TERM, observed_us=3),
            text("the database sleeps", Level.LONG_TERM, observed_us=4),
        ],
    )

    async def shown(**wanted: object) -> list[str]:
        page = await store.page(ALICE, Wanted(**wanted), None, 9)  # type: ignore[arg-type]
        assert page.total == len(page.memories)
        return told(page.memories)

    assert await shown(kind=Kind.FACT) == ["App port 80", "App Host db-1.example.com"]
    assert await shown(kind=Kind.CONTEXT, level=Level.SHORT_TERM) == ["the app listens"]
    assert await shown(level=Level.LONG_TERM) == ["the database sleeps"]
    assert await shown(subject=plain("APP"), predicate=plain("hOst")) == ["App Host db-1.example.com"]
    assert await shown(object="80") == ["App port 80"]
    assert await shown(source_doc="b") == ["App Host db-1.example.com"]
    assert await shown(source_doc="B") == []
    assert await shown(min_confidence=0.6, kind=Kind.FACT) == ["App Host db-1.example.com"]
    assert await shown(terms=terms_of("app host")) == ["App Host db-1.example.com"]
    assert await shown(terms=terms_of("listen app"), subject=plain("app")) == []
    assert await shown(terms=terms_of("listening apps")) == ["the app listens"]


async def test_scopes_never_mix(store: MemoryStore) -> None:
    """Two owners with memories of one name, and one owner's two memories."""
    for scope in (ALICE, BOB, OTHER):
        await store.put(scope, [fact("secret", "of", f"{scope.owner[:1]!r}{scope.name}", topic=True)])
        await store.put(scope, [fact("shared", "fact", "here")])

    for scope in (ALICE, BOB, OTHER):
        own = f"secret of {scope.owner[:1]!r}{scope.name}"
        assert await found(store, scope, "secret") == [own]
        assert told((await store.page(scope, Wanted(subject="secret"), None, 9)).memories) == [own]
        assert [memory.text async for memory in store.scan(scope) if memory.subject == "secret"] == [own]
    assert await store.names(ALICE.owner) == {"notes": 2, "other": 2}
    assert await store.names(b"x" * 32) == {}
    assert await store.search(Scope(b"x" * 32, "notes"), asking("secret"), 9) == []
    (bobs,) = (await store.page(BOB, Wanted(subject="secret"), None, 9)).memories
    assert await store.delete(ALICE.owner, [bobs.id], Kind.FACT) == 0
    assert await store.delete_all(ALICE.owner, "notes") == 2
    assert await store.names(BOB.owner) == {"notes": 2}
    assert await store.names(ALICE.owner) == {"other": 2}


async def test_a_search_answers_best_first(store: MemoryStore) -> None:
    """Rare words count for more than common ones, identifiers for most; what holds none of the words is not found."""
    await store.put(ALICE, [text(f"the server number {n} is up and serves pages") for n in range(40)])
    await store.put(ALICE, [text("deployment of server waits for ticket OPS-4711"), text("tickets cost 12 euros")])

    assert (await found(store, ALICE, "what about OPS-4711 and the server"))[0].endswith("OPS-4711")
    assert (await found(store, ALICE, "server deployments"))[0].startswith("deployment")
    assert await found(store, ALICE, "giraffe") == []
    assert len(await found(store, ALICE, "server", 5)) == 5
    ranks = [each.lexical_rank for each in await store.search(ALICE, asking("server ticket"), 4)]
    assert ranks == [0, 1, 2, 3]


async def test_a_search_finds_what_it_is_asked_for(store: MemoryStore) -> None:
    """By kind, level and confidence."""
    await store.put(ALICE, [fact("port", "is", "80", confidence=0.4), fact("port", "is", "81", confidence=0.8)])
    await store.put(ALICE, [text("port one", Level.IMMEDIATE), text("port two", Level.LONG_TERM)])

    async def by(**rest: object) -> set[str]:
        return {each.memory.text for each in await store.search(ALICE, asking("port", **rest), 9)}

    assert await by(kind=Kind.FACT) == {"port is 80", "port is 81"}
    assert await by(kind=Kind.FACT, min_confidence=0.5) == {"port is 81"}
    assert await by(min_confidence=0.5) == {"port is 81", "port one", "port two"}
    assert await by(kind=Kind.CONTEXT, level=Level.IMMEDIATE) == {"port one"}
    assert await by(level=Level.LONG_TERM) == {"port two"}


TEXTS = {
    "Chinese": ("服务器的端口是八千零八十", "端口是多少"),
    "Japanese": ("サーバーのポートは8080です", "ポート"),
    "Korean": ("서버 포트는 8080 입니다", "서버 포트"),
    "Thai": ("เซิร์ฟเวอร์ใช้พอร์ต 8080", "พอร์ต"),
    "Arabic": ("الخادم يعمل على المنفذ", "المنفذ"),
    "accents": ("Der Schlüssel heißt ÄÖÜ", "schlussel"),
    "emoji": ("the 😀 build", "build 😀"),
    "SQL": ("'; DROP TABLE memories; --", "'; DROP TABLE memories; --"),
    "FTS": ('NEAR("a b", 3) OR bucket:* AND NOT ^x', 'NEAR("a b") OR NOT ^x* -bucket:y'),
    "LIKE": ("100% _sure_ [x]", "100% sure"),
    "a NUL": ("alpha\x00beta gamma", "alpha\x00beta"),
    "a path": ("see src/gateway/app.py:12", "src/gateway/app.py"),
}


@pytest.mark.parametrize(("words", "question"), TEXTS.values(), ids=TEXTS)
async def test_any_script_and_any_syntax_is_text(store: MemoryStore, words: str, question: str) -> None:
    """In a text, in every field of a fact, in the name of a scope, in a filter."""
    scope = Scope(ALICE.owner, words)
    await store.put(scope, [text(words), fact(words, words, words, doc=words)])
    await store.put(ALICE, [text(words)])
    page = await store.page(
        scope, Wanted(subject=plain(words), predicate=plain(words), object=plain(words), source_doc=words), None, 9
    )

    assert set(await found(store, scope, question)) == {words, f"{words} {words} {words}"}
    assert page.total == 1
    assert await store.names(ALICE.owner) == {words: 2, "notes": 1}
    assert await store.delete_all(ALICE.owner, words) == 2
    assert (await store.page(ALICE, Wanted(subject="\ud800", source_doc="\ud800"), None, 9)).total == 0


async def test_deleting_by_all_that_can_be_named(store: MemoryStore) -> None:
    """What is deleted is gone from pages, searches and counts, and may be put anew."""
    one, two = fact("s", "p", "one", session=b"s1"), fact("s", "p", "two", session=b"s2", topic=True)
    three, four = text("three", Level.IMMEDIATE, session=b"s1"), text("four", Level.LONG_TERM)
    await store.put(ALICE, [one, two, three, four])
    await store.put(OTHER, [fact("s", "p", "five", session=b"s1"), fact("s", "p", "six")])

    assert await store.delete(ALICE.owner, [one.id, one.id, three.id, new_id(), "no id"], Kind.FACT) == 1
    assert await found(store, ALICE, "one two three four") == ["four", "three", "s p two"]
    assert not (await store.put(ALICE, [replace(one, id=new_id())]))[0].is_duplicate
    assert await store.delete_all(ALICE.owner, session=b"s1", kind=Kind.FACT) == 2
    assert await store.delete_all(ALICE.owner, "notes", kind=Kind.CONTEXT, level=Level.LONG_TERM) == 1
    assert await store.delete_all(ALICE.owner, "nothing") == 0
    assert await store.delete_all(ALICE.owner, session=b"") == 0
    assert await store.totals() == {Kind.FACT: 2, Kind.CONTEXT: 1}
    assert await store.delete_all(ALICE.owner) == 3
    assert await store.totals() == {Kind.FACT: 0, Kind.CONTEXT: 0}
    assert await found(store, ALICE, "one two three four") == []


async def test_deleting_many(store: MemoryStore) -> None:
    await store.put(ALICE, [text(f"number {n}") for n in range(1500)])

    assert await store.delete_all(ALICE.owner) == 1500
    assert await store.names(ALICE.owner) == {}
