"""The fake OpenAI behaves as the real one, driven by OpenAI's own client; vectors say what they should."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from yarl import URL

from tests.fakes.openai_server import (
    Behaviour,
    End,
    FakeOpenAI,
    cut,
    error_event,
    fail,
    no_done,
    rate_limited,
    raw,
    reset,
    slow,
    stall,
)
from tests.sse_vectors import ENVELOPE, VECTORS, Vector

Json = dict[str, Any]

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one two three"}]
CHAT: Json = {"model": "gpt-4o", "messages": ASKED}
STREAM: Json = {**CHAT, "stream": True}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
USER = {"role": "user", "content": "hi"}
CALLS = {
    "role": "assistant",
    "tool_calls": [{"id": "a", "type": "function"}, {"id": "b", "type": "function"}],
}
RESULT_A, RESULT_B = ({"role": "tool", "tool_call_id": call, "content": "ok"} for call in "ab")


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest.fixture
async def client(fake: FakeOpenAI) -> AsyncIterator[Any]:
    """The real client; untyped, since the tests send it what its types forbid."""
    async with openai.AsyncOpenAI(base_url=fake.base_url, api_key="sk-test", max_retries=0) as real:
        yield real


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def post(http: aiohttp.ClientSession, fake: FakeOpenAI, body: Json, path: str = "/chat/completions") -> bytes:
    async with http.post(fake.base_url + path, json=body) as response:
        return await response.read()


# The vectors


def parse_whole(stream: bytes) -> list[tuple[str, str]]:
    """The specification's algorithm over a whole stream, with nothing clever in it."""
    events, event, data = [], "", ""
    for line in re.split(r"\r\n|\r|\n", stream.decode("utf-8", "replace").removeprefix("\ufeff"))[:-1]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "" and data:
            events.append((event or "message", data[:-1]))
        if line == "":
            event, data = "", ""
        elif name == "event":
            event = value
        elif name == "data":
            data += value + "\n"
    return events


def drop_usage(data: str) -> Any:
    """What an event says without usage: parsed JSON, the text if it is none, or None if nothing is left."""
    try:
        said = json.loads(data)
    except ValueError:
        return data
    if isinstance(said, dict) and said.get("usage", 0) is None:
        del said["usage"]
    if isinstance(said, dict) and said.get("choices") == [] and isinstance(said.get("usage"), dict):
        others = [key for key in said.keys() - {"choices", "usage"} - ENVELOPE if said[key] is not None]
        return said if others else None
    return "null" if said is None else said


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_vector_says_what_the_specification_says(vector: Vector) -> None:
    assert parse_whole(vector.raw) == vector.events


@pytest.mark.parametrize("vector", [v for v in VECTORS if v.without_usage is not None], ids=lambda v: v.name)
def test_vector_without_usage_says_the_same_but_for_usage(vector: Vector) -> None:
    """By meaning: the same events, less usage. By bytes: only cuts, nothing added or moved."""
    assert vector.without_usage is not None
    left = [(event, json_or_text(data)) for event, data in parse_whole(vector.without_usage)]
    wanted = [(event, drop_usage(data)) for event, data in vector.events]
    rest = iter(vector.raw)

    assert left == [one for one in wanted if one[1] is not None]
    assert all(byte in rest for byte in vector.without_usage)


def json_or_text(data: str) -> Any:
    try:
        said = json.loads(data)
    except ValueError:
        return data
    return "null" if said is None else said


def test_vectors_have_names_of_their_own() -> None:
    assert len({vector.name for vector in VECTORS}) == len(VECTORS)


# Answers


async def test_whole_and_streamed_chat_say_the_same(fake: FakeOpenAI, client: Any) -> None:
    whole = await client.chat.completions.create(**CHAT)
    stream = await client.chat.completions.create(**STREAM, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]

    assert whole.choices[0].message.content == "You said: one two three"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole.choices[0].message.content
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (3 + (3 + 1 + 2) + (3 + 1 + 3), 5)
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert whole.id.startswith("chatcmpl-")
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_sync_client(fake: FakeOpenAI) -> None:
    def ask() -> tuple[str, str]:
        with openai.OpenAI(base_url=fake.base_url, api_key="sk-test") as client:
            answer = client.chat.completions.with_raw_response.create(**CHAT)
            return answer.headers["x-request-id"], answer.parse().choices[0].message.content or ""

    request_id, text = await asyncio.to_thread(ask)

    assert request_id.startswith("req_")
    assert text == "You said: one two three"


