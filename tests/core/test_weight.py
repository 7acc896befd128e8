"""What providers bill is weighed: every text once, every overhead as recorded usage shows it."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.tokens.profiles import CL100K, O200K, Profile, profile_of
from gateway.core.tokens.weight import FILE_TOKENS, IMAGE_TOKENS, TOOL_CALL_TOKENS, Weight, weigh_message, weigh_value
from gateway.shell.tokens.counter import TiktokenCounter
from tests.json_texts import VALUES
from tests.shared_data import shared_data

CHAT = Profile(O200K)
REASONING = Profile(O200K, priming_tokens=2, assistant_tokens=2)
OLDER = Profile(CL100K, name_tokens=1)
CALL = {"id": "c", "type": "function", "function": {"name": "find", "arguments": '{"a":1}'}}
FRAME = 3

MESSAGES = {
    "text": ({"role": "user", "content": "Hi"}, CHAT, ("user", "Hi"), FRAME),
    "no content": ({"role": "assistant", "content": None}, CHAT, ("assistant",), FRAME),
    "empty content": ({"role": "user", "content": ""}, CHAT, ("user",), FRAME),
    "a name": ({"role": "user", "content": "Hi", "name": "Ada"}, CHAT, ("user", "Hi", "Ada"), FRAME),
    "a name, older models": ({"role": "user", "content": "Hi", "name": "Ada"}, OLDER, ("user", "Hi", "Ada"), FRAME + 1),
    "a past answer": ({"role": "assistant", "content": "Hi"}, CHAT, ("assistant", "Hi"), FRAME),
    "a past answer, reasoning": ({"role": "assistant", "content": "Hi"}, REASONING, ("assistant", "Hi"), FRAME + 2),
    "a question, reasoning": ({"role": "user", "content": "Hi"}, REASONING, ("user", "Hi"), FRAME),
    "text parts": (
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        CHAT, ("user", "a", "b"), FRAME,
    ),
    "an image": (
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        CHAT, ("user",), FRAME + IMAGE_TOKENS,
    ),
    "an image with a text of its own": (
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}, "text": "x"}]},
        CHAT, ("user",), FRAME + IMAGE_TOKENS,
    ),
    "a file": ({"role": "user", "content": [{"type": "file", "file": {}}]}, CHAT, ("user",), FRAME + FILE_TOKENS),
    "sound": (
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A" * 5000}}]},
        CHAT, ("user",), FRAME + 6,
    ),
    "sound without data": (
        {"role": "user", "content": [{"type": "input_audio", "input_audio": "?"}]},
        CHAT, ("user",), FRAME + FILE_TOKENS,
    ),
    "a part nobody knows": (
        {"role": "user", "content": [{"type": "odd", "x": [1]}]}, CHAT, ("user", '{"type":"odd","x":[1]}'), FRAME,
    ),
    "a refusal": ({"role": "assistant", "refusal": "No."}, CHAT, ("assistant", "No."), FRAME),
    "reasoning sent back": (
        {"role": "assistant", "content": "Hi", "reasoning_content": "Hm"}, CHAT, ("assistant", "Hi", "Hm"), FRAME,
    ),
    "reasoning of an odd type": (
        {"role": "assistant", "reasoning_content": {"a": 1}}, CHAT, ("assistant", '{"a":1}'), FRAME,
    ),
    "reasoning as odd parts": (
        {"role": "assistant", "reasoning_content": ["Hm", 5]}, CHAT, ("assistant", '"Hm"', "5"), FRAME,
    ),
    "tool calls": (
        {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
        CHAT, ("assistant", "find", '{"a":1}', "find", '{"a":1}'), FRAME + 2 * TOOL_CALL_TOKENS,
    ),
    "a custom tool's call": (
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls"}}]},
        CHAT, ("assistant", "sh", "ls"), FRAME + TOOL_CALL_TOKENS,
    ),
    "a legacy call": (
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        CHAT, ("assistant", "f", "{}"), FRAME + TOOL_CALL_TOKENS,
    ),
    "a legacy call of an odd type": (
        {"role": "assistant", "function_call": "auto"},
        CHAT, ("assistant", '{"function":"auto"}'), FRAME + TOOL_CALL_TOKENS,
    ),
    "a result": ({"role": "tool", "tool_call_id": "c", "content": "4"}, CHAT, ("tool", "4"), FRAME),
}  # fmt: skip


@pytest.mark.parametrize(("message", "profile", "texts", "fixed"), MESSAGES.values(), ids=MESSAGES)
def test_a_message_weighs_its_texts_and_overheads(message, profile, texts, fixed):
    assert weigh_message(message, profile) == Weight(texts, fixed)


INPUTS = {
    "text": ("Hi", Weight(("Hi",), 0)),
    "texts": (["a", "b"], Weight(("a", "b"), 0)),
    "token ids": ([1, 2, 3], Weight((), 3)),
    "lists of token ids": ([[1, 2], [3]], Weight((), 3)),
    "nothing": (None, Weight((), 0)),
    "odd scalars": ([True, 1.5, None], Weight((), 0)),
    "a message item": ([{"role": "user", "content": "Hi"}], Weight(("user", "Hi"), FRAME)),
    "a message item with parts": (
        [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        Weight(("user", "Hi"), FRAME),
    ),
    "a call and its output": (
        [{"type": "function_call", "name": "f", "arguments": "{}"}, {"type": "function_call_output", "output": "4"}],
        Weight(("f", "{}", "4"), 2 * FRAME),
    ),
    "an image": ([{"type": "input_image", "image_url": "u"}], Weight((), IMAGE_TOKENS)),
    "a file": ([{"type": "input_file", "file_id": "f"}], Weight((), FILE_TOKENS)),
}


@pytest.mark.parametrize(("value", "weight"), INPUTS.values(), ids=INPUTS)
def test_an_input_weighs_its_texts_and_items(value, weight):
    assert weigh_value(value) == weight


ITEM_KEYS = st.sampled_from(["type", "role", "content", "text", "output", "summary", "input", "name"])
ITEMS = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ITEM_KEYS, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=300)
@given(ITEMS)
def test_any_input_has_a_weight(value):
    """Any JSON has texts and a number; nothing is raised, and text that stands alone is never lost."""
    weight = weigh_value(value)

    assert weight.fixed_tokens >= 0
    assert all(isinstance(text, str) for text in weight.texts)
    assert not isinstance(value, str) or weight.texts == (value,)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_is_lost(question, answer):
    """All of a message's text is among what is tokenised, in order."""
    weight = weigh_message({"role": "user", "content": [{"text": question}, {"text": answer}], "name": "n"}, CHAT)

    assert "".join(weight.texts) == f"user{question}{answer}n"


