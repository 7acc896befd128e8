"""Clients with keys of their own: each does what it may, nobody else does anything, no key goes where it must not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from tests.conftest import forget
from tests.fakes.openai_server import FakeOpenAI, fail
from tests.gateway_process import GatewayProcess, config_for, run_command, upstream_for
from tests.small_window import BUDGET, WINDOW

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
PROVIDER_KEY = "sk-provider-0123456789abcdef"
KEYS = {"app": "gw-key-of-the-app-0123456789", "batch": "gw-key-of-the-batch-0123456789"}
NEW_KEY = "gw-the-new-key-of-the-app-0123456789"
CHAT: Json = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


CLIENTS = [
    {"name": "app", "key_sha256": [digest_of(KEYS["app"]), digest_of(NEW_KEY).upper()]},
    {"name": "batch", "key_sha256": digest_of(KEYS["batch"]), "models": ["gpt-4o-mini*"], "may": [], "max_total": 200},
    {"name": "web"},
]


def config_of(fake: FakeOpenAI, proxies: str = "127.0.0.0/8", **others: Any) -> Json:
    config = config_for(fake, server={"trusted_proxies": [proxies]}, **others)
    config["upstreams"] = [upstream_for(fake, api_key=PROVIDER_KEY, retries={"max": 0})]
    return {"clients": CLIENTS, **config}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def fake(shared: FakeOpenAI) -> FakeOpenAI:
    forget(shared)
    return shared


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(shared: FakeOpenAI) -> AsyncIterator[GatewayProcess]:
    async with GatewayProcess(config_of(shared)) as process:
        yield process


def client_of(gateway: GatewayProcess, key: str, **headers: str) -> Any:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0, default_headers=headers)


async def test_the_provider_sees_its_own_key_only(gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """Old and new key of one client; whatever header repeats it."""
    for key in (KEYS["app"], NEW_KEY):
        async with client_of(gateway, key, **{"x-copy": f"my key is {key}", "api-key": key}) as client:
            await client.chat.completions.create(**CHAT)
            await client.models.list()
    received = [dict(each.headers) for each in fake.requests]

    assert len(received) == 4
    assert {each["Authorization"] for each in received} == {f"Bearer {PROVIDER_KEY}"}
    assert "gw-" not in json.dumps(received)


async def test_nobody_else_is_served(gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """A foreign key is the client library's usual error, on every path; the upstream hears nothing."""
    async with client_of(gateway, "sk-foreign") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(**CHAT)
        for call in (client.models.list(), client.files.list()):
            with pytest.raises(openai.AuthenticationError):
                await call
    async with aiohttp.ClientSession() as session, session.post(f"{gateway.base_url}/embeddings", json={}) as answer:
        status = answer.status

    assert refused.value.code == "invalid_api_key"
    assert refused.value.response.headers["www-authenticate"] == "Bearer"
    assert status == 401
    assert fake.requests == []


