"""Reads PDF with pdfium: text layers as they are, scans by recognition.

Invariants, each with a test of its own:
  1. Nothing is rendered above `max_pixels`.
  2. A page without a text layer that makes sense is read from its picture.
  3. Places are those of the page as it is shown, whatever its rotation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pypdfium2
from PIL import Image
from pypdfium2 import raw

from gateway.core.vision.contents import PageContents
from gateway.core.vision.document import RENDER_DPI, Box, LaidPage, PageSize, Reading
from gateway.core.vision.layout import lay_out, read_box
from gateway.shell.vision.pdf_text import is_sensible, read_contents
from gateway.shell.vision.picture import clip_box, read_picture, read_scaled, to_png
from gateway.shell.vision.unreadable import Unreadable

if TYPE_CHECKING:
    from gateway.shell.vision.source import ReadLimits

_PX_PER_POINT = RENDER_DPI / 72
_MAX_SIDE_POINTS = 14_400
"""What a side of a page may have (ISO 32000-1, Annex C)."""
_MIN_SIDE_POINTS = 3
_MAX_DPI = 432
"""Nothing is rendered finer: letters gain nothing by it."""
_SCAN_DPI = 144


class PdfSource:
    """An open PDF."""

    media_type = "application/pdf"

    def __init__(self, data: bytes, limits: ReadLimits) -> None:
        self._limits = limits
        self._page: tuple[int, pypdfium2.PdfPage] | None = None
        self._contents: tuple[int, PageContents] | None = None
        if b"%%EOF" not in data:
            raise Unreadable(f"The PDF is truncated: its {len(data)} bytes hold no end mark.")
        try:
            self._document = pypdfium2.PdfDocument(data)
        except pypdfium2.PdfiumError as fault:
            if fault.err_code == raw.FPDF_ERR_PASSWORD:
                raise Unreadable("The PDF is encrypted: it opens with a password only.") from fault
            raise Unreadable(f"The PDF is broken: its {len(data)} bytes cannot be opened.") from fault
        self.page_count = len(self._document)
        if self.page_count == 0:
            self.close()
            raise Unreadable("The PDF is broken: it has 0 pages.")
        if self.page_count > limits.max_pages:
            pages = self.page_count
            self.close()
            raise Unreadable(f"The document has {pages} pages; the limit is {limits.max_pages}.")

    def read(self, page: int) -> LaidPage:
        """See `Source`."""
        opened, size = self._open(page)
        contents = self._contents_of(page, opened, size)
        if self._limits.ocr and not is_sensible(contents):
            image = self._picture(page, Box(x=0, y=0, w=size.width, h=size.height), _SCAN_DPI)
            return lay_out(read_picture(image, size), whole_is_picture=True)
        return lay_out(contents)

    def render(self, page: int, box: Box | None, max_side_px: int) -> bytes:
        """See `Source`."""
        _, size = self._open(page)
        box = clip_box(box, size) if box else Box(x=0, y=0, w=size.width, h=size.height)
        return to_png(self._picture(page, box, RENDER_DPI * max_side_px / max(box.w, box.h)))

    def decode(self, page: int, box: Box, dpi: int) -> Reading:
        """See `Source`."""
        opened, size = self._open(page)
        box = clip_box(box, size)
        contents = self._contents_of(page, opened, size)
        reading = read_box(contents, box) if is_sensible(contents) else None
        if reading and (reading.text or not self._limits.ocr):
            return reading
        if not self._limits.ocr:
            return Reading(text="", confidence=None)
        image = self._picture(page, box, dpi)
        return read_scaled(image, box.w / image.width)

    def close(self) -> None:
        """See `Source`."""
        if self._page is not None:
            self._page[1].close()
            self._page = None
        self._document.close()

    def _open(self, page: int) -> tuple[pypdfium2.PdfPage, PageSize]:
        """A page and its size in pixels; the last one is kept."""
        if not 1 <= page <= self.page_count:
            raise Unreadable(f"There is no page {page}: the document has {self.page_count}.")
        if self._page is None or self._page[0] != page:
            if self._page is not None:
                self._page[1].close()
                self._page = None
            try:
                self._page = (page, self._document[page - 1])
            except pypdfium2.PdfiumError as fault:
                raise Unreadable(f"Page {page} of the PDF is broken: it cannot be loaded.") from fault
        width, height = self._page[1].get_size()
        if not all(math.isfinite(side) and _MIN_SIDE_POINTS <= side <= _MAX_SIDE_POINTS for side in (width, height)):
            raise Unreadable(
                f"Page {page} measures {width:g}x{height:g} points; expected {_MIN_SIDE_POINTS} to {_MAX_SIDE_POINTS}."
            )
        return self._page[1], PageSize(width=math.ceil(width * _PX_PER_POINT), height=math.ceil(height * _PX_PER_POINT))

    def _contents_of(self, page: int, opened: pypdfium2.PdfPage, size: PageSize) -> PageContents:
        """What the document says stands on a page; that of the last one is kept."""
        if self._contents is None or self._contents[0] != page:
            try:
                self._contents = (page, read_contents(opened, size))
            except pypdfium2.PdfiumError as fault:
                raise Unreadable(f"Page {page} of the PDF is broken: its text cannot be read.") from fault
        return self._contents[1]

    def _picture(self, page: int, box: Box, dpi: float) -> Image.Image:
        """A part of a page, rendered as finely as asked for, and as the limits let."""
        opened, size = self._open(page)
        box = clip_box(box, size)
        finest = RENDER_DPI * math.sqrt(self._limits.max_pixels / (box.w * box.h))
        scale = min(dpi, _MAX_DPI, finest) / RENDER_DPI
        width, height = max(1, int(box.w * scale)), max(1, int(box.h * scale))
        bitmap = pypdfium2.PdfBitmap.new_native(width, height, raw.FPDFBitmap_BGRx)
        try:
            bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
            raw.FPDF_RenderPageBitmap(
                bitmap.raw,
                opened.raw,
                -round(box.x * scale),
                -round(box.y * scale),
                max(1, round(size.width * scale)),
                max(1, round(size.height * scale)),
                0,
                raw.FPDF_ANNOT,
            )
            image: Image.Image = bitmap.to_pil().convert("RGB")
        finally:
            bitmap.close()
        return image
