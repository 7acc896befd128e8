"""Rate limits of a running gateway: what they let through, what is told, and that everything taken comes back."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY, forget
from tests.fakes.openai_server import Behaviour, End, FakeOpenAI, cut, fail, stall
from tests.gateway_process import GatewayProcess, config_for, upstream_for
from tests.small_window import BUDGET, count

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
CHAT: Json = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}
PROMPT = 10
"""Tokens of it: the fake counts words, the gateway tokens."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def fake(shared: FakeOpenAI) -> FakeOpenAI:
    forget(shared)
    return shared


def gateway_of(fake: FakeOpenAI, *limits: Json, **others: Any) -> GatewayProcess:
    config = config_for(fake, **others)
    config["upstreams"] = [upstream_for(fake, retries={"max": 0})]
    return GatewayProcess({"rate_limits": list(limits), **config})


def client_of(gateway: GatewayProcess, key: str = KEY) -> Any:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0)


async def left_of(client: Any, kind: str = "tokens", **options: Any) -> int:
    """What an answer says is left after it was reserved for."""
    raw = await client.chat.completions.with_raw_response.create(**{**CHAT, "max_tokens": 10, **options})
    return int(raw.headers[f"x-ratelimit-remaining-{kind}"])


async def test_a_client_is_told_as_openai_tells(fake: FakeOpenAI) -> None:
    """Headers on each answer; then the library's own error, with the wait and the numbers."""
    async with gateway_of(fake, {"requests_per_minute": 2, "tokens_per_minute": 1000}) as gateway:
        async with client_of(gateway) as client:
            raw = await client.chat.completions.with_raw_response.create(**CHAT, max_tokens=100)
            await client.chat.completions.create(**CHAT, max_tokens=100)
            with pytest.raises(openai.RateLimitError) as refused:
                await client.chat.completions.create(**CHAT, max_tokens=100)
        samples = await gateway.metrics()
    told, headers = raw.headers, refused.value.response.headers

    assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert told["x-ratelimit-limit-tokens"] == "1000"
    assert 850 < int(told["x-ratelimit-remaining-tokens"]) < 900
    assert told["x-ratelimit-reset-requests"].endswith("s")
    assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "requests")
    assert "Limit 2, Used 2, Requested 1." in refused.value.message
    assert 0 < int(headers["retry-after"]) <= 30
    assert 0 < int(headers["retry-after-ms"]) <= 30_000
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert len(fake.requests) == 2
    assert samples.total("rate_limit_hits_total", client_id="default", limit="requests_per_minute", mode="refused") == 1
    assert samples.total("rate_limit_allowed_total", client_id="default") == 2


async def test_waiting_as_told_is_enough(fake: FakeOpenAI) -> None:
    """Also for the client library's own retries, which wait as told."""
    async with (
        gateway_of(fake, {"requests_per_minute": 60}) as gateway,
        openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=5) as client,
    ):
        answers = await asyncio.gather(*(client.chat.completions.create(**CHAT, max_tokens=5) for _ in range(62)))

    assert len(answers) == 62


async def test_one_request_that_is_too_large(fake: FakeOpenAI) -> None:
    """It would never be let through: 400, and no wait."""
    async with gateway_of(fake, {"tokens_per_minute": 500}) as gateway, client_of(gateway) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(**CHAT, max_tokens=600)
        await client.chat.completions.create(**CHAT, max_tokens=200)

    assert refused.value.code == "request_exceeds_rate_limit"
    assert "retry-after" not in refused.value.response.headers


