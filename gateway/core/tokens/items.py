"""What the items of a Responses request's `input` cost.

Each item is weighed by itself, so that it is counted once however often it is sent again; what a call or a piece of
reasoning costs by its neighbours is a small number that `settle_items` adds.
Source: 379 recorded requests, 2025-03 to 2026-08.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.core.tokens.content import as_json, content_text, weigh_content
from gateway.core.tokens.profiles import Profile
from gateway.core.tokens.sections import weigh_section
from gateway.core.tokens.weight import Weight
from gateway.core.wire.request import Endpoint


class Kind(enum.Enum):
    """What an item is to its neighbours."""

    USER = "user"
    CALL = "call"
    STORED_CALL = "stored_call"
    REASONING = "reasoning"
    OTHER = "other"


CALL_KINDS: Final = frozenset({Kind.CALL, Kind.STORED_CALL})


class Item(NamedTuple):
    """An item, weighed."""

    weight: Weight
    kind: Kind = Kind.OTHER


class CountedItem(NamedTuple):
    """An item, counted."""

    tokens: int
    kind: Kind


_CALL_TOKENS: Final = 4  # 35 records of gpt-4o and gpt-4.1, 2025-06 to 2026-08
_STORED_TOKENS: Final = 3  # a lone call that carries its id and status: 11 of 13 such records, 2025-08 to 2026-07
_REASONING_CALL_TOKENS: Final = 10  # o4-mini, gpt-5, gpt-5.5: 6 records, 2026-05, 2026-06
_QUIET_ALONE_TOKENS: Final = 3  # more with effort none, gpt-5.4 and 5.6: 33 records, 2026-05 to 2026-08
_QUIET_TOGETHER_TOKENS: Final = 8  # more, for each of several calls in a row: 2 records, 2026-05, 2026-07
_RESULT_TOKENS: Final = 3
_MORE_TOOLS_TOKENS: Final = 87  # beside the text of `additional_tools`: 1 record, 2026-07
_REASONING_HEAD_CHARS: Final = 910
_REASONING_TOKENS_PER_CHAR: Final = 0.16
"""Reasoning comes back encrypted; 25 records of 1,036 to 9,420 characters (2025-08 to 2026-08) cost this, to 30 %.

It costs only while its tool loop is open: once a user message follows, it is dropped."""
_OTHER_ITEM_TOKENS: Final = 10
_OTHER_KEYS: Final = ("name", "arguments", "input", "output", "action", "query", "queries", "code", "tools", "results")


def weigh_item(item: Any, profile: Profile) -> Item:
    """The weight of one input item, whatever it is."""
    if not isinstance(item, Mapping):
        return Item(Weight((item if isinstance(item, str) else as_json(item),), 0))
    kind = str(item.get("type") or "message")
    if kind.endswith("call") and isinstance(name := item.get("name"), str):
        return _call(item, name, profile)
    if kind.endswith("call_output"):
        return _result(item, profile)
    if kind == "reasoning":
        data = item.get("encrypted_content")
        chars = max(0, len(data) - _REASONING_HEAD_CHARS) if isinstance(data, str) else 0
        return Item(Weight((), int(chars * _REASONING_TOKENS_PER_CHAR)), Kind.REASONING)
    if kind == "additional_tools":
        tools = weigh_section("tools", item.get("tools"), Endpoint.RESPONSES, profile).weight
        return Item(tools._replace(fixed_tokens=tools.fixed_tokens + _MORE_TOOLS_TOKENS))
    if "role" in item or "content" in item:
        return _message(item, profile)
    if kind == "item_reference":
        return Item(Weight((), 0))
    return _other(item)


def _message(item: Mapping[str, Any], profile: Profile) -> Item:
    role = item.get("role")
    parts = weigh_content(item.get("content"), profile.images)
    frame = profile.message_tokens + (profile.assistant_tokens if role == "assistant" else 0)
    return Item(Weight(parts.texts, parts.fixed_tokens + frame), Kind.USER if role == "user" else Kind.OTHER)


def _call(item: Mapping[str, Any], name: str, profile: Profile) -> Item:
    """A call, with the head of the result that it will have."""
    arguments = item.get("arguments", item.get("input"))
    text = arguments if isinstance(arguments, str) else as_json(arguments)
    is_stored = "id" in item and "status" in item and not profile.is_reasoning
    tokens = _REASONING_CALL_TOKENS if profile.is_reasoning else _CALL_TOKENS
    space = item.get("namespace")
    full_name = f"{space if isinstance(space, str) and space else 'functions'}.{name}"
    texts = (f" to={full_name}", text, full_name)
    return Item(Weight(texts, tokens), Kind.STORED_CALL if is_stored else Kind.CALL)


def _result(item: Mapping[str, Any], profile: Profile) -> Item:
    parts = weigh_content(item.get("output"), profile.images)
    return Item(Weight(parts.texts, parts.fixed_tokens + _RESULT_TOKENS))


def _other(item: Mapping[str, Any]) -> Item:
    """What a hosted tool did: the texts it shows, never pictures or other long data."""
    shown = [item[key] for key in _OTHER_KEYS if item.get(key)]
    texts = [value if isinstance(value, str) else content_text(value) or as_json(value) for value in shown]
    return Item(Weight(tuple(texts), _OTHER_ITEM_TOKENS))


def settle_items(items: Sequence[CountedItem], profile: Profile, *, thinks: bool) -> int:
    """Tokens of all items together, as `settle_each` settles them."""
    return sum(settle_each(items, profile, thinks=thinks))


def settle_each(items: Sequence[CountedItem], profile: Profile, *, thinks: bool) -> list[int]:
    """Tokens of each item where it stands.

    Args:
        items: in order.
        profile: of the model.
        thinks: whether the model reasons in this request.
    """
    last_user = max((place for place, item in enumerate(items) if item.kind is Kind.USER), default=-1)
    is_quiet = profile.is_reasoning and not thinks
    settled = []
    for place, item in enumerate(items):
        tokens = item.tokens if item.kind is not Kind.REASONING or place > last_user else 0
        if item.kind in CALL_KINDS:
            neighbours = (*items[max(0, place - 1) : place], *items[place + 1 : place + 2])
            is_alone = not any(other.kind in CALL_KINDS for other in neighbours)
            if is_quiet:
                tokens += _QUIET_ALONE_TOKENS if is_alone else _QUIET_TOGETHER_TOKENS
            elif item.kind is Kind.STORED_CALL and is_alone:
                tokens += _STORED_TOKENS
        settled.append(tokens)
    return settled
