"""The messages that may be recalled, prepared so that many questions can be asked of them.

Between two compactions the folded messages are the same, so their index is made once: which passages hold a term, what
that is worth there, what each takes, who speaks, and under which heading it stands. A question costs then what its
terms hit, and a few passes over one number a passage.

Invariants, each with a test of its own:
  1. A term's passages are exactly those that hold it, in the conversation's order.
  2. What is recalled is the same whether or not a pool went on from another.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from gateway.core.context.recall_index import MessageTerms
from gateway.core.context.recall_memo import MAX_CHARS, RecallMemo

_LINE_TOKENS = 4
"""Number, role and line end of a passage."""
_LABELLED_LINE_TOKENS = 2
"""The same where the text itself names its speaker."""
_MIN_LABELS = 3
_FULL = 1.5
_K1 = 1.2
_B = 0.6
_MESSAGE_BYTES, _PASSAGE_BYTES, _POSTING_BYTES, _REPEAT_BYTES, _TERM_BYTES = 220, 420, 9, 100, 160


class Remembered(NamedTuple):
    """One folded message: its number, its role, what it costs in a prompt, and its record.

    What a memory holds stands among messages under numbers below 0, with a label of its own, and may be less sure.
    """

    number: int
    role: str
    tokens: int
    terms: MessageTerms
    label: str = ""
    confidence: float = 1.0


class Pool:
    """Messages that may be recalled.

    Args:
        messages: oldest first.

    Attributes:
        at_number: where each message stands, by its number.
        passages: of all messages, in order.
        places: where each stands: which message, which part of it.
        numbers: of each passage's message.
        roles: of each passage's message.
        confidences: how sure each passage's message is, 0 to 1.
        said_by: the label of each passage's message.
        alike: the first passage with the same terms, by passage.
        fullness: of a passage: 0 without a term, 1 from half as many again as the mean passage has.
        postings: the passages that hold a term, by the term.
        speakers: labels that come again and again.
        headings: what each message stands under.
        has_headings: whether any stands under anything.
        under: the same for each passage.
        sections: where the passages that a heading holds for begin and end, for each heading with terms.
        sections_with: which of these have a term in their heading, by the term.
        costs: about what each passage takes: its share of its message, and its line.
        memo: what was read and counted for earlier questions.
        size_bytes: about what the index takes beside the records, what the memo may come to hold included.
    """

    def __init__(self, messages: Sequence[Remembered]) -> None:
        self.messages = messages
        self.at_number = {each.number: at for at, each in enumerate(messages)}
        self.passages = [passage for each in messages for passage in each.terms.passages]
        self.places = [(at, part) for at, each in enumerate(messages) for part in range(len(each.terms.passages))]
        self.numbers = [messages[at].number for at, _ in self.places]
        self.roles = [messages[at].role for at, _ in self.places]
        self.confidences = [messages[at].confidence for at, _ in self.places]
        self.said_by = [messages[at].terms.speaker for at, _ in self.places]
        first: dict[tuple[int, ...], int] = {}
        self.alike = [first.setdefault(passage.terms, place) for place, passage in enumerate(self.passages)]
        mean = sum([passage.length for passage in self.passages]) / (len(self.passages) or 1) or 1.0
        self.fullness = [min(1.0, passage.length / (_FULL * mean)) for passage in self.passages]
        self.postings: dict[int, list[int]] = {}
        for place, passage in enumerate(self.passages):
            for term in passage.terms:
                self.postings.setdefault(term, []).append(place)
        counted = Counter([each.terms.speaker for each in messages])
        self.speakers = frozenset(name for name, times in counted.items() if name and times >= _MIN_LABELS)
        self.headings = _headings(messages)
        self.has_headings = any(self.headings)
        self.under = [self.headings[at] for at, _ in self.places]
        self.sections, self.sections_with = _sections(messages)
        self.costs = _costs(messages, self.speakers)
        self.memo = RecallMemo()
        total = len(self.passages)
        self._rarities = [math.log(1 + (total - holding + 0.5) / (holding + 0.5)) for holding in range(total + 1)]
        norms = [_K1 * (1 - _B + _B * passage.length / mean) for passage in self.passages]
        self._once = [(_K1 + 1) / (1 + norm) for norm in norms]
        self._more: dict[int, list[tuple[int, float]]] = {}
        for place, (passage, norm) in enumerate(zip(self.passages, norms, strict=True)):
            for term, times in passage.repeats:
                more = (_K1 + 1) * times / (times + norm) - self._once[place]
                self._more.setdefault(term, []).append((place, more))
        self.size_bytes = (
            _MESSAGE_BYTES * len(messages)
            + _PASSAGE_BYTES * len(self.passages)
            + _TERM_BYTES * (len(self.postings) + len(self.sections_with))
            + _POSTING_BYTES * sum(map(len, self.postings.values()))
            + _REPEAT_BYTES * sum(map(len, self._more.values()))
            + 6 * min(MAX_CHARS, 4 * sum(each.tokens for each in messages))
        )

    def take_over(self, earlier: Pool) -> None:
        """Go on with the lines that were made and counted for another pool, of messages that are the same here."""

        def is_same(number: int) -> bool:
            at, before = self.at_number.get(number), earlier.at_number.get(number)
            if at is None or before is None or self.messages[at].terms is not earlier.messages[before].terms:
                return False  # two texts may have equal records, but not one and the same
            speaker = self.messages[at].terms.speaker
            is_labelled = (speaker in self.speakers) == (speaker in earlier.speakers)
            return is_labelled and self.messages[at] == earlier.messages[before]

        self.memo.take_over(earlier.memo, is_same)

    def rarity_of(self, term: int) -> float:
        """Inverse document frequency of a term that some passage holds."""
        return self._rarities[len(self.postings[term])]

    def bm25(self, worth: Mapping[int, float]) -> list[float]:
        """BM25 of each passage.

        Args:
            worth: of each term: its rarity, times what it counts for whoever asks.
        """
        scores = [0.0] * len(self.passages)
        once = self._once
        for term, value in worth.items():
            for place in self.postings.get(term, ()):
                scores[place] += value * once[place]
            for place, more in self._more.get(term, ()):
                scores[place] += value * more
        return scores


def _headings(messages: Sequence[Remembered]) -> list[str]:
    """A memory's heading holds for that memory, a message's for those that follow as well."""
    current = ""
    headings = []
    for each in messages:
        if each.label:
            headings.append(each.terms.heading)
            continue
        current = each.terms.heading or current
        headings.append(current)
    return headings


def _sections(messages: Sequence[Remembered]) -> tuple[list[tuple[int, int]], dict[int, list[int]]]:
    starts = [0, *accumulate(len(each.terms.passages) for each in messages)]
    heads = [at for at, each in enumerate(messages) if each.terms.heading_terms]
    own = next((at for at, each in enumerate(messages) if not each.label), len(messages))  # memories come first
    ends = [min(end, own) if at < own else end for at, end in pairwise([*heads, len(messages)])]
    holding: dict[int, list[int]] = {}
    for section, at in enumerate(heads):
        for term in messages[at].terms.heading_terms:
            holding.setdefault(term, []).append(section)
    return [(starts[at], starts[end]) for at, end in zip(heads, ends, strict=True)], holding


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