async def test_asking_for_usage_changes_usage_alone(fake: FakeOpenAI, http: aiohttp.ClientSession) -> None:
    plain = await post(http, fake, STREAM)
    asked = await post(http, fake, {**STREAM, "stream_options": {"include_usage": True}})
    spliced = re.sub(rb'data: [^\n]*"choices":\[\],"usage":\{.*\n\n', b"", asked).replace(b',"usage":null', b"")

    assert spliced == plain
    assert b"usage" not in plain
    assert asked.count(b'"usage":null') == asked.count(b"data: {") - 1
    assert bytes(fake.requests[1].sent) == asked


async def test_choices_take_turns(fake: FakeOpenAI, client: Any) -> None:
    stream = await client.chat.completions.create(**STREAM, n=2)
    said = [(c.choices[0].index, c.choices[0].finish_reason) async for c in stream]

    assert [index for index, _ in said[:6]] == [0, 1, 0, 1, 0, 1]
    assert [index for index, finish in said if finish] == [0, 1]


async def test_max_tokens_cuts_the_answer(fake: FakeOpenAI, client: Any) -> None:
    answer = await client.chat.completions.create(**CHAT, max_tokens=3)

    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("You said: one", "length")
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize(
    ("text", "cities"), [("Weather in Rome?", ["Rome"]), ("weather in Rome and Bonn", ["Rome", "Bonn"])]
)
async def test_tools_are_called_and_answered(client: Any, text: str, cities: list[str]) -> None:
    """Streamed pieces build the calls of the whole answer; sent back with results, they pass."""
    asked: list[Any] = [{"role": "user", "content": text}]
    whole = (await client.chat.completions.create(model="m", messages=asked, tools=TOOLS)).choices[0]
    stream = await client.chat.completions.create(model="m", messages=asked, tools=TOOLS, stream=True)
    built: dict[int, list[str]] = {}
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or ():
            named = call.function.name or ""
            assert bool(named) == (call.index not in built)
            built.setdefault(call.index, [call.id, named, ""])[2] += call.function.arguments
    calls = [[c.id, c.function.name, c.function.arguments] for c in whole.message.tool_calls]
    results = [{"role": "tool", "tool_call_id": c[0], "content": "rain"} for c in calls]
    after = await client.chat.completions.create(model="m", messages=[*asked, whole.message, *results], tools=TOOLS)

    assert list(built.values()) == calls
    assert [json.loads(c[2])["city"] for c in calls] == cities
    assert whole.finish_reason == "tool_calls"
    assert after.choices[0].finish_reason == "stop"


async def test_summary_and_answer(fake: FakeOpenAI, client: Any) -> None:
    fake.summary = lambda messages: f"brief of {len(messages)}"
    fake.answer = lambda body: f"as {body['model']}"
    system = {"role": "system", "content": "Keep the running brief."}
    brief = await client.chat.completions.create(model="m", messages=[system, USER])
    other = await client.chat.completions.create(**CHAT)

    assert brief.choices[0].message.content == "brief of 2"
    assert other.choices[0].message.content == "as gpt-4o"


async def test_responses(client: Any) -> None:
    asked: Json = {"model": "gpt-4o", "input": "one two", "instructions": "Be brief."}
    whole = await client.responses.create(**asked)
    events = [event async for event in await client.responses.create(**asked, stream=True)]
    short = [e async for e in await client.responses.create(**asked, stream=True, max_output_tokens=1)]
    kinds = [event.type for event in events]

    assert whole.output_text == "You said: one two"
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (3 + (3 + 1 + 2) + (3 + 1 + 2), 4)
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert events[-1].response == whole
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (short[-1].type, short[-1].response.incomplete_details.reason) == (
        "response.incomplete",
        "max_output_tokens",
    )


async def test_responses_tools(client: Any) -> None:
    tools = [{"type": "function", "name": "get_weather", "parameters": {}, "strict": False}]
    asked = {"role": "user", "content": "weather in Rome"}
    events = [e async for e in await client.responses.create(model="m", input=[asked], tools=tools, stream=True)]
    call = events[-1].response.output[0]
    arguments = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    after = await client.responses.create(model="m", input=[asked, call, result], tools=tools)

    assert "".join(arguments) == call.arguments == '{"city": "Rome"}'
    assert after.output_text == "You said: weather in Rome"
    for broken in ([asked, call], [asked, result], [asked, result, call]):
        with pytest.raises(openai.BadRequestError, match=r"No tool (call|output) found"):
            await client.responses.create(model="m", input=broken)


