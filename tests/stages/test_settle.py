"""The bill of an exchange however it ended, and what is learned from it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from gateway.core.context.brief import Level
from gateway.core.context.prices import PriceTable
from gateway.core.context.receipt import Receipt
from gateway.core.limits.decision import Limit
from gateway.core.limits.gauge import DAY_US, Kind
from gateway.core.limits.rules import RuleTable, Use
from gateway.core.routing.routes import Roles
from gateway.core.tokens.calibration import Correction
from gateway.core.tokens.profiles import Profile
from gateway.core.wire.generated import Generated
from gateway.core.wire.request import Endpoint, parse_metered
from gateway.core.wire.usage import Usage
from gateway.exchange import Bill, Count, Exchange, Hold, Outcome
from gateway.shell.limits.memory import MemoryLimiter
from gateway.stages.settle import CLIENT_GONE, LimitSettling, Settle
from tests.histories import PROFILE, FakeCounter, budget_of, exchange_of, per_word

MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "m", "messages": MESSAGES}
PATHS = {Endpoint.CHAT: "/v1/chat/completions", Endpoint.RESPONSES: "/v1/responses"}


@dataclass
class Learned:
    """`ports.Calibrations` that remembers what it was told."""

    reports: list[tuple[str, str, int, bool, Usage]] = field(default_factory=list)

    def correction_of(self, upstream: str, model: str) -> Correction:
        return Correction()

    def learn(self, upstream: str, model: str, raw_tokens: int, has_tools: bool, reported: Usage) -> None:
        self.reports.append((upstream, model, raw_tokens, has_tools, reported))


class Silent:
    """`ports.Telemetry` that says nothing."""

    def started(self, exchange: Exchange) -> None: ...

    def settled(self, exchange: Exchange) -> None: ...


def answered(
    body: dict[str, Any] = CHAT, endpoint: Endpoint = Endpoint.CHAT, *, is_shadow: bool = False, **outcome: Any
) -> Exchange:
    """An exchange that was counted (100 tokens), compacted (60) and sent, with this outcome."""
    exchange = exchange_of(json.dumps(CHAT).encode(), b"c", Roles.OPEN)
    exchange.endpoint = endpoint
    exchange.request = request = parse_metered(endpoint, json.dumps(body).encode())
    exchange.count = Count(PROFILE, 100, 10)
    completion = 50 if request.completion_tokens is None else request.completion_tokens
    exchange.receipt = Receipt(Level.NONE, True, 100, 60, completion, budget_of(1000), is_shadow=is_shadow)
    exchange.outcome = Outcome(**{"status": 200, "upstream": "up", "attempts": 1, **outcome})
    return exchange


async def counted_and_settled(settle: Settle, exchange: Exchange, cancel_after: int | None = None) -> None:
    """As the pipeline does it; `cancel_after` so many steps of the event loop."""
    counting = asyncio.ensure_future(settle.count_visible(exchange))
    counting.add_done_callback(partial(settle.finish_counted, exchange))
    if cancel_after is not None:
        for _ in range(cancel_after):
            await asyncio.sleep(0)
        counting.cancel()
    await asyncio.wait({counting})


def settled(exchange: Exchange) -> tuple[Bill | None, Learned]:
    """The bill, and what was learned."""
    learned = Learned()
    settle = Settle(FakeCounter(per_word), learned, Silent())
    if settle.needs_counting(exchange):
        asyncio.run(counted_and_settled(settle, exchange))
    else:
        settle.finish(exchange)
    return exchange.bill, learned


USAGE = Usage(63, 7, 5)


def test_the_report_is_the_bill_and_is_learned_from() -> None:
    """Against our own count of what was really forwarded."""
    bill, learned = settled(answered(usage=USAGE))

    assert bill == Bill(63, 7, 5, is_estimated=False)
    assert learned.reports == [("up", "m", 60, False, USAGE)]


def test_what_was_forwarded_is_what_is_compared() -> None:
    """In shadow mode the client's own prompt; without a receipt (embeddings) the count."""
    shadow = answered(usage=USAGE, is_shadow=True)
    embeddings = answered({"model": "m", "input": "Hi"}, Endpoint.EMBEDDINGS, usage=USAGE)
    embeddings.receipt = None

    assert settled(shadow)[1].reports == [("up", "m", 100, False, USAGE)]
    assert settled(embeddings)[1].reports == [("up", "m", 100, False, USAGE)]


TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize("fields", [{"tools": [TOOL]}, {"functions": [{"name": "f"}]}], ids=str)
def test_tools_are_noticed(fields: dict[str, Any]) -> None:
    assert settled(answered({**CHAT, **fields}, usage=USAGE))[1].reports == [("up", "m", 60, True, USAGE)]


RESPONSES = {"model": "m", "input": "Hi"}
UNSUITABLE = {
    "no report": answered(),
    "a cut stream": answered(usage=USAGE, is_stream=True, fault="cut"),
    "a client that left": answered(usage=USAGE, is_stream=True, fault="client_gone"),
    "an error": answered(usage=USAGE, status=400),
    "nothing answered": answered(usage=USAGE, status=0),
    "an earlier response": answered({**RESPONSES, "previous_response_id": "r"}, Endpoint.RESPONSES, usage=USAGE),
    "a conversation": answered({**RESPONSES, "conversation": "c"}, Endpoint.RESPONSES, usage=USAGE),
    "a stored prompt": answered({"model": "m", "prompt": {"id": "p"}}, Endpoint.RESPONSES, usage=USAGE),
}


@pytest.mark.parametrize("exchange", UNSUITABLE.values(), ids=UNSUITABLE)
def test_only_complete_answers_to_known_prompts_teach(exchange: Exchange) -> None:
    assert settled(exchange)[1].reports == []


def test_nothing_is_learned_of_what_was_not_counted() -> None:
    exchange = answered(usage=USAGE)
    exchange.count = None

    assert settled(exchange)[1].reports == []


def said(text: str, choice: int = 0) -> Generated:
    generated = Generated()
    for piece in text.split(" "):
        generated.add(choice, piece + " ")
    return generated


def test_what_was_visible_is_counted() -> None:
    """A cut stream, and a whole answer of a vendor that does not say what it used."""
    cut = answered({**CHAT, "stream": True}, is_stream=True, fault="cut", generated=said("one two three"))
    whole = answered(generated=said("one two"))

    assert settled(cut)[0] == Bill(60, 3, 0, is_estimated=True)
    assert settled(whole)[0] == Bill(60, 2, 0, is_estimated=True)


def test_calls_are_billed_with_their_framing() -> None:
    """Name, arguments and 7 more for one call; a choice of text beside it has none."""
    generated = said("some text", choice=1)
    generated.add((0, 0), "name ")
    generated.add((0, 0), "arguments")
    generated.calls[0] = 1

    assert settled(answered(generated=generated))[0] == Bill(60, 2 + 2 + 7, 0, is_estimated=True)


def test_text_that_was_not_kept_is_billed_by_its_share() -> None:
    generated = said("one two three four")
    generated._unkept_bytes = len("one two three four ") // 2

    assert settled(answered(generated=generated))[0] == Bill(60, 6, 0, is_estimated=True)


@dataclass
class Dearer(Learned):
    """An upstream with another tokenizer: twice our tokens, 5 more a prompt, 10 with tools."""

    def correction_of(self, upstream: str, model: str) -> Correction:
        return Correction(2_000_000, 5, 10)


def test_estimates_are_in_the_upstreams_own_tokens() -> None:
    """What was learned from other answers corrects the bill of one without a report."""
    exchange = answered({**CHAT, "tools": [TOOL]}, generated=said("one two three"))
    asyncio.run(counted_and_settled(Settle(FakeCounter(per_word), Dearer(), Silent()), exchange))

    assert exchange.bill == Bill(2 * 60 + 15, 6, 0, is_estimated=True)


