"""Azure on either side: its clients at any upstream, and any client at an upstream that speaks it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.azure_server import KEY as AZURE_KEY
from tests.fakes.azure_server import FakeAzure
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, Json, config_for, upstream_for
from tests.small_window import BUDGET

pytestmark = pytest.mark.asyncio(loop_scope="session")
MESSAGES: list[Json] = [{"role": "user", "content": "one two three"}]
VERSION = "2024-10-21"


@pytest_asyncio.fixture(loop_scope="session")
async def plain() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def azure() -> AsyncIterator[FakeAzure]:
    async with FakeAzure(name="azure") as server:
        yield server


def at_azure(azure: FakeAzure, **sections: Any) -> GatewayProcess:
    aliases = {"gpt-4o": "prod 4o"}
    upstream = upstream_for(azure, api_key=AZURE_KEY, azure_api_version=VERSION, model_aliases=aliases)
    return GatewayProcess({**config_for(**sections), "upstreams": [upstream]})


def azure_client(gateway: GatewayProcess) -> Any:
    endpoint = gateway.base_url.removesuffix("/v1")
    return openai.AsyncAzureOpenAI(azure_endpoint=endpoint, api_key=KEY, api_version="2024-06-01", max_retries=0)


def plain_client(gateway: GatewayProcess) -> Any:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0)


async def texts_of(stream: Any) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def test_azures_client_at_openai(plain: FakeOpenAI) -> None:
    """Chats, streams, vectors and lists, metered as any other; the deployment is the model, whatever the body says."""
    async with GatewayProcess(config_for(plain)) as gateway, azure_client(gateway) as client:
        whole = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        stream = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
        streamed = await texts_of(stream)
        vectors = await client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
        models = [model.id async for model in client.models.list()]
        samples = await gateway.metrics()

    assert whole.choices[0].message.content == streamed == "You said: one two three"
    assert len(vectors.data) == 2
    assert "gpt-4o" in models
    assert {request.raw_path for request in plain.requests} == {
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/models",
    }
    assert samples.total("gateway_tokens_total", direction="completion", model="gpt-4o") > 0
    assert samples.total("gateway_tokens_total", direction="prompt", model="gpt-4o") > 0


async def test_a_body_without_a_model(plain: FakeOpenAI) -> None:
    """As Azure's own documentation shows it."""
    body = {"messages": MESSAGES}
    async with GatewayProcess(config_for(plain)) as gateway, plain_client(gateway) as client:
        url = (
            gateway.base_url.removesuffix("/v1") + f"/openai/deployments/gpt-4o/chat/completions?api-version={VERSION}"
        )
        response = await client._client.post(url, json=body, headers={"api-key": KEY})
        wrong = await client._client.post(url, content=b"nonsense", headers={"api-key": KEY})

    assert response.status_code == 200
    assert json.loads(plain.requests[0].body) == {"model": "gpt-4o", **body}
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_json")


async def test_any_client_at_azure(azure: FakeAzure) -> None:
    """Both clients; the deployment is the alias, the key goes in api-key and no other, streams are billed."""
    async with at_azure(azure) as gateway, plain_client(gateway) as client, azure_client(gateway) as other:
        for each in (client, other):
            whole = await each.chat.completions.create(model="gpt-4o", messages=MESSAGES)
            stream = await each.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
            assert whole.choices[0].message.content == await texts_of(stream) == "You said: one two three"
        await client.embeddings.create(model="other", input="one")
        samples = await gateway.metrics()

    paths = {request.raw_path for request in azure.requests}
    assert paths == {
        f"/openai/deployments/prod%204o/chat/completions?api-version={VERSION}",
        f"/openai/deployments/other/embeddings?api-version={VERSION}",
    }
    assert all(request.header("api-key") == AZURE_KEY for request in azure.requests)
    assert not any(KEY in str(request.headers) for request in azure.requests)
    assert samples.total("gateway_requests_total", upstream="azure", status="200") == 5
    assert samples.total("gateway_tokens_total", direction="completion", model="gpt-4o") > 0


async def test_chats_are_compacted_for_azure_too(azure: FakeAzure) -> None:
    """By either way in."""
    messages = [
        {"role": "user" if place % 2 == 0 else "assistant", "content": f"alpha {place} " + "beta gamma " * 300}
        for place in range(21)
    ]
    sections = {"token_budget": BUDGET, "summarizer": {"endpoint": ""}}
    async with at_azure(azure, **sections) as gateway, azure_client(gateway) as client:
        raw = await client.chat.completions.with_raw_response.create(model="gpt-4o", messages=messages, max_tokens=20)
        prompt_tokens = int(raw.headers["x-gateway-tokens-prompt"])

    assert prompt_tokens <= BUDGET["max_total"] - 20
    assert len(json.loads(azure.requests[-1].body)["messages"]) < len(messages)


async def test_briefs_are_written_at_azure_too(azure: FakeAzure) -> None:
    """By the request's own deployment, with the same key."""
    messages = [
        {"role": "user" if place % 2 == 0 else "assistant", "content": f"alpha {place} " + "beta gamma " * 300}
        for place in range(21)
    ]
    azure.summary = lambda _: json.dumps({"facts": ["Greek letters were told."]})
    async with at_azure(azure, token_budget=BUDGET) as gateway, plain_client(gateway) as client:
        await client.chat.completions.create(model="gpt-4o", messages=messages, max_tokens=20)
        samples = await gateway.metrics()

    assert len(azure.requests) == 2
    assert len({request.raw_path for request in azure.requests}) == 1
    assert all(request.header("api-key") == AZURE_KEY for request in azure.requests)
    assert samples.total("summarizer_calls_total", result="ok") == 1


async def test_what_azure_refuses_is_passed_on(azure: FakeAzure) -> None:
    """With its key masked."""
    upstream = upstream_for(azure, api_key="azure-wrong-key-0123456789", azure_api_version=VERSION)
    config = {**config_for(), "upstreams": [upstream]}
    async with GatewayProcess(config) as gateway, plain_client(gateway) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert "Access denied" in refused.value.message


async def test_a_key_in_another_header(plain: FakeOpenAI) -> None:
    """As some gateways and Azure's newer interface take it."""
    upstream = upstream_for(plain, api_key="sk-some-0123456789abcdefgh", key_header="api-key")
    async with GatewayProcess({**config_for(), "upstreams": [upstream]}) as gateway, plain_client(gateway) as client:
        await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert plain.requests[0].header("api-key") == "sk-some-0123456789abcdefgh"
    assert plain.requests[0].header("authorization") is None
