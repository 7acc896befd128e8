"""Conversations whose beginning does not hold still: a client that slides a window over its history, or rewrites it.

No brief is ever found again for such a client, so a language model that wrote one for each of its requests would be
paid for nothing. A conversation is recognised by two messages in a row that stood at the end of an earlier request;
different conversations that begin alike, or end with the same words, are not mistaken for one.

Invariants, each with a test of its own:
  1. A conversation that only grows is never taken for one that slides.
  2. What is remembered is bounded.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from gateway.core.context.facts import MessageFacts

MAX_MISSES = 3
"""Briefs of one conversation made from nothing, after which it is taken to slide."""
_MAX_REMEMBERED = 20_000
_TAIL = 64
"""Messages at the end of a request among which an earlier end is looked for."""


class Lineages:
    """How often a brief was made from nothing for each conversation."""

    def __init__(self) -> None:
        self._misses: OrderedDict[bytes, int] = OrderedDict()

    def slides(self, scope: bytes, facts: Sequence[MessageFacts]) -> bool:
        """Whether this conversation has lost its beginning again and again.

        Args:
            scope: of its briefs.
            facts: its messages.
        """
        return self._misses_of(_ends(scope, facts)) >= MAX_MISSES

    def missed(self, scope: bytes, facts: Sequence[MessageFacts]) -> None:
        """A brief is made for a conversation, and no earlier one is its own."""
        ends = _ends(scope, facts)
        if not ends:
            return
        self._misses[ends[-1]] = self._misses_of(ends) + 1
        self._misses.move_to_end(ends[-1])
        if len(self._misses) > _MAX_REMEMBERED:
            self._misses.popitem(last=False)

    def _misses_of(self, ends: Sequence[bytes]) -> int:
        return max((self._misses.get(end, 0) for end in ends), default=0)


def _ends(scope: bytes, facts: Sequence[MessageFacts]) -> list[bytes]:
    tail = [fact.canonical for fact in facts[-_TAIL:] if fact.is_foldable]
    return [hashlib.sha256(scope + first + second).digest() for first, second in pairwise(tail)]
