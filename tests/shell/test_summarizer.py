"""The summariser against a real server: what it asks, what it forgives, and when it gives up."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.core.context.brief import FoldJob, Level
from gateway.core.context.extractive import Turn
from gateway.core.routing.routes import Roles, Route
from gateway.exchange import Count, Exchange
from gateway.shell.brief_maker import StoredBriefMaker
from gateway.shell.state.memory import MemoryBriefStore
from gateway.shell.summarizer import Summarizer, SummarizerOptions
from gateway.shell.upstream.client import HttpUpstream
from gateway.tasks import TaskGroup
from tests.fakes.openai_server import Behaviour, FakeOpenAI, cut, fail, rate_limited, reset, stall
from tests.histories import PROFILE, FakeCounter, body_of, exchange_of, per_four_chars, route_of

JOB = FoldJob(2, (), None, (Turn(1, "user", "The host is db-7.internal."), Turn(2, "assistant", "Noted.")), 400)
EMPTY = fail(200, {"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]})
HTML = fail(200, b"<html>busy</html>")
HUGE = fail(200, b'{"choices": [{"message": {"content": "' + b"x" * 2_000_000 + b'"}}]}')
CUT_OFF = fail(200, {"choices": [{"message": {"content": "half a br"}, "finish_reason": "length"}]})


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as fake:
        fake.summary = lambda _: json.dumps({"facts": ["The host is db-7.internal."]})
        yield fake


@pytest.fixture
async def upstream() -> AsyncIterator[HttpUpstream]:
    async with HttpUpstream() as client:
        yield client


def exchange_to(route: Route, authorization: str = "Bearer sk-own") -> Exchange:
    exchange = exchange_of(body_of([{"role": "user", "content": "hi"}], model="gpt-4o"), b"client", Roles.OPEN)
    exchange.headers = [("Authorization", authorization)]
    exchange.routes = [route]
    exchange.count = Count(PROFILE, 1, 1)
    return exchange


def summarizer_at(route: Route | None, upstream: HttpUpstream, model: str = "", timeout_s: float = 5) -> Summarizer:
    options = SummarizerOptions(route, model, timeout_s, max_retries=3, max_input_tokens=6000, backoff_s=0.001)
    return Summarizer(options, upstream, FakeCounter(per_four_chars))


async def write(summarizer: Summarizer, route: Route) -> str:
    return (await summarizer.write(exchange_to(route), PROFILE, JOB, 300)).text


async def test_it_asks_the_requests_own_upstream_with_its_own_key(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """Model, endpoint and key are the request's own where no others are configured."""
    text = await write(summarizer_at(None, upstream), route_of(base_url=server.base_url))
    (asked,) = server.requests

    assert text
    assert asked.raw_path == "/v1/chat/completions"
    assert asked.header("authorization") == "Bearer sk-own"
    assert asked.json()["model"] == "gpt-4o"
    assert "db-7.internal" in asked.json()["messages"][1]["content"]


