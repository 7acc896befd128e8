"""Names and values: letter for letter, the most used first, none that is visible anyway."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.elide_names import list_names, names_in
from tests.histories import contents, per_four_chars


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("open src/app/main.py now", ["src/app/main.py"]),
        ("set max_total and maxTotal", ["max_total", "maxTotal"]),
        ("order #W2378156 for ann@example.com", ["#W2378156", "ann@example.com"]),
        ("plain words only", []),
        ("12\tfirst\n13\tsecond\n14\tthird at 5432", ["5432"]),
        (r'{"text": "one\ntwo_three\tfour"}', ["two_three"]),
        ("", []),
    ],
)
def test_what_is_a_name(text: str, names: list[str]) -> None:
    """Paths, identifiers, ids and values; no line numbers, no words, no escapes stuck to a word."""
    assert list(names_in(text)) == names


@given(
    texts=st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), contents), max_size=8),
    visible=contents,
    max_tokens=st.integers(0, 80),
)
def test_the_line_fits_and_is_verbatim(texts: list[tuple[str, str]], visible: str, max_tokens: int) -> None:
    """Every name stands in what was given, none twice, none that is visible."""
    line = list_names([(role, list(names_in(text))) for role, text in texts], visible, max_tokens, per_four_chars)
    names = line.split(", ") if line else []

    assert sum(per_four_chars(f" {name},") for name in names) <= max_tokens
    assert len(set(names)) == len(names)
    given_text = " ".join(text for _, text in texts)
    assert all(name in given_text.replace("\\n", " ").replace("\\t", " ").replace("\\r", " ") for name in names)
    assert not any(name in visible for name in names)


def test_what_is_used_often_and_lately_comes_first() -> None:
    """And what an agent wrote itself before what a tool printed."""
    turns = [
        ("tool", ["old_name"]),
        *[("tool", ["printed_name"])] * 2,
        ("assistant", ["written_name"]),
        ("tool", ["new_name"]),
    ]

    assert list_names(turns, "", 100, per_four_chars).split(", ") == [
        "written_name",
        "printed_name",
        "new_name",
        "old_name",
    ]
