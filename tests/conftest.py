"""What end-to-end tests share: one fake upstream and one gateway process for all of them.

Both live on the session's event loop; tests that use them are marked `asyncio(loop_scope="session")`. A test that
needs other options, or looks at totals of metrics, starts a gateway of its own.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest_asyncio
from hypothesis import settings

from tests.fakes.openai_rules import Rules
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, config_for

# The same examples in every run, so that a run says something about the change and not about chance;
# HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

KEY = "sk-test-0123456789abcdef"


def forget(fake: FakeOpenAI) -> None:
    """Bring a fake back to its defaults, as if nothing had been asked."""
    for name, value in vars(Rules()).items():
        setattr(fake, name, value)
    for held in (fake.requests, fake.cancelled, fake.script, fake.files, fake.sessions):
        held.clear()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_gateway(shared_fake: FakeOpenAI) -> AsyncIterator[GatewayProcess]:
    """Whatever the tests do to it, it logs no error, writes nothing but log lines, and stops with 0."""
    async with GatewayProcess(config_for(shared_fake)) as gateway:
        yield gateway
        code = await gateway.stop()

        assert code == 0
        assert [log for log in gateway.logs if log["level"] not in ("info", "warning")] == []
        assert len(gateway.lines) == len(gateway.logs)


@pytest_asyncio.fixture(loop_scope="session")
async def upstream(shared_fake: FakeOpenAI) -> FakeOpenAI:
    """The upstream of `shared_gateway`, at its defaults."""
    forget(shared_fake)
    return shared_fake


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def clients(shared_gateway: GatewayProcess, shared_fake: FakeOpenAI) -> AsyncIterator[list[Any]]:
    """The real clients, asynchronous and synchronous, through the gateway and directly; making one takes 0.1 s."""
    urls = (shared_gateway.base_url, shared_fake.base_url)
    kinds: list[Any] = [openai.AsyncOpenAI, openai.OpenAI]
    made = [kind(base_url=url, api_key=KEY, max_retries=0) for kind in kinds for url in urls]
    yield made
    for client in made:
        if (closing := client.close()) is not None:
            await closing


@pytest_asyncio.fixture(loop_scope="session")
async def via(clients: list[Any], upstream: FakeOpenAI) -> Any:
    """The real client, through the gateway; untyped, since tests send it what its types forbid."""
    return clients[0]


@pytest_asyncio.fixture(loop_scope="session")
async def direct(clients: list[Any], upstream: FakeOpenAI) -> Any:
    """The real client, to the upstream itself."""
    return clients[1]


@pytest_asyncio.fixture(loop_scope="session")
async def via_sync(clients: list[Any], upstream: FakeOpenAI) -> Any:
    """The real synchronous client, through the gateway; call it in a thread."""
    return clients[2]


@pytest_asyncio.fixture(loop_scope="session")
async def direct_sync(clients: list[Any], upstream: FakeOpenAI) -> Any:
    """The real synchronous client, to the upstream itself; call it in a thread."""
    return clients[3]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that changes nothing: no decoding, no redirects asked for by tests, no cookies."""
    async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session
