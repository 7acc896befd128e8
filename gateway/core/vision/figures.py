"""Figures: pictures, and shapes that are drawn near one another.

Invariants, each with a test of its own:
  1. A coloured area behind text is no figure, nor is what the page is printed on.
  2. Pieces that touch are one figure.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.vision.contents import PageContents, Rect, Word, bound
from gateway.core.vision.lines import Line

_MIN_PICTURE_PX = 40
_MIN_DRAWING_PX = 60
_ALONE_PX = 100
"""A shape that stands alone is a figure from this size on."""
_BACKGROUND = 0.9
"""A picture that covers so much of the page is what the page is printed on."""
_PICTURE_GAP_PX = 6.0
_SHAPE_GAP_PX = 24.0
_MAX_PLACES = 600
_MAX_COMPARED = 2_000_000
"""Words times places: a page with more is made to harm, or is no picture."""
_LABEL_REACH = 1.6
_LABEL_LETTERS = 12
_MIN_LABELS = 3
_MAX_WORDS = 80
_TEXT_SHARE = 0.25
"""What words cover to more than this is text on a coloured ground."""


def find_figures(contents: PageContents) -> list[Rect]:
    """Places of figures, from the left."""
    page_area = contents.size.width * contents.size.height
    max_places = min(_MAX_PLACES, _MAX_COMPARED // (len(contents.words) + 1))
    pictures = [place for place in contents.pictures if place.width * place.height < _BACKGROUND * page_area]
    shapes = [
        shape
        for shape in sorted(contents.shapes)[:max_places]
        if shape.width * shape.height < 0.6 * page_area and not is_text(shape, contents.words)
    ]
    drawings = [
        place
        for place, count in _clusters(shapes, _SHAPE_GAP_PX)
        if min(place.width, place.height) >= (_MIN_DRAWING_PX if count > 1 else _ALONE_PX)
    ]
    joined = _clusters([*sorted(pictures)[:max_places], *drawings], _PICTURE_GAP_PX)
    return [
        place
        for place, _ in joined
        if min(place.width, place.height) >= _MIN_PICTURE_PX and not is_text(place, contents.words)
    ]


def is_text(place: Rect, words: Sequence[Word]) -> bool:
    """Whether words cover much of a place, or are as many as no drawing has."""
    inside = [word for word in words if place.holds_middle(word)]
    covered = sum((word.right - word.left) * (word.bottom - word.top) for word in inside)
    return covered > _TEXT_SHARE * place.width * place.height or len(inside) > _MAX_WORDS


def beside_figure(place: Rect, lines: Sequence[Line]) -> list[Line]:
    """Labels that belong to a drawing though they stand beside it, such as those of its axes: several short ones."""
    labels = []
    for line in lines:
        near = place.grown(_LABEL_REACH * line.height)
        is_within = near.left <= line.left and line.right <= near.right and near.top <= line.top
        if is_within and line.bottom <= near.bottom and sum(len(word.text) for word in line.words) <= _LABEL_LETTERS:
            labels.append(line)
    return labels if len(labels) >= _MIN_LABELS else []


def _clusters(places: Sequence[Rect], gap: float) -> list[tuple[Rect, int]]:
    """Places that are nearer than this as one, with how many they were."""
    found: list[tuple[Rect, int]] = []
    for place in sorted(places):
        joined, count = place, 1
        while touching := [one for one in found if joined.grown(gap).touches(one[0])]:
            found = [one for one in found if one not in touching]
            joined = bound([joined, *(other for other, _ in touching)])
            count += sum(number for _, number in touching)
        found.append((joined, count))
    return sorted(found)
