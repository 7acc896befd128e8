"""The demo upstream, asked by the client library that applications use: shapes, usage, refusals, answers."""

import base64
import json
import re
import struct
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI

from gateway.demo import read_passages, run_demo
from gateway.shell.upstream import demo_answers
from gateway.shell.upstream.demo_answers import NOTHING, Said, answer, summarise
from gateway.shell.upstream.demo_server import DemoUpstream

WINDOW = 2000
FACT = "My locker at the harbour has the code 7T-4093."
CLUB = "Our chess club meets every Tuesday in Utrecht."
SMALL_TALK = "The weather was mild. Trams were late again. Somebody played an accordion on the bridge."
SUMMARISER = "You keep the running brief of a conversation."
WORDS = st.lists(st.sampled_from(["ship", "Ada", "meets", "7", "on", "Tuesday.", "My", "dog", "barks.\n", "is"]))


def count(text: str) -> int:
    """A tokenizer for tests: words and marks."""
    return len(re.findall(r"\w+|[^\w\s]", text))


@pytest.fixture
async def client() -> AsyncIterator[AsyncOpenAI]:
    upstream = DemoUpstream(count, window_tokens=WINDOW)
    async with AsyncOpenAI(base_url=await upstream.start(), api_key="none", max_retries=0) as library:
        yield library
    await upstream.close()


