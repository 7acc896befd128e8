"""Counting: every token by section, each message once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import Refusal
from gateway.core.routing.routes import Roles
from gateway.core.tokens.profiles import Profile, profile_of
from gateway.core.wire.request import Endpoint, parse_metered
from gateway.exchange import Count, Exchange
from gateway.shell.tokens.digest import message_digests
from gateway.stages.count import CountCaches, CountStage
from tests.histories import (
    FakeCounter,
    Message,
    body_of,
    cost_of,
    exchange_of,
    lumpy,
    per_four_chars,
    per_word,
    recount,
    sessions,
)

T = TypeVar("T")
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def stage_of(counter: FakeCounter, max_bytes: int = 2**20, **encodings: str) -> CountStage:
    return CountStage(counter, CountCaches(max_bytes), message_digests, encodings)


async def counted(stage: CountStage, body: bytes) -> Count:
    exchange = exchange_of(body, b"c", Roles.OPEN)
    await stage(exchange)
    assert exchange.count is not None
    return exchange.count


@settings(max_examples=60, deadline=None)
@given(session=sessions(), rule=st.sampled_from([per_four_chars, per_word, lumpy]), is_tiny=st.booleans())
def test_the_count_is_what_the_bytes_cost(
    session: list[list[Message]], rule: Callable[[str], int], is_tiny: bool
) -> None:
    """With caches warm, cold or far too small, each request counts as if it were the first."""
    stage = stage_of(FakeCounter(rule), 5000 if is_tiny else 2**20)
    for messages in session:
        body = body_of(messages, tools=TOOLS)
        count = run(counted(stage, body))

        assert count.prompt_tokens == recount(body, rule) == sum(count.sections.values())
        assert [fact.tokens for fact in count.facts] == [cost_of(message, rule) for message in messages]
        assert count.fixed_tokens == count.prompt_tokens - sum(fact.tokens for fact in count.facts)


def test_sections_name_where_tokens_go() -> None:
    """System and developer messages, turns, tools, schemas and what a prompt costs once."""
    messages = [
        {"role": "system", "content": "x" * 40},
        {"role": "developer", "content": "x" * 40},
        {"role": "user", "content": "x" * 80},
    ]
    count = run(counted(stage_of(FakeCounter(per_four_chars)), body_of(messages, tools=TOOLS, response_format=None)))

    assert count.sections == {
        "tools": per_four_chars(json.dumps(TOOLS)),
        "response_format": 0,
        "system": (3 + 2 + 10) + (3 + 3 + 10),
        "turns": 3 + 1 + 20,
        "priming": 3,
    }


def test_a_message_is_tokenised_once() -> None:
    """A chat resends its history: only what is new is counted again."""
    counter = FakeCounter(per_four_chars)
    stage = stage_of(counter)
    chat = [{"role": "user", "content": f"question {number}"} for number in range(50)]
    run(counted(stage, body_of(chat, tools=TOOLS)))
    before = counter.calls
    run(counted(stage, body_of(chat, tools=TOOLS)))

    assert counter.calls == before
    run(counted(stage, body_of([*chat, {"role": "user", "content": "new"}], tools=TOOLS)))
    assert counter.calls == before + 2  # its role and its text


def test_another_tokenizer_counts_for_itself() -> None:
    """What one model family counted is not taken for another's."""
    seen: list[str] = []

    class Watching(FakeCounter):
        def count_here(self, profile: Profile, text: str) -> int:
            seen.append(profile.encoding)
            return super().count_here(profile, text)

    stage = stage_of(Watching(per_four_chars), **{"mine-*": "words"})
    for model in ("gpt-4o", "gpt-4", "mine-1", "gpt-4o"):
        run(counted(stage, body_of([{"role": "user", "content": "hi"}], model=model)))

    assert seen == ["o200k_base"] * 2 + ["cl100k_base"] * 2 + ["words"] * 2


def test_a_name_costs_what_its_family_says() -> None:
    message = {"role": "user", "content": "hi", "name": "ann"}
    stage = stage_of(FakeCounter(per_word))
    old, new = (run(counted(stage, body_of([message], model=model))).prompt_tokens for model in ("gpt-4", "gpt-4o"))

    assert old - new == profile_of("gpt-4", {}).name_tokens == 1


@pytest.mark.parametrize(
    ("endpoint", "fields", "tokens"),
    [
        (Endpoint.COMPLETIONS, {"prompt": "x" * 40}, 10),
        (Endpoint.COMPLETIONS, {"prompt": [1, 2, 3]}, 3),
        (Endpoint.EMBEDDINGS, {"input": ["x" * 40, "x" * 8]}, 12),
        (Endpoint.RESPONSES, {"input": "x" * 40, "instructions": "x" * 8}, 12),
        (Endpoint.RESPONSES, {}, 0),
    ],
)
def test_other_endpoints_are_counted_by_their_sections(endpoint: Endpoint, fields: Message, tokens: int) -> None:
    """A prompt, an input, instructions; there are no messages and so no facts."""
    exchange = exchange_for(endpoint, {"model": "m", **fields})
    run(stage_of(FakeCounter(per_four_chars))(exchange))

    assert exchange.count is not None
    assert (exchange.count.prompt_tokens, list(exchange.count.facts)) == (tokens, [])


def exchange_for(endpoint: Endpoint, fields: Message) -> Exchange:
    exchange = exchange_of(body_of([{"role": "user", "content": "x"}]), b"c", Roles.OPEN)
    exchange.request = parse_metered(endpoint, json.dumps(fields).encode())
    return exchange


def test_what_is_passed_through_is_not_counted() -> None:
    exchange = exchange_for(Endpoint.COMPLETIONS, {"model": "m", "prompt": "x"})
    exchange.request = None
    run(stage_of(FakeCounter(per_four_chars))(exchange))

    assert exchange.count is None


@pytest.mark.parametrize(
    ("messages", "param", "code"),
    [
        ([{"role": "user", "content": "x"}, {"role": "robot", "content": "x"}], "messages[1].role", "invalid_value"),
        ([{"content": "x"}], "messages[0].role", "missing_required_parameter"),
        ([{"role": "user", "content": 7}], "messages[0].content", "invalid_type"),
        (["hello"], "messages[0]", "invalid_type"),
    ],
)
def test_a_bad_message_is_refused_by_name(messages: list[Any], param: str, code: str) -> None:
    """The refusal names the message and the field, known messages before it notwithstanding."""
    stage = stage_of(FakeCounter(per_four_chars))
    run(counted(stage, body_of([{"role": "user", "content": "x"}])))
    with pytest.raises(Refusal) as refused:
        run(counted(stage, body_of(messages)))

    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, code)


def test_a_refused_message_is_not_remembered() -> None:
    """The same bad request is refused every time."""
    stage = stage_of(FakeCounter(per_four_chars))
    for _ in range(3):
        with pytest.raises(Refusal):
            run(counted(stage, body_of([{"role": "robot", "content": "x"}])))
