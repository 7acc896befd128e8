"""Through the gateway, OpenAI's own client sees what it sees without it: objects, streams, files and exceptions.

The upstream is deterministic, so each call is made twice, once to the upstream itself, and the results compared.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import reduce
from typing import Any

import openai
import pytest

from tests.conftest import KEY
from tests.fakes.openai_server import Behaviour, FakeOpenAI, fail, rate_limited

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Æ one 漢字 two 😀"}]
CHAT: Json = {"model": "gpt-4o", "messages": MESSAGES}
WEATHER = [{"role": "user", "content": "Compare the weather in Paris and London"}]
ONE_CITY = [{"role": "user", "content": "How is the weather in Paris?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA, "strict": True}}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
TOOL_LOOP = [
    *ONE_CITY,
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
]
PARTS = [{"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
USAGE = {"include_usage": True}
COMPLETION: Json = {"model": "gpt-3.5-turbo-instruct", "prompt": "Say it again"}
RESPONSE: Json = {"model": "gpt-4o", "input": "Say this once more"}
RESPONSE_TOOLS = [{"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}]
RESPONSE_LOOP = [
    {"role": "user", "content": "weather in Oslo"},
    {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "rain"},
]
EMBEDDING: Json = {"model": "text-embedding-3-small", "input": ["one", "two words"]}

CALLS: dict[str, tuple[str, Json]] = {
    "chat": ("chat.completions.create", CHAT),
    "chat streamed": ("chat.completions.create", {**CHAT, "stream": True}),
    "chat streamed with usage": ("chat.completions.create", {**CHAT, "stream": True, "stream_options": USAGE}),
    "chat streamed without padding": (
        "chat.completions.create",
        {**CHAT, "stream": True, "stream_options": {"include_obfuscation": False}},
    ),
    "tool call": ("chat.completions.create", {**CHAT, "messages": ONE_CITY, "tools": TOOLS}),
    "tool call streamed": ("chat.completions.create", {**CHAT, "messages": ONE_CITY, "tools": TOOLS, "stream": True}),
    "parallel tool calls": ("chat.completions.create", {**CHAT, "messages": WEATHER, "tools": TOOLS}),
    "parallel tool calls streamed": (
        "chat.completions.create",
        {**CHAT, "messages": WEATHER, "tools": TOOLS, "stream": True, "stream_options": USAGE},
    ),
    "tool results": ("chat.completions.create", {**CHAT, "messages": TOOL_LOOP, "tools": TOOLS}),
    "two choices": ("chat.completions.create", {**CHAT, "n": 2}),
    "two choices streamed": ("chat.completions.create", {**CHAT, "n": 2, "stream": True}),
    "every option": (
        "chat.completions.create",
        {
            **CHAT,
            "logprobs": True,
            "top_logprobs": 3,
            "seed": 7,
            "temperature": 0.2,
            "top_p": 0.9,
            "stop": ["\n"],
            "logit_bias": {"50256": -100},
            "max_completion_tokens": 5,
            "metadata": {"a": "b"},
            "user": "u-1",
            "extra_body": {"no_such_option": {"nested": [1, 2.50, None]}},
        },
    ),
    "response_format": ("chat.completions.create", {**CHAT, "response_format": FORMAT}),
    "image parts": ("chat.completions.create", {**CHAT, "messages": [{"role": "user", "content": PARTS}]}),
    "completion": ("completions.create", COMPLETION),
    "completion streamed": ("completions.create", {**COMPLETION, "stream": True}),
    "completion of several prompts": ("completions.create", {**COMPLETION, "prompt": ["a", "b c"], "n": 1}),
    "response": ("responses.create", RESPONSE),
    "response streamed": ("responses.create", {**RESPONSE, "stream": True}),
    "response with a tool call": (
        "responses.create",
        {**RESPONSE, "input": "weather in Paris", "tools": RESPONSE_TOOLS},
    ),
    "response with a tool call streamed": (
        "responses.create",
        {**RESPONSE, "input": "weather in Paris", "tools": RESPONSE_TOOLS, "stream": True},
    ),
    "response to tool results": ("responses.create", {**RESPONSE, "input": RESPONSE_LOOP}),
    "embeddings": ("embeddings.create", EMBEDDING),
    "embeddings as floats": ("embeddings.create", {**EMBEDDING, "encoding_format": "float", "dimensions": 4}),
    "embeddings of tokens": ("embeddings.create", {**EMBEDDING, "input": [[1, 2, 3], [4]]}),
    "models": ("models.list", {}),
    "model": ("models.retrieve", {"model": "gpt-4o-mini"}),
}


def method(client: Any, path: str) -> Callable[..., Any]:
    return reduce(getattr, path.split("."), client)


def plain(value: Any) -> Any:
    """What a result says, whatever object it is."""
    return value.model_dump() if hasattr(value, "model_dump") else value


async def call(client: Any, path: str, arguments: Json) -> list[Any]:
    """All that the asynchronous client returns: one object, or the items of a stream or page."""
    found = method(client, path)(**arguments)
    result = await found if inspect.isawaitable(found) else found
    return [plain(one) async for one in result] if hasattr(result, "__aiter__") else [plain(result)]


def call_sync(client: Any, path: str, arguments: Json) -> list[Any]:
    """The same with the synchronous client."""
    result = method(client, path)(**arguments)
    is_many = isinstance(result, openai.Stream) or path == "models.list"
    return [plain(one) for one in result] if is_many else [plain(result)]


@pytest.mark.parametrize("name", CALLS)
async def test_async_client_gets_the_same(name: str, via: Any, direct: Any) -> None:
    path, arguments = CALLS[name]
    wanted = await call(direct, path, arguments)

    assert await call(via, path, arguments) == wanted


@pytest.mark.parametrize("name", CALLS)
async def test_sync_client_gets_the_same(name: str, via_sync: Any, direct_sync: Any) -> None:
    path, arguments = CALLS[name]
    wanted = await asyncio.to_thread(call_sync, direct_sync, path, arguments)

    assert await asyncio.to_thread(call_sync, via_sync, path, arguments) == wanted


@pytest.mark.parametrize("name", [name for name in CALLS if not name.startswith("model")])
async def test_upstream_gets_the_same_body(name: str, via: Any, direct: Any, upstream: FakeOpenAI) -> None:
    """Not a byte of the client's body changes, but for the usage that is asked for in streams."""
    path, arguments = CALLS[name]
    await call(direct, path, arguments)
    await call(via, path, arguments)
    sent, forwarded = upstream.requests
    has_asked = arguments.get("stream") and path != "responses.create" and arguments.get("stream_options") != USAGE

    if has_asked:
        options = {**(sent.json().get("stream_options") or {}), "include_usage": True}
        assert forwarded.json() == {**sent.json(), "stream_options": options}
    else:
        assert forwarded.body == sent.body
    assert forwarded.raw_path == sent.raw_path
    assert forwarded.header("authorization") == f"Bearer {KEY}"
    assert forwarded.header("user-agent") == sent.header("user-agent")


