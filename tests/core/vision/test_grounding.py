"""Marks of places go, text stays, loops end, tables become rows; whatever a model writes, nothing is evaluated."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.vision.grounding import LABELS, plain_text, table_rows, without_loop, without_marks


def mark(label: str, places: str = "[[12, 34, 56, 78]]") -> str:
    return f"<|ref|>{label}<|/ref|><|det|>{places}<|/det|>"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("plain", "plain"),
        (mark("title") + "\n# Heading\n\n" + mark("text") + "\nBody.", "\n# Heading\n\n\nBody."),
        (mark("text", "[[[1, 2, 3, 4]]]") + "x", "x"),
        (mark("text", "[[1,2,3,4],[5,6,7,8]]") + "x", "x"),
        (mark("Total: 42") + "\n" + mark("Paid"), "Total: 42\nPaid"),
        ("a <|ref|>half", "a half"),
        ("a <|ref|>text", "a "),
        ("a <|det|>[[1, 2", "a "),
        ("a <|det|>[[__import__('os')]]<|/det|> b", "a [[__import__('os')]] b"),
        ("a<|/ref|>b<|/det|>c", "abc"),
        ("<|ref|>one<|ref|>two<|/ref|>", "onetwo"),
        ("<|det|>text<|ref|>table<|/ref|>x", "textx"),
        ("1 <|other|> 2 <| 3", "1 <|other|> 2 <| 3"),
    ],
)
def test_marks_are_taken_out(written: str, text: str) -> None:
    assert without_marks(written) == text


@given(
    st.lists(
        st.sampled_from(["<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|", "|>", "[[1, 2, 3, 4]]", "word ", "9"])
    )
)
def test_whatever_their_order_no_word_is_lost(parts: list[str]) -> None:
    """Invariant 2: only marks and what can be nothing but places go."""
    text = without_marks("".join(parts))

    assert text.count("word ") == parts.count("word ")
    assert "<|ref|>" not in text.replace("<|<|", "")


@given(st.text())
def test_text_without_marks_is_as_it_was(text: str) -> None:
    if "<|" not in text:
        assert without_marks(text) == text


@pytest.mark.parametrize("label", sorted(LABELS))
def test_labels_go(label: str) -> None:
    assert without_marks(mark(label) + "x") == "x"


@pytest.mark.parametrize(
    "part", ["<|ref|>", "<|det|>[[", "<|/det|>", "<|", "<table><tr><td>", "<table>", "ab", "<|ref|>x<|/ref|>"]
)
def test_time_grows_with_length_alone(part: str) -> None:
    """Hostile answers of a quarter of a mebibyte; the bound is far above what a linear reading takes."""
    started_s = time.process_time()
    plain_text(part * (262_144 // len(part)))

    assert time.process_time() - started_s < 10


def test_a_loop_is_kept_once() -> None:
    """The rest of the text stays, and its share is told."""
    start = "".join(f"Line {number} of the report. " for number in range(40))
    looped = plain_text(start + "and so on " * 500, has_ended=False)

    assert looped.text.startswith(start)
    assert looped.text.count("and so on") <= 2
    assert looped.share < 0.25


def test_who_ended_by_itself_may_repeat_itself_longer() -> None:
    """As a table of zeros does; nobody means to for thousands of characters."""
    table = "Month | Rain\n" + "0 | 0\n" * 200

    assert plain_text(table) == (table.strip(), 1.0)
    assert plain_text(table, has_ended=False).share < 0.1
    assert plain_text(table * 1 + "0 | 0\n" * 800).share < 0.1


@pytest.mark.parametrize(
    "text",
    [
        "Chapter 1 " + "." * 200 + " 7",
        "-" * 120,
        "ha " * 20,
        "\n".join(f"row {number} | 0 | 0" for number in range(300)),
        "",
        "a",
    ],
)
def test_what_repeats_itself_a_little_is_no_loop(text: str) -> None:
    assert without_loop(text) == text


@given(st.text(min_size=1, max_size=40), st.integers(60, 200))
def test_any_loop_ends(unit: str, times: int) -> None:
    text = "begin " + unit * times
    kept = without_loop(text)

    assert text.startswith(kept)
    if len(unit) * times >= 400:
        assert len(kept) <= len("begin ") + 2 * len(unit)


def test_many_tables_cost_no_more_than_one() -> None:
    """The text is gone over once, and not again for each of them."""
    many = "".join(f"<table><tr><td>{number}</td></tr></table>\n" for number in range(60_000))

    assert table_rows(many).split() == [str(number) for number in range(60_000)]


def test_a_table_becomes_rows() -> None:
    head = "<tr><th>Item</th><th>Price &amp; tax</th></tr>"
    row = "<tr><td>Tea\n<br>green</td><td>4.50</td></tr>"

    assert (
        table_rows(f"before\n<table>{head}{row}</table>\nafter")
        == "before\nItem | Price & tax\nTea green | 4.50\nafter"
    )


@pytest.mark.parametrize(
    ("html", "rows"),
    [
        ("<table><tr><td>a<td>b<tr><td>c", "a | b\nc"),
        ("<TABLE><TR><TD>a</TD></TR></TABLE>b", "ab"),
        ("<table>loose</table>", "loose"),
        ("a < b and <tab>", "a < b and <tab>"),
    ],
)
def test_tables_that_are_broken_keep_their_text(html: str, rows: str) -> None:
    assert table_rows(html) == rows


def test_all_of_it_together() -> None:
    written = (
        mark("title")
        + "\n## Invoice 2024-00917  \n\n\n\n"
        + mark("table")
        + "\n<table><tr><td>Tea</td><td>4.50</td></tr></table>\n<｜end▁of▁sentence｜>"
    )

    assert plain_text(written) == ("## Invoice 2024-00917\n\nTea | 4.50", 1.0)
