"""Hundreds of requests to upstreams that misbehave at random, from clients that leave at random: all are told the
truth, and nothing is left of them.

`python3 dev.py soak-faults` does the same with 220,000 requests, and looks at memory as well.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from benchmarks.soak_answers import DONE, Call, event, text_of
from benchmarks.soak_callers import APPS, PASSED, Ask, Asks, Got, Line, call, judge
from benchmarks.soak_faults import Soak, Verdict, hold, judge_soak, running_soak
from benchmarks.soak_upstream import FAULTS, Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

REQUESTS, STREAMS = 400, 150


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def soak() -> AsyncIterator[Soak]:
    async with running_soak(Asks(7, REQUESTS, STREAMS), concurrency=32) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def found(soak: Soak) -> Verdict:
    return await judge_soak(soak)


async def test_everybody_was_told_the_truth(found: Verdict) -> None:
    """And the run was a fair one: all kinds of ends came about, and most answers were good."""
    seen = found.tally.seen

    assert found.tally.lies == []
    assert found.broken == []
    assert (found.tally.done, found.tally.streams) == (REQUESTS + STREAMS, STREAMS)
    assert {"200", "200 stream", "200 stream, error event", "400", "404", "502", "left"} <= set(seen)
    assert seen["200"] + seen["200 stream"] > (REQUESTS + STREAMS) / 2
    assert found.end.samples.total("token_budget_overflows_total") > 0
    assert found.end.samples.total("response_cache_hits_total") > 0


async def test_nothing_is_left_of_what_has_ended(found: Verdict) -> None:
    assert found.end.in_flight == 0
    assert found.end.buffered_bytes == 0
    assert found.end.files <= found.start.files + 1


async def test_limits_are_whole_again(found: Verdict) -> None:
    assert found.lacking == []


async def test_a_limit_that_lacks_one_is_known(found: Verdict, soak: Soak) -> None:
    line = Line(soak.gateway.port)
    holding = asyncio.create_task(call(line, hold(APPS[0])))
    while not (await soak.mark()).in_flight:
        assert not holding.done()
    lacking = await soak.lacking_of(APPS[0])
    holding.cancel()
    line.close()
    await soak.quiet()

    assert "not all" in lacking
    assert await soak.lacking_of(APPS[0]) == ""


async def test_every_fault_is_drawn() -> None:
    """By the seed alone, and another time for a retry."""
    drawn = [Server("one", 7).fault_of(f"7-{number}") for number in range(3000)]
    twice = Server("one", 7)
    again = [(twice.fault_of(f"7-{number}"), twice.fault_of(f"7-{number}")) for number in range(3000)]

    assert {play for _, play in FAULTS.values()} | {None} == set(drawn)
    assert drawn == [first for first, _ in again]
    assert any(first is not second for first, second in again)


WHOLE = json.dumps({"choices": [{"message": {"content": text_of("m")}, "finish_reason": "stop"}]}).encode()
ERROR = b'{"error":{"message":"no","type":"server_error","param":null,"code":null}}'


def events(text: str, finish: str | None, *last: bytes) -> list[bytes]:
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]
    return [event({"choices": choices}), *last]


JUDGED: dict[str, tuple[bool, Got, bool]] = {
    "whole": (False, Got(200, "", [WHOLE], True), True),
    "whole, of another": (False, Got(200, "", [WHOLE.replace(b"m:", b"n:")], True), False),
    "half, shown as whole": (False, Got(200, "", [WHOLE[:40]], True), False),
    "half, cut": (False, Got(200, "", [WHOLE[:40]], False), True),
    "whole, cut off by length": (False, Got(200, "", [WHOLE.replace(b'"stop"', b'"length"')], True), False),
    "an error": (False, Got(502, "", [ERROR], True), True),
    "an error that says nothing": (False, Got(502, "", [b"{}"], True), False),
    "half an error": (False, Got(502, "", [ERROR[:20]], False), False),
    "a whole one without end": (False, Got(200, "", [WHOLE], has_hung=True), False),
    "nothing": (False, Got(), False),
    "stream": (True, Got(200, "", events(text_of("m"), "stop", DONE), True), True),
    "stream without its end mark": (True, Got(200, "", events(text_of("m"), "stop"), True), True),
    "stream without any end": (True, Got(200, "", events(text_of("m"), None), True), False),
    "half a stream with an end": (True, Got(200, "", events(text_of("m")[:9], "stop", DONE), True), False),
    "half a stream, cut": (True, Got(200, "", events(text_of("m")[:9], None), False), True),
    "half a stream, an error": (True, Got(200, "", events("", None, b"data: " + ERROR + b"\n\n"), True), True),
    "an error and an end mark": (True, Got(200, "", events("", None, b"data: " + ERROR + b"\n\n", DONE), True), False),
    "half an event": (True, Got(200, "", events(text_of("m"), "stop", DONE, b"data: {"), True), False),
}


@pytest.mark.parametrize("name", JUDGED)
async def test_a_lie_is_known(name: str) -> None:
    """What judges the run can tell, or the run would show nothing."""
    is_stream, got, is_true = JUDGED[name]

    assert judge(Ask("m", "app-1", b"", is_stream=is_stream), got)[1] == is_true


async def test_what_is_passed_through_is_at_least_its_own() -> None:
    ask = Ask("m", "app-1", b"", PASSED)

    assert judge(ask, Got(200, "", [WHOLE[:60]], True)) == ("200 passed through", True)
    assert not judge(ask, Got(200, "", [b'{"choices": "another"}'], True))[1]


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
async def test_a_good_answer_of_the_upstream_is_true(is_stream: bool) -> None:
    body = b'{"stream":true,[n=m]}' if is_stream else b"{[n=m]}"
    call = Call(asyncio.Transport(), body, "m")

    assert judge(Ask("m", "app-1", b"", is_stream=is_stream), Got(200, "", call.pieces(), True))[1]
