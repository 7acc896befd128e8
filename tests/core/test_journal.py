"""What a named session keeps of a request's messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.facts import MessageFacts, learn_facts
from gateway.core.context.journal import choose_new, keep_message, session_key
from gateway.core.tokens.weight import Weight

Message = dict[str, Any]
ROOM = 10_000_000


def read(messages: Sequence[Message]) -> tuple[list[bytes], list[MessageFacts]]:
    raws = [json.dumps(message).encode() for message in messages]
    return raws, [learn_facts(message, Weight((), 0), len(raws[at])) for at, message in enumerate(messages)]


def said(text: str, role: str = "user") -> Message:
    return {"role": role, "content": text}


def test_what_is_kept_of_a_request() -> None:
    """Not the system's messages, not what is known, and of equal messages, however they are spelled, the first."""
    spelled = {"content": [{"type": "text", "text": "one"}], "role": "user", "name": None}
    raws, facts = read([said("be terse", "system"), said("one"), said("two"), spelled, said("hm", "developer")])

    assert choose_new(raws, facts, (), 100, ROOM) == [1, 2]
    assert choose_new(raws, facts, {facts[2].canonical}, 100, ROOM) == [1]


def test_of_one_request_half_of_the_bounds_is_kept() -> None:
    """The newest of them; a message whose bytes are mostly a picture counts by its tokens."""
    raws, facts = read([said(f"{number} " + "x" * 98) for number in range(40)])
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x" * 500_000}}]}
    big, _ = read([picture])
    weighed = learn_facts(picture, Weight((), 0), 85)

    assert choose_new(raws, facts, (), 20, ROOM) == list(range(30, 40))
    assert choose_new(raws, facts, (), 100, 10 * len(raws[-1])) == list(range(35, 40))
    assert choose_new([*big, *raws[:3]], [weighed, *facts[:3]], (), 100, 20_000) == [0, 1, 2, 3]


@given(st.lists(st.sampled_from("abcdef"), max_size=30), st.integers(2, 20))
def test_what_is_resent_is_never_new_again(texts: list[str], bound: int) -> None:
    """Once kept, the same request brings nothing new, whatever its length."""
    raws, facts = read([said(text) for text in texts])
    chosen = choose_new(raws, facts, (), bound, ROOM)
    known = {facts[index].canonical for index in chosen}

    assert len(known) == len(chosen) <= bound // 2
    assert choose_new(raws, facts, known, bound, ROOM) == []


def test_what_is_kept_of_a_message() -> None:
    """Its words, its calls and a mark for what is no text; its secrets are masked."""
    key = "sk-proj-" + "a1B2" * 8
    calls = [{"id": "c", "type": "function", "function": {"name": "look", "arguments": f'{{"password": "{key}"}}'}}]
    parts = [{"type": "text", "text": f"the key is {key}"}, {"type": "image_url", "image_url": {"url": "data:x"}}]
    raws, facts = read([{"role": "user", "name": "ann", "content": parts}, {"role": "assistant", "tool_calls": calls}])
    first, second = (keep_message(raw, fact) for raw, fact in zip(raws, facts, strict=True))

    assert (first.role, first.name, first.canonical) == ("user", "ann", facts[0].canonical)
    assert first.text == "the key is [secret]\n[image_url]"
    assert "called look(" in second.text
    assert "a1B2" not in second.text


@given(st.binary(max_size=40), st.binary(max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_sessions_of_two_clients_never_meet(one: bytes, other: bytes, name: str, same: str) -> None:
    """Equal keys mean the same client and the same name, wherever the border between the two may seem to be."""
    is_same = session_key(one, name) == session_key(other, same)

    assert is_same == ((one, name) == (other, same))
