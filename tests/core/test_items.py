"""What the items of a Responses input cost, each by itself and beside its neighbours."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.tokens.items import CountedItem, Item, Kind, settle_each, settle_items, weigh_item
from gateway.core.tokens.profiles import profile_of
from gateway.core.tokens.weight import Weight
from tests.json_texts import VALUES

CHAT, REASONING = profile_of("gpt-4o", {}), profile_of("gpt-5", {})
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'}
TEXTS = (" to=functions.f", '{"a": 1}', "functions.f")

ITEMS = {
    "a message": ({"role": "user", "content": "Hi"}, CHAT, Item(Weight(("Hi",), 4), Kind.USER)),
    "a message with parts": (
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        CHAT,
        Item(Weight(("Hi",), 4), Kind.USER),
    ),
    "a past answer, reasoning": ({"role": "assistant", "content": "Hi"}, REASONING, Item(Weight(("Hi",), 6))),
    "a call": (CALL, CHAT, Item(Weight(TEXTS, 4), Kind.CALL)),
    "a stored call": ({**CALL, "id": "fc_1", "status": "completed"}, CHAT, Item(Weight(TEXTS, 4), Kind.STORED_CALL)),
    "a call, reasoning": ({**CALL, "id": "fc_1", "status": "x"}, REASONING, Item(Weight(TEXTS, 10), Kind.CALL)),
    "a call in a namespace": (
        {**CALL, "namespace": "n"},
        CHAT,
        Item(Weight((" to=n.f", '{"a": 1}', "n.f"), 4), Kind.CALL),
    ),
    "a custom tool's call": (
        {"type": "custom_tool_call", "name": "sh", "input": "ls"},
        CHAT,
        Item(Weight((" to=functions.sh", "ls", "functions.sh"), 4), Kind.CALL),
    ),
    "a result": ({"type": "function_call_output", "call_id": "c", "output": "4"}, CHAT, Item(Weight(("4",), 3))),
    "a result of parts": (
        {"type": "function_call_output", "output": [{"type": "input_text", "text": "4"}]},
        CHAT,
        Item(Weight(("4",), 3)),
    ),
    "reasoning": (
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "x" * 1910},
        REASONING,
        Item(Weight((), 160), Kind.REASONING),
    ),
    "reasoning that is kept elsewhere": (
        {"type": "reasoning", "id": "r", "summary": [{"text": "Hm"}]},
        REASONING,
        Item(Weight((), 0), Kind.REASONING),
    ),
    "a reference": ({"type": "item_reference", "id": "x"}, CHAT, Item(Weight((), 0))),
    "what a hosted tool did": (
        {"type": "web_search_call", "id": "w", "action": {"query": "x"}},
        CHAT,
        Item(Weight(('{"query":"x"}',), 10)),
    ),
    "a picture that was made": ({"type": "image_generation_call", "result": "A" * 10**6}, CHAT, Item(Weight((), 10))),
    "a text": ("Hi", CHAT, Item(Weight(("Hi",), 0))),
    "a number": (5, CHAT, Item(Weight(("5",), 0))),
}


@pytest.mark.parametrize(("item", "profile", "weighed"), ITEMS.values(), ids=ITEMS)
def test_an_item_weighs_what_is_shown_of_it(item, profile, weighed):
    """Hand-checked against recorded bills, where there are any."""
    assert weigh_item(item, profile) == weighed


def test_more_tools_cost_their_text():
    """Tools that a later item brings are shown like those of the request."""
    tool = {"type": "function", "name": "f", "description": "x", "parameters": {}}
    weighed = weigh_item({"type": "additional_tools", "role": "developer", "tools": [tool]}, REASONING)

    assert "// x\ntype f = () => any;" in weighed.weight.texts[0]
    assert weighed.weight.fixed_tokens == 87


USER, CALLED, STORED, RESULT, THOUGHT = (
    CountedItem(10, kind) for kind in (Kind.USER, Kind.CALL, Kind.STORED_CALL, Kind.OTHER, Kind.REASONING)
)
ORDERS = {
    "nothing": ([], CHAT, False, 0),
    "a call alone": ([USER, CALLED, RESULT], CHAT, False, 30),
    "a stored call alone": ([USER, STORED, RESULT], CHAT, False, 33),
    "stored calls together": ([USER, STORED, STORED, RESULT], CHAT, False, 40),
    "stored calls apart": ([USER, STORED, RESULT, STORED, RESULT], CHAT, False, 56),
    "a call of a thinking model": ([USER, CALLED, RESULT], REASONING, True, 30),
    "a call of one that does not": ([USER, CALLED, RESULT], REASONING, False, 33),
    "calls together of one that does not": ([USER, CALLED, CALLED, RESULT], REASONING, False, 56),
    "thoughts in an open loop": ([USER, THOUGHT, CALLED, RESULT], REASONING, True, 40),
    "thoughts before the last question are dropped": ([USER, THOUGHT, CALLED, RESULT, USER], REASONING, True, 40),
    "thoughts without a question": ([THOUGHT], REASONING, True, 10),
}


@pytest.mark.parametrize(("items", "profile", "thinks", "tokens"), ORDERS.values(), ids=ORDERS)
def test_neighbours_change_little(items, profile, thinks, tokens):
    assert settle_items(items, profile, thinks=thinks) == tokens


def test_each_item_is_settled_where_it_stands():
    """Dropped thoughts cost nothing; a stored call that stands alone costs more."""
    items = [THOUGHT, STORED, RESULT, USER, THOUGHT, STORED, STORED]

    assert settle_each(items, CHAT, thinks=False) == [0, 13, 10, 10, 10, 10, 10]


ITEM_KEYS = st.sampled_from(
    [
        "type",
        "role",
        "content",
        "text",
        "output",
        "summary",
        "input",
        "name",
        "arguments",
        "action",
        "tools",
        "id",
        "status",
    ]
)
KINDS = st.sampled_from(["function_call", "reasoning", "message", "additional_tools", "web_search_call", "call_output"])
ANY_ITEM = st.recursive(
    VALUES | KINDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ITEM_KEYS, inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=400)
@given(ANY_ITEM, st.sampled_from([CHAT, REASONING]))
def test_any_item_has_a_weight(item, profile):
    """Nothing is raised, and nothing costs less than nothing."""
    weighed = weigh_item(item, profile)

    assert weighed.weight.fixed_tokens >= 0
    assert all(isinstance(text, str) for text in weighed.weight.texts)


@given(st.lists(st.builds(CountedItem, st.integers(0, 99), st.sampled_from(Kind)), max_size=12), st.booleans())
def test_a_longer_input_is_never_cheaper_but_for_dropped_thoughts(items, thinks):
    """What is added at the end costs at least itself, unless a question ends a loop of thoughts."""
    more = [*items, CountedItem(5, Kind.OTHER)]

    assert settle_items(more, REASONING, thinks=thinks) == settle_items(items, REASONING, thinks=thinks) + 5
