"""Does a sentence of a user's forbid or require something, wish for it, or take an earlier rule back?

By words and forms alone, in the languages that are listed; a sentence of any other states no rule that is seen. What
only tells of the past, of others, or of what is likely ("he must have been tired", "I never liked it") is no rule.

Invariants, each with a test of its own:
  1. On the hand-written table in the tests, of what is found 95 % are rules, and of the rules 95 % are found.
  2. Cues leave out no form that a sentence has.
"""

from __future__ import annotations

import re

from gateway.core.context import rules_english, rules_latin, rules_wide
from gateway.core.context.rules_force import Force

_is_wide = re.compile("[\u0600-\u06ff\u0900-\u097f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]").search
_words_of = re.compile(r"[^\W\d_]+").findall
_is_wish = re.compile(r"\b(?:i|we)(?:['’]d| would)? (?:strongly )?prefer\b", re.IGNORECASE).search
_FORMS = sorted((*rules_english.FORMS, *rules_latin.FORMS), key=lambda form: -form.force)
_QUESTION_MARKS = ("?", "？", "؟")


def force_of(sentence: str) -> Force:
    """How much a sentence binds whoever answers."""
    if sentence.endswith(_QUESTION_MARKS):
        return Force.WISH if _is_wish(sentence) else Force.NONE  # "I prefer X, can you help?"; "must I?"
    if _is_wide(sentence):
        letters = frozenset(sentence)
        for form in rules_wide.FORMS:
            if not form.cues.isdisjoint(letters) and form.is_in(sentence):
                return Force.NONE if rules_wide.NARRATIVE(sentence) else form.force
        return Force.NONE
    lowered = sentence.lower()
    words = frozenset(_words_of(lowered))
    for form in _FORMS:
        if not form.cues.isdisjoint(words) and form.is_in(lowered):
            is_told = rules_english.NARRATIVE(lowered) or rules_latin.NARRATIVE(lowered)
            return Force.NONE if is_told else form.force
    return Force.NONE
