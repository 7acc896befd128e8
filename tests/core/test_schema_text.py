"""Tools as the text that models are shown; each row was checked against a recorded bill or a published prompt."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.tokens.schema_text import TOOLS_HEAD, TOOLS_TAIL, Manner, comment_lines, render_tools
from tests.json_texts import VALUES

PLAIN = Manner()
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def shown(function, manner=PLAIN):
    text = render_tools([function], manner)
    assert text.startswith(TOOLS_HEAD)
    assert text.endswith(TOOLS_TAIL)
    return text[len(TOOLS_HEAD) : -len(TOOLS_TAIL)]


def of(properties, required=(), **others):
    return {
        "name": "f",
        "parameters": {"type": "object", "properties": properties, "required": list(required), **others},
    }


TOOLS = {
    "no parameters": ({"name": "f"}, "type f = () => any;"),
    "empty parameters": ({"name": "f", "parameters": {"type": "object", "properties": {}}}, "type f = () => any;"),
    "a description": ({"name": "f", "description": "Does it."}, "// Does it.\ntype f = () => any;"),
    "an empty description": ({"name": "f", "description": ""}, "type f = () => any;"),
    "a description of several lines": (
        {"name": "f", "description": "\n  One.\n\n    Two.  \n"},
        "// One.\n//\n// Two.\ntype f = () => any;",
    ),
    "no comment, so one line": (
        of({"a": {"type": "number"}, "b": {"type": "string"}}, ["a"]),
        "type f = (_: { a: number, b?: string }) => any;",
    ),
    "a comment, so many lines": (
        of({"a": {"type": "integer", "description": "How many"}, "b": {"type": "boolean"}}, ["b"]),
        "type f = (_: {\n// How many\na?: integer,\nb: boolean,\n}) => any;",
    ),
    "a title": (of({"a": {"type": "string", "title": "A"}}), "type f = (_: {\n// A\na?: string,\n}) => any;"),
    "a title and a description": (
        of({"a": {"type": "string", "title": "A", "description": "x"}}),
        "type f = (_: {\n// A\n//\n// x\na?: string,\n}) => any;",
    ),
    "a default": (
        of({"a": {"type": "string", "default": "x"}, "b": {"type": "null", "default": None}}),
        'type f = (_: {\na?: string, // default: "x"\nb?: null, // default: null\n}) => any;',
    ),
    "title and description of the parameters": (
        of({"a": {"type": "string"}}, title="Args", description="All."),
        "type f = (_: // Args\n//\n// All.\n{ a?: string }) => any;",
    ),
    "an enumeration": (of({"a": {"enum": ["x", "y", 1]}}), 'type f = (_: { a?: "x" | "y" | 1 }) => any;'),
    "a constant": (of({"a": {"const": "x"}}), 'type f = (_: { a?: "x" }) => any;'),
    "an array": (of({"a": {"type": "array", "items": {"type": "string"}}}), "type f = (_: { a?: string[] }) => any;"),
    "an array of anything": (of({"a": {"type": "array"}}), "type f = (_: { a?: any[] }) => any;"),
    "an array of choices": (
        of({"a": {"type": "array", "items": {"enum": ["x", "y"]}}}),
        'type f = (_: { a?: ("x" | "y")[] }) => any;',
    ),
    "an array of objects without comments": (
        of({"a": {"type": "array", "items": CITY}}),
        "type f = (_: { a?: { city: string }[] }) => any;",
    ),
    "an array of objects with comments": (
        of(
            {"a": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "string", "title": "B"}}}}}
        ),
        "type f = (_: {\na?: Array<\n{\n// B\nb?: string,\n}\n>,\n}) => any;",
    ),
    "an array of described members": (
        of({"a": {"type": "array", "items": {"type": "string", "description": "one"}}}),
        "type f = (_: {\na?: Array<\n// one\nstring\n>,\n}) => any;",
    ),
    "a nested object without comments": (of({"a": CITY}), "type f = (_: { a?: { city: string } }) => any;"),
    "a nested object with comments": (
        of({"a": {"type": "object", "properties": {"b": {"type": "string", "description": "x"}}}}),
        "type f = (_: {\na?: {\n// x\nb?: string,\n},\n}) => any;",
    ),
    "an object of anything": (of({"a": {"type": "object"}}), "type f = (_: { a?: object }) => any;"),
    "a union": (
        of({"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}),
        "type f = (_: { a?: string | null }) => any;",
    ),
    "a union with a default": (
        of({"a": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}}),
        "type f = (_: {\na?: integer | null, // default: null\n}) => any;",
    ),
    "a union with comments spans lines, its default above": (
        of({"a": {"anyOf": [{"type": "string", "description": "x"}, {"type": "null"}], "default": None}}),
        "type f = (_: {\n// default: null\na?:\n// x\n | string\n | null\n,\n}) => any;",
    ),
    "a reference": (
        of({"a": {"$ref": "#/$defs/C"}}, **{"$defs": {"C": CITY}}),
        "type f = (_: { a?: { city: string } }) => any;",
    ),
    "a list of types": (of({"a": {"type": ["string", "null"]}}), "type f = (_: { a?: string | null }) => any;"),
    "a described list of types": (
        of({"a": {"type": ["string", "null"], "description": "x"}}),
        "type f = (_: {\n// x\na?: string | null,\n}) => any;",
    ),
    "constraints are not shown": (
        of({"a": {"type": "string", "format": "date", "minLength": 1, "pattern": "x"}}, additionalProperties=False),
        "type f = (_: { a?: string }) => any;",
    ),
    "a custom tool": (
        {"type": "custom", "name": "sh", "description": "Run."},
        "// Run.\ntype sh = (FREEFORM) => any;",
    ),
    "a custom tool with a grammar": (
        {"type": "custom", "name": "sh", "format": {"type": "grammar", "definition": "start: A\nA: /a/"}},
        "// start: A\n// A: /a/\ntype sh = (FREEFORM) => any;",
    ),
}


@pytest.mark.parametrize(("function", "text"), TOOLS.values(), ids=TOOLS)
def test_a_tool_is_shown_as_typescript(function, text):
    assert shown(function) == text


def test_chat_splits_lists_of_types():
    """There each member of the union repeats the description."""
    function = of({"a": {"type": ["string", "null"], "description": "x"}}, ["a"])

    assert shown(function, Manner(splits_type_lists=True)) == (
        "type f = (_: {\n// x\na:\n// x\n | string\n// x\n | null\n,\n}) => any;"
    )


def test_the_first_models_have_neither_titles_nor_short_objects():
    function = of({"a": {"type": "string", "title": "A"}}, ["a"])

    assert shown(function, Manner(is_first=True)) == "type f = (_: {\na: string,\n}) => any;"


def test_functions_stand_apart():
    text = render_tools([{"name": "f"}, {"name": "g"}], PLAIN)

    assert text == f"{TOOLS_HEAD}type f = () => any;\n\ntype g = () => any;{TOOLS_TAIL}"


def bomb(levels):
    """References that double at each level."""
    twice = {
        f"D{n}": {"type": "object", "properties": {k: {"$ref": f"#/$defs/D{n + 1}"} for k in "ab"}}
        for n in range(levels)
    }
    return of({"a": {"$ref": "#/$defs/D0"}}, **{"$defs": {**twice, f"D{levels}": {"type": "string"}}})


def nested(levels):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return of({"a": schema})


HOSTILE = {
    "it refers to itself": of({"a": {"$ref": "#"}}),
    "references in a circle": of(
        {"a": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}
    ),
    "a list of itself": of(
        {"a": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}}}
    ),
    "references that double": bomb(30),
    "a long text, often referred to": of(
        {f"p{n}": {"$ref": "#/$defs/A"} for n in range(5000)}, **{"$defs": {"A": {"description": "x" * 50_000}}}
    ),
    "nested a thousand deep": nested(1000),
    "very many properties": of({f"p{n}": {"type": "string", "description": "x"} for n in range(30_000)}),
    "a reference to nowhere": of({"a": {"$ref": "#/$defs/Nope"}}),
    "a reference elsewhere": of({"a": {"$ref": "https://example.com/schema.json"}}),
    "no schemas": of({"a": 1, "b": None, "c": "x", "d": [1]}),
    "required is a number": {"name": "f", "parameters": {"properties": {"a": {}}, "required": 3}},
    "required holds objects": {"name": "f", "parameters": {"properties": {"a": {}}, "required": [{}, []]}},
    "properties are a list": {"name": "f", "parameters": {"properties": ["a"]}},
    "parameters are a text": {"name": "f", "parameters": "x"},
    "no name": {"parameters": CITY},
    "names of odd types": {"name": 3, "description": 4, "parameters": CITY},
    "an empty enumeration": of({"a": {"enum": []}}),
    "an empty union": of({"a": {"anyOf": []}}),
    "an empty list of types": of({"a": {"type": []}}),
    "types of odd types": of({"a": {"type": [1, {}]}, "b": {"type": {}}}),
}


@pytest.mark.parametrize("function", HOSTILE.values(), ids=HOSTILE)
def test_hostile_schemas_are_rendered_or_given_up(function):
    """Within bounds, and never with an exception."""
    for manner in (PLAIN, Manner(is_first=True), Manner(splits_type_lists=True)):
        text = render_tools([function] * 3, manner)

        assert text is None or len(text) < 4_000_000


@pytest.mark.parametrize("functions", [[], [None], ["x"], [3]])
def test_no_functions_are_no_text(functions):
    assert render_tools(functions, PLAIN) is None


SCHEMA_KEYS = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "anyOf",
        "enum",
        "$ref",
        "description",
        "title",
        "default",
        "required",
        "const",
        "a",
    ]
)
SCHEMAS = st.recursive(
    VALUES | st.sampled_from(["string", "object", "array", "#", "#/properties/a", ["string", "null"]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCHEMA_KEYS, inner, max_size=5),
    max_leaves=16,
)


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, SCHEMAS, st.booleans(), st.booleans())
def test_whatever_the_schema_is_nothing_is_raised(parameters, description, is_first, splits):
    function = {"name": "f", "parameters": parameters, "description": description}
    text = render_tools([function], Manner(is_first, splits))

    assert text is None or text.startswith(TOOLS_HEAD)


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4, unique=True))
def test_no_description_is_lost(descriptions):
    """Every line of every description stands in the text."""
    function = of({f"p{n}": {"type": "string", "description": each} for n, each in enumerate(descriptions)})

    assert all(line in shown(function) for each in descriptions for line in comment_lines(each))


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from([{"type": "string"}, CITY]), min_size=1))
def test_more_tools_are_a_longer_text(properties):
    one, two = (render_tools([of(properties)] * count, PLAIN) for count in (1, 2))

    assert len(two) > len(one)
