"""A text shortened to a number of tokens: its head and its tail stay, and a line between says what is missing.

Invariants, each with a test of its own:
  1. The result takes at most `max_tokens`; a text that fits comes back as it is.
  2. What stays is a head and a tail of the text; where not even the line between has room, nothing stays.
"""

from __future__ import annotations

from collections.abc import Callable

_HEAD_SHARE = 0.6


def trim_text(text: str, max_tokens: int, count_tokens: Callable[[str], int]) -> str:
    """Head and tail of a text, within a number of tokens.

    Args:
        text: the whole.
        max_tokens: the bound; below 0 is as 0.
        count_tokens: tokens of a text.
    """
    if max_tokens <= 0:
        return ""
    total = count_tokens(text)
    if total <= max(0, max_tokens):
        return text
    keep_chars = int(len(text) * max_tokens / total)
    while keep_chars > 0:
        head = int(keep_chars * _HEAD_SHARE)
        missing = len(text) - keep_chars
        mark = f"\n[... {missing} characters left out to fit the token budget ...]\n"
        candidate = text[:head] + mark + text[head + missing :]
        tokens = count_tokens(candidate)
        if tokens <= max_tokens:
            return candidate
        keep_chars = min(keep_chars - 8, int(keep_chars * max_tokens / tokens))
    return ""
