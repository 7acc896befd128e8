"""Messages are checked as far as the gateway reads them, and what passed can be worked with."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.context.canonical import canonical_digest
from gateway.core.errors import Refusal
from gateway.core.tokens.profiles import Profile
from gateway.core.tokens.weight import weigh_message
from gateway.core.wire.message import MAX_NESTING, ROLES, encode_message, parse_message, text_of
from tests.json_texts import VALUES, renderings
from tests.refusals import result_of

KEYS = st.sampled_from(
    ["content", "name", "refusal", "tool_call_id", "tool_calls", "function_call", "reasoning_content", "audio", "x"]
)
PART_KEYS = st.sampled_from(["type", "text", "image_url", "input_audio", "thinking", "refusal", "file"])
KINDS = st.sampled_from(["text", "image_url", "input_audio", "file", "input_image", "refusal", "thinking", "odd"])
PARTS = st.dictionaries(PART_KEYS, KINDS | VALUES, max_size=4)
CALLS = st.fixed_dictionaries(
    {"id": st.text(max_size=4)},
    optional={
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": st.text(max_size=4), "arguments": st.text(max_size=8)}),
        "custom": VALUES,
    },
)
MESSAGES = st.builds(
    dict,
    st.dictionaries(KEYS, VALUES, max_size=3),
    role=st.sampled_from(sorted(ROLES)) | st.text(max_size=5),
    content=st.text(max_size=9) | st.none() | st.lists(PARTS, max_size=3) | VALUES,
) | st.fixed_dictionaries(
    {"role": st.sampled_from(sorted(ROLES)), "content": st.lists(PARTS, max_size=3)},
    optional={"tool_calls": st.lists(CALLS, max_size=3), "function_call": VALUES, "reasoning_content": VALUES},
)


def nested(levels: int) -> str:
    """A message so many levels deep."""
    inside = levels - 3
    return '{"role":"user","content":[{"x":%s},{}]}' % ("[" * inside + "]" * inside)


GOOD = {
    "text": {"role": "user", "content": "Hi"},
    "parts": {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {}}]},
    "no content": {"role": "assistant"},
    "null content and calls": {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    "a custom tool's call": {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]},
    "a result": {"role": "tool", "tool_call_id": "c", "content": "4"},
    "a legacy result": {"role": "function", "name": "f", "content": "4"},
    "fields nobody knows": {"role": "developer", "content": "x", "cache_control": {"type": "ephemeral"}, "x": [1, 2.5]},
}


@pytest.mark.parametrize("message", GOOD.values(), ids=GOOD)
def test_documented_messages_are_taken_as_they_are(message):
    raw = json.dumps(message).encode()

    assert parse_message(raw, 0) == message
    assert msgspec.json.decode(encode_message(message)) == message


@pytest.mark.parametrize("role", sorted(ROLES))
def test_all_roles_are_known(role):
    assert parse_message(json.dumps({"role": role}).encode(), 0) == {"role": role}


AT = "messages[3]"
BAD = {
    "an array": ("[]", "invalid_type", AT, "got `array`"),
    "text": ('"Hi"', "invalid_type", AT, "got `str`"),
    "null": ("null", "invalid_type", AT, "got `null`"),
    "no role": ("{}", "missing_required_parameter", f"{AT}.role", "role"),
    "a role that is no text": ('{"role":5}', "invalid_type", f"{AT}.role", "got `int`"),
    "an unknown role": ('{"role":"robot"}', "invalid_value", f"{AT}.role", "'robot'"),
    "a role of another case": ('{"role":"User"}', "invalid_value", f"{AT}.role", "'user'"),
    "an endless role": ('{"role":"%s"}' % ("r" * 10**5), "invalid_value", f"{AT}.role", "'rrr"),
    "content that is a number": ('{"role":"user","content":5}', "invalid_type", f"{AT}.content", "got `int`"),
    "content that is an object": ('{"role":"user","content":{}}', "invalid_type", f"{AT}.content", "got `object`"),
    "a part that is text": ('{"role":"user","content":[{},"Hi"]}', "invalid_type", f"{AT}.content[1]", "got `str`"),
    "a null part": ('{"role":"user","content":[null]}', "invalid_type", f"{AT}.content[0]", "got `null`"),
    "a name that is no text": ('{"role":"user","name":1}', "invalid_type", f"{AT}.name", "got `int`"),
    "a refusal that is no text": ('{"role":"assistant","refusal":[]}', "invalid_type", f"{AT}.refusal", "got `array`"),
    "calls that are an object": ('{"role":"assistant","tool_calls":{}}', "invalid_type", f"{AT}.tool_calls", "object"),
    "a call that is no object": (
        '{"role":"assistant","tool_calls":[5]}', "invalid_type", f"{AT}.tool_calls[0]", "got `int`",
    ),
    "a call's id that is no text": (
        '{"role":"assistant","tool_calls":[{"id":5}]}', "invalid_type", f"{AT}.tool_calls[0].id", "got `int`",
    ),
    "arguments that are no text": (
        '{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":{}}}]}',
        "invalid_type", f"{AT}.tool_calls[0].function.arguments", "got `object`",
    ),
    "a result's id that is no text": (
        '{"role":"tool","tool_call_id":5}', "invalid_type", f"{AT}.tool_call_id", "got `int`",
    ),
    "a duplicate key": ('{"role":"user","content":"a","content":"b"}', "duplicate_key", AT, "'content'"),
    "an escaped key": ('{"role":"user","c\\u006fntent":"a"}', "duplicate_key", AT, "'content'"),
    "an endless escaped key": ('{"role":"user","\\u0061%s":1}' % ("a" * 10**5), "duplicate_key", AT, "'aaa"),
    "NaN": ('{"role":"user","x":NaN}', "invalid_json", AT, "byte 19"),
    "Infinity": ('{"role":"user","x":Infinity}', "invalid_json", AT, "byte 19"),
    "a number out of range": ('{"role":"user","x":1e999}', "invalid_type", f"{AT}[...]", "out of range"),
    "half a surrogate pair": ('{"role":"user","content":"\\ud83d, cut"}', "invalid_json", AT, "surrogate"),
    "the other half": ('{"role":"user","content":"\\ude00, cut"}', "invalid_json", AT, "surrogate"),
    "one level too deep": (nested(MAX_NESTING + 1), "invalid_json", AT, "more than 100 levels"),
    "5,000 levels": (nested(5000), "invalid_json", AT, "more than 100 levels"),
    "cut short": ('{"role":"user"', "invalid_json", AT, "truncated"),
    "nothing": ("", "invalid_json", AT, "truncated"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "code", "param", "detail"), BAD.values(), ids=BAD)
def test_bad_messages_are_refused_with_their_place(raw, code, param, detail):
    """400, the code, the field's path, and a message that says what was found; never a long one."""
    with pytest.raises(Refusal) as refused:
        parse_message(raw.encode(), 3)

    refusal = refused.value
    assert (refusal.status, refusal.code, refusal.param) == (400, code, param)
    assert detail in refusal.message
    assert len(refusal.message) < 500


