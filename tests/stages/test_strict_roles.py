"""`roles: strict`: what a strict chat template takes from the client, it takes from the gateway too.

The templates' rules are in tests/strict_templates.py. Histories are generated and recorded ones, sent as they grow.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.context.budget import Budget
from gateway.core.routing.routes import Roles
from tests.histories import (
    FakeSummarizer,
    Message,
    Sent,
    World,
    budget_of,
    contents,
    failing,
    growing,
    texts,
    told_turns,
    tool_rounds,
    users,
)
from tests.shared_data import shared_data
from tests.strict_templates import TEMPLATES, TemplateError, is_taken

T = TypeVar("T")
LOOP = asyncio.new_event_loop()
many = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def run(work: Coroutine[Any, Any, T]) -> T:
    return LOOP.run_until_complete(work)


# What the templates take and refuse

SYSTEM: Message = {"role": "system", "content": "s"}
USER: Message = {"role": "user", "content": "u"}
ASSISTANT: Message = {"role": "assistant", "content": "a"}
CALL: Message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
RESULT: Message = {"role": "tool", "tool_call_id": "1", "content": "r"}
ALL, TOOLS_TOO, QWEN = {*TEMPLATES}, {"mistral", "qwen_3"}, {"qwen_3"}
TAKEN: dict[str, tuple[list[Message], set[str]]] = {
    "a question": ([USER], ALL),
    "turns": ([SYSTEM, USER, ASSISTANT, USER], ALL),
    "prefill": ([USER, ASSISTANT], ALL),
    "a tool loop": ([SYSTEM, USER, CALL, RESULT, CALL, RESULT, ASSISTANT, USER], TOOLS_TOO),
    "a call without its result": ([USER, CALL, ASSISTANT], QWEN),
    "a result without its call": ([USER, RESULT, ASSISTANT], QWEN),
    "a question after a result": ([USER, CALL, RESULT, USER], QWEN),
    "two questions": ([USER, USER], QWEN),
    "an answer first": ([SYSTEM, ASSISTANT, USER], QWEN),
    "a second system message": ([SYSTEM, SYSTEM, USER], set()),
    "a late system message": ([USER, SYSTEM, ASSISTANT], set()),
    "no question": ([SYSTEM], {"mistral"}),
}


@pytest.mark.parametrize(("messages", "by"), TAKEN.values(), ids=TAKEN.keys())
def test_the_templates_are_as_strict_as_the_real_ones(messages: list[Message], by: set[str]) -> None:
    """The double itself: which template takes what."""
    assert {name for name, template in TEMPLATES.items() if is_taken(template, messages)} == by


# Generated histories

answers = contents.map(lambda text: {"role": "assistant", "content": text})
plain_turns = st.tuples(users, answers).map(list)


@st.composite
def tool_turns(draw: st.DrawFn) -> list[Message]:
    """A question, rounds of tools, and the answer."""
    rounds = draw(st.lists(tool_rounds(), max_size=5))
    return [draw(users), *(message for each in rounds for message in each), draw(answers)]


def histories(turns: st.SearchStrategy[list[Message]]) -> st.SearchStrategy[list[Message]]:
    """A conversation that every template takes as far as it takes its kind of turns."""
    systems = st.lists(texts.map(lambda text: {"role": "system", "content": text}), max_size=1)
    return st.builds(
        lambda system, turns: [*system, *(message for turn in turns for message in turn)],
        systems,
        st.lists(turns, min_size=1, max_size=7),
    )


def _world(budget: Budget, answer: Any, ratio: float, soft: float) -> World:
    summarizer = FakeSummarizer(answer) if answer else None
    return World(budget, Roles.STRICT, summarizer=summarizer, target_ratio=ratio, soft_ratio=soft)


budgets = st.builds(
    lambda total, brief, recent, retrieved: budget_of(total, 0, brief, recent, retrieved),
    st.one_of(st.integers(64, 600), st.integers(300, 3000)),
    st.sampled_from([100, 200, 400, 0]),
    st.sampled_from([0, 50, 450]),
    st.sampled_from([0, 200, 800]),
)
worlds = st.builds(
    _world,
    budgets,
    st.sampled_from([None, told_turns, failing]),
    st.sampled_from([0.3, 0.5]),
    st.sampled_from([0.7, 1]),
)


def assert_still_taken(sent: Sent) -> None:
    """Every template that takes what the client sent takes what is forwarded."""
    if sent.refusal is not None:
        return
    for name, template in TEMPLATES.items():
        if is_taken(template, sent.messages):
            try:
                template(sent.shown)
            except TemplateError as error:
                roles = [message["role"] for message in sent.shown]
                raise AssertionError(f"{name}: {error}: {roles}") from None


@many
@given(history=histories(plain_turns), world=worlds)
def test_plain_chats(history: list[Message], world: World) -> None:
    """Questions and answers: one system message, first, then both by turns, for every growing prefix."""
    for messages in growing(history):
        assert_still_taken(run(world.send(messages)))


@many
@given(history=histories(tool_turns()), world=worlds)
def test_tool_loops(history: list[Message], world: World) -> None:
    """Calls keep their results, no question stands between them, and turns alternate around them."""
    for messages in growing(history):
        assert_still_taken(run(world.send(messages)))


@many
@given(history=histories(tool_turns()), start=texts.filter(bool), world=worlds)
def test_prefill(history: list[Message], start: str, world: World) -> None:
    """An answer that the client has begun stays last, and is what the model goes on with."""
    messages: list[Message] = [*history, {"role": "user", "content": "Go on."}, {"role": "assistant", "content": start}]
    sent = run(world.send(messages))
    assert_still_taken(sent)

    assert sent.refusal is not None or sent.shown[-1] == messages[-1]


def test_no_room_for_a_brief() -> None:
    """Where not even the smallest brief fits, what stays still begins with a question."""
    lengths = (("user", 120), ("assistant", 40), ("user", 40))
    messages = [{"role": role, "content": "why " * (length // 2)} for role, length in lengths]
    sent = run(World(budget_of(76), Roles.STRICT).send(messages))

    assert sent.receipt.brief is None
    assert sent.receipt.folded_messages > 0
    assert sent.shown[0]["role"] == "user"


# Recorded ones


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "prefix", "every"),
    [
        ("traces_dev", "tau-bench", 4),
        ("traces_dev", "swe-agent", 1),
        ("traces_dev", "mini-swe-agent", 9),
        ("conversations_dev", "locomo", 25),
        ("chats_dev", "specstory", 7),
    ],
)
def test_recorded_chats(name: str, prefix: str, every: int) -> None:
    """The same for recorded conversations and agent traces, as they grow."""
    found: Counter[str] = Counter()
    with gzip.open(shared_data(f"{name}.jsonl.gz"), "rt", encoding="utf-8") as lines:
        chats = [json.loads(line) for line in lines]
    for chat in [chat for chat in chats if chat["id"].startswith(prefix)][:12]:
        world = World(budget_of(8000, completion=1000, brief=1200, recent=450), Roles.STRICT)
        for messages in growing(chat["messages"])[::every]:
            sent = run(world.send(messages))
            found["requests"] += 1
            found["with a brief"] += sent.receipt.brief is not None
            found["taken by Mistral's"] += is_taken(TEMPLATES["mistral"], messages)
            assert_still_taken(sent)
    print(f"\n{prefix}: {dict(found)}")

    assert found["requests"] > 10
