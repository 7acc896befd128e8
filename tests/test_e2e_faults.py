"""Upstreams fail in every way there is; the client library raises, or never notices because another answered.

Never is a truncated answer shown as a whole one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY, forget
from tests.fakes.openai_server import (
    Behaviour,
    End,
    FakeOpenAI,
    cut,
    error_event,
    fail,
    rate_limited,
    reset,
    slow,
    stall,
)
from tests.gateway_process import GatewayProcess, ask_raw, config_for, head, upstream_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
MESSAGES = [{"role": "user", "content": "one two three four five six seven"}]
TIMES: Json = {"connect_seconds": 0.5, "header_seconds": 0.4, "first_token_seconds": 0.4, "idle_seconds": 0.4}
TIMES |= {"total_seconds": 1.2}


_numbers = itertools.count()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fakes() -> AsyncIterator[list[FakeOpenAI]]:
    async with FakeOpenAI(name="first") as first, FakeOpenAI(name="second") as second:
        yield [first, second]


@pytest.fixture(scope="module")
def odd() -> list[bytes]:
    """What the upstream of the model `odd` says before it closes."""
    return [b""]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def odd_port(odd: list[bytes]) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(odd[0])
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(fakes: list[FakeOpenAI], odd_port: int) -> AsyncIterator[GatewayProcess]:
    """In front of two upstreams, by priority; `alone-*` is served by the first only, `dead-*` by the second."""
    first, second = fakes
    config = config_for()
    dead = f"http://127.0.0.1:{free_port()}/v1"
    config["upstreams"] = [
        upstream_for(second, name="second", models=["both-*", "dead-*"], priority=2, timeouts=TIMES),
        {"name": "dead", "base_url": dead, "models": ["dead-*", "nowhere"], "priority": 0, "retries": {"max": 1}},
        {"name": "odd", "base_url": f"http://127.0.0.1:{odd_port}/v1", "models": ["odd"], "retries": {"max": 0}},
        upstream_for(first, name="first", models=["both-*", "alone-*"], priority=1, timeouts=TIMES),
    ]
    for upstream in config["upstreams"]:  # each test's faults are its own: breakers have tests of their own
        upstream["breaker"] = {"failures": 1000}
        upstream["retries"] = {**upstream.get("retries", {}), "budget_ratio": 1}
    async with GatewayProcess(config) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="session")
async def first(fakes: list[FakeOpenAI]) -> FakeOpenAI:
    for fake in fakes:
        name = fake.name
        forget(fake)
        fake.name = name
    return fakes[0]


@pytest_asyncio.fixture(loop_scope="session")
async def second(first: FakeOpenAI, fakes: list[FakeOpenAI]) -> FakeOpenAI:
    return fakes[1]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(gateway: GatewayProcess) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as made:
        yield made


async def ask(client: Any, model: str, *, is_stream: bool = False, kind: str = "chat") -> str:
    """The whole text of an answer, which must be finished; of a model of its own, which no breaker knows yet."""
    model = f"{model}-{next(_numbers)}" if "-" in model else model
    if kind == "chat":
        result = await client.chat.completions.create(model=model, messages=MESSAGES, stream=is_stream)
    elif kind == "completions":
        result = await client.completions.create(model=model, prompt="one two three four", stream=is_stream)
    else:
        result = await client.responses.create(model=model, input="one two three four", stream=is_stream)
    if not is_stream:
        return str(result.choices[0].message.content)
    return "".join([text_of(chunk, kind) async for chunk in result])


def text_of(chunk: Any, kind: str) -> str:
    if kind == "responses":
        return str(getattr(chunk, "delta", ""))
    if not chunk.choices:
        return ""
    return str((chunk.choices[0].delta.content if kind == "chat" else chunk.choices[0].text) or "")


async def failure(client: Any, model: str, **options: Any) -> openai.APIError:
    with pytest.raises(openai.APIError) as caught:
        await ask(client, model, **options)
    return caught.value


# Tried again

PASSING: dict[str, tuple[list[Behaviour], int]] = {
    "503 once": ([fail(503)], 2),
    "502 and 503": ([fail(502), fail(503)], 3),
    "503 with Retry-After": ([fail(503, retry_after="0.2")], 2),
    "529 once": ([fail(529)], 2),
    "reset before the head": ([reset()], 2),
    "closed before the head": ([Behaviour(end_after=-1, end=End.CLOSED)], 2),
}


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", PASSING)
async def test_passing_fault_is_not_noticed(
    name: str, is_stream: bool, client: Any, first: FakeOpenAI, second: FakeOpenAI
) -> None:
    faults, calls = PASSING[name]
    first.script.extend(faults)

    assert await ask(client, "alone-1", is_stream=is_stream) == "You said: one two three four five six seven"
    assert len(first.requests) == calls
    assert len({seen.body for seen in first.requests}) == 1
    assert second.requests == []


LASTING: dict[str, tuple[Callable[[], Behaviour], type[openai.APIStatusError], int, int]] = {
    "503": (lambda: fail(503), openai.InternalServerError, 3, 503),
    "500": (lambda: fail(500), openai.InternalServerError, 1, 500),
    "429": (lambda: fail(429), openai.RateLimitError, 1, 429),
    "429 and come back soon": (lambda: rate_limited(0.1), openai.RateLimitError, 3, 429),
    "429 and come back in a minute": (lambda: rate_limited(60), openai.RateLimitError, 1, 429),
    "503 and come back in an hour": (lambda: fail(503, retry_after="3600"), openai.InternalServerError, 1, 503),
    "reset before the head": (reset, openai.InternalServerError, 3, 502),
    "no answer": (stall, openai.InternalServerError, 1, 504),
    "no first token": (lambda: stall(0), openai.InternalServerError, 1, 504),
}


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", LASTING)
async def test_lasting_fault_raises(name: str, is_stream: bool, client: Any, first: FakeOpenAI) -> None:
    """With the upstream's own status where it has one; what fell silent is not asked again."""
    fault, kind, calls, status = LASTING[name]
    first.script.extend(fault() for _ in range(4))
    error = await failure(client, "alone-1", is_stream=is_stream)

    assert isinstance(error, kind)
    assert error.status_code == status
    assert len(first.requests) == calls


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("after", [1, 3, 5])
@pytest.mark.parametrize("kind", ["chat", "completions", "responses"])
async def test_cut_stream_raises(kind: str, after: int, end: End, client: Any, first: FakeOpenAI) -> None:
    first.script.append(cut(after, end))
    error = await failure(client, "alone-1", is_stream=True, kind=kind)

    assert type(error) is openai.APIError
    assert error.code == "upstream_error"
    assert "first" in error.message


