"""The constraint ledger: sentences in which the user forbids or requires something, quoted exactly.

Deterministic, no language model. Quotes come only from the user's own words, never from code fences, quoted lines or
other roles. The ledger is bounded; when it overflows, the eldest quotes go and are counted.

Invariants, each with a test of its own:
  1. Every quote stands, letter for letter, in a user message.
  2. The same quote is kept once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gateway.core.context.sentences import split_sentences

LEDGER_SHARE = 0.4
"""Of the brief's share, at most."""

_RULE = re.compile(
    r"\b(never|must(?:n't| not)?|do not|don't|does not have to|always|only|under no circumstances|required?|"
    r"make sure|ensure|avoid|at most|at least|no more than|prefer|remember|forbid(?:den)?|not allowed|"
    r"nunca|siempre|no debes?|debes?|solo|sólo|nie|niemals|immer|darf(?:st)? nicht|muss(?:t)?|nur|"
    r"jamais|toujours|ne .{1,20} pas|dois|doit|seulement)\b"
    r"|不要|不能|不得|必须|必須|只能|总是|總是|禁止|务必|しないで|してはいけ|必ず|だけ|禁止|لا |يجب|دائم|فقط",
    re.IGNORECASE,
)
_MAX_QUOTE_CHARS = 320
_MAX_PARAGRAPH_CHARS = 500


class Quote(NamedTuple):
    """One rule in the user's own words; `turn` counts foldable messages from 1."""

    turn: int
    text: str


def quote_rules(turn: int, user_text: str) -> list[Quote]:
    """The rules that a user message states.

    Args:
        turn: the message's place among foldable messages, from 1.
        user_text: the message's text.
    """
    return [
        Quote(turn, sentence.text)
        for sentence in split_sentences(_own_paragraphs(user_text))
        if sentence.is_own
        and len(sentence.text) <= _MAX_QUOTE_CHARS
        and not sentence.text.endswith(("?", "？", "؟"))
        and _RULE.search(sentence.text)
    ]


def _own_paragraphs(text: str) -> str:
    """The text without long paragraphs among others: those are pasted, and their rules are not the user's."""
    paragraphs = text.split("\n\n")
    if len(paragraphs) == 1:
        return text
    return "\n\n".join(paragraph for paragraph in paragraphs if len(paragraph) <= _MAX_PARAGRAPH_CHARS)


def render_quote(quote: Quote) -> str:
    """One line of the brief."""
    return f'- [turn {quote.turn}] "{quote.text}"'


def bound_ledger(
    quotes: Iterable[Quote], max_tokens: int, count_tokens: Callable[[str], int]
) -> tuple[tuple[Quote, ...], int]:
    """The newest quotes that fit, oldest first, and how many were left out.

    Args:
        quotes: oldest first; repeats are dropped in favour of the newest.
        max_tokens: the ledger's bound.
        count_tokens: tokens of a text.
    """
    newest: dict[str, Quote] = {}
    for quote in quotes:
        newest.pop(quote.text, None)
        newest[quote.text] = quote
    kept: list[Quote] = []
    left = max_tokens
    for quote in reversed(newest.values()):
        cost = count_tokens(render_quote(quote) + "\n")
        if cost > left:
            break
        left -= cost
        kept.append(quote)
    return tuple(sorted(kept, key=_by_turn)), len(newest) - len(kept)


def _by_turn(quote: Quote) -> int:
    return quote.turn
