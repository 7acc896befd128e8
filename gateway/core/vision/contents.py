"""What stands on a page before anything is made of it: words, ruling lines and pictures, in pixels.

Pixels are those of the page rendered upright at `RENDER_DPI`; they may be fractions. Whoever reads a page, from its
text layer or by recognition, gives this; the layout (`layout.py`) makes regions of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.vision.document import PageSize


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


class Word(NamedTuple):
    """What stands together without a space.

    Attributes:
        left, top, right, bottom: its place.
        text: never empty.
        size_px: of its font.
        is_mono: all letters of its font are equally wide.
        is_bold: its font is.
        confidence: 0 to 1; of a text layer 1.
    """

    left: float
    top: float
    right: float
    bottom: float
    text: str
    size_px: float
    is_mono: bool = False
    is_bold: bool = False
    confidence: float = 1.0


class PageContents(NamedTuple):
    """All that stands on a page.

    Attributes:
        size: of the page.
        words: in the order in which they were found.
        rules: lines that are drawn, thin in one direction.
        pictures: places of pictures and of drawings.
        has_text_layer: the words are the document's own; else they were recognised.
    """

    size: PageSize
    words: Sequence[Word]
    rules: Sequence[Rect] = ()
    pictures: Sequence[Rect] = ()
    has_text_layer: bool = True
