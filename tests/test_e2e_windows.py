"""An upstream whose window is smaller than the budget says so once; from then on prompts fit it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_rules import error_body
from tests.fakes.openai_server import FakeOpenAI, fail
from tests.gateway_process import GatewayProcess, Json, config_for
from tests.small_window import BUDGET, count

pytestmark = pytest.mark.asyncio(loop_scope="session")
WINDOW = 1500


@pytest_asyncio.fixture(loop_scope="session")
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI(window=WINDOW, tokenizer=count) as server:
        yield server


def config_of(fake: FakeOpenAI) -> Json:
    config = config_for(fake, token_budget=BUDGET, summarizer={"endpoint": ""})
    config["upstreams"][0]["retries"] = {"max": 0}
    return config


def turns(number: int, words: int = 40) -> list[Json]:
    return [{"role": "user", "content": f"{each} " + "many words " * words} for each in range(number)]


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
async def test_the_window_is_learned(is_stream: bool, fake: FakeOpenAI) -> None:
    """Refused, assembled again and answered in one; the next request fits at once."""
    async with (
        GatewayProcess(config_of(fake)) as gateway,
        openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client,
    ):
        levels = []
        for number in (30, 31):
            raw = await client.chat.completions.with_raw_response.create(
                model="gpt-4o", messages=turns(number), max_tokens=50, stream=is_stream
            )
            levels.append(raw.headers["x-gateway-compaction"])
            if is_stream:
                async for _ in raw.parse():
                    pass
        samples = await gateway.metrics()
    first, again, second = fake.requests

    assert levels == ["extractive", "extractive"]
    assert len(first.json()["messages"]) == 30
    assert len(again.body) < len(first.body)
    assert again.json()["messages"][-1] == turns(30)[-1]
    assert second.json()["messages"][-1] == turns(31)[-1]
    assert samples.total("upstream_window_tokens", upstream="fake", model="gpt-4o") == WINDOW


async def test_what_cannot_fit_has_the_upstreams_own_answer(fake: FakeOpenAI) -> None:
    """Asked once, and told in its words."""
    async with (
        GatewayProcess(config_of(fake)) as gateway,
        openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client,
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="gpt-4o", messages=turns(1, 800), max_tokens=50)

    error: Any = refused.value
    assert error.code == "context_length_exceeded"
    assert "maximum context length is 1500" in error.message
    assert len(fake.requests) == 1


async def test_what_an_error_quotes_teaches_nothing(fake: FakeOpenAI) -> None:
    """Else one client's text could make a model's window small for all of them."""
    quoted = "Invalid value: 'This model's maximum context length is 100 tokens.'. Supported values are: 'auto'."
    fake.script.append(fail(400, error_body(quoted, "invalid_request_error", "tool_choice", "invalid_value")))
    async with (
        GatewayProcess(config_of(fake)) as gateway,
        openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client,
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="gpt-4o", messages=turns(3), max_tokens=50)
        samples = await gateway.metrics()

    assert quoted in refused.value.message
    assert len(fake.requests) == 1
    assert samples.total("upstream_window_tokens") == 0
