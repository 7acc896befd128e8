"""Pages for tests of the layout: words placed by hand, as a text layer would give them."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.vision.contents import PageContents, Rect, Word
from gateway.core.vision.document import LaidPage, PageSize, RegionType

SIZE = PageSize(width=1190, height=1684)
LINE_PX = 24.0
LETTER_PX = 10.0
PITCH_PX = 28.0


def put(
    text: str,
    left: float,
    top: float,
    height: float = LINE_PX,
    is_mono: bool = False,
    is_bold: bool = False,
) -> list[Word]:
    """A line's words; each space is as wide as a letter."""
    letter = LETTER_PX * height / LINE_PX
    words, at = [], 0
    for part in text.split(" "):
        if part:
            place = (left + at * letter, top, left + (at + len(part)) * letter, top + height)
            words.append(Word(*place, part, is_mono, is_bold))
        at += len(part) + 1
    return words


def put_lines(texts: Sequence[str], left: float, top: float, **looks: bool) -> list[Word]:
    """Lines below one another."""
    return [word for row, text in enumerate(texts) for word in put(text, left, top + row * PITCH_PX, **looks)]


def put_cells(rows: Sequence[Sequence[str]], lefts: Sequence[float], top: float) -> list[Word]:
    """Cells of a table, row by row."""
    return [
        word
        for number, row in enumerate(rows)
        for left, cell in zip(lefts, row, strict=True)
        for word in put(cell, left, top + number * PITCH_PX)
    ]


def grid(xs: Sequence[float], ys: Sequence[float]) -> list[Rect]:
    """The drawn lines of a table."""
    down = [Rect(x, ys[0], x + 1, ys[-1]) for x in xs]
    return [*down, *(Rect(xs[0], y, xs[-1], y + 1) for y in ys)]


def page(
    words: Sequence[Word], rules: Sequence[Rect] = (), pictures: Sequence[Rect] = (), shapes: Sequence[Rect] = ()
) -> PageContents:
    """A page with these on it."""
    return PageContents(SIZE, words, rules, pictures, shapes)


def types_of(laid: LaidPage) -> list[RegionType]:
    """The types of a page's regions, in reading order."""
    return [region.type for region in laid.regions]
