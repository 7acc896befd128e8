"""The items of a Responses request's `input`, as compaction sees them: each as the chat message that says the same.

Folding, recall and shortening read chat messages; an item is shown to them as one, and what was shortened is put back
into the item, whose other fields stay as they are. Reasoning says nothing here: what is readable of it is a summary
that the model itself does not see again. Items that nobody here knows are not shown: a request that holds one is not
rewritten, and neither is one with a reference to an item, or a provider's own compaction, which only the provider
can read.

Invariants, each with a test of its own:
  1. Whatever the bytes are: a message that `parse_message` takes, or None.
  2. Ids and states that the server adds, nulls, and a lone text part in place of a string change no canonical digest.
  3. Putting back what was not changed gives an item of the same meaning; of a changed one only its text differs.
  4. Reasoning, and what a provider's tool did, are tied to all that the model said and called after it in one go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from gateway.core.context.facts import MessageFacts, spare_tokens_of
from gateway.core.errors import Refusal
from gateway.core.tokens.content import as_json, content_text
from gateway.core.tokens.items import CALL_KINDS, CountedItem
from gateway.core.tokens.weight import PINNED_ROLES
from gateway.core.wire.body import AmbiguousObject, object_spans
from gateway.core.wire.message import encode_message, parse_message, text_of

_ROLES: Final = ("system", "developer", "user", "assistant")
_HOSTED: Final = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call"}
)
"""What a provider's own tools did; each is whole in itself, with its result."""
_SHOWN_OF_HOSTED: Final = ("name", "arguments", "action", "queries", "code", "output", "results")
_MAX_SHOWN_CHARS: Final = 4_000
_ADDED_BY_SERVERS: Final = frozenset({"id", "status", "cache_control"})
_ADDED_TO_PARTS: Final = frozenset({"annotations", "logprobs", "cache_control"})
_TEXT_KINDS: Final = frozenset({"input_text", "output_text", "text"})
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


class LearnedItem(NamedTuple):
    """An item, learned once.

    Attributes:
        counted: its tokens by itself, and what it is to its neighbours.
        fact: of the message that says the same, with those tokens; None for an item that is never rewritten.
        is_leading: what the model said or called after it, in one go, needs it.
    """

    counted: CountedItem
    fact: MessageFacts | None
    is_leading: bool = False


def kind_of(item: Any) -> str:
    """An item's type; messages need not say theirs."""
    if not isinstance(item, Mapping):
        return ""
    kind = item.get("type")
    return kind if isinstance(kind, str) else "message" if kind is None and "role" in item else ""


def learn_item(raw: bytes, counted: CountedItem) -> LearnedItem:
    """What is to be known of an item.

    Args:
        raw: its JSON, which was parsed before.
        counted: as it was counted.
    """
    item = msgspec.json.decode(raw)
    message = show_item(item)
    canonical = _read_again(raw, item, message) if message is not None else None
    if message is None or canonical is None:
        return LearnedItem(counted, None)
    call = message.get("tool_calls")
    answers = message.get("tool_call_id")
    fact = MessageFacts(
        message["role"],
        counted.tokens,
        canonical,
        (call[0]["id"],) if call else (),
        answers,
        stands_out=message["role"] in PINNED_ROLES,
        spare_tokens=spare_tokens_of(message, counted.tokens - _most_tokens(text_of(message))),
    )
    return LearnedItem(counted, fact, kind_of(item) == "reasoning" or kind_of(item) in _HOSTED)


def _most_tokens(text: str) -> int:
    """What a text takes, and rather more: pictures may be left out for it."""
    return len(text.encode("utf-8", "surrogatepass")) // 2


