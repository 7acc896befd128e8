"""Streams that break off after their first byte, and go on with another upstream's answer; or say honestly that not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_rules import render_event
from tests.fakes.openai_server import Behaviour, End, FakeOpenAI, cut, error_event, raw, stall
from tests.gateway_process import GatewayProcess, Json, config_for, upstream_for

pytestmark = pytest.mark.asyncio(loop_scope="session")
MESSAGES: list[Json] = [{"role": "user", "content": "one two three four five six seven"}]
WHOLE = "You said: one two three four five six seven"


@pytest_asyncio.fixture(loop_scope="session")
async def fakes() -> AsyncIterator[list[FakeOpenAI]]:
    first, second = FakeOpenAI(name="first"), FakeOpenAI(name="second")
    async with first, second:
        yield [first, second]


def gateway_of(
    fakes: list[FakeOpenAI], *, is_on: bool = True, breaker: Json | None = None, **second: Any
) -> GatewayProcess:
    usual: Json = {"retries": {"max": 0}, "timeouts": {"idle_seconds": 0.5}, "breaker": breaker or {}}
    upstreams = [upstream_for(fakes[0], **usual), upstream_for(fakes[1], priority=1, **usual, **second)]
    return GatewayProcess({**config_for(), "upstreams": upstreams, "stream_repair": {"enabled": is_on}})


async def read(gateway: GatewayProcess, **options: Any) -> tuple[str, str, str | None]:
    """The text that came, the finish, and the code of the error at the end."""
    text, finish, code = "", "", None
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client:
        body = {"model": "gpt-4o", "messages": MESSAGES, "stream": True, **options}
        try:
            async for chunk in await client.chat.completions.create(**body):
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    finish = choice.finish_reason or finish
        except openai.APIError as error:
            code = error.code or type(error).__name__
    return text, finish, code


def half_an_event() -> Behaviour:
    """A cut within an event, after some whole ones."""
    said = {"choices": [{"index": 0, "delta": {"content": "You said:"}, "finish_reason": None}]}
    return Behaviour(
        reply=raw([render_event(said), b'data: {"choices":[{"index":0,"del']).reply, end_after=2, end=End.RESET
    )


def malformed() -> Behaviour:
    said = {"choices": [{"index": 0, "delta": {"content": "You said:"}, "finish_reason": None}]}
    return raw([render_event(said), b'data: {"choices":[{"index":0,"del\n\n', render_event(said)])


FAULTS = {
    "cut": lambda: cut(after=4, end=End.RESET),
    "ended without an end": lambda: cut(after=4),
    "within an event": half_an_event,
    "malformed": malformed,
    "silent": lambda: stall(after=4),
    "an error event": lambda: error_event(after=4),
    "after the role": lambda: cut(after=1),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def repairing() -> AsyncIterator[tuple[GatewayProcess, list[FakeOpenAI]]]:
    """One gateway for all faults; its breakers never open."""
    first, second = FakeOpenAI(name="first"), FakeOpenAI(name="second")
    async with first, second, gateway_of([first, second], breaker={"failures": 1000}) as gateway:
        yield gateway, [first, second]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("wish", [{"temperature": 0}, {"seed": 7}], ids=["temperature 0", "a seed"])
async def test_the_same_again(fault: Any, wish: Json, repairing: tuple[GatewayProcess, list[FakeOpenAI]]) -> None:
    """The client sees one whole answer, and the log and metrics that it was repaired."""
    gateway, fakes = repairing
    fakes[0].script.append(fault())
    since, asked = len(gateway.logs), [len(fake.requests) for fake in fakes]
    repairs = (await gateway.metrics()).total("gateway_stream_repairs_total")
    found = await read(gateway, **wish, stream_options={"include_usage": True})
    log = await gateway.wait_log(logger="gateway.access", since=since)
    samples = await gateway.metrics()

    assert found == (WHOLE, "stop", None)
    assert [len(fake.requests) for fake in fakes] == [asked[0] + 1, asked[1] + 1]
    assert (log["stream_repairs"], log["status"]) == (1, 200)
    assert samples.total("gateway_stream_repairs_total") == repairs + 1


async def test_one_upstream_is_asked_once_more(fakes: list[FakeOpenAI]) -> None:
    """Where there is no other."""
    fakes[0].script.append(cut(after=4))
    config = {"upstreams": [upstream_for(fakes[0], retries={"max": 0})], "stream_repair": {"enabled": True}}
    async with GatewayProcess({**config_for(), **config}) as gateway:
        found = await read(gateway, temperature=0)

    assert found == (WHOLE, "stop", None)
    assert len(fakes[0].requests) == 2


async def test_another_answer_is_not_taken_for_it(fakes: list[FakeOpenAI]) -> None:
    """The text that came stands, and an error behind it; nothing of the other is mixed in."""
    fakes[0].script.append(cut(after=4))
    fakes[1].answer = lambda _: "Something else altogether, and much longer than that."
    async with gateway_of(fakes) as gateway:
        text, _, code = await read(gateway, temperature=0)
    fakes[1].answer = None

    assert WHOLE.startswith(text)
    assert text
    assert code == "upstream_error"


NOT_TRIED = {
    "wants no certain answer": ({}, True),
    "wants two": ({"temperature": 0, "n": 2}, True),
    "switched off": ({"temperature": 0}, False),
}


@pytest.mark.parametrize(("options", "is_on"), NOT_TRIED.values(), ids=NOT_TRIED)
async def test_what_is_not_tried(options: Json, is_on: bool, fakes: list[FakeOpenAI]) -> None:
    """An honest error, and nobody else is asked."""
    fakes[0].script.append(cut(after=4))
    async with gateway_of(fakes, is_on=is_on) as gateway:
        text, _, code = await read(gateway, **options)

    assert text
    assert code == "upstream_error"
    assert fakes[1].requests == []


async def test_from_the_beginning_that_was_sent(fakes: list[FakeOpenAI]) -> None:
    """An upstream that takes it goes on from there, whatever the temperature; the tokens of both are billed."""
    fakes[0].script.append(cut(after=4))
    fakes[1].answer = lambda body: WHOLE.removeprefix(str(body["messages"][-1]["content"]))
    async with gateway_of(fakes, accepts_prefill=True) as gateway:
        found = await read(gateway)
        log = await gateway.wait_log(logger="gateway.access")
    fakes[1].answer = None
    given = json.loads(fakes[1].requests[0].body)["messages"]

    assert found == (WHOLE, "stop", None)
    assert given[:-1] == MESSAGES
    assert given[-1]["role"] == "assistant"
    assert WHOLE.startswith(given[-1]["content"])
    assert log["billed_completion_tokens"] > 0


async def test_tool_calls_are_not_gone_on_with(fakes: list[FakeOpenAI]) -> None:
    """Half a call cannot be told from the beginning of another."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a'}}
    delta = {"role": "assistant", "tool_calls": [call]}
    broken = raw([render_event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})])
    fakes[0].script.append(broken)
    async with gateway_of(fakes) as gateway:
        _, _, code = await read(gateway, temperature=0)

    assert code == "upstream_error"
    assert fakes[1].requests == []


