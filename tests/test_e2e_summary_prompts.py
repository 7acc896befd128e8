"""Briefs asked for at the end of what was sent already, so that the provider reads it from its cache."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI, Recorded, fail
from tests.gateway_process import GatewayProcess, config_for
from tests.small_window import BUDGET, GOING_ON, WINDOW, count, is_summary_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
SUMMARY = json.dumps({"facts": ["The locker has the code 7T-4093."]})
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
SUMMARIZER = {"reuse_prompt": True, "deadline_seconds": 5, "max_retries": 0, "max_input_tokens": WINDOW - 1000}


@pytest_asyncio.fixture(loop_scope="session")
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        server.tokenizer, server.window = count, WINDOW
        server.summary = lambda _: SUMMARY
        server.answer = lambda body: f"Noted, that was turn {len(body['messages'])}. " + "And so on it went. " * 12
        yield server


def config_of(fake: FakeOpenAI, **others: Any) -> Json:
    config = config_for(fake, token_budget=BUDGET, summarizer={**SUMMARIZER, **others})
    config["compaction"] = {"soft_ratio": 1}
    config["upstreams"][0]["retries"] = {"max": 0}
    return config


async def chat(gateway: GatewayProcess, turns: int, **options: Any) -> None:
    """A conversation of so many turns, resent whole."""
    messages: list[Json] = [{"role": "system", "content": "You are a patient companion."}]
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client:
        for turn in range(turns):
            said = f"Turn {turn}: the code of my locker is 7T-4093, and " + f"there is much to tell of {turn}. " * 10
            messages.append({"role": "user", "content": said})
            answer: Any = await client.chat.completions.create(
                model="gpt-4o", messages=messages, max_tokens=100, **options
            )
            messages.append({"role": "assistant", "content": answer.choices[0].message.content or ""})


def asked_before(fake: FakeOpenAI, place: int) -> Recorded:
    """The chat request before this one."""
    return next(each for each in reversed(fake.requests[:place]) if not is_summary_request(each))


async def test_what_was_sent_is_read_again(fake: FakeOpenAI) -> None:
    """The first brief and those after it: tools and messages as the last prompt began, then what is asked."""
    async with GatewayProcess(config_of(fake)) as gateway:
        await chat(gateway, 60, tools=TOOLS, tool_choice="none")
        samples = await gateway.metrics()
    summaries = [place for place, each in enumerate(fake.requests) if is_summary_request(each)]
    shares = []

    assert len(summaries) >= 3
    for place in summaries:
        asking, before = fake.requests[place].json(), asked_before(fake, place).json()
        *sent, asked = asking["messages"]
        assert sent == before["messages"][: len(sent)]
        assert asking["tools"] == before["tools"]
        assert (asking["tool_choice"], "response_format" in asking, asking.get("stream")) == ("none", False, None)
        assert GOING_ON.decode() in asked["content"]
        shares.append(count(json.dumps(sent)) / count(json.dumps(asking)))
    print(f"{len(summaries)} briefs, of whose prompts {min(shares):.0%} to {max(shares):.0%} had been sent before")
    assert min(shares) > 0.7
    assert samples.total("summarizer_calls_total", result="ok") == len(summaries)
    assert samples.total("token_budget_summarizations_total", level="brief") == len(summaries)
    assert "7T-4093" in json.dumps(fake.requests[-1].json())


async def test_an_upstream_that_will_not_is_asked_once(fake: FakeOpenAI) -> None:
    """Then briefs are written from prompts of their own, as without the option."""
    no = fail(400, {"error": {"message": "no", "type": "invalid_request_error", "code": None}})
    fake.script.append(replace(no, when=lambda seen: GOING_ON in seen.body))
    async with GatewayProcess(config_of(fake)) as gateway:
        await chat(gateway, 45)
        samples = await gateway.metrics()
    going_on = [each for each in fake.requests if GOING_ON in each.body]
    own = [each for each in fake.requests if is_summary_request(each) and GOING_ON not in each.body]

    assert len(going_on) == 1
    assert len(own) >= 2
    assert samples.total("token_budget_summarizations_total", level="brief") == len(own)


@pytest.mark.parametrize(
    ("others", "options"),
    [
        ({"model": "gpt-4o-mini"}, {}),
        ({"reuse_prompt": False}, {}),
        ({}, {"response_format": {"type": "json_object"}}),
    ],
    ids=["another model writes", "not asked for", "an answer in another form"],
)
async def test_where_it_cannot_help(others: Json, options: Json, fake: FakeOpenAI) -> None:
    """The brief is written all the same."""
    async with GatewayProcess(config_of(fake, **others)) as gateway:
        await chat(gateway, 25, **options)

    assert [each for each in fake.requests if GOING_ON in each.body] == []
    assert [each for each in fake.requests if is_summary_request(each)] != []