@pytest.mark.parametrize("asks", [True, False], ids=["asked", "not asked"])
async def test_what_follows_the_end_mark_is_no_fault(asks: bool, gateway: GatewayProcess, first: FakeOpenAI) -> None:
    """An answer that said that it was all has not failed because its connection then broke: one end, not two."""
    first.script.append(cut(100, End.CLOSED))
    options = {"stream_options": {"include_usage": True}} if asks else {}
    body = json.dumps({"model": f"alone-end-{asks}", "messages": MESSAGES, "stream": True, **options}).encode()
    lines = (f"Content-Length: {len(body)}", f"Authorization: Bearer {KEY}")
    answer = await ask_raw(gateway, head("POST", "/v1/chat/completions", *lines), body)
    settled = await gateway.settled(dict(answer.headers))

    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert b"error" not in answer.body
    assert "fault" not in settled


@pytest.mark.parametrize("end", End)
async def test_stream_cut_before_its_first_event_raises(end: End, client: Any, first: FakeOpenAI) -> None:
    """Nothing was sent yet, so it is an ordinary error with a status."""
    first.script.append(cut(0, end))
    error = await failure(client, "alone-1", is_stream=True)

    assert isinstance(error, openai.InternalServerError)
    assert error.status_code == 502


@pytest.mark.parametrize("asks", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("end", End)
async def test_stream_cut_within_an_event_raises(asks: bool, end: End, client: Any, first: FakeOpenAI) -> None:
    """As the library's own exception, and not as one about JSON: where half an event is out already, the connection
    is cut like the upstream's was; where it was held back, an error event says what happened.
    """
    tail = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"del'
    first.script.append(Behaviour(end_after=2, tail=tail, end=end))
    options = {"stream_options": {"include_usage": True}} if asks else {}
    stream = await client.chat.completions.create(model="alone-1", messages=MESSAGES, stream=True, **options)

    with pytest.raises(openai.APIConnectionError if asks else openai.APIError):
        [chunk async for chunk in stream]


async def test_error_event_of_the_upstream_raises_as_it_is(client: Any, first: FakeOpenAI) -> None:
    first.script.append(error_event(after=2))
    error = await failure(client, "alone-1", is_stream=True)

    assert error.message.startswith("The server had an error processing your request")


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("after", [0, 1])
async def test_cut_whole_answer_raises(after: int, end: End, client: Any, first: FakeOpenAI) -> None:
    """Half a JSON text is never passed on as an answer."""
    first.script.append(cut(after, end))
    error = await failure(client, "alone-1")

    assert isinstance(error, openai.InternalServerError)
    assert error.status_code == 502
    assert error.code == "upstream_error"


STALLS: dict[str, tuple[Behaviour, bool, str, float]] = {
    "before the head": (stall(), False, "header_timeout", 0.4),
    "before the first token": (stall(0), True, "first_token_timeout", 0.4),
    "in a stream": (stall(3), True, "idle_timeout", 0.4),
    "in a whole answer": (stall(1), False, "idle_timeout", 0.4),
    "too slow as a whole": (slow(0.3), True, "total_timeout", 1.2),
}


@pytest.mark.parametrize("name", STALLS)
async def test_stall_raises_in_time(name: str, client: Any, gateway: GatewayProcess, first: FakeOpenAI) -> None:
    """And the upstream's connection is let go."""
    fault, is_stream, word, after_s = STALLS[name]
    since, began = len(gateway.logs), time.monotonic()
    first.script.append(fault)
    error = await failure(client, "alone-1", is_stream=is_stream)
    waited = time.monotonic() - began
    settled = await gateway.wait_log(since=since, logger="gateway.access")
    await first.wait_cancelled(1)

    assert error.code == f"upstream_{word}"
    assert word in error.message
    assert settled["fault"] == word
    assert after_s <= waited < after_s + 0.6


# Another one answers

MOVING: dict[str, tuple[list[Behaviour], int]] = {
    "500": ([fail(500)], 1),
    "429": ([rate_limited(1)], 1),
    "503 for as long as it is tried": ([fail(503), fail(503), fail(503)], 3),
    "503 and come back in an hour": ([fail(503, retry_after="3600")], 1),
    "resets": ([reset(), reset(), reset()], 3),
    "silence": ([stall()], 1),
    "silence after the head": ([stall(0)], 1),
    "end after the head": ([cut(0, End.RESET)], 1),
}


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", MOVING)
async def test_the_next_upstream_answers(
    name: str, is_stream: bool, client: Any, gateway: GatewayProcess, first: FakeOpenAI, second: FakeOpenAI
) -> None:
    faults, calls = MOVING[name]
    first.script.extend(faults)
    since = len(gateway.logs)

    assert await ask(client, "both-1", is_stream=is_stream) == "You said: one two three four five six seven"
    settled = await gateway.wait_log(since=since, logger="gateway.access")
    assert (len(first.requests), len(second.requests)) == (calls, 1)
    assert (settled["upstream"], settled["attempts"]) == ("second", calls + 1)
    assert "fault" not in settled


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
async def test_what_would_repeat_is_passed_on(status: int, client: Any, first: FakeOpenAI, second: FakeOpenAI) -> None:
    first.script.append(fail(status))
    error = await failure(client, "both-1")

    assert error.status_code == status  # type: ignore[attr-defined]
    assert (len(first.requests), len(second.requests)) == (1, 0)


async def test_a_stream_that_has_begun_is_not_begun_again(client: Any, first: FakeOpenAI, second: FakeOpenAI) -> None:
    first.script.append(cut(2, End.RESET))
    await failure(client, "both-1", is_stream=True)

    assert second.requests == []


async def test_both_fail(client: Any, first: FakeOpenAI, second: FakeOpenAI) -> None:
    """The last one's own error is what the client sees."""
    first.script.append(fail(500))
    second.script.append(rate_limited(9))
    error = await failure(client, "both-1")

    assert isinstance(error, openai.RateLimitError)
    assert error.response.headers["retry-after"] == "9"
    assert error.response.headers["x-gateway-upstream"] == "second"


async def test_dead_port(client: Any, gateway: GatewayProcess, second: FakeOpenAI) -> None:
    """Where another serves the model it answers; where none does, the error says who was asked."""
    began = time.monotonic()
    answer = await ask(client, "dead-1")
    error = await failure(client, "nowhere")
    metrics = await gateway.metrics()

    assert answer == "You said: one two three four five six seven"
    assert isinstance(error, openai.InternalServerError)
    assert (error.status_code, error.code) == (502, "upstream_error")
    assert "dead" in error.message
    assert "connect" in error.message
    assert time.monotonic() - began < 2
    assert metrics.total("gateway_faults_total", kind="connect", upstream="dead") == 1
    assert metrics.total("upstream_retries_total", upstream="second") >= 1


async def test_unknown_model_names_itself(client: Any, first: FakeOpenAI) -> None:
    error = await failure(client, "no-such-model")

    assert isinstance(error, openai.NotFoundError)
    assert error.code == "model_not_found"
    assert "no-such-model" in error.message


async def test_upstream_that_goes_and_comes_back(client: Any, first: FakeOpenAI) -> None:
    """Connections that were kept open do not make requests fail after a restart of the upstream."""
    await ask(client, "alone-1")
    await first.close()
    gone = await failure(client, "alone-1")
    await first.start()

    assert isinstance(gone, openai.InternalServerError)
    assert await ask(client, "alone-1")
    assert await ask(client, "alone-1", is_stream=True)


NO_HTTP = [b"hello\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"\x16\x03\x01"]


@pytest.mark.parametrize("said", NO_HTTP, ids=range(len(NO_HTTP)))
async def test_upstream_that_speaks_no_http(said: bytes, client: Any, odd: list[bytes]) -> None:
    odd[:] = [said]
    error = await failure(client, "odd")

    assert isinstance(error, openai.InternalServerError)
    assert error.status_code == 502
    assert "\n" not in error.message