async def test_an_error_event_is_passed_on_if_nobody_goes_on(fakes: list[FakeOpenAI]) -> None:
    """In the upstream's own words."""
    fakes[0].script.append(error_event(after=4, body={"error": {"message": "Overloaded just now.", "code": "over"}}))
    async with gateway_of(fakes) as gateway:
        text, _, code = await read(gateway)

    assert WHOLE.startswith(text)
    assert code == "over"


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "cut behind it"])
async def test_an_event_beyond_all_measure_passes(is_whole: bool, fakes: list[FakeOpenAI]) -> None:
    """It is not held until it is whole; behind it nobody can go on, and a cut is an honest error."""
    huge = render_event({"choices": [{"index": 0, "delta": {"content": "x" * 12_000_000}, "finish_reason": None}]})
    end = [render_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}), b"data: [DONE]\n\n"]
    fakes[0].script.append(raw([huge, *end] if is_whole else [huge]))
    body = {"model": "gpt-4o", "messages": MESSAGES, "stream": True, "temperature": 0}
    async with (
        gateway_of(fakes) as gateway,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}, read_bufsize=2**24) as session,
        session.post(f"{gateway.base_url}/chat/completions", json=body) as response,
    ):
        found = await response.read()

    assert found.startswith(huge)
    assert (found == huge + b"".join(end)) is is_whole
    assert (b'"error"' in found[len(huge) :]) is not is_whole
    assert fakes[1].requests == []
