"""What a user's message is looked up by: its terms, those at its ends first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from gateway.core.context.terms import name_terms

_MAX_ASKED_CHARS = 8_000
_MAX_EXACT = 24
"""Numbers, paths and identifiers that are asked for: a message with a log in it has more than a search looks up."""


def terms_asked(message: str) -> tuple[list[int], frozenset[int]]:
    """The terms of a message, what matters most first, and those among them that have to match exactly."""
    named = name_terms(message[-_MAX_ASKED_CHARS:])
    hard = [term for term in named.words if term in named.hard]
    exact = _from_both_ends(hard)[:_MAX_EXACT]
    others = _from_both_ends([term for term in named.words if term not in named.hard])
    return [*exact, *others], frozenset(exact)


def _from_both_ends(terms: Sequence[int]) -> list[int]:
    """The last, the first, the last but one...: of a long message, what is asked stands at one of its ends."""
    half = len(terms) // 2
    pairs = zip_longest(reversed(terms[half:]), terms[:half])
    return [term for pair in pairs for term in pair if term is not None]
