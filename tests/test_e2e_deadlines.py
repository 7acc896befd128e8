"""Deadlines of an upstream, and other ones for some of its models; and how long an answer may be in bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI, stall
from tests.gateway_process import GatewayProcess, Json, config_for, upstream_for

pytestmark = pytest.mark.asyncio(loop_scope="session")
MESSAGES: list[Json] = [{"role": "user", "content": "one two three"}]
LONG = {"header_seconds": 30, "first_token_seconds": 30, "idle_seconds": 30, "total_seconds": 60}


@pytest_asyncio.fixture(loop_scope="session")
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


def gateway_of(fake: FakeOpenAI, **options: Any) -> GatewayProcess:
    upstream = upstream_for(fake, retries={"max": 0}, timeouts=LONG, **options)
    return GatewayProcess({**config_for(), "upstreams": [upstream]})


def client_of(gateway: GatewayProcess) -> Any:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0)


DEADLINES = {
    "header": ("header_seconds", -1, "upstream_header_timeout"),
    "first token": ("first_token_seconds", 0, "upstream_first_token_timeout"),
    "idle": ("idle_seconds", 2, "upstream_idle_timeout"),
    "total": ("total_seconds", 2, "upstream_total_timeout"),
}


@pytest.mark.parametrize(("option", "after", "code"), DEADLINES.values(), ids=DEADLINES)
async def test_each_deadline_of_a_model(option: str, after: int, code: str, fake: FakeOpenAI) -> None:
    """A model with a short one is told of it by its own code; another model waits, and is served."""
    short, patient = stall(after=after), stall(after=after)
    fake.script.extend([short, patient])
    async with gateway_of(fake, model_timeouts={"gpt-4o-m*": {option: 0.3}}) as gateway, client_of(gateway) as client:
        with pytest.raises(openai.APIError) as late:
            async for _ in await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True):
                pass
        asked = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
        patient.release.set()
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in await asked if chunk.choices])

    assert late.value.code == code
    assert text == "You said: one two three"


async def read_into(seen: list[str], client: Any) -> None:
    async for chunk in await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True):
        seen += [choice.delta.content or "" for choice in chunk.choices]


async def test_an_answer_may_be_so_long(fake: FakeOpenAI) -> None:
    """Whole ones are refused, streams end with an error; shorter ones of other models pass."""
    fake.answer = lambda _: "word " * 2_000
    sizes = {"timeouts": {**LONG, "max_answer_bytes": 4_000}, "model_timeouts": {"o3": {"max_answer_bytes": 0}}}
    upstream = upstream_for(fake, retries={"max": 0}, **sizes)
    async with GatewayProcess({**config_for(), "upstreams": [upstream]}) as gateway, client_of(gateway) as client:
        with pytest.raises(openai.InternalServerError) as whole:
            await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        seen: list[str] = []
        with pytest.raises(openai.APIError) as streamed:
            await read_into(seen, client)
        free = await client.chat.completions.create(model="o3", messages=MESSAGES)
        logs = await gateway.wait_logs(3, logger="gateway.access")
    fake.answer = None

    assert (whole.value.status_code, whole.value.code) == (502, "upstream_too_large")
    assert "more than 4000 bytes" in whole.value.message
    assert streamed.value.code == "upstream_too_large"
    assert len("".join(seen)) < 4_000
    assert len(free.choices[0].message.content or "") > 9_000
    assert [log.get("fault", "") for log in logs] == ["too_large", "too_large", ""]
