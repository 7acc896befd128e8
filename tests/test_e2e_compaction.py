"""A growing chat, resent whole each turn, never overflows its upstream: older turns become a running brief.

The upstream counts as the gateway does, enforces its window and checks that tool calls and results stay together.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from gateway.demo import read_passages
from tests.conftest import KEY, forget
from tests.fakes.openai_server import Behaviour, FakeOpenAI, Recorded, fail, stall
from tests.gateway_process import GatewayProcess, Samples, config_for, upstream_for
from tests.small_window import ANSWER_TOKENS, BUDGET, WINDOW, count, is_summary_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
TURNS = 60
SYSTEM = {"role": "system", "content": "You are a patient reading companion. Answer briefly."}
FIRST = "Good evening, my name is Margit Oyelaran. Never spoil the ending. The code of my locker is 7T-4093."
SUMMARY = "goal: read a book together; facts: Margit Oyelaran reads, her locker has the code 7T-4093."
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]


def answer(body: Json) -> str:
    """Something to say that differs from turn to turn."""
    words = body["messages"][-1]["content"] or "nothing"
    return "I see. " + " ".join(str(words).split()[-25:])


def prepare(fake: FakeOpenAI) -> FakeOpenAI:
    forget(fake)
    fake.tokenizer, fake.answer, fake.window = count, answer, WINDOW
    fake.summary = lambda _: json.dumps({"facts": [SUMMARY]})
    return fake


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def fake(shared: FakeOpenAI) -> FakeOpenAI:
    return prepare(shared)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(shared: FakeOpenAI) -> AsyncIterator[GatewayProcess]:
    summarizer = {
        "max_retries": 0, "deadline_seconds": 1.0, "max_input_tokens": WINDOW - 1000, "breaker": {"failures": 1000},
    }  # fmt: skip
    config = config_for(shared, token_budget=BUDGET, summarizer=summarizer)
    config["upstreams"] = [
        upstream_for(shared, name="open", models=["gpt-*"], retries={"max": 0}),
        upstream_for(shared, name="strict", models=["strict-*"], roles="strict", retries={"max": 0}),
    ]
    async with GatewayProcess(config) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway: GatewayProcess, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A key of its own for each test: what one client's chats taught is nothing to another's."""
    async with openai.AsyncOpenAI(
        base_url=gateway.base_url, api_key=f"{KEY}-{request.node.name}", max_retries=0
    ) as made:
        yield made


class Chat:
    """An application that resends its whole chat each turn."""

    def __init__(self, client: Any, model: str = "gpt-4o") -> None:
        self.messages: list[Json] = [SYSTEM]
        self.levels: list[str] = []
        self.headers: list[Any] = []
        self._client = client
        self._model = model

    async def ask(self, text: str, *, is_stream: bool = False) -> None:
        self.messages.append({"role": "user", "content": text})
        await self.go_on(is_stream=is_stream)

    async def go_on(self, *, is_stream: bool = False) -> None:
        create = self._client.chat.completions.with_raw_response.create
        raw = await create(
            model=self._model, messages=self.messages, max_tokens=ANSWER_TOKENS, tools=TOOLS, stream=is_stream
        )
        if is_stream:
            chunks = [chunk async for chunk in raw.parse()]
            said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        else:
            said = raw.parse().choices[0].message.content
        self.headers.append(raw.headers)
        self.levels.append(raw.headers["x-gateway-compaction"])
        self.messages.append({"role": "assistant", "content": said})

    def call_tool(self, ident: str, result: str, calls: int = 1) -> None:
        names = [f"call_{ident}_{i}" for i in range(calls)]
        function = {"name": "look_up", "arguments": '{"word": "rabbit"}'}
        made = [{"id": name, "type": "function", "function": function} for name in names]
        self.messages.append({"role": "assistant", "content": None, "tool_calls": made})
        self.messages += [{"role": "tool", "tool_call_id": name, "content": result} for name in names]


