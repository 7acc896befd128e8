"""Asking what a request would cost, before it is sent: the gateway's own endpoint, and OpenAI's."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import openai
import pytest

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI, fail
from tests.gateway_process import GatewayProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = {
    "model": "gpt-4o",
    "messages": [{"role": "system", "content": "You are terse."}, {"role": "user", "content": "How many tokens?"}],
    "tools": [{"type": "function", "function": {"name": "count", "parameters": {"type": "object", "properties": {}}}}],
}
RESPONSES = {"model": "gpt-4o", "instructions": "You are terse.", "input": "How many tokens?"}


async def asked(gateway: GatewayProcess, body: Any, path: str = "/api/v1/tokens/count") -> tuple[int, Any]:
    """Status and JSON of a POST to the data port."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with aiohttp.ClientSession() as session:
        url = gateway.base_url.removesuffix("/v1") + path
        async with session.post(url, data=data, headers={"Authorization": f"Bearer {KEY}"}) as response:
            return response.status, await response.json(content_type=None)


async def test_a_chat_is_counted_by_section_and_message(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """The parts sum up to the whole; encoding, expectation, margin and budget beside; nothing is sent anywhere."""
    status, told = await asked(shared_gateway, CHAT)

    assert status == 200
    assert told["object"] == "token_count"
    assert told["total"] == sum(told["sections"].values())
    assert [message["role"] for message in told["messages"]] == ["system", "user"]
    assert told["messages"][1]["tokens"] == 3 + 1 + 4
    assert (told["encoding"], told["expected"], told["margin"]) == ("o200k_base", told["total"], 0)
    assert told["budget"]["fits"]
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        (CHAT, "chat_completions"),
        (RESPONSES, "responses"),
        ({"model": "gpt-3.5-turbo-instruct", "prompt": "How many?"}, "completions"),
        ({"model": "text-embedding-3-small", "input": ["How", "many?"]}, "embeddings"),
    ],
)
async def test_any_metered_body_may_be_asked_about(shared_gateway: GatewayProcess, body: Any, endpoint: str) -> None:
    status, told = await asked(shared_gateway, body)

    assert (status, told["endpoint"]) == (200, endpoint)
    assert told["total"] > 0


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages": 7, "model": "m"}', b'{"messages": []}'])
async def test_bad_bodies_are_refused_like_any_other(shared_gateway: GatewayProcess, body: bytes) -> None:
    status, told = await asked(shared_gateway, body)

    assert status == 400
    assert told["error"]["type"] == "invalid_request_error"


async def test_only_post_is_served(shared_gateway: GatewayProcess) -> None:
    """Another method is no call to pass on: the path is the gateway's own."""
    async with aiohttp.ClientSession() as session:
        url = shared_gateway.base_url.removesuffix("/v1") + "/api/v1/tokens/count"
        async with session.get(url) as response:
            told = await response.json()

    assert response.status == 405
    assert told["error"]["code"] == "method_not_allowed"


async def test_openais_own_endpoint_is_answered_where_the_upstream_has_none(
    shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """The real client gets its own type; the number is that of the gateway's endpoint; no bill is made of it."""
    upstream.script.append(fail(404, {"error": {"message": "unknown path", "type": "invalid_request_error"}}))
    before = await shared_gateway.metrics()
    async with openai.AsyncOpenAI(base_url=shared_gateway.base_url, api_key=KEY, max_retries=0) as client:
        counted = await client.responses.input_tokens.count(**RESPONSES)
    _, told = await asked(shared_gateway, RESPONSES)
    after = await shared_gateway.metrics()

    assert counted.object == "response.input_tokens"
    assert counted.input_tokens == told["total"]
    assert [seen.raw_path for seen in upstream.requests] == ["/v1/responses/input_tokens"]
    for name in ("gateway_tokens_total", "gateway_estimated_bills_total"):
        assert after.total(name) == before.total(name)


async def test_an_upstream_that_has_it_answers_itself(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    upstream.script.append(fail(200, {"object": "response.input_tokens", "input_tokens": 4711}))
    _, told = await asked(shared_gateway, RESPONSES, "/v1/responses/input_tokens")

    assert told["input_tokens"] == 4711