STREAM = {"stream": True}
GONE: dict[str, Any] = {"status": CLIENT_GONE, "fault": "client_gone"}
UNSEEN: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "a reasoning stream before its head": ({"model": "o3", **STREAM}, GONE, 50),
    "a reasoning stream before its first token": (
        {"model": "o3", "max_completion_tokens": 700, "n": 2, **STREAM},
        {"is_stream": True, "generated": Generated()},
        1400,
    ),
    "a reasoning stream with little to see": ({"model": "gpt-5", **STREAM}, {"generated": said("one two")}, 50),
    "a reasoning stream with much to see": ({"model": "gpt-5", **STREAM}, {"generated": said("x " * 79)}, 79 + 3),
    "reasoning turned off": (
        {"model": "gpt-5.1", "reasoning_effort": "none", **STREAM}, {"generated": said("one two")}, 2 + 3,
    ),
    "a plain stream before its head": (STREAM, GONE, 0),
    "a plain stream before its first token": (STREAM, {"is_stream": True, "generated": Generated()}, 0),
    "an answer too large to be held": ({}, {}, 50),
    "an empty answer": ({}, {"generated": Generated()}, 0),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "outcome", "tokens"), UNSEEN.values(), ids=UNSEEN)
def test_what_nobody_can_see_costs_the_reservation(
    fields: dict[str, Any], outcome: dict[str, Any], tokens: int
) -> None:
    """Choices times the most that one may hold; what is seen to be more is billed as seen."""
    bill, _ = settled(answered({**CHAT, **fields}, **outcome))

    assert bill is not None
    assert bill.is_estimated
    assert bill.completion_tokens == tokens


def test_the_responses_endpoint_says_effort_in_its_own_words() -> None:
    quiet = {"model": "gpt-5.1", "input": "Hi", "reasoning": {"effort": "none"}}
    odd = {"model": "gpt-5.1", "input": "Hi", "reasoning": 7, "reasoning_effort": None}

    for body, tokens in ((quiet, 1 + 1 + 3), (odd, 50)):
        bill, _ = settled(answered(body, Endpoint.RESPONSES, generated=said("one")))
        assert bill is not None
        assert bill.completion_tokens == tokens


def test_embeddings_have_no_answer_to_estimate() -> None:
    """Neither abandoned nor unreported."""
    body = {"model": "m", "input": "Hi"}

    assert settled(answered(body, Endpoint.EMBEDDINGS))[0] == Bill(60, 0, 0, is_estimated=True)
    assert settled(answered(body, Endpoint.EMBEDDINGS, **GONE))[0] == Bill(60, 0, 0, is_estimated=True)


def test_an_abandoned_whole_answer_costs_all_that_it_might_have_held() -> None:
    """Choices times the completion, said by the request or by the budget; marked as an estimate."""
    gone: dict[str, Any] = {"status": CLIENT_GONE, "fault": "client_gone"}

    assert settled(answered({**CHAT, "n": 3, "max_tokens": 200}, **gone))[0] == Bill(60, 600, 0, is_estimated=True)
    assert settled(answered(**gone))[0] == Bill(60, 50, 0, is_estimated=True)


def test_nothing_is_billed_that_was_not_served() -> None:
    """Refusals of ours, errors of the upstream, and clients that left before the upstream was asked."""
    assert settled(answered(status=400))[0] is None
    assert settled(answered(status=503, attempts=0))[0] is None
    assert settled(answered(status=CLIENT_GONE, attempts=0))[0] is None


