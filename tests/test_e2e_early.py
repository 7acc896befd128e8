"""A pause in a real gateway: the chat fits, its cache is cold, and so it is compacted; one that is warm is not."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, config_for, upstream_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
CACHE_S = 0.2
BUDGET = {"max_total": 4000, "running_brief": 400, "recent_turns": 300, "retrieved_context": 300, "completion": 200}


def history(turns: int) -> list[Json]:
    messages: list[Json] = [{"role": "system", "content": "You help."}]
    for turn in range(turns):
        messages.append({"role": "user", "content": f"What is there to say of day {turn}? I wondered all morning."})
        messages.append({"role": "assistant", "content": f"Day {turn} was as good as any other, and so it went. " * 4})
    return [*messages, {"role": "user", "content": f"What is there to say of day {turns}? I wondered all morning."}]


async def ask(session: aiohttp.ClientSession, gateway: GatewayProcess, model: str, turns: int) -> Json:
    """What the gateway did, as its receipt says."""
    body = {"model": model, "messages": history(turns)}
    headers = {"Authorization": f"Bearer {KEY}-{model}", "x-gateway-explain": "1"}  # clients share no brief
    async with session.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers) as answer:
        assert answer.status == 200
        receipt: Json = json.loads(answer.headers["x-gateway-receipt"])
    return receipt


async def test_a_pause_is_used_where_the_cache_is_cold_by_then() -> None:
    """The upstream that forgets soon gets a compacted prompt after the pause, the other the client's own."""
    async with FakeOpenAI() as fake:
        upstreams = [
            upstream_for(fake, name="forgets", models=["soon-*"], cache_seconds=CACHE_S),
            upstream_for(fake, name="remembers", models=["late-*"], cache_seconds=3600),
        ]
        config = config_for(
            token_budget=BUDGET,
            summarizer={"endpoint": ""},
            compaction={"early": True, "keep_value": 0.1},
            prices={"soon-*": {"input": 2.5, "cached_input": 0.25}},
        )
        async with GatewayProcess({**config, "upstreams": upstreams}) as gateway, aiohttp.ClientSession() as session:
            first = [await ask(session, gateway, model, 40) for model in ("soon-1", "late-1")]
            await asyncio.sleep(2 * CACHE_S)
            paused, warm = [await ask(session, gateway, model, 41) for model in ("soon-1", "late-1")]
            samples = await gateway.metrics()

    assert [receipt["level"] for receipt in first] == ["none", "none"]
    assert (paused["has_overflowed"], paused["is_fresh"], paused["cause"]) == (False, True, "gain")
    assert paused["prompt_tokens"] < 0.9 * paused["client_tokens"]
    assert (warm["level"], warm["cause"]) == ("none", None)
    assert samples.total("compactions_fresh_total", why="gain", model="soon-1") == 1
    assert samples.total("compactions_fresh_total") == 1
