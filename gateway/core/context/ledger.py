"""The constraint ledger: sentences in which the user forbids or requires something, quoted exactly.

Deterministic, no language model. Quotes come only from the user's own words, never from code fences, quoted lines or
other roles. The ledger is bounded. When it overflows, plain orders ("never", "you must") are kept before remarks that
only sound like rules ("only", "prefer"), the newest of each first, and what had no room is counted.

Invariants, each with a test of its own:
  1. Every quote stands, letter for letter, in a user message.
  2. The same quote is kept once.
  3. The ledger never takes more than its bound, and no remark displaces an order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import NamedTuple

from gateway.core.context.sentences import own_paragraphs, split_sentences

LEDGER_SHARE = 0.4
"""Of the brief's share, at most."""
_REMARKS_SHARE = 0.5
"""Of the ledger, at most: remarks are many, and most of them bind nobody."""

_CLAUSE = r"(?:^\W*(?:\d+[.)]\s*)?|[,;:–—] ?|\b(?:please|you|and|but|so|then|should) )"
_ORDERS = (
    rf"{_CLAUSE}(?:never|always|only|do not|don['’]t|avoid|make sure|ensure|remember to|at most|no more than)\b",
    r"(?<!\bi )\bmust(?:n['’]t)?\b|\b(?:under no circumstances|not allowed|forbidden|prohibited|is mandatory)\b",
    r"\b(?:niemals|auf keinen fall|unbedingt|verboten)\b|\b(?:darf(?:st)?|bitte)\b.{1,60}\b(?:nicht|kein\w*)\b",
    r"\b(?:du|sie|ihr|man) (?:muss|musst|müssen|müsst|soll|sollst|sollen)\b|^\W*(?:nie|immer|nur)\b",
    r"\b(?:nunca|jamás|prohibido|obligatorio|no debes?|(?:tú |usted )debes?|tienes? que|hay que|asegúrate)\b",
    r"(?:^\W*|[,;:] |\bpor favor,? )(?:siempre|no \w+(?:es|as|en|an))\b",
    r"\b(?:jamais|interdit|il faut|veuillez|obligatoire|proibido|não (?:deve|pode)|vietato|devi)\b",
    r"\b(?:никогда|нельзя|запрещено|обязательно)\b",
    r"不要|不得|(?<!我)必[须須]|禁止|[务務]必|[严嚴]禁|切勿|不[许許]|不可以|不准|一定要|[绝絕](?:不|对不|對不)|只能|请勿|千万别",
    r"必ず|しないで|ないでください|てはいけ|てはなら|ではいけ|なければな|ないこと。|반드시|절대|하지 ?마|금지",
    r"(?<!\w)لا\s+ت\w+|يجب|ممنوع|إياك|أبد[اً]|कभी नहीं|ज़रूर",
)
_REMARKS = (
    r"\b(?:never|always|only|avoid|do not|don['’]t(?! (?:know|remember|have|think|understand|mind|see|feel|worry)))\b",
    r"\b(?:at most|at least|no more than|prefer|remember|require[sd]?|make sure|ensure|i must|can(?:no|['’])t)\b",
    r"\b(?:nie|immer|nur|muss|siempre|sol[oa]mente|s[oó]lo|únicamente|debe|toujours|seulement|uniquement|ne\b.{1,25}\bpas)\b",
    r"\b(?:doi[ts]|sempre|apenas|somente|soltanto|всегда|только|должен|должны)\b",
    r"不能|必[须須]|总是|總是|只[要有用]|だけ|のみ|べき|항상|만 |دائم|فقط|हमेशा|केवल",
)
_is_order = re.compile("|".join(_ORDERS), re.IGNORECASE).search
_is_remark = re.compile("|".join(_REMARKS), re.IGNORECASE).search
_is_wish = re.compile(r"\b(?:i|we)(?:['’]d| would)? (?:strongly )?prefer\b", re.IGNORECASE).search
_MAX_QUOTE_CHARS = 320


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
        for sentence in split_sentences(own_paragraphs(user_text))
        if sentence.is_own and len(sentence.text) <= _MAX_QUOTE_CHARS and _states_a_rule(sentence.text)
    ]


def _states_a_rule(text: str) -> bool:
    if text.endswith(("?", "？", "؟")):
        return bool(_is_wish(text))  # "I prefer X, can you help?" is a wish; "must I?" is a question
    return bool(_is_order(text) or _is_remark(text))


def render_quote(quote: Quote) -> str:
    """One line of the brief."""
    return f'- [turn {quote.turn}] "{quote.text}"'


def bound_ledger(
    quotes: Iterable[Quote], max_tokens: int, count_tokens: Callable[[str], int]
) -> tuple[tuple[Quote, ...], int]:
    """The quotes that fit, oldest first, and how many were left out.

    Args:
        quotes: oldest first; repeats are dropped in favour of the newest.
        max_tokens: the ledger's bound.
        count_tokens: tokens of a text.
    """
    newest: dict[str, Quote] = {}
    for quote in quotes:
        newest.pop(quote.text, None)
        newest[quote.text] = quote
    orders = [quote for quote in reversed(newest.values()) if _is_order(quote.text)]
    remarks = [quote for quote in reversed(newest.values()) if not _is_order(quote.text)]
    kept, left = _fitting(orders, max_tokens, count_tokens)
    kept_too, _ = _fitting(remarks, min(left, int(max_tokens * _REMARKS_SHARE)), count_tokens)
    kept += kept_too
    return tuple(sorted(kept, key=attrgetter("turn"))), len(newest) - len(kept)


def _fitting(quotes: Iterable[Quote], max_tokens: int, count_tokens: Callable[[str], int]) -> tuple[list[Quote], int]:
    """The first of the quotes that fit together, and what they leave."""
    kept: list[Quote] = []
    for quote in quotes:
        cost = count_tokens(render_quote(quote) + "\n")
        if cost <= max_tokens:
            max_tokens -= cost
            kept.append(quote)
    return kept, max_tokens
