"""Counting: every token by section, each message once."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.context.count_caches import CountCaches
from gateway.core.errors import Refusal
from gateway.core.routing.routes import Roles
from gateway.core.tokens.profiles import Profile, profile_of
from gateway.core.tokens.schema_text import Manner, render_tools
from gateway.core.wire.request import Endpoint, parse_metered
from gateway.exchange import Count, Exchange
from gateway.shell.tokens.digest import message_digests
from gateway.stages.count import CountStage
from tests.histories import (
    FakeCounter,
    Message,
    body_of,
    costs_of,
    exchange_of,
    lumpy,
    per_four_chars,
    per_word,
    recount,
    sessions,
)

T = TypeVar("T")
TOOLS: list[Any] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def stage_of(counter: FakeCounter, max_bytes: int = 2**20, **encodings: str) -> CountStage:
    return CountStage(counter, CountCaches(max_bytes, message_digests), encodings)


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
        assert [fact.tokens for fact in count.facts] == costs_of(messages, rule)
        assert count.fixed_tokens == count.prompt_tokens - sum(fact.tokens for fact in count.facts)


def test_sections_name_where_tokens_go() -> None:
    """System and developer messages, turns, tools, schemas and what a prompt costs once."""
    messages = [
        {"role": "system", "content": "x" * 40},
        {"role": "developer", "content": "x" * 40},
        {"role": "user", "content": "x" * 80},
    ]
    count = run(counted(stage_of(FakeCounter(per_four_chars)), body_of(messages, tools=TOOLS, response_format=None)))
    text = render_tools([TOOLS[0]["function"]], Manner())
    assert text is not None

    assert count.sections == {
        "tools": per_four_chars(text) - 1 + per_four_chars("x" * 42) - per_four_chars("x" * 40),
        "response_format": 0,
        "system": (4 + 10) + (4 + 10),
        "turns": 4 + 20,
        "priming": 3,
    }


@pytest.mark.parametrize(
    ("choice", "tokens"),
    [("auto", None), ("required", None), ("none", 1), ({"type": "function", "function": {"name": "f"}}, 4 + 4)],
)
def test_a_choice_is_a_section_where_it_costs(choice: Any, tokens: int | None) -> None:
    """With tools only; most choices are free."""
    stage = stage_of(FakeCounter(per_four_chars))
    messages = [{"role": "user", "content": "x"}]
    with_tools = run(counted(stage, body_of(messages, tools=TOOLS, tool_choice=choice)))
    without = run(counted(stage, body_of(messages, tool_choice=choice)))

    assert with_tools.sections.get("tool_choice") == tokens
    assert "tool_choice" not in without.sections


def test_results_of_one_turn_cost_what_they_do_together() -> None:
    """As a list of texts, whether they came before or are new."""
    calls = [{"id": name, "function": {"name": "f", "arguments": "{}"}} for name in "ab"]
    results = [{"role": "tool", "tool_call_id": name, "content": "It's\nso"} for name in "ab"]
    alone = [{"role": "assistant", "content": None, "tool_calls": calls[:1]}, results[0]]
    together = [{"role": "assistant", "content": None, "tool_calls": calls}, *results]
    stage = stage_of(FakeCounter(len))
    before = run(counted(stage, body_of(alone)))
    first = run(counted(stage, body_of(together)))
    again = run(counted(stage, body_of(together)))

    assert [fact.tokens for fact in first.facts[1:]] == [len('["It\'s\\nso",'), len(' "It\'s\\nso"]')]
    assert first.facts == again.facts
    assert [fact.tokens for fact in run(counted(stage, body_of(alone))).facts] == [fact.tokens for fact in before.facts]


def test_a_format_marks_every_answer() -> None:
    """Past answers and the one to come carry its name."""
    schema = {"type": "json_schema", "json_schema": {"name": "Name", "schema": {}}}
    chat = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]
    stage = stage_of(FakeCounter(per_four_chars))
    short, long = (
        run(counted(stage, body_of(messages, response_format=schema))).sections["response_format"]
        for messages in (chat[:1], chat)
    )

    assert long - short == 2 + per_four_chars("Name")


def test_bills_of_the_past_are_judged_by_their_day() -> None:
    """In its first month the Responses endpoint charged a text of its own."""
    fields = {"model": "gpt-4o", "input": "hi", "tools": [{"type": "function", "name": "f"}]}
    totals = []
    for day in (datetime.date(2025, 3, 20), None):
        stage = CountStage(FakeCounter(per_word), CountCaches(2**20, message_digests), {}, day)
        exchange = exchange_for(Endpoint.RESPONSES, fields)
        run(stage(exchange))
        assert exchange.count is not None
        totals.append(exchange.count.prompt_tokens)

    assert totals[0] - totals[1] == 195 + 18 + 3


def test_items_of_an_input_are_tokenised_once() -> None:
    """A Responses input is resent like a chat."""
    counter = FakeCounter(per_four_chars)
    stage = stage_of(counter)
    items = [{"role": "user", "content": f"question {number}"} for number in range(50)]
    run(stage(exchange_for(Endpoint.RESPONSES, {"model": "m", "input": items})))
    before = counter.calls
    run(stage(exchange_for(Endpoint.RESPONSES, {"model": "m", "input": [*items, {"role": "user", "content": "new"}]})))

    assert counter.calls == before + 1


def test_known_items_have_facts_of_their_own() -> None:
    """As messages have; together with what stands beside them they are the whole."""
    items = [
        {"role": "user", "content": "x" * 40},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc", "status": "completed"},
        {"type": "function_call_output", "call_id": "c", "output": "x" * 8},
    ]
    exchange = exchange_for(Endpoint.RESPONSES, {"model": "m", "input": items, "instructions": "x" * 4})
    run(stage_of(FakeCounter(per_four_chars))(exchange))
    count = exchange.count

    assert count is not None
    assert [(fact.role, fact.calls, fact.answers) for fact in count.facts] == [
        ("user", (), None), ("assistant", ("c",), None), ("tool", (), "c"),
    ]  # fmt: skip
    assert [fact.tokens for fact in count.facts] == [14, 4 + 4 + 1 + 3 + 3, 3 + 2]
    assert count.prompt_tokens == 5 + 3 + 14 + 15 + 5 == count.fixed_tokens + 34


def test_thinking_changes_what_past_calls_cost() -> None:
    """By the request's own effort, else by what the model does by itself."""
    items = [{"role": "user", "content": "x"}, {"type": "function_call", "name": "f", "arguments": "{}"}]
    totals = {}
    for model, effort in (("gpt-5", None), ("gpt-5", "none"), ("gpt-5.4", None), ("gpt-5.4", "high")):
        reasoning = {"effort": effort} if effort else None
        exchange = exchange_for(Endpoint.RESPONSES, {"model": model, "input": items, "reasoning": reasoning})
        run(stage_of(FakeCounter(per_word))(exchange))
        assert exchange.count is not None
        totals[model, effort] = exchange.count.prompt_tokens

    assert totals["gpt-5", None] == totals["gpt-5.4", "high"] == totals["gpt-5", "none"] - 3
    assert totals["gpt-5.4", None] == totals["gpt-5", "none"]


