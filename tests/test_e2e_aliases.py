"""Upstreams that know models by other names; and what must not happen when one model stands in for another."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI, fail
from tests.gateway_process import GatewayProcess, Json, config_for, upstream_for

pytestmark = pytest.mark.asyncio(loop_scope="session")
MESSAGES: list[Json] = [{"role": "user", "content": "one two three"}]
FIRST_KEY = "sk-first-0123456789abcdefghijklmnop"
TINY: Json = dict.fromkeys(("system_tokens", "running_brief", "recent_turns", "retrieved_context"), 10)
TINY |= {"max_total": 64, "completion": 16}


@pytest_asyncio.fixture(loop_scope="session")
async def fakes() -> AsyncIterator[list[FakeOpenAI]]:
    async with FakeOpenAI(name="first") as first, FakeOpenAI(name="second") as second:
        yield [first, second]


def gateway_of(fakes: list[FakeOpenAI], **sections: Any) -> GatewayProcess:
    config = config_for(summarizer={"endpoint": ""}, token_budget={"models": {"tiny": TINY}})
    config["upstreams"] = [
        upstream_for(fakes[0], models=["big", "text-*"], api_key=FIRST_KEY, retries={"max": 0}),
        upstream_for(fakes[1], models=["tiny", "mini"], api_key="sk-second-0123456789abcdefghijklm"),
    ]
    return GatewayProcess({**config, **sections})


def client_of(gateway: GatewayProcess) -> Any:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0)


async def test_a_vector_is_never_another_models(fakes: list[FakeOpenAI]) -> None:
    """They cannot be compared, so the failure is passed on."""
    first, second = fakes
    first.script.append(fail(500))
    async with gateway_of(fakes, fallbacks={"text-*": ["mini"]}) as gateway, client_of(gateway) as client:
        with pytest.raises(openai.InternalServerError):
            await client.embeddings.create(model="text-embedding-3-small", input="one")

    assert second.requests == []


async def test_what_cannot_stand_in_leaves_no_trace(fakes: list[FakeOpenAI]) -> None:
    """The failure that is passed on is the first upstream's: its name, its model, and its key stays hidden."""
    first, _ = fakes
    first.script.append(fail(500, {"error": {"message": f"The key {FIRST_KEY} broke us.", "type": "server_error"}}))
    long = [{"role": "user", "content": "alpha beta gamma " * 100}]
    async with gateway_of(fakes, fallbacks={"big": ["tiny"]}) as gateway, client_of(gateway) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="big", messages=long)
        log = await gateway.wait_log(logger="gateway.access", status=500)

    assert FIRST_KEY not in caught.value.response.text
    assert "broke us" in caught.value.response.text
    assert (log["model"], log["upstream"]) == ("big", "first")
    assert "fallback_model" not in log


async def test_a_request_that_names_no_model_has_no_fallback(fakes: list[FakeOpenAI]) -> None:
    """A stored prompt may name it; what fails is passed on."""
    first, _ = fakes
    first.script.append(fail(500))
    upstreams = [upstream_for(first, retries={"max": 0})]
    async with (
        gateway_of(fakes, upstreams=upstreams, fallbacks={"*": ["mini"]}) as gateway,
        client_of(gateway) as client,
    ):
        with pytest.raises(openai.InternalServerError) as caught:
            await client.responses.create(prompt={"id": "pmpt_1"})

    assert caught.value.code != "internal_error"


ALIASED: Json = {"models": ["other"], "model_aliases": {"mini": "prod-mini", "gpt-4o": "prod-4o"}}


async def test_an_alias_is_what_the_upstream_sees(fakes: list[FakeOpenAI]) -> None:
    """Of a model that stands in, by itself, and in a stream that is asked for its usage."""
    first, second = fakes
    first.script.append(fail(500))
    upstreams = [upstream_for(first, models=["big"], retries={"max": 0}), upstream_for(second, **ALIASED)]
    async with (
        gateway_of(fakes, upstreams=upstreams, fallbacks={"big": ["mini"]}) as gateway,
        client_of(gateway) as client,
    ):
        fallen = await client.chat.completions.with_raw_response.create(model="big", messages=MESSAGES)
        await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        stream = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
        _ = [chunk async for chunk in stream]

    assert [each.json()["model"] for each in second.requests] == ["prod-mini", "prod-4o", "prod-4o"]
    assert second.requests[2].json()["stream_options"] == {"include_usage": True}
    assert fallen.headers["x-gateway-model"] == "mini"


async def test_who_writes_the_brief_is_asked_by_its_alias_too(fakes: list[FakeOpenAI]) -> None:
    """An upstream that knows the model by another name only would refuse to write briefs otherwise."""
    second = fakes[1]
    second.summary = lambda _: json.dumps({"facts": ["Some turns were about Greek letters."]})
    chat: list[Json] = [
        {"role": ("user", "assistant")[number % 2], "content": f"Turn {number}: " + "alpha beta gamma delta " * 30}
        for number in range(20)
    ]
    budget = {"max_total": 900, "system_tokens": 50, "running_brief": 200, "recent_turns": 150, "completion": 100}
    async with (
        gateway_of(
            fakes,
            upstreams=[upstream_for(second, **ALIASED)],
            summarizer={"endpoint": "upstream", "deadline_seconds": 20},
            token_budget={**budget, "retrieved_context": 200},
        ) as gateway,
        client_of(gateway) as client,
    ):
        messages = [*chat, {"role": "user", "content": "And now?"}]
        answer = await client.chat.completions.with_raw_response.create(model="mini", messages=messages)

    assert answer.headers["x-gateway-compaction"] == "brief"
    assert len(second.requests) >= 2
    assert {each.json()["model"] for each in second.requests} == {"prod-mini"}
