"""What costs tokens beside messages: tools, formats, choices, prompts."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.tokens.frames import CHOICE_KEYS, FORMAT_KEYS, TOOLS_KEYS
from gateway.core.tokens.profiles import profile_of
from gateway.core.tokens.schema_text import Manner, render_tools
from gateway.core.tokens.sections import HOSTED_TOOLS, Section, weigh_section, weigh_value
from gateway.core.tokens.weight import Weight
from gateway.core.wire.request import Endpoint
from tests.json_texts import VALUES

CHAT, RESPONSES = Endpoint.CHAT, Endpoint.RESPONSES
PROFILE = profile_of("gpt-4o", {})
FUNCTION = {
    "name": "f",
    "description": "Does it.",
    "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
}
TEXT = render_tools([FUNCTION], Manner())
NOTHING = Section(Weight((), 0), is_text=False)
TOOLS = Section(Weight((TEXT,), 0))

SECTIONS = {
    "tools of chat": ("tools", [{"type": "function", "function": FUNCTION}], CHAT, TOOLS),
    "tools of Responses": ("tools", [{"type": "function", **FUNCTION}], RESPONSES, TOOLS),
    "legacy functions": ("functions", [FUNCTION], CHAT, TOOLS),
    "tools of Anthropic's": (
        "tools",
        [{"name": "f", "description": "Does it.", "input_schema": FUNCTION["parameters"]}],
        CHAT,
        TOOLS,
    ),
    "no tools": ("tools", [], CHAT, NOTHING),
    "a hosted tool": ("tools", [{"type": "web_search_preview"}], RESPONSES, Section(Weight((), 295), is_text=False)),
    "a hosted tool beside a function": (
        "tools",
        [{"type": "mcp"}, {"type": "function", **FUNCTION}],
        RESPONSES,
        Section(Weight((TEXT,), 100)),
    ),
    "a hosted tool nobody knows": (
        "tools",
        [{"type": "crystal_ball"}],
        RESPONSES,
        Section(Weight((), 300), is_text=False),
    ),
    "tools that are none": ("tools", [3, "x"], CHAT, Section(Weight((), 600), is_text=False)),
    "a function without description": (
        "functions",
        [{"name": "f"}],
        CHAT,
        Section(Weight((render_tools([{"name": "f"}], Manner()),), 0), undescribed=1),
    ),
    "a schema": (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "R", "strict": True, "schema": {"type": "object"}}},
        CHAT,
        Section(Weight(('# Response Formats\n\n## R\n\n{"type":"object"}',), 0), "R"),
    ),
    "a schema of Responses": (
        "text",
        {"format": {"type": "json_schema", "name": "R", "schema": {"type": "object"}}, "verbosity": "low"},
        RESPONSES,
        Section(Weight(('# Response Formats\n\n## R\n\n{"type":"object"}',), 0), "R"),
    ),
    "JSON mode is free": ("response_format", {"type": "json_object"}, CHAT, NOTHING),
    "text is free": ("text", {"format": {"type": "text"}}, RESPONSES, NOTHING),
    "a format of odd type": ("response_format", "json", CHAT, NOTHING),
    "a schema of odd type": ("response_format", {"type": "json_schema", "json_schema": 3}, CHAT, NOTHING),
    "a forced function": (
        "tool_choice",
        {"type": "function", "function": {"name": "f"}},
        CHAT,
        Section(Weight((), 0), " to=functions.f", is_text=False),
    ),
    "a forced function of Responses": (
        "tool_choice",
        {"type": "function", "name": "f"},
        RESPONSES,
        Section(Weight((), 0), " to=functions.f", is_text=False),
    ),
    "a choice": ("tool_choice", "required", CHAT, NOTHING),
    "a choice of several": ("tool_choice", {"type": "allowed_tools", "mode": "auto", "tools": []}, RESPONSES, NOTHING),
    "instructions": ("instructions", "Hi", RESPONSES, Section(Weight(("Hi",), 4), is_text=False)),
    "no instructions": ("instructions", "", RESPONSES, NOTHING),
    "an input that is one message": ("input", "Hi", RESPONSES, Section(Weight(("Hi",), 4), is_text=False)),
    "an embeddings input": ("input", ["a", "b"], Endpoint.EMBEDDINGS, Section(Weight(("a", "b"), 0), is_text=False)),
    "nothing": ("tools", None, CHAT, NOTHING),
}


@pytest.mark.parametrize(("key", "value", "endpoint", "section"), SECTIONS.values(), ids=SECTIONS)
def test_a_section_weighs_what_is_shown_of_it(key, value, endpoint, section):
    assert weigh_section(key, value, endpoint, PROFILE) == section


def test_tools_that_cannot_be_rendered_count_as_their_json():
    """A schema whose references double, say."""
    many = {f"D{n}": {"properties": {k: {"$ref": f"#/$defs/D{n + 1}"} for k in "ab"}} for n in range(40)}
    parameters = {"properties": {"a": {"$ref": "#/$defs/D0"}}, "$defs": many}
    section = weigh_section("functions", [{"name": "f", "description": "x", "parameters": parameters}], CHAT, PROFILE)

    assert json.loads(section.weight.texts[0]) == [{"name": "f", "description": "x", "parameters": parameters}]


def test_a_format_nested_too_deeply_is_counted_somehow():
    schema = {}
    for _ in range(5000):
        schema = {"properties": {"a": schema}}
    section = weigh_section(
        "response_format", {"type": "json_schema", "json_schema": {"name": "R", "schema": schema}}, CHAT, PROFILE
    )

    assert section.is_text


def test_every_hosted_tool_has_an_estimate():
    for kind, tokens in HOSTED_TOOLS.items():
        assert weigh_section("tools", [{"type": kind}], RESPONSES, PROFILE).weight.fixed_tokens == tokens > 0


KEYS = [*TOOLS_KEYS, *FORMAT_KEYS, *CHOICE_KEYS, "instructions", "input", "prompt"]
BODY_KEYS = st.sampled_from(
    [
        "type",
        "function",
        "name",
        "parameters",
        "properties",
        "format",
        "json_schema",
        "schema",
        "description",
        "custom",
        "a",
    ]
)
BODIES = st.recursive(
    VALUES | st.sampled_from(["function", "json_schema", "custom", "web_search"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(BODY_KEYS, inner, max_size=4),
    max_leaves=14,
)


@settings(max_examples=400)
@given(st.sampled_from(KEYS), BODIES, st.sampled_from([CHAT, RESPONSES, Endpoint.EMBEDDINGS]))
def test_whatever_a_section_holds_nothing_is_raised(key, value, endpoint):
    section = weigh_section(key, value, endpoint, PROFILE)
    counted = section.counted([len(text) for text in section.all_texts])

    assert counted.tokens >= 0
    assert counted.name_tokens >= 0


INPUTS = {
    "text": ("Hi", Weight(("Hi",), 0)),
    "texts": (["a", "b"], Weight(("a", "b"), 0)),
    "token ids": ([1, 2, 3], Weight((), 3)),
    "token ids as floats": ([1.0, 2.5], Weight((), 2)),
    "lists of token ids": ([[1, 2], [3]], Weight((), 3)),
    "nothing": (None, Weight((), 0)),
    "what is no id": ([True, None], Weight((), 0)),
    "objects": ([{"text": "a"}], Weight(('{"text":"a"}',), 0)),
}


@pytest.mark.parametrize(("value", "weight"), INPUTS.values(), ids=INPUTS)
def test_a_prompt_weighs_its_texts_and_ids(value, weight):
    assert weigh_value(value) == weight


@given(st.lists(st.text(max_size=9) | st.integers() | st.lists(st.integers(), max_size=4), max_size=6))
def test_prompts_are_additive(values):
    """A batch weighs what its members weigh."""
    parts = [weigh_value(value) for value in values]
    whole = weigh_value(values)

    assert whole.texts == tuple(text for part in parts for text in part.texts)
    assert whole.fixed_tokens == sum(part.fixed_tokens for part in parts)
