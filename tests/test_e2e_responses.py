"""A growing Responses input, resent whole each turn with the real client library, never overflows its upstream.

The upstream counts as the gateway does, enforces its window, and checks that calls and outputs, and reasoning and what
came of it, stay together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from gateway.demo import read_passages
from tests.conftest import KEY, forget
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, config_for, upstream_for
from tests.small_window import ANSWER_TOKENS, BUDGET, WINDOW, count

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
INSTRUCTIONS = "You are a patient reading companion. Answer briefly."
FIRST = "Good evening, my name is Margit Oyelaran. Never spoil the ending. The code of my locker is 7T-4093."
TOOLS: list[Any] = [
    {"type": "function", "name": "look_up", "description": "Find a word.", "parameters": {}, "strict": False}
]


def answer(body: Json) -> str:
    """Something to say that differs from turn to turn."""
    last = body["input"] if isinstance(body["input"], str) else body["input"][-1]
    text = last if isinstance(last, str) else str(last.get("content") or last.get("output"))
    return "I see. " + " ".join(text.split()[-25:])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def fake(shared: FakeOpenAI) -> FakeOpenAI:
    forget(shared)
    shared.tokenizer, shared.answer, shared.window = count, answer, WINDOW
    return shared


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(shared: FakeOpenAI) -> AsyncIterator[GatewayProcess]:
    config = config_for(shared, token_budget=BUDGET)
    config["upstreams"] = [upstream_for(shared, name="open", models=["gpt-*"], retries={"max": 0})]
    async with GatewayProcess(config) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway: GatewayProcess, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A key of its own for each test: what one client's conversations taught is nothing to another's."""
    async with openai.AsyncOpenAI(
        base_url=gateway.base_url, api_key=f"{KEY}-{request.node.name}", max_retries=0
    ) as made:
        yield made


class Talk:
    """An application that resends its whole input each turn, with what it was answered."""

    def __init__(self, client: Any, model: str) -> None:
        self.items: list[Any] = []
        self.levels: list[str] = []
        self.tokens: list[int] = []
        self._client = client
        self._model = model

    async def ask(self, text: str, *, is_stream: bool = False) -> None:
        self.items.append({"role": "user", "content": text})
        await self.go_on(is_stream=is_stream)

    async def go_on(self, *, is_stream: bool = False) -> None:
        raw = await self._client.responses.with_raw_response.create(
            model=self._model,
            instructions=INSTRUCTIONS,
            input=self.items,
            tools=TOOLS,
            store=False,
            max_output_tokens=ANSWER_TOKENS,
            stream=is_stream,
        )
        if is_stream:
            events = [event async for event in raw.parse()]
            response = events[-1].response
        else:
            response = raw.parse()
        self.levels.append(raw.headers["x-gateway-compaction"])
        self.tokens.append(int(raw.headers["x-gateway-tokens-prompt"]))
        self.items += response.output

    def call_tool(self, ident: str, output: str, calls: int) -> None:
        """As a reasoning model would have: a thought, the calls that came of it, and their outputs."""
        names = [f"call_{ident}_{number}" for number in range(calls)]
        self.items.append(
            {"id": f"rs_{ident}", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA" + "x" * 1200}
        )
        for name in names:
            call = {"type": "function_call", "call_id": name, "name": "look_up", "arguments": '{"word": "rabbit"}'}
            self.items.append({**call, "id": f"fc_{name}", "status": "completed"})
        self.items += [{"type": "function_call_output", "call_id": name, "output": output} for name in names]


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5"])
async def test_a_long_input_never_overflows(client: Any, fake: FakeOpenAI, model: str) -> None:
    """Forty turns with tool loops and streams: every one is served, and the first user message stays."""
    talk = Talk(client, model)
    passages = iter(read_passages() * 3)
    await talk.ask(FIRST)
    for turn in range(2, 41):
        text = next(passages)[:700]
        if turn % 5 == 0:
            talk.items.append({"role": "user", "content": f"Look up what happens on page {turn}, please."})
            talk.call_tool(str(turn), f"Page {turn}: {text[:300]}", calls=1 + turn % 2)
            await talk.go_on(is_stream=turn % 2 == 0)
        else:
            await talk.ask(f"Page {turn}. {text}", is_stream=turn % 3 == 0)
    bodies = [seen.json() for seen in fake.requests if seen.raw_path == "/v1/responses"]

    assert len(bodies) == 40
    assert talk.levels[0] == "none"
    assert set(talk.levels) >= {"extractive"}
    assert max(talk.tokens) <= WINDOW - ANSWER_TOKENS
    assert all(body["instructions"] == INSTRUCTIONS and body["tools"] == TOOLS for body in bodies)
    assert all(body["input"][0] == {"role": "user", "content": FIRST} for body in bodies)
    assert sum("<running_brief>" in str(body["input"][1]) for body in bodies[1:]) > 20
    assert len(bodies[-1]["input"]) < len(talk.items) // 2


async def test_an_agents_loop_goes_on_within_its_window(client: Any, fake: FakeOpenAI) -> None:
    """One request, thirty steps of tools: long outputs are shortened or folded, never parted from their calls."""
    talk = Talk(client, "gpt-5")
    talk.items.append({"role": "user", "content": FIRST})
    passages = iter(read_passages() * 3)
    for step in range(30):
        talk.call_tool(str(step), f"Step {step}: " + next(passages)[:900], calls=1 + step % 2)
        raw = await client.responses.with_raw_response.create(
            model="gpt-5", instructions=INSTRUCTIONS, input=talk.items, tools=TOOLS, max_output_tokens=ANSWER_TOKENS
        )
        assert int(raw.headers["x-gateway-tokens-prompt"]) <= WINDOW - ANSWER_TOKENS
    last = fake.requests[-1].json()["input"]

    assert last[0] == {"role": "user", "content": FIRST}
    assert last[-1]["call_id"] == "call_29_1"
    assert raw.headers["x-gateway-compaction"] != "none"


@pytest.mark.parametrize("extra", [{}, {"previous_response_id": "resp_1"}], ids=["a text", "server-side state"])
async def test_what_is_never_rewritten_is_refused_above_the_budget(
    client: Any, fake: FakeOpenAI, extra: dict[str, Any]
) -> None:
    """The client library raises what it raises for any input that is too long."""
    given: Any = "word " * 5000 if not extra else [{"role": "user", "content": "word " * 600}] * 8
    with pytest.raises(openai.BadRequestError) as raised:
        await client.responses.create(model="gpt-4o", input=given, **extra)

    assert raised.value.code == "context_length_exceeded"
    assert not fake.requests


async def test_a_short_text_is_forwarded_as_it_is(client: Any, fake: FakeOpenAI) -> None:
    """Plain inputs stay plain."""
    response = await client.responses.create(model="gpt-4o", input="one two three")

    assert response.output_text.endswith("one two three")
    assert fake.requests[-1].json()["input"] == "one two three"