async def test_files(via: Any, upstream: FakeOpenAI) -> None:
    """Upload, list one, download and delete, with content that is no text."""
    content = bytes(range(256)) * 300 + b"\r\n--boundary\r\n\x00"
    made = await via.files.create(file=('naïve "name".bin', content), purpose="assistants")
    seen = await via.files.retrieve(made.id)
    loaded = await via.files.content(made.id)
    gone = await via.files.delete(made.id)

    assert (made.bytes, made.purpose) == (len(content), "assistants")
    assert seen == made
    assert loaded.content == content
    assert gone.deleted
    assert not upstream.files
    with pytest.raises(openai.NotFoundError):
        await via.files.retrieve(made.id)


FAULTS: dict[str, tuple[list[Behaviour], Json, type[openai.APIStatusError]]] = {
    "wrong temperature": ([], {"temperature": "hot"}, openai.BadRequestError),
    "orphan tool result": (
        [],
        {"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]},
        openai.BadRequestError,
    ),
    "unknown model": ([], {"model": "missing-model"}, openai.NotFoundError),
    "forbidden": ([fail(403)], {}, openai.PermissionDeniedError),
    "conflict": ([fail(409)], {}, openai.ConflictError),
    "unprocessable": ([fail(422)], {}, openai.UnprocessableEntityError),
    "rate limit": ([rate_limited(7)], {}, openai.RateLimitError),
    "server error": ([fail(500)], {}, openai.InternalServerError),
    "overloaded": ([fail(503), fail(503), fail(503)], {}, openai.InternalServerError),
    "bad gateway with HTML": ([fail(502, b"<html>Bad Gateway</html>")] * 3, {}, openai.InternalServerError),
}


async def failure(client: Any, arguments: Json) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        await call(client, "chat.completions.create", arguments)
    return caught.value


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", FAULTS)
async def test_errors_are_the_upstream_own(
    name: str, is_stream: bool, via: Any, direct: Any, upstream: FakeOpenAI
) -> None:
    """The same exception, message, code, param and body as when talking to the upstream itself."""
    faults, change, kind = FAULTS[name]
    arguments = {**CHAT, **change, "stream": is_stream}
    upstream.script.extend(faults[:1])
    wanted = await failure(direct, arguments)
    upstream.script.extend(faults)
    found = await failure(via, arguments)

    assert type(found) is type(wanted) is kind
    assert found.status_code == wanted.status_code
    assert (found.message, found.body) == (wanted.message, wanted.body)
    assert (found.code, found.param, found.type) == (wanted.code, wanted.param, wanted.type)
    assert found.response.headers.get("retry-after") == wanted.response.headers.get("retry-after")
    assert found.response.headers["x-gateway-request-id"]
    assert not upstream.script


async def test_a_wrong_key_is_the_upstream_word(via: Any, direct: Any, upstream: FakeOpenAI) -> None:
    upstream.required_key = "sk-another"
    wanted, found = await failure(direct, CHAT), await failure(via, CHAT)

    assert type(found) is type(wanted) is openai.AuthenticationError
    assert found.body == wanted.body


OWN_ERRORS: dict[str, tuple[Json, str]] = {
    "no messages": ({"messages": []}, "messages"),
    "messages of the wrong type": ({"messages": "hello"}, "messages"),
    "unknown role": ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    "no role": ({"messages": [{"content": "x"}]}, "messages[0].role"),
    "stream of the wrong type": ({"stream": "yes"}, "stream"),
    "model of the wrong type": ({"model": 7}, "model"),
    "max_tokens of the wrong type": ({"max_tokens": "many"}, "max_tokens"),
}


@pytest.mark.parametrize("name", OWN_ERRORS)
async def test_own_errors_raise_what_the_upstream_would_raise(
    name: str, via: Any, direct: Any, upstream: FakeOpenAI
) -> None:
    """What the gateway refuses itself is refused by the upstream too, with the same class, type and parameter."""
    change, param = OWN_ERRORS[name]
    wanted, found = await failure(direct, {**CHAT, **change}), await failure(via, {**CHAT, **change})

    assert type(found) is type(wanted) is openai.BadRequestError
    assert found.type == wanted.type == "invalid_request_error"
    assert found.param == param
    assert found.message
    assert len(upstream.requests) == 1


async def test_headers_of_an_answer(via: Any, upstream: FakeOpenAI) -> None:
    """The upstream's headers are visible, its cookies are not, and the gateway adds its own."""
    raw = await via.chat.completions.with_raw_response.create(**CHAT)

    assert raw.headers["x-request-id"].startswith("req_fake")
    assert raw.headers["x-ratelimit-remaining-requests"] == "9999"
    assert raw.headers["openai-organization"] == "org-fake"
    assert "set-cookie" not in raw.headers
    assert raw.headers["x-gateway-upstream"] == "fake"
    assert raw.headers["x-gateway-compaction"] == "none"
    assert raw.headers["x-gateway-tokens-saved"] == "0"
    assert int(raw.headers["x-gateway-tokens-prompt"]) > 8
    assert int(raw.headers["x-gateway-tokens-remaining"]) == 8000 - int(raw.headers["x-gateway-tokens-prompt"])
    assert len(raw.headers["x-gateway-request-id"]) == 32
    assert raw.http_response.http_version == "HTTP/1.1"


async def test_many_at_once(via: Any, direct: Any) -> None:
    """A hundred calls at once, streamed and whole, each with the answer to its own question."""

    async def ask(i: int) -> str:
        messages = [{"role": "user", "content": f"number {i}"}]
        items = await call(
            via, "chat.completions.create", {"model": "gpt-4o", "messages": messages, "stream": i % 2 == 0}
        )
        if i % 2:
            return str(items[0]["choices"][0]["message"]["content"])
        return "".join(item["choices"][0]["delta"]["content"] or "" for item in items)

    answers = await asyncio.gather(*map(ask, range(100)))

    assert answers == [f"You said: number {i}" for i in range(100)]
