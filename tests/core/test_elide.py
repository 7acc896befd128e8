"""Results made shorter: within the bound, by structure, the same every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.context.elide import elide_arguments, elide_text
from gateway.core.context.elide_json import shorten_json
from gateway.core.context.elide_lines import best_lines, short_line
from tests.histories import long_texts, lumpy, per_four_chars, per_word, texts

rules = st.sampled_from([per_four_chars, per_word, lumpy])
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=60))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=30), st.dictionaries(st.text(max_size=8), inner, max_size=6)),
    max_leaves=60,
)
lines = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), max_size=80),
    max_size=60,
)
LOG = "\n".join(
    [f"2024-03-15 10:{minute:02d}:00 INFO worker {minute % 4} took job {minute * 31}" for minute in range(60)]
    + ["2024-03-15 11:00:01 ERROR worker 2 failed: connection refused by db-7.internal:5432"]
    + [f"2024-03-15 11:{minute:02d}:00 INFO worker {minute % 4} took job {minute * 37}" for minute in range(2, 60)]
)


@settings(max_examples=200, deadline=None)
@given(text=st.one_of(texts, long_texts, values.map(json.dumps)), max_tokens=st.integers(-5, 900), count=rules)
def test_it_fits_and_never_grows(text: str, max_tokens: int, count: Callable[[str], int]) -> None:
    """Whatever the text and the tokenizer; what fits is left alone; the result is valid unicode."""
    shorter = elide_text(text, max_tokens, count)

    assert count(shorter) <= max(0, max_tokens)
    assert len(shorter) <= len(text)
    assert shorter == elide_text(text, max_tokens, count)
    assert shorter.encode().decode() == shorter
    if count(text) <= max_tokens:
        assert shorter == text


@settings(max_examples=150, deadline=None)
@given(value=st.dictionaries(st.text(max_size=8), values, min_size=1, max_size=6), max_tokens=st.integers(0, 300))
def test_arguments_stay_an_object(value: dict[str, Any], max_tokens: int) -> None:
    """Upstreams parse them; with room enough, every key is still there."""
    arguments = json.dumps(value)
    shorter = elide_arguments(arguments, max_tokens, per_four_chars)
    found = json.loads(shorter)

    assert isinstance(found, dict)
    assert len(shorter) <= len(arguments)
    assert per_four_chars(shorter) <= max(max_tokens, min(12, per_four_chars(arguments)))
    if "shortened" not in found:
        assert list(found) == list(value)


@pytest.mark.parametrize("arguments", ["", "{", "[1, 2, 3]" * 40, '"text"' * 40, "not json at all " * 30])
def test_arguments_that_are_no_object_become_one(arguments: str) -> None:
    """A model's broken call is not made worse; one too short for the note stays as it is."""
    shorter = elide_arguments(arguments, 3, per_four_chars)

    assert shorter == arguments or json.loads(shorter)["shortened"]


def test_a_log_keeps_its_error_and_its_ends() -> None:
    """A line in a hundred and twenty."""
    shorter = elide_text(LOG, 200, per_four_chars)

    assert "connection refused by db-7.internal:5432" in shorter
    assert "10:00:00 INFO" in shorter
    assert "11:59:00 INFO" in shorter
    assert "lines …]" in shorter


def test_wanted_names_are_kept() -> None:
    """The line that holds what the next steps use comes before others."""
    assert "job 899" not in elide_text(LOG, 200, per_four_chars)
    assert "job 899" in elide_text(LOG, 200, per_four_chars, wanted={"899"})


def test_code_keeps_what_opens_definitions() -> None:
    """A skeleton says more than any ten lines in a row."""
    body = "\n".join(f"        total_{n} = other_{n} + {n}" for n in range(12))
    code = "\n".join(f"class Shape{n}:\n    def area_{n}(self):\n{body}" for n in range(12))
    shorter = elide_text(code, 400, per_four_chars)

    assert sum(f"class Shape{n}:" in shorter for n in range(12)) >= 9


def test_json_keeps_its_shape() -> None:
    """Still JSON after the note; the odd item out and the one with an error stay."""
    rows: list[Any] = [{"id": n, "status": "ok", "comment": "nothing to see here " * 4} for n in range(200)]
    rows[77] = {"id": 77, "status": "error", "comment": "disk full"}
    rows[140] = {"id": 140, "kind": "manual", "by": "ann"}
    text = json.dumps({"total": 200, "rows": rows, "next": None})
    note, _, shorter = elide_text(text, 300, per_four_chars, recall_id="m7").partition("\n")
    found = json.loads(shorter)

    assert note == f"[shortened from {per_four_chars(text)} tokens; recall id m7]"
    assert (found["total"], found["next"]) == (200, None)
    ids = [row["id"] for row in found["rows"] if isinstance(row, dict)]
    assert {0, 77, 140, 199} <= set(ids)
    assert any(isinstance(row, str) and row.endswith("more …]") for row in found["rows"])


def test_blobs_become_a_note() -> None:
    """Encoded data says nothing to a reader, and its tokens are many; paths are no blobs."""
    blob = "iVBORw0KGgo" + "A9b7" * 400
    text = f"The chart:\ndata:image/png;base64,{blob}\n" + "Sales rose by 12 % in May. " * 60
    shorter = elide_text(text, 420, per_four_chars)

    assert "characters of encoded data" in shorter
    assert "Sales rose by 12 % in May." in shorter
    path = "/".join(["folder"] * 60)
    assert "encoded data" not in elide_text(f"{path}\n{LOG}", 500, per_four_chars)


@given(lines=lines, max_chars=st.integers(0, 2000))
def test_lines_are_kept_whole_and_in_order(lines: list[str], max_chars: int) -> None:
    """Every line of the result is one of the text's, or a note of how many are missing."""
    shown = best_lines("\n".join(lines), max_chars, ())

    assert len(shown) <= max_chars
    rest = iter(lines)
    for line in shown.split("\n") if shown else ():
        is_note = line.startswith("[… ") and line.endswith("…]")
        is_cut = " characters …]" in line
        assert is_note or is_cut or line in rest


@given(line=st.text(max_size=400), max_chars=st.integers(8, 300))
def test_a_long_line_keeps_its_two_ends(line: str, max_chars: int) -> None:
    """With the number of characters that are missing between them."""
    short = short_line(line, max_chars)
    if short == line:
        return
    head, _, rest = short.rpartition("[… ")
    number, _, tail = rest.partition(" characters …]")

    assert line.startswith(head)
    assert line.endswith(tail)
    assert len(head) + int(number) + len(tail) == len(line)


def test_one_long_line_uses_its_room() -> None:
    """A page without line ends is not cut to the length of a line."""
    text = "A sentence that says a little. " * 400
    shorter = elide_text(text, 500, per_four_chars)

    assert per_four_chars(shorter) > 400


def test_deep_json_does_not_break() -> None:
    """What nests deeper than anybody reads is left out."""
    value: Any = ["x" * 50]
    for _ in range(90):
        value = [value]

    assert shorten_json(value, 60, per_four_chars, ()) is not None
