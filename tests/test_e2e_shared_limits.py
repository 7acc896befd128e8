"""Several gateways that share one Redis: limits that hold for all of them together, whatever dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI, stall
from tests.gateway_process import GatewayProcess, config_for, upstream_for
from tests.redis_server import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
CHAT: Json = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 65}
ANSWER = 60
LIMIT = 3000


@pytest_asyncio.fixture(loop_scope="session")
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        server.answer = lambda _: "word " * ANSWER
        yield server


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def gateway_of(fake: FakeOpenAI, redis: RedisServer, limits: Json, workers: int = 1) -> GatewayProcess:
    config = config_for(fake, server={"workers": workers})
    config["upstreams"] = [upstream_for(fake, retries={"max": 0})]
    store = {"url": redis.url, "lease_seconds": 1}
    return GatewayProcess({**config, "rate_limits": [limits], "rate_limit_store": store})


async def ask(gateway: GatewayProcess, **options: Any) -> int:
    """Tokens of an answer; 0 where a limit refused it."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{gateway.base_url}/chat/completions", json={**CHAT, **options}) as response,
    ):
        told = await response.json()
        assert response.status in (200, 429), told
    return int(told["usage"]["total_tokens"]) if response.status == 200 else 0


@pytest.mark.parametrize("number", [2, 4])
async def test_a_burst_at_several_replicas_is_held_to_the_limit(
    number: int, fake: FakeOpenAI, redis_server: RedisServer
) -> None:
    """Fifty clients of one key at once, at two and at four processes: no more tokens than one process lets through."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        gateways = [
            await stack.enter_async_context(gateway_of(fake, redis_server, {"tokens_per_minute": LIMIT}))
            for _ in range(number)
        ]
        began_s = loop.time()

        async def client(place: int) -> int:
            return sum([await ask(gateways[place % number]) for _ in range(4)])

        used = sum(await asyncio.gather(*map(client, range(50))))
        took_s = loop.time() - began_s
        samples = [await gateway.metrics() for gateway in gateways]
    overshoot = sum(each.total("rate_limit_overshoot_tokens_total") for each in samples)
    trips = sum(each.total("rate_limit_store_round_trips_total") for each in samples)
    asked = sum(each.total("rate_limit_allowed_total") + each.total("rate_limit_hits_total") for each in samples)
    bound = LIMIT + LIMIT * took_s / 60 + overshoot
    print(f"\n{number} processes, {asked:.0f} requests of 50 clients in {took_s:.1f} s: {used} tokens let through,")
    print(f"limit {LIMIT}, bound {bound:.0f}; {trips:.0f} round trips to Redis")

    assert 0.5 * LIMIT < used <= bound
    assert all(each.total("rate_limit_store_up") == 1 for each in samples)
    assert trips < 2 * asked


async def test_workers_and_their_limits(fake: FakeOpenAI, redis_server: RedisServer) -> None:
    """With a Redis, limits below the number of workers hold, and any worker may let anybody through."""
    async with gateway_of(fake, redis_server, {"requests_per_minute": 1}, workers=2) as gateway:
        found = await asyncio.gather(*(ask(gateway) for _ in range(12)))

    assert sum(tokens > 0 for tokens in found) == 1


async def test_what_a_killed_replica_held_comes_back(fake: FakeOpenAI, redis_server: RedisServer) -> None:
    """kill -9 with the only place taken: another replica has it after the lease, and not before it."""
    limits = {"concurrent_requests": 1}
    async with gateway_of(fake, redis_server, limits) as killed, gateway_of(fake, redis_server, limits) as other:
        fake.script.append(stall(after=2))
        async with openai.AsyncOpenAI(base_url=killed.base_url, api_key=KEY, max_retries=0) as client:
            stream = await client.chat.completions.create(**CHAT, stream=True)
            await anext(aiter(stream))
            assert await ask(other) == 0
            await asyncio.sleep(1.5)
            assert await ask(other) == 0, "a lease that is renewed holds"
            killed.signal(signal.SIGKILL)
            async with asyncio.timeout(10):
                while await ask(other) == 0:
                    await asyncio.sleep(0.1)


@pytest.mark.parametrize("trouble", ["killed", "stopped"])
async def test_redis_fails_under_load(trouble: str, fake: FakeOpenAI, redis_server: RedisServer) -> None:
    """No request hangs or fails for it, limits hold by shares, and afterwards for all together; metrics say so."""
    loop = asyncio.get_running_loop()
    limits = {"tokens_per_minute": LIMIT}
    async with gateway_of(fake, redis_server, limits) as one, gateway_of(fake, redis_server, limits) as other:
        began_s, slowest_s, used = loop.time(), 0.0, 0

        async def load(times: int) -> None:
            nonlocal slowest_s, used
            for _ in range(times):
                sent_s = loop.time()
                used += sum(await asyncio.gather(*(ask(gateway) for gateway in (one, other) for _ in range(3))))
                slowest_s = max(slowest_s, loop.time() - sent_s)

        async def is_up() -> list[float]:
            return [(await gateway.metrics()).total("rate_limit_store_up") for gateway in (one, other)]

        await load(2)
        process = redis_server._process
        assert process is not None
        if trouble == "killed":
            redis_server.kill()
        else:
            os.kill(process.pid, signal.SIGSTOP)
        await load(10)
        while_away = await is_up()
        if trouble == "killed":
            redis_server.start()
        else:
            os.kill(process.pid, signal.SIGCONT)
        async with asyncio.timeout(20):
            while await is_up() != [1, 1]:
                await asyncio.sleep(0.05)
        await load(10)
        took_s = loop.time() - began_s
        samples = await one.metrics()
    # A bucket, and what Redis has when it is back (all, if it was killed); what refills, here and there; and what those
    # had over that ended just when it stopped answering, which it may have heard and is told again.
    bound = (3 if trouble == "killed" else 2) * LIMIT + 2 * LIMIT * took_s / 60 + 2 * 6 * (CHAT["max_tokens"] - ANSWER)
    print(f"\n{trouble}: {used} tokens let through in {took_s:.1f} s, bound {bound:.0f}; slowest {slowest_s:.2f} s")

    assert while_away == [0, 0]
    assert used <= bound
    assert slowest_s < 5
    assert samples.total("rate_limit_store_faults_total") > 0
