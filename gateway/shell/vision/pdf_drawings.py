"""What is drawn on a page of a PDF besides its text: ruling lines, pictures, and shapes.

Invariants, each with a test of its own:
  1. What is drawn inside forms stands where it is shown.
  2. However much is drawn, no more than a fixed number of objects is looked at.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pypdfium2
from pypdfium2 import raw

from gateway.core.vision.contents import Rect
from gateway.core.vision.document import PageSize

_GRID = 1 << 20
"""Steps of the device that places are asked for on: pdfium tells them as whole numbers."""
_MAX_OBJECTS = 20_000
_MAX_DEPTH = 6
_MAX_SEGMENTS = 40
"""A path of more is a shape, whatever it looks like."""
_THIN_PX = 4.0
"""A drawing no thicker is a ruling line."""


class Frame:
    """From the page's own coordinates to pixels of the page as it is shown."""

    def __init__(self, page: pypdfium2.PdfPage, size: PageSize) -> None:
        x, y = ctypes.c_double(), ctypes.c_double()

        def place(device_x: int, device_y: int) -> tuple[float, float]:
            raw.FPDF_DeviceToPage(page.raw, 0, 0, _GRID, _GRID, 0, device_x, device_y, ctypes.byref(x), ctypes.byref(y))
            return x.value, y.value

        self._x0, self._y0 = place(0, 0)
        right_x, right_y = place(_GRID, 0)
        down_x, down_y = place(0, _GRID)
        across = (right_x - self._x0, right_y - self._y0)
        down = (down_x - self._x0, down_y - self._y0)
        area = across[0] * down[1] - across[1] * down[0] or 1.0
        self._to_x = (down[1] / area * size.width, -down[0] / area * size.width)
        self._to_y = (-across[1] / area * size.height, across[0] / area * size.height)

    def rect(self, x0: float, y0: float, x1: float, y1: float) -> Rect:
        """A rectangle, turned as the page is."""
        ax, ay = self._point(x0, y0)
        bx, by = self._point(x1, y1)
        return Rect(min(ax, bx), min(ay, by), max(ax, bx), max(ay, by))

    def turn(self, angle: float) -> int:
        """By how many degrees, clockwise, the page must be turned for text to stand upright that runs at this angle.

        Args:
            angle: radians, clockwise, in the page's own coordinates, where y grows upwards.
        """
        across = self._to_x[0] * math.cos(angle) - self._to_x[1] * math.sin(angle)
        down = self._to_y[0] * math.cos(angle) - self._to_y[1] * math.sin(angle)
        if abs(across) >= abs(down):
            return 0 if across >= 0 else 180
        return 270 if down > 0 else 90

    def _point(self, x: float, y: float) -> tuple[float, float]:
        x, y = x - self._x0, y - self._y0
        return x * self._to_x[0] + y * self._to_x[1], x * self._to_y[0] + y * self._to_y[1]


class Drawn(NamedTuple):
    """What is drawn on a page."""

    rules: list[Rect]
    pictures: list[Rect]
    shapes: list[Rect]


def find_drawn(page: pypdfium2.PdfPage, frame: Frame) -> Drawn:
    """What is drawn on a page."""
    drawn = Drawn([], [], [])
    for object_, matrix in _objects(page):
        _take_object(object_, matrix, frame, drawn)
    return drawn


_Matrix = tuple[float, float, float, float, float, float]
_IDENTITY: _Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def _objects(page: pypdfium2.PdfPage) -> Iterator[tuple[Any, _Matrix]]:
    """The paths and pictures of a page, with those inside forms, and what their coordinates are multiplied with."""
    left = _MAX_OBJECTS
    pending = [
        (raw.FPDFPage_GetObject(page.raw, index), _IDENTITY, 0)
        for index in range(min(left, raw.FPDFPage_CountObjects(page.raw)))
    ]
    pending.reverse()
    while pending and left > 0:
        left -= 1
        object_, matrix, depth = pending.pop()
        kind = raw.FPDFPageObj_GetType(object_)
        if kind in (raw.FPDF_PAGEOBJ_PATH, raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_SHADING):
            yield object_, matrix
        elif kind == raw.FPDF_PAGEOBJ_FORM and depth < _MAX_DEPTH:
            own = raw.FS_MATRIX()
            raw.FPDFPageObj_GetMatrix(object_, ctypes.byref(own))
            inner = _multiply((own.a, own.b, own.c, own.d, own.e, own.f), matrix)
            count = min(left, raw.FPDFFormObj_CountObjects(object_))
            pending.extend((raw.FPDFFormObj_GetObject(object_, index), inner, depth + 1) for index in range(count))


