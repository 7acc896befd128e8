"""What an upstream billed is understood in every vendor's words, and odd words never harm."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.wire.usage import Usage, read_usage, read_usage_below, usage_of_answer
from tests.json_texts import VALUES, renderings

FIELDS = [
    "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "prompt_tokens_details",
    "input_tokens_details", "input_token_details", "cached_tokens", "total_tokens",
    "cache_read_input_tokens", "cache_creation_input_tokens",
]  # fmt: skip
WIRE = st.dictionaries(
    st.sampled_from(FIELDS), VALUES | st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3), max_size=5
)

READ = {
    "chat": ({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}, Usage(9, 2)),
    "chat, cached": (
        {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}},
        Usage(9, 2, 8),
    ),
    "responses": (
        {"input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 8}},
        Usage(9, 2, 8),
    ),
    "realtime": (
        {"total_tokens": 11, "input_tokens": 9, "output_tokens": 2, "input_token_details": {"cached_tokens": 8}},
        Usage(9, 2, 8),
    ),
    "anthropic, cached": (
        {"input_tokens": 9, "output_tokens": 2, "cache_read_input_tokens": 800, "cache_creation_input_tokens": 50},
        Usage(859, 2, 800),
    ),
    "anthropic, nothing cached": (
        {"input_tokens": 9, "output_tokens": 2, "cache_read_input_tokens": None},
        Usage(9, 2),
    ),
    "anthropic's words beside the whole prompt": (
        {"prompt_tokens": 859, "completion_tokens": 2, "cache_read_input_tokens": 800},
        Usage(859, 2),
    ),
    "embeddings": ({"prompt_tokens": 9, "total_tokens": 9}, Usage(9, 0)),
    "an input count": ({"input_tokens": 9}, Usage(9, 0)),
    "nulls": ({"prompt_tokens": 9, "completion_tokens": None, "prompt_tokens_details": None}, Usage(9, 0)),
    "null beside other names": ({"prompt_tokens": None, "input_tokens": 9, "output_tokens": 2}, Usage(9, 2)),
    "zeros": ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0)),
    "fractions": ({"prompt_tokens": 9.0, "completion_tokens": 2.0}, Usage(9, 2)),
    "negative numbers": ({"prompt_tokens": -1, "completion_tokens": -5}, Usage(0, 0)),
    "odd details": ({"prompt_tokens": 9, "prompt_tokens_details": [8]}, Usage(9, 0)),
    "odd cached tokens": ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": "8"}}, Usage(9, 0)),
    "unknown fields": ({"prompt_tokens": 9, "queue_time": 0.06, "cost": {"usd": 1}}, Usage(9, 0)),
    "text": ({"prompt_tokens": "9"}, None),
    "booleans": ({"prompt_tokens": True}, None),
    "completion only": ({"completion_tokens": 2}, None),
    "nothing": ({}, None),
    "null": (None, None),
    "a list": ([9, 2], None),
}


@pytest.mark.parametrize(("wire", "usage"), READ.values(), ids=READ)
def test_usage_is_read_in_every_vendors_words(wire, usage):
    assert read_usage(wire) == usage
    assert read_usage_below({"usage": wire}) == usage


ANSWERS = {
    "a chat answer": ({"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": 9}}, Usage(9, 0)),
    "a responses answer": ({"output": [], "usage": {"input_tokens": 9, "output_tokens": 2}}, Usage(9, 2)),
    "groq's own place": ({"choices": [], "x_groq": {"usage": {"prompt_tokens": 9}}}, Usage(9, 0)),
    "both places": ({"usage": {"prompt_tokens": 9}, "x_groq": {"usage": {"prompt_tokens": 5}}}, Usage(9, 0)),
    "an odd groq part": ({"usage": {"prompt_tokens": 9}, "x_groq": "req_1"}, Usage(9, 0)),
    "no usage": ({"choices": []}, None),
    "usage elsewhere": ({"choices": [{"usage": {"prompt_tokens": 9}}]}, None),
    "a list": ([], None),
}


@pytest.mark.parametrize(("answer", "usage"), ANSWERS.values(), ids=ANSWERS)
def test_whole_answers_are_read(answer, usage):
    assert usage_of_answer(json.dumps(answer).encode()) == usage


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"usage":', b'{"usage":{"prompt_tokens":NaN}}', b"[" * 10**5])
def test_answers_that_are_no_json_have_no_usage(body):
    assert usage_of_answer(body) is None


@given(WIRE | VALUES)
def test_odd_fields_are_ignored_and_counts_never_negative(wire):
    """No shape raises, and what is read is made of counts."""
    usage = read_usage(wire)

    assert usage is None or min(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) >= 0


@given(st.binary(max_size=60) | renderings() | renderings(WIRE.map(lambda wire: {"usage": wire})))
def test_any_answer_can_be_looked_at(body):
    usage = usage_of_answer(body)

    assert usage is None or isinstance(usage, Usage)
