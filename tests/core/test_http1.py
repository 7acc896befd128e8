"""Heads of messages: exactly the lines that were given, or an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.wire.http1 import LAST_CHUNK, render_chunk, render_request_head, render_response_head

names = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=12)
values = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)


@given(headers=st.lists(st.tuples(names, values), max_size=6))
def test_a_head_holds_the_lines_that_it_was_given(headers: list[tuple[str, str]]) -> None:
    head = render_request_head("POST", "/v1/x?a=b", headers)
    lines = head.decode().split("\r\n")

    assert lines[0] == "POST /v1/x?a=b HTTP/1.1"
    assert lines[1:-2] == [f"{name}: {value}" for name, value in headers]
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
@pytest.mark.parametrize("place", ["name", "value", "target"])
def test_what_would_end_a_line_is_refused(bad: str, place: str) -> None:
    """In a name, a value or a target."""
    name, value, target = (bad if place == each else "x" for each in ("name", "value", "target"))

    with pytest.raises(ValueError, match="line end"):
        render_request_head("GET", target, [(name, value)])


def test_bytes_that_are_no_text_come_back_as_they_came() -> None:
    """Header values are bytes; what was read with surrogate escapes is written as it was."""
    value = b"caf\xe9".decode("utf-8", "surrogateescape")

    assert b"X: caf\xe9\r\n" in render_response_head(200, [("X", value)])


@pytest.mark.parametrize(
    ("status", "line"), [(200, b"HTTP/1.1 200 OK"), (429, b"HTTP/1.1 429 Too Many Requests"), (599, b"HTTP/1.1 599 ")]
)
def test_a_status_has_its_reason(status: int, line: bytes) -> None:
    assert render_response_head(status, []) == line + b"\r\n\r\n"


def test_chunks() -> None:
    assert render_chunk(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"
    assert LAST_CHUNK == b"0\r\n\r\n"
