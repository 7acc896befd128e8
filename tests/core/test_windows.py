"""What upstreams say of their windows is understood, and nothing else is taken for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.routing.content_filters import is_filtered
from gateway.core.routing.error_texts import read_error
from gateway.core.routing.windows import Exceeded, read_exceeded
from gateway.shell.routing.windows import MAX_WINDOWS, LearnedWindows
from tests.core.refusal_wordings import FILTERED, OTHERS, WORDINGS
from tests.json_texts import VALUES


def body_of(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


@pytest.mark.parametrize("name", WORDINGS)
def test_every_wording_is_understood(name: str) -> None:
    """With its numbers, if it has any."""
    status, body, expected, _ = WORDINGS[name]

    assert read_exceeded(status, body_of(body)) == expected


@pytest.mark.parametrize("name", WORDINGS)
def test_no_wording_is_a_filter(name: str) -> None:
    status, body, _, _ = WORDINGS[name]

    assert not is_filtered(status, body_of(body))


@pytest.mark.parametrize("name", OTHERS)
def test_other_refusals_are_others(name: str) -> None:
    """Also where they quote what a request said."""
    status, body = OTHERS[name]

    assert read_exceeded(status, body_of(body)) is None


@pytest.mark.parametrize("status", [200, 401, 403, 404, 408, 409, 429, 502, 503, 504])
def test_other_statuses_say_other_things(status: int) -> None:
    assert all(read_exceeded(status, body_of(each.body)) is None for each in WORDINGS.values())


MESSAGES = [name for name, each in WORDINGS.items() if isinstance(each.body, dict) and "error" in each.body]
QUOTING = st.sampled_from(
    ["Invalid value: '", 'Unknown tool "', "The message ", "messages[3]: {", "  - ", '{"input": "']
)


@given(st.sampled_from(MESSAGES), QUOTING)
def test_what_quotes_a_wording_is_none(name: str, before: str) -> None:
    """A message that begins with anything else, and carries no code, proves nothing."""
    error = WORDINGS[name].body["error"]
    said = error["message"] if isinstance(error, dict) else error
    body = {"error": {"message": f"{before}{said}", "type": "invalid_request_error", "code": "invalid_value"}}

    assert read_exceeded(400, body_of(body)) is None


@given(VALUES, st.sampled_from([400, 413, 422, 500]))
def test_any_json_is_read(value: Any, status: int) -> None:
    """Without trouble, and without a window that was not said."""
    found = read_exceeded(status, json.dumps({"error": value}).encode())

    assert found is None or found == Exceeded()


@given(st.binary(max_size=300))
def test_any_bytes_are_read(body: bytes) -> None:
    assert read_exceeded(400, body) is None
    assert not is_filtered(400, body)


@given(st.integers(0, 10**12), st.one_of(st.integers(0, 200), st.integers(0, 10**12)))
def test_numbers_are_as_said_or_none(prompt: int, window: int) -> None:
    """What no model has is not taken for a number, and neither is 0."""
    found = read_exceeded(
        400, body_of({"error": {"message": f"prompt is too long: {prompt} tokens > {window} maximum"}})
    )

    assert found is not None
    assert found.window_tokens == (window if 64 <= window <= 100_000_000 else None)
    assert found.prompt_tokens == (prompt if 0 < prompt < 2**31 else None)


def test_deep_and_long_errors_are_bounded() -> None:
    deep: Any = "prompt is too long: 9 tokens > 5 maximum"
    for _ in range(40):
        deep = {"error": deep}
    long = {"error": {"message": "x" * 100_000}}

    assert read_exceeded(400, body_of(deep)) is None
    assert read_exceeded(400, body_of(long)) is None
    assert read_exceeded(400, b"[" * 100_000) is None


@pytest.mark.parametrize("name", FILTERED)
def test_filters_are_recognised(name: str) -> None:
    """And never taken for a window."""
    status, body = FILTERED[name]

    assert is_filtered(status, body_of(body))
    assert read_exceeded(status, body_of(body)) is None


@pytest.mark.parametrize("name", [name for name in OTHERS if "moderation" not in name])
def test_what_is_no_filter_is_none(name: str) -> None:
    status, body = OTHERS[name]

    assert not is_filtered(status, body_of(body))


def test_a_filter_that_is_quoted_is_none() -> None:
    said = "Invalid value: 'Output blocked by content filtering policy'"

    assert not is_filtered(400, body_of({"error": {"message": said, "code": "invalid_value"}}))


def test_messages_are_found_in_whatever_wrapping() -> None:
    """From the outside in, with names of exceptions taken off."""
    inner = json.dumps({"error": {"message": "too long", "code": "c1"}})
    body = {"error": {"message": f"litellm.BadRequestError: XException - {inner}", "type": "T"}}

    assert read_error(body_of(body)).heads[-1].startswith("too long")
    assert read_error(body_of(body)).codes == {"t"}


def test_windows_are_bounded_and_only_shrink() -> None:
    """Whatever upstreams and clients make up."""
    windows = LearnedWindows()
    windows.learn("a", "m", 8000)
    windows.learn("a", "m", 9000)

    assert windows.window_of("a", "m") == 8000
    assert windows.window_of("b", "m") is None
    for number in range(2 * MAX_WINDOWS):
        windows.learn("a", str(number), 1000)
    assert len(list(windows.all())) == MAX_WINDOWS