def test_invalid_utf8_is_refused():
    with pytest.raises(Refusal, match=r"messages\[7\] .*utf-8"):
        parse_message(b'{"role":"user","content":"\xff"}', 7)


def test_the_deepest_message_that_is_taken():
    """As deep as allowed; brackets within text are no levels."""
    brackets = json.dumps({"role": "user", "content": "[{" * 500})

    assert parse_message(nested(MAX_NESTING).encode(), 0)["role"] == "user"
    assert parse_message(brackets.encode(), 0)["content"] == "[{" * 500


@settings(max_examples=300)
@given(st.binary(max_size=60) | renderings() | renderings(MESSAGES))
def test_any_bytes_are_a_message_or_a_refusal(raw):
    """Nothing but a refusal that names the place is ever raised."""
    result = result_of(parse_message, raw, 12)

    assert isinstance(result, dict) or result.status == 400
    assert isinstance(result, dict) or result.param.startswith("messages[12]")


@settings(max_examples=300)
@given(renderings(MESSAGES))
def test_a_parsed_message_can_be_worked_with(raw):
    """It can be weighed, digested, encoded and shown without an error, whatever it holds."""
    message = result_of(parse_message, raw, 0)
    if isinstance(message, Refusal):
        return
    weight = weigh_message(message, Profile("o200k_base"))

    assert weight.fixed_tokens >= 3
    assert all(isinstance(text, str) for text in weight.texts)
    assert len(canonical_digest(message)) == 32
    assert parse_message(encode_message(message), 0) == message
    assert isinstance(text_of(message), str)


SHOWN = [
    ({"role": "user", "content": "Hi"}, "Hi"),
    ({"role": "user", "content": None}, ""),
    ({"role": "user"}, ""),
    ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}, {"text": "b"}]}, "a\nb"),
    ({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, "No."),
    ({"role": "user", "content": [{"text": 5}]}, ""),
]


@pytest.mark.parametrize(("message", "text"), SHOWN)
def test_the_text_of_a_message_is_that_of_its_parts(message, text):
    assert text_of(message) == text
