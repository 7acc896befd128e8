"""A metered request is understood as far as the gateway's promises reach, or refused with the reason."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import Refusal
from gateway.core.wire.body import ask_for_usage, splice
from gateway.core.wire.paths import endpoint_of
from gateway.core.wire.request import Endpoint, MeteredRequest, parse_metered
from tests.json_texts import PLAIN_KEYS, VALUES
from tests.refusals import result_of

METERED = [Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS]
HI = [{"role": "user", "content": "Hi"}]
FIELDS = [
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens", "n",
    "prompt", "input", "tools", "functions", "response_format", "instructions", "text",
]  # fmt: skip

TARGETS = [
    ("POST", "/v1/chat/completions", Endpoint.CHAT),
    ("POST", "/v1/responses", Endpoint.RESPONSES),
    ("POST", "/v1/completions", Endpoint.COMPLETIONS),
    ("POST", "/v1/embeddings", Endpoint.EMBEDDINGS),
    ("POST", "/v1/chat/completions/", Endpoint.CHAT),
    ("POST", "//v1//chat/completions", Endpoint.CHAT),
    ("POST", "/v1/chat%2Fcompletions", Endpoint.CHAT),
    ("POST", "/v1/%63hat/completions", Endpoint.CHAT),
    ("POST", "/V1/Chat/Completions", Endpoint.CHAT),
    ("GET", "/v1/chat/completions", Endpoint.PASSTHROUGH),
    ("DELETE", "/v1/responses/resp_1", Endpoint.PASSTHROUGH),
    ("POST", "/v1/responses/resp_1/cancel", Endpoint.PASSTHROUGH),
    ("POST", "/v1/audio/speech", Endpoint.PASSTHROUGH),
    ("POST", "/v1/moderations", Endpoint.PASSTHROUGH),
    ("POST", "/v2/chat/completions", Endpoint.PASSTHROUGH),
    ("POST", "", Endpoint.PASSTHROUGH),
]


@pytest.mark.parametrize(("method", "path", "endpoint"), TARGETS)
def test_nothing_goes_uncounted_by_its_spelling(method, path, endpoint):
    """Other spellings of a metered path are metered; everything else passes through."""
    assert endpoint_of(method, path) is endpoint


@given(st.text(max_size=20), st.text(max_size=40))
def test_any_request_line_has_an_endpoint(method, path):
    assert endpoint_of(method, path) in Endpoint


def chat(**fields):
    return json.dumps({"model": "gpt-4o", "messages": HI, **fields}).encode()


def test_a_chat_is_read():
    """The model, the messages' own bytes, the options, and what else costs tokens."""
    body = b"""{"model": "gpt-4o",
        "messages": [{"role":"system", "content":"Be brief."} , {"role":"user","content":"Hi"}], "stream": true,
        "stream_options": {"include_usage": true}, "max_completion_tokens": 50, "n": 3,
        "tools": [ {"type":"function"} ], "unknown": {"x": 1}}"""
    request = parse_metered(Endpoint.CHAT, body)

    assert request.model == "gpt-4o"
    assert [bytes(raw) for raw in request.messages] == [
        b'{"role":"system", "content":"Be brief."}',
        b'{"role":"user","content":"Hi"}',
    ]
    assert (request.is_stream, request.asks_for_usage) == (True, True)
    assert (request.completion_tokens, request.choices) == (50, 3)
    assert request.sections == {"tools": b'[ {"type":"function"} ]'}
    assert request.body is body


OTHERS = {
    "a stored prompt may name the model": (
        Endpoint.RESPONSES,
        {"prompt": {"id": "p"}, "input": "Hi"},
        {"input": b'"Hi"'},
    ),
    "instructions and input": (
        Endpoint.RESPONSES,
        {"model": "m", "instructions": "Be brief.", "input": []},
        {"instructions": b'"Be brief."', "input": b"[]"},
    ),
    "a legacy prompt": (Endpoint.COMPLETIONS, {"model": "m", "prompt": ["a"]}, {"prompt": b'["a"]'}),
    "an embeddings input": (Endpoint.EMBEDDINGS, {"model": "m", "input": [1, 2]}, {"input": b"[1, 2]"}),
}


