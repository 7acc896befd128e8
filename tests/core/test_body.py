"""The bytes of a body are cut where its values stand, and nowhere else."""

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Refusal
from gateway.core.wire.body import (
    AmbiguousObject,
    Edit,
    ask_for_usage,
    cut_field,
    object_spans,
    request_spans,
    splice,
)
from tests.json_texts import PLAIN_KEYS, Member, members, objects, renderings
from tests.refusals import result_of

OPTION_KEYS = st.sampled_from(["include_usage", "include_obfuscation", "x", "é"])


def decoded(raw):
    """As Python's own parser reads it."""
    return json.loads(raw.decode("utf-8", "replace"))


@given(members().flatmap(lambda parts: st.tuples(st.just(parts), objects(parts))))
def test_spans_hold_exactly_the_values(case):
    """Each key's span holds the bytes that were written for its value, in the body's order."""
    parts, body = case
    spans = object_spans(body)

    assert list(spans) == [part.key for part in parts]
    for part in parts:
        span = spans[part.key]
        assert body[span.start : span.end] == part.value
        assert body.startswith(part.quoted, span.key_start)


@given(st.data())
def test_duplicate_keys_never_yield_spans(data):
    """A key that stands twice, anywhere and with any values, is refused: parsers disagree about such bodies."""
    parts = data.draw(members(min_size=1))
    twice = data.draw(st.sampled_from(parts))._replace(value=data.draw(renderings()))
    place = data.draw(st.integers(0, len(parts)))
    body = data.draw(objects([*parts[:place], twice, *parts[place:]]))

    with pytest.raises(AmbiguousObject):
        object_spans(body)


TRICKS = [
    (rb'{"\n\n\n\nx0}":0}', "an escaped key whose text looks like a value and an end"),
    (b'{"a":"}","a":1}', "a first value that looks like an end"),
    (b'{"a":"},{","a":1}', "a first value that looks like an end and a beginning"),
    (b'{"a":[1],"a":{"a":[1]}}', "a twin inside its own twin"),
]


@pytest.mark.parametrize("body", [row[0] for row in TRICKS], ids=[row[1] for row in TRICKS])
def test_look_alikes_never_yield_spans(body):
    with pytest.raises(AmbiguousObject):
        object_spans(body)


NUMBERS = ["1", "12", "1.5", "1e5", "-1", "-12", "0", "0.1"]


@pytest.mark.parametrize(
    "layout", ['{"a":%s,"a":%s}', '{"a":%s,"a":%s,"b":1}', '{"b":1,"a":%s,"a": %s}', '{"a":%s, "b":2,"a":%s}']
)
def test_duplicate_numbers_never_yield_spans(layout):
    """Not even where one number's text begins like the other's."""
    for pair in product(NUMBERS, repeat=2):
        with pytest.raises(AmbiguousObject):
            object_spans((layout % pair).encode())


@given(st.data())
def test_escaped_keys_never_yield_spans(data):
    """A key written with an escape is refused, even where it has no plain twin."""
    parts = data.draw(members(PLAIN_KEYS.filter(bool), min_size=1))
    at = data.draw(st.integers(0, len(parts) - 1))
    key = parts[at].key
    place = data.draw(st.integers(0, len(key) - 1))
    escape = json.dumps(key[place])[1:-1] if ord(key[place]) > 0xFFFF else f"\\u{ord(key[place]):04X}"
    parts[at] = Member(key, f'"{key[:place]}{escape}{key[place + 1 :]}"'.encode(), parts[at].value)

    with pytest.raises(AmbiguousObject):
        object_spans(data.draw(objects(parts)))


@given(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6), st.none() | st.binary(max_size=6)), max_size=6))
def test_splice_changes_nothing_outside_its_edits(segments):
    """Each segment is a stretch that stays, and one that is replaced, unless its replacement is None.

    In whatever order the edits come; only insertions at one place go by it.
    """
    body, expected, edits = b"", b"", []
    for stays, goes, replacement in segments:
        start = len(body) + len(stays)
        body += stays + goes
        expected += stays + (goes if replacement is None else replacement)
        if replacement is not None:
            edits.append(Edit(start, start + len(goes), replacement))

    last_first = sorted(edits, key=lambda edit: (edit.start, edit.end), reverse=True)

    assert splice(body, edits) == expected
    assert splice(body, last_first) == expected