async def test_completions(client: Any) -> None:
    asked: Json = {"model": "gpt-3.5-turbo-instruct", "prompt": "one two"}
    whole = await client.completions.create(**asked)
    stream = await client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]

    assert whole.choices[0].text == "".join(c.choices[0].text for c in chunks[:-1]) == "You said: one two"
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert whole.usage.prompt_tokens == 2


async def test_embeddings(fake: FakeOpenAI, client: Any) -> None:
    """The client asks for base64 unasked; both forms are the same vector."""
    asked = {"model": "text-embedding-3-small", "input": ["one two", "three"]}
    packed = await client.embeddings.create(**asked)
    floats = await client.embeddings.create(**asked, encoding_format="float")

    assert fake.requests[0].json()["encoding_format"] == "base64"
    assert [one.embedding for one in packed.data] == [pytest.approx(one.embedding) for one in floats.data]
    assert sum(value**2 for value in packed.data[0].embedding) == pytest.approx(1)
    assert packed.usage.prompt_tokens == 3


async def test_models_and_files(client: Any) -> None:
    content = bytes(range(256)) * 40 + b"\r\n--\r\n"
    made = await client.files.create(file=("a.bin", content), purpose="user_data")
    found = await client.files.retrieve(made.id)
    read = (await client.files.content(made.id)).content
    gone = await client.files.delete(made.id)

    assert "gpt-4o" in [model.id async for model in client.models.list()]
    assert (await client.models.retrieve("gpt-4o")).id == "gpt-4o"
    assert (found, made.filename, made.bytes) == (made, "a.bin", len(content))
    assert (read, gone.deleted) == (content, True)
    for missing in (client.files.retrieve(made.id), client.models.retrieve("nope")):
        with pytest.raises(openai.NotFoundError):
            await missing


async def test_echo_and_records(fake: FakeOpenAI, http: aiohttp.ClientSession) -> None:
    """What comes is recorded as it came: the target undecoded, headers in order and in their own case."""
    url = URL(fake.base_url + "/things/a%2Fb/%7e?x=1&&y=%20", encoded=True)
    async with http.put(url, data=b"\x00\xff", headers=[("X-Two", "1"), ("X-Two", "2")]) as response:
        told = await response.json()
    async with http.head(fake.base_url + "/things") as head, http.get(fake.base_url[:-3] + "/other") as other:
        assert (head.status, other.status) == (200, 404)

    assert (told["method"], told["target"]) == ("PUT", "/v1/things/a%2Fb/%7e?x=1&&y=%20")
    assert (told["length"], told["sha256"]) == (2, hashlib.sha256(b"\x00\xff").hexdigest())
    assert [pair for pair in fake.requests[0].headers if pair[0] == "X-Two"] == [
        ("X-Two", "1"),
        ("X-Two", "2"),
    ]
    assert (fake.requests[0].body, fake.requests[0].header("x-two")) == (b"\x00\xff", "1")


# Refusals


