"""What stands on a page of a PDF, by pdfium: its words with their fonts, ruling lines, pictures.

pdfium says where words end: it puts spaces and line ends, also where the document only leaves a gap. A word's place is
that of its first and last letter, and its font that of its first: calls of pdfium are what reading a page costs.

Invariants, each with a test of its own:
  1. Places are those of the page as it is shown, whatever its rotation and its boxes.
  2. Text that is not shown, such as the layer under a scan, is words as well.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pypdfium2
from pypdfium2 import raw

from gateway.core.vision.contents import PageContents, Rect, Word
from gateway.core.vision.document import PageSize
from gateway.shell.vision.pdf_drawings import Frame, find_drawn

_LINE_HYPHENS = ("\x02", "\ufffe")
"""What pdfium tells for a hyphen at a line's end; no line end follows it."""
_TURN_EVERY = 8
"""Of so many words one is asked how it is turned."""
_REPLACEMENT = 0xFFFD
_FAR_PX = 1e6
"""No page is as large; also keeps away what is no number."""
_MONO_NAMES = ("courier", "mono", "consolas", "menlo", "monaco", "typewriter", "cmtt", "inconsolata", "fixed", "code")
_BOLD_NAMES = ("bold", "black", "heavy", "semibold", "demi")
_LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ft", "ﬆ": "st"}
_TRANSLATED = str.maketrans({**_LIGATURES, "\u00ad": "-", "\u0002": "-", "\ufffe": "-", "\u200b": "", "\x00": ""})


def read_contents(page: pypdfium2.PdfPage, size: PageSize) -> PageContents:
    """What stands on a page.

    Args:
        page: it.
        size: of it, in pixels.
    """
    frame = Frame(page, size)
    drawn = find_drawn(page, frame)
    shown = Rect(0.0, 0.0, float(size.width), float(size.height))
    told, turn = _words(page, frame)
    words = [word for word in told if _is_on(word, shown)]
    return PageContents(
        size,
        words,
        [rule for rule in drawn.rules if _is_on(rule, shown)],
        [picture for picture in drawn.pictures if _is_on(picture, shown)],
        [shape for shape in drawn.shapes if _is_on(shape, shown)],
        turn=turn,
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
    left, top, right, bottom = place[:4]
    return (
        -_FAR_PX < left < shown.right and _FAR_PX > right > 0 and -_FAR_PX < top < shown.bottom and _FAR_PX > bottom > 0
    )


def _words(page: pypdfium2.PdfPage, frame: Frame) -> tuple[list[Word], int]:
    """The words of a page in the order in which the document writes them, and how most of them are turned."""
    text_page = page.get_textpage()
    try:
        handle = text_page.raw
        letters = _letters(handle, raw.FPDFText_CountChars(handle))
        fonts = _Fonts()
        words: list[Word] = []
        turns: Counter[int] = Counter()
        start = 0
        for index, letter in enumerate([*letters, " "]):
            is_hyphen = letter in _LINE_HYPHENS
            if not is_hyphen and not letter.isspace():
                continue
            end = index + 1 if is_hyphen else index
            text = "".join(letters[start:end]).translate(_TRANSLATED)
            if text and not text.isspace():
                if len(words) % _TURN_EVERY == 0:
                    turns[frame.turn(raw.FPDFText_GetCharAngle(handle, start))] += len(text)
                words.append(_word(handle, start, end - 1, text, frame, fonts))
            start = index + 1
        return words, turns.most_common(1)[0][0] if turns else 0
    finally:
        text_page.close()


def _letters(handle: Any, count: int) -> Sequence[str]:
    """A page's letters, each at its index: in one call where that gives as many, else one by one."""
    buffer = (ctypes.c_ushort * (count + 1))()
    written = raw.FPDFText_GetText(handle, 0, count, buffer)
    if written == count + 1:
        text = bytes(buffer)[: 2 * count].decode("utf-16-le", "surrogatepass")
        if len(text) == count:
            return text
    return [_letter(raw.FPDFText_GetUnicode(handle, index)) for index in range(count)]


def _letter(code: int) -> str:
    return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else chr(_REPLACEMENT)


def _word(handle: Any, first: int, last: int, text: str, frame: Frame, fonts: _Fonts) -> Word:
    start, end = raw.FS_RECTF(), raw.FS_RECTF()
    raw.FPDFText_GetLooseCharBox(handle, first, ctypes.byref(start))
    raw.FPDFText_GetLooseCharBox(handle, last, ctypes.byref(end))
    place = frame.rect(
        min(start.left, end.left), min(start.bottom, end.bottom), max(start.right, end.right), max(start.top, end.top)
    )
    is_mono, is_bold = fonts.of(raw.FPDFText_GetTextObject(handle, first))
    return Word(*place, text=text, is_mono=is_mono, is_bold=is_bold)


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
