"""The real client asks the same again, and the upstream does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import Behaviour, FakeOpenAI, cut, error_event, fail, no_done, stall
from tests.gateway_process import GatewayProcess, Samples, config_for
from tests.redis_server import RedisServer

pytest.importorskip("aiocache", reason="aiocache is not installed (extra `cache`)")
pytestmark = pytest.mark.asyncio(loop_scope="session")

ASK: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Name a colour."}], "temperature": 0}
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat/completions", ASK),
    "chat as a stream": ("chat/completions", {**ASK, "stream": True}),
    "chat as a stream with usage": (
        "chat/completions",
        {**ASK, "stream": True, "stream_options": {"include_usage": True}},
    ),
    "completion": ("completions", {"model": "m", "prompt": "Name a colour.", "temperature": 0}),
    "completion as a stream": ("completions", {"model": "m", "prompt": "Name it.", "temperature": 0, "stream": True}),
    "response": ("responses", {"model": "m", "input": "Name a colour.", "temperature": 0, "store": False}),
    "response as a stream": (
        "responses",
        {"model": "m", "input": "Name it.", "temperature": 0, "store": False, "stream": True},
    ),
    "embedding": ("embeddings", {"model": "m", "input": "a colour"}),
}


@pytest_asyncio.fixture(loop_scope="session")
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@asynccontextmanager
async def caching(fake: FakeOpenAI, **options: Any) -> AsyncIterator[tuple[GatewayProcess, Any]]:
    """A gateway that caches, and the real client."""
    config = config_for(fake, cache={"enabled": True, **options})
    async with (
        GatewayProcess(config) as gateway,
        openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client,
    ):
        yield gateway, client


async def post(gateway: GatewayProcess, path: str, body: Any, **headers: str) -> tuple[str | None, bytes, str]:
    """The cache's word, the bytes, and the content type."""
    named = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.base_url}/{path}", data=json.dumps(body), headers=named) as response,
    ):
        return response.headers.get("x-gateway-cache"), await response.read(), response.headers["content-type"]


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    found: str = request.getfixturevalue("redis").url
    return found


async def test_every_kind_of_answer_is_returned_byte_for_byte(url: str, fake: FakeOpenAI) -> None:
    """From memory or a Redis; what the second request gets is what the first one got, and nothing more is asked."""
    async with caching(fake, url=url) as (gateway, _):
        for path, body in BODIES.values():
            first = await post(gateway, path, body)
            second = await post(gateway, path, body)
            found = (first[0], second[0], second[1:])

            assert found == ("miss", "hit", first[1:]), body
        metrics = await gateway.metrics()

    assert len(fake.requests) == len(BODIES)
    assert metrics.total("response_cache_hits_total") == len(BODIES)
    assert metrics.total("response_cache_misses_total") == len(BODIES)
    assert metrics.total("response_cache_stores_total") == len(BODIES)
    assert metrics.total("response_cache_errors_total") == 0
    assert (metrics.total("response_cache_bytes") > 0) == (url == "memory://")


async def test_the_real_client_sees_no_difference(fake: FakeOpenAI) -> None:
    """Whole and streamed; hits bill nothing, count as requests, and say what they spared."""
    async with caching(fake) as (gateway, client):
        whole = [await client.chat.completions.create(**ASK) for _ in range(2)]
        before = await gateway.metrics()
        streams = []
        for _ in range(2):
            stream = await client.chat.completions.create(**ASK, stream=True)
            streams.append([chunk.model_dump() async for chunk in stream])
        answers = [await client.embeddings.create(model="m", input="x") for _ in range(2)]
        raw = await client.chat.completions.with_raw_response.create(**ASK)
        log = await gateway.settled(raw.headers)
        await gateway.wait_logs(7, logger="gateway.access")
        metrics = await gateway.metrics()

    assert whole[0] == whole[1]
    assert streams[0] == streams[1]
    assert answers[0] == answers[1]
    assert len(fake.requests) == 3
    assert raw.headers["x-gateway-cache"] == "hit"
    assert raw.headers.get("x-gateway-upstream") is None
    assert int(raw.headers["age"]) >= 0
    assert (log["cache"], log["status"], log["upstream"], log["attempts"]) == ("hit", 200, "", 0)
    assert "billed_prompt_tokens" not in log
    assert billed(before) == whole[0].usage.prompt_tokens
    usage = whole[0].usage
    assert before.total("response_cache_saved_tokens_total", direction="prompt") == usage.prompt_tokens
    assert before.total("response_cache_saved_tokens_total", direction="completion") == usage.completion_tokens
    hits = {"endpoint": "chat_completions", "upstream": "", "status": "200", "model": "gpt-4o"}
    assert metrics.total("gateway_requests_total", **hits) == 3


