"""A watched stream passes as it came, or as it would have come had the gateway not asked for usage."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.wire.stream import MAX_EVENT_BYTES, StreamObserver
from gateway.core.wire.usage import Usage
from tests.splits import byte_by_byte, cuts, in_two
from tests.sse_vectors import VECTORS

BY_NAME = [pytest.param(vector, id=vector.name) for vector in VECTORS]
SPLICED = [vector for vector in VECTORS if vector.without_usage is not None]


def watch(chunks, *, cuts_usage=False):
    """Everything that is forwarded, and the observer."""
    observer = StreamObserver(cuts_usage=cuts_usage)
    forwarded = [observer.feed(chunk) for chunk in chunks]
    return b"".join([*forwarded, observer.finish()]), observer


def learned(observer):
    return observer.usage, visible(observer), observer.is_complete, observer.has_error


def visible(observer):
    """Everything generated, text after text."""
    return "".join(observer.generated.texts())


def stream(*events, done=True):
    """A stream of plain events; what is not text is rendered as JSON."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data: {text}\n\n" for text in [*texts, *(["[DONE]"] if done else [])]).encode()


def choice(delta, finish=None, index=0):
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def typed(kind, **fields):
    return {"type": kind, **fields}


@pytest.mark.parametrize("vector", BY_NAME)
def test_unspliced_bytes_pass_chunk_by_chunk(vector):
    """Where the client's own request asked, each chunk leaves as it came, at once."""
    whole = learned(watch([vector.raw])[1])
    for chunks in ([vector.raw], byte_by_byte(vector.raw), *in_two(vector.raw)):
        observer = StreamObserver(cuts_usage=False)
        forwarded = [observer.feed(chunk) for chunk in chunks]
        last = observer.finish()

        assert forwarded == chunks
        assert last == b""
        assert learned(observer) == whole


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector.name) for vector in SPLICED])
def test_spliced_bytes_are_those_without_usage(vector):
    """Where only the gateway asked, the client sees what it would have seen, at every way of cutting the stream."""
    whole = learned(watch([vector.raw])[1])
    for chunks in ([vector.raw], byte_by_byte(vector.raw), *in_two(vector.raw)):
        forwarded, observer = watch(chunks, cuts_usage=True)

        assert forwarded == vector.without_usage
        assert learned(observer) == whole


@given(st.data())
def test_many_splits_change_nothing(data):
    vector = data.draw(st.sampled_from(SPLICED))
    chunks = data.draw(cuts(vector.raw))

    assert watch(chunks, cuts_usage=True)[0] == vector.without_usage
    assert watch(chunks)[0] == vector.raw


CHOICES = st.dictionaries(st.sampled_from(["text", "usage", "logprobs"]), st.text(max_size=9) | st.none())
FIELDS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES)},
    optional={
        "id": st.text(max_size=9),
        "x": st.none() | st.just({"usage": None}) | st.just('"usage":null'),
        "error": st.none(),
    },
)


