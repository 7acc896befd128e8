"""JSON is read strictly: any bytes give a value or a 400 that names the place and tells no secret."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from gateway.core.errors import Refusal
from gateway.core.facts.wire_json import read_fields, read_json
from tests.refusals import result_of

SECRET = "sk-abcdefghijklmnop0123456789"
REFUSED = {
    "nothing": (b"", "empty"),
    "white space": (b" \r\n\t", "empty"),
    "half": (b'{"a": ', "character 6"),
    "two values": (b"{} {}", "Extra data"),
    "a byte-order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "no UTF-8": (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "Latin-1": ('{"a": "Köln"}'.encode("latin-1"), "not UTF-8"),
    "a surrogate in UTF-8": (b'"\xed\xa0\x80"', "not UTF-8"),
    "NaN": (b'{"a": NaN}', "NaN is no JSON number"),
    "infinity": (b"[-Infinity]", "-Infinity is no JSON number"),
    "a key twice": (b'{"a": 1, "b": 2, "a": 3}', "`a` must be sent once"),
    "a key twice by escapes": (b'{"a": 1, "\\u0061": 3}', "`a` must be sent once"),
    "a key twice, deep": (b'[{"x": {"b": 1, "b": 1}}]', "`b` must be sent once"),
    "NUL": (b'{"a": ["\\u0000"]}', "`a[0]` must be text that can be stored, found U+0000"),
    "NUL as it is": (b'{"a": "\x00"}', "Invalid control character"),
    "NUL in a key": (b'{"\\u0000": 1}', "found U+0000"),
    "half a pair": (b'{"a": {"b": "x\\ud83d"}}', "`a.b` must be text that can be stored, found half of a surrogate"),
    "the other half": (b'["\\uDE00"]', "half of a surrogate pair at character 0"),
    "lists in lists": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "objects in objects": (b'{"a":' * 50_000, "nested too deeply"),
    "a number without end": (b"9" * 5000, "thousands of digits"),
}


@pytest.mark.parametrize(("data", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_json_here(data: bytes, said: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_json(data)

    assert refused.value.status == 400
    assert said in refused.value.message


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_give_a_value_or_a_400(data: bytes) -> None:
    found = result_of(read_json, data)

    assert not isinstance(found, Refusal) or found.status == 400


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=5), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_can_be_stored_is_read_as_it_is(value: Any, as_ascii: bool) -> None:
    """Whether its characters are escaped or not: pairs of surrogates are one character."""
    assert read_json(json.dumps(value, ensure_ascii=as_ascii).encode()) == value


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    page: Annotated[int, Meta(ge=0)] | None = None


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=80)]
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    inner: Inner | None = None
    rows: list[Inner] = []


WRONG = [
    ([], "", "an object", "a list of 0"),
    ("x", "", "an object", '"x"'),
    ({}, "name", "a value", "nothing"),
    ({"name": ""}, "name", "a string of length >= 1", '""'),
    ({"name": "x" * 81}, "name", "a string of length <= 80", "81 characters"),
    ({"name": 5}, "name", "a string", "5"),
    ({"name": None}, "name", "a string", "null"),
    ({"name": ["x"] * 12}, "name", "a string", "a list of 12"),
    ({"name": "x", "share": True}, "share", "a number", "true"),
    ({"name": "x", "share": "high"}, "share", "a number", '"high"'),
    ({"name": "x", "share": 1.5}, "share", "a number <= 1.0", "1.5"),
    ({"name": "x", "share": -1}, "share", "a number >= 0.0", "-1"),
    ({"name": "x", "share": 10**400}, "share", "a value in its bounds", "a number of many digits"),
    ({"name": "x", "inner": 5}, "inner", "an object or null", "5"),
    ({"name": "x", "inner": {"page": -1}}, "inner.page", "a whole number >= 0", "-1"),
    ({"name": "x", "inner": {"page": 1.5}}, "inner.page", "a whole number or null", "1.5"),
    ({"name": "x", "inner": {"pages": 1}}, "inner.pages", "a known field", "another one"),
    ({"name": "x", "rows": [{}, {"page": "1"}]}, "rows[1].page", "a whole number or null", '"1"'),
    ({"name": "x", "Name": "y"}, "Name", "a known field", "another one"),
]


@pytest.mark.parametrize(("value", "field", "expected", "found"), WRONG)
def test_a_wrong_field_is_named(value: Any, field: str, expected: str, found: str) -> None:
    """By its path, with what was expected there and what was found."""
    with pytest.raises(Refusal) as refused:
        read_fields(value, Outer)
    told = {"field": field, "expected": expected, "found": found}

    assert refused.value.status == 400
    assert refused.value.details == {name: text for name, text in told.items() if text}
    assert (field or expected) in refused.value.message


@pytest.mark.parametrize(
    "value",
    [{"name": ["a"], SECRET: 1}, {"name": "x", "share": SECRET}, {"name": "x", "inner": {SECRET: 1}}],
)
def test_no_fault_tells_a_secret(value: Any) -> None:
    with pytest.raises(Refusal) as refused:
        read_fields(value, Outer)

    assert SECRET not in repr((refused.value.message, refused.value.details))


@given(VALUES)
def test_any_value_has_its_fields_or_a_400(value: Any) -> None:
    found = result_of(read_fields, value, Outer)

    assert isinstance(found, Outer) or (found.status == 400 and len(found.message) < 400)
