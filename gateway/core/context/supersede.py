"""Which of two rules on one subject holds: the later one.

A rule is dropped only where a later sentence that plainly takes something back names its whole subject again. Where
that is not sure, both stay, in order, and the later one says which turn it comes after. So no rule that was overridden
stands alone, and none is lost to a guess.

Subjects are words without their endings, less the words that make a rule; numbers and identifiers are part of them, so
that order A-1041 and order A-1014 are two subjects.

Invariants, each with a test of its own:
  1. What is dropped has all its subject's words in a later quote that stays.
  2. Nothing is dropped or marked for the sake of an earlier quote.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from gateway.core.context.rules import force_of
from gateway.core.context.rules_force import Force
from gateway.core.context.terms import terms_of

_RULE_WORDS = frozenset(
    terms_of(
        """never always must only please use using uses used keep make sure ensure avoid prefer need want rule rules
        stop require required mandatory forbidden allowed allow permitted fine good instead actually wait scratch change
        changed mind forget ignore no longer apply applies again now anymore remember stick rather thing things way let
        go back switch any every each other new old may might says say ask going put write answer
        niemals nie immer nur bitte verwende verwenden benutze benutzen nutze darf darfst dürfen muss musst müssen soll
        sollst sollen sollten lieber stattdessen statt sofort jetzt wieder doch nimm erlaubt verboten
        nunca siempre usa usar uses utiliza debe debes debería prefiero mejor ahora partir vez lugar solo sólo prohibido
        toujours jamais utilise utilisez finalement désormais sempre devi mai никогда всегда нельзя
        不要 必须 必須 请用 請用 使用 改用 改为 从现在起 现在 可以 禁止 只能 还是用 千万别 务必 一定要 不再需要
        ください してください 必ず 使って やっぱり 今後は 代わりに ないでください 絶対に
        استخدم تستخدم يجب ممنوع بدلا الآن فصاعدا غيرت رأيي"""
    )
)
_entities_in = re.compile(r"#\d+|\d{4,}|(?=[\w/.-]*\d)(?=[\d/.-]*[^\W\d])\w[\w/.-]*\w").findall
"""What a sentence is about where it has a number of its own; "300 words" is none."""
_MIN_SURE_TERMS = 2
_SAME_SUBJECT = 0.5
"""Of the shorter subject: where two rules share so much, the later one is marked."""


class Quote(NamedTuple):
    """One rule in the user's own words.

    Attributes:
        turn: the message that states it, counting foldable ones from 1.
        text: the sentence.
        after: the turn of an earlier rule on the same subject, or 0.
    """

    turn: int
    text: str
    after: int = 0


class _Subject(NamedTuple):
    force: Force
    terms: frozenset[int]
    entities: frozenset[str]


@lru_cache(maxsize=2048)
def _subject_of(text: str) -> _Subject:
    return _Subject(force_of(text), frozenset(terms_of(text)) - _RULE_WORDS, frozenset(_entities_in(text.lower())))


def is_same_subject(earlier: str, later: str) -> bool:
    """Whether a later rule may change an earlier one."""
    first, second = _subject_of(earlier), _subject_of(later)
    if first.entities and second.entities and not first.entities & second.entities:
        return False
    shared = len(first.terms & second.terms)
    if second.force is Force.REVISION:
        return shared >= 1
    return shared >= _MIN_SURE_TERMS and shared >= _SAME_SUBJECT * min(len(first.terms), len(second.terms))


def is_taken_back(earlier: str, later: str) -> bool:
    """Whether a later rule plainly takes an earlier one's place."""
    first, second = _subject_of(earlier), _subject_of(later)
    return second.force is Force.REVISION and len(first.terms) >= _MIN_SURE_TERMS and first.terms <= second.terms


def settle_rules(quotes: Sequence[Quote]) -> list[Quote]:
    """The quotes that still hold, or may: oldest first, later ones marked.

    Args:
        quotes: in any order; of the same words, the newest counts.
    """
    newest: dict[str, Quote] = {}
    for quote in sorted(quotes, key=_turn_of):
        newest.pop(quote.text, None)
        newest[quote.text] = quote
    settled: dict[str, Quote] = {}
    naming: defaultdict[int, list[str]] = defaultdict(list)
    for quote in newest.values():
        terms = _subject_of(quote.text).terms
        after = 0
        for text in dict.fromkeys(text for term in terms for text in naming[term] if text in settled):
            if is_taken_back(text, quote.text):
                del settled[text]
            elif is_same_subject(text, quote.text) and settled[text].turn < quote.turn:
                after = max(after, settled[text].turn)
        settled[quote.text] = Quote(quote.turn, quote.text, after)
        for term in terms:
            naming[term].append(quote.text)
    return list(settled.values())


def _turn_of(quote: Quote) -> int:
    return quote.turn
