"""Rows of lines that stand beside one another, and the gutters that run down between them.

Invariants, each with a test of its own:
  1. Every line is in exactly one row, and every row in exactly one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from gateway.core.vision.contents import Placed

PlacedT = TypeVar("PlacedT", bound=Placed)


class Span(NamedTuple):
    """From one x to another."""

    left: float
    right: float


def find_rows(items: Sequence[PlacedT]) -> list[list[PlacedT]]:
    """Rows from the top, each from the left: what overlaps by more than half with the row's first item."""
    rows: list[list[PlacedT]] = []
    for item in sorted(items, key=lambda item: (item.top + item.bottom, item.left)):
        if rows:
            first = rows[-1][0]
            overlap = min(first.bottom, item.bottom) - max(first.top, item.top)
            low, high = sorted((first.bottom - first.top, item.bottom - item.top))
            if overlap > 0.5 * low and (high < 3 * low or overlap > 0.5 * high):
                rows[-1].append(item)
                continue
        rows.append([item])
    for row in rows:
        row.sort(key=lambda item: item.left)
    return rows


def merge_spans(spans: Sequence[Span], gap: float) -> list[Span]:
    """Spans from the left, those that are nearer than this as one."""
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.left - merged[-1].right < gap:
            merged[-1] = Span(merged[-1].left, max(merged[-1].right, span.right))
        else:
            merged.append(span)
    return merged


def find_runs(rows: Sequence[list[PlacedT]], gap: float) -> list[tuple[list[list[PlacedT]], list[Span]]]:
    """Rows that follow one another, together as long as a gutter runs down between them, or as none does.

    Args:
        rows: from the top.
        gap: how wide a gutter is at least.

    Returns:
        Each run's rows, and its columns; one column where there is no gutter.
    """
    runs: list[tuple[list[list[PlacedT]], list[Span]]] = []
    for row in rows:
        own = merge_spans([Span(item.left, item.right) for item in row], gap)
        if runs:
            kept, columns = runs[-1]
            together = merge_spans([*columns, *own], gap)
            is_same = len(together) > 1 or (len(columns) == 1 and len(own) == 1)
            if is_same and not _loses(columns, together, kept):
                kept.append(row)
                runs[-1] = (kept, together)
                continue
        runs.append(([row], own))
    return [run for run in runs if run[0]]


def _loses(columns: Sequence[Span], together: Sequence[Span], rows: Sequence[object]) -> bool:
    """Whether a run of several columns would lose most of them to one more row: a table ends there."""
    return len(rows) >= 3 and len(columns) >= 3 and len(together) < (len(columns) + 1) // 2 + 1


def assign(items: Sequence[PlacedT], columns: Sequence[Span]) -> list[list[PlacedT]]:
    """Items by the column that holds most of them."""
    homes: list[list[PlacedT]] = [[] for _ in columns]
    for item in items:
        best = max(
            range(len(columns)),
            key=lambda index: min(item.right, columns[index].right) - max(item.left, columns[index].left),
        )
        homes[best].append(item)
    return homes
