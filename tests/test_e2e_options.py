"""What a request may ask for beside its messages works as before when its history is folded.

Each request is too long for its budget, so that a brief is made; the upstream must receive everything but the messages
as it was sent, and the client the upstream's answer.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import openai
import pytest
import pytest_asyncio

from gateway.demo import read_passages
from tests.conftest import KEY, forget
from tests.fakes.openai_rules import error_body
from tests.fakes.openai_server import Behaviour, FakeOpenAI, fail
from tests.gateway_process import GatewayProcess, config_for, upstream_for
from tests.histories import Message, is_valid
from tests.small_window import BUDGET, WINDOW, count
from tests.strict_templates import mistral

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
NAMES = ("look_up", "remember")
TOOLS: list[Json] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in NAMES
]
CALLED_EARLY = "look_up"
"""All its calls are among the oldest messages."""


def history() -> list[Message]:
    """Some 8,000 tokens: parallel calls of one tool at the start, of another later, and a question at the end."""
    messages: list[Message] = [{"role": "system", "content": "You are a patient reading companion."}]
    for number, passage in enumerate(read_passages()[:36]):
        messages.append({"role": "user", "content": f"Passage {number}: {passage}"})
        if number % 6 == 0:
            name = CALLED_EARLY if number < 12 else "remember"
            idents = [f"call_{number}_{i}" for i in range(3)]
            function = {"name": name, "arguments": '{"page": 3}'}
            calls = [{"id": ident, "type": "function", "function": function} for ident in idents]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            messages += [{"role": "tool", "tool_call_id": ident, "content": passage[:150]} for ident in idents]
        messages.append({"role": "assistant", "content": f"I see. That was passage {number}."})
    return [*messages, {"role": "user", "content": "How is the weather in Paris?"}]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def fake(shared: FakeOpenAI) -> FakeOpenAI:
    forget(shared)
    shared.tokenizer, shared.window = count, WINDOW
    shared.summary = lambda _: json.dumps({"facts": ["They read a book together."]})
    return shared


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(shared: FakeOpenAI) -> AsyncIterator[GatewayProcess]:
    config = config_for(shared, token_budget=BUDGET, summarizer={"max_retries": 0})
    config["upstreams"] = [
        upstream_for(shared, name="open", models=["gpt-*"], retries={"max": 0}),
        upstream_for(shared, name="strict", models=["strict-*"], roles="strict", retries={"max": 0}),
    ]
    async with GatewayProcess(config) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway: GatewayProcess) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as made:
        yield made


OPTIONS: dict[str, Json] = {
    "several answers": {"n": 3},
    "logprobs": {"logprobs": True, "top_logprobs": 5},
    "a prediction": {"prediction": {"type": "content", "content": "The rabbit was  late."}},
    "no tool": {"tools": TOOLS, "tool_choice": "none"},
    "some tool": {"tools": TOOLS, "tool_choice": "required"},
    "a tool whose calls are folded": {
        "tools": TOOLS,
        "tool_choice": {"type": "function", "function": {"name": CALLED_EARLY}},
    },
    "one call at a time": {"tools": TOOLS, "parallel_tool_calls": False},
    "parallel calls": {"tools": TOOLS, "parallel_tool_calls": True},
    "a form": {"response_format": {"type": "json_object"}},
    "sampling": {"seed": 7, "stop": ["\n\n"], "temperature": 0.25, "logit_bias": {"15": -100}, "user": "m"},
    "fields that nobody knows": {"min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}},
}


def others_of(body: Json) -> Json:
    return {key: value for key, value in body.items() if key != "messages"}


def assert_folded(sent: Sequence[Message], shown: Sequence[Message], model: str) -> None:
    """Fewer messages, pairs whole, the question at the end, and a history that the upstream's template takes."""
    assert len(shown) < len(sent)
    assert "<running_brief>" in json.dumps(shown)
    assert is_valid(shown)
    assert shown[-1]["content"] == sent[-1]["content"]
    if model.startswith("strict"):
        mistral(shown)


