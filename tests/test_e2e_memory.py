"""Facts, contexts and memories over the wire: what is stored, found, told, refused, streamed and taken elsewhere."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, ask_raw, config_for, head
from tests.memory_client import MemoryClient, as_lines
from tests.postgres_server import PostgresServer, postgres_server, shared_postgres

__all__ = ["postgres_server", "shared_postgres"]

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
FACT: Json = {"subject": "Margit", "predicate": "lives in", "object": "Oslo"}


@pytest_asyncio.fixture(loop_scope="session")
async def client(shared_gateway: GatewayProcess, web: aiohttp.ClientSession) -> AsyncIterator[MemoryClient]:
    """One with an empty memory."""
    own = MemoryClient(web, shared_gateway, KEY)
    await own.call("DELETE", "/memories")
    yield own


async def test_a_fact_from_beginning_to_end(client: MemoryClient) -> None:
    """Stored, told again by its id and by a query, known again from another document, and gone."""
    anchor = {"doc_id": "d1", "page": 3, "region_id": "r1", "vt_ref": "v1", "path_line": "a.txt:4"}
    sent = FACT | {"datatype": "city", "source_doc": "a.pdf", "source_anchor": anchor, "confidence": 0.9}
    stored = await client.call("POST", "/facts", sent | {"observed_at": "1969-07-20T20:17:40Z"})
    again = await client.insert("MARGIT", "lives  in", "oslo", source_doc="b.pdf", confidence=1)
    fact = (await client.call("GET", f"/facts/{stored.json['fact_id']}")).json
    page = await client.query(subject="margit", source_doc="b.pdf", min_confidence=0.95, text="Oslo")
    gone = await client.call("DELETE", f"/facts/{fact['id']}")
    absent = [await client.call(method, f"/facts/{fact['id']}") for method in ("GET", "DELETE")]

    assert (stored.status, stored.json["duplicate"]) == (201, False)
    assert again["duplicate"]
    assert again["fact_id"] == stored.json["fact_id"] == fact["id"]
    assert {name: fact[name] for name in sent} == sent | {"confidence": 1.0}
    assert fact["observed_at"] == "1969-07-20T20:17:40Z"
    assert [source["hash"] for source in fact["sources"]] == [stored.json["hash"], again["hash"]]
    assert fact["hash"] == stored.json["hash"]
    assert page == {"facts": [fact], "total": 1, "next_cursor": None}
    assert (gone.status, gone.body) == (204, b"")
    assert [(told.status, told.json["code"]) for told in absent] == [(404, "NOT_FOUND")] * 2


async def test_a_later_statement_takes_the_place_of_an_earlier_one(client: MemoryClient) -> None:
    """Where a value is the only one; the earlier one is told when it is asked for."""
    for year, city in ((2001, "Oslo"), (2010, "Bergen"), (2005, "Rome")):
        await client.insert("Margit", "lives in", city, single_valued=True, observed_at=f"{year}-01-01T00:00:00Z")
    now = await client.all_facts()
    all_ = await client.all_facts(include_superseded=True)

    assert [fact["object"] for fact in now] == ["Bergen"]
    assert [(fact["object"], fact.get("superseded_at")) for fact in all_] == [
        ("Oslo", "2010-01-01T00:00:00Z"),
        ("Rome", "2010-01-01T00:00:00Z"),
        ("Bergen", None),
    ]


async def test_pages_hold_every_fact_once(client: MemoryClient) -> None:
    """In the order of their times, with the whole number on each; a page's cursor is no other question's."""
    rows = [
        FACT | {"object": f"o{number}", "observed_at": f"2020-01-01T00:00:{number % 7:02}Z"} for number in range(45)
    ]
    await client.lines("/facts", as_lines(rows))
    first = await client.query(limit=10)
    facts = await client.all_facts(limit=10)
    cursor = first["next_cursor"]
    wrong = [
        await client.call("POST", "/facts/query", {"query": {"limit": 10, "subject": "Margit"}, "cursor": cursor}),
        await client.call("POST", "/facts/query", {"query": {}, "cursor": cursor[:-1]}),
        await client.call("POST", "/facts/query", {"query": {}, "cursor": ""}),
        await client.call("POST", "/facts/query", {"query": {}, "cursor": cursor}, **{"x-gateway-memory": "other"}),
    ]
    order = [(fact["observed_at"], fact["id"]) for fact in facts]

    assert (first["total"], len(first["facts"]), len(facts)) == (45, 10, 45)
    assert order == sorted(order)
    assert len({fact["object"] for fact in facts}) == 45
    assert [(told.status, told.json["details"]["field"]) for told in wrong] == [(400, "cursor")] * 4


async def test_a_context_from_beginning_to_end(client: MemoryClient) -> None:
    metadata = {"page": 3, "tags": ["a", None]}
    text = "The locker of Margit Oyelaran has the code 7T-4093."
    stored = await client.call("POST", "/contexts", {"text": text, "metadata": metadata, "level": "immediate"})
    other = await client.call("POST", "/contexts", {"text": "Margit likes tea.", "level": "long_term"})
    again = await client.call("POST", "/contexts", {"text": text, "ttl_seconds": 10**7})
    search = await client.call("POST", "/contexts/search", {"query": "Which code has Margit's locker?"})
    leveled = await client.call("POST", "/contexts/search", {"query": "Margit", "level": "long_term"})
    nothing = await client.call("POST", "/contexts/search", {"query": "submarine"})
    one = await client.call("GET", f"/contexts/{stored.json['context_id']}")
    as_fact = await client.call("GET", f"/facts/{stored.json['context_id']}")
    deleted = await client.call("POST", "/contexts/delete", {"ids": [stored.json["context_id"], "0" * 32, "x'; --"]})
    cleared = [await client.call("POST", "/contexts/clear", level) for level in ({"level": "immediate"}, {}, {})]
    found = search.json["contexts"]

    assert (stored.status, stored.json["duplicate"], other.json["expires_at"]) == (201, False, None)
    assert again.json["duplicate"]
    assert again.json["context_id"] == stored.json["context_id"]
    assert again.json["expires_at"] > stored.json["expires_at"]
    assert [context["text"] for context in found] == [text, "Margit likes tea."]
    assert found[0] == one.json | {"score": 1.0}
    assert one.json["metadata"] == metadata
    assert 0 < found[1]["score"] < 1
    assert search.json["total"] == 2
    assert [context["text"] for context in leveled.json["contexts"]] == ["Margit likes tea."]
    assert nothing.json == {"contexts": [], "total": 0}
    assert as_fact.status == 404
    assert deleted.json == {"deleted": 1}
    assert [told.json["deleted"] for told in cleared] == [0, 1, 0]


async def test_what_has_lived_its_time_is_gone(client: MemoryClient) -> None:
    """From every answer, though nobody has deleted it."""
    fact = await client.insert(subject="a", predicate="b", object_="c", ttl_seconds=0.2)
    context = await client.call("POST", "/contexts", {"text": "soon gone", "ttl_seconds": 0.2})
    async with asyncio.timeout(10):
        while (await client.query())["total"] or (await client.call("GET", "/memories")).json["memories"]:
            await asyncio.sleep(0.02)  # the store's own clock says when
    found = [
        (await client.call("GET", f"/facts/{fact['fact_id']}")).status,
        (await client.call("GET", f"/contexts/{context.json['context_id']}")).status,
        (await client.call("POST", "/contexts/search", {"query": "soon gone"})).json["total"],
        await client.export("default"),
    ]

    assert found == [404, 404, 0, b""]


async def test_memories_are_listed_told_and_ended(client: MemoryClient) -> None:
    for name, objects in (("b/1 %2F?", 2), ("a", 1), ("default", 3)):
        rows = [FACT | {"object": f"o{number}"} for number in range(objects)]
        await client.call("POST", "/facts", rows, **{"x-gateway-memory": name})
    listed = await client.call("GET", "/memories")
    one = await client.call("DELETE", "/memories/b%2F1%20%252F%3F")
    unknown = await client.call("DELETE", "/memories/nobody")
    rest = await client.call("DELETE", "/memories")
    after = await client.call("GET", "/memories")

    assert listed.json["memories"] == [
        {"name": "a", "items": 1},
        {"name": "b/1 %2F?", "items": 2},
        {"name": "default", "items": 3},
    ]
    assert [told.json for told in (one, unknown, rest)] == [{"deleted": 2}, {"deleted": 0}, {"deleted": 4}]
    assert after.json == {"memories": []}


async def test_what_is_exported_and_imported_is_the_same(client: MemoryClient) -> None:
    """Every field, the ended ones too, in another memory; a second import finds everything there."""
    for year in (2001, 2002, 2003):
        fields = {"single_valued": True, "observed_at": f"{year}-01-01T00:00:00Z", "ttl_seconds": 10**6}
        await client.insert("Margit", "lives in", f"city {year}", source_anchor={"page": year}, **fields)
    for number in range(90):
        await client.insert("Margit", "said", "Köln 🎉", source_doc="d", source_anchor={"page": number})
    await client.call("POST", "/contexts", {"text": "a\nb", "metadata": {"x": [1]}, "level": "immediate"})
    exported = await client.export("default")
    imported = await client.lines("/memories/copy/import", exported)
    again = await client.lines("/memories/copy/import", exported)
    facts, copies = [
        [
            {name: value for name, value in fact.items() if name != "id"}
            for fact in (
                await client.call("POST", "/facts/query", {"query": asked}, **{"x-gateway-memory": name})
            ).json["facts"]
        ]
        for name, asked in (("default", {"include_superseded": True}), ("copy", {"include_superseded": True}))
    ]

    assert await client.export("copy") == exported
    assert facts == copies
    assert len(facts) == 4
    assert sum("superseded_at" in fact for fact in facts) == 2
    assert [row.get("error") for row in imported.rows + again.rows] == [None] * 12
    assert all(row["duplicate"] for row in again.rows)
    assert sum("context_id" in row for row in imported.rows) == 1


async def test_twenty_thousand_lines_with_a_bad_one(shared_fake: FakeOpenAI, web: aiohttp.ClientSession) -> None:
    """Sent, stored and answered as they come: memory stays, and one bad line costs one."""
    count, bad = 20_000, 12_345

    async def lines() -> AsyncIterator[bytes]:
        for start in range(0, count, 500):
            rows = [FACT | {"object": f"object {number}, {'x' * 100}"} for number in range(start, start + 500)]
            block = [json.dumps(row).encode() for row in rows]
            if start <= bad - 1 < start + 500:
                block[bad - 1 - start] = b'{"subject": "' + b"y" * 2_000_000
            yield b"\n".join(block) + b"\n"

    config = config_for(shared_fake, facts={"url": "memory://"})
    async with GatewayProcess(config) as gateway:
        client = MemoryClient(web, gateway, KEY)
        await client.lines("/facts", as_lines([FACT]))
        before = gateway.memory_bytes()
        gateway.reset_peak()
        told = await client.lines("/facts", lines())
        grown = gateway.memory_bytes("VmHWM") - before
        kept = gateway.memory_bytes() - before
        total = (await client.query(limit=1))["total"]
    rows = told.rows

    assert [row["line"] for row in rows] == list(range(1, count + 1))
    assert [row["line"] for row in rows if "error" in row] == [bad]
    assert total == count
    assert grown - kept < 30 * 2**20


REFUSALS: dict[str, tuple[str, str, Any, int, str]] = {
    "not JSON": ("POST", "/facts", b"{", 400, ""),
    "nothing": ("POST", "/facts", b"", 400, ""),
    "text": ("POST", "/facts", b'"x"', 400, ""),
    "no UTF-8": ("POST", "/facts", '{"subject": "Köln"}'.encode("latin-1"), 400, ""),
    "a depth bomb": ("POST", "/facts", b'{"a":' * 100_000, 400, ""),
    "a list of depth": ("POST", "/facts", b"[" * 100_000, 400, ""),
    "a key twice": ("POST", "/facts", b'{"subject": "a", "subject": "b"}', 400, "subject"),
    "NUL": ("POST", "/facts", FACT | {"object": "a\0b"}, 400, "object"),
    "half a pair": ("POST", "/facts", FACT | {"object": "\ud800"}, 400, "object"),
    "a megabyte": ("POST", "/facts", FACT | {"subject": "x" * 1_000_000}, 400, "subject"),
    "too much": ("POST", "/facts", FACT | {"subject": "x" * 34_000_000}, 413, ""),
    "unknown field": ("POST", "/facts", FACT | {"source_anchor": {"line": 1}}, 400, "source_anchor.line"),
    "not sure": ("POST", "/facts", FACT | {"confidence": 0.5}, 422, "confidence"),
    "no number": ("POST", "/facts", b'{"subject":"a","predicate":"b","object":"c","confidence":NaN}', 400, ""),
    "limit": ("POST", "/facts/query", {"query": {"limit": 10**9}}, 400, "query.limit"),
    "no query": ("POST", "/facts/query", {}, 400, "query"),
    "metadata": ("POST", "/contexts", {"text": "x", "metadata": {"a": "x" * 5000}}, 400, "metadata"),
    "ids": ("POST", "/contexts/delete", {"ids": "all"}, 400, "ids"),
    "level": ("POST", "/contexts/clear", {"level": "all"}, 400, "level"),
    "clear nothing": ("POST", "/contexts/clear", b"", 400, ""),
    "no name": ("GET", "/memories/K%C3%B6ln/export", None, 400, "name"),
    "no name of bytes": ("DELETE", "/memories/%ff", None, 400, "name"),
    "long name": ("DELETE", f"/memories/{'x' * 129}", None, 400, "name"),
    "unknown id": ("GET", f"/facts/{'0' * 32}", None, 404, ""),
    "no id": ("GET", "/facts/1'%20OR%20'1'='1", None, 404, ""),
    "no path": ("GET", "/facts/a/b", None, 404, ""),
    "no root": ("POST", "/memories/a/b/import", b"", 404, ""),
    "wrong method": ("GET", "/facts", None, 405, ""),
}


@pytest.mark.parametrize(("method", "path", "value", "status", "at"), REFUSALS.values(), ids=REFUSALS)
async def test_what_is_refused(client: MemoryClient, method: str, path: str, value: Any, status: int, at: str) -> None:
    """With a code, a message and the field, and nothing stored."""
    told = await client.call(method, path, value)
    code = "NOT_FOUND" if status == 404 else "VALIDATION_ERROR"

    assert (told.status, told.json["code"]) == (status, code)
    assert told.json.keys() <= {"code", "message", "details"}
    assert told.json.get("details", {}).get("field", "") == at
    assert len(told.body) < 1000
    assert (await client.call("GET", "/memories")).json == {"memories": []}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/facts", "POST"),
        ("GET", "/facts/query", "POST"),
        ("POST", f"/facts/{'0' * 32}", "GET, DELETE"),
        ("PATCH", "/memories", "GET, DELETE"),
        ("POST", "/memories/x", "DELETE"),
        ("OPTIONS", "/contexts/search", "POST"),
    ],
)
async def test_a_method_that_is_not_taken(client: MemoryClient, method: str, path: str, allowed: str) -> None:
    told = await client.call(method, path)

    assert (told.status, told.json["code"], told.headers["allow"]) == (405, "VALIDATION_ERROR", allowed)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-16", "application/x-ndjson; charset=latin-1"])
async def test_another_charset_is_refused(client: MemoryClient, kind: str) -> None:
    told = await client.call("POST", "/facts", FACT, **{"Content-Type": kind})

    assert (told.status, told.json["code"], told.json["details"]["field"]) == (415, "VALIDATION_ERROR", "Content-Type")


SYNTAX = ["'; DROP TABLE facts; --", '"', "a OR b", "NEAR(a b)", "subject:*", "%_\\", "{0}", "$1", "a AND (b", "^x*"]


@pytest.mark.parametrize("text", SYNTAX)
async def test_any_syntax_is_just_data(client: MemoryClient, text: str) -> None:
    """In every field it is stored, told and looked for as it is, and finds itself only."""
    await client.insert("other", "other", "other")
    fact = await client.insert(text, text, text, source_doc=text, datatype=text, source_anchor={"doc_id": text})
    await client.call("POST", "/contexts", {"text": f"word {text}", "metadata": {text: text}})
    page = await client.query(subject=text, predicate=text, object=text, source_doc=text)
    searched = await client.call("POST", "/contexts/search", {"query": f"word {text}"})
    by_text = await client.call("POST", "/facts/query", {"query": {"text": text}})

    assert [(found["id"], found["object"]) for found in page["facts"]] == [(fact["fact_id"], text)]
    assert [found["text"] for found in searched.json["contexts"]] == [f"word {text}"]
    assert by_text.status == 200


async def test_compressed_bodies_are_read(client: MemoryClient) -> None:
    """Whole ones and lines; a bomb within a line costs that line."""
    import gzip

    whole = await client.call(
        "POST", "/facts", gzip.compress(json.dumps(FACT).encode()), **{"Content-Encoding": "gzip"}
    )
    lines = as_lines([FACT | {"object": "a"}]) + b" " * 50_000_000 + b"\n" + as_lines([FACT | {"object": "b"}])
    kind = {"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"}
    streamed = await client.call("POST", "/facts", gzip.compress(lines, 1), **kind)

    assert whole.status == 201
    assert [(row["line"], "error" in row) for row in streamed.rows] == [(1, False), (2, True), (3, False)]


async def test_a_websocket_is_not_opened_on_memory(shared_gateway: GatewayProcess, client: MemoryClient) -> None:
    """A handshake there is an ordinary call, and no upstream hears of it."""
    lines = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    answer = await ask_raw(shared_gateway, head("GET", "/api/v1/memories", *lines))

    assert (answer.status, json.loads(answer.body)) == (200, {"memories": []})


async def test_a_web_page_is_refused_in_the_same_form(client: MemoryClient) -> None:
    told = await client.call("GET", "/memories", Origin="https://elsewhere.example")

    assert (told.status, told.json["code"]) == (403, "FORBIDDEN")


async def test_what_is_switched_off_says_so(shared_fake: FakeOpenAI, web: aiohttp.ClientSession) -> None:
    """And chats go on, and sessions."""
    async with GatewayProcess(config_for(shared_fake, facts={"enabled": False})) as gateway:
        client = MemoryClient(web, gateway, KEY)
        told = [await client.call("POST", "/facts", FACT), await client.call("GET", "/memories")]
        session = await client.call("DELETE", "/sessions/trip")
        async with web.get(f"{gateway.base_url}/models", headers={"Authorization": f"Bearer {KEY}"}) as answer:
            status = answer.status

    assert [(each.status, each.json["code"]) for each in told] == [(503, "UPSTREAM_DISABLED")] * 2
    assert (session.status, status) == (404, 200)


async def test_workers_share_a_file(shared_fake: FakeOpenAI, web: aiohttp.ClientSession, tmp_path: Path) -> None:
    """And it outlives them."""
    facts = {"url": f"sqlite://{tmp_path / 'facts.db'}"}
    async with GatewayProcess(config_for(shared_fake, server={"workers": 2}, facts=facts)) as gateway:
        client = MemoryClient(web, gateway, KEY)
        told = await asyncio.gather(*(client.insert("a", "b", f"c{number % 5}") for number in range(40)))
    async with GatewayProcess(config_for(shared_fake, facts=facts)) as gateway:
        found = await MemoryClient(web, gateway, KEY).all_facts()

    assert sum(not each["duplicate"] for each in told) == 5
    assert sorted(fact["object"] for fact in found) == [f"c{number}" for number in range(5)]


async def test_a_store_that_cannot_be_used_stops_no_chat(
    shared_fake: FakeOpenAI, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """The gateway starts and serves; calls of memory wait, then say 503 and when to come again; it is counted."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    config = config_for(shared_fake, facts={"url": f"sqlite://{path}", "wait_seconds": 0.2})
    async with GatewayProcess(config) as gateway:
        client = MemoryClient(web, gateway, KEY)
        told = await client.call("POST", "/facts", FACT)
        export = await client.call("GET", "/memories/x/export")
        session = await client.call("DELETE", "/sessions/trip")
        async with web.get(f"{gateway.base_url}/models", headers={"Authorization": f"Bearer {KEY}"}) as answer:
            status = answer.status
        metrics = await gateway.metrics()

    assert (status, told.status, told.json["code"], told.headers["retry-after"]) == (200, 503, "UPSTREAM_ERROR", "1")
    assert (export.status, export.json["code"]) == (503, "UPSTREAM_ERROR")
    assert (session.status, session.json["error"]["code"]) == (503, "memory_unavailable")
    assert metrics.total("memory_store_errors_total") >= 2