@pytest.mark.parametrize(("endpoint", "fields", "sections"), OTHERS.values(), ids=OTHERS)
def test_other_endpoints_are_read(endpoint, fields, sections):
    request = parse_metered(endpoint, json.dumps(fields).encode())

    assert request.model == fields.get("model", "")
    assert request.sections == sections
    assert list(request.messages) == []


def test_the_items_of_a_responses_input_are_raw_slices():
    """Each keeps its bytes; a text has none."""
    body = b'{"model":"m","input": [ {"role":"user", "content":"a"},{"type":"reasoning"} ],"n":1}'

    found = parse_metered(Endpoint.RESPONSES, body).messages
    assert [bytes(raw) for raw in found] == [b'{"role":"user", "content":"a"}', b'{"type":"reasoning"}']
    assert list(parse_metered(Endpoint.RESPONSES, b'{"model":"m","input":"[a]"}').messages) == []


LIMITS = [
    ({}, None),
    ({"max_tokens": None}, None),
    ({"max_tokens": 0}, 0),
    ({"max_tokens": 7}, 7),
    ({"max_completion_tokens": 5, "max_tokens": 7}, 5),
    ({"max_output_tokens": 9}, 9),
    ({"max_tokens": 2**31 - 1}, 2**31 - 1),
]


@pytest.mark.parametrize(("fields", "tokens"), LIMITS)
def test_the_completion_limit_is_the_one_that_is_given(fields, tokens):
    assert parse_metered(Endpoint.CHAT, chat(**fields)).completion_tokens == tokens


DEFAULTS = [{}, {"stream": None, "stream_options": None, "n": None}, {"stream": False, "stream_options": {}}]


@pytest.mark.parametrize("fields", DEFAULTS)
def test_null_is_as_good_as_absent(fields):
    request = parse_metered(Endpoint.CHAT, chat(**fields))

    assert (request.is_stream, request.asks_for_usage, request.choices) == (False, False, 1)


BAD = {
    "no model": ('{"messages":[{}]}', "missing_required_parameter", "model", "'model'"),
    "a model that is no text": ('{"model":5,"messages":[{}]}', "invalid_type", "model", "got `int`"),
    "a null model": ('{"model":null,"messages":[{}]}', "invalid_type", "model", "got `null`"),
    "an empty model": ('{"model":"","messages":[{}]}', "invalid_value", "model", "1 to 256 characters long, found 0"),
    "a model too long": (f'{{"model":"{"x" * 257}","messages":[{{}}]}}', "invalid_value", "model", "found 257"),
    "no messages": ('{"model":"m"}', "missing_required_parameter", "messages", "'messages'"),
    "empty messages": ('{"model":"m","messages":[]}', "empty_array", "messages", "at least one"),
    "null messages": ('{"model":"m","messages":null}', "invalid_type", "messages", "got `null`"),
    "messages that are an object": ('{"model":"m","messages":{}}', "invalid_type", "messages", "got `object`"),
    "messages twice": ('{"model":"m","messages":[1],"messages":[2]}', "duplicate_key", "messages", "'messages'"),
    "an escaped key": ('{"model":"m","m\\u0065ssages":[1]}', "duplicate_key", "messages", "'messages'"),
    "stream as text": ('{"model":"m","messages":[1],"stream":"true"}', "invalid_type", "stream", "got `str`"),
    "stream as a number": ('{"model":"m","messages":[1],"stream":1}', "invalid_type", "stream", "got `int`"),
    "options that are a list": (
        '{"model":"m","messages":[1],"stream_options":[]}', "invalid_type", "stream_options", "got `array`",
    ),
    "an option as text": (
        '{"model":"m","messages":[1],"stream_options":{"include_usage":"yes"}}',
        "invalid_type", "stream_options.include_usage", "got `str`",
    ),
    "an option twice": (
        '{"model":"m","messages":[1],"stream_options":{"include_usage":true,"include_usage":false}}',
        "duplicate_key", "stream_options", "'include_usage'",
    ),
    "options nested deeply": (
        '{"model":"m","messages":[1],"stream_options":{"a":%s}}' % ("[" * 200 + "]" * 200),
        "invalid_value", "stream_options", "64 brackets at most, found 201",
    ),
    "no choices": ('{"model":"m","messages":[1],"n":0}', "integer_below_min_value", "n", "at least 1, found 0"),
    "half a choice": ('{"model":"m","messages":[1],"n":0.5}', "invalid_type", "n", "got `float`"),
    "a float for an integer": ('{"model":"m","messages":[1],"n":1.0}', "invalid_type", "n", "got `float`"),
    "true for an integer": ('{"model":"m","messages":[1],"n":true}', "invalid_type", "n", "got `bool`"),
    "text for an integer": ('{"model":"m","messages":[1],"max_tokens":"5"}', "invalid_type", "max_tokens", "got `str`"),
    "a negative limit": (
        '{"model":"m","messages":[1],"max_tokens":-1}', "integer_below_min_value", "max_tokens", "at least 0, found -1",
    ),
    "a limit too large": (
        '{"model":"m","messages":[1],"max_completion_tokens":2147483648}',
        "integer_above_max_value", "max_completion_tokens", "at most 2147483647, found 2147483648",
    ),
    "a limit of 4,000 digits": (
        '{"model":"m","messages":[1],"max_tokens":%s}' % ("9" * 4000),
        "integer_above_max_value", "max_tokens", "(4000 digits)",
    ),
    "a limit of 4,000 digits below zero": (
        '{"model":"m","messages":[1],"max_tokens":-%s}' % ("9" * 4000),
        "integer_below_min_value", "max_tokens", "digits)",
    ),
    "a limit of 5,000 digits": (
        '{"model":"m","messages":[1],"max_tokens":%s}' % ("9" * 5000), "invalid_type", "max_tokens", "out of range",
    ),
    "an infinite limit": ('{"model":"m","messages":[1],"n":1e400}', "invalid_type", "n", "out of range"),
    "NaN": ('{"model":"m","messages":[1],"max_tokens":NaN}', "invalid_json", None, "byte 41"),
    "half a surrogate pair": ('{"model":"\\ud83d","messages":[1]}', "invalid_json", None, "surrogate"),
    "cut short": ('{"model":"m","messages":[1', "invalid_json", None, "26 bytes"),
    "nested deeply": ('{"model":"m","messages":[' + "[" * 5000 + "]" * 5000 + "]}", "invalid_json", None, "too deeply"),
    "an array": ("[]", "invalid_json", None, "must be a JSON object"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "code", "param", "detail"), BAD.values(), ids=BAD)
