"""Tables: by the lines that are drawn around their cells, or by cells that stand below one another.

Invariants, each with a test of its own:
  1. Every line inside a drawn table is in exactly one of its cells.
  2. Two columns of running text are no table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.vision.contents import Rect, Word, bound
from gateway.core.vision.lines import Line
from gateway.core.vision.rows import Span, assign, find_rows, merge_spans

_NEAR_PX = 6.0
"""Drawn lines that nearly meet do."""
_MIN_SIDE_PX = 24.0
_MAX_RULES = 3000
_LONG_CELL = 45
_PROSE_CELL = 22


class DrawnTable(NamedTuple):
    """A table whose lines are drawn.

    Attributes:
        place: of it.
        across: where lines run from left to right: y, from the top.
        down: where lines run from top to bottom: x, from the left; fewer than three where only rows are ruled.
    """

    place: Rect
    across: Sequence[float]
    down: Sequence[float]


def find_drawn(rules: Sequence[Rect]) -> list[DrawnTable]:
    """Tables by their ruling lines: groups that touch one another, and else lines of the same extent."""
    groups = _groups([rule for rule in rules if max(rule.width, rule.height) > _NEAR_PX][:_MAX_RULES])
    tables, loose = [], []
    for group in groups:
        across = _distinct([(rule.top + rule.bottom) / 2 for rule in group if rule.width > rule.height])
        down = _distinct([(rule.left + rule.right) / 2 for rule in group if rule.width <= rule.height])
        place = bound(group)
        if len(across) >= 2 and len(down) >= 2 and len(across) + len(down) > 4:
            tables.append(DrawnTable(place, across, down))
        elif not down:
            loose.append(place)
    return tables + _between(loose)


def _groups(rules: list[Rect]) -> list[list[Rect]]:
    """Rules that meet, directly or by others."""
    order = sorted(rules, key=lambda rule: rule.top)
    home = list(range(len(order)))

    def root(index: int) -> int:
        while home[index] != index:
            home[index] = home[home[index]]
            index = home[index]
        return index

    active: list[int] = []
    for index, rule in enumerate(order):
        near = rule.grown(_NEAR_PX / 2)
        active = [other for other in active if order[other].bottom + _NEAR_PX >= rule.top]
        for other in active:
            if near.touches(order[other].grown(_NEAR_PX / 2)):
                home[root(other)] = root(index)
        active.append(index)
    found: dict[int, list[Rect]] = {}
    for index, rule in enumerate(order):
        found.setdefault(root(index), []).append(rule)
    return list(found.values())


def _between(loose: Sequence[Rect]) -> list[DrawnTable]:
    """Tables with lines above and below only: lines of the same extent, one below the other."""
    by_extent: dict[tuple[int, int], list[Rect]] = {}
    for rule in loose:
        if rule.width > 4 * _MIN_SIDE_PX:
            by_extent.setdefault((round(rule.left / 8), round(rule.right / 8)), []).append(rule)
    return [
        DrawnTable(bound(same), _distinct([(rule.top + rule.bottom) / 2 for rule in same]), ())
        for same in by_extent.values()
        if len(same) >= 3
    ]


def _distinct(places: Sequence[float]) -> list[float]:
    found: list[float] = []
    for place in sorted(places):
        if not found or place - found[-1] > _NEAR_PX:
            found.append(place)
    return found


def take_cells(table: DrawnTable, lines: Sequence[Line]) -> list[list[list[Line]]] | None:
    """A drawn table's cells, row by row, with the lines of each.

    Args:
        table: its lines.
        lines: what stands inside.

    Returns:
        The rows; None where there are not two rows and two columns of something: it is a frame.
    """
    if not lines:
        return None
    height = sorted(line.height for line in lines)[len(lines) // 2]
    lines = _parted(lines, table.down) if len(table.down) >= 3 else list(lines)
    columns = _columns(table, lines, height)
    bands = list(zip(table.across, table.across[1:], strict=False))
    homes: list[list[Line]] = [[] for _ in bands]
    for line in lines:
        homes[_band_of(line.middle, bands)].append(line)
    rows: list[list[list[Line]]] = []
    has_ruled_rows = len(table.down) >= 3 and len(bands) > 2
    for home in homes:
        if not home:
            continue
        if has_ruled_rows:
            rows.append([sorted(cell, key=_reading) for cell in assign(home, columns)])
        else:
            rows.extend(join_wrapped([assign(row, columns) for row in find_rows(home)]))
    filled = sum(sum(map(bool, row)) >= 2 for row in rows)
    return rows if len(columns) >= 2 and len(rows) >= 2 and filled >= 1 else None


def _columns(table: DrawnTable, lines: Sequence[Line], height: float) -> list[Span]:
    if len(table.down) >= 3:
        return [Span(left, right) for left, right in zip(table.down, table.down[1:], strict=False)]
    rows = find_rows(lines)
    wide = [row for row in rows if len(row) > 1] or rows
    return merge_spans([Span(line.left, line.right) for row in wide for line in row], 0.5 * height)


def _parted(lines: Sequence[Line], down: Sequence[float]) -> list[Line]:
    """Lines, parted where a ruling line runs between two of their words."""
    parted: list[Line] = []
    for line in lines:
        homes: dict[int, list[Word]] = {}
        for word in line.words:
            middle = (word.left + word.right) / 2
            homes.setdefault(sum(edge < middle for edge in down), []).append(word)
        parted.extend(Line(words) for words in homes.values())
    return parted


def _band_of(middle: float, bands: Sequence[tuple[float, float]]) -> int:
    for index, (_, bottom) in enumerate(bands):
        if middle < bottom:
            return index
    return len(bands) - 1


def _reading(line: Line) -> tuple[float, float]:
    return line.top, line.left


def join_wrapped(rows: Sequence[list[list[Line]]]) -> list[list[list[Line]]]:
    """Rows, those that only go on with a cell of the row above put to it: nothing stands in their first column."""
    joined: list[list[list[Line]]] = []
    for row in rows:
        filled = [index for index, cell in enumerate(row) if cell]
        if (
            joined
            and filled
            and filled[0] > 0
            and len(filled) < len(row) - 1 + (len(row) == 2)
            and _is_close(joined[-1], row)
        ):
            joined[-1] = [[*above, *cell] for above, cell in zip(joined[-1], row, strict=True)]
        else:
            joined.append(row)
    return joined


def _is_close(above: Sequence[Sequence[Line]], row: Sequence[Sequence[Line]]) -> bool:
    bottom = max(line.bottom for cell in above for line in cell)
    top = min(line.top for cell in row for line in cell)
    height = min(line.height for cell in row for line in cell)
    return top - bottom < 0.4 * height


def is_table(rows: Sequence[Sequence[Line]], columns: Sequence[Span]) -> bool:
    """Whether lines that stand between gutters are a table, and not columns of text.

    Args:
        rows: the lines, row by row.
        columns: between which there are gutters.
    """
    lines = [line for row in rows for line in row]
    if any(line.is_mono for line in lines) and sum(line.is_mono for line in lines) * 4 > 3 * len(lines):
        return False
    full = sum(len(row) >= 2 for row in rows)
    if full < 2 or full * 2 < len(rows) or (len(columns) == 2 and full < 3):
        return False
    lengths = sorted(sum(len(word.text) + 1 for word in line.words) for line in lines)
    if lengths[len(lengths) // 2] > _LONG_CELL:
        return False
    homes = assign(lines, columns)
    return not sum(map(_is_running, homes, columns)) * 2 > len(columns)


def _is_running(lines: Sequence[Line], column: Span) -> bool:
    """Whether a column's lines are running text: most of them reach both its edges, and are long."""
    if len(lines) < 3:
        return False
    width = max(1.0, column.right - column.left)
    full = sum((line.right - line.left) > 0.8 * width for line in lines)
    letters = sum(len(word.text) + 1 for line in lines for word in line.words)
    return 2 * full > len(lines) and letters > _PROSE_CELL * len(lines)
