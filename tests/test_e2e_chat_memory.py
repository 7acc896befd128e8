"""Chats that name a memory: what they fold is found in other chats, by the same client under the same name only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, config_for
from tests.memory_client import MemoryClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
BUDGET = {"max_total": 3000, "running_brief": 400, "recent_turns": 300, "retrieved_context": 900, "completion": 200}
SECRET = "sk-proj-4f9Qx7LmZ2vT8kWc1Yb6Rd3H"
CODE = "The locker of Margit Oyelaran in the Bergen depot has the code 7T-4093."
QUESTION = "What was the code of Margit's locker in Bergen?"


def history() -> list[Json]:
    """A conversation that is too long, with something worth knowing near its beginning."""
    messages: list[Json] = [{"role": "system", "content": "You help."}]
    for turn in range(60):
        said = f"On day {turn} we counted {turn * 17} crates at gate {turn % 7}, and the weather was fair."
        messages += [
            {"role": "user", "content": said},
            {"role": "assistant", "content": f"Noted for day {turn}: {turn * 17} crates. " + "All is in order. " * 6},
        ]
    messages[5]["content"] += f"\n{CODE}\nDelivery address: 12 Harbour Street\nThe key is {SECRET}."
    return [*messages, {"role": "user", "content": "Thank you, what is next?"}]


class Chat:
    """One client's chats."""

    def __init__(self, web: aiohttp.ClientSession, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
        self._web = web
        self._gateway = gateway
        self._fake = fake

    async def ask(
        self, messages: Sequence[Json] | str, memory: str | None = None, key: str = KEY, **headers: str
    ) -> tuple[list[Json], Json]:
        """What the upstream received, and the receipt."""
        told = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        sent = {"Authorization": f"Bearer {key}", "x-gateway-explain": "1", **headers}
        sent |= {"x-gateway-memory": memory} if memory else {}
        body = {"model": "gpt-4o", "messages": told, "max_tokens": 50}
        async with self._web.post(f"{self._gateway.base_url}/chat/completions", json=body, headers=sent) as answer:
            assert answer.status == 200, await answer.text()
            receipt = json.loads(answer.headers["x-gateway-receipt"])
        return self._fake.requests[-1].json()["messages"], receipt


async def told_of(memories: MemoryClient, **query: Any) -> list[Json]:
    """The facts of a query, once there are any: mining goes on behind the request."""
    for _ in range(100):
        if facts := (await memories.query(**query))["facts"]:
            return list(facts)
        await asyncio.sleep(0.05)
    raise AssertionError(f"no fact for {query}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(fake: FakeOpenAI) -> AsyncIterator[GatewayProcess]:
    config = config_for(fake, token_budget=BUDGET, summarizer={"endpoint": ""})
    async with GatewayProcess(config) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_what_a_chat_folds_is_found_by_another(
    web: aiohttp.ClientSession, gateway: GatewayProcess, fake: FakeOpenAI
) -> None:
    """Word for word, marked as reference, with its id in the receipt; and by nobody else."""
    chat = Chat(web, gateway, fake)
    memories = MemoryClient(web, gateway, KEY, "depot")
    _, folded = await chat.ask(history(), "depot")
    facts = await told_of(memories, text="Margit Oyelaran locker")
    prompt, receipt = await chat.ask(QUESTION, "depot")
    others = [
        (await chat.ask(QUESTION, memory, key))[0]
        for memory, key in (("other", KEY), (None, KEY), ("depot", f"{KEY}-other"))
    ]
    (address,) = await told_of(memories, subject="delivery address")
    samples = await gateway.metrics()

    assert folded["brief"]["covers"] > 0
    said = next(fact for fact in facts if fact["predicate"] == "said")
    assert said["subject"] == "user"
    assert CODE in said["object"]
    assert SECRET not in json.dumps(facts)
    assert said["origin"]["turn"]
    assert len(prompt) == 2
    assert prompt[0]["content"].startswith("<recalled>\nReference for the latest user message")
    assert CODE in prompt[0]["content"]
    assert prompt[1] == {"role": "user", "content": QUESTION}
    assert said["id"] in receipt["recalled"]["memories"]["matching_words"]
    assert "locker" not in json.dumps(receipt)
    assert others == [[{"role": "user", "content": QUESTION}]] * 3
    assert (address["object"], address["predicate"]) == ("12 Harbour Street", "is")
    assert samples.total("memory_retrievals_total", result="found") >= 1
    assert samples.total("memory_mined_total") > 60


async def test_what_an_application_stores_is_found_in_its_chats(
    web: aiohttp.ClientSession, gateway: GatewayProcess, fake: FakeOpenAI
) -> None:
    """Facts and texts alike, through the tool loop that follows unchanged, and no longer once they are deleted."""
    chat, memories = Chat(web, gateway, fake), MemoryClient(web, gateway, KEY, "garage")
    await memories.insert("bay 12", "is reserved for", "the blue tram of Anneke Dijkstra")
    await memories.call("POST", "/contexts", {"text": "Anneke Dijkstra prefers to be called before nine."})
    question = {"role": "user", "content": "Which bay does Anneke Dijkstra have, and when may I call?"}
    first, _ = await chat.ask([question], "garage")
    await memories.insert("bay 14", "is reserved for", "the red tram of Anneke Dijkstra")
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    loop = [
        question,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "nothing"},
    ]
    second, _ = await chat.ask(loop, "garage")
    asked_again, _ = await chat.ask([question, {"role": "assistant", "content": "Bay 12."}, question], "garage")
    await memories.call("DELETE", "/memories/garage")
    after, _ = await chat.ask([question, {"role": "assistant", "content": "Bay 12, I said."}, question], "garage")

    assert "bay 12 is reserved for the blue tram" in first[0]["content"]
    assert "prefers to be called before nine" in first[0]["content"]
    assert second[:2] == first
    assert "bay 14" in asked_again[-2]["content"]
    assert len(after) == 3


async def test_a_short_question_is_about_what_was_said_before_it(
    web: aiohttp.ClientSession, gateway: GatewayProcess, fake: FakeOpenAI
) -> None:
    """What it shares no word with is found by the message that it answers."""
    chat, memories = Chat(web, gateway, fake), MemoryClient(web, gateway, KEY, "short")
    await memories.call("POST", "/contexts", {"text": "Anneke Dijkstra is at her desk before nine."})
    asked = [
        {"role": "user", "content": "Please plan my morning with all my colleagues at the depot in it."},
        {"role": "assistant", "content": "Shall I call Anneke Dijkstra as well?"},
        {"role": "user", "content": "Yes, when?"},
    ]
    prompt, _ = await chat.ask(asked, "short")
    alone, _ = await chat.ask("Yes, when?", "short")

    assert "at her desk before nine" in prompt[-2]["content"]
    assert len(alone) == 1


async def test_a_session_that_is_forgotten_takes_its_facts_along(
    web: aiohttp.ClientSession, gateway: GatewayProcess, fake: FakeOpenAI
) -> None:
    """Whatever memory they went to."""
    chat, memories = Chat(web, gateway, fake), MemoryClient(web, gateway, KEY, "sessions")
    await chat.ask(history(), "sessions", **{"x-gateway-session": "s1"})
    await told_of(memories, text="Margit Oyelaran locker")
    await gateway.wait_logs(1)
    forgotten = await memories.call("DELETE", "/sessions/s1")
    left = await memories.query(text="Margit Oyelaran locker")

    assert forgotten.status == 204
    assert left["total"] == 0


async def test_facts_that_are_stated_along_with_a_brief(web: aiohttp.ClientSession) -> None:
    """Those that the folded messages support are stored; an invention is not."""
    stated = [
        {"subject": "Margit Oyelaran", "predicate": "has the locker code", "object": "7T-4093"},
        {"subject": "Margit Oyelaran", "predicate": "has the locker code", "object": "9X-0001"},
        {"subject": "the depot", "predicate": "is located in", "object": "Bergen"},
        {"subject": "Margit Oyelaran", "predicate": "plays", "object": "the saxophone every evening"},
    ]
    brief = {"goal": ["Count crates."], "statements": stated}
    async with FakeOpenAI() as server:
        server.summary = lambda _: json.dumps(brief)
        config = config_for(server, token_budget=BUDGET, summarizer={"endpoint": "upstream", "deadline_seconds": 5})
        async with GatewayProcess(config) as started:
            chat, memories = Chat(web, started, server), MemoryClient(web, started, KEY, "depot")
            await chat.ask(history(), "depot")
            await told_of(memories, predicate="has the locker code")
            codes = await memories.query(predicate="has the locker code")
            place = await memories.query(predicate="is located in")
            music = await memories.query(predicate="plays")
            await chat.ask([*history()[:-1], {"role": "user", "content": "And now?"}])
            asked = [request.json() for request in server.requests if b"running brief of a conv" in request.body]

    assert [fact["object"] for fact in codes["facts"]] == ["7T-4093"]
    assert [fact["object"] for fact in place["facts"]] == ["Bergen"]
    assert music["total"] == 0
    assert "statements" in asked[0]["response_format"]["json_schema"]["schema"]["properties"]
    assert "statements" in asked[0]["messages"][0]["content"]