def billed(metrics: Samples) -> float:
    return metrics.total("gateway_tokens_total", direction="prompt")


async def test_of_twenty_at_once_one_is_sent(fake: FakeOpenAI) -> None:
    """Streams, with the upstream held back until all have come."""
    held = stall(after=2)
    fake.script.append(held)
    async with caching(fake) as (gateway, _):
        body = {**ASK, "stream": True}
        asking = [asyncio.create_task(post(gateway, "chat/completions", body)) for _ in range(20)]
        async with asyncio.timeout(20):
            while (await gateway.metrics()).total("gateway_requests_in_flight") < 20:
                await asyncio.sleep(0.02)
        held.release.set()
        answers = await asyncio.gather(*asking)

    assert len(fake.requests) == 1
    assert len({answer[1] for answer in answers}) == 1
    assert answers[0][1].endswith(b"data: [DONE]\n\n")
    assert sorted(str(answer[0]) for answer in answers) == ["hit"] * 19 + ["miss"]


async def test_a_leader_that_leaves_takes_nobody_with_it(fake: FakeOpenAI) -> None:
    """Its call is cancelled upstream, one of the others asks anew, and all of those have the answer."""
    held = stall()
    fake.script.append(held)
    async with caching(fake) as (gateway, _):
        leader = asyncio.create_task(post(gateway, "chat/completions", ASK))
        await fake.wait_requests(1)
        others = [asyncio.create_task(post(gateway, "chat/completions", ASK)) for _ in range(5)]
        async with asyncio.timeout(20):
            while (await gateway.metrics()).total("gateway_requests_in_flight") < 6:
                await asyncio.sleep(0.02)
        leader.cancel()
        answers = await asyncio.gather(*others)
        await fake.wait_cancelled(1)

    assert len(fake.requests) == 2
    assert sorted(str(answer[0]) for answer in answers) == ["hit"] * 4 + ["miss"]
    assert len({answer[1] for answer in answers}) == 1


