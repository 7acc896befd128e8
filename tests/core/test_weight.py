"""What providers bill for a message: every text once, every overhead as recorded usage shows it."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.tokens.profiles import Family, Profile, profile_of
from gateway.core.tokens.weight import Weight, weigh_company, weigh_message, weigh_placed
from gateway.core.wire.message import parse_message
from tests.histories import sessions

CHAT = profile_of("gpt-4o", {})
REASONING = profile_of("gpt-5", {})
OLDER = profile_of("gpt-3.5-turbo", {})
FRAME = 4
"""The frame of a message and the one token of its role."""

MESSAGES = {
    "text": ({"role": "user", "content": "Hi"}, CHAT, ("Hi",), FRAME),
    "system": ({"role": "system", "content": "Hi"}, CHAT, ("Hi",), FRAME),
    "developer": ({"role": "developer", "content": "Hi"}, CHAT, ("Hi",), FRAME),
    "no content": ({"role": "assistant", "content": None}, CHAT, (), FRAME),
    "empty content": ({"role": "user", "content": ""}, CHAT, (), FRAME),
    "a name": ({"role": "user", "content": "Hi", "name": "Ada"}, CHAT, ("Hi", "Ada"), FRAME),
    "a name, older models": ({"role": "user", "content": "Hi", "name": "Ada"}, OLDER, ("Hi", "Ada"), FRAME + 1),
    "a name, reasoning": ({"role": "user", "content": "Hi", "name": "Ada"}, REASONING, ("Hi", "Ada"), FRAME + 1),
    "a past answer": ({"role": "assistant", "content": "Hi"}, CHAT, ("Hi",), FRAME),
    "a past answer, reasoning": ({"role": "assistant", "content": "Hi"}, REASONING, ("Hi",), FRAME + 2),
    "a question, reasoning": ({"role": "user", "content": "Hi"}, REASONING, ("Hi",), FRAME),
    "text parts are one text": (
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        CHAT, ("ab",), FRAME,
    ),
    "a refusal": ({"role": "assistant", "refusal": "No."}, CHAT, ("No.",), FRAME),
    "reasoning sent back": (
        {"role": "assistant", "content": "Hi", "reasoning_content": "Hm"}, CHAT, ("Hi", "Hm"), FRAME,
    ),
    "reasoning of an odd type": (
        {"role": "assistant", "reasoning_content": {"a": 1}}, CHAT, ('{"a":1}',), FRAME,
    ),
    "a call charges the head of its result": (
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}]},
        CHAT, (" to=functions.find", '{"a":1}', "find"), 4,
    ),
    "words beside a call are a message of their own": (
        {"role": "assistant", "content": "Wait.", "tool_calls": [{"id": "c", "function": {"name": "f"}}]},
        CHAT, ("Wait.", " to=functions.f", "null", "f"), FRAME + 4,
    ),
    "a call, reasoning": (
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
        REASONING, (" to=functions.f", "{}", "functions.f"), 12,
    ),
    "a named caller": (
        {"role": "assistant", "name": "ann", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
        CHAT, (" to=functions.f", "{}", "f", "ann"), 4,
    ),
    "a legacy call": (
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        CHAT, (" to=functions.f", "{}", "f"), 4,
    ),
    "a result": ({"role": "tool", "tool_call_id": "c", "content": "4"}, CHAT, ("4",), 6),
    "a result's own name is free": (
        {"role": "tool", "tool_call_id": "c", "content": "4", "name": "f"}, CHAT, ("4",), 6,
    ),
    "a result, reasoning": ({"role": "tool", "tool_call_id": "c", "content": "4"}, REASONING, ("4",), 3),
    "a legacy result": ({"role": "function", "name": "f", "content": "4"}, CHAT, ("4",), 6),
    "special tokens are ordinary text": (
        {"role": "user", "content": "<|endoftext|>"}, CHAT, ("<|endoftext|>",), FRAME,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("message", "profile", "texts", "fixed"), MESSAGES.values(), ids=MESSAGES)
def test_a_message_weighs_its_texts_and_overheads(message, profile, texts, fixed):
    """Hand-checked against recorded bills."""
    assert weigh_message(message, profile) == Weight(texts, fixed)


def test_a_system_message_weighs_its_joint_in_company():
    """What is joined to its end costs a paragraph, less what merges with its last characters."""
    joint = weigh_company({"role": "system", "content": "Be brief. "}, CHAT)
    trimmed = weigh_company({"role": "system", "content": "Be brief. "}, REASONING)

    assert joint.weights == (Weight(("Be brief. \n\n",), 0, ("Be brief. ",)),)
    assert trimmed.weights == (Weight(("Be brief.\n\n",), 0, ("Be brief. ",)),)


def test_results_among_others_are_shown_as_a_list():
    """The weights of several results add up to those of Python's list of their texts, cut before each space."""
    texts = ["It's\n4", "ok", '{"a": "b"}']
    companies = [weigh_company({"role": "tool", "tool_call_id": "c", "content": text}, CHAT) for text in texts]
    between, first, last = 0, 1, 2
    placed = [companies[0].weights[first], companies[1].weights[between], companies[2].weights[last]]
    count = _pieces

    assert sum(weight.total([count(text) for text in weight.all_texts]) for weight in placed) == count(repr(texts))


