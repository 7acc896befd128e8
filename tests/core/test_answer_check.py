"""An error said with 200, or half a JSON text, is told from an answer."""

import pytest

from gateway.core.wire.answer_check import flaw_of_answer

FLAWS = {
    "an answer": (b'{"choices":[]}', None),
    "a null error": (b'{"error":null}', None),
    "a list": (b"[]", None),
    "an error": (b'{"error":{"message":"overloaded"}}', "overloaded"),
    "an error that is text": (b'{"error":"busy"}', "busy"),
    "half a text": (b'{"choices":[{"mess', "no whole JSON"),
    "nothing": (b"", "no whole JSON"),
    "depth without end": (b'{"error":' + b"[" * 10**5, "no whole JSON"),
}


@pytest.mark.parametrize(("body", "flaw"), FLAWS.values(), ids=FLAWS)
def test_flaws_are_named(body, flaw):
    found = flaw_of_answer(body)

    assert (found is None) if flaw is None else flaw in found
