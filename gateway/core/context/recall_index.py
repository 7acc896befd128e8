"""What is known of one message's text so that it can be found again; learned once, kept by the message's digest.

A text is cut into passages: a short message is one, a long one is cut at paragraphs, lines and sentences. A passage is
where it stands in the text and which terms it holds; the text itself is not kept, since the request that recalls it
brings it along. A record takes about as many bytes as the text it describes.

Invariants, each with a test of its own:
  1. Passages are in order, do not overlap, and what stands between them is white space.
  2. No passage is longer than `MAX_PASSAGE_BYTES`, and none is empty.
  3. A message has at most `MAX_PASSAGES`; of one that would have more, the middle cannot be found.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec

from gateway.core.context.terms import terms_of

MAX_PASSAGE_BYTES = 560
"""About 130 tokens in most languages, since wide characters have more bytes and more tokens."""
MAX_PASSAGES = 256
_PASSAGE_BYTES = 420
_TERM_BYTES = 12
_WHOLE_BYTES = 800
"""A message up to this long is not cut."""
_heading = re.compile(r"\A\s*\[([^\]\n]{3,80})\][ \t]*\n")
_label = re.compile(r"([^\W\d_][\w .'’-]{0,30}?): ")
_asks = re.compile(r"[?？؟][\"'”’)\]*_ ]*\Z").search
_says_own = re.compile(
    r"\b(?:i|i['’](?:m|ve|d|ll)|my|mine|we|our|us|ich|mein\w*|wir|unser\w*|yo|mi|mis|nosotros|nuestr[oa]s?|je|mon|ma|mes|nous|"
    r"eu|meu|minha|я|мой|моя|мы)\b|我|私|僕|俺|أنا|저는|나는",
    re.IGNORECASE,
).search
_TEXT_CUTS = (
    re.compile(r"\n[ \t\r]*\n\s*"),
    re.compile(r"\n\s*"),
    re.compile(r"(?<=[.!?…])\s+|(?<=[。！？؟।])\s*"),
    re.compile(r"\s+"),
)
"""Where a text is cut, coarse to fine."""


class Passage(msgspec.Struct, frozen=True, gc=False):
    """A part of a message's text.

    Attributes:
        start: where it begins in the text.
        end: where it ends.
        length: how many terms it has, repeats included.
        terms: its different terms, in order of first use; the numbers are shared with all other passages.
        repeats: those that it holds more than once, each with how often.
        only_asks: it is a question and says nothing of who asks.
    """

    start: int
    end: int
    length: int
    terms: tuple[int, ...]
    repeats: tuple[tuple[int, int], ...]
    only_asks: bool


class MessageTerms(msgspec.Struct, frozen=True, gc=False):
    """A message, as far as finding it again goes.

    Attributes:
        speaker: the label that its text starts with ("Ann: ..."), or its `name`, in lower case; "" for none. Only a
            label that comes again and again is taken for a speaker's.
        heading: the bracketed first line, without its brackets: the date of a session, say; "" for none.
        heading_terms: the terms of that.
        passages: its text in parts.
    """

    speaker: str
    heading: str
    heading_terms: frozenset[int]
    passages: tuple[Passage, ...]

    @property
    def size_bytes(self) -> int:
        """About what the record takes in memory, for whoever keeps it."""
        return 400 + sum(_PASSAGE_BYTES + _TERM_BYTES * len(passage.terms) for passage in self.passages)


def learn_terms(text: str, name: str = "") -> MessageTerms:
    """The record of a message.

    Args:
        text: everything in it that can be recalled.
        name: its `name`, "" for none.
    """
    heading = _heading.match(text)
    start = heading.end() if heading else 0
    label = _label.match(text, start)
    spans = list(_passages(text, start, len(text)))
    if len(spans) > MAX_PASSAGES:
        spans = spans[: MAX_PASSAGES // 2] + spans[-MAX_PASSAGES // 2 :]
    return MessageTerms(
        speaker=sys.intern((label[1] if label else name).lower()),
        heading=heading[1] if heading else "",
        heading_terms=frozenset(terms_of(heading[1])) if heading else frozenset(),
        passages=tuple(_learn_passage(text, begin, end) for begin, end in spans),
    )


def is_heading(text: str) -> bool:
    """Whether this, in brackets on the first line of a text, is known as what the text stands under."""
    return _heading.fullmatch(f"[{text}]\n") is not None


def learn_whole(heading: str, text: str, name: str, terms: Sequence[int]) -> MessageTerms | None:
    """The record of a short text below a heading ("[heading]\\n" and the text) whose terms are known; None for one that
    is cut into passages.

    Args:
        heading: of `is_heading`.
        text: below it.
        name: whose it is, or "".
        terms: of the text, repeats included.
    """
    start, end = _trimmed(text, 0, len(text))
    if start == end or len(text.encode("utf-8", "surrogatepass")) > _WHOLE_BYTES:
        return None
    below = len(heading) + len("[]\n")
    label = _label.match(text)
    passage = _passage_of(text[start:end], below + start, below + end, Counter(terms))
    return MessageTerms(
        speaker=sys.intern((label[1] if label else name).lower()),
        heading=heading,
        heading_terms=_heading_terms(heading),
        passages=(passage,),
    )


@lru_cache(maxsize=1024)
def _heading_terms(heading: str) -> frozenset[int]:
    return frozenset(terms_of(heading))


def learn_label(text: str) -> str:
    """The label that a text starts with ("Ann: ..."), below its heading, as spelt; "" for none."""
    heading = _heading.match(text)
    label = _label.match(text, heading.end() if heading else 0)
    return label[1] if label else ""


def _learn_passage(text: str, start: int, end: int) -> Passage:
    said = text[start:end]
    return _passage_of(said, start, end, Counter(terms_of(said)))


def _passage_of(said: str, start: int, end: int, counted: Counter[int]) -> Passage:
    return Passage(
        start=start,
        end=end,
        length=counted.total(),
        terms=tuple(counted),
        repeats=tuple(pair for pair in counted.items() if pair[1] > 1),
        only_asks=bool(_asks(said)) and not _says_own(said),
    )


def _passages(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the passages of text[start:end] begin and end."""
    limit = _WHOLE_BYTES
    if len(text[start:end].encode("utf-8", "surrogatepass")) > limit:
        limit = MAX_PASSAGE_BYTES
    yield from _cut(text, start, end, limit, 0)


def _cut(text: str, start: int, end: int, limit: int, level: int) -> Iterator[tuple[int, int]]:
    """Neighbouring pieces joined as long as they stay within the limit; a piece above it is cut one level finer."""
    start, end = _trimmed(text, start, end)
    if start == end:
        return
    if _bytes_of(text, start, end) <= limit:
        yield start, end
        return
    if level == len(_TEXT_CUTS):
        step = limit // 4
        yield from ((at, min(end, at + step)) for at in range(start, end, step))
        return
    cuts = [found.start() for found in _TEXT_CUTS[level].finditer(text, start, end)]
    open_at, done = start, start
    for cut in [*cuts, end]:
        if _bytes_of(text, open_at, cut) > limit:
            if done > open_at:
                yield from _cut(text, open_at, done, limit, level + 1)
            open_at = done
            if _bytes_of(text, open_at, cut) > limit:
                yield from _cut(text, open_at, cut, limit, level + 1)
                open_at = cut
        done = cut
    if done > open_at:
        yield from _cut(text, open_at, done, limit, level + 1)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _bytes_of(text: str, start: int, end: int) -> int:
    return len(text[start:end].encode("utf-8", "surrogatepass"))
