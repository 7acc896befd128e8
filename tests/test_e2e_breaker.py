"""An upstream that fails is left alone for a while, one that is limited is waited for; nobody is refused for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI, fail, rate_limited, reset, stall
from tests.gateway_process import GatewayProcess, Json, config_for, upstream_for

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT: Json = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}
SOON, LATE = ({"failures": 1, "reset_seconds": seconds} for seconds in (0.3, 60))
SAID = "You said: one two three"


@pytest_asyncio.fixture(loop_scope="session")
async def fakes() -> AsyncIterator[list[FakeOpenAI]]:
    async with FakeOpenAI(name="first") as first, FakeOpenAI(name="second") as second:
        yield [first, second]


def gateway_of(*fakes: FakeOpenAI, retries: Json | None = None, breaker: Json | None = None) -> GatewayProcess:
    config = config_for()
    config["upstreams"] = [
        upstream_for(fake, priority=place, retries=retries or {"max": 0}, breaker=breaker or {})
        for place, fake in enumerate(fakes)
    ]
    return GatewayProcess(config)


def client_of(gateway: GatewayProcess) -> Any:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0)


async def said(client: Any) -> str:
    answer = await client.chat.completions.create(**CHAT)
    text: str = answer.choices[0].message.content
    return text


async def test_what_fails_is_left_alone_then_tried_by_one(fakes: list[FakeOpenAI]) -> None:
    """Three failures; then only the other is asked; after the time one request tries, and all follow its success."""
    first = fakes[0]
    first.script.extend([fail(500), reset(), fail(503)])
    async with gateway_of(*fakes, breaker={"failures": 3, "reset_seconds": 1}) as gateway, client_of(gateway) as client:
        failing = [await said(client) for _ in range(6)]
        opened = await gateway.metrics()
        asked = len(first.requests)
        probe = stall(-1)
        first.script.append(probe)
        async with asyncio.timeout(20):
            while len(first.requests) == asked:
                trying = asyncio.create_task(said(client))
                await asyncio.wait({trying}, timeout=0.2)
        meanwhile = [await said(client) for _ in range(4)]
        tried = len(first.requests)
        probe.release.set()
        last = await trying
        afterwards = [await said(client) for _ in range(3)]
        closed = await gateway.metrics()

    assert {*failing, *meanwhile, *afterwards, last} == {SAID}
    assert (asked, tried) == (3, 4)
    assert opened.total("circuit_breaker_state", upstream="first", model="gpt-4o") == 2
    assert opened.total("circuit_breaker_transitions_total", to="opened") == 1
    assert len(first.requests) == 7
    assert closed.total("circuit_breaker_state") == 0
    assert closed.total("circuit_breaker_transitions_total", to="closed") == 1


async def test_a_probe_whose_client_leaves_is_tried_again(fakes: list[FakeOpenAI]) -> None:
    """Nothing is known of it, so the next one may."""
    first, _ = fakes
    first.script.extend([fail(500), stall(-1)])
    async with (
        gateway_of(*fakes, breaker={"failures": 1, "reset_seconds": 0.3}) as gateway,
        client_of(gateway) as client,
    ):
        await said(client)
        await asyncio.sleep(0.5)
        leaving = asyncio.create_task(said(client))
        await first.wait_requests(2)
        leaving.cancel()
        await gateway.wait_log(logger="gateway.access", fault="client_gone")
        await said(client)

    assert len(first.requests) == 3


async def test_models_have_breakers_of_their_own(fakes: list[FakeOpenAI]) -> None:
    """What fails for one model is still asked for another."""
    first, second = fakes
    first.script.append(fail(500))
    async with gateway_of(*fakes, breaker={"failures": 1}) as gateway, client_of(gateway) as client:
        await said(client)
        await client.chat.completions.create(**{**CHAT, "model": "o3"})

    assert [each.json()["model"] for each in first.requests] == ["gpt-4o", "o3"]
    assert [each.json()["model"] for each in second.requests] == ["gpt-4o"]


async def test_a_limited_upstream_cools_down(fakes: list[FakeOpenAI]) -> None:
    """It names a time, so it is not asked before; the other is."""
    first, second = fakes
    first.script.append(rate_limited(30))
    async with gateway_of(*fakes) as gateway, client_of(gateway) as client:
        answers = [await said(client) for _ in range(4)]

    assert answers == [SAID] * 4
    assert (len(first.requests), len(second.requests)) == (1, 4)


async def test_the_only_one_is_waited_for(fakes: list[FakeOpenAI]) -> None:
    """As long as it says, if that is not long; else the client is told."""
    first, _ = fakes
    first.script.extend([rate_limited(1), fail(503, retry_after="1")])
    async with gateway_of(first, retries={"max": 2}) as gateway, client_of(gateway) as client:
        answer = await said(client)
        first.script.append(rate_limited(60))
        with pytest.raises(openai.RateLimitError) as limited:
            await said(client)
    gaps = [second.at_s - first.at_s for first, second in zip(first.requests, first.requests[1:3], strict=False)]

    assert answer == SAID
    assert len(gaps) == 2
    assert min(gaps) >= 1
    assert limited.value.response.headers["retry-after"] == "60"


async def test_nobody_is_refused_because_all_are_left_alone(fakes: list[FakeOpenAI]) -> None:
    """The first is asked all the same: what we think of it may be old."""
    first, second = fakes
    async with (
        gateway_of(*fakes, breaker={"failures": 1, "reset_seconds": 60}) as gateway,
        client_of(gateway) as client,
    ):
        for fake in fakes:
            fake.script.append(fail(500))
        with pytest.raises(openai.InternalServerError):
            await said(client)
        answer = await said(client)

    assert answer == SAID
    assert (len(first.requests), len(second.requests)) == (2, 1)


async def test_retries_never_storm(fakes: list[FakeOpenAI]) -> None:
    """Of many requests to an upstream that is down, only so many are tried again."""
    first, _ = fakes
    first.script.extend(fail(503) for _ in range(200))
    async with gateway_of(first, retries={"max": 2, "budget_ratio": 0.1}, breaker={"failures": 1000}) as gateway:
        async with client_of(gateway) as client:
            results = await asyncio.gather(*(said(client) for _ in range(60)), return_exceptions=True)
        samples = await gateway.metrics()

    assert all(isinstance(result, openai.InternalServerError) for result in results)
    assert 60 < len(first.requests) <= 60 + 10 + 6
    assert samples.total("upstream_retries_denied_total", reason="budget") >= 40


async def test_conversations_are_spread_and_stay(fakes: list[FakeOpenAI]) -> None:
    """Over two of one priority; each turn of a chat goes where the one before went, and elsewhere if that fails."""
    config = config_for()
    config["upstreams"] = [upstream_for(fake, weight=2, retries={"max": 0}) for fake in fakes]
    turns: dict[int, list[str]] = {}
    async with GatewayProcess(config) as gateway, client_of(gateway) as client:
        for number in range(24):
            messages = [{"role": "system", "content": "s"}, {"role": "user", "content": f"chat {number}"}]
            for _ in range(3):
                raw = await client.chat.completions.with_raw_response.create(model="gpt-4o", messages=messages)
                turns.setdefault(number, []).append(raw.headers["x-gateway-upstream"])
                messages += [{"role": "assistant", "content": "a"}, {"role": "user", "content": "more"}]
        home = turns[0][0]
        next(fake for fake in fakes if fake.name == home).script.append(fail(500))
        messages = [{"role": "user", "content": "chat 0"}]
        raw = await client.chat.completions.with_raw_response.create(model="gpt-4o", messages=messages)

    assert all(len(set(names)) == 1 for names in turns.values())
    assert {names[0] for names in turns.values()} == {"first", "second"}
    assert raw.headers["x-gateway-upstream"] != home


async def test_every_attempt_is_the_same_request(fakes: list[FakeOpenAI]) -> None:
    """Its idempotency key and its id are kept over retries and failover, so that an upstream can tell."""
    first, second = fakes
    first.script.append(rate_limited(0.1))
    second.script.extend([reset(), reset()])
    async with gateway_of(*fakes, retries={"max": 2}) as gateway, client_of(gateway) as client:
        await client.chat.completions.create(**CHAT, extra_headers={"Idempotency-Key": "once-1"})
    seen = first.requests + second.requests

    assert len(seen) >= 2
    assert {request.header("idempotency-key") for request in seen} == {"once-1"}
    assert len({request.header("x-request-id") for request in seen}) == 1
    assert len({request.body for request in seen}) == 1
