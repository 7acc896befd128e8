"""What a page is made of before regions are sized: paragraphs, headings, code, tables and figures, in reading order.

A block is lines of one column that belong together. Columns are found by the gutters that run down between lines
(`rows.py`); what stands between gutters is read column by column, and cut again in the same way.

Invariants, each with a test of its own:
  1. Every line is in exactly one block.
  2. Cutting ends, whatever the lines.
"""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.vision.contents import Rect, bound
from gateway.core.vision.lines import Line
from gateway.core.vision.rows import Span, assign, find_rows, find_runs
from gateway.core.vision.tables import is_table, join_wrapped

_MAX_CUTS = 8
_PARAGRAPH_GAP = 0.55
"""In heights of a line: between paragraphs there is more."""
_LISTING_GAP = 2.5
_HEADING_GROWTH = 1.15
_HEADING_LETTERS = 120
_PROSE_WORDS = 4
_GUTTER = 0.9
_LABEL_SHARE = 0.2
"""A column of labels has no more of the letters."""
_BULLET = re.compile(r"^(?:[•◦▪‣·●○■–—*-]|\(?[0-9]{1,3}[.)]|\(?[a-zA-Z][.)])$")
_CODE_END = re.compile(r"[;{}\\]$|[(\[{,]$|\):?$|^\s*(?:#|//|/\*|\*/)")
_CODE_WORD = re.compile(
    r"^(?:def|class|return|import|from|if|elif|else:?|for|while|try:?|except|with|async|await|function|const|let|var"
    r"|public|private|static|void|int|fn|use|struct|enum|package|func|end|print|#include|select|insert|create|@\w+)\b"
)
_CODE_SIGNS = re.compile(
    r"^(?:def|for|if|elif|else|while|class|try|with)\b.*:$|\w\(|\)\s*[:;{]?$|[=!<>+\-*/]=|=>|->|::|\[\w*\]|^[\]})]"
    r"|\w\.\w+\(|\w = |[;{}]$"
)


class Kind(enum.Enum):
    """What a block is."""

    TEXT = "text"
    HEADING = "heading"
    CODE = "code"
    TABLE = "table"
    FIGURE = "figure"


class Block(NamedTuple):
    """A part of a page.

    Attributes:
        kind: what it is.
        lines: that stand in it; of a figure those that stand in the picture.
        rows: of a table, the lines of each row's cells; else empty.
        place: of it.
        column: which of the page's columns it stands in, counted in reading order.
    """

    kind: Kind
    lines: Sequence[Line]
    rows: Sequence[Sequence[Sequence[Line]]]
    place: Rect
    column: int

    @property
    def left(self) -> float:
        """See `Placed`."""
        return self.place.left

    @property
    def top(self) -> float:
        """See `Placed`."""
        return self.place.top

    @property
    def right(self) -> float:
        """See `Placed`."""
        return self.place.right

    @property
    def bottom(self) -> float:
        """See `Placed`."""
        return self.place.bottom


Item = Line | Block


class _Cutter:
    """Cuts a page's items into blocks in reading order."""

    def __init__(self, body_px: float) -> None:
        self.body_px = body_px
        self.blocks: list[Block] = []
        self._column = 0

    def cut(self, items: Sequence[Item], depth: int) -> None:
        """Add the blocks of these items, which stand in one part of the page."""
        if not items:
            return
        if depth >= _MAX_CUTS:
            self._take_column(items)
            return
        for rows, columns in find_runs(find_rows(items), _GUTTER * self.body_px):
            inside = [item for row in rows for item in row]
            if len(columns) == 1:
                self._take_column(inside)
                continue
            line_rows = [[item for item in row if isinstance(item, Line)] for row in rows]
            if sum(map(len, line_rows)) == len(inside) and is_table(line_rows, columns):
                self._take_table(line_rows, columns)
                continue
            joined = join_labels(line_rows, columns) if sum(map(len, line_rows)) == len(inside) else None
            if joined is not None:
                self.cut(joined, depth + 1)
                continue
            for part in assign(inside, columns):
                self.cut(part, depth + 1)

    def _take_table(self, rows: Sequence[Sequence[Line]], columns: Sequence[Span]) -> None:
        cells = join_wrapped([assign(row, columns) for row in rows])
        lines = [line for row in rows for line in row]
        self._column += 1
        self.blocks.append(Block(Kind.TABLE, lines, cells, bound(lines), self._column))

    def _take_column(self, items: Sequence[Item]) -> None:
        """Items that stand below one another."""
        self._column += 1
        pending: list[Line] = []
        for item in sorted(items, key=lambda item: (item.top, item.left)):
            if isinstance(item, Block):
                self._take_lines(pending)
                pending = []
                self.blocks.append(item._replace(column=self._column))
            else:
                pending.append(item)
        self._take_lines(pending)

    def _take_lines(self, lines: Sequence[Line]) -> None:
        part: list[Line] = []
        for line in lines:
            if part and self._parts(part[-1], line, part):
                self._take_part(part)
                part = []
            part.append(line)
        if part:
            self._take_part(part)

    def _parts(self, before: Line, line: Line, part: Sequence[Line]) -> bool:
        """Whether a paragraph ends between two lines."""
        height = min(before.height, line.height)
        gap = line.top - before.bottom
        if before.is_mono != line.is_mono:
            return True
        if before.is_mono and line.is_mono:
            return gap > _LISTING_GAP * height
        if gap > max(_PARAGRAPH_GAP * height, 1.6 * _usual_gap(part)):
            return True
        if max(before.height, line.height) > _HEADING_GROWTH * height:
            return True
        return before.is_bold != line.is_bold and (gap > 0.2 * height or before.is_bold)

    def _take_part(self, part: list[Line]) -> None:
        kind = Kind.TEXT
        if is_code(part):
            kind = Kind.CODE
        elif self._is_heading(part):
            kind = Kind.HEADING
        self.blocks.append(Block(kind, part, (), bound(part), self._column))

    def _is_heading(self, part: Sequence[Line]) -> bool:
        letters = sum(len(word.text) for line in part for word in line.words)
        if letters > _HEADING_LETTERS or len(part) > 3:
            return False
        is_large = min(line.height for line in part) > _HEADING_GROWTH * self.body_px
        return is_large or all(line.is_bold for line in part)


