"""A stream through the gateway is, byte for byte, the stream that the upstream would have sent without it.

When the gateway asked for usage and the client did not, what that question brought is cut out; the bill is known
nevertheless. A stream that the upstream did not end as one ends is closed by an error event.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from tests.fakes.openai_server import FakeOpenAI, cut, no_done, raw, stall
from tests.gateway_process import GatewayProcess, config_for
from tests.sse_vectors import VECTORS, Vector

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Æ one 漢字 two 😀"}]
CHAT: Json = {"model": "gpt-4o", "messages": MESSAGES, "stream": True}
WEATHER: Json = {
    **CHAT,
    "messages": [{"role": "user", "content": "Compare the weather in Paris and London"}],
    "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}],
}
COMPLETION: Json = {"model": "gpt-3.5-turbo-instruct", "prompt": "Say it", "stream": True}
RESPONSE: Json = {"model": "gpt-4o", "input": "Say it", "stream": True}
USAGE: Json = {"stream_options": {"include_usage": True}}
BODIES: dict[str, tuple[str, Json]] = {
    "chat": ("/chat/completions", CHAT),
    "chat with usage": ("/chat/completions", {**CHAT, **USAGE}),
    "chat, usage declined": ("/chat/completions", {**CHAT, "stream_options": {"include_usage": False}}),
    "chat, options null": ("/chat/completions", {**CHAT, "stream_options": None}),
    "chat, no padding": ("/chat/completions", {**CHAT, "stream_options": {"include_obfuscation": False}}),
    "chat, two choices": ("/chat/completions", {**CHAT, "n": 2}),
    "chat, tools": ("/chat/completions", WEATHER),
    "chat, tools with usage": ("/chat/completions", {**WEATHER, **USAGE}),
    "chat, cut by length": ("/chat/completions", {**CHAT, "max_tokens": 2}),
    "completions": ("/completions", COMPLETION),
    "completions with usage": ("/completions", {**COMPLETION, **USAGE}),
    "responses": ("/responses", RESPONSE),
    "responses, tools": (
        "/responses",
        {**RESPONSE, "input": "weather in Oslo", "tools": [{"type": "function", "name": "f", "parameters": {}}]},
    ),
}
ENDPOINTS = {"chat": "chat", "completions": "completions", "responses": "responses"}


async def post(
    web: aiohttp.ClientSession, base_url: str, path: str, body: Json, **headers: str
) -> tuple[aiohttp.ClientResponse, bytes]:
    async with web.post(base_url + path, json=body, headers=headers) as response:
        return response, await response.read()


@pytest.mark.parametrize("name", BODIES)
async def test_bytes_are_the_upstream_own(
    name: str, web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """And the bill is the upstream's usage, whether the client asked for it or not."""
    path, body = BODIES[name]
    _, wanted = await post(web, upstream.base_url, path, body)
    response, found = await post(web, shared_gateway.base_url, path, body)
    settled = await shared_gateway.settled(response.headers)
    asked = {**body, "stream": False, "stream_options": None}
    _, whole = await post(web, upstream.base_url, path, asked)
    usage = json.loads(whole)["usage"]

    assert found == wanted
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert settled["is_estimated"] is False
    assert settled["billed_prompt_tokens"] == usage.get("prompt_tokens", usage.get("input_tokens"))
    assert settled["billed_completion_tokens"] == usage.get("completion_tokens", usage.get("output_tokens"))


def split(data: bytes, how: str) -> list[bytes]:
    """A stream's bytes as an upstream may happen to send them."""
    if how == "whole":
        return [data]
    if how == "lines":
        return re.findall(rb"[^\r\n]*[\r\n]+|[^\r\n]+", data)
    chance = random.Random(len(data))
    most = 7 if len(data) < 5000 else 70_000
    pieces, at = [], 0
    while at < len(data):
        size = chance.randint(1, most)
        pieces.append(data[at : at + size])
        at += size
    return pieces


def without_error(found: bytes) -> tuple[bytes, Json | None]:
    """What was forwarded, and the error event that the gateway may have put at the end."""
    matched = re.fullmatch(rb"(?s)(.*)\n\n(?:event: error\n)?data: (\{[^\n]*The upstream failed[^\n]*\})\n\n", found)
    return (matched[1], json.loads(matched[2])) if matched else (found, None)


def has_end(vector: Vector) -> bool:
    """Whether anything in the stream says that it is complete."""
    said = [json_of(data) for _, data in vector.events]
    finished = [one for one in said if isinstance(one, dict) and any_finish(one)]
    tail = vector.raw.rstrip(b"\r\n").endswith(b"data: [DONE]")
    return any(data.strip() == "[DONE]" for _, data in vector.events) or tail or bool(finished)


def any_finish(said: Json) -> bool:
    if said.get("type") == "response.completed" or said.get("error"):
        return True
    return any(isinstance(choice, dict) and choice.get("finish_reason") for choice in said.get("choices") or ())