@settings(max_examples=200)
@given(
    chunks=st.lists(st.tuples(FIELDS, st.integers(0, 9)), max_size=5),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]),
    is_ascii=st.booleans(),
    usage_at=st.integers(0, 5),
)
def test_splicing_undoes_the_question(chunks, separators, is_ascii, usage_at):
    """A stream with null fields and a usage event, less these, is the stream without them, byte for byte."""

    def render(fields):
        return json.dumps(fields, separators=separators, ensure_ascii=is_ascii)

    plain, asked = [], []
    for fields, place in chunks:
        items = list(fields.items())
        plain.append(render(fields))
        asked.append(render(dict([*items[:place], ("usage", None), *items[place:]])))
    asked.insert(usage_at, render({"id": "1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}))
    forwarded, observer = watch([stream(*asked)], cuts_usage=True)

    assert forwarded == stream(*plain)
    assert observer.usage == Usage(7, 2)


NUMBERS = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
ASKED = b'{"choices":[],"usage":{"prompt_tokens":9}}'
SPLICES = {
    "null fields are no content": (
        b'data: {"choices":[],"x":null,"usage":{"prompt_tokens":9}}\n\n', b"",
    ),
    "blank lines before a usage event": (b"\n\n\ndata: " + ASKED + b"\n\n", b"\n\n\n"),
    "an unfinished event that its last CR ends": (b'data: {"id":1,"usage":null}\r\r', b'data: {"id":1}\r\r'),
    "a space after one comma": (b'data: {"usage":null, "id":1}\n\n', b'data: {"id":1}\n\n'),
    "a space before one comma": (b'data: {"id":1 ,"usage":null}\n\n', b'data: {"id":1}\n\n'),
    "a comment that looks like the data": (
        b': {"id":1,"usage":null}\ndata: {"id":1,"usage":null}\n\n', b': {"id":1,"usage":null}\ndata: {"id":1}\n\n',
    ),
    "a duplicate key": (b'data: {"id":1,"id":2, "usage": null}\n\n', None),
    "an escaped key": (b'data: {"x":{"usage":null,"a":1},"us\\u0061ge":null}\n\n', None),
    "usage that is no object": (b'data: {"choices":[],"usage":7}\n\n', None),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "left"), SPLICES.values(), ids=SPLICES)
def test_exactly_what_was_asked_for_goes(raw, left):
    """The rest stays as it is; what is ambiguous stays whole (None: nothing goes)."""
    for chunks in ([raw], byte_by_byte(raw)):
        assert watch(chunks, cuts_usage=True)[0] == (raw if left is None else left)


def test_at_most_one_incomplete_event_is_held():
    """While splicing, an event leaves with its last byte."""
    observer = StreamObserver(cuts_usage=True)
    events = [stream(choice({"content": "Hi"}), done=False), b": alive\n\n", stream()]
    for raw in events:
        before = b"".join(observer.feed(byte) for byte in byte_by_byte(raw[:-1]))

        assert before == b""
        assert observer.feed(raw[-1:]) == raw


@pytest.mark.parametrize("cuts_usage", [False, True])
def test_an_endless_event_is_not_kept(cuts_usage):
    """An event above the bound passes on unread; the next one is read and spliced again."""
    huge = (
        b'data: {"choices":[{"text":"' + b"x" * (MAX_EVENT_BYTES + (2 << 20)) + b'"}],"usage":null}\ndata: [DONE]\n\n'
    )
    after = b'data: {"choices":[{"text":"seen","usage":1}],"usage":null}\n\n'
    observer = StreamObserver(cuts_usage=cuts_usage)
    given, taken = 0, 0
    raw = huge + after
    for at in range(0, len(raw), 1 << 20):
        chunk = raw[at : at + (1 << 20)]
        given += len(chunk)
        taken += len(observer.feed(chunk))

        assert given - taken <= MAX_EVENT_BYTES
    assert visible(observer) == "seen"
    assert not observer.is_complete
    assert len(raw) - taken == (len(',"usage":null') if cuts_usage else 0)


USAGES = {
    "a last event of its own": [choice({"content": "Hi"}), {"choices": [], "usage": NUMBERS}],
    "beside the last choice": [{**choice({}, "stop"), "usage": NUMBERS}],
    "growing with every event": [{**choice({}), "usage": {"prompt_tokens": 9}}, {**choice({}), "usage": NUMBERS}],
    "null, then numbers": [{**choice({}), "usage": None}, {"choices": [], "usage": NUMBERS}],
    "numbers, then null": [{"choices": [], "usage": NUMBERS}, {**choice({}), "usage": None}],
    "numbers, then others": [{"choices": [], "usage": NUMBERS}, {"choices": [], "usage": {"seconds": 1}}],
    "numbers, then an empty object": [{"choices": [], "usage": NUMBERS}, {"choices": [], "usage": {}}],
    "groq": [{**choice({}, "stop"), "x_groq": {"id": "r", "usage": NUMBERS}}],
    "moonshot": [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": NUMBERS}]}],
    "without choices": [{"usage": NUMBERS}],
    "whole numbers written as fractions": ['{"choices":[],"usage":{"prompt_tokens":9.0,"completion_tokens":2.0,'
                                           '"prompt_tokens_details":{"cached_tokens":4.0}}}'],
    "beside choices of an unknown shape": [{"choices": [[1]], "usage": NUMBERS}],
    "beside a delta of an unknown shape": [{"choices": [{"delta": "Hi"}], "usage": NUMBERS}],
    "responses": [
        typed("response.created", response={"usage": None}),
        typed("response.completed", response={"id": "r", "usage": {
            "input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}
        }}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("events", USAGES.values(), ids=USAGES)
@pytest.mark.parametrize("cuts_usage", [False, True])
def test_usage_is_found_wherever_vendors_put_it(events, cuts_usage):
    assert watch([stream(*events)], cuts_usage=cuts_usage)[1].usage == Usage(9, 2, 4)


ENDS = {
    "the end mark": (stream(choice({"content": "Hi"})), True),
    "the end mark, spaced": (b"data:[DONE] \r\n\r\n", True),
    "the end mark, its line end missing": (b"data: [DONE]", True),
    "a finish reason": (stream(choice({}, "stop"), done=False), True),
    "a finish reason, then usage": (stream(choice({}, "stop"), {"choices": [], "usage": NUMBERS}, done=False), True),
    "every choice finished": (stream(choice({}, "stop", 1), choice({}, "length", 0), done=False), True),
    "one choice of two finished": (stream(choice({}), choice({}, "stop", 1), done=False), False),
    "an empty finish reason": (stream(choice({"content": "Hi"}, ""), done=False), False),
    "usage alone": (stream({"choices": [], "usage": NUMBERS}, done=False), False),
    "text alone": (stream(choice({"content": "Hi [DONE]"}), done=False), False),
    "text that holds the end mark": (stream(choice({"content": "data: [DONE]\n\n"}), done=False), False),
    "the end mark in a comment": (b": [DONE]\n\n", False),
    "half an end mark": (b"data: [DON", False),
    "half a finish reason": (stream(choice({}, "stop"), done=False)[:-8], False),
    "nothing": (b"", False),
    "responses, completed": (stream(typed("response.completed", response={}), done=False), True),
    "responses, incomplete": (stream(typed("response.incomplete", response={}), done=False), True),
    "responses, still at work": (stream(typed("response.in_progress", response={}), done=False), False),
    "responses, text done": (stream(typed("response.output_text.done", text="Hi"), done=False), False),
}


@pytest.mark.parametrize(("raw", "is_complete"), ENDS.values(), ids=ENDS)
def test_only_an_end_mark_makes_a_stream_complete(raw, is_complete):
    """A cut stream is never taken for a whole one, whether it is spliced or not."""
    assert watch([raw])[1].is_complete == is_complete
    assert watch([raw], cuts_usage=True)[1].is_complete == is_complete


@given(st.data())
def test_no_beginning_of_a_stream_is_complete(data):
    """Cut anywhere before the finish reason, a stream is not complete."""
    raw = stream(choice({"role": "assistant", "content": ""}), choice({"content": "Hi"}), choice({}, "stop"))
    last = raw.index(b'"stop"')
    at = data.draw(st.integers(0, last))

    assert not watch([raw[:at]])[1].is_complete


ERRORS = {
    "an error object": (stream({"error": {"message": "overloaded"}}, done=False), True),
    "an error event": (b'event: error\ndata: {"message":"overloaded"}\n\n', True),
    "a failed response": (stream(typed("response.failed", response={}), done=False), True),
    "a null error": (stream({**choice({}), "error": None}), False),
    "text about an error": (stream(choice({"content": '{"error":1}'})), False),
}


@pytest.mark.parametrize(("raw", "has_error"), ERRORS.values(), ids=ERRORS)
def test_errors_within_a_stream_are_seen(raw, has_error):
    assert watch([raw])[1].has_error == has_error


def call(name=None, arguments=None):
    return choice({"tool_calls": [{"index": 0, "function": {"name": name, "arguments": arguments}}]})


TEXTS = {
    "text": ([choice({"role": "a", "content": ""}), choice({"content": "Hi"}), choice({"content": "!"})], "Hi!"),
    "a refusal": ([choice({"refusal": "No"}), choice({"refusal": "."})], "No."),
    "reasoning": ([choice({"reasoning_content": "Hm"}), choice({"content": "Yes"})], "HmYes"),
    "reasoning, said under both names": ([choice({"reasoning_content": "Hm", "reasoning": "Hm"})], "Hm"),
    "reasoning of openrouter": ([choice({"reasoning": "Hm"})], "Hm"),
    "tool calls": ([call("find", ""), call(None, '{"a"'), call(None, ":1}")], 'find{"a":1}'),
    "a custom tool's input": ([choice({"tool_calls": [{"custom": {"name": "sh", "input": "ls"}}]})], "shls"),
    "a legacy function call": ([choice({"function_call": {"name": "f", "arguments": "{}"}})], "f{}"),
    "several choices": ([choice({"content": "a"}, index=0), choice({"content": "b"}, index=1)], "ab"),
    "legacy completions": ([{"choices": [{"text": "He"}]}, {"choices": [{"text": "y"}]}], "Hey"),
    "content parts of mistral": ([choice({"content": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "Yes"}, "?", None,
    ]})], "HmYes"),
    "fields of unknown types": ([choice({"content": 5, "tool_calls": {"a": 1}}), choice({"tool_calls": [None]})], ""),
    "no delta": ([{"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}], ""),
    "responses": ([
        typed("response.output_item.added", item={"type": "function_call", "name": "find"}),
        typed("response.function_call_arguments.delta", delta="{}"),
        typed("response.output_text.delta", delta="Hi"),
        typed("response.output_text.done", text="Hi"),
        typed("response.refusal.delta", delta="No"),
        typed("response.reasoning_summary_text.delta", delta="Hm"),
        typed("response.audio.delta", delta="UklGRg=="),
        typed("response.other.delta", delta={"text": "?"}),
    ], "find{}HiNoHm"),
}  # fmt: skip


@pytest.mark.parametrize(("events", "text"), TEXTS.values(), ids=TEXTS)
def test_all_that_the_client_could_see_is_collected(events, text):
    """Text, refusals, reasoning and tool calls count; nothing counts twice."""
    assert visible(watch([stream(*events)])[1]) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["choices", "delta", "content", "tool_calls", "usage", "x_groq", "error", "type", "response", "item", "thinking"]
ODD = st.recursive(
    JSON,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.lists(ODD, max_size=4))
def test_events_of_unknown_shapes_never_harm(events):
    """Whatever an upstream invents is passed on; only a usage that is null or a whole event goes."""
    raw = stream(*events)

    assert watch([raw])[0] == raw
    assert len(watch([raw], cuts_usage=True)[0]) <= len(raw)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_events_pass_unchanged(raw):
    assert watch(byte_by_byte(raw), cuts_usage=True)[0] == raw
    assert watch([raw])[0] == raw


GOOD = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
HALVES = [b'data: {"choices":[{"index":0,"delta":{"con\n\n', b"data: {nonsense}\n\n", b'data: {"a":1} {"b":2}\n\n']
"""Events that no client's JSON reader takes."""
ODD = [b"data: ping\n\n", b'data: {"a":NaN,"b":-Infinity}\n\n', b": comment {\n\n", b"data: [1,\n\n", b"data:\n\n"]
"""Events that some take, or that no JSON reader is asked to."""


@pytest.mark.parametrize("cuts_usage", [False, True])
@pytest.mark.parametrize("half", HALVES)
def test_half_an_object_ends_the_stream_before_it(half: bytes, cuts_usage: bool) -> None:
    """At every way of splitting: what is forwarded is what stood before, or the beginning of the half event."""
    stream = GOOD + half + GOOD
    for size in range(1, len(stream) + 1):
        observer = StreamObserver(cuts_usage=cuts_usage)
        forwarded = b""
        for start in range(0, len(stream), size):
            forwarded += observer.feed(stream[start : start + size])
            if observer.is_malformed:
                break

        assert observer.is_malformed
        assert forwarded.startswith(GOOD)
        assert (GOOD + half).startswith(forwarded)
        assert forwarded == GOOD or not cuts_usage
        assert "".join(observer.generated.texts()) == "Hi"


@pytest.mark.parametrize("odd", ODD)
def test_what_clients_may_read_passes(odd: bytes) -> None:
    """Comments, other data, and the numbers that JSON does not know but its readers do."""
    observer = StreamObserver(cuts_usage=True)

    assert observer.feed(GOOD + odd + GOOD) == GOOD + odd + GOOD
    assert not observer.is_malformed
