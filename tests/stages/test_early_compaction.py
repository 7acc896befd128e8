"""Chats that fit are compacted where that costs less: after a pause, and never by guessing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.context.budget import Budget
from gateway.core.context.economics import Cause, Prices
from gateway.core.context.prices import ModelPrices, PriceTable
from gateway.core.errors import Refusal
from gateway.fitting.gain import EarlyRule
from gateway.shell.state.sent_prompts import RememberedPrompts
from tests.histories import (
    FakeSummarizer,
    Message,
    Sent,
    World,
    body_of,
    budget_of,
    budgets,
    exchange_of,
    route_of,
    sessions,
)
from tests.shell.test_sent_prompts import Clock
from tests.stages.test_recall_and_shortening import ask, long_result, say, small_talk, step

T = TypeVar("T")
LOOP = asyncio.new_event_loop()
SYSTEM: Message = {"role": "system", "content": "You help."}
SHORT_S, LONG_S = 20.0, 900.0


def run(work: Coroutine[Any, Any, T]) -> T:
    return LOOP.run_until_complete(work)


class Timed:
    """A world with a clock, in which whatever is not refused reaches its upstream."""

    def __init__(self, rule: tuple[PriceTable, float] = (PriceTable(), 0.2), cache_s: float = 300.0, **options: Any):
        self.clock = Clock()
        self.sent = RememberedPrompts(100, self.clock)
        self.route = replace(route_of(), cache_s=cache_s)
        budget = options.pop("budget", None) or budget_of(6000, brief=400, recent=200, retrieved=120)
        self.world = World(budget, early=EarlyRule(self.sent, *rule), **options)

    def send(self, messages: Sequence[Message], after_s: float = SHORT_S, client: bytes = b"someone") -> Sent:
        self.clock.now_s += after_s
        body = body_of(messages)
        exchange = exchange_of(body, client, self.route.roles)
        exchange.routes, refusal = [self.route], None
        try:
            for stage in self.world.stages:
                run(stage(exchange))
        except Refusal as refused:
            refusal = refused
        if exchange.sent_mark is not None and refusal is None:
            self.sent.put(self.route.name, exchange.sent_mark)
        return Sent(messages, body, exchange.prompt or body, refusal, exchange)


def going_on(history: Sequence[Message], number: int) -> list[Message]:
    return [*history, say(f"Answer {number} it is."), ask(f"And what about soup on day {number}?")]


CHAT = [SYSTEM, *small_talk(50), ask("What did you say of soup?")]
AGENT = [SYSTEM, ask("Tidy the modules."), *(each for turn in range(6) for each in step(turn, long_result(turn, 90)))]
KINDS = {"chat": CHAT, "agent": AGENT}


def longer(history: list[Message], number: int) -> list[Message]:
    """The same a request later."""
    if history[-1]["role"] == "tool":
        return [*history, *step(100 + number, f"{number} lines were tidied.")]
    return going_on(history, number)


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_rule_nothing_changes(kind: str) -> None:
    """A chat that fits keeps its client's own bytes, and nothing is remembered of it."""
    history = KINDS[kind]
    world = World(budget_of(6000, brief=400, recent=200, retrieved=800))
    for number in range(3):
        sent = run(world.send(history))
        history = longer(history, number)

        assert sent.forwarded == sent.body
        assert sent.exchange.sent_mark is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_pause_is_used_once_and_what_was_decided_stays(kind: str) -> None:
    """The first request after a pause is compacted, for that reason; those that follow are arranged as it was."""
    timed, history = Timed(), KINDS[kind]
    first = timed.send(history)
    history = longer(history, 1)
    paused = timed.send(history, LONG_S)
    later = []
    for number in range(2, 6):
        history = longer(history, number)
        later.append(timed.send(history))

    assert first.forwarded == first.body
    assert not paused.receipt.has_overflowed
    assert (paused.receipt.is_fresh, paused.receipt.cause) == (True, Cause.GAIN)
    assert paused.receipt.prompt_tokens < 0.9 * paused.receipt.client_tokens
    assert '"cause":"gain"' in paused.receipt.explain()
    assert [sent.receipt.is_fresh for sent in later] == [False] * 4
    assert all(sent.forwarded != sent.body for sent in later)
    assert all(sent.raws[:2] == paused.raws[:2] for sent in later)


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_prefix_is_not_given_up(kind: str) -> None:
    """At the usual prices, request after request: the client's own bytes, as long as they fit."""
    timed, history = Timed(), KINDS[kind]
    for number in range(6):
        sent = timed.send(history)
        history = longer(history, number)

        assert sent.forwarded == sent.body or sent.receipt.has_overflowed


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_known_is_left_alone(kind: str) -> None:
    """A first request, another client's, and one whose beginning was rewritten may be warm elsewhere."""
    timed, history = Timed(), KINDS[kind]
    first = timed.send(history, LONG_S)
    other = timed.send(longer(history, 1), LONG_S, client=b"another")
    rewritten = timed.send([history[0], ask("Something else."), *longer(history, 1)[2:]], LONG_S)

    assert all(sent.forwarded == sent.body for sent in (first, other, rewritten))


