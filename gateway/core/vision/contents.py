"""What stands on a page before anything is made of it: words, ruling lines and pictures, in pixels.

Pixels are those of the page rendered upright at `RENDER_DPI`; they may be fractions. Whoever reads a page, from its
text layer or by recognition, gives this; the layout (`layout.py`) makes regions of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from gateway.core.vision.document import Box, PageSize

_CUT = 0.7
"""Of the height of most lines: what is lower at an edge was cut."""


class Placed(Protocol):
    """What has a place, by its edges in pixels."""

    @property
    def left(self) -> float:
        """Its first pixel across."""

    @property
    def top(self) -> float:
        """Its first pixel down."""

    @property
    def right(self) -> float:
        """The pixel after its last one across."""

    @property
    def bottom(self) -> float:
        """The pixel after its last one down."""


class Rect(NamedTuple):
    """A place, by its edges."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """In pixels."""
        return self.bottom - self.top

    def holds_middle(self, other: Placed) -> bool:
        """Whether the middle of the other is inside."""
        x, y = (other.left + other.right) / 2, (other.top + other.bottom) / 2
        return self.left <= x <= self.right and self.top <= y <= self.bottom

    def grown(self, by: float) -> Rect:
        """Larger by so much on each side."""
        return Rect(self.left - by, self.top - by, self.right + by, self.bottom + by)

    def touches(self, other: Placed) -> bool:
        """Whether the two share a point."""
        return (
            self.left <= other.right
            and self.right >= other.left
            and self.top <= other.bottom
            and self.bottom >= other.top
        )


class Word(NamedTuple):
    """What stands together without a space.

    Attributes:
        left, top, right, bottom: its place.
        text: never empty, without white space.
        is_mono: all letters of its font are equally wide.
        is_bold: its font is.
        confidence: 0 to 1; of a text layer 1.
    """

    left: float
    top: float
    right: float
    bottom: float
    text: str
    is_mono: bool = False
    is_bold: bool = False
    confidence: float = 1.0


class PageContents(NamedTuple):
    """All that stands on a page.

    Attributes:
        size: of the page.
        words: in the order in which they were found.
        rules: lines that are drawn, thin in one direction.
        pictures: places of pictures.
        shapes: places of what else is drawn: areas and curves.
        has_text_layer: the words are the document's own; else they were recognised.
        turn: by how many degrees, clockwise, the page must be turned for most of its text to stand upright: 0, 90,
            180 or 270.
        skew: by how many degrees, clockwise, the lines of the page slope. All places are those of the page turned back
            by it about its middle.
    """

    size: PageSize
    words: Sequence[Word]
    rules: Sequence[Rect] = ()
    pictures: Sequence[Rect] = ()
    shapes: Sequence[Rect] = ()
    has_text_layer: bool = True
    turn: int = 0
    skew: float = 0.0


def bound(places: Iterable[Placed]) -> Rect:
    """The smallest place that holds them all; at least one is needed."""
    kept = list(places)
    return Rect(
        min(place.left for place in kept),
        min(place.top for place in kept),
        max(place.right for place in kept),
        max(place.bottom for place in kept),
    )


def box_of(place: Placed, size: PageSize) -> Box:
    """The whole pixels of a place that are on the page; at least one."""
    left = min(max(0, int(place.left)), size.width - 1)
    top = min(max(0, int(place.top)), size.height - 1)
    right = min(size.width, max(left + 1, -int(-place.right // 1)))
    bottom = min(size.height, max(top + 1, -int(-place.bottom // 1)))
    return Box(x=left, y=top, w=right - left, h=bottom - top)


def confidence_of(words: Sequence[Word]) -> float:
    """The mean of words, by their letters; 0 of none."""
    letters = sum(len(word.text) for word in words)
    return sum(len(word.text) * word.confidence for word in words) / letters if letters else 0.0


def drop_cut(contents: PageContents) -> PageContents:
    """A part of a page without the pieces of lines that its edges cut through: what is low and at an edge."""
    heights = sorted(word.bottom - word.top for word in contents.words)
    if not heights:
        return contents
    low = _CUT * heights[len(heights) // 2]
    last = contents.size.height - 1
    kept = [word for word in contents.words if word.bottom - word.top >= low or (word.top > 1 and word.bottom < last)]
    return contents._replace(words=kept)


def clip(contents: PageContents, box: Box) -> PageContents:
    """What stands in a part of a page: words by their middle."""
    part = Rect(box.x, box.y, box.x + box.w, box.y + box.h)
    return contents._replace(
        words=[word for word in contents.words if part.holds_middle(word)],
        rules=[rule for rule in contents.rules if part.touches(rule)],
        pictures=(),
        shapes=(),
    )