async def read_on(chat: Chat, turns: int) -> None:
    """A chat with a fact and a rule at its start, passages of a book, and tools now and then."""
    passages: Iterator[str] = iter(read_passages() * 3)
    await chat.ask(FIRST)
    for turn in range(2, turns + 1):
        if turn % 7 == 0:
            chat.messages.append({"role": "user", "content": f"Look up what happens on page {turn}, please."})
            chat.call_tool(str(turn), f"Page {turn}: {next(passages)[:300]}", calls=1 + turn % 2)
            await chat.go_on(is_stream=turn % 2 == 0)
        else:
            await chat.ask(f"Passage {turn}: {next(passages)}", is_stream=turn % 2 == 0)


def forwarded(fake: FakeOpenAI) -> list[list[Json]]:
    """The messages that the upstream received, turn by turn."""
    return [seen.json()["messages"] for seen in fake.requests if not is_summary_request(seen)]


def brief_of(messages: list[Json]) -> str | None:
    """The text of the running brief, wherever it stands."""
    texts = [message["content"] for message in messages if isinstance(message["content"], str)]
    found = [re.search(r"(?s)<running_brief>.*</running_brief>", text) for text in texts]
    briefs = [match[0] for match in found if match]
    assert len(briefs) <= 1
    return briefs[0] if briefs else None


@dataclass(frozen=True, slots=True)
class Played:
    """A chat that has been played, and what the upstream received and the gateway counted meanwhile."""

    chat: Chat
    key: str
    requests: Sequence[Recorded]
    summaries: Sequence[Recorded]
    logs: Sequence[Json]
    before: Samples
    after: Samples


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played(gateway: GatewayProcess, shared: FakeOpenAI) -> Played:
    """Sixty turns, played once for the tests that look at them."""
    fake, key, since, before = prepare(shared), f"{KEY}-sixty", len(gateway.logs), await gateway.metrics()
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:
        chat = Chat(client)
        await read_on(chat, TURNS)
    logs = await gateway.wait_logs(TURNS, since=since, endpoint="chat_completions")
    asked = [seen for seen in fake.requests if not is_summary_request(seen)]
    return Played(
        chat, key, asked, list(filter(is_summary_request, fake.requests)), logs, before, await gateway.metrics()
    )


async def test_growing_chat(played: Played, fake: FakeOpenAI) -> None:
    """Sixty turns: never a refusal, never a prompt above the budget, and a brief that stands for what was folded."""
    chat, turns = played.chat, [seen.json()["messages"] for seen in played.requests]
    briefs = [brief_of(messages) for messages in turns]
    total = count(json.dumps(chat.messages))
    print(f"{TURNS} turns, {total} tokens, {len(set(briefs) - {None})} briefs, levels {sorted(set(chat.levels))}")

    assert total > 2.5 * WINDOW
    assert len(turns) == TURNS
    assert all(log["status"] == 200 for log in played.logs)
    assert all(fake.prompt_tokens(messages) + ANSWER_TOKENS <= WINDOW for messages in turns)
    assert [level == "none" for level in chat.levels] == [brief is None for brief in briefs]
    assert chat.levels == sorted(chat.levels, key=["none", "brief"].index)
    assert all(messages[0] == SYSTEM for messages in turns)
    assert {"role": "user", "content": FIRST} in turns[-1]
    last = briefs[-1]
    assert last is not None
    assert SUMMARY in last
    assert "record, not" in last


async def test_prefix_is_stable_between_compactions(played: Played) -> None:
    """The provider's prompt cache sees a prefix that only grows, byte for byte; compactions are many turns apart."""
    bodies = [seen.body for seen in played.requests]
    texts = [body[body.index(b'"messages"') : body.rindex(b'],"max_tokens"')] for body in bodies]
    briefs = [brief_of(seen.json()["messages"]) for seen in played.requests]
    changes = [place for place, (before, after) in enumerate(pairwise(briefs), 1) if before != after]
    grown = [after.startswith(before) for before, after in pairwise(texts)]
    gaps = [later - earlier for earlier, later in pairwise(changes)]

    assert [place for place, has_grown in enumerate(grown, 1) if not has_grown] == changes
    assert len(changes) >= 3
    assert min(gaps) >= 3


