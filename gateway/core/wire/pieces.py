"""Which parts of an answer are generated text: of a chunk's choices, of whole answers, of Responses items.

What providers bill as completion and show: text, refusals, reasoning where it is shown, names and arguments of tool
calls, transcripts of audio (not the audio itself). Fields of unknown types are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.core.wire.generated import Generated


class Delta(msgspec.Struct, gc=False):
    """A choice's new part in a stream, or its whole message; fields are of whatever type they are."""

    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None


class Choice(msgspec.Struct, gc=False):
    """A choice of a chunk or of a whole answer, chat or legacy."""

    index: Any = 0
    delta: Delta | None = None
    message: Delta | None = None
    text: Any = None
    finish_reason: Any = None
    usage: Any = None


def gather_delta(generated: Generated, index: int, delta: Delta) -> None:
    """Take in a part of a choice."""
    content = delta.content
    if content:
        if content.__class__ is str:
            generated.add(index, content)
        else:
            _add_parts(generated, index, content)
    reasoning = delta.reasoning_content or delta.reasoning
    if reasoning:
        _add_parts(generated, (index, "reasoning"), reasoning)
    if delta.tool_calls.__class__ is list:
        for call in delta.tool_calls:
            if call.__class__ is dict:
                _add_call(generated, index, call, call.get("function") or call.get("custom"))
    if delta.function_call:
        _add_call(generated, index, {}, delta.function_call)
    if delta.refusal:
        _add_parts(generated, (index, "refusal"), delta.refusal)
    if delta.audio.__class__ is dict:
        _add_parts(generated, (index, "audio"), delta.audio.get("transcript"))


def gather_choice(generated: Generated, choice: Choice) -> None:
    """Take in a choice of a whole answer."""
    index = choice.index if isinstance(choice.index, int) else 0
    _add_parts(generated, index, choice.text)
    if choice.message is not None:
        gather_delta(generated, index, choice.message)


def gather_item(generated: Generated, place: int, item: Any) -> None:
    """Take in an output item of a whole Responses answer."""
    if not isinstance(item, dict):
        return
    if isinstance(item.get("name"), str):
        generated.calls[0] += 1
    for key in ("name", "arguments", "input", "code"):
        _add_parts(generated, (place, key), item.get(key))
    for key in ("content", "summary"):
        _add_parts(generated, (place, key), item.get(key))


def _add_call(generated: Generated, index: int, call: dict[str, Any], function: Any) -> None:
    """A call's name and arguments. Some vendors repeat the name in every chunk, some number all calls 0."""
    if function.__class__ is not dict:
        return
    number, name = call.get("index", 0), function.get("name")
    slot = (index, number if number.__class__ is int else 0)
    if name and name.__class__ is str:
        key = call.get("id")
        channel = (*slot, "name", key if key.__class__ is str else None)
        if channel not in generated:
            generated.add(channel, name)
            generated.calls[index] += 1
    for key in ("arguments", "input"):
        text = function.get(key)
        if text and text.__class__ is str:
            generated.add(slot, text)


def _add_parts(generated: Generated, channel: Any, content: Any) -> None:
    for text in _texts_of(content):
        if text:
            generated.add(channel, text)


def _texts_of(content: Any) -> Iterator[str]:
    """A text, or the texts of content parts (Mistral streams its thinking as parts within a part)."""
    if isinstance(content, str):
        yield content
        return
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    for part in parts:
        thinking = part.get("thinking")
        inner = [one for one in thinking if isinstance(one, dict)] if isinstance(thinking, list) else []
        for text in (part.get("text"), part.get("refusal"), thinking, *(one.get("text") for one in inner)):
            if isinstance(text, str):
                yield text


class _Answer(msgspec.Struct):
    choices: list[Choice] | None = None
    output: list[Any] | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


def generated_of_answer(body: bytes) -> Generated:
    """What a whole JSON answer holds of generated text; empty where it cannot be read."""
    generated = Generated()
    try:
        answer = _decode_answer(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return generated
    for choice in answer.choices or ():
        gather_choice(generated, choice)
    for place, item in enumerate(answer.output or ()):
        gather_item(generated, place, item)
    return generated
