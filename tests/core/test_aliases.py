"""An upstream's own name for a model stands in the body, and nothing else of it has changed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.routing.aliases import as_known_to, rename_model
from tests.core.test_routes import route

AZURE = replace(route("azure"), aliases=(("gpt-4o", "prod"), ("prod", "other")))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"gpt-4o","n":1}', b'{"model":"prod","n":1}'),
        (b'{ "n" : 1, "model" : "gpt-4o" }', b'{ "n" : 1, "model" : "prod" }'),
        (
            b'{"metadata":{"model":"gpt-4o"},"model":"gpt-4o","user":"gpt-4o"}',
            b'{"metadata":{"model":"gpt-4o"},"model":"prod","user":"gpt-4o"}',
        ),
    ],
)
def test_only_the_name_at_the_top_changes(body: bytes, expected: bytes) -> None:
    """And it is not looked up a second time."""
    assert as_known_to(AZURE, "gpt-4o", body) == expected


def test_a_model_without_alias_keeps_its_bytes() -> None:
    """The very same object: nothing was parsed."""
    body = b'{"model":"o3"}'

    assert as_known_to(AZURE, "o3", body) is body


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text()), st.text(), st.text(), st.booleans())
def test_any_name_may_take_the_place_of_any_other(
    fields: dict[str, object], name: str, other: str, is_compact: bool
) -> None:
    """Quotes, control characters and all."""
    whole = {**fields, "model": name}
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":") if is_compact else None)
    try:
        body = text.encode()
        renamed = rename_model(body, other)
    except (ValueError, UnicodeEncodeError):
        return  # half surrogate pairs, and keys that are written with escapes, are refused before

    assert json.loads(renamed) == {**whole, "model": other}