@pytest.mark.parametrize(
    ("change", "status", "param", "code", "text"),
    [
        ({"model": None}, 400, None, None, "you must provide a model parameter"),
        ({"model": "missing-model"}, 404, None, "model_not_found", "`missing-model` does not exist"),
        ({"messages": ...}, 400, "messages", "missing_required_parameter", "Missing required parameter"),
        ({"messages": "x"}, 400, "messages", "invalid_type", "array of objects, but got a string"),
        ({"messages": []}, 400, "messages", "empty_array", "Invalid 'messages': empty array."),
        ({"messages": ["x"]}, 400, "messages[0]", "invalid_type", "expected an object, but got a string"),
        ({"messages": [{"role": "me"}]}, 400, "messages[0].role", "invalid_value", "Invalid value: 'me'."),
        ({"messages": [{"role": "user"}]}, 400, "messages.[0].content", None, "expected a string, got null"),
        ({"temperature": "x"}, 400, "temperature", "invalid_type", "expected a decimal, but got a string"),
        ({"n": True}, 400, "n", "invalid_type", "expected an integer, but got a boolean"),
        ({"stream_options": {}}, 400, "stream_options", None, "only allowed when 'stream' is enabled"),
        ({"messages": [USER, RESULT_A]}, 400, "messages.[1].role", None, "must be a response to"),
        ({"messages": [CALLS, RESULT_A, USER]}, 400, "messages.[2].role", None, "response messages: b"),
        ({"messages": [CALLS]}, 400, "messages", None, "response messages: a, b"),
        ({"messages": [CALLS, USER, RESULT_A]}, 400, "messages.[1].role", None, "response messages: a, b"),
    ],
)  # fmt: skip
async def test_refusals(client: Any, change: Json, status: int, param: str, code: str, text: str) -> None:
    body = {key: value for key, value in {**CHAT, **change}.items() if value is not ...}
    with pytest.raises(openai.APIStatusError) as refused:
        await client.post("/chat/completions", cast_to=object, body=body)

    assert (refused.value.status_code, refused.value.param, refused.value.code) == (status, param, code)
    assert text in refused.value.message
    assert refused.value.type == "invalid_request_error"


async def test_answered_calls_pass(client: Any) -> None:
    await client.chat.completions.create(model="m", messages=[USER, CALLS, RESULT_B, RESULT_A, USER])


async def test_window(fake: FakeOpenAI, client: Any) -> None:
    fake.window = {"gpt-4o": 16}
    await client.chat.completions.create(**CHAT)
    with pytest.raises(openai.BadRequestError, match=r"However, you requested 17 tokens \(16 in the messages, 1 "):
        await client.chat.completions.create(**CHAT, max_tokens=1)
    fake.window = 15
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(**CHAT)
    with pytest.raises(openai.BadRequestError, match="exceeds the context window"):
        await client.responses.create(model="m", input="word " * 20)

    assert (refused.value.param, refused.value.code) == ("messages", "context_length_exceeded")
    assert (
        "This model's maximum context length is 15 tokens. However, your messages resulted in 16 tokens. "
        "Please reduce the length of the messages." in refused.value.message
    )


async def test_key_and_stream_options(fake: FakeOpenAI, client: Any, http: aiohttp.ClientSession) -> None:
    fake.reject_stream_options = True
    with pytest.raises(openai.BadRequestError, match="Unknown parameter: 'stream_options'"):
        await client.chat.completions.create(**STREAM, stream_options={"include_usage": True})
    fake.required_key = "sk-right"
    with pytest.raises(openai.AuthenticationError, match="Incorrect API key provided") as refused:
        await client.chat.completions.create(**CHAT)

    assert refused.value.code == "invalid_api_key"
    assert b"didn't provide an API key" in await post(http, fake, CHAT)
    assert await client.with_options(api_key="sk-right").chat.completions.create(**CHAT)


# Faults


async def read_events(client: Any) -> tuple[int, type[Exception] | None]:
    """How many chunks came, and what ended them."""
    count = 0
    try:
        async for _ in await client.chat.completions.create(**STREAM):
            count += 1
    except openai.APIError as error:
        return count, type(error)
    return count, None


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (rate_limited(0.01), openai.RateLimitError),
        (fail(500), openai.InternalServerError),
        (fail(503, b"<html>", content_type="text/html"), openai.InternalServerError),
        (reset(), openai.APIConnectionError),
        (cut(1, End.CLOSED), openai.APIConnectionError),
        (cut(1, End.RESET), openai.APIConnectionError),
    ],
    ids=["429", "500", "503", "reset", "closed within the body", "reset within the body"],
)
async def test_fault_strikes_once(fake: FakeOpenAI, client: Any, fault: Behaviour, error: type[Exception]) -> None:
    """One request meets it; a client that tries again is served."""
    fake.script.append(fault)
    with pytest.raises(error):
        await client.chat.completions.create(**CHAT)
    fake.script.append(fault)
    await client.with_options(max_retries=1).chat.completions.create(**CHAT)

    assert len(fake.requests) == 3
    assert fake.cancelled == []