def _pieces(text):
    """A toy tokenizer that cuts before spaces, as the real ones do, and never merges across."""
    return sum(1 + len(piece) for piece in re.findall(" [^ ]*|[^ ]+", text))


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_others_are_not_changed_by_company(role):
    assert weigh_company({"role": role, "content": "x"}, CHAT) is None


def test_reasoning_models_results_cost_the_same_in_company():
    message = {"role": "tool", "tool_call_id": "c", "content": "x"}

    assert weigh_company(message, REASONING) is None
    assert weigh_placed(message, REASONING, 1) == weigh_message(message, REASONING)


@settings(max_examples=100, deadline=None)
@given(sessions(), st.sampled_from([CHAT, REASONING, OLDER]))
def test_any_parsed_message_has_a_weight(session, profile):
    """Nothing is raised, fixed tokens are never negative, and a cut conversation is never dearer."""
    for messages in session:
        weights = [weigh_message(message, profile) for message in messages]

        assert all(weight.fixed_tokens >= 0 and all(weight.texts) for weight in weights)
        totals = [weight.total([len(text) for text in weight.all_texts]) for weight in weights]
        assert all(total >= 0 for total in totals)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_is_lost(question, answer):
    """All of a message's text is among what is tokenised, in order."""
    weight = weigh_message({"role": "user", "content": [{"text": question}, {"text": answer}], "name": "n"}, CHAT)

    assert "".join(weight.texts) == f"{question}{answer}n"


@given(st.text(max_size=40), st.text(max_size=20))
def test_more_text_never_weighs_less(text, more):
    short, long = (weigh_message({"role": "user", "content": content}, CHAT) for content in (text, text + more))

    assert short.total([len(each) for each in short.texts]) <= long.total([len(each) for each in long.texts])


ODD_CALLS = [
    {"id": "c"},
    {"id": "c", "function": None},
    {"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls"}},
    {"id": "c", "function": {"name": "f", "arguments": '{"a":' * 2000}},
    {"id": "c", "function": {"name": "f", "arguments": "[" * 5000 + "]" * 5000}},
]


@pytest.mark.parametrize("call", ODD_CALLS)
def test_odd_calls_have_a_weight(call):
    """Custom tools, calls without a function, arguments that are no JSON: counted, not raised."""
    for calls in ([call], [call, call]):
        weight = weigh_message({"role": "assistant", "content": None, "tool_calls": calls}, CHAT)

        assert weight.fixed_tokens >= 4


def test_a_message_is_weighed_the_same_whatever_was_parsed_before_it():
    raw = b'{"role":"user","content":"hi"}'

    assert weigh_message(parse_message(raw, 0), CHAT) == weigh_message(parse_message(raw, 7), CHAT)


def test_unknown_profiles_are_framed_as_gpt_4o():
    assert Profile("o200k_base").family is Family.GPT_4O
