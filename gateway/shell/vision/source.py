"""Opens documents by their first bytes, and reads, renders and decodes their pages.

Synchronous, for a process of its own: it knows nothing of processes, time or memory. It takes bytes only, never a path,
and never looks at a name.

Invariants, each with a test of its own:
  1. What is opened is a PDF or one of a fixed list of picture formats; all else is refused with its reason.
  2. No picture is decoded, and no page rendered, above `max_pixels`.
  3. A broken document raises `Unreadable`, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.core.vision.document import Box, LaidPage, Reading
from gateway.shell.vision.unreadable import Unreadable

_PICTURES = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG", "image/png"),
    (0, b"\xff\xd8\xff", "JPEG", "image/jpeg"),
    (8, b"WEBP", "WEBP", "image/webp"),
    (0, b"II*\x00", "TIFF", "image/tiff"),
    (0, b"MM\x00*", "TIFF", "image/tiff"),
    (0, b"GIF87a", "GIF", "image/gif"),
    (0, b"GIF89a", "GIF", "image/gif"),
    (0, b"BM", "BMP", "image/bmp"),
)
_PDF_SOUGHT_BYTES = 1024
"""A PDF's header may stand after other bytes, within so many (ISO 32000-1, Annex H, note 13)."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What is read at most.

    Attributes:
        max_pages: of a document.
        max_pixels: of a picture, and of a page that is rendered.
        ocr: text is read from pictures and scans.
    """

    max_pages: int = 1000
    max_pixels: int = 50_000_000
    ocr: bool = True


class Source(Protocol):
    """An open document. Pages count from 1. Every call may raise `Unreadable`.

    Attributes:
        media_type: what it is.
        page_count: how many pages it has.
    """

    media_type: str
    page_count: int

    def read(self, page: int) -> LaidPage:
        """A page, cut into regions."""

    def render(self, page: int, box: Box | None, max_side_px: int) -> bytes:
        """A part of a page as PNG, no side longer than this; None for the whole page."""

    def decode(self, page: int, box: Box, dpi: int) -> Reading:
        """What a part of a page says: its text layer if it has one there, else read from the page at this size."""

    def close(self) -> None:
        """Let go of it; nothing may be called after."""


def open_source(data: bytes, limits: ReadLimits) -> Source:
    """Open a document.

    Args:
        data: the whole document.
        limits: what is read at most.

    Returns:
        The open document; whoever opened it closes it.

    Raises:
        Unreadable: it is empty, of no known type, broken, encrypted, or beyond the limits.
    """
    if not data:
        raise Unreadable("The document is empty: it has 0 bytes.")
    for start, mark, format_, media_type in _PICTURES:
        if data[start : start + len(mark)] == mark:
            from gateway.shell.vision.picture import PictureSource

            return PictureSource(data, format_, media_type, limits)
    if b"%PDF-" in data[:_PDF_SOUGHT_BYTES]:
        from gateway.shell.vision.pdf import PdfSource

        return PdfSource(data, limits)
    raise Unreadable(
        f"The document's type is not known: its {len(data)} bytes start with {data[:8].hex()}; expected PDF, PNG, JPEG,"
        " WebP, TIFF, GIF or BMP."
    )
