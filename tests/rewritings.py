"""What clients do to their own history between turns, and what would make it another one.

A rewriting leaves a message what it is; an edit makes it another. Both take a message and a source of chance, and
return a new message, or the same where they find nothing to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any

Message = dict[str, Any]
Rewriting = Callable[[Message, Random], Message]
CACHE_MARK = {"type": "ephemeral"}


def _objects(value: Any) -> list[dict[str, Any]]:
    """All objects in a value, the outermost first."""
    if isinstance(value, list):
        return [found for each in value for found in _objects(each)]
    return [value, *_objects(list(value.values()))] if isinstance(value, dict) else []


def _functions(message: Message) -> list[dict[str, Any]]:
    calls = [call["function"] for call in message.get("tool_calls") or () if "function" in call]
    return [*calls, *([message["function_call"]] if message.get("function_call") else [])]


def _parts(message: Message) -> list[dict[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else []


# What leaves it the same


def key_order(message: Message, chance: Random) -> Message:
    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [shuffled(each) for each in value]
        if isinstance(value, dict):
            return {key: shuffled(value[key]) for key in chance.sample(list(value), len(value))}
        return value

    return dict(shuffled(message))


def null_fields(message: Message, chance: Random) -> Message:
    """As model_dump writes them."""
    message = deepcopy(message)
    for each in _objects(message):
        each.update({key: None for key in ("cache_control", "extra") if key not in each and chance.random() < 0.5})
    fields = ["name", "refusal", "audio", "function_call", "tool_calls", "reasoning_content", "annotations"]
    return {**message, **{key: None for key in fields if key not in message and chance.random() < 0.5}}


def no_null_fields(message: Message, chance: Random) -> Message:
    """As `exclude_none` writes them."""
    return {key: value for key, value in message.items() if value is not None}


def lone_part(message: Message, chance: Random) -> Message:
    """A text as a lone part, or a lone part as text."""
    content = message.get("content")
    if isinstance(content, str) and content:
        return {**message, "content": [{"type": "text", "text": content}]}
    if isinstance(content, list) and len(content) == 1 and content[0].keys() == {"type", "text"}:
        return {**message, "content": content[0]["text"]}
    return message


def cache_marks(message: Message, chance: Random) -> Message:
    message = deepcopy(message)
    calls = [each for call in message.get("tool_calls") or () for each in (call, call.get("function", call))]
    for each in (message, *_parts(message), *calls):
        if chance.random() < 0.5:
            each["cache_control"] = CACHE_MARK
        else:
            each.pop("cache_control", None)
    return message


def own_id(message: Message, chance: Random) -> Message:
    return {**message, "id": f"msg_{chance.getrandbits(32)}"}


def answer_fields(message: Message, chance: Random) -> Message:
    """What comes with an answer and is sent back by those who keep its object."""
    if message["role"] != "assistant":
        return message
    message = {"refusal": None, "annotations": [], "parsed": None, **deepcopy(message)}
    for index, call in enumerate(message.get("tool_calls") or ()):
        call["index"] = index
    for function in _functions(message):
        function["parsed_arguments"] = None
    return message


def thinking(message: Message, chance: Random) -> Message:
    """An answer's thinking, kept while it is new and left out later. It is counted, so the prompt's size changes."""
    if message["role"] != "assistant":
        return message
    key = chance.choice(["reasoning_content", "reasoning"])
    others = {each: value for each, value in message.items() if each != key}
    return others if key in message else {**message, key: f"Hm, for {chance.randrange(100)} s."}


def arguments_anew(message: Message, chance: Random) -> Message:
    """Arguments parsed and written again, as who keeps them parsed does."""
    message = deepcopy(message)
    for function in _functions(message):
        try:
            tree = json.loads(function.get("arguments", ""))
        except ValueError:
            continue
        if isinstance(tree, dict):
            function["arguments"] = json.dumps(
                {key: tree[key] for key in chance.sample(list(tree), len(tree))},
                ensure_ascii=chance.random() < 0.5,
                indent=chance.choice([None, 2, "\t"]),
                separators=chance.choice([None, (",", ":"), (" , ", " : ")]),
            )
    return message


def no_content(message: Message, chance: Random) -> Message:
    """Nothing said beside calls, in one of its writings."""
    if message.get("content") or not (message.get("tool_calls") or message.get("function_call")):
        return message
    message = {key: value for key, value in message.items() if key != "content"}
    return chance.choice([message, {**message, "content": None}, {**message, "content": ""}])


def image_detail(message: Message, chance: Random) -> Message:
    """The documented default, written out."""
    message = deepcopy(message)
    for part in _parts(message):
        if isinstance(image := part.get("image_url"), dict):
            image.setdefault("detail", "auto")
    return message


REWRITINGS: dict[str, Rewriting] = {
    each.__name__: each
    for each in (
        key_order, null_fields, no_null_fields, lone_part, cache_marks, own_id, answer_fields, thinking,
        arguments_anew,
        no_content, image_detail,
    )
}  # fmt: skip


SAME_SIZE = [rewriting for rewriting in REWRITINGS.values() if rewriting is not thinking]
"""Those that leave the prompt's size what it is too."""


