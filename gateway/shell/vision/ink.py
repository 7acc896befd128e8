"""What is drawn on a picture of a page besides its text: ruling lines, and figures.

Invariants, each with a test of its own:
  1. Places stand inside the picture.
  2. Text alone gives neither lines nor figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from gateway.core.vision.contents import Rect, Word
from gateway.core.vision.figures import is_text

_RULE_PX = 48
"""A ruling line is at least so long."""
_THICK_PX = 7
_MAX_PLACES = 2000
_JOIN_PX = 13
_MIN_FIGURE_PX = 60
_MIN_SHAPE_PX = 24 + _JOIN_PX
_MIN_INK = 0.02
_DARKER = 0.82
"""Ink is darker than so much of the paper's light."""
_GROUND_PARTS = 24
_GROUND_OFF = 18.0
_GROUND_ROUNDS = 5


class Ink(NamedTuple):
    """What is drawn on a picture."""

    rules: list[Rect]
    pictures: list[Rect]
    shapes: list[Rect]


def straighten(pixels: npt.NDArray[Any], skew: float) -> npt.NDArray[Any]:
    """A picture, turned back by the slope of its lines."""
    if not skew:
        return pixels
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), skew, 1.0)
    return cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def find_ink(pixels: npt.NDArray[Any], words: Sequence[Word]) -> Ink:
    """Ruling lines, figures, and what may be a part of one.

    Args:
        pixels: of the page, upright.
        words: on it; they are no figure.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    dark = (grey < _DARKER * _ground(grey)).astype(np.uint8)
    rules: list[Rect] = []
    for kernel in ((_RULE_PX, 1), (1, _RULE_PX)):
        opened = cv2.morphologyEx(dark, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_RECT, kernel))
        rules.extend(place for place in _places(opened) if min(place.width, place.height) <= _THICK_PX)
    for place in [*rules, *(Rect(word.left, word.top, word.right, word.bottom) for word in words)]:
        left, top, right, bottom = (int(edge) for edge in place.grown(2))
        dark[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 0
    spread = cv2.dilate(dark, np.ones((_JOIN_PX, _JOIN_PX), np.uint8))
    drawn = [
        place.grown(-(_JOIN_PX // 2))
        for place in _places(spread)
        if min(place.width, place.height) >= _MIN_SHAPE_PX and not is_text(place, words)
    ]
    drawn = [place for place in drawn if _ink_share(dark, place) > _MIN_INK]
    pictures = [place for place in drawn if min(place.width, place.height) >= _MIN_FIGURE_PX]
    return Ink(rules, pictures, [place for place in drawn if min(place.width, place.height) < _MIN_FIGURE_PX])


def _ground(grey: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """How light the paper is at each place: a smooth surface through the light parts, for a photo has a shadow."""
    height, width = grey.shape
    rows, columns = min(_GROUND_PARTS, height), min(_GROUND_PARTS, width)
    small = cv2.resize(
        cv2.dilate(grey, np.ones((5, 5), np.uint8)), (columns * 8, rows * 8), interpolation=cv2.INTER_AREA
    )
    parts = small.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3).reshape(rows * columns, 64)
    values = np.percentile(parts, 90, axis=1)
    y, x = (axis.ravel() / max(rows, columns) for axis in np.mgrid[0:rows, 0:columns])
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    kept = np.full(values.shape, True)
    surface = np.full(values.shape, values.max())
    for _ in range(_GROUND_ROUNDS):
        if kept.sum() < terms.shape[1]:
            break
        solved, *_ = np.linalg.lstsq(terms[kept], values[kept], rcond=None)
        surface = terms @ solved
        kept = values > surface - _GROUND_OFF
    return cv2.resize(surface.reshape(rows, columns).astype(np.float32), (width, height))


def _places(mask: npt.NDArray[Any]) -> list[Rect]:
    """The places of what is connected."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    found = []
    for index in range(1, min(count, _MAX_PLACES)):
        x, y, w, h = (int(value) for value in stats[index][:4])
        found.append(Rect(x, y, x + w, y + h))
    return found


def _ink_share(dark: npt.NDArray[Any], place: Rect) -> float:
    left, top, right, bottom = (max(0, int(edge)) for edge in place)
    part = dark[top:bottom, left:right]
    return float(part.mean()) if part.size else 0.0
