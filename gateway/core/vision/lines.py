"""Lines of words: what stands on one row without a wide gap.

Words come in the document's order, which mostly is the reader's; so a line is grown from words that follow one another,
and only then are pieces of one row put together. A gap wider than a letter is high parts two lines: of two columns, or
of two cells of a table. Where letters are equally wide, columns are made with spaces, and gaps part less.

Invariants, each with a test of its own:
  1. Every word is in exactly one line.
  2. Between letters of Chinese and Japanese no space is written.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

from gateway.core.vision.contents import Word

_WIDE_GAP = 1.0
"""In heights of a word."""
_WIDE_GAP_RECOGNISED = 0.7
_WIDE_GAP_MONO = 6.0
_BACK = 0.6
"""A word may start so many heights before the one before it ends: slanted letters and kerning overlap."""
_OVERLAP = 0.5
_LATEST = 24
"""So many lines of a row may be gone on with, those that grew last: a page that is made to harm has thousands."""
_MONO_SHARE = 0.85
_EVEN_FROM, _EVEN_TO = 0.72, 1.22
_FIRST_CJK = "\u2e80"


class Line:
    """Words of one row, left to right.

    Attributes:
        words: never empty.
        left, top, right, bottom: its place.
        is_mono: nearly all of its letters are of fonts whose letters are equally wide.
        is_bold: all of its words are bold.
    """

    __slots__ = ("bottom", "is_bold", "is_mono", "left", "right", "top", "words")

    def __init__(self, words: Sequence[Word]) -> None:
        self.words = sorted(words, key=_left_of)
        self.left = min(word.left for word in words)
        self.top = min(word.top for word in words)
        self.right = max(word.right for word in words)
        self.bottom = max(word.bottom for word in words)
        mono = sum(len(word.text) for word in words if word.is_mono)
        self.is_mono = mono > _MONO_SHARE * sum(len(word.text) for word in words)
        self.is_bold = all(word.is_bold for word in words)

    @property
    def height(self) -> float:
        """In pixels."""
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        """Half way down."""
        return (self.top + self.bottom) / 2

    def text(self) -> str:
        """What it says."""
        return join_words(self.words)


def even_out(lines: Sequence[Line], body_px: float) -> None:
    """Give lines that were recognised one height, where they differ from most lines by no more than is chance.

    How high a recognised line is depends on which letters it has; what is made of lines compares heights.
    """
    for line in lines:
        if _EVEN_FROM * body_px <= line.height <= _EVEN_TO * body_px:
            middle = line.middle
            line.top, line.bottom = middle - body_px / 2, middle + body_px / 2


def _left_of(word: Word) -> float:
    return word.left


def is_cjk(letter: str) -> bool:
    """Whether this is a letter or a sign that is written without spaces around."""
    return "⺀" <= letter <= "鿿" or "豈" <= letter <= "﫿" or "︰" <= letter <= "﹏" or "！" <= letter <= "｠"


def join_words(words: Sequence[Word]) -> str:
    """Words with spaces between, except between letters that are written without."""
    parts = [words[0].text]
    for before, word in itertools.pairwise(words):
        if word.text[0] < _FIRST_CJK or not (is_cjk(before.text[-1]) and is_cjk(word.text[0])):
            parts.append(" ")
        parts.append(word.text)
    return "".join(parts)


def _follows(before: Word, word: Word, wide: float) -> bool:
    """Whether a word goes on with the line that ends with the one before."""
    lower, higher = before.bottom - before.top, word.bottom - word.top
    height = max(1.0, min(lower, higher))
    if min(before.bottom, word.bottom) - max(before.top, word.top) < _OVERLAP * height:
        return False
    wide = _WIDE_GAP_MONO if before.is_mono and word.is_mono else wide
    gap = word.left - before.right
    return -_BACK * height <= gap <= wide * max(lower, higher)


def find_lines(words: Sequence[Word], has_text_layer: bool = True) -> list[Line]:
    """The lines of a page's words, in the order in which they start in the document.

    Args:
        words: of a page.
        has_text_layer: they are the document's own. Words that were recognised apart stand apart: a smaller gap parts.
    """
    wide = _WIDE_GAP if has_text_layer else _WIDE_GAP_RECOGNISED
    chains: list[list[Word]] = []
    for word in words:
        if chains and _follows(chains[-1][-1], word, wide):
            chains[-1].append(word)
        else:
            chains.append([word])
    return [Line(chain) for chain in _joined(chains, wide)]


def _joined(chains: list[list[Word]], wide: float) -> list[list[Word]]:
    """Chains of which one goes on with another, put together."""
    ends: defaultdict[int, list[int]] = defaultdict(list)
    pitch = max(4.0, sorted(chain[0].bottom - chain[0].top for chain in chains)[len(chains) // 2]) if chains else 4.0
    order = sorted(range(len(chains)), key=lambda index: chains[index][0].left)
    home: dict[int, int] = {}
    for index in order:
        first = chains[index][0]
        row = int((first.top + first.bottom) / 2 / pitch)
        candidates = [other for near in (row - 1, row, row + 1) for other in ends[near][-_LATEST:]]
        fitting = [other for other in candidates if _follows(chains[other][-1], first, wide)]
        if fitting:
            target = max(fitting, key=lambda other: chains[other][-1].right)
            chains[target].extend(chains[index])
            home[index] = target
            ends[row].append(target)
        else:
            home[index] = index
            ends[row].append(index)
    return [chain for index, chain in enumerate(chains) if home[index] == index]