async def test_status_brings_headers_and_body(fake: FakeOpenAI, http: aiohttp.ClientSession) -> None:
    fake.script += [rate_limited(2), fail(503, b"<html>", content_type="text/html", retry_after="7")]
    async with http.post(fake.base_url + "/chat/completions", json=CHAT) as response:
        assert (response.status, response.headers["retry-after"]) == (429, "2")
        assert (await response.json())["error"]["code"] == "rate_limit_exceeded"
    async with http.post(fake.base_url + "/chat/completions", json=CHAT) as response:
        assert (response.status, response.headers["retry-after"]) == (503, "7")
        assert (await response.text(), response.content_type) == ("<html>", "text/html")


@pytest.mark.parametrize(
    ("fault", "count", "error"),
    [
        (cut(3), 3, None),
        (cut(3, End.CLOSED), 3, openai.APIConnectionError),
        (cut(3, End.RESET), 3, openai.APIConnectionError),
        (cut(0), 0, None),
        (no_done(), 7, None),
        (error_event(2), 2, openai.APIError),
    ],
    ids=["clean", "closed", "reset", "at once", "no [DONE]", "error event"],
)
async def test_stream_breaks_off(
    fake: FakeOpenAI, client: Any, fault: Behaviour, count: int, error: type[Exception] | None
) -> None:
    fake.script.append(fault)

    assert await read_events(client) == (count, error)
    assert b"[DONE]" not in fake.requests[0].sent
    assert await read_events(client) == (7, None)
    assert fake.cancelled == []


async def test_stall_until_released(fake: FakeOpenAI, client: Any) -> None:
    fake.script += [stall(), stall(2)]
    for held, sent in zip(list(fake.script), (0, 2), strict=True):
        reading = asyncio.create_task(read_events(client))
        await fake.wait_requests(sent // 2 + 1)
        await asyncio.sleep(0.02)
        assert fake.requests[-1].sent.count(b"data: ") == sent
        held.release.set()
        assert await reading == (7, None)


@pytest.mark.parametrize(("after", "gap_s"), [(-1, 0), (0, 0), (1, 0), (None, 0.2)])
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "streamed"])
async def test_client_that_leaves_is_noticed(
    fake: FakeOpenAI, http: aiohttp.ClientSession, after: int | None, gap_s: float, body: Json
) -> None:
    """At once, whatever the answer was waiting for."""
    fake.script.append(Behaviour(stall_after=after, gap_s=gap_s))
    reading = asyncio.create_task(post(http, fake, body))
    await fake.wait_requests()
    left_s = time.monotonic()
    reading.cancel()
    (gone,) = await fake.wait_cancelled()

    assert gone.request is fake.requests[0]
    assert 0 <= gone.at_s - left_s < 1


async def test_slow(fake: FakeOpenAI, client: Any) -> None:
    fake.script.append(slow(0.01))
    start_s = time.monotonic()

    assert await read_events(client) == (7, None)
    assert time.monotonic() - start_s >= 0.08


async def test_raw_pieces_arrive_as_given(fake: FakeOpenAI, http: aiohttp.ClientSession) -> None:
    pieces = [b'data: {"a"', b":1}\r", b"\n\r\nda", b"ta: \xf0\x9f", b"\x98\x80\n\n"]
    fake.script.append(raw(pieces))
    async with http.post(fake.base_url + "/chat/completions", json=STREAM) as response:
        came = [piece async for piece, _ in response.content.iter_chunks()]

    assert came == pieces
    assert fake.requests[0].sent == b"".join(pieces)


async def test_script_entry_for_some_requests(fake: FakeOpenAI, client: Any) -> None:
    """An entry waits in the queue for a request that it is for."""
    fake.script += [
        Behaviour(end_after=-1, end=End.RESET, when=lambda seen: b'"mini"' in seen.body),
        fail(500),
    ]
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(**CHAT)
    await client.chat.completions.create(**CHAT)
    with pytest.raises(openai.APIConnectionError):
        await client.chat.completions.create(**{**CHAT, "model": "mini"})


async def test_close_breaks_off_and_start_takes_the_same_port(client: Any, fake: FakeOpenAI) -> None:
    fake.script.append(stall(1))
    reading = asyncio.create_task(read_events(client))
    await fake.wait_requests()
    await fake.close()
    came, error = await reading
    assert (came <= 1, error is None, fake.cancelled) == (True, False, [])

    with pytest.raises(openai.APIConnectionError):
        await client.chat.completions.create(**CHAT)
    await fake.start()
    assert await client.chat.completions.create(**CHAT)