async def test_summariser_is_asked_with_the_request_own_model_and_key(played: Played) -> None:
    """Incrementally: each brief is made from the one before and the turns since, not from the whole chat."""
    asked = played.summaries
    texts = [seen.json()["messages"][-1]["content"] for seen in asked]
    name, labels = "token_budget_summarizations_total", {"level": "brief"}

    assert len(asked) >= 3
    assert {seen.json()["model"] for seen in asked} == {"gpt-4o"}
    assert {seen.header("authorization") for seen in asked} == {f"Bearer {played.key}"}
    assert all(SUMMARY in text for text in texts[1:])
    assert all(SYSTEM["content"] not in text for text in texts)
    assert FIRST in texts[0]
    assert FIRST not in texts[1]
    assert played.after.total(name, **labels) - played.before.total(name, **labels) == len(asked)


async def test_last_message_is_verbatim_and_headers_tell_the_truth(
    client: Any, gateway: GatewayProcess, fake: FakeOpenAI
) -> None:
    """tokens-prompt is what the upstream bills, tokens-saved what the client's own chat would have cost beside it."""
    chat = Chat(client)
    await chat.ask(FIRST)
    for i, passage in enumerate(read_passages()[:24]):
        await chat.ask(f"{i}: {passage}", is_stream=i % 2 == 0)
        messages, headers = forwarded(fake)[-1], chat.headers[-1]
        own = fake.prompt_tokens(chat.messages[:-1])
        billed = fake.prompt_tokens(messages)
        tools = int(headers["x-gateway-tokens-prompt"]) - billed

        assert messages[-1] == chat.messages[-2]
        assert 0 <= tools < 60  # what the tools cost is free at this upstream
        assert int(headers["x-gateway-tokens-saved"]) == own - billed
        assert int(headers["x-gateway-tokens-remaining"]) == WINDOW - int(headers["x-gateway-tokens-prompt"])


