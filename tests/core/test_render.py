"""Messages as bytes again: turns as text, the brief between the client's own, results shortened."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.facts import MessageFacts, learn_facts
from gateway.core.context.render import Insert, array_of, join_texts, place_texts, turn_of
from gateway.core.tokens.weight import weigh_message
from tests.histories import PROFILE, turns

Message = dict[str, Any]
CALL = {"id": "a", "type": "function", "function": {"name": "bash", "arguments": '{"cmd": "ls"}'}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
TEXT = {"type": "text", "text": "p"}
CUSTOM = {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "x"}}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "user", "content": "hi"}, "hi"),
        ({"role": "user", "content": None}, ""),
        ({"role": "user"}, ""),
        ({"role": "user", "content": [TEXT, IMAGE, TEXT]}, "p\np\n[image_url]"),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, "No."),
        ({"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}, 'called bash({"cmd": "ls"})\n' * 2),
        ({"role": "assistant", "content": "Look.", "tool_calls": [CALL]}, 'Look.\ncalled bash({"cmd": "ls"})'),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}, "called f({})"),
        ({"role": "assistant", "tool_calls": [CUSTOM]}, "called sql(x)"),
        ({"role": "assistant", "tool_calls": [{"id": "a", "custom": "odd"}]}, ""),
        ({"role": "assistant", "function_call": "odd"}, ""),
        ({"role": "user", "content": [{"type": "file", "file": {}}, {}]}, "[file]\n[part]"),
    ],
)  # fmt: skip
def test_a_turn_is_what_was_said_and_called(message: Message, text: str) -> None:
    """Words first, then a mark for each part that is none, then calls of any kind."""
    assert turn_of(5, message).text == text.strip("\n")
    assert turn_of(5, message)[:2] == (5, message["role"])


def raws_of(*messages: Message) -> list[bytes]:
    return [json.dumps(message).encode() for message in messages]


SYSTEM, ASK, MORE = (
    {"role": role, "content": text} for role, text in (("system", "s"), ("user", "u1"), ("user", "u2"))
)
SAY: Message = {"role": "assistant", "content": "a"}
PARTS: Message = {"role": "user", "content": [TEXT, IMAGE]}


def test_an_open_template_gets_a_message_of_its_own() -> None:
    """The client's bytes are untouched on both sides."""
    raws = raws_of(SYSTEM, ASK, SAY)

    assert place_texts(raws, [Insert(1, "B")]) == [raws[0], b'{"role":"user","content":"B"}', *raws[1:]]


@pytest.mark.parametrize(
    ("messages", "before", "text", "shown"),
    [
        ([SYSTEM, SAY, ASK], 1, "B", ["s", "B", "a", "u1"]),
        ([SYSTEM, ASK, SAY], 1, "B", ["s", "B\n\nu1", "a"]),
        ([SYSTEM, ASK, SAY], 2, "B", ["s", "u1\n\nB", "a"]),
        ([SYSTEM, ASK, MORE, SAY], 2, "B", ["s", "u1\n\nB\n\nu2", "a"]),
        ([ASK, MORE, SAY], 2, "B", ["u1\n\nu2\n\nB", "a"]),
        ([SYSTEM, ASK, MORE, ASK], 1, "B", ["s", "B\n\nu1\n\nu2\n\nu1"]),
        ([SYSTEM], 1, "B", ["s", "B"]),
        ([SYSTEM, ASK, MORE], 2, None, ["s", "u1\n\nu2"]),
        ([SYSTEM, ASK, SAY], 2, None, ["s", "u1", "a"]),
        ([SYSTEM, SAY], 1, None, ["s", "a"]),
    ],
    ids=[
        "no neighbour",
        "one after",
        "one before",
        "both",
        "two pinned before",
        "all those after",
        "at the end",
        "no brief, two users meet",
        "no brief, one user",
        "no brief, no user",
    ],
)
def test_a_strict_template_gets_it_joined(
    messages: list[Message], before: int, text: str | None, shown: list[str]
) -> None:
    """Folding puts no two user messages in a row; each text stays whole, in order."""
    joined = [json.loads(raw)["content"] for raw in join_texts(raws_of(*messages), [Insert(before, text)])]

    assert joined == shown


def test_two_texts_stand_in_order() -> None:
    """Brief and recalled text keep their places, apart or side by side, in both kinds of template."""
    raws = raws_of(SYSTEM, SAY, ASK)

    def shown(messages: list[bytes]) -> list[str]:
        return [json.loads(raw)["content"] for raw in messages]

    apart, together = [Insert(1, "B"), Insert(2, "R")], [Insert(1, "B"), Insert(1, "R")]
    assert shown(place_texts(raws, apart)) == ["s", "B", "a", "R", "u1"]
    assert shown(join_texts(raws, apart)) == ["s", "B", "a", "R\n\nu1"]
    assert shown(place_texts(raws, together)) == ["s", "B", "R", "a", "u1"]
    assert shown(join_texts(raws, together)) == ["s", "B\n\nR", "a", "u1"]
    assert place_texts(raws, [Insert(1, None)]) == join_texts(raws, [Insert(1, None)]) == raws


def test_parts_stay_parts_when_joined() -> None:
    """A neighbour with an image keeps it; the brief becomes a text part."""
    (message,) = [json.loads(raw) for raw in join_texts(raws_of(ASK, PARTS), [Insert(1, "B")])]

    assert message["content"] == [
        {"type": "text", "text": "u1"},
        {"type": "text", "text": "B"},
        {"type": "text", "text": "p"},
        IMAGE,
    ]


def test_an_array_holds_messages_as_they_are() -> None:
    assert array_of([b'{"a": 1}', b"{}"]) == b'[{"a": 1},{}]'
    assert array_of([]) == b"[]"


def facts_of(message: Message, rule: Callable[[str], int]) -> MessageFacts:
    weight = weigh_message(message, PROFILE)
    return learn_facts(message, weight, sum(rule(text) for text in weight.texts))


@given(turns=st.lists(turns(), max_size=4))
def test_every_message_can_be_told(turns: list[list[Message]]) -> None:
    """Whatever a client sends, its own words stand in its turn."""
    for message in (message for turn in turns for message in turn):
        told = turn_of(1, message).text

        assert not isinstance(message.get("content"), str) or message["content"] in told
        assert all(call["function"]["arguments"] in told for call in message.get("tool_calls") or ())
