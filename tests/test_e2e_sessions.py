"""Named sessions as applications use them: the real client, a gateway process, and what its upstream receives."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY, forget
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, config_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

FACT = "The locker of Margit Oyelaran has the code 7T-4093."
QUESTION = "What was the code of the locker again?"


@pytest_asyncio.fixture(loop_scope="session")
async def fake(shared_fake: FakeOpenAI) -> FakeOpenAI:
    forget(shared_fake)
    return shared_fake


async def ask(gateway: GatewayProcess, text: str, session: str | None, key: str = KEY) -> Any:
    """One message and nothing else, as a client sends that leaves the history to the gateway; the answer's headers."""
    headers = {"x-gateway-explain": "1"} | ({"x-gateway-session": session} if session else {})
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=[{"role": "user", "content": text}], extra_headers=headers
        )
        return raw.headers


async def delete(gateway: GatewayProcess, name: str, key: str = KEY) -> tuple[int, Any]:
    url = gateway.base_url.removesuffix("/v1") + f"/api/v1/sessions/{name}"
    async with aiohttp.ClientSession() as http, http.delete(url, headers={"Authorization": f"Bearer {key}"}) as answer:
        return answer.status, await answer.json() if answer.status != 204 else await answer.read()


def last_seen(fake: FakeOpenAI) -> list[str]:
    """The contents that the upstream received last."""
    return [message["content"] for message in fake.requests[-1].json()["messages"]]


async def test_a_client_that_sends_only_what_is_new(shared_gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """Its session is reminded of what was said; another client, and another session, are not; DELETE ends it."""
    await ask(shared_gateway, FACT, "trip/1")
    headers = await ask(shared_gateway, QUESTION, "trip/1")
    own = last_seen(fake)
    sent = fake.requests[-1].headers
    others = []
    for session, key in (("trip/1", f"{KEY}-other"), ("trip/2", KEY), (None, KEY)):
        await ask(shared_gateway, QUESTION, session, key)
        others.append(last_seen(fake))
    foreign = await delete(shared_gateway, "trip%2F3", KEY)
    gone = await delete(shared_gateway, "trip%2F1")
    again = await delete(shared_gateway, "trip/1")
    await ask(shared_gateway, QUESTION, "trip/1")

    assert own[0].startswith("<recalled>")
    assert f"1 user: {FACT}" in own[0]
    assert own[1:] == [QUESTION]
    assert not [name for name, _ in sent if name.lower().startswith("x-gateway-")]
    assert others == [[QUESTION]] * 3
    assert headers["x-gateway-compaction"] == "none"
    assert headers["x-gateway-tokens-saved"] == "0"
    assert '"kept_messages":1' in headers["x-gateway-receipt"]
    assert "locker" not in headers["x-gateway-receipt"]
    assert (foreign[0], gone, again[0]) == (404, (204, b""), 404)
    assert foreign[1]["error"]["code"] == "session_not_found"
    assert last_seen(fake) == [QUESTION]


async def test_bad_names_are_refused(shared_gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """With a 400 that says what is expected; other methods on a session are a 405."""
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(shared_gateway, QUESTION, "x" * 129)
    url = shared_gateway.base_url.removesuffix("/v1") + "/api/v1/sessions/trip"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        status = answer.status

    assert refused.value.param == "x-gateway-session"
    assert "1 to 128 printable ASCII characters" in refused.value.message
    assert (await delete(shared_gateway, "x" * 129))[0] == 400
    assert (await delete(shared_gateway, ""))[0] == 404
    assert status == 405
    assert fake.requests == []


async def test_a_session_outlives_the_process(fake: FakeOpenAI, tmp_path: Path) -> None:
    """In a file: the next gateway recalls it, and forgets it for good."""
    config = config_for(fake, state={"url": f"sqlite://{tmp_path / 'state.db'}"})
    async with GatewayProcess(config) as gateway:
        await ask(gateway, FACT, "trip")
    async with GatewayProcess(config) as gateway:
        await ask(gateway, QUESTION, "trip")
        recalled = last_seen(fake)
        gone = await delete(gateway, "trip")
    async with GatewayProcess(config) as gateway:
        await ask(gateway, QUESTION, "trip")

    assert FACT in recalled[0]
    assert gone[0] == 204
    assert last_seen(fake) == [QUESTION]


async def test_sessions_end_by_themselves(fake: FakeOpenAI) -> None:
    """After `journal_ttl_seconds` in which nobody has named them."""
    async with GatewayProcess(config_for(fake, state={"journal_ttl_seconds": 1})) as gateway:
        await ask(gateway, FACT, "trip")
        await ask(gateway, QUESTION, "trip")
        before = last_seen(fake)
        await asyncio.sleep(1.5)
        await ask(gateway, QUESTION, "trip")

    assert FACT in before[0]
    assert last_seen(fake) == [QUESTION]


async def test_a_store_that_fails_costs_no_request(fake: FakeOpenAI, tmp_path: Path) -> None:
    """A file that is another program's: no recall, the answer all the same, and an honest 503 to DELETE."""
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    config = config_for(fake, state={"url": f"sqlite://{path}"})
    async with GatewayProcess(config) as gateway:
        await ask(gateway, FACT, "trip")
        await ask(gateway, QUESTION, "trip")
        status, body = await delete(gateway, "trip")

    assert last_seen(fake) == [QUESTION]
    assert (status, body["error"]["code"]) == (503, "state_unavailable")