def test_bad_requests_are_refused_with_the_reason(body, code, param, detail):
    """400, the code and the field at fault, and a message that says what was found; never a long one."""
    with pytest.raises(Refusal) as refused:
        parse_metered(Endpoint.CHAT, body.encode())

    refusal = refused.value
    assert (refusal.status, refusal.code, refusal.param) == (400, code, param)
    assert detail in refusal.message
    assert len(refusal.message) < 500


MISSING = [(Endpoint.COMPLETIONS, "prompt"), (Endpoint.EMBEDDINGS, "input")]


@pytest.mark.parametrize(("endpoint", "field"), MISSING)
def test_each_endpoint_misses_its_own_field(endpoint, field):
    with pytest.raises(Refusal) as refused:
        parse_metered(endpoint, b'{"model":"m"}')

    assert (refused.value.code, refused.value.param) == ("missing_required_parameter", field)


@given(st.sampled_from(METERED), st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(endpoint, body):
    """Nothing but a refusal is ever raised."""
    result = result_of(parse_metered, endpoint, body)

    assert isinstance(result, MeteredRequest) or result.status == 400


@settings(max_examples=300)
@given(
    st.sampled_from(METERED),
    st.dictionaries(st.sampled_from(FIELDS) | PLAIN_KEYS, VALUES, max_size=6),
    st.booleans(),
)
def test_any_object_is_read_or_refused(endpoint, fields, is_complete):
    """What is accepted can be asked for usage, and its sections are values of the body itself."""
    if is_complete:
        fields = {"model": "m", "messages": [{}], "prompt": "p", "input": "i", **fields}
    body = json.dumps(fields).encode()
    request = result_of(parse_metered, endpoint, body)
    if isinstance(request, Refusal):
        return
    asked = splice(body, [ask_for_usage(body, request.spans)])

    assert request.choices >= 1
    assert parse_metered(endpoint, asked).asks_for_usage
    assert all(msgspec.json.decode(raw) == fields[key] for key, raw in request.sections.items())
