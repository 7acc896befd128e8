"""Texts shortened: head and tail stay, and it fits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.trim import trim_text
from tests.histories import long_texts, lumpy, per_four_chars, per_word, texts

rules = st.sampled_from([per_four_chars, per_word, lumpy])


@given(text=st.one_of(texts, long_texts), max_tokens=st.integers(-5, 3000), count=rules)
def test_it_fits_and_keeps_head_and_tail(text: str, max_tokens: int, count: Callable[[str], int]) -> None:
    """At most `max_tokens`, whatever the tokenizer; what fits is left alone."""
    short = trim_text(text, max_tokens, count)

    assert count(short) <= max(0, max_tokens)
    if count(text) <= max_tokens:
        assert short == text
    elif short:
        head, mark, tail = short.partition("\n[... ")
        tail = tail.partition("...]\n")[2]
        assert mark
        assert text.startswith(head)
        assert text.endswith(tail)


def test_it_says_how_much_is_missing() -> None:
    """The line between gives the number of characters that were left out."""
    short = trim_text("a" * 1000 + "z" * 1000, 100, per_four_chars)
    head, tail = short.split("\n[... ")[0], short.split("...]\n")[1]

    assert f"[... {2000 - len(head) - len(tail)} characters left out" in short
    assert len(head) > len(tail) > 50


@pytest.mark.parametrize("max_tokens", [-1, 0, 1, 5])
def test_where_not_even_the_mark_has_room_nothing_stays(max_tokens: int) -> None:
    assert trim_text("some words " * 50, max_tokens, per_four_chars) == ""


@pytest.mark.parametrize("max_tokens", [40, 100, 400])
def test_most_of_the_room_is_used(max_tokens: int) -> None:
    """What is kept is not much less than what might be."""
    assert per_four_chars(trim_text("some words " * 500, max_tokens, per_four_chars)) > 0.75 * max_tokens
