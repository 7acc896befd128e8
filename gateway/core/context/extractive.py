"""An extractive brief: the sentences worth keeping, in their own words, within a number of tokens.

No language model, no network, deterministic. A sentence is worth more when its words are central to the folded span
and rare in language at large, when it holds hard values (numbers, names, paths, identifiers), when the user said it,
and when it is recent. Sentences of an earlier extractive brief compete with the new ones under their old anchors.

Invariants, each with a test of its own:
  1. The result never takes more than `max_tokens`.
  2. Same input, same bytes.
  3. Every line is anchored and stands in what was folded or in the earlier brief.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.core.context.sentences import split_sentences, words_of

_HARD_VALUE = re.compile(
    r"https?://\S+|[\w.+-]+@[\w-]+\.\w+|(?:[\w.-]*/){1,}[\w.-]+|\b\w*\d[\w.:,%-]*|\b[A-Z][a-z]+(?:\s[A-Z][a-z]+)*"
    r"|\b[A-Z_]{3,}\b|\b\w+_\w+\b|`[^`]+`|\"[^\"]{2,60}\""
)
_ROLE_WEIGHT = {"user": 1.6, "assistant": 1.0, "tool": 0.7, "function": 0.7}
_ANCHOR = re.compile(r"^- \[(\d+) (\w+)\] (.+)$")
_MIN_CHARS = 12
_MAX_SENTENCES_A_TURN = 40
"""A pasted book must not crowd out the conversation around it."""


class Turn(NamedTuple):
    """One folded message: its place among foldable messages from 1, its role and its text."""

    number: int
    role: str
    text: str


class _Candidate(NamedTuple):
    number: int
    role: str
    order: int
    text: str
    was_in_brief: bool


def extract_brief(earlier: str, turns: Sequence[Turn], max_tokens: int, count_tokens: Callable[[str], int]) -> str:
    """The best lines that fit, in the order of the conversation.

    Args:
        earlier: the body of the brief before, "" for none.
        turns: the newly folded messages, oldest first.
        max_tokens: the bound.
        count_tokens: tokens of a text.
    """
    candidates = _candidates(earlier, turns)
    scores = _score(candidates)
    ranked = sorted(range(len(candidates)), key=lambda i: (-scores[i], i))
    chosen: list[int] = []
    seen: set[str] = set()
    left = max_tokens
    for index in ranked:
        if left < 8:
            break
        candidate = candidates[index]
        if candidate.text in seen:
            continue
        cost = count_tokens(_line(candidate) + "\n")
        if cost <= left:
            left -= cost
            seen.add(candidate.text)
            chosen.append(index)
    return "\n".join(_line(candidates[index]) for index in sorted(chosen))


def _line(candidate: _Candidate) -> str:
    return f"- [{candidate.number} {candidate.role}] {candidate.text}" if candidate.number else candidate.text


def _candidates(earlier: str, turns: Sequence[Turn]) -> list[_Candidate]:
    found: list[_Candidate] = []
    for line in earlier.splitlines():
        anchored = _ANCHOR.match(line)
        if anchored:
            found.append(_Candidate(int(anchored[1]), anchored[2], len(found), anchored[3], True))
        elif line.strip():
            found.append(_Candidate(0, "assistant", len(found), line.strip(), True))
    for turn in turns:
        sentences = [s for s in split_sentences(turn.text) if len(s.text) >= _MIN_CHARS]
        if len(sentences) > _MAX_SENTENCES_A_TURN:
            half = _MAX_SENTENCES_A_TURN // 2
            sentences = sentences[:half] + sentences[-half:]
        for sentence in sentences:
            found.append(_Candidate(turn.number, turn.role, len(found), sentence.text, False))
    return found


def _score(candidates: Sequence[_Candidate]) -> list[float]:
    bags = [Counter(words_of(candidate.text)) for candidate in candidates]
    holding: Counter[str] = Counter(word for bag in bags for word in bag)
    total = len(candidates) or 1
    # Words in about a tenth of the sentences say what the span is about; those in one or in most say little.
    value = {
        word: math.log1p(n) * math.log1p(total / n) * (len(word) > 2 or not word.isascii())
        for word, n in holding.items()
    }
    last = max((candidate.number for candidate in candidates), default=1) or 1
    scores = []
    for candidate, bag in zip(candidates, bags, strict=True):
        central = sum(value[word] for word in bag) / math.sqrt(len(bag) + 4)
        hard = min(4, len(_HARD_VALUE.findall(candidate.text)))
        recency = 1 + 0.3 * candidate.number / last
        score = (central + 1.2 * hard) * _ROLE_WEIGHT.get(candidate.role, 1.0) * recency
        scores.append(score * (1.25 if candidate.was_in_brief else 1.0))
    return scores