async def test_what_goes_with_a_key_goes_with_it(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """Organisation, project and other forms of keys pass to the request's own upstream; nothing else does."""
    exchange = exchange_to(route_of(base_url=server.base_url))
    exchange.headers = [("api-key", "k"), ("OpenAI-Organization", "o"), ("OpenAI-Project", "p"), ("x-tenant", "t")]
    await summarizer_at(None, upstream).write(exchange, PROFILE, JOB, 300)
    (asked,) = server.requests

    names = ("api-key", "openai-organization", "openai-project", "x-tenant", "authorization")
    assert [asked.header(name) for name in names] == ["k", "o", "p", None, None]


async def test_an_endpoint_of_its_own_never_sees_the_clients_key(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """A configured summariser gets its own key, or none."""
    own = route_of(base_url=server.base_url, api_key="sk-summary")
    await write(summarizer_at(own, upstream, "small-model"), route_of())
    await write(summarizer_at(replace(own, api_key=""), upstream), route_of())

    assert [asked.header("authorization") for asked in server.requests] == ["Bearer sk-summary", None]
    assert [asked.json()["model"] for asked in server.requests] == ["small-model", "gpt-4o"]


@pytest.mark.parametrize(
    ("fault", "calls"),
    [
        (fail(500), 2),
        (fail(503), 2),
        (fail(408), 2),
        (rate_limited(0), 2),
        (reset(), 2),
        (cut(1), 2),
    ],
    ids=["500", "503", "408", "429", "reset", "cut"],
)
async def test_what_may_pass_is_tried_again(
    server: FakeOpenAI, upstream: HttpUpstream, fault: Behaviour, calls: int
) -> None:
    """After one fault the second call succeeds."""
    server.script.append(fault)
    summarizer = summarizer_at(None, upstream)

    assert await write(summarizer, route_of(base_url=server.base_url))
    assert (summarizer.tally["calls"], summarizer.tally["failures"]) == (calls, 1)


@pytest.mark.parametrize("answer", [fail(400), EMPTY, HTML, CUT_OFF, HUGE], ids=["400", "empty", "html", "cut", "huge"])
async def test_what_will_not_pass_is_not_tried_again(
    server: FakeOpenAI, upstream: HttpUpstream, answer: Behaviour
) -> None:
    """An answer that is no brief is not asked for twice."""
    server.script.append(answer)
    summarizer = summarizer_at(None, upstream)

    assert await write(summarizer, route_of(base_url=server.base_url)) == ""
    assert summarizer.tally["calls"] == 1


async def test_an_endpoint_without_schemas_is_asked_without(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """A 400 about response_format is no failure, costs no retry, and is learned."""
    refusal = fail(400, {"error": {"message": "response_format is not supported", "type": "invalid_request_error"}})
    server.script.append(refusal)
    summarizer, route = summarizer_at(None, upstream), route_of(base_url=server.base_url)
    texts = [await write(summarizer, route), await write(summarizer, route)]

    assert all("db-7.internal" in text for text in texts)
    assert ["response_format" in asked.json() for asked in server.requests] == [True, False, False]
    assert summarizer.tally["failures"] == 0


async def test_after_many_failures_nobody_is_asked_for_a_while(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """Five failures in a row, whatever they are, and folds are extractive at once."""
    server.script.extend(fail(500) for _ in range(4))
    server.script.append(EMPTY)
    summarizer, route = summarizer_at(None, upstream), route_of(base_url=server.base_url)
    texts = [await write(summarizer, route) for _ in range(4)]

    assert texts == [""] * 4
    assert summarizer.is_off
    assert len(server.requests) == 5


async def test_what_summaries_cost_is_counted(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """Their tokens, as the endpoint reports them."""
    summarizer = summarizer_at(None, upstream)
    await write(summarizer, route_of(base_url=server.base_url))

    assert summarizer.tally["prompt_tokens"] > 0
    assert summarizer.tally["completion_tokens"] > 0


async def test_it_gives_up_after_its_retries(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    server.script.extend(fail(500) for _ in range(9))
    summarizer = summarizer_at(None, upstream)

    assert await write(summarizer, route_of(base_url=server.base_url)) == ""
    assert summarizer.tally["calls"] == 4


async def test_a_call_that_hangs_is_timed_out_and_left(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """Each call has its own bound; the server sees that nobody waits any more."""
    server.script.extend([stall(), stall(1)])
    summarizer = summarizer_at(None, upstream, timeout_s=0.2)

    assert await write(summarizer, route_of(base_url=server.base_url))
    assert (summarizer.tally["calls"], summarizer.tally["failures"]) == (3, 2)
    assert len(await server.wait_cancelled(2)) == 2


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_an_endpoint_that_is_not_there_is_off_until_reload(
    server: FakeOpenAI, upstream: HttpUpstream, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """A configured summariser that answers 404, or refuses its key, is asked once, and the log says so loudly."""
    server.script.extend(fail(status) for _ in range(9))
    summarizer = summarizer_at(route_of(base_url=server.base_url), upstream)
    with caplog.at_level(logging.ERROR):
        texts = [await write(summarizer, route_of()) for _ in range(3)]

    assert texts == ["", "", ""]
    assert summarizer.is_off
    assert summarizer.tally["calls"] == 1
    assert "summariser is off until reload" in caplog.text


async def test_the_requests_own_upstream_is_never_off(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """One client's wrong key or model says nothing about the next request's."""
    server.script.append(fail(401))
    summarizer = summarizer_at(None, upstream)
    route = route_of(base_url=server.base_url)

    assert await write(summarizer, route) == ""
    assert await write(summarizer, route) != ""


async def test_with_no_room_nobody_is_asked(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """A ledger that fills the brief leaves nothing to write."""
    summarizer = summarizer_at(None, upstream)

    assert not (await summarizer.write(exchange_to(route_of(base_url=server.base_url)), PROFILE, JOB, 10)).text
    assert summarizer.tally["calls"] == 0


async def test_a_fold_with_a_hanging_endpoint_ends_in_time(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """The whole way: deadline, extract, and the summary that comes late is kept for the next compaction."""
    hanging = stall()
    server.script.append(hanging)
    store, tasks = MemoryBriefStore(10**6), TaskGroup()
    maker = StoredBriefMaker(store, FakeCounter(per_four_chars), summarizer_at(None, upstream), 0.05, tasks)
    exchange = exchange_to(route_of(base_url=server.base_url))
    brief, _ = await asyncio.wait_for(maker.make(exchange, b"s", b"k", JOB), 2)

    assert brief.level is Level.EXTRACTIVE
    hanging.release.set()
    await tasks.drain(5)

    better = await store.find_waiting(b"s", [b"k"])
    assert better is not None
    assert better.level is Level.BRIEF
