"""Items of a Responses input, shown as the chat messages that say the same, and put back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.context.items import (
    LearnedItem,
    canonical_item,
    kind_of,
    learn_item,
    restore_item,
    show_item,
    ties_of,
)
from gateway.core.context.units import find_units, outline_of
from gateway.core.tokens.items import CountedItem, weigh_item
from gateway.core.tokens.profiles import profile_of
from gateway.core.wire.message import encode_message, parse_message
from tests.responses import Item, sessions

PROFILE = profile_of("gpt-5", {})
CALL: Item = {"type": "function_call", "call_id": "c1", "name": "bash", "arguments": '{"command": "ls"}'}
CUSTOM: Item = {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin Patch"}
OUTPUT: Item = {"type": "function_call_output", "call_id": "c1", "output": "main.py"}
THOUGHT: Item = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA" + "x" * 1000}
ANSWER: Item = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Done.", "annotations": [], "logprobs": []}],
}
ASK: Item = {"role": "user", "content": "Fix it."}
SEARCH: Item = {"id": "ws_1", "type": "web_search_call", "action": {"type": "search", "query": "Rome"}}

SHOWN = {
    "a message": (ASK, {"role": "user", "content": "Fix it."}),
    "an answer of one text": (ANSWER, {"role": "assistant", "content": "Done."}),
    "a call": (
        CALL,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
            ],
        },
    ),
    "a custom call": (
        CUSTOM,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c2", "type": "custom", "custom": {"name": "apply_patch", "input": "*** Begin Patch"}}
            ],
        },
    ),
    "an output": (OUTPUT, {"role": "tool", "tool_call_id": "c1", "content": "main.py"}),
    "reasoning says nothing": (THOUGHT, {"role": "assistant", "content": ""}),
    "a provider's search": (
        SEARCH,
        {
            "role": "assistant",
            "content": [{"type": "text", "text": 'web_search_call\naction: {"type":"search","query":"Rome"}'}],
        },
    ),
    "a reference": ({"type": "item_reference", "id": "msg_1"}, None),
    "a provider's compaction": ({"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"}, None),
    "a type that nobody knows": ({"type": "hologram_call", "call_id": "c", "name": "x"}, None),
    "a role that nobody knows": ({"role": "critic", "content": "x"}, None),
    "a call without its id": ({"type": "function_call", "name": "f", "arguments": "{}"}, None),
    "a call whose arguments are no text": ({**CALL, "arguments": {"a": 1}}, None),
    "an output without its call": ({"type": "function_call_output", "output": "x"}, None),
    "a text": ("Hi", None),
    "a type that is no text": ({"type": 5, "role": "user", "content": "x"}, None),
}


@pytest.mark.parametrize(("item", "message"), SHOWN.values(), ids=SHOWN)
def test_an_item_is_shown_as_the_message_that_says_the_same(item: Any, message: Any) -> None:
    """Or as none."""
    assert show_item(item) == message


def learned(item: Any) -> LearnedItem:
    raw = json.dumps(item).encode()
    return learn_item(raw, CountedItem(7, weigh_item(item, PROFILE).kind))


UNSOUND = {
    "a key that stands twice": b'{"role":"user","content":"a","content":"b"}',
    "content that is neither text nor parts": b'{"role":"user","content":5}',
    "parts that are no objects": b'{"type":"function_call_output","call_id":"c","output":["a"]}',
    "nested too deeply beside what is read": b'{"role":"user","content":"a","x":' + b"[" * 900 + b"]" * 900 + b"}",
    "nested too deeply": b'{"role":"user","content":' + b'[{"content":' * 120 + b"1" + b"}]" * 120 + b"}",
}


@pytest.mark.parametrize("raw", UNSOUND.values(), ids=UNSOUND)
def test_what_readers_may_take_differently_is_never_rewritten(raw: bytes) -> None:
    """Such an item has no facts."""
    assert learn_item(raw, CountedItem(7, weigh_item(ASK, PROFILE).kind)).fact is None


SAME = {
    "what the server added": (CALL, {**CALL, "id": "fc_1", "status": "completed"}),
    "nulls": (ASK, {**ASK, "phase": None}),
    "a type that goes without saying": (ASK, {**ASK, "type": "message"}),
    "a lone part": (ASK, {"role": "user", "content": [{"type": "input_text", "text": "Fix it."}]}),
    "a lone part as it was answered": (ANSWER, {"role": "assistant", "content": "Done."}),
    "a lone part of an output": (OUTPUT, {**OUTPUT, "output": [{"type": "input_text", "text": "main.py"}]}),
    "reasoning without what is empty": (THOUGHT, {key: THOUGHT[key] for key in ("type", "encrypted_content")}),
}
OTHER = {
    "another text": (ASK, {**ASK, "content": "Fix it!"}),
    "another role": (ASK, {**ASK, "role": "developer"}),
    "another call": (CALL, {**CALL, "call_id": "c9"}),
    "other arguments": (CALL, {**CALL, "arguments": "{}"}),
    "a function's and a custom tool's": (OUTPUT, {**OUTPUT, "type": "custom_tool_call_output"}),
    "another thought": (THOUGHT, {**THOUGHT, "encrypted_content": "gBBBB"}),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_the_same_item_is_recognised_however_it_is_resent(one: Item, other: Item) -> None:
    """Clients resend what they were sent, with more or fewer fields."""
    assert canonical_item(one) == canonical_item(other)


@pytest.mark.parametrize(("one", "other"), OTHER.values(), ids=OTHER)
def test_other_items_have_other_digests(one: Item, other: Item) -> None:
    """Whatever says another thing."""
    assert canonical_item(one) != canonical_item(other)


@given(sessions())
@settings(max_examples=40, deadline=None)
def test_what_was_not_changed_is_put_back_as_it_was(session: list[list[Item]]) -> None:
    """But for what names places in a text, and what the server told of how it was made."""
    for item in session[-1]:
        message = show_item(item)
        assert message is not None
        again = parse_message(encode_message(message), 0)
        assert again == message
        if item["type" if "type" in item else "role"] not in ("reasoning", "web_search_call"):
            assert canonical_item(restore_item(message, item)) == canonical_item(item)


RESTORED = {
    "an answer": (ANSWER, {"role": "assistant", "content": "D."}, "content", [
        {"type": "output_text", "text": "D.", "annotations": []}
    ]),
    "a plain answer": (
        {"role": "assistant", "content": "Done."}, {"role": "assistant", "content": "D."}, "content", "D."
    ),
    "an output of parts": (
        {**OUTPUT, "output": [{"type": "input_image", "image_url": "x"}]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "[left out]"}]},
        "output", [{"type": "input_text", "text": "[left out]"}],
    ),
    "arguments": (CALL, {"role": "assistant", "tool_calls": [{"function": {"name": "bash", "arguments": "{}"}}]},
        "arguments", "{}"),
    "a custom input": (CUSTOM, {"role": "assistant", "tool_calls": [{"custom": {"name": "x", "input": "*"}}]},
        "input", "*"),
}  # fmt: skip


@pytest.mark.parametrize(("item", "message", "key", "value"), RESTORED.values(), ids=RESTORED)
def test_of_a_shortened_item_only_its_text_differs(item: Item, message: Any, key: str, value: Any) -> None:
    """Ids, names and states stay."""
    assert restore_item(message, item) == {**item, key: value}


TIED = {
    "reasoning with its call": ([ASK, THOUGHT, CALL, OUTPUT], [(0, 1), (1, 4)]),
    "reasoning with all that came of it": ([ASK, THOUGHT, ANSWER, CALL, OUTPUT, ASK], [(0, 1), (1, 5), (5, 6)]),
    "reasoning, a search and an answer": ([THOUGHT, SEARCH, THOUGHT, ANSWER, ASK], [(0, 4), (4, 5)]),
    "each step by itself": ([THOUGHT, CALL, OUTPUT, THOUGHT, CALL, OUTPUT], [(0, 3), (3, 6)]),
    "answers in a row": ([ANSWER, ANSWER], [(0, 1), (1, 2)]),
    "calls in a row": ([CALL, CALL, ASK], [(0, 2), (2, 3)]),
    "reasoning that nothing came of": ([THOUGHT, ASK], [(0, 1), (1, 2)]),
    "a developer between": ([THOUGHT, {"role": "developer", "content": "x"}, ANSWER, ASK], [(0, 3), (3, 4)]),
}


@pytest.mark.parametrize(("items", "units"), TIED.values(), ids=TIED)
def test_what_came_of_a_reasoning_stays_with_it(items: list[Item], units: list[tuple[int, int]]) -> None:
    """In one unit with it; calls in a row stay together too, since what they cost depends on it."""
    each = [learned(item) for item in items]
    facts = [one.fact for one in each if one.fact is not None]
    ties = ties_of(each, facts)

    assert [tuple(unit) for unit in find_units(facts, ties)] == units
    assert [tuple(unit) for unit in outline_of(facts, ties).units] == units


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "content", "text", "output", "call_id", "name", "arguments", "input", "id"]
            ),
            inner | st.sampled_from(["message", "user", "assistant", "function_call", "reasoning", "input_text"]),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400)
@given(ANYTHING)
def test_any_item_is_learned(item: Any) -> None:
    """Nothing is raised; what has facts is shown as a message that can be read again."""
    found = learned(item)
    if found.fact is None:
        return
    message = show_item(item)

    assert message is not None
    assert kind_of(item)
    assert parse_message(encode_message(message), 0)["role"] == found.fact.role
    assert found.fact.tokens == 7
