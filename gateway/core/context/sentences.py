"""Text cut into sentences and words, in any script, without a language model.

Code fences and quoted lines are told apart, because rules are not taken from what a user pastes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_CJK = "぀-ヿ㐀-䶿一-鿿가-힯"
_boundary = re.compile(r"(?<=[.!?…])(?=\s)|(?<=[.!?…][\"'”’)\]])(?=\s)|(?<=[。！？؟।])")
_word = re.compile(rf"[{_CJK}]|[^\W_]+(?:[-_./:@'’][^\W_]+)*", re.UNICODE)
_fence = re.compile(r"^\s*(```|~~~)")
_quoted = re.compile(r"^\s*(>|\|)")
MAX_SENTENCE_CHARS = 600


class Sentence(NamedTuple):
    """One sentence; `is_own` is False inside code fences and quoted lines."""

    text: str
    is_own: bool


def split_sentences(text: str) -> Iterator[Sentence]:
    """The sentences of a text, in order, white space trimmed; overlong ones are cut at `MAX_SENTENCE_CHARS`."""
    in_fence = False
    for line in text.splitlines():
        if _fence.match(line):
            in_fence = not in_fence
            continue
        is_own = not in_fence and not _quoted.match(line)
        if not is_own:
            if stripped := line.strip():
                yield Sentence(stripped[:MAX_SENTENCE_CHARS], is_own=False)
            continue
        for piece in _boundary.split(line):
            if stripped := piece.strip():
                yield Sentence(stripped[:MAX_SENTENCE_CHARS], is_own=True)


def words_of(text: str) -> list[str]:
    """Lower-case words; Chinese, Japanese and Korean characters count as one word each."""
    return [found[0].lower() for found in _word.finditer(text)]
