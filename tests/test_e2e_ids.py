"""What lives at one of several upstreams is asked for there, by whatever process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import Behaviour, FakeOpenAI, Recorded, Reply, fail
from tests.gateway_process import GatewayProcess, Json, config_for, upstream_for

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def fakes() -> AsyncIterator[list[FakeOpenAI]]:
    first, second = FakeOpenAI(name="first"), FakeOpenAI(name="second")
    async with first, second:
        yield [first, second]


def gateway_of(fakes: list[FakeOpenAI], **sections: Any) -> GatewayProcess:
    upstreams = [upstream_for(fake, priority=place, retries={"max": 0}) for place, fake in enumerate(fakes)]
    return GatewayProcess({**config_for(), "upstreams": upstreams, **sections})


def client_of(gateway: GatewayProcess) -> Any:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0)


def says(told: Json, path: str) -> Behaviour:
    """The answer to a call of this path."""
    reply = Reply([json.dumps(told).encode()])

    def is_asked(seen: Recorded) -> bool:
        return seen.raw_path.partition("?")[0] == path

    return Behaviour(reply=reply, when=is_asked)


def paths_of(fake: FakeOpenAI) -> list[str]:
    return [f"{seen.method} {seen.raw_path.partition('?')[0]}" for seen in fake.requests]


async def test_a_file_and_the_batch_that_reads_it(fakes: list[FakeOpenAI]) -> None:
    """Uploaded where the first upstream failed, so all that follows from it goes to the second."""
    first, second = fakes
    first.script.append(fail(503))
    batch = {"id": "batch_abc123", "object": "batch", "input_file_id": "", "output_file_id": "file-result1234"}
    second.script.append(says(batch, "/v1/batches"))
    async with gateway_of(fakes) as gateway, client_of(gateway) as client:
        made = await client.responses.create(model="gpt-4o", input="one")
        await client.responses.create(model="gpt-4o", input="two", previous_response_id=made.id)
        await client.responses.retrieve(made.id)
        await client.responses.delete(made.id)
        uploaded = await client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
        batched = await client.batches.create(input_file_id=made.id, endpoint="/v1/responses", completion_window="24h")
        with pytest.raises(openai.NotFoundError):  # the fake has none; who was asked is what counts
            await client.files.content(batched.output_file_id)
        await client.files.retrieve(uploaded.id)

    assert paths_of(first) == ["POST /v1/responses", "POST /v1/files", f"GET /v1/files/{uploaded.id}"]
    assert paths_of(second) == [
        "POST /v1/responses",
        "POST /v1/responses",
        f"GET /v1/responses/{made.id}",
        f"DELETE /v1/responses/{made.id}",
        "POST /v1/batches",
        "GET /v1/files/file-result1234/content",
    ]


async def test_a_streamed_response(fakes: list[FakeOpenAI]) -> None:
    """Its id is in the first event."""
    first, second = fakes
    first.script.append(fail(503))
    async with gateway_of(fakes) as gateway, client_of(gateway) as client:
        stream = await client.responses.create(model="gpt-4o", input="one", stream=True)
        (ident,) = [event.response.id async for event in stream if event.type == "response.created"]
        await client.responses.create(model="gpt-4o", input="two", previous_response_id=ident)

    assert paths_of(first) == ["POST /v1/responses"]
    assert paths_of(second) == ["POST /v1/responses"] * 2


async def test_a_body_that_was_read_for_it_arrives_whole(fakes: list[FakeOpenAI]) -> None:
    """Small JSON of paths that pass through, byte for byte, with its length."""
    body = b'{ "input_file_id" : "file-unknown123",\n "x": "\xc3\xa9" }'
    async with gateway_of(fakes) as gateway, client_of(gateway) as client:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        await client._client.post(f"{gateway.base_url}/batches", content=body, headers=headers)

    assert [seen.body for seen in fakes[0].requests] == [body]
    assert fakes[0].requests[0].header("content-length") == str(len(body))
    assert [name.lower() for name, _ in fakes[0].requests[0].headers].count("content-length") == 1


async def test_other_processes_know(fakes: list[FakeOpenAI], tmp_path: Path) -> None:
    """What is kept in the state store outlives a restart."""
    first, _ = fakes
    first.script.append(fail(503))
    state = {"url": f"sqlite://{tmp_path / 'state.db'}"}
    async with gateway_of(fakes, state=state) as gateway, client_of(gateway) as client:
        made = await client.responses.create(model="gpt-4o", input="one")
    async with gateway_of(fakes, state=state) as gateway, client_of(gateway) as client:
        await client.responses.retrieve(made.id)

    assert paths_of(fakes[1])[-1] == f"GET /v1/responses/{made.id}"


async def test_a_home_that_is_gone(fakes: list[FakeOpenAI], tmp_path: Path) -> None:
    """An upstream that is not configured any more is nobody's home: the others are asked as usual."""
    first, second = fakes
    first.script.append(fail(503))
    state = {"url": f"sqlite://{tmp_path / 'state.db'}"}
    async with gateway_of(fakes, state=state) as gateway, client_of(gateway) as client:
        made = await client.responses.create(model="gpt-4o", input="one")
    third = FakeOpenAI(name="third")
    async with third, gateway_of([first, third], state=state) as gateway, client_of(gateway) as client:
        await client.responses.retrieve(made.id)

    assert paths_of(first)[-1] == f"GET /v1/responses/{made.id}"
    assert paths_of(second) == ["POST /v1/responses"]