async def test_replicas_share_a_database_that_may_be_away(
    shared_fake: FakeOpenAI, web: aiohttp.ClientSession, postgres_server: PostgresServer
) -> None:
    """A gateway starts without it, says so, and needs no restart once it is there; another replica knows the same."""
    options = {"url": postgres_server.dsn, "collection_name": "e2e", "wait_seconds": 0.5}
    postgres_server.kill()
    async with GatewayProcess(config_for(shared_fake, facts=options)) as gateway:
        client = MemoryClient(web, gateway, KEY)
        away = await client.call("POST", "/facts", FACT)
        postgres_server.start()
        async with asyncio.timeout(30):
            while (back := await client.call("POST", "/facts", FACT)).status >= 500:
                pass  # each call waits by itself
        async with GatewayProcess(config_for(shared_fake, facts=options)) as other:
            replica = MemoryClient(web, other, KEY)
            again = await replica.insert("Margit", "lives in", "Oslo")
            facts = await replica.all_facts(text="Oslo")
            gone = await replica.call("DELETE", "/memories")
        left = await client.query()

    assert (away.status, away.json["code"]) in ((503, "UPSTREAM_ERROR"), (504, "TIMEOUT"))
    assert away.headers["retry-after"] == "1"
    assert (back.status, again["duplicate"], again["fact_id"]) == (201, True, back.json["fact_id"])
    assert [fact["object"] for fact in facts] == ["Oslo"]
    assert (gone.json["deleted"], left["total"]) == (1, 0)


