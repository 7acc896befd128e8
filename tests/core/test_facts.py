"""Facts: what is known of a message, and the digests that name its prefix."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.canonical import canonical_digest
from gateway.core.context.facts import (
    BETWEEN,
    FIRST,
    LAST,
    MessageFacts,
    chain_digests,
    learn_facts,
    places_together,
)
from gateway.core.tokens.weight import Weight
from tests.histories import turns

Message = dict[str, Any]
chats = st.lists(turns(), max_size=5).map(lambda turns: [message for turn in turns for message in turn])


def facts_of(message: Message) -> MessageFacts:
    return learn_facts(message, Weight((), 5), 7)


@pytest.mark.parametrize(
    ("message", "calls", "answers"),
    [
        ({"role": "user", "content": "hi"}, (), None),
        ({"role": "assistant", "tool_calls": [{"id": "a"}, {"id": "b"}]}, ("a", "b"), None),
        ({"role": "assistant", "tool_calls": None}, (), None),
        ({"role": "assistant", "tool_calls": [{"type": "function"}]}, ("",), None),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}, ("function:f",), None),
        ({"role": "tool", "tool_call_id": "a", "content": "x"}, (), "a"),
        ({"role": "tool", "content": "x"}, (), ""),
        ({"role": "function", "name": "f", "content": "x"}, (), "function:f"),
    ],
)
def test_calls_and_answers_are_paired_by_name(message: Message, calls: tuple[str, ...], answers: str | None) -> None:
    """Calls name what they wait for, results name what they answer, old and new kinds alike."""
    facts = facts_of(message)

    assert (facts.calls, facts.answers, facts.tokens) == (calls, answers, 12)


@pytest.mark.parametrize(
    ("message", "stands_out"),
    [
        ({"role": "system", "content": "x"}, True),
        ({"role": "developer", "content": "x"}, True),
        ({"role": "user", "content": "x"}, False),
        ({"role": "assistant", "tool_calls": [{"id": "a"}]}, False),
        ({"role": "assistant", "tool_calls": [{"id": "a"}, {"id": "b"}]}, True),
    ],
)
def test_few_messages_stand_out(message: Message, stands_out: bool) -> None:
    """Those that a count has to look at: system messages, and several calls at once."""
    assert facts_of(message).stands_out is stands_out


def test_results_of_one_turn_have_places() -> None:
    """First, between and last, among the results that follow a message with several calls."""
    call, calls, result, user = (
        facts_of(message)
        for message in (
            {"role": "assistant", "tool_calls": [{"id": "a"}]},
            {"role": "assistant", "tool_calls": [{"id": "a"}, {"id": "b"}]},
            {"role": "tool", "tool_call_id": "a", "content": "x"},
            {"role": "user", "content": "x"},
        )
    )

    assert places_together([user, call, result, user]) == {}
    assert places_together([calls, result, result, result, user, result]) == {1: FIRST, 2: BETWEEN, 3: LAST}
    assert places_together([calls, result, user, calls, user, result]) == {1: FIRST}
    assert places_together([result, calls]) == {}


@pytest.mark.parametrize(
    ("role", "is_foldable"), [("system", False), ("developer", False), ("user", True), ("tool", True)]
)
def test_system_and_developer_messages_are_never_folded(role: str, is_foldable: bool) -> None:
    assert facts_of({"role": role, "content": "x"}).is_foldable is is_foldable


@given(chat=chats, scope=st.binary(max_size=8), end=st.integers(0, 30))
def test_a_chain_names_exactly_its_prefix(chat: list[Message], scope: bytes, end: int) -> None:
    """Digest i is a function of the first i foldable messages and the scope, and of nothing else."""
    facts = [facts_of(message) for message in chat]
    chain = chain_digests(scope, facts)
    foldable = [fact for fact in facts if fact.is_foldable]
    start = foldable[:end]

    assert len(chain) == len(foldable) + 1
    assert chain_digests(scope, start) == chain[: len(start) + 1]
    assert chain_digests(scope + b"x", facts)[-1] not in chain
    assert len(set(chain)) == len(chain)


@given(chat=chats.filter(bool), data=st.data())
def test_any_edit_changes_every_later_digest(chat: list[Message], data: st.DataObject) -> None:
    """A brief of what came before the edit holds; none of what comes after it does."""
    at = data.draw(st.integers(0, len(chat) - 1))
    edited = [*chat[:at], {**chat[at], "content": "something quite different"}, *chat[at + 1 :]]
    before, after = (chain_digests(b"", [facts_of(message) for message in each]) for each in (chat, edited))
    number = sum(facts_of(message).is_foldable for message in chat[: at + 1])

    assert before[:number] == after[:number] or not facts_of(chat[at]).is_foldable
    if facts_of(chat[at]).is_foldable and canonical_digest(chat[at]) != canonical_digest(edited[at]):
        assert not set(before[number:]) & set(after[number:])
