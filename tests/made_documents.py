"""Small documents that tests make: a PDF with a text layer, and a picture of text."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from reportlab.pdfgen.canvas import Canvas

POINTS = 612, 792


def pdf_of(*pages: Sequence[str]) -> bytes:
    """A PDF with a page for each list of lines; blank lines part paragraphs."""
    kept = io.BytesIO()
    canvas = Canvas(kept, pagesize=POINTS, invariant=1)
    for lines in pages:
        canvas.setFont("Helvetica", 11)
        for number, line in enumerate(lines):
            canvas.drawString(72, 720 - 14 * number, line)
        canvas.showPage()
    canvas.save()
    return kept.getvalue()


def picture_of(*lines: str, size: tuple[int, int] = (1224, 500)) -> bytes:
    """A PNG on which these lines are printed, large and clean."""
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(30)
    for number, line in enumerate(lines):
        draw.text((60, 60 + 60 * number), line, fill="black", font=font)
    kept = io.BytesIO()
    picture.save(kept, "PNG")
    return kept.getvalue()