def _multiply(one: _Matrix, two: _Matrix) -> _Matrix:
    return (
        one[0] * two[0] + one[1] * two[2],
        one[0] * two[1] + one[1] * two[3],
        one[2] * two[0] + one[3] * two[2],
        one[2] * two[1] + one[3] * two[3],
        one[4] * two[0] + one[5] * two[2] + two[4],
        one[4] * two[1] + one[5] * two[3] + two[5],
    )


def _take_object(object_: Any, matrix: _Matrix, frame: Frame, drawn: Drawn) -> None:
    """Add a path or a picture to what it is."""
    edges = [ctypes.c_float() for _ in range(4)]
    if not raw.FPDFPageObj_GetBounds(object_, *(ctypes.byref(edge) for edge in edges)):
        return
    x0, y0, x1, y1 = (edge.value for edge in edges)
    place = _turned(frame, matrix, x0, y0, x1, y1)
    if raw.FPDFPageObj_GetType(object_) != raw.FPDF_PAGEOBJ_PATH:
        drawn.pictures.append(place)
    elif min(place.width, place.height) <= _THIN_PX:
        drawn.rules.append(place)
    else:
        straight = _straight_rules(object_, matrix, frame)
        if straight is None:
            drawn.shapes.append(place)
        else:
            drawn.rules.extend(straight)


def _straight_rules(object_: Any, matrix: _Matrix, frame: Frame) -> list[Rect] | None:
    """The lines that a path strokes; None where it fills an area, or holds what runs neither across nor down."""
    fill, stroke = ctypes.c_int(), ctypes.c_int()
    raw.FPDFPath_GetDrawMode(object_, ctypes.byref(fill), ctypes.byref(stroke))
    count = raw.FPDFPath_CountSegments(object_)
    if not stroke.value or fill.value or count > _MAX_SEGMENTS:
        return None
    own = raw.FS_MATRIX()
    raw.FPDFPageObj_GetMatrix(object_, ctypes.byref(own))
    placed = _multiply((own.a, own.b, own.c, own.d, own.e, own.f), matrix)
    rules: list[Rect] = []
    start = last = (0.0, 0.0)
    x, y = ctypes.c_float(), ctypes.c_float()
    for index in range(count):
        segment = raw.FPDFPath_GetPathSegment(object_, index)
        kind = raw.FPDFPathSegment_GetType(segment)
        raw.FPDFPathSegment_GetPoint(segment, ctypes.byref(x), ctypes.byref(y))
        point = (x.value, y.value)
        if kind == raw.FPDF_SEGMENT_MOVETO:
            start = last = point
            continue
        if kind != raw.FPDF_SEGMENT_LINETO:
            return None
        ends = [(last, point)]
        if raw.FPDFPathSegment_GetClose(segment):
            ends.append((point, start))
        for one, two in ends:
            rule = _turned(frame, placed, *one, *two)
            if min(rule.width, rule.height) > _THIN_PX:
                return None
            rules.append(rule)
        last = point
    return rules


def _turned(frame: Frame, matrix: _Matrix, x0: float, y0: float, x1: float, y1: float) -> Rect:
    if matrix != _IDENTITY:
        corners = [
            (x * matrix[0] + y * matrix[2] + matrix[4], x * matrix[1] + y * matrix[3] + matrix[5])
            for x in (x0, x1)
            for y in (y0, y1)
        ]
        x0, x1 = min(x for x, _ in corners), max(x for x, _ in corners)
        y0, y1 = min(y for _, y in corners), max(y for _, y in corners)
    return frame.rect(x0, y0, x1, y1)