async def test_each_does_what_it_may(gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """Models, paths, overrides and tokens of a request, as granted; refusals say what is lacking."""
    async with client_of(gateway, KEYS["batch"]) as client:
        await client.chat.completions.create(**{**CHAT, "model": "gpt-4o-mini"}, max_tokens=20)
        with pytest.raises(openai.NotFoundError) as no_model:
            await client.chat.completions.create(**CHAT)
        with pytest.raises(openai.PermissionDeniedError) as no_path:
            await client.files.list()
        with pytest.raises(openai.PermissionDeniedError) as no_header:
            await client.chat.completions.create(**CHAT, extra_headers={"x-gateway-session": "s"})
        long = [{"role": "user", "content": "word " * 300}]
        with pytest.raises(openai.BadRequestError) as too_long:
            await client.chat.completions.create(model="gpt-4o-mini", messages=long, max_tokens=20)
    async with client_of(gateway, KEYS["app"]) as client:
        await client.chat.completions.create(**CHAT, extra_headers={"x-gateway-session": "s"})

    assert no_model.value.code == "model_not_found"
    assert "passthrough" in no_path.value.message
    assert "overrides" in no_header.value.message
    assert "max_total is 200" in too_long.value.message
    assert len(fake.requests) == 2


async def test_only_a_trusted_proxy_names_clients(gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """The name is what counts then, and goes no further; from elsewhere it is passed over."""
    async with client_of(gateway, "whatever", **{"x-gateway-client": "web"}) as client:
        raw = await client.chat.completions.with_raw_response.create(**CHAT)
        log = await gateway.settled(raw.headers)
    samples = await gateway.metrics()
    async with (
        GatewayProcess(config_of(fake, "192.0.2.0/24")) as other,
        client_of(other, "whatever", **{"x-gateway-client": "web"}) as client,
    ):
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(**CHAT)

    assert log["client"] == "web"
    assert samples.total("gateway_tokens_total", client_id="web") > 0
    assert "x-gateway-client" not in {name.lower() for name, _ in fake.requests[0].headers}


async def test_a_key_that_the_provider_quotes_is_masked(gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """An upstream that refuses our key tells it to whoever asked."""
    said = f"Incorrect API key provided: {PROVIDER_KEY}."
    fake.script.append(fail(401, {"error": {"message": said, "type": "invalid_request_error", "code": "x"}}))
    async with client_of(gateway, KEYS["app"]) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(**CHAT)

    assert PROVIDER_KEY not in str(refused.value)
    assert PROVIDER_KEY not in gateway.output


async def test_keys_change_without_a_restart(fake: FakeOpenAI) -> None:
    """A key that was taken away is refused from then on."""
    async with GatewayProcess(config_of(fake)) as gateway, client_of(gateway, KEYS["app"]) as client:
        await client.chat.completions.create(**CHAT)
        config = config_of(fake)
        config["clients"] = [{"name": "app", "key_sha256": digest_of(NEW_KEY)}]
        gateway.write_config(config)
        await gateway.wait_log(message="configuration applied", timeout_s=20)
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(**CHAT)
        async with client_of(gateway, NEW_KEY) as renewed:
            await renewed.chat.completions.create(**CHAT)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_reload_opens_no_port_to_everybody(fake: FakeOpenAI, workers: int) -> None:
    """A file without clients that is right for another address is refused while this one is still listened on."""
    config = config_of(fake)
    config["server"] |= {"host": "0.0.0.0", "workers": workers}
    async with GatewayProcess(config) as gateway, client_of(gateway, "gw-foreign-0123456789") as stranger:
        closed = {**config, "server": config["server"] | {"host": "127.0.0.1"}, "clients": []}
        gateway.write_config(closed)
        refused = await gateway.wait_log(message="configuration refused, the present one stays", timeout_s=20)
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(**CHAT)

        assert "'0.0.0.0'" in refused["faults"][0]
        assert fake.requests == []


async def test_two_clients_share_nothing(fake: FakeOpenAI) -> None:
    """The same chat of two clients is folded twice."""
    fake.window = WINDOW
    config = config_of(fake, token_budget=BUDGET, summarizer={"endpoint": ""})
    config["clients"] = [{"name": name, "key_sha256": digest_of(key)} for name, key in KEYS.items()]
    messages = [{"role": "user", "content": f"{number} " + "many words " * 40} for number in range(60)]
    ids = {}
    async with GatewayProcess(config) as gateway:
        for name, key in KEYS.items():
            async with client_of(gateway, key, **{"x-gateway-explain": "1"}) as client:
                raw = await client.chat.completions.with_raw_response.create(
                    model="gpt-4o", messages=messages, max_tokens=50
                )
                ids[name] = json.loads(raw.headers["x-gateway-receipt"])["brief"]
    fake.window = None

    assert ids["app"]["is_new"]
    assert ids["batch"]["is_new"]
    assert ids["app"]["id"] != ids["batch"]["id"]


async def test_a_key_is_made() -> None:
    """With the digest that the configuration takes; another each time."""
    made = [await run_command("key") for _ in range(2)]
    words = [output.split() for _, output in made]

    assert [code for code, _ in made] == [0, 0]
    for each in words:
        assert digest_of(each[1]) == each[each.index("key_sha256") + 1]
    assert words[0][1] != words[1][1]
