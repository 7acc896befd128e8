"""PDFs and pictures that tests write."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas


def text_pdf(pages: Sequence[Sequence[str]]) -> bytes:
    """A PDF of these lines, with a text layer."""
    written = BytesIO()
    canvas = Canvas(written, pagesize=A4, invariant=1)
    for lines in pages:
        for number, line in enumerate(lines):
            canvas.drawString(50, 790 - number * 15, line)
        canvas.showPage()
    canvas.save()
    return written.getvalue()


def scanned_pdf(pages: Sequence[Sequence[str]]) -> bytes:
    """A PDF of pictures of these lines."""
    written = BytesIO()
    canvas = Canvas(written, pagesize=A4, invariant=1)
    font = ImageFont.load_default(size=26)
    for lines in pages:
        picture = Image.new("L", (1190, 1684), 255)
        draw = ImageDraw.Draw(picture)
        for number, line in enumerate(lines):
            draw.text((80, 80 + number * 38), line, fill=0, font=font)
        canvas.drawImage(ImageReader(picture), 0, 0, *A4)
        canvas.showPage()
    canvas.save()
    return written.getvalue()