def test_pro_mode_brings_a_text_of_its_own() -> None:
    exchange = exchange_for(Endpoint.RESPONSES, {"model": "gpt-5.6", "input": "x", "reasoning": {"mode": "pro"}})
    run(stage_of(FakeCounter(per_word))(exchange))

    assert exchange.count is not None
    assert exchange.count.sections["mode"] == 1531


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        (Endpoint.RESPONSES, {"input": [None, 3, "x", [], {}]}),
        (Endpoint.RESPONSES, {"input": {"a": 1}, "tools": 3, "text": [], "reasoning": 7, "tool_choice": [1]}),
        (Endpoint.EMBEDDINGS, {"input": {"a": [1.5, None]}}),
        (Endpoint.COMPLETIONS, {"prompt": [[1.0, 2], ["x"]]}),
    ],
)
def test_odd_bodies_are_counted_all_the_same(endpoint: Endpoint, fields: Message) -> None:
    """What the upstream will refuse is left to it."""
    exchange = exchange_for(endpoint, {"model": "m", **fields})
    run(stage_of(FakeCounter(per_word))(exchange))

    assert exchange.count is not None
    assert exchange.count.prompt_tokens >= 0


@pytest.mark.parametrize("value", [b"[" * 900 + b"]" * 900, b'{"a":' * 900 + b"1" + b"}" * 900])
@pytest.mark.parametrize("key", ["tools", "response_format", "tool_choice"])
def test_what_is_nested_too_deeply_is_counted_or_refused(key: str, value: bytes) -> None:
    """A 400 that names the field, or a number; never an error of ours."""
    body = b'{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],"tools":[],"%s":%s}' % (key.encode(), value)
    body = body if key != "tools" else body.replace(b'"tools":[],', b"")
    with contextlib.suppress(Refusal):
        assert run(counted(stage_of(FakeCounter(per_word)), body)).prompt_tokens > 0


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
    assert counter.calls == before + 1  # its text


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

    assert seen == ["o200k_base", "cl100k_base", "words"]


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
        (Endpoint.RESPONSES, {"input": "x" * 40, "instructions": "x" * 8}, 3 + (4 + 10) + (4 + 2)),
        (Endpoint.RESPONSES, {"input": [{"type": "item_reference", "id": "x"}, "x" * 40]}, 3 + 10),
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