PLAIN = {
    "plain", "system", "developer", "multi_turn", "stream", "content_parts", "non_ascii", "name", "n>1", "json_object",
    "batch", "reasoning",
}  # fmt: skip
EMBEDDINGS_SHARE, CHAT_SHARE = 0.95, 0.98


def recorded(endpoint, features=None):
    """OpenAI's own records of an endpoint that a reader of the body can count."""
    with shared_data("usage_dev.jsonl").open(encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            is_known = record["provider"] == "openai" and not record.get("opaque")
            is_plain = features is None or features.issuperset(record["features"])
            if record["endpoint"] == endpoint and is_known and is_plain:
                yield record


@pytest.fixture(scope="module")
def counter():
    found = TiktokenCounter(tokens_per_word=1.3)
    yield found
    found.close()


def count_all(counter, profile, weights):
    return sum(
        weight.fixed_tokens + sum(counter.count_here(profile, text) for text in weight.texts) for weight in weights
    )


def report(name, exact):
    share = exact[True] / exact.total()
    print(f"{name}: {exact[True]} of {exact.total()} recorded requests counted exactly ({share:.1%})")
    return share


def test_recorded_chats_are_counted_exactly(counter):
    """Text-only chats cost what the provider billed, but for a few dead models with rules of their own."""
    exact = Counter()
    for record in recorded("chat/completions", PLAIN):
        profile = profile_of(record["model"], {})
        weights = [weigh_message(message, profile) for message in record["request"]["messages"]]
        exact[profile.priming_tokens + count_all(counter, profile, weights) == record["usage"]["prompt_tokens"]] += 1

    assert exact.total() > 400
    assert report("chat", exact) >= CHAT_SHARE


def test_recorded_embeddings_are_counted_exactly(counter):
    """Inputs of embeddings cost their tokens, without any overhead."""
    exact = Counter()
    for record in recorded("embeddings"):
        profile = profile_of(record["model"], {})
        weight = weigh_value(record["request"]["input"])
        exact[count_all(counter, profile, [weight]) == record["usage"]["prompt_tokens"]] += 1

    assert exact.total() > 60
    assert report("embeddings", exact) >= EMBEDDINGS_SHARE
