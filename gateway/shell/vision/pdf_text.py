"""What stands on a page of a PDF, by pdfium: its words with their fonts, ruling lines, pictures.

pdfium says where words end: it puts spaces and line ends, also where the document only leaves a gap. A word's place is
that of its first and last letter, and its font that of its first: calls of pdfium are what reading a page costs.

Invariants, each with a test of its own:
  1. Places are those of the page as it is shown, whatever its rotation and its boxes.
  2. Text that is not shown, such as the layer under a scan, is words as well.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from typing import Any

import pypdfium2
from pypdfium2 import raw

from gateway.core.vision.contents import PageContents, Rect, Word
from gateway.core.vision.document import PageSize

_GRID = 1 << 20
"""Steps of the device that places are asked for on: pdfium tells them as whole numbers."""
_MAX_OBJECTS = 20_000
_MAX_DEPTH = 6
_MAX_SEGMENTS = 64
_THIN_PX = 4.0
"""A drawing no thicker is a ruling line."""
_REPLACEMENT = 0xFFFD
_MONO_NAMES = ("courier", "mono", "consolas", "menlo", "monaco", "typewriter", "cmtt", "inconsolata", "fixed", "code")
_BOLD_NAMES = ("bold", "black", "heavy", "semibold", "demi")
_LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ft", "ﬆ": "st"}
_TRANSLATED = str.maketrans({**_LIGATURES, "\u00ad": "-", "\u0002": "-", "\ufffe": "-", "\u200b": "", "\x00": ""})


class _Frame:
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

    def _point(self, x: float, y: float) -> tuple[float, float]:
        x, y = x - self._x0, y - self._y0
        return x * self._to_x[0] + y * self._to_x[1], x * self._to_y[0] + y * self._to_y[1]


def read_contents(page: pypdfium2.PdfPage, size: PageSize) -> PageContents:
    """What stands on a page.

    Args:
        page: it.
        size: of it, in pixels.
    """
    frame = _Frame(page, size)
    rules: list[Rect] = []
    pictures: list[Rect] = []
    for object_, matrix in _objects(page):
        _take_object(object_, matrix, frame, rules, pictures)
    shown = Rect(0.0, 0.0, float(size.width), float(size.height))
    return PageContents(
        size,
        [word for word in _words(page, frame) if _is_on(word, shown)],
        [rule for rule in rules if _is_on(rule, shown)],
        [picture for picture in pictures if _is_on(picture, shown)],
    )


def is_sensible(contents: PageContents) -> bool:
    """Whether a text layer can be relied on: false for a picture with few words over it, and for letters without
    meaning.
    """
    letters = [letter for word in contents.words for letter in word.text]
    if not letters:
        return not contents.pictures
    odd = sum("\ue000" <= letter <= "\uf8ff" or letter == "�" or letter < " " for letter in letters)
    if odd * 4 > len(letters):
        return False
    page_area = contents.size.width * contents.size.height
    covered = max((picture.width * picture.height for picture in contents.pictures), default=0.0)
    return len(letters) > 40 or covered < 0.5 * page_area


def _is_on(place: Rect | Word, shown: Rect) -> bool:
    if not all(math.isfinite(edge) for edge in place[:4]):
        return False
    return (
        place.left < shown.right and place.right > shown.left and place.top < shown.bottom and place.bottom > shown.top
    )


def _words(page: pypdfium2.PdfPage, frame: _Frame) -> Iterator[Word]:
    """The words of a page in the order in which the document writes them."""
    text_page = page.get_textpage()
    try:
        handle = text_page.raw
        count = raw.FPDFText_CountChars(handle)
        letters = [_letter(raw.FPDFText_GetUnicode(handle, index)) for index in range(count)]
        fonts = _Fonts()
        start = 0
        for index, letter in enumerate([*letters, " "]):
            if not letter.isspace():
                continue
            if index > start:
                text = "".join(letters[start:index]).translate(_TRANSLATED)
                if text:
                    yield _word(handle, start, index - 1, text, frame, fonts)
            start = index + 1
    finally:
        text_page.close()


def _letter(code: int) -> str:
    return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else chr(_REPLACEMENT)


def _word(handle: Any, first: int, last: int, text: str, frame: _Frame, fonts: _Fonts) -> Word:
    start, end = raw.FS_RECTF(), raw.FS_RECTF()
    raw.FPDFText_GetLooseCharBox(handle, first, ctypes.byref(start))
    raw.FPDFText_GetLooseCharBox(handle, last, ctypes.byref(end))
    place = frame.rect(
        min(start.left, end.left), min(start.bottom, end.bottom), max(start.right, end.right), max(start.top, end.top)
    )
    is_mono, is_bold = fonts.of(raw.FPDFText_GetTextObject(handle, first))
    return Word(*place, text=text, size_px=place.height, is_mono=is_mono, is_bold=is_bold)


class _Fonts:
    """What is known of a page's fonts, asked for once each."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[bool, bool]] = {}

    def of(self, text_object: Any) -> tuple[bool, bool]:
        """Whether a text's letters are equally wide, and bold."""
        font = raw.FPDFTextObj_GetFont(text_object) if text_object else None
        if not font:
            return False, False
        key = ctypes.cast(font, ctypes.c_void_p).value or 0
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _look_at(font)
        return known


def _look_at(font: Any) -> tuple[bool, bool]:
    buffer = ctypes.create_string_buffer(256)
    raw.FPDFFont_GetBaseFontName(font, buffer, 256)
    name = buffer.value.decode("utf-8", "replace").lower()
    flags = raw.FPDFFont_GetFlags(font)
    is_mono = any(part in name for part in _MONO_NAMES) or bool(flags > 0 and flags & 1)
    is_bold = any(part in name for part in _BOLD_NAMES) or raw.FPDFFont_GetWeight(font) >= 600
    return is_mono or _is_equally_wide(font), is_bold


def _is_equally_wide(font: Any) -> bool:
    width = ctypes.c_float()
    widths = set()
    for letter in b"iWm.":
        if not raw.FPDFFont_GetGlyphWidth(font, letter, 100.0, ctypes.byref(width)):
            return False
        widths.add(round(width.value))
    return len(widths) == 1 and 45 <= widths.pop() <= 70


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


def _take_object(object_: Any, matrix: _Matrix, frame: _Frame, rules: list[Rect], pictures: list[Rect]) -> None:
    """Add a path or a picture to what it is."""
    edges = [ctypes.c_float() for _ in range(4)]
    if not raw.FPDFPageObj_GetBounds(object_, *(ctypes.byref(edge) for edge in edges)):
        return
    x0, y0, x1, y1 = (edge.value for edge in edges)
    place = _turned(frame, matrix, x0, y0, x1, y1)
    if raw.FPDFPageObj_GetType(object_) != raw.FPDF_PAGEOBJ_PATH:
        pictures.append(place)
        return
    if min(place.width, place.height) <= _THIN_PX:
        rules.append(place)


def _turned(frame: _Frame, matrix: _Matrix, x0: float, y0: float, x1: float, y1: float) -> Rect:
    if matrix != _IDENTITY:
        corners = [
            (x * matrix[0] + y * matrix[2] + matrix[4], x * matrix[1] + y * matrix[3] + matrix[5])
            for x in (x0, x1)
            for y in (y0, y1)
        ]
        x0, x1 = min(x for x, _ in corners), max(x for x, _ in corners)
        y0, y1 = min(y for _, y in corners), max(y for _, y in corners)
    return frame.rect(x0, y0, x1, y1)