ENDINGS: dict[str, tuple[Behaviour | None, bool]] = {
    "answered": (None, True),
    "streamed": (None, True),
    "upstream's error": (fail(400), False),
    "upstream's failure": (fail(500), False),
    "cut stream": (cut(after=2, end=End.RESET), True),
    "no answer": (cut(after=-1, end=End.RESET), False),
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_what_was_not_used_comes_back(name: str, fake: FakeOpenAI) -> None:
    """However a request ends, its tokens are those of its bill, and it is one of those at a time no more."""
    behaviour, is_billed = ENDINGS[name]
    is_stream = "stream" in name
    limits = {"tokens_per_minute": 1000, "concurrent_requests": 1}
    async with gateway_of(fake, limits) as gateway, client_of(gateway) as client:
        if behaviour is not None:
            fake.script.append(behaviour)
        try:
            answer = await client.chat.completions.create(**CHAT, max_tokens=900, stream=is_stream)
            if is_stream:
                async for _ in answer:
                    pass
        except openai.APIError:
            pass
        ended = await gateway.wait_log(logger="gateway.access")
        left = await left_of(client)

    used = ended.get("billed_prompt_tokens", 0) + ended.get("billed_completion_tokens", 0)
    assert (used > 0) is is_billed
    assert used < 60
    assert 1000 - used - 10 - 30 <= left <= 1000 - used - 10 - PROMPT // 2 + 20


@pytest.mark.parametrize("phase", ["before the head", "in the middle"])
async def test_a_client_that_leaves_gives_back(phase: str, fake: FakeOpenAI) -> None:
    """What it held is free again, and what it saw is billed."""
    limits = {"tokens_per_minute": 1000, "concurrent_requests": 1}
    async with gateway_of(fake, limits) as gateway, client_of(gateway) as client:
        fake.script.append(stall(-1 if phase == "before the head" else 3))
        asking = asyncio.create_task(client.chat.completions.create(**CHAT, max_tokens=500, stream=True))
        if phase == "before the head":
            await fake.wait_requests(1)
            asking.cancel()
        else:
            stream = await asking
            await anext(aiter(stream))
            await stream.close()
        await gateway.wait_log(logger="gateway.access", fault="client_gone")
        left = await left_of(client)

    assert left >= 400


async def test_so_many_at_a_time(fake: FakeOpenAI) -> None:
    """Fifty at once against three: three are served, the others told; afterwards three again."""
    behaviours = [stall(-1) for _ in range(3)]
    fake.script.extend(behaviours)
    async with gateway_of(fake, {"concurrent_requests": 3}) as gateway, client_of(gateway) as client:
        asked = [asyncio.create_task(client.chat.completions.create(**CHAT)) for _ in range(50)]
        done, _ = await asyncio.wait(asked, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 47:
            done, _ = await asyncio.wait(asked, timeout=0.05)
        for behaviour in behaviours:
            behaviour.release.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
        again = await asyncio.gather(*(client.chat.completions.create(**CHAT) for _ in range(3)))

    refused = [each for each in results if isinstance(each, openai.RateLimitError)]
    assert (len(refused), len(again)) == (47, 3)
    assert {each.type for each in refused} == {"requests"}


async def test_a_burst_is_held_to_the_limit(fake: FakeOpenAI) -> None:
    """Fifty clients of one key at once: no more tokens than the bucket holds and refills meanwhile are let through."""
    limit, answer = 3000, 60
    fake.answer = lambda _: "word " * answer
    loop = asyncio.get_running_loop()
    async with gateway_of(fake, {"tokens_per_minute": limit}) as gateway:
        began_s = loop.time()

        async def ask(number: int) -> int:
            async with client_of(gateway) as client:
                used = 0
                for _ in range(4):
                    try:
                        done = await client.chat.completions.create(**CHAT, max_tokens=answer + 5, user=str(number))
                    except openai.RateLimitError:
                        continue
                    used += done.usage.total_tokens
                return used

        used = sum(await asyncio.gather(*map(ask, range(50))))
        took_s = loop.time() - began_s
        overshoot = (await gateway.metrics()).total("rate_limit_overshoot_tokens_total")
    fake.answer = None
    bound = limit + limit * took_s / 60 + overshoot
    print(f"200 requests of 50 clients in {took_s:.1f} s: {used} tokens let through, bound {bound:.0f}, limit {limit}")

    assert 0.5 * limit < used <= bound


async def test_shadow_refuses_nobody(fake: FakeOpenAI) -> None:
    """And says whom it would have refused."""
    limits = {"requests_per_minute": 1, "tokens_per_minute": 100_000, "shadow": True}
    async with gateway_of(fake, limits) as gateway, client_of(gateway) as client:
        raws = [await client.chat.completions.with_raw_response.create(**CHAT, max_tokens=5) for _ in range(3)]
        samples = await gateway.metrics()

    assert "1" not in {raw.headers["x-ratelimit-limit-requests"] for raw in raws}  # they are the upstream's
    assert samples.total("rate_limit_hits_total", limit="requests_per_minute", mode="shadow") == 2
    assert samples.total("rate_limit_allowed_total") == 3


async def test_an_upstreams_own_limits_are_told_unless_the_client_has_some(fake: FakeOpenAI) -> None:
    """Two sources of one header would be one too many."""
    fake.script.append(fail(400, x_ratelimit_remaining_tokens="77"))
    fake.script.append(fail(400, x_ratelimit_remaining_tokens="77"))
    told = []
    for limits in ([], [{"tokens_per_minute": 5000}]):
        async with gateway_of(fake, *limits) as gateway, client_of(gateway) as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(**CHAT, max_tokens=5)
            told.append(refused.value.response.headers.get_list("x-ratelimit-remaining-tokens"))

    assert told[0] == ["77"]
    assert len(told[1]) == 1
    assert told[1] != ["77"]


async def test_a_reload_refills_nothing(fake: FakeOpenAI) -> None:
    """Limits outlive the configuration that they stand in; a new amount is a new limit."""
    async with gateway_of(fake, {"requests_per_minute": 1}) as gateway, client_of(gateway) as client:
        await client.chat.completions.create(**CHAT)
        since = len(gateway.logs)
        gateway.write_config(gateway.config_file.read_text() + " ")
        await gateway.wait_log(message="configuration applied", timeout_s=20, since=since)
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(**CHAT)


async def test_days_and_money(fake: FakeOpenAI) -> None:
    """A day's tokens and a day's cost, by the prices of the configuration."""
    prices = {"gpt-4o": {"input": 1000, "output": 1000}}
    money = {"model": "gpt-4o", "cost_per_day_usd": 0.5}
    day = {"model": "o3*", "tokens_per_day": 400}
    refusals = {}
    async with gateway_of(fake, money, day, prices=prices) as gateway, client_of(gateway) as client:
        for model in ("gpt-4o", "o3-mini"):
            for _ in range(60):
                try:
                    await client.chat.completions.create(**{**CHAT, "model": model}, max_completion_tokens=200)
                except openai.RateLimitError as refused:
                    refusals[model] = refused
                    break

    assert "cost per day (USD): Limit 0.5" in refusals["gpt-4o"].message
    assert "tokens per day (TPD): Limit 400" in refusals["o3-mini"].message
    assert int(refusals["gpt-4o"].response.headers["retry-after"]) <= 86_400


async def test_each_client_has_its_own(fake: FakeOpenAI) -> None:
    """By name where there are clients, by key where each brings its own; and calls that are passed through count."""
    clients = [{"name": name, "key_sha256": hashlib.sha256(name.encode()).hexdigest()} for name in ("app", "batch")]
    async with (
        gateway_of(fake, {"client": "app", "requests_per_minute": 1}, clients=clients) as gateway,
        client_of(gateway, "app") as app,
        client_of(gateway, "batch") as batch,
    ):
        await app.models.list()
        with pytest.raises(openai.RateLimitError):
            await app.chat.completions.create(**CHAT)
        for _ in range(3):
            await batch.chat.completions.create(**CHAT)
    async with gateway_of(fake, {"requests_per_minute": 1}) as gateway:
        for key in ("sk-one", "sk-two"):
            async with client_of(gateway, key) as client:
                await client.chat.completions.create(**CHAT)
        async with (
            aiohttp.ClientSession(headers={"Authorization": "Bearer sk-one"}) as session,
            session.post(f"{gateway.base_url}/embeddings", json={"model": "m", "input": "x"}) as answer,
        ):
            status = answer.status

    assert status == 429


async def test_briefs_are_charged(fake: FakeOpenAI) -> None:
    """What the summariser takes for a client's chat is taken of its limits."""
    fake.tokenizer, fake.summary = count, lambda _: '{"facts": ["they counted"]}'
    messages = [{"role": "user", "content": f"{number} " + "many words " * 40} for number in range(60)]
    summarizer = {"deadline_seconds": 8, "max_retries": 0}
    limits = {"tokens_per_minute": 100_000}
    async with gateway_of(fake, limits, token_budget=BUDGET, summarizer=summarizer) as gateway:
        async with client_of(gateway) as client:
            await left_of(client, messages=messages)
            left = await left_of(client)
        samples = await gateway.metrics()
    fake.summary = None
    summary = samples.total("summarizer_tokens_total")

    assert summary > 500
    assert left < 100_000 - summary - 500