@given(st.data())
def test_asking_for_usage_changes_nothing_else(data):
    """The option is there afterwards, and every other member and option stands as it was written."""
    parts = data.draw(members())
    kind = data.draw(st.sampled_from(["absent", "null", "object"]))
    options = data.draw(members(OPTION_KEYS)) if kind == "object" else []
    if kind != "absent":
        value = data.draw(objects(options)).strip() if kind == "object" else b"null"
        place = data.draw(st.integers(0, len(parts)))
        parts.insert(place, Member("stream_options", b'"stream_options"', value))
    body = data.draw(objects(parts))
    asked = splice(body, [ask_for_usage(body, object_spans(body))])
    before, after = decoded(body), decoded(asked)

    assert after.pop("stream_options") == {**(before.pop("stream_options", None) or {}), "include_usage": True}
    assert after == before
    spans = object_spans(asked)
    for part in parts:
        if part.key != "stream_options":
            assert asked[spans[part.key].start : spans[part.key].end] == part.value
    for option in options:
        if option.key != "include_usage":
            assert option.value in asked[spans["stream_options"].start : spans["stream_options"].end]


@given(st.data())
def test_cutting_a_field_leaves_the_others(data):
    """One field and one comma go; the other members stay, in order and as written."""
    parts = data.draw(members(min_size=1))
    gone = data.draw(st.sampled_from(parts))
    body = data.draw(objects(parts))
    left = splice(body, [cut_field(body, object_spans(body), gone.key)])
    spans = object_spans(left)

    assert list(spans) == [part.key for part in parts if part is not gone]
    for part in parts:
        if part is not gone:
            assert left[spans[part.key].start : spans[part.key].end] == part.value
    assert len(left) <= len(body) - len(gone.quoted) - len(gone.value) - 1


CUTS = [
    ('{"a":1}', "a", "{}"),
    ('{"a":1,"b":2}', "a", '{"b":2}'),
    ('{"a":1,"b":2}', "b", '{"a":1}'),
    ('{"a":1,"b":2,"c":3}', "b", '{"a":1,"c":3}'),
    ('{ "a" : 1 , "b" : 2 }', "a", '{ "b" : 2 }'),
    ('{ "a" : 1 , "b" : 2 }', "b", '{ "a" : 1 }'),
    ('{ "a": 1 }', "a", "{  }"),
]


@pytest.mark.parametrize(("body", "key", "left"), CUTS)
def test_cut_fields_take_one_comma_along(body, key, left):
    assert splice(body.encode(), [cut_field(body.encode(), object_spans(body.encode()), key)]) == left.encode()


BAD = {
    "empty": (b"", "invalid_json", "empty"),
    "only white space": (b" \n", "invalid_json", "empty"),
    "not JSON": (b"model=gpt-4o", "invalid_json", "12 bytes"),
    "cut short": (b'{"model":"gpt', "invalid_json", "13 bytes"),
    "an array": (b"[]", "invalid_json", "must be a JSON object"),
    "a string": (b'"x"', "invalid_json", "must be a JSON object"),
    "null": (b"null", "invalid_json", "must be a JSON object"),
    "bytes behind it": (b"{} {}", "invalid_json", "5 bytes"),
    "a comment": (b'{"a":1} // x', "invalid_json", "12 bytes"),
    "a comma too many": (b'{"a":1,}', "invalid_json", "trailing comma"),
    "single quotes": (b"{'a':1}", "invalid_json", "7 bytes"),
    "NaN": (b'{"a":NaN}', "invalid_json", "byte 5"),
    "Infinity": (b'{"a":-Infinity}', "invalid_json", "byte 6"),
    "a leading zero": (b'{"a":01}', "invalid_json", "invalid number"),
    "a byte order mark": (b'\xef\xbb\xbf{"a":1}', "invalid_json", "byte 0"),
    "UTF-16": ('{"a":1}'.encode("utf-16"), "invalid_json", "byte 0"),
    "invalid UTF-8 in a key": (b'{"\xff":1}', "invalid_json", "utf-8"),
    "half a surrogate pair in a key": (b'{"\\ud83d":1}         ', "invalid_json", "surrogate"),
    "a line end in a string": (b'{"a":"\n"}', "invalid_json", "byte 6"),
    "a million levels": (b'{"a":' + b"[" * 10**6, "invalid_json", "nested too deeply"),
    "a duplicate key": (b'{"a":1,"a":1}', "duplicate_key", "'a'"),
    "an escaped key": (b'{"\\u0061":1}', "duplicate_key", "'a'"),
    "an endless escaped key": (b'{"\\u0061%b":1}' % (b"a" * 10**5), "duplicate_key", "'aaa"),
    "a duplicate empty key": (b'{"":1,"":2}', "duplicate_key", "''"),
}


@pytest.mark.parametrize(("body", "code", "detail"), BAD.values(), ids=BAD)
def test_bad_bodies_are_refused_with_the_reason(body, code, detail):
    with pytest.raises(Refusal) as refused:
        request_spans(body)

    assert (refused.value.status, refused.value.code) == (400, code)
    assert detail in refused.value.message
    assert len(refused.value.message) < 500


@given(st.binary(max_size=60) | renderings())
def test_any_bytes_give_spans_or_a_refusal(body):
    result = result_of(request_spans, body)

    assert result.status == 400 if isinstance(result, Refusal) else set(result) == set(decoded(body))
