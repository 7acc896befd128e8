"""Hard values: found by shape, weighed by who said them, and looked for in a brief."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.context.extractive import Turn
from gateway.core.context.values import _SHAPES, MAX_VALUES, _find, cover, hard_values, render_missing
from tests.histories import contents, per_four_chars

turn_lists = st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), contents), max_size=8).map(
    lambda found: [Turn(number, role, text) for number, (role, text) in enumerate(found, 1)]
)


def found_in(text: str, role: str = "user") -> list[str]:
    return [value.text for value in hard_values([Turn(1, role, text)])]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("See https://docs.example.org/a/b?c=1#d, please.", "https://docs.example.org/a/b?c=1#d"),
        ("Write to mary.lou+x@mail.example.com today", "mary.lou+x@mail.example.com"),
        ("It is in /srv/app/config.yaml now", "/srv/app/config.yaml"),
        ("It is in src/gateway/app.py now", "src/gateway/app.py"),
        ("Session 3f2504e0-4f89-11d3-9a0c-0305e82c3301 ended", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"),
        ("Due on 2026-03-14.", "2026-03-14"),
        ("Am 17.04.2026 um 9:30", "17.04.2026"),
        ("会议在2026年3月14日", "2026年3月14日"),
        ("Upgrade to v2.10.3 first", "v2.10.3"),
        ("Order K-2291-7 was sent", "K-2291-7"),
        ("See issue #4711.", "#4711"),
        ("Set max_total_tokens higher", "max_total_tokens"),
        ("Call parseMessage there", "parseMessage"),
        ("Run `npm ci --quiet` again", "npm ci --quiet"),
        ("It costs $1,299.50 a month", "$1,299.50"),
        ("It took 41 minutes in all", "41 minutes"),
        ("A drop of 12.5% at most", "12.5%"),
        ("It moved 1,204 rows", "1,204"),
        ("We met Priya Raman there", "Priya Raman"),
        ("Ask at db-7.internal:5432 there", "db-7.internal:5432"),
        ("We will not use Redis here.", "We will not use Redis here."),
        ("TODO: write the migration.", "TODO: write the migration."),
    ],
)
def test_values_are_found_by_their_shape(text: str, value: str) -> None:
    assert value in found_in(text)


def test_a_sentences_first_word_is_no_name() -> None:
    """A capital letter alone is not enough where the word stands small elsewhere."""
    assert found_in("I saw it; Thanks. Many thanks, and thanks again.") == []


def test_what_the_user_said_late_and_often_comes_first() -> None:
    """Salience: kind, speaker, repetition, recency."""
    turns = [Turn(1, "tool", "id AB-100"), Turn(2, "user", "id AB-200"), Turn(9, "user", "id AB-300, AB-300, AB-300")]

    assert [value.text for value in hard_values(turns)] == ["AB-300", "AB-200", "AB-100"]


@settings(max_examples=200, deadline=None)
@given(turns=turn_lists)
def test_a_text_covers_its_own_values(turns: list[Turn]) -> None:
    """Every value stands in the span as it is; the span itself lacks none, the same input gives the same values."""
    values = hard_values(turns)
    whole = "\n".join(turn.text for turn in turns)

    assert all(value.text in whole for value in values)
    assert len(values) <= MAX_VALUES
    assert cover(values, whole).missing == []
    assert cover(values, whole).ratio == 1.0
    assert hard_values(turns) == values


def test_an_empty_brief_covers_nothing() -> None:
    values = hard_values([Turn(1, "user", "Order K-2291-7, 41 minutes.")])

    assert cover(values, "").ratio == 0.0
    assert [value.text for value in cover(values, "About K-2291-7").missing] == ["41 minutes"]


def test_a_sentence_is_told_by_most_of_its_words() -> None:
    """A negation in other words is still there."""
    values = hard_values([Turn(1, "user", "We will not use Redis for sessions.")])

    assert cover(values, "For sessions we will not use redis, it was said.").missing == []
    assert cover(values, "We will use Redis.").missing != []


@given(turns=turn_lists, room=st.integers(0, 200))
def test_missing_values_take_no_more_than_their_room(turns: list[Turn], room: int) -> None:
    """One line that fits, or none."""
    line = render_missing(hard_values(turns), room, per_four_chars)

    assert "\n" not in line
    assert per_four_chars(line) <= room


_EVERY_SHAPE = re.compile("|".join(f"(?P<{kind}{place}>{shape})" for place, (kind, _, shape) in enumerate(_SHAPES)))
_PIECES = st.sampled_from([
    "Ann", "said", "See", "https://", "http", "://", "a.b", "db-7", ".", "..", "/", "/etc/", "@", "x@y.z", "-", "_",
    "'t", "v1.2.3", "3.5", " GB", "$", " ", " ", "\n", ", ", ": ", "(", ")", '"', "`", "#42", "camelCase", "ISO", "+",
    "2024年5月", "10:30 pm", "é", "ß", "Éric", "÷", "漢字", "~", "\u00a0", "?", "!", "wasn’t", "1,000",
])  # fmt: skip


@settings(max_examples=2000)
@given(text=st.lists(_PIECES, max_size=12).map("".join))
def test_skipping_plain_words_loses_nothing(text: str) -> None:
    """What is found is what the shapes alone find, wherever they stand."""
    found = [(match.lastgroup, match.span()) for match in _find(text) if match.lastgroup]

    assert found == [(match.lastgroup, match.span()) for match in _EVERY_SHAPE.finditer(text)]
