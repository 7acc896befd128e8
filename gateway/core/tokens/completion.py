"""What an answer costs beside its visible text: framing of tool calls, and reasoning that nobody can see.

Fitted to recorded usage (openai, models without reasoning, 2023 to 2026-08; exact share of the whole bill): a chat
answer of text is its text (79 % of 549; one more in 19 %, no visible rule); on Responses one more (139 of 196, two
more in 43). One tool call is name + arguments + 7 (70 of 117) or 8 (18; Responses 8: 37 of 46). Two calls or more,
which are wrapped together: + 16 + 6 for each on chat (8 of 16 of two; each of three and of five), + 17 + 7 on
Responses (10 of 12). Models that answer in channels (gpt-5, o1 to o4): 3 more in each of these cases (answers without
reasoning: 54 of 77, 12 of 24; calls 26 of 40, 7 of 14).
"""

from __future__ import annotations

import re

from gateway.core.tokens.profiles import bare_model

_CHAT_CALL, _CHAT_CALLS, _CHAT_EACH = 7, 16, 6
_RESPONSES_TEXT, _RESPONSES_CALL, _RESPONSES_CALLS, _RESPONSES_EACH = 1, 8, 17, 7
_CHANNEL_MARKS = 3
_answers_in_channels = re.compile(r"(?!gpt-5[^/]*-chat)(gpt-5|o[134](-|$))").match
_hides_reasoning = re.compile(
    r"(?!gpt-5[^/]*-chat)(gpt-5|o[134](-|$)|codex|computer-use|gemini-(2\.5|[3-9])|grok-4)"
).match
"""Models that think before they answer and do not show it (providers' model pages, 2026-01)."""


def framing_tokens(model: str, calls: int, *, has_text: bool, is_responses: bool) -> int:
    """Tokens beside the texts of one choice.

    Args:
        model: as the request names it.
        calls: tool calls of the choice.
        has_text: whether it also said something.
        is_responses: the Responses endpoint, else chat.
    """
    one, many, each = (
        (_RESPONSES_CALL, _RESPONSES_CALLS, _RESPONSES_EACH) if is_responses else (_CHAT_CALL, _CHAT_CALLS, _CHAT_EACH)
    )
    text = _RESPONSES_TEXT if is_responses and has_text else 0
    marks = _CHANNEL_MARKS if (calls or has_text) and _answers_in_channels(bare_model(model)) else 0
    return marks + text + (0 if not calls else one if calls == 1 else many + each * calls)


def may_hide_reasoning(model: str, effort: str | None) -> bool:
    """Whether an answer may have cost tokens that no stream shows.

    Args:
        model: as the request names it.
        effort: of reasoning, as the request asks for it, if it does.
    """
    return effort != "none" and _hides_reasoning(bare_model(model)) is not None
