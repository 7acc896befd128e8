"""The messages that may be recalled, prepared so that many questions can be asked of them.

Between two compactions the folded messages are the same, so their index is made once: which passages hold a term, what
each takes, who speaks, and under which heading it stands.

Invariants, each with a test of its own:
  1. A term's passages are exactly those that hold it, in the conversation's order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.core.context.recall_index import MessageTerms

_LINE_TOKENS = 4
"""Number, role and line end of a passage."""
_LABELLED_LINE_TOKENS = 2
"""The same where the text itself names its speaker."""
_MIN_LABELS = 3
_MESSAGE_BYTES, _PASSAGE_BYTES, _POSTING_BYTES, _TERM_BYTES = 120, 180, 9, 160
MAX_TEXT_CHARS = 65_536
"""Of recalled messages, what a pool holds as text: a few times what fits a prompt."""


class Remembered(NamedTuple):
    """One folded message: its number, its role, what it costs in a prompt, and its record."""

    number: int
    role: str
    tokens: int
    terms: MessageTerms


class Pool:
    """Messages that may be recalled.

    Args:
        messages: oldest first.

    Attributes:
        passages: of all messages, in order.
        places: where each stands: which message, which part of it.
        mean_length: of the passages, in terms.
        postings: the passages that hold a term, by the term.
        speakers: labels that come again and again.
        headings: what each message stands under.
        costs: about what each passage takes: its share of its message, and its line.
        size_bytes: about what the index takes beside the records, the texts that it may come to hold included.
    """

    def __init__(self, messages: Sequence[Remembered]) -> None:
        self.messages = messages
        self.passages = [passage for each in messages for passage in each.terms.passages]
        self.places = [(at, part) for at, each in enumerate(messages) for part in range(len(each.terms.passages))]
        self.mean_length = sum([passage.length for passage in self.passages]) / (len(self.passages) or 1) or 1.0
        self.postings: dict[int, list[int]] = {}
        for place, passage in enumerate(self.passages):
            for term in passage.terms:
                self.postings.setdefault(term, []).append(place)
        counted = Counter([each.terms.speaker for each in messages])
        self.speakers = frozenset(name for name, times in counted.items() if name and times >= _MIN_LABELS)
        self.headings = _headings(messages)
        self.costs = _costs(messages, self.speakers)
        held = sum(map(len, self.postings.values()))
        self.size_bytes = (
            _MESSAGE_BYTES * len(messages)
            + _PASSAGE_BYTES * len(self.passages)
            + _TERM_BYTES * len(self.postings)
            + _POSTING_BYTES * held
            + 2 * min(MAX_TEXT_CHARS, 4 * sum(each.tokens for each in messages))
        )
        self._texts: dict[int, str] = {}
        self._text_chars = 0

    def text_of(self, number: int, read: Callable[[int], str]) -> str:
        """The text of a message; one that is recalled once is often recalled again, so it is read once.

        Two threads may read one twice; each has the right text, and the bound may then be passed by one.

        Args:
            number: of the message.
            read: reads it.
        """
        text = self._texts.get(number)
        if text is None:
            text = read(number)
            if self._text_chars + len(text) <= MAX_TEXT_CHARS:
                self._text_chars += len(text)
                self._texts[number] = text
        return text


def _headings(messages: Sequence[Remembered]) -> list[str]:
    current = ""
    headings = []
    for each in messages:
        current = each.terms.heading or current
        headings.append(current)
    return headings


def _costs(messages: Sequence[Remembered], speakers: frozenset[str]) -> list[int]:
    costs: list[int] = []
    for each in messages:
        passages = each.terms.passages
        line = _LABELLED_LINE_TOKENS if each.terms.speaker in speakers else _LINE_TOKENS
        if len(passages) == 1:
            costs.append(line + each.tokens)
        elif passages:
            rate = each.tokens / (passages[-1].end - passages[0].start)
            costs += [line + math.ceil(rate * (passage.end - passage.start)) for passage in passages]
    return costs