def join_labels(rows: Sequence[Sequence[Line]], columns: Sequence[Span]) -> list[Line] | None:
    """Rows as lines, where a column only labels the lines beside it, such as numbers of chapters; None if none does."""
    homes = assign([line for row in rows for line in row], columns)
    letters = [sum(len(word.text) for line in home for word in line.words) for home in homes]
    level = {id(line) for row in rows if len(row) > 1 for line in row}
    labels = [
        index
        for index, home in enumerate(homes)
        if letters[index] <= _LABEL_SHARE * sum(letters) and sum(id(line) in level for line in home) >= 0.7 * len(home)
    ]
    if not labels or len(labels) == len(homes):
        return None
    return [Line([word for line in row for word in line.words]) for row in rows]


def _usual_gap(part: Sequence[Line]) -> float:
    if len(part) < 2:
        return 0.0
    gaps = sorted(line.top - before.bottom for before, line in itertools.pairwise(part))
    return max(0.0, gaps[len(gaps) // 2])


def is_code(part: Sequence[Line]) -> bool:
    """Whether lines are a listing: by its font where that is known, and by the shape of what stands there."""
    texts = [line.text() for line in part]
    marked = sum(bool(_CODE_END.search(text) or _CODE_WORD.match(text) or _CODE_SIGNS.search(text)) for text in texts)
    signed = sum(bool(_CODE_SIGNS.search(text)) for text in texts)
    if all(line.is_mono for line in part):
        return signed * 4 >= len(part) or not _is_prose(texts)
    if len(part) < 2 or any(line.is_mono for line in part) or _is_prose(texts):
        return False
    is_indented = max(line.left for line in part) - min(line.left for line in part) > 0.7 * part[0].height
    share = 5 if len(part) > 2 else 10
    return is_indented and marked * 10 >= share * len(part) and signed * 10 >= 4 * len(part)


def _is_prose(texts: Sequence[str]) -> bool:
    words = [word for text in texts for word in text.split()]
    plain = sum(word.strip(".,:;()'\"!?").isalpha() for word in words)
    return len(words) > _PROSE_WORDS and plain * 10 > 8 * len(words)


def starts_item(line: Line) -> bool:
    """Whether a line starts with a bullet or a number."""
    return len(line.words) > 1 and bool(_BULLET.match(line.words[0].text))


def cut_blocks(items: Sequence[Item], body_px: float) -> list[Block]:
    """Blocks in reading order.

    Args:
        items: lines, and the tables and figures that are found already.
        body_px: how high most lines are.
    """
    cutter = _Cutter(body_px)
    cutter.cut(items, 0)
    return _join_listings(cutter.blocks)


def _join_listings(blocks: Sequence[Block]) -> list[Block]:
    """Blocks, listings that a blank line parts as one."""
    joined: list[Block] = []
    for block in blocks:
        before = joined[-1] if joined else None
        if before and before.kind is block.kind is Kind.CODE and before.column == block.column:
            gap = block.lines[0].top - before.lines[-1].bottom
            if gap < _LISTING_GAP * block.lines[0].height:
                lines = [*before.lines, *block.lines]
                joined[-1] = before._replace(lines=lines, place=bound(lines))
                continue
        joined.append(block)
    return joined