async def test_options_of_memory(shared_fake: FakeOpenAI, web: aiohttp.ClientSession) -> None:
    """Each has the effect that its help says."""
    facts = {
        "dedup_enabled": False,
        "confidence_threshold": 0.3,
        "max_facts_per_query": 2,
        "ttl_seconds": 100_000,
        "levels": {"immediate_seconds": 100_000, "long_term_seconds": 1},
    }
    async with GatewayProcess(config_for(shared_fake, facts=facts)) as gateway:
        client = MemoryClient(web, gateway, KEY)
        stored = [await client.insert("a", "b", "c", confidence=0.3) for _ in range(3)]
        contexts = [await client.call("POST", "/contexts", {"text": "t", "level": "immediate"}) for _ in range(2)]
        unsure = await client.call("POST", "/facts", FACT | {"confidence": 0.29})
        page = await client.query()
        large = await client.call("POST", "/facts/query", {"query": {"limit": 3}})
        exported = await client.export("default")

    assert [each["duplicate"] for each in stored] == [False] * 3
    assert len({each["fact_id"] for each in stored}) == 3
    assert [told.json["duplicate"] for told in contexts] == [False] * 2
    assert (unsure.status, large.status) == (422, 400)
    assert (page["total"], len(page["facts"])) == (3, 2)
    assert exported.count(b'"expires_at"') == 5