def chat(*texts: str) -> list[Any]:
    """User and assistant in turn, the user first."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


async def stream_of(client: AsyncOpenAI, messages: list[Any], **options: Any) -> list[Any]:
    stream = await client.chat.completions.create(model="demo", messages=messages, stream=True, **options)
    return [chunk async for chunk in stream]


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def test_streamed_and_whole_answers_agree(client):
    """The same text and the same usage, and the usage is exactly what the texts cost."""
    messages = chat(FACT, "Noted.", "What is the code of my locker?")
    whole = await client.chat.completions.create(model="gpt-4o", messages=messages)
    chunks = await stream_of(client, messages, stream_options={"include_usage": True})

    assert whole.model == "gpt-4o"
    assert whole.choices[0].finish_reason == "stop"
    assert text_of(chunks) == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks[:-1])
    assert whole.usage.prompt_tokens == 3 + sum(3 + count(m["role"]) + count(m["content"]) for m in messages)
    assert whole.usage.completion_tokens == count(whole.choices[0].message.content)


async def test_a_stream_has_no_usage_unless_asked(client):
    chunks = await stream_of(client, chat("Where is the ship?"))

    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


async def test_names_and_tools_are_billed(client):
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    plain = await client.chat.completions.create(model="demo", messages=chat("Where is it?"))
    named = [{**chat("Where is it?")[0], "name": "Ada Lovelace"}]
    full = await client.chat.completions.create(model="demo", messages=named, tools=[tool])

    compact = '{"type":"function","function":{"name":"look","parameters":{"type":"object"}}}'
    assert full.usage.prompt_tokens - plain.usage.prompt_tokens == 2 + count(f"[{compact}]")


@pytest.mark.parametrize("option", ["max_tokens", "max_completion_tokens"])
async def test_max_tokens_cuts_the_answer(client, option):
    messages = chat(FACT, "Noted.", "What is the code of my locker?")
    cut = await client.chat.completions.create(model="demo", messages=messages, n=2, **{option: 5})
    chunks = await stream_of(client, messages, **{option: 5})

    assert [choice.finish_reason for choice in cut.choices] == ["length", "length"]
    assert cut.usage.completion_tokens == 2 * 5
    assert text_of(chunks) == cut.choices[1].message.content
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("messages", "options", "words"),
    [
        (chat("word " * WINDOW), {}, "your messages resulted in 2007 tokens"),
        (
            chat("Hello there"),
            {"max_tokens": WINDOW},
            "you requested 2009 tokens (9 in the messages, 2000 in",
        ),
    ],
    ids=["prompt", "prompt and completion"],
)
async def test_beyond_the_window_is_refused_as_openai_refuses(client, messages, options, words):
    with pytest.raises(openai.BadRequestError) as refused:
        await stream_of(client, messages, **options)

    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "messages"
    assert f"This model's maximum context length is {WINDOW} tokens. However, {words}" in refused.value.message


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": [{"role": "bard", "content": "hi"}]}, "messages[0].role", "invalid_value"),
        ({"messages": chat("hi"), "max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"messages": chat("hi"), "n": "two"}, "n", "invalid_type"),
        ({"messages": chat("hi"), "stream_options": {"include_usage": True}}, "stream_options", None),
        ({"messages": [{"role": "tool", "tool_call_id": "a", "content": ""}]}, "messages[0].role", None),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}, *chat("hi")]}, "messages", None),
    ],
)
async def test_what_openai_refuses_is_refused(client, body, param, code):
    with pytest.raises(openai.BadRequestError) as refused:
        await client.post("/chat/completions", body={"model": "demo", **body}, cast_to=object)

    assert (refused.value.param, refused.value.code) == (param, code)


async def test_unknown_paths_are_not_found(client):
    with pytest.raises(openai.NotFoundError):
        await client.files.list()


async def test_a_planted_fact_is_found_in_any_role(client):
    for role in ("system", "user", "assistant"):
        messages = [{"role": role, "content": f"{SMALL_TALK} {FACT} {SMALL_TALK}"}, *chat("Hm?", "Yes.")]
        reply = await client.chat.completions.create(
            model="demo", messages=[*messages, *chat("What is the code of my locker?")]
        )

        assert "7T-4093" in reply.choices[0].message.content


def test_two_questions_in_one_get_two_sentences():
    said = [
        Said("user", f"{CLUB} {SMALL_TALK} {FACT}"),
        Said("assistant", "Noted."),
        Said("user", SMALL_TALK),
    ]
    reply = answer([*said, Said("user", "What is my locker's code, and on which day does my club meet?")], count, None)

    assert "7T-4093" in reply
    assert "Tuesday" in reply
    assert "accordion" not in reply


def test_the_later_of_two_equal_statements_wins():
    said = [Said("user", "The code of my locker is 1111."), Said("user", "The code of my locker is 2222.")]
    reply = answer([*said, Said("user", "What is the code of my locker?")], count, None)

    assert "2222" in reply.split(".")[0]


@pytest.mark.parametrize(
    "question", ["What is the capital of Mongolia?", "Tell me a joke.", "What is the code of my bicycle?"]
)
def test_what_was_not_said_is_not_invented(question):
    """Nothing matches: the answer says so, even when the same question was asked before."""
    said = [
        Said("user", SMALL_TALK),
        Said("user", question),
        Said("assistant", NOTHING),
        Said("user", question),
    ]

    assert answer(said, count, None) == NOTHING


def test_a_passage_is_answered_with_a_sentence_of_it():
    for passage in read_passages()[:20]:
        request = f"Here is the next passage:\n\n{passage}\n\nWhat happens?"
        reply = answer([Said("user", CLUB), Said("user", request)], count, None)

        assert reply.removeprefix("Noted: ") in passage
        assert reply.startswith("Noted: ")


async def test_the_summariser_keeps_planted_facts_within_max_tokens(client):
    turns = [f"user: {FACT} {CLUB} Never call me before noon."]
    turns += [f"user: {p}\nassistant: I see." for p in read_passages()[:6]]
    text = "\n".join(["Earlier brief:", "- The reader prefers tea.", "", "New turns:", *turns])
    messages = [{"role": "system", "content": SUMMARISER}, *chat(text)]
    reply = await client.chat.completions.create(model="demo", messages=messages, max_tokens=150)
    brief = json.loads(reply.choices[0].message.content)["facts"]

    assert reply.usage.completion_tokens <= 150
    assert reply.choices[0].finish_reason == "stop"
    assert brief[0] == "The reader prefers tea."
    assert all(any(planted in line for line in brief) for planted in (FACT, CLUB, "Never call me before noon."))


def test_planted_facts_outlive_many_summaries():
    """Each summary is made from the one before and new text; what the user stated first is still there."""
    text = f"[1 user] {FACT} {CLUB}"
    for passage in read_passages()[:40:4]:
        brief = summarise(text, count, 300)
        text = f"[the brief so far]\n{brief}\n[messages since]\n[2 user] {passage}\n[3 assistant] I see."

    assert FACT in brief
    assert CLUB in brief


@given(words=WORDS, max_tokens=st.integers(1, 60))
def test_a_summary_never_exceeds_its_tokens_and_invents_nothing(words, max_tokens):
    text = " ".join(words)
    brief = summarise(text, count, max_tokens)

    assert count(brief) <= max_tokens
    assert set(re.findall(r"\w+", brief)) <= set(re.findall(r"\w+", text)) | {"Nothing", "to", "record"}


@given(text=st.text(), max_tokens=st.integers(1, 40))
def test_cutting_keeps_a_beginning_that_fits(text, max_tokens):
    kept = demo_answers.cut(text, count, max_tokens)

    assert text.startswith(kept)
    assert count(kept) <= max_tokens
    assert kept == text or count(text[: len(kept) + 1]) > max_tokens


async def test_embeddings_are_deterministic_in_both_encodings(client):
    texts = ["The harbour library", "the harbour libraries", "Nine green bottles"]
    floats = await client.embeddings.create(model="e", input=texts, encoding_format="float")
    packed = await client.post(
        "/embeddings", body={"model": "e", "input": texts, "encoding_format": "base64"}, cast_to=object
    )
    near, same, far = (item.embedding for item in floats.data)
    decoded = struct.unpack("<256f", base64.b64decode(packed["data"][0]["embedding"]))

    assert len(near) == 256
    assert near == pytest.approx(same)
    assert sum(v * v for v in near) == pytest.approx(1)
    assert abs(sum(a * b for a, b in zip(near, far, strict=True))) < 0.5
    assert decoded == pytest.approx(near)
    assert floats.usage.prompt_tokens == sum(map(count, texts)) == packed["usage"]["prompt_tokens"]


async def test_the_other_endpoints_speak_to_the_library(client):
    question = "What is the code of my locker?"
    responded = await client.responses.create(model="demo", instructions=FACT, input=question)
    async with client.responses.stream(model="demo", instructions=FACT, input=question) as stream:
        kinds = [event.type async for event in stream]
        streamed = await stream.get_final_response()
    completed = await client.completions.create(model="demo", prompt=f"{FACT}\n{question}", max_tokens=40)

    assert "7T-4093" in responded.output_text == streamed.output_text
    assert streamed.usage == responded.usage
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert "7T-4093" in completed.choices[0].text
    assert [model.id async for model in client.models.list()] == ["demo"]


async def test_the_demo_chat_runs_without_a_gateway_but_fits_no_budget(capsys):
    """Straight to the upstream nothing is compacted: answers are right, and the verdict still says no."""
    upstream = DemoUpstream(count)
    base_url = await upstream.start()
    fits = await run_demo(base_url, turns=6, budget=5000)
    exceeds = await run_demo(base_url, turns=6, budget=900)
    await upstream.close()

    assert (fits, exceeds) == (0, 1)
    assert "found in the answer: yes" in capsys.readouterr().out
