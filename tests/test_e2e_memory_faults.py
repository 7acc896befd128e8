"""Chats that name a memory while its PostgreSQL is killed, and with embeddings that are near, late, dear or down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import Behaviour, FakeOpenAI, Recorded
from tests.gateway_process import GatewayProcess, config_for, upstream_for
from tests.memory_client import MemoryClient
from tests.postgres_server import PostgresServer
from tests.test_e2e_chat_memory import BUDGET, Chat, history

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
NOTE = "The cellist sleeps until ten."
QUESTION = "When does that musician get up?"
EMBEDDINGS: Json = {"base_url": "upstream", "model": "text-embedding-3-small", "deadline_seconds": 5}


@pytest_asyncio.fixture(loop_scope="session")
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def until(condition: Any, timeout_s: float = 20) -> None:
    """Waits until something that is asked for has come."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_no_request_fails_while_its_store_is_killed(web: aiohttp.ClientSession) -> None:
    """Neither chats, which go on without memory, nor calls, which wait; what was acknowledged is there afterwards."""
    with PostgresServer() as database:
        async with FakeOpenAI() as fake:
            config = config_for(
                fake,
                token_budget=BUDGET,
                summarizer={"endpoint": ""},
                facts={"url": database.dsn, "wait_seconds": 60, "retrieve_seconds": 2},
            )
            async with GatewayProcess(config) as gateway:
                await _kill_twice(web, database, fake, gateway)


async def _kill_twice(
    web: aiohttp.ClientSession, database: PostgresServer, fake: FakeOpenAI, gateway: GatewayProcess
) -> None:
    chat, memories = Chat(web, gateway, fake), MemoryClient(web, gateway, KEY, "depot")
    await memories.insert("locker 7", "has the code", "7T-4093")
    acknowledged: list[str] = []
    answers = {"chats": 0, "recalled": 0, "queries": 0}
    slowest_s = 0.0
    is_over = asyncio.Event()

    async def talk(caller: int) -> None:
        nonlocal slowest_s
        while not is_over.is_set():
            started_s = time.perf_counter()
            question = f"Which code has locker 7, asks {caller} for the {answers['chats']}. time?"
            headers = {"Authorization": f"Bearer {KEY}", "x-gateway-memory": "depot"}
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": question}], "max_tokens": 20}
            async with web.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
            slowest_s = max(slowest_s, time.perf_counter() - started_s)
            answers["chats"] += 1

    async def store(caller: int) -> None:
        while not is_over.is_set():
            stored = await memories.insert(f"crate {caller}", "stands at", f"gate {len(acknowledged)} of {caller}")
            acknowledged.append(stored["fact_id"])

    async def query() -> None:
        while not is_over.is_set():
            assert (await memories.query(text="locker code"))["total"] >= 1
            answers["queries"] += 1

    callers = [asyncio.create_task(work) for work in (talk(1), talk(2), store(1), store(2), query())]

    async def more_stored(count: int) -> None:
        async def is_stored() -> bool:
            return len(acknowledged) >= count or any(caller.done() for caller in callers)

        await until(is_stored, 60)

    for _ in range(2):
        await more_stored(len(acknowledged) + 20)
        database.kill()
        chats = answers["chats"]

        async def has_gone_on(chats: int = chats) -> bool:
            return answers["chats"] >= chats + 20

        await until(has_gone_on)
        await asyncio.to_thread(database.start)
    await more_stored(len(acknowledged) + 20)
    found = fake.requests[-1].json()["messages"]
    is_over.set()
    await asyncio.gather(*callers)
    kept = {fact["id"] for fact in await memories.all_facts()}

    async def is_back() -> bool:
        prompt, _ = await chat.ask("Which code has locker 7?", "depot")
        return "7T-4093" in str(prompt)

    await until(is_back)
    samples = await gateway.metrics()
    down, all_ = samples.total("memory_retrievals_total", result="down"), samples.total("memory_retrievals_total")
    print(f"{answers['chats']} chats ({down:.0f} of {all_:.0f} look-ups down), {len(acknowledged)} facts stored,")
    print(f"{answers['queries']} queries; none failed; the slowest chat took {slowest_s:.2f} s")

    assert found
    assert set(acknowledged) <= kept
    assert len(acknowledged) >= 60
    assert down > 0
    assert samples.total("memory_retrievals_total", result="found") > 0
    assert samples.total("memory_dropped_total") == 0


# Embeddings


def by_sense(text: str) -> Sequence[float]:
    """What speaks of the musician is near to what asks for one, whatever the words."""
    is_near = "cellist" in text or "musician" in text
    return [1.0, 0.1, 0.0] if is_near else [0.0, 0.3, 1.0 + len(text) % 7 / 10]


def is_embedding(seen: Recorded) -> bool:
    return seen.raw_path.startswith("/v1/embeddings")