def _read_again(raw: bytes, item: Mapping[str, Any], message: Mapping[str, Any]) -> bytes | None:
    """The item's canonical digest; None where parsers may read it differently, or the message could not be read."""
    try:
        object_spans(raw)
        parse_message(encode_message({**item, **message}), 0)  # the item's own fields must not be too deep either
        return canonical_item(item)
    except (AmbiguousObject, Refusal, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def show_item(item: Any) -> dict[str, Any] | None:
    """The chat message that says the same as an item; None for those that are not known."""
    kind = kind_of(item)
    if kind == "message" and item.get("role") in _ROLES:
        return {"role": item["role"], "content": _shown_content(item)}
    if kind in ("function_call", "custom_tool_call"):
        return _shown_call(item, kind)
    if kind in ("function_call_output", "custom_tool_call_output"):
        ident = item.get("call_id")
        return (
            {"role": "tool", "tool_call_id": ident, "content": item.get("output")} if isinstance(ident, str) else None
        )
    if kind == "reasoning":
        return {"role": "assistant", "content": ""}
    if kind in _HOSTED:
        shown = [f"{key}: {_as_text(item[key])}" for key in _SHOWN_OF_HOSTED if item.get(key)]
        text = "\n".join([kind, *shown])[:_MAX_SHOWN_CHARS]
        return {"role": "assistant", "content": [{"type": "text", "text": text}]}  # a list is never shortened
    return None


def _shown_content(item: Mapping[str, Any]) -> Any:
    content = item.get("content")
    if item["role"] != "assistant" or not isinstance(content, list):
        return content
    return content[0]["text"] if len(content) == 1 and _is_text(content[0]) else content


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in _TEXT_KINDS and isinstance(part.get("text"), str)


def _shown_call(item: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    ident, name = item.get("call_id"), item.get("name")
    called = "function" if kind == "function_call" else "custom"
    key = "arguments" if called == "function" else "input"
    if not isinstance(ident, str) or not isinstance(name, str) or not isinstance(item.get(key), str):
        return None
    call = {"id": ident, "type": called, called: {"name": name, key: item[key]}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else content_text(value) or as_json(value)


def restore_item(message: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """The item with a shortened message's texts in place of its own.

    Args:
        message: what `show_item` showed, shortened.
        item: the client's own.
    """
    if calls := message.get("tool_calls"):
        called = calls[0].get("function") or calls[0]["custom"]
        return {**item, **{key: called[key] for key in ("arguments", "input") if key in called}}
    content = message.get("content")
    if isinstance(content, list):
        content = [{**part, "type": "input_text"} if part.get("type") == "text" else part for part in content]
    if message["role"] == "tool":
        return {**item, "output": content}
    own = item.get("content")
    if isinstance(content, str) and isinstance(own, list):
        kept = {key: value for key, value in own[0].items() if key != "logprobs"}
        empty: dict[str, Any] = (
            {"annotations": []} if "annotations" in kept else {}
        )  # they name places in the longer text
        content = [{**kept, "text": content, **empty}]
    return {**item, "content": content}


def canonical_item(item: Mapping[str, Any]) -> bytes:
    """SHA-256 of the item's canonical form: clients resend what they were sent, with more or fewer fields."""
    kept = {key: value for key, value in item.items() if value is not None and key not in _ADDED_BY_SERVERS}
    kept["type"] = kind_of(item)
    for key in ("content", "output"):
        if isinstance(parts := kept.get(key), list):
            kept[key] = _canonical_parts(parts)
    kept = {key: value for key, value in kept.items() if value or key not in ("content", "summary", "output")}
    return hashlib.sha256(b"item" + _encode_sorted(kept)).digest()


def _canonical_parts(parts: Sequence[Any]) -> Any:
    kept = [
        {key: value for key, value in part.items() if value is not None and key not in _ADDED_TO_PARTS}
        if isinstance(part, Mapping)
        else part
        for part in parts
    ]
    is_text = len(kept) == 1 and _is_text(kept[0]) and kept[0].keys() == {"type", "text"}
    return kept[0]["text"] if is_text else kept


def ties_of(items: Sequence[LearnedItem], facts: Sequence[MessageFacts]) -> dict[int, int]:
    """Which item must stay with which later one, beside results with their calls; both by index.

    What the model said and called in one go is held together from the first reasoning on, and calls that follow each
    other directly always: what they cost depends on it.
    """
    ties: dict[int, int] = {}
    before, is_led = -1, False
    for index, (item, fact) in enumerate(zip(items, facts, strict=True)):
        if not fact.is_foldable:
            continue
        is_said = fact.role == "assistant"
        if is_said and before >= 0:
            is_call_run = before == index - 1 and {item.counted.kind, items[before].counted.kind} <= CALL_KINDS
            if is_led or is_call_run:
                ties[before] = index
        is_led = is_said and (is_led or item.is_leading)
        before = index if is_said else -1
    return ties
