"""Which models a client is told of, where several upstreams serve them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.azure_server import KEY as AZURE_KEY
from tests.fakes.azure_server import FakeAzure
from tests.fakes.openai_server import FakeOpenAI, fail, raw
from tests.gateway_process import GatewayProcess, Json, config_for, upstream_for

pytestmark = pytest.mark.asyncio(loop_scope="session")
BIG = ("gpt-4o", "gpt-4o-mini", "o3", "meta-llama/Llama-3-8B")


@pytest_asyncio.fixture(loop_scope="session")
async def fakes() -> AsyncIterator[list[FakeOpenAI]]:
    first, second = FakeOpenAI(name="first", models=BIG), FakeOpenAI(name="second", models=("o3", "qwen"))
    async with first, second:
        yield [first, second]


def gateway_of(fakes: list[FakeOpenAI], **sections: Any) -> GatewayProcess:
    upstreams = [
        upstream_for(fakes[0], models=["gpt-*", "meta-llama/*"], model_aliases={"smart": "o3", "new": "unlisted"}),
        upstream_for(fakes[1], priority=1),
    ]
    return GatewayProcess({**config_for(), "upstreams": upstreams, **sections})


def client_of(gateway: GatewayProcess, key: str = KEY) -> Any:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0)


async def listed(client: Any) -> list[str]:
    return [model.id async for model in client.models.list()]


async def test_all_that_can_be_asked_for(fakes: list[FakeOpenAI]) -> None:
    """Of each upstream what it serves here, and aliases; every name in the list finds an upstream."""
    async with gateway_of(fakes) as gateway, client_of(gateway) as client:
        names = await listed(client)
        for name in names:
            await client.chat.completions.create(model=name, messages=[{"role": "user", "content": "one"}])

    assert sorted(names) == sorted(["smart", "new", "gpt-4o", "gpt-4o-mini", "meta-llama/Llama-3-8B", "o3", "qwen"])


async def test_one_model(fakes: list[FakeOpenAI]) -> None:
    """Is described by an upstream that serves it, also with a slash in its name; an alias under its own name."""
    async with gateway_of(fakes) as gateway, client_of(gateway) as client:
        found = [await client.models.retrieve(name) for name in ("qwen", "smart", "meta-llama/Llama-3-8B")]
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("nothing")

    assert [model.id for model in found] == ["qwen", "smart", "meta-llama/Llama-3-8B"]
    assert [request.raw_path for request in fakes[1].requests] == ["/v1/models/qwen", "/v1/models/nothing"]
    assert missing.value.code == "model_not_found"


TROUBLE = {"fails": fail(500), "is no JSON": raw([b"<html>"], "text/html"), "is no list": raw([b'{"data": 1}'])}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
async def test_an_upstream_that_does_not_say(trouble: Any, fakes: list[FakeOpenAI]) -> None:
    """Is left out; of the aliases it is known anyhow that they are served."""
    fakes[0].script.append(trouble)
    async with gateway_of(fakes) as gateway, client_of(gateway) as client:
        names = await listed(client)

    assert sorted(names) == ["new", "o3", "qwen", "smart"]


async def test_nobody_says(fakes: list[FakeOpenAI]) -> None:
    """An honest error."""
    upstreams = [upstream_for(fake) for fake in fakes]
    for fake in fakes:
        fake.script.append(fail(500))
    async with GatewayProcess({**config_for(), "upstreams": upstreams}) as gateway, client_of(gateway) as client:
        with pytest.raises(openai.InternalServerError) as failed:
            await listed(client)

    assert failed.value.status_code == 502


async def test_a_client_is_told_of_what_it_may_use(fakes: list[FakeOpenAI]) -> None:
    """By its models and its upstreams; passing through is another permission."""
    keys: dict[str, Json] = {
        "models": {"models": ["gpt-4o*", "smart"]},
        "upstreams": {"upstreams": ["second"]},
        "nothing else": {"may": []},
    }
    clients = []
    for name, row in keys.items():
        digest = hashlib.sha256(f"sk-{name}-0123456789".encode()).hexdigest()
        clients.append({"name": name.replace(" ", "-"), "key_sha256": digest, **row})
    config: Json = {"clients": clients}
    upstreams = [
        upstream_for(fakes[0], models=["gpt-*"], model_aliases={"smart": "o3"}, api_key="sk-one-0123456789abcdef"),
        upstream_for(fakes[1], priority=1, api_key="sk-two-0123456789abcdef"),
    ]
    async with GatewayProcess({**config_for(), **config, "upstreams": upstreams}) as gateway:
        found = {}
        for name in keys:
            async with client_of(gateway, f"sk-{name}-0123456789") as client:
                found[name] = sorted(await listed(client))
        async with client_of(gateway, "sk-models-0123456789") as client:
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("o3")

    assert found == {
        "models": ["gpt-4o", "gpt-4o-mini", "smart"],
        "upstreams": ["o3", "qwen"],
        "nothing else": ["gpt-4o", "gpt-4o-mini", "o3", "qwen", "smart"],
    }
    assert {request.header("authorization") for request in fakes[1].requests} == {"Bearer sk-two-0123456789abcdef"}


async def test_azure_among_others(fakes: list[FakeOpenAI]) -> None:
    """It is asked in its own way."""
    async with FakeAzure(name="azure", models=("gpt-4o",)) as azure:
        upstreams = [
            upstream_for(azure, api_key=AZURE_KEY, azure_api_version="2024-10-21", model_aliases={"mine": "prod"}),
            upstream_for(fakes[1], priority=1),
        ]
        async with GatewayProcess({**config_for(), "upstreams": upstreams}) as gateway, client_of(gateway) as client:
            names = await listed(client)

    assert sorted(names) == ["gpt-4o", "mine", "o3", "qwen"]