def rewritten(message: Message, chance: Random, ways: Sequence[Rewriting] = tuple(REWRITINGS.values())) -> Message:
    """Some of them, in any order."""
    for each in chance.sample(ways, chance.randrange(1, len(ways))):
        message = each(message, chance)
    return message


# What makes it another


def other_role(message: Message, chance: Random) -> Message:
    return {**message, "role": chance.choice(sorted({"user", "assistant", "tool"} - {message["role"]}))}


def other_name(message: Message, chance: Random) -> Message:
    return {**message, "name": f"{message.get('name') or ''}x"}


def other_words(message: Message, chance: Random) -> Message:
    """A letter more at the end, be it a blank, or one less."""
    content = message.get("content")
    if isinstance(content, str) and content:
        return {**message, "content": chance.choice([f"{content} ", f"{content}\u0301", content[:-1]])}
    return message if content else {**message, "content": "."}


def other_part(message: Message, chance: Random) -> Message:
    """A part more, or a text that is cut in two: upstreams render parts in ways of their own."""
    content = message.get("content")
    if isinstance(content, str) and len(content) > 1:
        half = chance.randrange(1, len(content))
        return {**message, "content": [{"type": "text", "text": each} for each in (content[:half], content[half:])]}
    if isinstance(content, list) and content:
        return {**message, "content": [*content, {"type": "text", "text": "."}]}
    return message


def other_refusal(message: Message, chance: Random) -> Message:
    return {**message, "refusal": f"{message.get('refusal') or ''}no"}


def other_call_id(message: Message, chance: Random) -> Message:
    message = deepcopy(message)
    for call in message.get("tool_calls") or ():
        call["id"] += "x"
    return {**message, "tool_call_id": f"{message['tool_call_id']}x"} if "tool_call_id" in message else message


def other_tool(message: Message, chance: Random) -> Message:
    message = deepcopy(message)
    for function in _functions(message):
        function["name"] += "x"
    return message


def other_kind_of_call(message: Message, chance: Random) -> Message:
    message = deepcopy(message)
    for call in message.get("tool_calls") or ():
        if function := call.pop("function", None):
            call |= {"type": "custom", "custom": {"name": function["name"], "input": function.get("arguments", "")}}
    return message


def other_arguments(message: Message, chance: Random) -> Message:
    """Another value, a key more, one less, or what a text says as a number."""
    message = deepcopy(message)
    for function in _functions(message):
        try:
            tree = json.loads(function.get("arguments", ""))
        except ValueError:
            tree = None
        if isinstance(tree, dict):
            more = chance.choice([{"z": None}, {"z": 1}, {"z": "1"}, {"z": True}, {"z": []}, {"z": {}}, {"z": ""}])
            function["arguments"] = json.dumps({**tree, **more})
        else:
            function["arguments"] = f"{function.get('arguments', '')}x"
    return message


def fewer_calls(message: Message, chance: Random) -> Message:
    calls = message.get("tool_calls") or []
    return {**message, "tool_calls": calls[:-1]} if calls else message


EDITS: dict[str, Rewriting] = {
    each.__name__: each
    for each in (
        other_role, other_name, other_words, other_part, other_refusal, other_call_id, other_tool, other_kind_of_call,
        other_arguments, fewer_calls,
    )
}  # fmt: skip
