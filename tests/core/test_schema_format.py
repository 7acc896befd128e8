"""Response formats as the text that models are shown; each row was checked against a recorded bill."""

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tokens.schema_format import render_format
from tests.json_texts import VALUES


def schema_of(text):
    return json.loads(text.rpartition("\n")[2])


def test_the_whole_text():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }

    assert render_format("Reply", "What is said", schema) == (
        '# Response Formats\n\n## Reply\n\n// What is said\n{"type":"object","properties":{"a":{"type":"string"}}}'
    )


def test_lists_of_required_names_defaults_and_bounds_are_left_out_at_every_depth():
    inner = {"type": "array", "items": {"const": "x"}, "maxItems": 1, "minItems": 1, "default": [], "title": "T"}
    shown = schema_of(render_format("R", None, {"properties": {"a": inner}, "$defs": {"B": {"required": ["x"]}}}))

    assert shown == {
        "properties": {"a": {"type": "array", "items": {"const": "x"}, "title": "T"}},
        "$defs": {"B": {}},
    }


def test_properties_may_have_any_name():
    """A property that is called `required` or `default` is no constraint."""
    properties = {"required": {"type": "string"}, "default": {"type": "null"}}

    assert schema_of(render_format("R", None, {"properties": properties})) == {"properties": properties}


def test_what_is_outside_ascii_is_escaped():
    assert render_format("R", "", {"description": "a — b"}).endswith('{"description":"a \\u2014 b"}')


@given(VALUES, VALUES, st.text(max_size=9))
def test_whatever_the_schema_is_there_is_a_text(schema, description, name):
    assert render_format(name, description, schema).startswith(f"# Response Formats\n\n## {name}\n\n")
