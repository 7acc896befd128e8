"""What a session uses is what its answers say, and no message is an error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.wire.realtime import added, usage_of_event
from gateway.core.wire.usage import Usage

USAGE = {"total_tokens": 30, "input_tokens": 20, "output_tokens": 10, "input_token_details": {"cached_tokens": 5}}


def event(kind="response.done", usage=USAGE):
    return json.dumps({"type": kind, "event_id": "e", "response": {"id": "r", "usage": usage}}).encode()


@pytest.mark.parametrize("kind", ["response.done", "response.completed", "response.incomplete", "response.failed"])
def test_the_end_of_an_answer_says_its_usage(kind):
    assert usage_of_event(event(kind)) == Usage(20, 10, 5)


@pytest.mark.parametrize(
    "message",
    [
        event("response.created"),
        event("conversation.item.input_audio_transcription.completed"),
        event(usage=None),
        event(usage="many"),
        b'{"type":"response.done","response":"usage"}',
        b'{"type":"response.done","response":null,"usage":1}',
        b'{"type":3,"usage":{}}',
        b'["usage"]',
        b'"usage" \xff',
        b'{"usage":' + b"[" * 100_000,
    ],
)
def test_1_other_messages_say_none(message):
    assert usage_of_event(message) is None


@given(st.binary(max_size=60))
def test_1_no_message_is_an_error(data):
    usage_of_event(data + b'"usage"')


@given(st.lists(st.builds(Usage, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=5))
def test_2_answers_add_up(usages):
    total = None
    for usage in usages:
        total = added(total, usage)

    found = (total.prompt_tokens, total.completion_tokens, total.cached_tokens) if total else None
    columns = zip(*((one.prompt_tokens, one.completion_tokens, one.cached_tokens) for one in usages), strict=True)

    assert found == (tuple(map(sum, columns)) if usages else None)