BROKEN: dict[str, Behaviour] = {
    "an error": fail(500),
    "a stream that is cut": cut(after=3),
    "an error within the stream": error_event(after=3),
    "no end mark": no_done(),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_broke_is_not_returned_again(name: str, fake: FakeOpenAI) -> None:
    fake.script.append(BROKEN[name])
    async with caching(fake) as (gateway, _):
        body = {**ASK, "stream": True}
        await post(gateway, "chat/completions", body)
        second = await post(gateway, "chat/completions", body)
        third = await post(gateway, "chat/completions", body)

    assert (second[0], third[0]) == ("miss", "hit")
    assert second[1] == third[1]
    assert second[1].endswith(b"data: [DONE]\n\n")


async def test_no_client_gets_anothers_answer(fake: FakeOpenAI) -> None:
    """Clients that bring keys of their own are told apart by them."""
    async with caching(fake) as (gateway, _):
        for key in ("sk-one", "sk-two"):
            words = [(await post(gateway, "chat/completions", ASK, Authorization=f"Bearer {key}"))[0] for _ in "12"]

            assert words == ["miss", "hit"]
    assert len(fake.requests) == 2


async def test_who_wants_no_cache_gets_none(fake: FakeOpenAI) -> None:
    """By our header, which no upstream sees, or by the usual one; and what is left to chance is never kept."""
    async with caching(fake) as (gateway, _):
        await post(gateway, "chat/completions", ASK)
        off = await post(gateway, "chat/completions", ASK, x_gateway_cache="off")
        no_store = await post(gateway, "chat/completions", ASK, cache_control="no-store")
        no_cache = await post(gateway, "chat/completions", ASK, cache_control="no-cache")
        chance = [await post(gateway, "chat/completions", {**ASK, "temperature": 1}) for _ in range(2)]
        wrong = await post(gateway, "chat/completions", ASK, x_gateway_cache="maybe")

    assert [answer[0] for answer in (off, no_store, no_cache, *chance)] == ["bypass", "bypass", "miss", *["bypass"] * 2]
    assert len(fake.requests) == 6
    assert all(seen.header("x-gateway-cache") is None for seen in fake.requests)
    assert json.loads(wrong[1])["error"]["param"] == "x-gateway-cache"


async def test_answers_expire(fake: FakeOpenAI) -> None:
    async with caching(fake, ttl_seconds=0.5) as (gateway, _):
        await post(gateway, "chat/completions", ASK)
        async with asyncio.timeout(20):
            while (await post(gateway, "chat/completions", ASK))[0] == "hit":
                await asyncio.sleep(0.1)
        metrics = await gateway.metrics()

    assert len(fake.requests) == 2
    assert metrics.total("response_cache_misses_total", endpoint="chat_completions") == 2


async def test_the_bounds_hold(fake: FakeOpenAI) -> None:
    """A hundred different questions, room for ten."""
    async with caching(fake, max_entries=10) as (gateway, _):
        for number in range(100):
            await post(gateway, "embeddings", {"model": "m", "input": f"text {number}"})
        newest = await post(gateway, "embeddings", {"model": "m", "input": "text 99"})
        oldest = await post(gateway, "embeddings", {"model": "m", "input": "text 0"})
        metrics = await gateway.metrics()

    assert (newest[0], oldest[0]) == ("hit", "miss")
    assert metrics.total("response_cache_evictions_total") >= 90
    assert 0 < metrics.total("response_cache_bytes") < 20_000


async def test_replicas_share_a_redis(redis: RedisServer, fake: FakeOpenAI) -> None:
    """What one was answered the other returns."""
    async with caching(fake, url=redis.url) as (one, _), caching(fake, url=redis.url) as (two, _):
        first = await post(one, "chat/completions", {**ASK, "stream": True})
        async with asyncio.timeout(20):
            while (await one.metrics()).total("response_cache_stores_total") < 1:  # kept after it was given
                await asyncio.sleep(0.02)
        second = await post(two, "chat/completions", {**ASK, "stream": True})

    assert (first[0], second[0]) == ("miss", "hit")
    assert first[1] == second[1]
    assert len(fake.requests) == 1


async def test_a_redis_that_goes_away_fails_no_request(redis: RedisServer, fake: FakeOpenAI) -> None:
    """Killed and back: each request is answered, what is lost is counted, and then it serves again."""
    async with caching(fake, url=redis.url) as (gateway, _):
        before = [await post(gateway, "chat/completions", ASK) for _ in range(2)]
        redis.kill()
        without = [await post(gateway, "chat/completions", ASK) for _ in range(3)]
        metrics = await gateway.metrics()
        redis.start()
        await gateway.wait_log(message="the response cache is back", timeout_s=30)
        after = [await post(gateway, "chat/completions", ASK) for _ in range(2)]

    assert [answer[0] for answer in before] == ["miss", "hit"]
    assert [answer[0] for answer in without] == ["miss"] * 3
    assert [answer[0] for answer in after] == ["miss", "hit"]
    assert json.loads(without[0][1])["choices"]
    assert metrics.total("response_cache_errors_total", reason="down") >= 1


async def test_hits_take_nothing_from_a_limit(fake: FakeOpenAI) -> None:
    """After one request has taken most of a minute's tokens, its answer is returned again; another one is refused."""
    limits = [{"client": "*", "tokens_per_minute": 400}]
    body = {**ASK, "max_tokens": 300}
    config = config_for(fake, cache={"enabled": True}, rate_limits=limits)
    async with GatewayProcess(config) as gateway:
        hits = [await post(gateway, "chat/completions", {**ASK, "max_tokens": 300}) for _ in range(20)]
        fake.script.append(stall())
        running = asyncio.create_task(post(gateway, "chat/completions", {**body, "seed": 1}))
        await fake.wait_requests(2)
        again = await post(gateway, "chat/completions", body)
        refused = await post(gateway, "chat/completions", {**body, "seed": 2})
        running.cancel()
        metrics = await gateway.metrics()

    assert [answer[0] for answer in hits] == ["miss", *["hit"] * 19]
    assert again[0] == "hit"
    assert json.loads(refused[1])["error"]["code"] == "rate_limit_exceeded"
    assert metrics.total("response_cache_hits_total") == 20


async def test_without_a_cache_there_is_none(fake: FakeOpenAI) -> None:
    """No header, no metric, and each request is sent."""
    async with GatewayProcess(config_for(fake)) as gateway:
        answers = [await post(gateway, "chat/completions", ASK) for _ in range(2)]
        metrics = await gateway.metrics()

    assert [answer[0] for answer in answers] == [None, None]
    assert len(fake.requests) == 2
    assert "response_cache" not in metrics.text
