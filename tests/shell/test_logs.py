"""Log lines: one JSON object each, whatever is logged."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from gateway.shell.telemetry.logs import JsonFormatter, TextFormatter

FIELDS = {
    "plain": {"a": 1},
    "an object": {"where": Path("/x")},
    "line ends": {"a": "one\ntwo\r\nthree"},
    "unicode": {"a": "déjà 😀"},
}


def record(**fields: object) -> logging.LogRecord:
    """A record with fields of its own."""
    made = logging.LogRecord("gateway.x", logging.INFO, __file__, 1, "said %s", ("so",), None)
    made.__dict__.update(fields)
    return made


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_json_lines_are_single_and_whole(fields: dict[str, object]) -> None:
    """No value breaks the line; message, level, logger and fields are there."""
    line = JsonFormatter().format(record(**fields))
    parsed = json.loads(line)

    assert "\n" not in line
    assert (parsed["message"], parsed["level"], parsed["logger"]) == ("said so", "info", "gateway.x")
    assert parsed.keys() >= fields.keys()


def test_exceptions_stay_inside_the_line() -> None:
    """A traceback is a field."""
    try:
        raise ValueError("broken on purpose")
    except ValueError as error:
        made = record()
        made.exc_info = (ValueError, error, error.__traceback__)
    line = JsonFormatter().format(made)

    assert "\n" not in line
    assert "broken on purpose" in json.loads(line)["exception"]


def test_text_lines_name_their_fields() -> None:
    """For people."""
    assert "said so status=200" in TextFormatter().format(record(status=200))