def json_of(data: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


@pytest.mark.parametrize("how", ["whole", "lines", "pieces"])
@pytest.mark.parametrize("vector", [vector for vector in VECTORS if vector.raw], ids=lambda vector: vector.name)
async def test_vector_passes(
    vector: Vector, how: str, web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """Raw where the client asked for usage; without what usage brings where only the gateway did."""
    path, body = {"chat": ("/chat/completions", CHAT), "completions": ("/completions", COMPLETION)}.get(
        vector.kind, ("/responses", RESPONSE)
    )
    wanted = vector.raw if vector.without_usage is None else vector.without_usage
    is_ended, is_within_event = has_end(vector), not vector.raw.endswith((b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n"))
    upstream.script.extend([raw(split(vector.raw, how)), raw(split(vector.raw, how))])
    asked, is_cut = await post_partly(web, shared_gateway.base_url + path, {**body, **USAGE})
    unasked, _ = await post_partly(web, shared_gateway.base_url + path, body)
    asked, error = without_error(asked)
    unasked, _ = without_error(unasked)

    assert asked == vector.raw
    assert is_cut == (is_within_event and not is_ended)
    assert (error is not None) == (not is_ended and not is_cut)
    if is_ended:
        assert unasked == wanted
    else:  # an unfinished event at the end of a broken stream is no event, and goes
        assert wanted.startswith(unasked)
        assert b"\n\n" not in wanted[len(unasked) :].strip()


async def post_partly(web: aiohttp.ClientSession, url: str, body: Json) -> tuple[bytes, bool]:
    """What came of a stream, and whether it broke off; nothing where it never began and the answer is an error."""
    found = b""
    async with web.post(url, json=body) as response:
        if response.status == 502:
            return b"", False
        try:
            async for chunk in response.content.iter_any():
                found += chunk
        except aiohttp.ClientPayloadError:
            return found, True
    return found, False


async def test_first_event_is_not_held(
    web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """Each event is through before the next one is sent."""
    for count in (1, 2, 3):
        behaviour = stall(count)
        upstream.script.append(behaviour)
        async with web.post(shared_gateway.base_url + "/chat/completions", json=CHAT) as response:
            found = b""
            while found.count(b"\n\n") < count:
                found += await response.content.readany()
            behaviour.release.set()
            rest = await response.content.read()

        assert found.count(b"\n\n") == count
        assert rest.endswith(b"data: [DONE]\n\n")


async def test_stream_without_done_is_whole_after_a_finish_reason(via: Any, upstream: FakeOpenAI) -> None:
    """Some servers never send [DONE]."""
    upstream.script.append(no_done())
    stream = await via.chat.completions.create(**CHAT)
    chunks = [chunk async for chunk in stream]

    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("asks", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses"])
async def test_cut_stream_ends_in_an_error_event(
    path: str, asks: bool, web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """In the form that the endpoint's clients read, after all that did arrive."""
    body = {"/chat/completions": CHAT, "/completions": COMPLETION, "/responses": RESPONSE}[path]
    body = {**body, **(USAGE if asks and path != "/responses" else {})}
    _, wanted = await post(web, upstream.base_url, path, body)
    upstream.script.append(cut(after=3))
    response, found = await post(web, shared_gateway.base_url, path, body)
    before, error = without_error(found)
    settled = await shared_gateway.settled(response.headers)

    assert wanted.startswith(before)
    assert before.count(b"\n\n") == 3 or before.count(b"\n\n") == 2
    assert error is not None
    assert error["error"]["code"] == "upstream_error"
    assert set(error["error"]) == {"message", "type", "param", "code"}
    if path == "/responses":
        assert (error["type"], error["code"]) == ("error", "upstream_error")
    assert settled["fault"] == "cut"
    assert settled["is_estimated"] is True


async def test_error_event_of_the_upstream_is_the_last_word(via: Any, upstream: FakeOpenAI) -> None:
    event = b'data: {"error":{"message":"I am overloaded","type":"server_error","param":null,"code":"busy"}}\n\n'
    upstream.script.append(raw([event]))
    stream = await via.chat.completions.create(**CHAT)
    with pytest.raises(openai.APIError, match="I am overloaded"):
        [chunk async for chunk in stream]


@pytest_asyncio.fixture(loop_scope="session")
async def old_server() -> AsyncIterator[tuple[GatewayProcess, FakeOpenAI]]:
    """An upstream that knows no stream_options, with a gateway that has not met it yet."""
    async with FakeOpenAI(reject_stream_options=True, name="old") as fake, GatewayProcess(config_for(fake)) as gateway:
        yield gateway, fake


async def test_upstream_that_refuses_stream_options(
    web: aiohttp.ClientSession, old_server: tuple[GatewayProcess, FakeOpenAI]
) -> None:
    """The first refusal is not the client's; from then on usage is not asked for, and the bill is estimated."""
    gateway, fake = old_server
    _, wanted = await post(web, fake.base_url, "/chat/completions", CHAT)
    fake.requests.clear()
    found = [await post(web, gateway.base_url, "/chat/completions", CHAT) for _ in range(3)]
    settled = await gateway.settled(found[-1][0].headers)
    asked, _ = await post(web, gateway.base_url, "/chat/completions", {**CHAT, **USAGE})
    options = ["stream_options" in seen.json() for seen in fake.requests]

    assert [body for _, body in found] == [wanted] * 3
    assert options == [True, False, False, False, True]
    assert settled["is_estimated"] is True
    assert settled["billed_completion_tokens"] > 5
    assert asked.status == 400


async def test_a_refusal_that_only_quotes_stream_options_teaches_nothing(
    web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """A 400 that is repeated without the option was about something else."""
    body = {**CHAT, "messages": [{"role": "stream_options", "content": "include_usage"}], "temperature": "hot"}
    body["messages"] = [{"role": "tool", "tool_call_id": "stream_options", "content": "x"}]
    refused, _ = await post(web, shared_gateway.base_url, "/chat/completions", {**body, "stop": "stream_options"})
    response, _ = await post(web, shared_gateway.base_url, "/chat/completions", CHAT)

    assert refused.status == 400
    assert "stream_options" in upstream.requests[-1].json()
    assert response.status == 200


async def test_refused_stream_is_json(
    web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """A request for a stream that the upstream refuses gets the upstream's own JSON, and no events."""
    response, found = await post(web, shared_gateway.base_url, "/chat/completions", {**CHAT, "temperature": "hot"})

    assert response.status == 400
    assert response.headers["content-type"] == "application/json"
    assert json.loads(found)["error"]["param"] == "temperature"
