"""What tools, response formats and their options cost beside their texts: one table, by family, endpoint and date.

Prices that changed have rows with an `until`; a request of today is billed by the last row. All of it is additive, so
that the text of the tools, which is long, is counted once and kept.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.core.tokens.profiles import Family
from gateway.core.wire.request import Endpoint


class Frame(NamedTuple):
    """Tokens beside the texts. Negative where a text is shown shorter than it is rendered here.

    Attributes:
        tools_tokens: with the tools' text, where no system message stands first.
        tools_joined_tokens: with the tools' text, where it is joined to the first system message.
        undescribed_tokens: for each function without a description.
        format_tokens: with a format's text, where neither tools nor a system message stand before it.
        format_joined_tokens: with a format's text, where it is joined to the first system message.
        names_format: whether every answer, past and to come, is marked with the format's name.
        forced_tokens: for a forced function, beside the head of its call; None if forcing costs nothing.
        none_tokens: for `tool_choice: none`.
        required_tokens: for `tool_choice: required`.
        one_by_one_tokens: for `parallel_tool_calls: false`, where there are tools.
        together_tokens: for tools unless `parallel_tool_calls` is false.
        hidden_tokens: once a request.
    """

    tools_tokens: int
    tools_joined_tokens: int
    undescribed_tokens: int = 0
    format_tokens: int = 0
    format_joined_tokens: int = 0
    names_format: bool = False
    forced_tokens: int | None = None
    none_tokens: int = 0
    required_tokens: int = 0
    one_by_one_tokens: int = 0
    together_tokens: int = 0
    hidden_tokens: int = 0


AFTER_TOOLS_TOKENS: Final = 1
"""The blank line between the tools' text and a format's."""
PRO_MODE_TOKENS: Final = 1_531
"""Of `reasoning: {"mode": "pro"}`, which brings a text of its own: 1 record, gpt-5.6, 2026-07."""
FORMAT_MARK_TOKENS: Final = 2
"""Of an answer's mark, beside the format's name."""

_CHAT = Frame(3, -1, 0, 4, 0, True, forced_tokens=4, none_tokens=1)
_CHAT_O = Frame(4, 3, -1, 1, 0, True)
_CHAT_5 = Frame(85, 84, -1, 1, 0, True)
_RESPONSES = Frame(-3, -3, 0, 1, 1, forced_tokens=4, required_tokens=9)
_RESPONSES_O = Frame(0, 0, -1)
_RESPONSES_5 = Frame(3, 3, -1, one_by_one_tokens=78)

_TABLE: tuple[tuple[Family, Endpoint, str, Frame, str], ...] = (
    # family, endpoint, valid until (exclusive), frame, source
    (Family.GPT_4_FIRST, Endpoint.CHAT, "", _CHAT, "5 records with tools, 2024-02 to 2026-03"),
    (Family.GPT_4O, Endpoint.CHAT, "", _CHAT, "200 records with tools, 37 with a format, 2024-04 to 2026-07"),
    (Family.O, Endpoint.CHAT, "", _CHAT_O, "4 records with tools, 1 with a format, 2026-01 to 2026-06"),
    (Family.GPT_5, Endpoint.CHAT, "", _CHAT_5, "40 records with tools, 1 with a format, 2025-08 to 2026-08"),
    (
        Family.GPT_4O,
        Endpoint.RESPONSES,
        "2025-04-01",
        Frame(0, 0, 0, 1, 1, together_tokens=195, hidden_tokens=18),
        "15 records of the endpoint's first month, 2025-03",
    ),
    (
        Family.GPT_4O,
        Endpoint.RESPONSES,
        "2026-03-01",
        _RESPONSES._replace(required_tokens=0),
        "records with tools, 2025-04 to 2026-02",
    ),
    (Family.GPT_4_FIRST, Endpoint.RESPONSES, "", _RESPONSES, "as gpt-4o"),
    (
        Family.GPT_4O,
        Endpoint.RESPONSES,
        "",
        _RESPONSES,
        "98 records with tools in all, 23 with a format, 2025-03 to 2026-08",
    ),
    (Family.O, Endpoint.RESPONSES, "", _RESPONSES_O, "4 records with tools, 1 with a format, 2026-03 to 2026-06"),
    (Family.GPT_5, Endpoint.RESPONSES, "", _RESPONSES_5, "85 records with tools, 13 with a format, 2025-09 to 2026-08"),
)


@functools.lru_cache(maxsize=256)
def frame_of(family: Family, endpoint: Endpoint, day: datetime.date | None = None) -> Frame:
    """The frame of a family on chat completions or Responses.

    Args:
        family: of the model.
        endpoint: one of the two.
        day: of the request, for bills of the past; None for today's rules.
    """
    for row_family, row_endpoint, until, frame, _ in _TABLE:
        is_row = row_family is family and row_endpoint is endpoint
        if is_row and (not until or (day is not None and day < datetime.date.fromisoformat(until))):
            return frame
    raise ValueError(f"no frame for {family} on {endpoint}")


class Counted(NamedTuple):
    """A section's text, counted, and what its frame depends on.

    Attributes:
        tokens: of the text, and whatever stands for texts that cannot be shown.
        name_tokens: of a format's name, or of a forced function's head.
        is_text: whether there is a text at all; a plain JSON mode has none.
        undescribed: functions without a description.
    """

    tokens: int
    name_tokens: int = 0
    is_text: bool = True
    undescribed: int = 0


class Surroundings(NamedTuple):
    """What the frames of a chat depend on beside its sections.

    Attributes:
        joint_tokens: what joining a text to the first system message costs; None if none stands first.
        past_answers: assistant messages in the history that are no calls.
        is_one_by_one: `parallel_tool_calls` is false.
    """

    joint_tokens: int | None = None
    past_answers: int = 0
    is_one_by_one: bool = False


TOOLS_KEYS: Final = ("tools", "functions")
FORMAT_KEYS: Final = ("response_format", "text")
CHOICE_KEYS: Final = ("tool_choice", "function_call")


def frame_sections(frame: Frame, counted: Mapping[str, Counted], around: Surroundings) -> dict[str, int]:
    """Tokens by section, frames included.

    Args:
        frame: of the family and endpoint.
        counted: by the request's own keys.
        around: what else the frames depend on.
    """
    sections = {key: found.tokens for key, found in counted.items()}
    tools = next((key for key in TOOLS_KEYS if key in counted and counted[key].is_text), None)
    shown = next((key for key in FORMAT_KEYS if key in counted and counted[key].is_text), None)
    joint = around.joint_tokens
    if tools:
        sections[tools] += frame.tools_tokens if joint is None else frame.tools_joined_tokens + joint
        sections[tools] += frame.undescribed_tokens * counted[tools].undescribed
        sections[tools] += frame.one_by_one_tokens if around.is_one_by_one else frame.together_tokens
    if shown:
        marks = around.past_answers + (not tools)
        sections[shown] += (FORMAT_MARK_TOKENS + counted[shown].name_tokens) * marks if frame.names_format else 0
        if tools:
            sections[shown] += AFTER_TOOLS_TOKENS
        else:
            sections[shown] += frame.format_tokens if joint is None else frame.format_joined_tokens + joint
    return sections


def choice_tokens(frame: Frame, choice: object, name_tokens: int) -> int:
    """What `tool_choice` costs: a word, or a forced function whose head has so many tokens."""
    if choice == "none":
        return frame.none_tokens
    if choice == "required":
        return frame.required_tokens
    is_forced = not isinstance(choice, str) and frame.forced_tokens is not None
    return (frame.forced_tokens or 0) + name_tokens if is_forced and name_tokens else 0
