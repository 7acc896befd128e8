"""Which parts of answers are generated text, in whole answers and in streams alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tokens.completion import framing_tokens, may_hide_reasoning
from gateway.core.wire.pieces import generated_of_answer
from gateway.core.wire.stream import StreamObserver


def call(name: str, arguments: str, number: int = 0, **fields: Any) -> dict[str, Any]:
    return {"index": number, "function": {"name": name, "arguments": arguments}, **fields}


def message(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **fields}}]}


WHOLE: dict[str, tuple[dict[str, Any], str, dict[int, int]]] = {
    "text": (message(content="Hi"), "Hi", {}),
    "two choices": ({"choices": [
        {"index": 0, "message": {"content": "a"}}, {"index": 1, "message": {"content": "b"}},
    ]}, "ab", {}),
    "a refusal": (message(content=None, refusal="No"), "No", {}),
    "shown reasoning": (message(content="Yes", reasoning_content="Hm"), "YesHm", {}),
    "tool calls": (message(tool_calls=[call("f", "{}", id="1"), call("g", "[]", id="2")]), "f{}g[]", {0: 2}),
    "a legacy function call": (message(function_call={"name": "f", "arguments": "{}"}), "f{}", {0: 1}),
    "a custom call": (message(tool_calls=[{"custom": {"name": "sh", "input": "ls"}}]), "shls", {0: 1}),
    "audio": (message(audio={"id": "a", "data": "AAAA", "transcript": "Hello"}), "Hello", {}),
    "legacy": ({"choices": [{"index": 0, "text": "Hey"}]}, "Hey", {}),
    "responses": ({"output": [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": "No"}]},
        {"type": "function_call", "name": "f", "arguments": "{}"},
        {"type": "web_search_call", "id": "w"},
        None,
    ]}, "HmHiNof{}", {0: 1}),
    "embeddings": ({"data": [{"embedding": [0.1]}]}, "", {}),
    "no shape at all": ({"choices": {"a": 1}, "output": "text"}, "", {}),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "text", "calls"), WHOLE.values(), ids=WHOLE)
def test_whole_answers_are_read(answer: dict[str, Any], text: str, calls: dict[int, int]) -> None:
    generated = generated_of_answer(json.dumps(answer).encode())

    assert sorted("".join(generated.texts())) == sorted(text)
    assert generated.calls == calls


@given(st.binary(max_size=100) | st.recursive(st.none() | st.text(), st.lists).map(lambda x: json.dumps(x).encode()))
def test_odd_answers_hold_nothing(body: bytes) -> None:
    assert generated_of_answer(body).is_empty


def streamed(*deltas: dict[str, Any]) -> dict[int, int]:
    """Calls by choice, of a stream of these deltas."""
    observer = StreamObserver(cuts_usage=False)
    for delta in deltas:
        observer.feed(b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n")
    return dict(observer.generated.calls)


CALLS: dict[str, tuple[list[dict[str, Any]], int]] = {
    "one, in pieces": (
        [{"tool_calls": [call("f", "", id="1")]}, {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}], 1,
    ),
    "two": ([{"tool_calls": [call("f", "{}", 0, id="1")]}, {"tool_calls": [call("f", "{}", 1, id="2")]}], 2),
    "two, all numbered 0": ([{"tool_calls": [call("f", "{}", id="1")]}, {"tool_calls": [call("f", "{}", id="2")]}], 2),
    "two at once": ([{"tool_calls": [call("f", "{}", 0, id="1"), call("g", "{}", 1, id="2")]}], 2),
    "the name in every chunk": ([{"tool_calls": [call("f", piece, id="1")]} for piece in "{}  "], 1),
    "no ids": ([{"tool_calls": [call("f", "{")]}, {"tool_calls": [call("", "}")]}], 1),
    "none": ([{"content": "Hi"}], 0),
}  # fmt: skip


@pytest.mark.parametrize(("deltas", "count"), CALLS.values(), ids=CALLS)
def test_calls_are_counted_once(deltas: list[dict[str, Any]], count: int) -> None:
    assert sum(streamed(*deltas).values()) == count


def test_transcripts_of_audio_are_seen() -> None:
    """In chat streams and in Responses events; the audio itself is not text."""
    observer = StreamObserver(cuts_usage=False)
    for event in (
        {"choices": [{"index": 0, "delta": {"audio": {"transcript": "Hel", "data": "AAAA"}}}]},
        {"type": "response.audio.delta", "delta": "AAAA"},
        {"type": "response.output_audio.delta", "delta": "AAAA"},
        {"type": "response.audio_transcript.delta", "delta": "lo"},
    ):
        observer.feed(b"data: " + json.dumps(event).encode() + b"\n\n")

    assert "".join(observer.generated.texts()) == "Hello"


FRAMES = [
    ("gpt-4o", 0, False, 0),
    ("gpt-4o", 0, True, 1),
    ("gpt-4o", 1, False, 7),
    ("gpt-4o", 1, True, 8),
    ("gpt-4o", 2, False, 28),
    ("gpt-4o", 3, False, 34),
    ("gpt-4o", 5, False, 46),
    ("gpt-4o", 2, True, 31),
    ("gpt-4o", 3, True, 38),
    ("openai/gpt-5-mini", 0, False, 3),
    ("o4-mini", 1, True, 11),
    ("gpt-5.1", 2, True, 34),
    ("gpt-5-chat-latest", 1, False, 7),
]


@pytest.mark.parametrize(("model", "calls", "is_responses", "tokens"), FRAMES)
def test_framing_is_what_was_recorded(model: str, calls: int, is_responses: bool, tokens: int) -> None:
    """The most frequent recorded difference between a bill and its texts."""
    assert framing_tokens(model, calls, has_text=not calls, is_responses=is_responses) == tokens


HIDING = [
    ("gpt-5", None, True),
    ("gpt-5.1-codex", "high", True),
    ("openai/o3-mini", None, True),
    ("o1", None, True),
    ("gemini-2.5-flash", None, True),
    ("gpt-5.1", "none", False),
    ("gpt-5-chat-latest", None, False),
    ("gpt-4o", None, False),
    ("gpt-4.1", "high", False),
    ("gemini-2.0-flash", None, False),
    ("deepseek-r1", None, False),
    ("gpt-oss-120b", None, False),
    ("", None, False),
]


@pytest.mark.parametrize(("model", "effort", "hides"), HIDING)
def test_models_that_hide_their_reasoning_are_known(model: str, effort: str | None, hides: bool) -> None:
    assert may_hide_reasoning(model, effort) == hides