class Stuck(FakeCounter):
    """A tokenizer that breaks, or never answers."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__(per_word)
        self._error = error

    async def count(self, profile: Profile, texts: Sequence[str]) -> list[int]:
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()
        raise AssertionError


LIMITS = [Limit(kind.value.encode(), kind, 1000) for kind in (Kind.TOKENS, Kind.CONCURRENT, Kind.REQUESTS)]


async def held(limiter: MemoryLimiter, exchange: Exchange) -> Exchange:
    """With a request, 500 tokens and a place taken."""
    taken = Use(requests=1, tokens=500, concurrent=1)
    verdict = await limiter.take(LIMITS, taken.of_all(LIMITS))
    exchange.hold = Hold(LIMITS, taken, 500, verdict.day, verdict.states, (verdict.lease,) * len(LIMITS))
    return exchange


@pytest.mark.parametrize(
    ("outcome", "tokens_left"),
    [
        ({"usage": USAGE}, 1000 - 70),
        ({"status": 500}, 1000),
        ({"attempts": 0, "status": 429}, 1000),
        ({"status": CLIENT_GONE, "fault": "client_gone", "generated": said("three words here")}, 1000 - 60 - 3),
    ],
    ids=["answered", "failed", "never sent", "left"],
)
def test_holds_are_put_right(outcome: dict[str, Any], tokens_left: int) -> None:
    """The request stays counted, the tokens are those of the bill, and its place is free."""

    async def walk() -> list[int]:
        limiter = MemoryLimiter(lambda: DAY_US)
        exchange = await held(limiter, answered({**CHAT, "stream": True}, **outcome))
        rules, prices = RuleTable([]), PriceTable()
        settle = Settle(FakeCounter(per_word), Learned(), Silent(), None, LimitSettling(limiter, rules, prices))
        if settle.needs_counting(exchange):
            await counted_and_settled(settle, exchange)
        else:
            settle.finish(exchange)
        return [state.left for state in (await limiter.take(LIMITS, [0, 0, 0])).states]

    assert asyncio.run(walk()) == [tokens_left, 1000, 999]


@pytest.mark.parametrize(
    ("error", "cancel_after"),
    [(RuntimeError("no tokenizer"), None), (None, 1), (None, 0)],
    ids=["broken", "cancelled", "cancelled before it began"],
)
def test_a_hold_comes_back_though_nothing_can_be_counted(error: BaseException | None, cancel_after: int | None) -> None:
    """Billed at all that the answers may have been, and its place is free: nothing leaks at a shutdown."""

    async def walk() -> list[int]:
        limiter = MemoryLimiter(lambda: DAY_US)
        body = {**CHAT, "stream": True, "n": 3}
        exchange = await held(limiter, answered(body, generated=said("three words here")))
        limits = LimitSettling(limiter, RuleTable([]), PriceTable())
        settle = Settle(Stuck(error), Learned(), Silent(), None, limits)
        await counted_and_settled(settle, exchange, cancel_after)
        return [state.left for state in (await limiter.take(LIMITS, [0, 0, 0])).states]

    assert asyncio.run(walk()) == [1000 - 60 - 3 * 50, 1000, 999]


class Forgetful(Learned):
    """Calibrations that break."""

    def learn(self, upstream: str, model: str, raw_tokens: int, has_tools: bool, reported: Usage) -> None:
        raise RuntimeError("nothing is learned")


def test_a_hold_comes_back_whatever_breaks() -> None:
    """A bug in what is learned is a bug, and no leak."""

    async def walk() -> list[int]:
        limiter = MemoryLimiter(lambda: DAY_US)
        exchange = await held(limiter, answered(usage=USAGE))
        limits = LimitSettling(limiter, RuleTable([]), PriceTable())
        with pytest.raises(RuntimeError):
            Settle(FakeCounter(per_word), Forgetful(), Silent(), None, limits).finish(exchange)
        return [state.left for state in (await limiter.take(LIMITS, [0, 0, 0])).states]

    assert asyncio.run(walk()) == [1000 - 70, 1000, 999]
