"""The receipt that a request may ask for is a header: at most 2 kB, whatever was done; numbers and ids, no content."""

from __future__ import annotations

import json
from itertools import zip_longest

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.context.brief import Brief, Level, Segment
from gateway.core.context.economics import Cause
from gateway.core.context.recall import Pick, Recalled
from gateway.core.context.receipt import Receipt
from gateway.core.context.supersede import Quote
from tests.histories import budget_of

MAX_BYTES = 2048
SECTIONS = ("system", "developer", "user", "assistant", "tool", "function", "tools", "functions", "response_format")
WORDS = {term: f"locker-{term}" for term in range(40)}
LARGE = 10**7


def pick(number: int, words: int = 3) -> Pick:
    return Pick(number, 0, 40, 1.0, tuple(range(words)), 9, WORDS)


def receipt_of(messages: int, memories: int, base: int = LARGE, words: int = 3) -> Receipt:
    """One of a chat to which everything was done, in numbers that are as long as they get."""
    ids = {number - memories: f"{number:032x}" for number in range(memories)}
    own = [pick(base + number, words) for number in range(messages)]
    beside = [pick(number, words) for number in ids]
    picks = [each for pair in zip_longest(beside, own) for each in pair if each is not None]
    quotes = tuple(Quote(number, "Never.") for number in range(40))
    brief = Brief(LARGE, Level.EXTRACTIVE, (Segment(1, LARGE, quotes, "x"),), LARGE, LARGE, (), 1 / 3)
    return Receipt(
        Level.EXTRACTIVE,
        True,
        LARGE,
        LARGE,
        LARGE,
        budget_of(LARGE),
        client_billed_tokens=LARGE,
        billed_tokens=LARGE,
        sections=dict.fromkeys((*SECTIONS, "brief", "recalled", "other"), LARGE),
        folded_messages=LARGE,
        brief=brief,
        recalled=Recalled("the secret words", LARGE, tuple(picks), ids) if picks else None,
        shortened_messages=LARGE,
        brief_id="f" * 128,
        is_new_brief=True,
        is_fresh=True,
        session_id="f" * 16,
        kept_messages=LARGE,
        is_shadow=True,
        cause=Cause.FORCED,
    )


@pytest.mark.parametrize(("messages", "memories"), [(0, 0), (40, 0), (0, 60), (40, 60), (400, 600)])
def test_it_is_at_most_two_kilobytes(messages: int, memories: int) -> None:
    """And still whole JSON that counts all of it and names the best of each kind."""
    told = receipt_of(messages, memories).explain()
    recalled = json.loads(told)["recalled"]
    print(f"{messages} messages, {memories} memories: {len(told)} bytes")

    assert len(told.encode()) <= MAX_BYTES
    assert told.isascii()
    assert "secret" not in told
    assert "locker" not in told
    if recalled:
        assert recalled["messages"] == messages
        assert recalled.get("memories", {}).get("count", 0) == memories
    if messages:
        assert f"{LARGE}" in recalled["matching_words"]
    if memories:
        assert f"{0:032x}" in recalled["memories"]["matching_words"]


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, LARGE), st.integers(0, 40))
@example(40, 60, 0, 3)
def test_any_receipt_is_bounded(messages: int, memories: int, base: int, words: int) -> None:
    """What is named is a beginning of what came back, best first; small ones are told whole."""
    told = receipt_of(messages, memories, base + 1, words).explain()
    recalled = json.loads(told)["recalled"]

    assert len(told.encode()) <= MAX_BYTES
    if recalled is None:
        return
    numbers = [int(number) for number in recalled["matching_words"]]
    assert numbers == [base + 1 + place for place in range(len(numbers))]
    assert set(recalled["matching_words"].values()) <= {words}
    if memories:
        named = list(recalled["memories"]["matching_words"])
        assert named == [f"{place:032x}" for place in range(len(named))]
    if messages + memories < 10:
        assert len(numbers) == messages
        assert not memories or len(recalled["memories"]["matching_words"]) == memories
