"""What an upstream says without having been asked is nobody's answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
import pytest_asyncio

from benchmarks.soak_answers import Call, mark_of, text_of
from tests.conftest import KEY
from tests.gateway_process import GatewayProcess, config_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNASKED = {
    "another answer": (200, b'{"choices": [{"message": {"content": "Not yours."}, "finish_reason": "stop"}]}'),
    "a time-out": (408, b'{"error": {"message": "Not yours."}}'),
}


@dataclass
class Talkative:
    """Answers on connections that it keeps, and says one thing more once it was told to."""

    connections: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if b"chunked" in head:
                    raw = await reader.readuntil(b"\r\n0\r\n\r\n")
                else:
                    raw = await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
                Call(writer.transport, b"", mark_of(raw)).good()  # type: ignore[arg-type]
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def say(self, status: int, body: bytes) -> None:
        """On the newest connection, at once: it is in the gateway's socket when this returns."""
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.connections[-1].write(head.encode() + body)


@pytest.fixture(scope="module")
def upstream() -> Talkative:
    return Talkative()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(upstream: Talkative) -> AsyncIterator[Any]:
    async with await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=2**22) as server:
        config = config_for(token_budget={"max_total": 1_000_000})
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        config["upstreams"] = [{"name": "talkative", "base_url": url, "retries": {"max": 0}}]
        async with (
            GatewayProcess(config) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as made,
        ):
            yield made


async def ask(client: Any, mark: str, filler: str) -> str:
    messages = [{"role": "user", "content": f"{filler}[n={mark}]"}]
    answer = await client.chat.completions.create(model="gpt-4o", messages=messages)
    return str(answer.choices[0].message.content)


@pytest.mark.parametrize("filler", ["", "word " * 80_000], ids=["written at once", "uploaded"])
@pytest.mark.parametrize("name", UNASKED)
async def test_what_comes_unasked_reaches_nobody(name: str, filler: str, client: Any, upstream: Talkative) -> None:
    await ask(client, "before", filler)
    before = len(upstream.connections)
    upstream.say(*UNASKED[name])
    told = [await ask(client, mark, filler) for mark in ("one", "two", "three")]

    assert told == [text_of(mark) for mark in ("one", "two", "three")]
    assert len(upstream.connections) == before + 1


async def test_a_silent_connection_is_used_again(client: Any, upstream: Talkative) -> None:
    await ask(client, "before", "")
    before = len(upstream.connections)
    for mark in ("one", "two", "three"):
        await ask(client, mark, "")

    assert len(upstream.connections) == before
