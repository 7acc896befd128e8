"""Whose memory is whose: clients with keys who try each other's ids, memories, cursors, sessions: nothing."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.core.access import scope_of
from gateway.core.context.journal import session_key
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, config_for, upstream_for
from tests.memory_client import MemoryClient, as_lines

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
KEYS = {name: f"gw-key-of-{name}-0123456789" for name in ("ann", "bob", "none", "only")}
MAY = {"ann": None, "bob": None, "none": ["passthrough", "overrides", "vision"], "only": ["facts"]}
CLIENTS = [
    {"name": name, "key_sha256": hashlib.sha256(key.encode()).hexdigest(), "may": MAY[name]}
    for name, key in KEYS.items()
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(shared_fake: FakeOpenAI) -> AsyncIterator[GatewayProcess]:
    """Every client may make so many requests that only a test that wants to meets the limit."""
    config = config_for(shared_fake, server={"trusted_proxies": ["127.0.0.0/8"]})
    config["upstreams"] = [upstream_for(shared_fake, api_key="sk-provider-0123456789abcdef")]
    limits = [{"client": "only", "requests_per_minute": 1}]
    async with GatewayProcess({**config, "clients": [*CLIENTS, {"name": "*"}], "rate_limits": limits}) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="session")
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_another_clients_ids_are_nobodys(gateway: GatewayProcess, web: aiohttp.ClientSession) -> None:
    """Not to be told, not to be deleted, and not to be told from ids that do not exist."""
    ann, bob = MemoryClient(web, gateway, KEYS["ann"]), MemoryClient(web, gateway, KEYS["bob"])
    fact = (await ann.insert("Margit", "lives in", "Oslo"))["fact_id"]
    context = (await ann.call("POST", "/contexts", {"text": "Margit lives in Oslo"})).json["context_id"]
    tried = [
        await bob.call(method, f"/{kind}/{each}")
        for kind in ("facts", "contexts")
        for method in ("GET", "DELETE")
        for each in (fact, context, "0" * 32)
    ]
    masked = {re.sub(rb"[0-9a-f]{32}", b"", told.body) for told in tried}
    gone = [
        (await bob.call("POST", "/contexts/delete", {"ids": [fact, context]})).json,
        (await bob.call("POST", "/contexts/clear", {})).json,
        (await bob.call("DELETE", "/memories/default")).json,
        (await bob.call("DELETE", "/memories")).json,
    ]

    assert {told.status for told in tried} == {404}
    assert len(masked) == 2  # one for facts, one for contexts
    assert gone == [{"deleted": 0}] * 4
    assert (await bob.query())["total"] == 0
    assert (await bob.call("POST", "/contexts/search", {"query": "Margit Oslo"})).json["total"] == 0
    assert (await bob.call("GET", "/memories")).json == {"memories": []}
    assert await bob.export("default") == b""
    assert (await ann.call("GET", f"/facts/{fact}")).status == 200
    assert (await ann.call("GET", f"/contexts/{context}")).status == 200


async def test_another_clients_cursor_is_none(gateway: GatewayProcess, web: aiohttp.ClientSession) -> None:
    """Though both ask the same question."""
    clients = [MemoryClient(web, gateway, KEYS[name], "cursors") for name in ("ann", "bob")]
    for client in clients:
        await client.lines("/facts", as_lines({"subject": "s", "predicate": "p", "object": f"{n}"} for n in range(5)))
    pages = [await client.query(limit=2) for client in clients]
    asked = [
        await client.call("POST", "/facts/query", {"query": {"limit": 2}, "cursor": page["next_cursor"]})
        for client, page in zip(clients, [pages[1], pages[0]], strict=True)
    ]

    assert pages[0]["next_cursor"] != pages[1]["next_cursor"]
    assert [told.status for told in asked] == [400, 400]


async def test_an_import_overwrites_nobody(gateway: GatewayProcess, web: aiohttp.ClientSession) -> None:
    """Lines that name another's id, owner or key are refused; the same facts are the importer's own."""
    ann, bob = MemoryClient(web, gateway, KEYS["ann"], "import"), MemoryClient(web, gateway, KEYS["bob"], "import")
    fact = await ann.insert("Margit", "lives in", "Oslo")
    exported = await ann.export("import")
    line = {"kind": "fact", "subject": "x", "predicate": "y", "object": "z", "observed_at": "2020-01-01T00:00:00Z"}
    evil = [line | {name: fact["fact_id"]} for name in ("id", "fact_id", "owner", "client", "scope", "key")]
    refused = await bob.lines("/memories/import/import", as_lines(evil))
    taken = await bob.lines("/memories/import/import", exported)

    assert ["error" in row for row in refused.rows] == [True] * 6
    assert taken.rows[0]["duplicate"] is False
    assert taken.rows[0]["fact_id"] != fact["fact_id"]
    assert (await bob.call("DELETE", "/memories/import")).json == {"deleted": 1}
    assert (await ann.query())["total"] == 1


async def test_no_foreign_fact_ever(gateway: GatewayProcess, web: aiohttp.ClientSession) -> None:
    """Two clients with two memories each, all at once, in an order drawn by lot: each finds its own, all of its own."""
    lot = random.Random(20260101)
    owners = [(name, memory) for name in ("ann", "bob") for memory in ("red", "blue")]
    clients = {owner: MemoryClient(web, gateway, KEYS[owner[0]], owner[1]) for owner in owners}
    told: dict[tuple[str, str], set[str]] = {owner: set() for owner in owners}
    foreign: list[Any] = []

    async def act(owner: tuple[str, str], number: int, kind: int) -> None:
        client, mark = clients[owner], "-".join(owner)
        if kind == 0:
            await client.insert("Margit", "said", f"word {number} {mark}", single_valued=False)
            told[owner].add(f"word {number} {mark}")
        elif kind == 1:
            rows = [{"subject": "Margit", "predicate": "said", "object": f"word {number}.{n} {mark}"} for n in range(5)]
            await client.lines("/facts", as_lines(rows))
            told[owner].update(row["object"] for row in rows)
        elif kind == 2:
            await client.call("POST", "/contexts", {"text": f"word {number} {mark}"})
        elif kind == 3:
            found = await client.query(text="word", limit=100)
            foreign.extend(fact for fact in found["facts"] if not fact["object"].endswith(mark))
        else:
            answer = await client.call("POST", "/contexts/search", {"query": "word Margit", "limit": 50})
            foreign.extend(each for each in answer.json["contexts"] if not each["text"].endswith(mark))

    acts = [(lot.choice(owners), number, lot.randrange(5)) for number in range(400)]
    for start in range(0, len(acts), 40):
        await asyncio.gather(*(act(*each) for each in acts[start : start + 40]))
    kept = {owner: {fact["object"] for fact in await client.all_facts()} for owner, client in clients.items()}

    assert foreign == []
    assert kept == told
    assert all(len(objects) > 20 for objects in told.values())


async def test_what_a_client_may(gateway: GatewayProcess, web: aiohttp.ClientSession) -> None:
    """Without a key, without `facts`, and over its limit it is told so in the form of these paths."""
    fact = {"subject": "a", "predicate": "b", "object": "c"}
    strange = await MemoryClient(web, gateway, "gw-nobody").call("POST", "/facts", fact)
    denied = [
        await MemoryClient(web, gateway, KEYS["none"]).call("GET", path) for path in ("/memories", "/memories/x/export")
    ]
    only = MemoryClient(web, gateway, KEYS["only"], "own")
    allowed = await only.call("POST", "/facts", fact)
    headers = {"Authorization": f"Bearer {KEYS['only']}"}
    chat = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
    async with web.post(f"{gateway.base_url}/chat/completions", json=chat, headers=headers) as answer:
        assert answer.status == 200
    limited = await only.call("GET", "/memories")

    assert (strange.status, strange.json["code"], strange.headers["www-authenticate"]) == (
        401,
        "UNAUTHORIZED",
        "Bearer",
    )
    assert [(told.status, told.json["code"]) for told in denied] == [(403, "FORBIDDEN")] * 2
    assert "'facts'" in denied[0].json["message"]
    assert allowed.status == 201
    assert (limited.status, limited.json["code"]) == (429, "RATE_LIMIT")
    assert int(limited.headers["retry-after"]) > 0


async def test_clients_that_a_proxy_names(gateway: GatewayProcess, web: aiohttp.ClientSession) -> None:
    """Have memories of their own, though none of them has a key."""
    named = []
    for name in ("zoe", "yan"):
        client = MemoryClient(web, gateway, "")
        stored = await client.call(
            "POST", "/facts", {"subject": name, "predicate": "is", "object": "here"}, **{"x-gateway-client": name}
        )
        page = await client.call("POST", "/facts/query", {"query": {}}, **{"x-gateway-client": name})
        named.append((stored.status, [fact["subject"] for fact in page.json["facts"]]))

    assert named == [(201, ["zoe"]), (201, ["yan"])]


async def test_a_session_takes_its_memories_with_it(gateway: GatewayProcess, web: aiohttp.ClientSession) -> None:
    """What was mined from it, of its own client only; what comes from elsewhere stays."""
    line = {"kind": "fact", "predicate": "y", "object": "z", "observed_at": "2020-01-01T00:00:00Z"}
    clients = {name: MemoryClient(web, gateway, KEYS[name], "mined") for name in ("ann", "bob")}
    for client in clients.values():
        rows = [
            line | {"subject": "mined", "session": session_key(scope_of("ann"), "trip").hex()},
            line | {"subject": "stated"},
        ]
        await client.lines("/memories/mined/import", as_lines(rows))
    gone = [(await clients["ann"].call("DELETE", "/sessions/trip")).status for _ in range(2)]
    left = [[fact["subject"] for fact in await client.all_facts()] for client in clients.values()]

    assert gone == [204, 404]
    assert left[0] == ["stated"]
    assert sorted(left[1]) == ["mined", "stated"]
