"""Text cut into sentences and words, in any script, without a language model.

Code fences and quoted lines are told apart, because rules are not taken from what a user pastes.

Invariants, each with a test of its own:
  1. Every sentence stands, letter for letter, in the text; nothing but white space, fence marks and boundaries is lost.
  2. No sentence is longer than `MAX_SENTENCE_CHARS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_CJK = "぀-ヿ㐀-䶿一-鿿가-힯"
_boundary = re.compile(r"[.!?…][\"'”’)\]]?(?=\s)|[。！？؟।](?![」』”’）)])")
"""The end of a sentence within a line."""
_word = re.compile(rf"[{_CJK}]|[^\W_]+(?:[-_./:@'’][^\W_]+)*", re.UNICODE)
_FENCES = ("```", "~~~")
_QUOTES = (">", "|")
_soft_boundary = re.compile(r"[\s,;，；、]")
MAX_SENTENCE_CHARS = 600


class Sentence(NamedTuple):
    """One sentence; `is_own` is False inside code fences, in quoted lines, and in text without sentences."""

    text: str
    is_own: bool


def split_sentences(text: str) -> Iterator[Sentence]:
    """The sentences of a text, in order, white space trimmed; overlong ones come in pieces that nobody wrote so."""
    in_fence = False
    for full_line in text.splitlines():
        line = full_line.strip()
        if line.startswith(_FENCES):
            in_fence = not in_fence
            continue
        is_own = not in_fence and not line.startswith(_QUOTES)
        for stripped in _pieces(line) if is_own else (line,):
            if len(stripped) > MAX_SENTENCE_CHARS:
                yield from (Sentence(part, is_own=False) for part in _cut(stripped))
            elif stripped:
                yield Sentence(stripped, is_own)


def _pieces(line: str) -> list[str]:
    ends = [found.end() for found in _boundary.finditer(line)]
    if not ends:
        return [line]
    return [line[start:end].strip() for start, end in zip([0, *ends], [*ends, len(line)], strict=True)]


def _cut(text: str) -> Iterator[str]:
    """Pieces of an overlong sentence, cut at spaces or commas where there are any."""
    at = 0
    while at < len(text):
        end = at + MAX_SENTENCE_CHARS
        if end < len(text):
            places = [found.end() for found in _soft_boundary.finditer(text, at + MAX_SENTENCE_CHARS // 2, end)]
            end = places[-1] if places else end
        if part := text[at:end].strip():
            yield part
        at = end


def words_as_written(text: str) -> list[str]:
    """The words of a text; Chinese, Japanese and Korean characters count as one word each."""
    return _word.findall(text)


def words_of(text: str) -> list[str]:
    """The same in lower case."""
    return [word.lower() for word in _word.findall(text)]


_paragraph_end = re.compile(r"\n[ \t\r]*\n")
_has_fence = re.compile(r"```|~~~").search  # dropping a fence's mark would turn what it fences inside out
_starts_list = re.compile(r"\s*(?:[-*•·]|\d+[.)])\s").match
_MAX_PARAGRAPH_CHARS = 500
_MIN_PASTED_CHARS = 200


def own_paragraphs(text: str, is_own: Callable[[str], object] | None = None) -> str:
    """A user's text without the paragraphs that look pasted.

    Pasted are long paragraphs among others, and those that one ending in a colon introduces: up to the last paragraph,
    list items aside, if together they are more than a line or two.

    Args:
        text: the message.
        is_own: whether a long paragraph is the user's own all the same.
    """
    paragraphs = _paragraph_end.split(text)
    if len(paragraphs) == 1:
        return text
    introduced = _introduced(paragraphs)
    if sum(len(paragraphs[place]) for place in introduced) < _MIN_PASTED_CHARS:
        introduced = set()
    return "\n\n".join(
        paragraph
        for place, paragraph in enumerate(paragraphs)
        if _has_fence(paragraph)
        or (place not in introduced and (len(paragraph) <= _MAX_PARAGRAPH_CHARS or (is_own and is_own(paragraph))))
    )


def _introduced(paragraphs: list[str]) -> set[int]:
    """The places of paragraphs after one that ends in a colon, less list items and the last paragraph."""
    first = next((place for place, each in enumerate(paragraphs) if each.rstrip().endswith((":", "："))), None)
    if first is None:
        return set()
    return {place for place in range(first + 1, len(paragraphs) - 1) if not _starts_list(paragraphs[place])}