async def test_metrics_of_memory(shared_fake: FakeOpenAI, web: aiohttp.ClientSession) -> None:
    async with GatewayProcess(config_for(shared_fake)) as gateway:
        client = MemoryClient(web, gateway, KEY)
        await client.call("POST", "/facts", [FACT, FACT, FACT | {"object": "Bergen"}, {}])
        await client.call("POST", "/facts", FACT | {"confidence": 0})
        await client.call("POST", "/contexts", {"text": "t"})
        await client.query()
        last = await client.call("GET", "/memories")
        await gateway.settled(last.headers)
        metrics = await gateway.metrics()
        async with asyncio.timeout(10):
            while (await gateway.metrics()).total("memory_items") < 3:
                await asyncio.sleep(0.1)  # counted a second after the start, then once a minute
        items = await gateway.metrics()

    assert metrics.total("facts_insert_requests_total", status="200") == 1
    assert metrics.total("facts_insert_requests_total", status="422") == 1
    assert metrics.total("facts_insert_duration_seconds_count") == 2
    assert metrics.total("facts_query_requests_total", status="200") == 1
    assert metrics.total("facts_duplicates_total") == 1
    assert metrics.total("context_storage_total", kind="context") == 1
    assert metrics.total("gateway_requests_total", endpoint="facts", status="200") == 1
    assert metrics.total("gateway_requests_total", endpoint="memories", status="200") == 1
    assert metrics.total("memory_store_errors_total") == 0
    assert (items.total("memory_items", kind="fact"), items.total("memory_items", kind="context")) == (2, 1)