def embedding_config(fake: FakeOpenAI, **embeddings: Any) -> Json:
    config = config_for(
        fake,
        token_budget=BUDGET,
        summarizer={"endpoint": ""},
        facts={"embeddings": EMBEDDINGS | embeddings, "retrieve_seconds": 5},
    )
    config["upstreams"] = [upstream_for(fake, api_key="sk-provider-0123456789abcdef")]
    return {**config, "server": {**config["server"], "allow_anonymous": True}}


async def notes_with_vectors(memories: MemoryClient, gateway: GatewayProcess) -> None:
    """A note among others, each with its vector."""
    others = [f"Bay {number} holds {number * 7} crates." for number in range(12)]
    for text in [NOTE, *others]:
        assert (await memories.call("POST", "/contexts", {"text": text})).status == 201

    async def are_embedded() -> bool:
        return (await gateway.metrics()).total("embeddings_total", what="texts") >= 13

    await until(are_embedded)


async def test_what_shares_no_word_is_found_by_its_vector(web: aiohttp.ClientSession) -> None:
    """In a chat, under its label; and what embeddings took is on the metrics."""
    pytest.importorskip("numpy", "2", reason="numpy is not installed")
    async with FakeOpenAI() as fake:
        fake.vector = by_sense
        async with GatewayProcess(embedding_config(fake)) as gateway:
            chat, memories = Chat(web, gateway, fake), MemoryClient(web, gateway, KEY, "band")
            await notes_with_vectors(memories, gateway)
            prompt, receipt = await chat.ask(QUESTION, "band")
            other, _ = await chat.ask(QUESTION, "another")
            samples = await gateway.metrics()
            keys = {seen.header("authorization") for seen in fake.requests if is_embedding(seen)}

    assert NOTE in prompt[0]["content"]
    assert "m1 memory: " in prompt[0]["content"]
    assert receipt["recalled"]["memories"]["count"] >= 1
    assert len(other) == 1
    assert samples.total("embeddings_total", what="failures") == 0
    assert samples.total("embeddings_total", what="calls") >= 2
    assert samples.total("embeddings_total", what="prompt_tokens") >= len(NOTE.split())
    assert samples.total("embeddings_cache_bytes") > 0
    assert keys == {"Bearer sk-provider-0123456789abcdef"}


async def test_an_endpoint_that_hangs_costs_its_deadline(web: aiohttp.ClientSession) -> None:
    """Once for a request, which succeeds and finds by words what it can."""
    pytest.importorskip("numpy", "2", reason="numpy is not installed")
    async with FakeOpenAI() as fake:
        release = asyncio.Event()
        fake.script += [Behaviour(stall_after=-1, release=release, when=is_embedding) for _ in range(50)]
        async with GatewayProcess(embedding_config(fake, deadline_seconds=0.3)) as gateway:
            chat, memories = Chat(web, gateway, fake), MemoryClient(web, gateway, KEY, "band")
            await memories.call("POST", "/contexts", {"text": NOTE})
            started_s = time.perf_counter()
            prompt, _ = await chat.ask("When does the cellist get up?", "band")
            took_s = time.perf_counter() - started_s
            long_prompt, receipt = await chat.ask(history(), "band")
            release.set()
    print(f"a chat before an endpoint that hangs took {took_s:.2f} s, of which .3 s may be waited")

    assert NOTE in prompt[0]["content"]
    assert long_prompt
    assert receipt["brief"]["covers"] > 0


async def test_embeddings_are_charged_to_the_client(web: aiohttp.ClientSession) -> None:
    """What a question's vector took is taken of the client's tokens; what fills the store is on nobody's account."""
    pytest.importorskip("numpy", "2", reason="numpy is not installed")
    words = " ".join(["musician"] * 300)

    async def used(fake: FakeOpenAI, embeddings: Json | None) -> int:
        config = embedding_config(fake)
        config["facts"]["embeddings"] = embeddings
        config["rate_limits"] = [{"tokens_per_minute": 20_000}]
        async with GatewayProcess(config) as gateway:
            memories = MemoryClient(web, gateway, KEY, "band")
            await memories.call("POST", "/contexts", {"text": NOTE})
            chat = {"model": "gpt-4o", "max_tokens": 5}
            headers = {"Authorization": f"Bearer {KEY}", "x-gateway-memory": "band"}
            body = {**chat, "messages": [{"role": "user", "content": words}]}
            async with web.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                return 20_000 - int(answer.headers["x-ratelimit-remaining-tokens"])

    async with FakeOpenAI() as fake:
        fake.vector = by_sense
        without, with_embeddings = await used(fake, None), await used(fake, EMBEDDINGS)
    print(f"a request took {with_embeddings} tokens with embeddings, {without} without")

    assert 200 <= with_embeddings - without <= 300