FAILURES: dict[str, Any] = {
    "refuses": lambda: fail(500),
    "unknown": lambda: fail(404),
    "says nothing": lambda: Behaviour(reply=fail(200, b'{"choices":[]}').reply),
    "talks nonsense": lambda: Behaviour(reply=fail(200, b"<html>").reply),
    "is cut off": lambda: Behaviour(end_after=1),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failing_summariser(name: str, client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """The extractive brief serves: no request fails for it, and what was stated at the start is still there."""
    for _ in range(20):
        one = FAILURES[name]()
        made = {field: getattr(one, field) for field in ("reply", "headers", "end_after", "end")}
        fake.script.append(Behaviour(**made, when=is_summary_request))
    chat = Chat(client)
    await read_on(chat, 32)
    turns = forwarded(fake)
    last = brief_of(turns[-1])

    assert set(chat.levels) == {"none", "extractive"}
    assert all(fake.prompt_tokens(messages) + ANSWER_TOKENS <= WINDOW for messages in turns)
    assert last is not None
    assert last.count("\n") > 5
    assert {"role": "user", "content": FIRST} in turns[-1]
    assert any(is_summary_request(seen) for seen in fake.requests)


async def test_slow_summariser_costs_its_deadline_once(client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """A brief that is late is not waited for; it is the ground of the next one."""
    late = stall()
    fake.script.append(Behaviour(stall_after=-1, release=late.release, when=is_summary_request))
    chat = Chat(client)
    since = len(gateway.logs)
    await read_on(chat, 26)
    first_level = next(level for level in chat.levels if level != "none")
    late.release.set()
    await read_on_from(chat, 24)
    durations = [log["duration_ms"] for log in gateway.logs[since:] if log.get("endpoint") == "chat_completions"]
    levels = [level for level in chat.levels if level != "none"]
    asked = [seen.json()["messages"][-1]["content"] for seen in fake.requests if is_summary_request(seen)]

    assert first_level == "extractive"
    assert levels[-1] == "brief"
    assert max(durations) < 2500
    assert 1 <= sum(duration > 900 for duration in durations) <= 2
    assert len(asked) >= 2


async def read_on_from(chat: Chat, turns: int) -> None:
    for i, passage in enumerate(read_passages()[30 : 30 + turns]):
        await chat.ask(f"And {i}: {passage}")


async def test_strict_roles(client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """For templates that take one system message and alternating turns, the brief joins a neighbour."""
    chat = Chat(client, "strict-1")
    await chat.ask(FIRST)
    for i, passage in enumerate(read_passages()[:30]):
        await chat.ask(f"{i}: {passage}")
    turns = forwarded(fake)

    assert brief_of(turns[-1])
    for messages in turns:
        roles = [message["role"] for message in messages]
        assert roles == ["system"] + ["user", "assistant"] * (len(roles) // 2 - 1) + ["user"]
        assert messages[-1]["content"].endswith(chat.messages[2 * turns.index(messages) + 1]["content"])


async def test_agent_loop(client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """One question and fifty rounds of tools after it: calls and results stay together, and the question stays."""
    chat = Chat(client)
    chat.messages.append({"role": "user", "content": FIRST})
    passages = read_passages()
    for i in range(50):
        chat.call_tool(str(i), passages[i % len(passages)][:400], calls=1 + i % 3)
        raw = await client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=chat.messages, max_tokens=ANSWER_TOKENS, tools=TOOLS
        )
        chat.levels.append(raw.headers["x-gateway-compaction"])
    turns = forwarded(fake)
    briefs = [brief_of(messages) for messages in turns]
    print(f"{len(set(briefs)) - 1} briefs, levels {set(chat.levels)}")

    assert chat.levels[-1] != "none"
    assert all({"role": "user", "content": FIRST} in messages for messages in turns)
    assert all(messages[-1] in chat.messages for messages in turns)


async def test_huge_tool_result_is_trimmed(client: Any, fake: FakeOpenAI) -> None:
    chat = Chat(client)
    chat.messages.append({"role": "user", "content": "Look it up."})
    chat.call_tool("x", "\n".join(f"line {i}: the rabbit said {i * 7}" for i in range(3000)))
    await chat.go_on()
    (messages,) = forwarded(fake)

    assert chat.levels == ["trimmed"]
    mark, first, *_, last = messages[-1]["content"].splitlines()
    assert re.fullmatch(r"\[shortened from \d+ tokens; recall id [0-9a-f]{8}\]", mark)
    assert (first, last) == ("line 0: the rabbit said 0", "line 2999: the rabbit said 20993")
    assert fake.prompt_tokens(messages) + ANSWER_TOKENS <= WINDOW


async def test_what_cannot_fit_is_refused_with_numbers(client: Any, fake: FakeOpenAI) -> None:
    chat = Chat(client)
    text = " ".join(read_passages())[:40_000]

    with pytest.raises(openai.BadRequestError) as caught:
        await chat.ask(text)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"
    assert str(WINDOW) in caught.value.message
    assert fake.requests == []


async def test_edited_history_never_meets_a_stale_brief(client: Any, fake: FakeOpenAI) -> None:
    """A client that takes back what it said is not reminded of it."""
    chat = Chat(client)
    await read_on(chat, 30)
    assert brief_of(forwarded(fake)[-1])
    chat.messages[1] = {"role": "user", "content": "Hello, I am somebody else, and I have no locker."}
    chat.messages[2] = {"role": "assistant", "content": "Welcome."}
    fake.summary = None
    fake.script.extend(Behaviour(reply=fail(500).reply, when=is_summary_request) for _ in range(5))
    await chat.ask("Who am I?")
    last = brief_of(forwarded(fake)[-1])

    assert last is not None
    assert "Margit" not in last
    assert "7T-4093" not in last


async def test_briefs_do_not_cross_keys(gateway: GatewayProcess, client: Any, fake: FakeOpenAI) -> None:
    """The same chat under another key is folded anew."""
    chat = Chat(client)
    await read_on(chat, 24)
    asked = len(fake.requests)
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="sk-other", max_retries=0) as other:
        stranger = Chat(other)
        stranger.messages = chat.messages[:-1]
        await stranger.go_on()

    assert stranger.levels == ["brief"]
    keys = [seen.header("authorization") for seen in fake.requests[asked:] if is_summary_request(seen)]
    assert "Bearer sk-other" in keys


async def test_a_request_may_ask_for_less_and_for_the_receipt(client: Any, fake: FakeOpenAI) -> None:
    """A lower budget folds, off refuses, shadow forwards untouched; no such header reaches the upstream."""
    chat = Chat(client)
    await read_on(chat, 6)
    sent = len(json.dumps(chat.messages)) // 4
    low = {"x-gateway-budget": str(sent // 2), "x-gateway-explain": "1"}
    create = client.chat.completions.with_raw_response.create
    asked = {"model": "gpt-4o", "messages": [*chat.messages, {"role": "user", "content": "Go on."}], "max_tokens": 50}
    folded = await create(**asked, extra_headers=low)
    with pytest.raises(openai.BadRequestError) as refused:
        await create(**asked, extra_headers={**low, "x-gateway-compaction": "off"})
    shadowed = await create(**asked, extra_headers={**low, "x-gateway-compaction": "shadow"})
    with pytest.raises(openai.BadRequestError) as unread:
        await create(**asked, extra_headers={"x-gateway-budget": "lots"})
    receipt = json.loads(folded.headers["x-gateway-receipt"])

    assert folded.headers["x-gateway-compaction"] in ("brief", "extractive")
    assert receipt["prompt_tokens"] == int(folded.headers["x-gateway-tokens-prompt"])
    assert receipt["max_total_tokens"] == sent // 2
    assert receipt["brief"]["covers"] > 0
    assert len(folded.headers["x-gateway-receipt"]) < 2048
    assert refused.value.code == "context_length_exceeded"
    assert shadowed.headers["x-gateway-compaction"] == "none"
    assert json.loads(shadowed.headers["x-gateway-receipt"])["level"] in ("brief", "extractive")
    assert unread.value.param == "x-gateway-budget"
    assert all("x-gateway" not in name.lower() for seen in fake.requests for name, _ in seen.headers)


async def test_a_brief_can_be_read_by_who_runs_the_gateway(client: Any, gateway: GatewayProcess) -> None:
    """By the id in a receipt, from this machine under its own name; under any other name it is refused."""
    chat = Chat(client)
    await read_on(chat, 6)
    low = {"x-gateway-budget": str(len(json.dumps(chat.messages)) // 8), "x-gateway-explain": "1"}
    asked = {"model": "gpt-4o", "messages": [*chat.messages, {"role": "user", "content": "Go on."}], "max_tokens": 50}
    folded = await client.chat.completions.with_raw_response.create(**asked, extra_headers=low)
    ident = json.loads(folded.headers["x-gateway-receipt"])["brief"]["id"]
    seen = {}
    async with aiohttp.ClientSession() as session:
        for name, path, headers in (
            ("found", ident, {}),
            ("unknown", "0" * 64, {}),
            ("nonsense", "../x", {}),
            ("foreign host", ident, {"Host": "rebound.example"}),
            ("wrong token", ident, {"Host": "rebound.example", "Authorization": "Bearer x"}),
        ):
            async with session.get(f"{gateway.admin_url}/api/v1/briefs/{path}", headers=headers) as response:
                seen[name] = (response.status, await response.text())

    assert [status for status, _ in seen.values()] == [200, 404, 404, 403, 403]
    shown = json.loads(seen["found"][1])
    assert shown["text"].startswith("<running_brief>")
    assert shown["segments"][0]["first"] == 1
    assert "admin token" in seen["foreign host"][1]


async def test_models_may_differ(fake: FakeOpenAI) -> None:
    """Of one gateway: a model that is never compacted, one that is only watched, and the rest."""
    messages = [SYSTEM, *({"role": "user", "content": f"{number} " + "many words " * 40} for number in range(60))]
    config = config_for(fake, token_budget=BUDGET, summarizer={"endpoint": ""})
    config["compaction"] = {"models": {"gpt-4o-mini*": {"enabled": False}, "gpt-4.1*": {"shadow": True}}}
    config["upstreams"][0]["retries"] = {"max": 0}
    told = {}
    async with (
        GatewayProcess(config) as process,
        openai.AsyncOpenAI(base_url=process.base_url, api_key=KEY, max_retries=0) as client,
    ):
        for model in ("gpt-4o-mini", "gpt-4.1", "gpt-4o"):
            fake.requests.clear()
            try:
                raw = await client.chat.completions.with_raw_response.create(
                    model=model, messages=messages, max_tokens=50
                )
                told[model] = raw.headers["x-gateway-compaction"]
            except openai.BadRequestError as error:
                told[model] = f"{error.code}, sent {[len(each.json()['messages']) for each in fake.requests]}"

    assert told == {
        "gpt-4o-mini": "context_length_exceeded, sent []",
        "gpt-4.1": f"context_length_exceeded, sent [{len(messages)}]",
        "gpt-4o": "extractive",
    }