@pytest.mark.parametrize("model", ["gpt-4o", "strict-1"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", OPTIONS)
async def test_options_reach_the_upstream(
    name: str, is_stream: bool, model: str, client: Any, fake: FakeOpenAI
) -> None:
    """As they were sent, beside folded messages; and the answer comes back whole."""
    messages = history()
    body = {"model": model, "messages": messages, "max_tokens": 50, "stream": is_stream, **OPTIONS[name]}
    raw = await client.chat.completions.with_raw_response.create(
        model=model, messages=messages, stream=is_stream, extra_body=others_of(body)
    )
    answers: dict[int, Json] = {}
    if is_stream:
        async for chunk in raw.parse():
            for choice in chunk.choices:
                answers.setdefault(choice.index, {"calls": False})["calls"] |= bool(choice.delta.tool_calls)
    else:
        answers = {each.index: {"calls": bool(each.message.tool_calls)} for each in raw.parse().choices}
    received = fake.requests[-1].json()
    is_called = "tools" in body and body.get("tool_choice") != "none"

    assert raw.headers["x-gateway-compaction"] != "none"
    assert_folded(messages, received["messages"], model)
    assert {**others_of(received), "stream_options": None} == {**others_of(body), "stream_options": None}
    assert sorted(answers) == list(range(OPTIONS[name].get("n", 1)))
    assert all(answer["calls"] == is_called for answer in answers.values())


@pytest.mark.parametrize("model", ["gpt-4o", "strict-1"])
async def test_a_begun_answer_is_gone_on_with(model: str, client: Any, fake: FakeOpenAI) -> None:
    """An assistant message at the end stays the last one, right after its question."""
    messages = [*history(), {"role": "assistant", "content": "It is"}]
    raw = await client.chat.completions.with_raw_response.create(model=model, messages=messages, max_tokens=50)
    shown = fake.requests[-1].json()["messages"]

    assert raw.headers["x-gateway-compaction"] != "none"
    assert_folded(messages, shown, model)
    assert shown[-1] == messages[-1]
    assert shown[-2]["role"] == "user"
    assert shown[-2]["content"].endswith(messages[-2]["content"])


@pytest.mark.parametrize("model", ["gpt-4o", "strict-1"])
async def test_results_of_parallel_calls_stay_with_them(model: str, client: Any, fake: FakeOpenAI) -> None:
    """Three calls at once, just answered: all are forwarded, in order, as the newest turn."""
    idents = [f"newest_{i}" for i in range(3)]
    calls = [
        {"id": ident, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for ident, name in zip(idents, [*NAMES, CALLED_EARLY], strict=True)
    ]
    newest = [
        {"role": "assistant", "content": None, "tool_calls": calls},
        *({"role": "tool", "tool_call_id": ident, "content": "rain"} for ident in reversed(idents)),
    ]
    messages = [*history(), *newest]
    raw = await client.chat.completions.with_raw_response.create(
        model=model, messages=messages, max_tokens=50, tools=TOOLS
    )
    shown = fake.requests[-1].json()["messages"]

    assert raw.headers["x-gateway-compaction"] != "none"
    assert_folded(messages, shown, model)
    assert shown[-4:] == newest


async def test_an_upstream_that_refuses_an_option_says_so(client: Any, fake: FakeOpenAI) -> None:
    """Its own words reach the client, though the history was folded."""
    refusal = fail(400, error_body("no logprobs here", "invalid_request_error", "logprobs"))
    fake.script.append(Behaviour(reply=refusal.reply, when=lambda seen: b'"logprobs"' in seen.body))

    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="gpt-4o", messages=history(), max_tokens=50, logprobs=True)
    assert caught.value.param == "logprobs"
    assert "no logprobs here" in caught.value.message
