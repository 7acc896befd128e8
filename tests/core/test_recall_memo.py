"""Texts and counts of what is recalled again and again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.context.recall_memo import MAX_CHARS, RecallMemo
from gateway.core.tokens.profiles import Profile
from gateway.shell.tokens.counter import TiktokenCounter
from tests.histories import texts

COUNTER = TiktokenCounter(1.4)
ENCODINGS = ("o200k_base", "cl100k_base")
line_starts = st.sampled_from(["7 user: ", "12 ", "[", "<", "…", "'s", "A", "漢", "\u0301"])
line_ends = st.sampled_from(["", " ", "!", "\r", ".)", "'", "1234", "://", "\n\n", "\u3000", "\x1c"])
lines = st.builds(lambda start, text, end: f"{start}{text}{end}\n", line_starts, texts, line_ends)


def counting(encoding: str, told: list[str]) -> Callable[[str], int]:
    """Counts exactly, and tells what it was asked for."""
    profile = Profile(encoding)

    def count(text: str) -> int:
        told.append(text)
        return COUNTER.count_here(profile, text)

    return count


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(deadline=None)
@given(several=st.lists(st.lists(lines, max_size=8), min_size=1, max_size=3))
def test_1_lines_cost_what_the_text_does(encoding: str, several: list[list[str]]) -> None:
    """Whatever stands at the ends of lines; also where lines were counted for another text before."""
    assert COUNTER.counts_lines_apart(Profile(encoding))
    memo, count = RecallMemo(), counting(encoding, [])

    for found in several + several[::-1]:
        assert memo.tokens_of([*found, "</recalled>"], encoding, count) == count("".join(found) + "</recalled>")


def test_a_line_is_counted_once_for_each_encoding() -> None:
    """Two models of different families may ask of the same messages."""
    told: list[str] = []
    memo = RecallMemo()
    asked = ["1 user: 早上好\n", "2 assistant: hello\n", "1 user: 早上好\n"]
    for encoding in (*ENCODINGS, *ENCODINGS):
        memo.tokens_of(asked, encoding, counting(encoding, told))

    assert told == asked[:2] * 2


def test_what_was_read_and_made_once_is_not_again() -> None:
    """Neither a message's text nor its line."""
    told: list[int] = []
    memo = RecallMemo()

    def read(number: int) -> str:
        told.append(number)
        return f"text {number}"

    assert [memo.text_of(number, read) for number in (3, 4, 3)] == ["text 3", "text 4", "text 3"]
    assert memo.lines_of([(3, 0), (3, 0, 7)], read) == ["text 0", "text 1"]
    assert memo.lines_of([(5, 0), (3, 0, 7), (3, 0)], read) == ["text 0", "text 1", "text 0"]
    assert told == [3, 4, 0, 1, 0]


def test_2_each_kind_is_bounded() -> None:
    """Ten times what it may hold is read and counted through it."""
    memo, size = RecallMemo(), 1000
    for number in range(10 * MAX_CHARS // size):
        text = f"{number:08}".ljust(size, "x")
        assert memo.text_of(number, lambda _, text=text: text) == text  # type: ignore[misc]
        assert memo.lines_of([(number, 0)], lambda _, text=text: text) == [text]  # type: ignore[misc]
        assert memo.tokens_of([text, "x", text], "any", len) == 2 * size + 1

    held = [memo._texts.values(), memo._lines.values(), *(known.keys() for known in memo._tokens.values())]
    assert all(sum(map(len, kind)) <= MAX_CHARS for kind in held)

    for number in range(100):
        factors = ([float(number)], [])
        assert memo.factors_of((frozenset({str(number)}), False), lambda factors=factors: factors) is factors  # type: ignore[misc]
        assert memo.factors_of((frozenset({str(number)}), False), list) is factors  # type: ignore[arg-type]
    assert len(memo._factors) < 10
