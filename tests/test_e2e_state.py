"""Briefs outlive a gateway's process, and gateways that share a store forward one chat as one gateway would."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from gateway.demo import read_passages
from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI, Recorded
from tests.gateway_process import GatewayProcess, config_for
from tests.redis_server import RedisServer, StallingWire
from tests.small_window import BUDGET, is_summary_request
from tests.test_e2e_compaction import Chat, brief_of, prepare, read_on

pytestmark = pytest.mark.asyncio(loop_scope="session")

TURN_S = 0.12
"""A turn of a real chat takes longer than a change in the store may go unnoticed."""


@pytest_asyncio.fixture(loop_scope="session")
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield prepare(server)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture(params=["sqlite", "redis"])
def state_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'state.db'}"
    url: str = request.getfixturevalue("server").url
    return url


def kept_at(url: str, fake: FakeOpenAI) -> dict[str, Any]:
    """Briefs are made when they are needed, so that no request's summary depends on who was quicker."""
    return config_for(fake, token_budget=BUDGET, state={"url": url}, compaction={"soft_ratio": 1.0})


def client_of(gateway: GatewayProcess) -> Any:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0)


def asked(fake: FakeOpenAI) -> list[Recorded]:
    return [seen for seen in fake.requests if not is_summary_request(seen)]


def stable_part(seen: Recorded) -> bytes:
    body = seen.body
    return body[body.index(b'"messages"') : body.rindex(b'],"max_tokens"')]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_forwards_the_same_bytes(how: signal.Signals, state_url: str, fake: FakeOpenAI) -> None:
    """Stopped or killed: the next process finds the brief, asks no summariser, and goes on where the last one was."""
    async with GatewayProcess(kept_at(state_url, fake)) as gateway, client_of(gateway) as client:
        chat = Chat(client)
        await read_on(chat, 26)
        ident = await brief_id(chat, client)
        gateway.signal(how)
        await gateway.wait_exit()
    last, summaries = asked(fake)[-1], len(list(filter(is_summary_request, fake.requests)))
    async with GatewayProcess(kept_at(state_url, fake)) as gateway, client_of(gateway) as client:
        again = Chat(client)
        again.messages = chat.messages[:-1]
        await again.go_on()
        same = asked(fake)[-1]
        await again.ask("And then?")
        later = asked(fake)[-1]
        url = f"{gateway.admin_url}/api/v1/briefs/{ident}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            shown = await response.json()
        metrics = await gateway.metrics()

    assert brief_of(last.json()["messages"]) is not None
    assert stable_part(same) == stable_part(last)
    assert stable_part(later).startswith(stable_part(last))
    assert len(list(filter(is_summary_request, fake.requests))) == summaries
    assert shown["text"] == brief_of(last.json()["messages"])
    assert metrics.total("state_store_faults_total") == 0
    assert metrics.total("state_store_ignored_total") == 0


async def brief_id(chat: Chat, client: Any) -> str:
    """The id of the brief that stands in the chat's latest prompt."""
    sent = await client.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=chat.messages[:-1], max_tokens=200, tools=[], extra_headers={"x-gateway-explain": "1"}
    )
    ident: str = json.loads(sent.headers["x-gateway-receipt"])["brief"]["id"]
    return ident


async def test_gateways_that_share_a_redis_forward_as_one(server: RedisServer, fake: FakeOpenAI) -> None:
    """Turn by turn through another one: the same bytes as through one alone, and no more summaries."""
    config = kept_at(server.url, fake)
    async with GatewayProcess(kept_at("memory://", fake)) as alone, client_of(alone) as client:
        await read_in_turn([client])
    expected, summaries = list(map(stable_part, asked(fake))), len(fake.requests) - len(asked(fake))
    fake.requests.clear()
    async with (
        GatewayProcess(config) as one, client_of(one) as first, GatewayProcess(config) as two, client_of(two) as second
    ):  # fmt: skip
        await read_in_turn([first, second])
    texts = list(map(stable_part, asked(fake)))
    briefs = {brief_of(seen.json()["messages"]) for seen in asked(fake)} - {None}
    breaks = sum(not after.startswith(before) for before, after in pairwise(texts))

    assert texts == expected
    assert breaks == len(briefs) >= 2
    assert len(fake.requests) - len(texts) == summaries


async def read_in_turn(clients: Sequence[Any]) -> None:
    """A chat of thirty turns, each through the next client, at the pace of real ones."""
    chat = Chat(clients[0])
    for turn, passage in enumerate(read_passages()[:30]):
        chat._client = clients[turn % len(clients)]
        await chat.ask(f"Passage {turn}: {passage}")
        await asyncio.sleep(TURN_S)


async def test_a_redis_that_goes_away_fails_no_request(server: RedisServer, fake: FakeOpenAI) -> None:
    """Stalled, killed, and back: each request is answered, none waits for long, and what is lost is counted."""
    async with StallingWire(server.port) as wire, GatewayProcess(kept_at(wire.url, fake)) as gateway:
        async with client_of(gateway) as client:
            chat = Chat(client)
            await read_on(chat, 20)
            wire.stall()
            await go_on(chat, 20)
            server.kill()
            wire.flow()
            await go_on(chat, 40)
            server.start()
            await gateway.wait_log(message="the state store is back", timeout_s=20)
            await go_on(chat, 60)
        logs = await gateway.wait_logs(44, endpoint="chat_completions")
        metrics = await gateway.metrics()
    with server.client() as client:
        kept = client.keys("llm-gateway:brief:*")

    assert all(log["status"] == 200 for log in logs)
    assert max(log["duration_ms"] for log in logs) < 1500
    assert brief_of(asked(fake)[-1].json()["messages"]) is not None
    assert metrics.total("state_store_faults_total", reason="slow") >= 1
    assert metrics.total("state_store_faults_total", reason="down") >= 1
    assert kept != []


async def go_on(chat: Chat, first: int) -> None:
    for number, passage in enumerate(read_passages()[first : first + 8], first):
        await chat.ask(f"Passage {number}: {passage}")
