"""Upstreams that are asked from time to time: no request has to find out that one is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import Behaviour, FakeOpenAI, Recorded, Reply
from tests.gateway_process import GatewayProcess, Json, config_for, upstream_for

pytestmark = pytest.mark.asyncio(loop_scope="session")
MESSAGES: list[Json] = [{"role": "user", "content": "one two three"}]
OWN_KEY = "sk-own-0123456789abcdefghij"
PROBE = {"path": "/health", "interval_seconds": 0.05}


@pytest_asyncio.fixture(loop_scope="session")
async def fakes() -> AsyncIterator[list[FakeOpenAI]]:
    first, second = FakeOpenAI(name="first"), FakeOpenAI(name="second")
    async with first, second:
        yield [first, second]


def is_probe(seen: Recorded) -> bool:
    return seen.raw_path == "/v1/health"


def gateway_of(fakes: list[FakeOpenAI], probe: Json = PROBE) -> GatewayProcess:
    usual: Json = {"retries": {"max": 0}, "breaker": {"failures": 2}}
    upstreams = [
        upstream_for(fakes[0], api_key=OWN_KEY, probe=probe, **usual),
        upstream_for(fakes[1], priority=1, **usual),
    ]
    return GatewayProcess({**config_for(), "upstreams": upstreams})


async def asked(gateway: GatewayProcess, times: int = 1) -> list[str]:
    """Which upstreams answer."""
    found = []
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client:
        for _ in range(times):
            raw = await client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)
            found.append(raw.headers["x-gateway-upstream"])
    return found


def chats(fake: FakeOpenAI) -> int:
    return sum(not is_probe(seen) for seen in fake.requests)


async def test_nobody_finds_out_that_an_upstream_is_down(fakes: list[FakeOpenAI]) -> None:
    """It is left alone for every model while its probes fail, and asked again when they do not."""
    first, second = fakes
    async with gateway_of(fakes) as gateway:
        before = await asked(gateway)
        down = Behaviour(reply=Reply([b"{}"], status=503), when=is_probe)
        first.script.extend(down for _ in range(1000))
        await gateway.wait_log(message="an upstream fails its probe", upstream="first")
        meanwhile, chats_before = await asked(gateway, 5), chats(first)
        state = (await gateway.metrics()).total("circuit_breaker_state", upstream="first", model="*")
        first.script.clear()
        await gateway.wait_log(message="an upstream passes its probe", upstream="first")
        after = await asked(gateway)
    probes = [seen for seen in first.requests if is_probe(seen)]

    assert (before, meanwhile, after) == (["first"], ["second"] * 5, ["first"])
    assert chats_before == 1
    assert state == 2
    assert {seen.header("authorization") for seen in probes} == {f"Bearer {OWN_KEY}"}
    assert not any(is_probe(seen) for seen in second.requests)


async def test_what_is_wrong_with_a_probe_is_no_illness(fakes: list[FakeOpenAI]) -> None:
    """A 404 is an answer."""
    missing = Behaviour(reply=Reply([b"{}"], status=404), when=is_probe)
    fakes[0].script.extend(missing for _ in range(1000))
    async with gateway_of(fakes) as gateway:
        await fakes[0].wait_requests(5)
        found = await asked(gateway)

    assert found == ["first"]


async def test_no_probes_unless_asked_for(fakes: list[FakeOpenAI]) -> None:
    """The default; and a reload that takes them away ends them."""
    async with gateway_of(fakes, {"path": "/health"}) as gateway:
        await asked(gateway)
    assert not any(map(is_probe, fakes[0].requests))

    async with gateway_of(fakes) as gateway:
        down = Behaviour(reply=Reply([b"{}"], status=500), when=is_probe)
        fakes[0].script.extend(down for _ in range(1000))
        await gateway.wait_log(message="an upstream fails its probe")
        upstreams = [upstream_for(fakes[0]), upstream_for(fakes[1], priority=1)]
        gateway.write_config({**config_for(), "upstreams": upstreams})
        since = len(gateway.logs)
        await gateway.wait_log(message="configuration applied", since=since)
        await asyncio.sleep(0.1)
        count = sum(map(is_probe, fakes[0].requests))
        found: Any = await asked(gateway)
        await asyncio.sleep(0.2)

    assert found == ["first"]
    assert sum(map(is_probe, fakes[0].requests)) <= count + 1