def test_an_upstream_that_caches_nothing_needs_no_pause() -> None:
    """Every token is paid in full each time, so the shorter prompt pays at once, and even for a first request."""
    sent = Timed(cache_s=0.0).send(CHAT)

    assert (sent.receipt.is_fresh, sent.receipt.cause) == (True, Cause.GAIN)


def _priced(prices: Prices, output: float) -> PriceTable:
    return PriceTable([("gpt-*", ModelPrices(prices, output))])


USUAL = Prices()
PRICES: dict[str, tuple[dict[str, Any], bool]] = {
    "history that is worth more than anything": ({"rule": (PriceTable(), 10.0)}, False),
    "history that is worth nothing": ({"rule": (PriceTable(), 0.0)}, True),
    "briefs that a dear model writes": (
        {"summarizer": FakeSummarizer(), "rule": (_priced(USUAL, 100.0), 0.2)},
        False,
    ),
    "another unit": ({"rule": (_priced(Prices(1000.0, 100.0, 1250.0), 4000.0), 0.2)}, True),
}


@pytest.mark.parametrize("name", PRICES)
def test_prices_and_worth_decide_what_a_pause_is_for(name: str) -> None:
    """The rule of `economics`, with what is configured."""
    options, is_early = PRICES[name]
    timed = Timed(**options)
    timed.send(CHAT)
    paused = timed.send(going_on(CHAT, 1), LONG_S)

    assert paused.receipt.is_fresh is is_early


def test_what_is_recalled_anew_for_each_question_is_charged_for_each() -> None:
    """With a large share of it a chat of questions keeps its prefix, though the pause has cooled it."""
    timed = Timed(budget=budget_of(6000, brief=400, recent=200, retrieved=2000))
    timed.send(CHAT)

    assert not timed.send(going_on(CHAT, 1), LONG_S).receipt.is_fresh


def test_what_must_be_compacted_is_whatever_the_prices_say() -> None:
    """Forced is forced, and says so."""
    timed = Timed((PriceTable(), 10.0))
    sent = timed.send([SYSTEM, *small_talk(90), ask("And now?")])

    assert sent.receipt.has_overflowed
    assert (sent.receipt.is_fresh, sent.receipt.cause) == (True, Cause.FORCED)


def test_a_shadow_plans_and_forwards_nothing_else() -> None:
    """The client's own bytes go out, and are what is remembered."""
    timed = Timed(is_shadow=True)
    timed.send(CHAT)
    paused = timed.send(going_on(CHAT, 1), LONG_S)

    assert paused.forwarded == paused.body
    assert paused.receipt.cause is Cause.GAIN
    assert paused.exchange.sent_mark is not None
    assert paused.exchange.sent_mark.tokens == paused.receipt.client_tokens


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(budgets, sessions(), st.lists(st.sampled_from([SHORT_S, LONG_S]), min_size=10, max_size=10), st.booleans())
def test_what_fits_is_never_refused_nor_made_too_long(
    budget: Budget, session: list[list[Message]], pauses: list[float], is_cached: bool
) -> None:
    """Whatever is compacted early, its prompt fits, is shorter than the client's, and is counted rightly."""
    timed = Timed(budget=budget, cache_s=300.0 if is_cached else 0.0)
    for messages, after_s in zip(session, pauses, strict=False):
        sent = timed.send(messages, after_s)
        if sent.refusal is not None:
            assert sent.exchange.receipt is None or sent.receipt.has_overflowed
            continue
        counted = timed.world.recount(sent.forwarded)

        assert counted == sent.receipt.prompt_tokens <= sent.limit
        assert sent.forwarded == sent.body or counted < sent.receipt.client_tokens
