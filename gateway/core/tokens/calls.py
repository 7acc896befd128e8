"""What tool calls and their results in the history cost.

A result's price holds the name of the called function, which stands in the call: it is charged with the call, since
calls and results are never parted. Several results of one turn are shown together as Python writes a list of texts,
so what one costs depends on its place among them: `weigh_together` says what it costs there.
Source: 119 recorded chats with calls in the history, 2024-07 to 2026-08: of gpt-4o's 95 of 98 are met exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from gateway.core.tokens.content import as_json
from gateway.core.tokens.profiles import Profile

TO_FUNCTION: Final = " to=functions."
"""Before a function's name, in the head of a call."""
_TO_SEVERAL: Final = " to=multi_tool_use.parallel"
_SEVERAL: Final = "multi_tool_use.parallel"
_EDGE_CHARS: Final = 24
"""Of a result's text, at either end: what its quotes and brackets can merge with."""


class CallRule(NamedTuple):
    """Tokens beside the texts.

    Attributes:
        call_tokens: of a call that stands alone.
        together_tokens: of each of several calls of one message; None where they are wrapped into one.
        result_tokens: of a result that stands alone, or of all results of a wrapped call.
        result_prefix: before the function's name, in the result's head.
    """

    call_tokens: int
    together_tokens: int | None
    result_tokens: int
    result_prefix: str


_WRAPPED: Final = CallRule(4, None, 6, "")  # gpt-3.5, gpt-4, gpt-4o, gpt-4.1: 99 records, 2024-07 to 2026-07
_THINKING: Final = CallRule(12, 8, 3, "functions.")  # o-series, gpt-5: 7 records alone, 1 together, 2026-01 to 2026-07
_QUIET: Final = CallRule(
    12, 16, 3, "functions."
)  # gpt-5.1, 5.4 with effort none: 11 alone, 1 together, 2026-05 to 2026-08


def call_rule(profile: Profile) -> CallRule:
    """The rule of a family, on chat completions."""
    if not profile.is_reasoning:
        return _WRAPPED
    return _THINKING if profile.thinks else _QUIET


class Call(NamedTuple):
    """A call's function and what it was called with, as text."""

    name: str
    arguments: str


def calls_of(message: Mapping[str, Any]) -> list[Call]:
    """The calls of a chat message, old kind and new."""
    found = [_call(call.get("function") or call.get("custom") or call) for call in message.get("tool_calls") or ()]
    if (legacy := message.get("function_call")) is not None:
        found.append(_call(legacy))
    return found


def _call(function: Any) -> Call:
    if not isinstance(function, Mapping):
        return Call("", as_json(function))
    arguments = function.get("arguments", function.get("input"))
    return Call(str(function.get("name") or ""), arguments if isinstance(arguments, str) else as_json(arguments))


def weigh_calls(calls: Sequence[Call], profile: Profile) -> tuple[list[str], int]:
    """Texts and tokens of one message's calls, with the heads of the results that they will have."""
    rule = call_rule(profile)
    if len(calls) > 1 and rule.together_tokens is None:
        uses = ",".join(_use(call) for call in calls)
        return [_TO_SEVERAL, f'{{"tool_uses":[{uses}]}}', _SEVERAL], rule.call_tokens + rule.result_tokens
    each = rule.call_tokens if len(calls) == 1 else rule.together_tokens or 0
    return [text for call in calls for text in _alone(call, rule)], each * len(calls)


def _use(call: Call) -> str:
    return f'{{"recipient_name":"functions.{call.name}","parameters":{compact(call.arguments)}}}'


def _alone(call: Call, rule: CallRule) -> Iterator[str]:
    yield TO_FUNCTION + call.name
    yield compact(call.arguments)
    yield rule.result_prefix + call.name


def compact(arguments: str) -> str:
    """Arguments as they are shown: JSON without white space, or the text that was sent if it is none."""
    try:
        return as_json(msgspec.json.decode(arguments))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return arguments


class Together(NamedTuple):
    """What a result costs among others, as (texts that cost, texts that are taken off): in between, first, last."""

    between: tuple[tuple[str, ...], tuple[str, ...]]
    first: tuple[tuple[str, ...], tuple[str, ...]]
    last: tuple[tuple[str, ...], tuple[str, ...]]


def weigh_together(text: str, profile: Profile) -> Together | None:
    """The weights of a result's text among several, or None where it costs the same there.

    The list is `['first', 'second', 'last']`. Its pieces are cut before each space, where tokens never cross; the
    brackets at its ends replace a space and a comma, which only the text's own ends can notice.
    """
    if call_rule(profile).together_tokens is not None:
        return None
    quoted = repr(text)
    between = f" {quoted},"
    head, tail = quoted[:_EDGE_CHARS], quoted[-_EDGE_CHARS:]
    return Together(
        ((between,), ()),
        ((between, f"[{head}"), (f" {head}",)),
        ((between, f"{tail}]"), (f"{tail},",)),
    )
