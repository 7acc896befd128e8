"""Another model stands in for one whose upstreams all fail: said openly, and fitted to its own budget."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI, fail, reset
from tests.gateway_process import GatewayProcess, Json, config_for, run_command, upstream_for
from tests.small_window import BUDGET, count

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT: Json = {"model": "big", "messages": [{"role": "user", "content": "one two three"}]}
SMALL = {"max_total": 1500, "running_brief": 300, "recent_turns": 200, "completion": 100, "retrieved_context": 0}


@pytest_asyncio.fixture(loop_scope="session")
async def fakes() -> AsyncIterator[list[FakeOpenAI]]:
    async with FakeOpenAI(name="first") as first, FakeOpenAI(name="second", window=1500, tokenizer=count) as second:
        yield [first, second]


def config_of(fakes: list[FakeOpenAI], **others: Any) -> Json:
    config = config_for(token_budget={**BUDGET, "models": {"small": SMALL}}, summarizer={"endpoint": ""}, **others)
    config["upstreams"] = [
        upstream_for(fake, models=[model], retries={"max": 0}, breaker={"failures": 1000})
        for fake, model in zip(fakes, ("big", "small"), strict=True)
    ]
    return {"fallbacks": {"big*": ["small"]}, **config}


def client_of(gateway: GatewayProcess, key: str = KEY) -> Any:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0)


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", [lambda: fail(503), lambda: fail(429), reset], ids=["503", "429", "reset"])
async def test_another_model_answers(fault: Any, is_stream: bool, fakes: list[FakeOpenAI]) -> None:
    """The body is the client's own but for the model's name; the answer says who gave it."""
    first, second = fakes
    first.script.append(fault())
    async with GatewayProcess(config_of(fakes)) as gateway, client_of(gateway) as client:
        raw = await client.chat.completions.with_raw_response.create(**CHAT, max_tokens=50, stream=is_stream)
        if is_stream:
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in raw.parse() if chunk.choices])
        else:
            text = raw.parse().choices[0].message.content
        own = await client.chat.completions.with_raw_response.create(**CHAT, max_tokens=50)
        log = await gateway.settled(raw.headers)

    assert text == "You said: one two three"
    assert (raw.headers["x-gateway-model"], raw.headers["x-gateway-upstream"]) == ("small", "second")
    assert "x-gateway-model" not in own.headers
    assert (log["model"], log["fallback_model"], log["attempts"]) == ("small", "small", 2)
    assert second.requests[0].json()["model"] == "small"
    assert second.requests[0].json()["messages"] == CHAT["messages"]


async def test_a_smaller_model_gets_a_smaller_prompt(fakes: list[FakeOpenAI]) -> None:
    """What fitted the one is made to fit the other, whose own budget holds."""
    first, second = fakes
    first.script.append(fail(500))
    messages = [{"role": "user", "content": f"{each} " + "many words " * 40} for each in range(30)]
    async with GatewayProcess(config_of(fakes)) as gateway, client_of(gateway) as client:
        raw = await client.chat.completions.with_raw_response.create(model="big", messages=messages, max_tokens=50)

    assert raw.headers["x-gateway-compaction"] == "extractive"
    assert len(first.requests[0].json()["messages"]) == 30
    assert len(second.requests[0].json()["messages"]) < 30
    assert second.requests[0].json()["messages"][-1] == messages[-1]


async def test_what_is_wrong_with_the_request_is_told(fakes: list[FakeOpenAI]) -> None:
    """It would be wrong with another model, too; and what a filter refused is not asked elsewhere."""
    first, second = fakes
    refused = {"error": {"message": "filtered", "type": "x", "param": None, "code": "content_filter"}}
    first.script.append(fail(400, refused))
    async with GatewayProcess(config_of(fakes)) as gateway, client_of(gateway) as client:
        with pytest.raises(openai.BadRequestError) as told:
            await client.chat.completions.create(**CHAT)

    assert told.value.code == "content_filter"
    assert second.requests == []


@pytest.mark.parametrize("way", ["it fails, too", "nothing fits it", "the client may not"])
async def test_where_nobody_can_stand_in(way: str, fakes: list[FakeOpenAI]) -> None:
    """The failure is that of an upstream, in its words."""
    first, second = fakes
    first.script.append(fail(503))
    words = 800 if way == "nothing fits it" else 1
    key = hashlib.sha256(KEY.encode()).hexdigest()
    others: Json = {"clients": [{"name": "app", "key_sha256": key, "models": ["big"]}]} if "may not" in way else {}
    if way == "it fails, too":
        second.script.append(fail(502))
    async with GatewayProcess(config_of(fakes, **others)) as gateway, client_of(gateway) as client:
        with pytest.raises(openai.InternalServerError) as told:
            await client.chat.completions.create(
                model="big", messages=[{"role": "user", "content": "many words " * words}], max_tokens=50
            )

    assert told.value.status_code == (502 if way == "it fails, too" else 503)
    assert len(second.requests) == (way == "it fails, too")


async def test_a_model_that_nobody_serves_cannot_stand_in(fakes: list[FakeOpenAI], tmp_path: Any) -> None:
    """Found when the configuration is read."""
    file = tmp_path / "gateway.yaml"
    file.write_text("upstreams: [{name: a, base_url: 'http://h/v1', models: [big]}]\nfallbacks: {big: [none-such]}")
    code, output = await run_command("check", "--config", str(file))

    assert code == 2
    assert "none-such" in output
