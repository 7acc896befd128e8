"""Units: where a chat may be cut, and what belongs together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.facts import MessageFacts
from gateway.core.context.units import find_units, outline_of


def fact(role: str, *calls: str, answers: str | None = None, tokens: int = 10) -> MessageFacts:
    return MessageFacts(role, tokens, b"", calls, answers)


SYSTEM, USER, SAID = fact("system"), fact("user"), fact("assistant")


def call(*ids: str) -> MessageFacts:
    return fact("assistant", *ids)


def result(ident: str) -> MessageFacts:
    return fact("tool", answers=ident)


messages = st.one_of(
    st.sampled_from([SYSTEM, USER, SAID]),
    st.builds(call, st.sampled_from("abc")),
    st.builds(call, st.sampled_from("ab"), st.sampled_from("bc")),
    st.builds(result, st.sampled_from("abc")),
    st.just(result("")),
    st.just(call("")),
)
"""Anything a client may send, valid or not: ids used again, results without calls, calls without results."""
chats = st.lists(messages, max_size=30)


@pytest.mark.parametrize(
    ("chat", "units"),
    [
        ([], []),
        ([USER], [(0, 1)]),
        ([SYSTEM, USER, SAID, USER], [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ([USER, call("a"), result("a"), SAID], [(0, 1), (1, 3), (3, 4)]),
        ([USER, call("a", "b"), result("b"), result("a"), SAID], [(0, 1), (1, 4), (4, 5)]),
        ([call("a", "a"), result("a"), result("a"), USER], [(0, 3), (3, 4)]),
        ([call("a"), result("a"), call("a"), result("a")], [(0, 2), (2, 4)]),
        ([call("a"), call("b"), result("a"), result("b"), USER], [(0, 4), (4, 5)]),
        ([call("a"), USER, result("a"), USER], [(0, 3), (3, 4)]),
        ([call("a"), SYSTEM, result("a")], [(0, 3)]),
        ([call("a", "b"), result("a"), USER], [(0, 2), (2, 3)]),
        ([result("a"), USER, call("a")], [(0, 1), (1, 2), (2, 3)]),
        ([call(""), result(""), USER], [(0, 2), (2, 3)]),
    ],
    ids=[
        "nothing",
        "one message",
        "no tools",
        "a call and its result",
        "parallel calls, results in any order",
        "one id twice in a message",
        "one id used again in a later turn",
        "two callers before their results",
        "a user who interrupts",
        "a system message between",
        "a result that is missing",
        "a result before any call",
        "calls without ids",
    ],
)
def test_units_hold_together_what_belongs_together(chat: list[MessageFacts], units: list[tuple[int, int]]) -> None:
    """A call and all that answers it are one unit, with whatever stands between; all else stands alone."""
    assert [tuple(unit) for unit in find_units(chat)] == units


@given(chat=chats)
def test_units_cover_every_message_once_in_order(chat: list[MessageFacts]) -> None:
    """Nothing is left out, nothing counted twice."""
    units = find_units(chat)

    assert [index for unit in units for index in range(unit.start, unit.end)] == list(range(len(chat)))


@given(chat=chats)
def test_a_result_is_in_the_unit_of_its_nearest_call(chat: list[MessageFacts]) -> None:
    """Whatever the ids, however often they are used."""
    units = find_units(chat)
    for start, end in call_pairs(chat):
        assert any(unit.start <= start < end < unit.end for unit in units)


@given(chat=chats)
def test_no_unit_is_larger_than_its_calls_need(chat: list[MessageFacts]) -> None:
    """Between any two messages of a unit, some call waits for its result, or a result stands among others."""
    pairs = call_pairs(chat)
    for unit in find_units(chat):
        for cut in range(unit.start + 1, unit.end):
            is_among_others = chat[cut].is_tool_result and (chat[cut - 1].is_tool_result or bool(chat[cut - 1].calls))
            assert is_among_others or any(start < cut <= end for start, end in pairs)


def call_pairs(chat: Sequence[MessageFacts]) -> list[tuple[int, int]]:
    """Indices of each result and the nearest call before it with its id."""
    pairs = []
    for end, answer in enumerate(chat):
        callers = [start for start in range(end) if answer.answers in chat[start].calls]
        pairs += [(callers[-1], end)] if answer.answers is not None and callers else []
    return pairs


@given(chat=chats)
def test_an_outline_counts_foldable_messages(chat: list[MessageFacts]) -> None:
    """Numbers leave system messages out; the tokens after a number are those of the messages numbered above it."""
    outline = outline_of(chat)
    foldable = [index for index, each in enumerate(chat) if each.role != "system"]
    users = [number for number, index in enumerate(foldable, 1) if chat[index].role == "user"]

    assert list(outline.places) == foldable
    assert sorted([*outline.places, *outline.fixed]) == list(range(len(chat)))
    after = [outline.tokens_after(number) for number in range(len(foldable) + 1)]
    assert after == [10 * (len(foldable) - number) for number in range(len(foldable) + 1)]
    assert (outline.first_user, outline.last_user) == ((users[0], users[-1]) if users else (None, None))


@given(chat=chats)
def test_a_boundary_splits_no_unit_and_leaves_the_newest(chat: list[MessageFacts]) -> None:
    """At every boundary the fold ends where a unit ends, before the newest one, and never just behind the last user."""
    outline = outline_of(chat)
    number_of = {index: number for number, index in enumerate(outline.places, 1)}
    boundaries = list(outline.boundaries)

    assert boundaries == sorted(set(boundaries))
    assert boundaries[0] == 0
    assert outline.last_user not in boundaries
    for unit in find_units(chat):
        inside = [number_of[index] for index in range(unit.start, unit.end) if index in number_of]
        assert not any(number in boundaries for number in inside[:-1])
    assert boundaries[-1] < len(outline.places) or not outline.places


def test_boundaries_of_a_plain_chat() -> None:
    """Before every message but the first and the one that answers the last user message."""
    assert outline_of([SYSTEM, USER, SAID, USER, SAID, USER]).boundaries == [0, 1, 2, 3, 4]
    assert outline_of([SYSTEM, USER, SAID, USER, SAID]).boundaries == [0, 1, 2]
    assert outline_of([SYSTEM, SYSTEM]).boundaries == [0]
