"""Documents made by code, with what stands where on them: the labelled set that reading is measured on.

Everything is written here: texts, tables, listings, drawings. Fonts are those that every PDF reader has (Helvetica,
Times, Courier), so that the set is the same on every machine.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.pdfmetrics import registerFont, stringWidth
from reportlab.pdfgen.canvas import Canvas

from benchmarks.vision.sentences import CODE, GO_CODE, PARAGRAPHS, PARAGRAPHS_DE, TABLES
from gateway.core.vision.document import Box, RegionType

WIDTH, HEIGHT = A4
PX_PER_POINT = 2.0
LEFT = 60.0
COLUMN_GAP = 24.0


@dataclass(frozen=True, slots=True)
class Labelled:
    """What stands at a place.

    Attributes:
        page: from 1.
        type: what it is.
        box: in pixels at 144 to the inch.
        text: cells of a table are parted by ` | `.
        caption: what is written to it.
    """

    page: int
    type: RegionType
    box: Box
    text: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class MadeDocument:
    """A document with its labels, in reading order."""

    name: str
    data: bytes
    labels: Sequence[Labelled]
    pages: int


@dataclass(slots=True)
class Sheet:
    """Writes a document from the top down, and keeps what it wrote."""

    labels: list[Labelled] = field(default_factory=list)
    out: io.BytesIO = field(default_factory=io.BytesIO)
    page: int = 1
    left: float = LEFT
    width: float = WIDTH - 2 * LEFT
    y: float = HEIGHT - 90.0
    canvas: Canvas = field(init=False)
    rotation: int = 0

    def __post_init__(self) -> None:
        self.canvas = Canvas(self.out, pagesize=A4, invariant=1)

    def label(self, type_: RegionType, box: tuple[float, float, float, float], text: str, caption: str = "") -> None:
        """Keep what stands between left, top, right, bottom, in points from the bottom left."""
        left, top, right, bottom = box
        place = Box(
            x=round(left * PX_PER_POINT),
            y=round((HEIGHT - top) * PX_PER_POINT),
            w=round((right - left) * PX_PER_POINT),
            h=round((top - bottom) * PX_PER_POINT),
        )
        self.labels.append(Labelled(self.page, type_, place, text, caption))

    def lines(self, lines: Sequence[str], font: str, size: float, leading: float) -> tuple[float, float]:
        """Write lines; returns the top and the bottom of them."""
        top = self.y
        self.canvas.setFont(font, size)
        for line in lines:
            self.y -= leading
            self.canvas.drawString(self.left, self.y + 0.25 * leading, line)
        return top, self.y

    def heading(self, text: str, size: float = 15.0) -> None:
        """A heading in bold."""
        self.y -= 8
        top, bottom = self.lines([text], "Helvetica-Bold", size, size * 1.2)
        self.label(RegionType.TEXT, (self.left, top, self.left + self.width, bottom), text)
        self.y -= 4

    def paragraph(self, text: str, font: str = "Times-Roman", size: float = 10.5) -> None:
        """Running text, wrapped."""
        top, bottom = self.lines(wrap(text, font, size, self.width), font, size, size * 1.25)
        self.label(RegionType.TEXT, (self.left, top, self.left + self.width, bottom), text)
        self.y -= 8

    def code(self, text: str, size: float = 9.0) -> None:
        """A listing."""
        self.y -= 4
        lines = text.split("\n")
        top, bottom = self.lines(lines, "Courier", size, size * 1.2)
        wide = max(stringWidth(line, "Courier", size) for line in lines)
        self.label(RegionType.CODE, (self.left, top, self.left + wide, bottom), text)
        self.y -= 12

    def caption(self, text: str, size: float = 9.0) -> None:
        """What is written to a table or a figure; it is not labelled apart."""
        self.lines(wrap(text, "Times-Italic", size, self.width), "Times-Italic", size, size * 1.25)
        self.y -= 4

    def table(self, rows: Sequence[Sequence[str]], style: str, caption: str = "", size: float = 9.5) -> None:
        """A table: `grid`, `lines` (above, below, and under the header) or `plain`."""
        self.y -= 6
        if caption:
            self.caption(caption)
        shares = [max(stringWidth(row[index], "Helvetica", size) for row in rows) + 22 for index in range(len(rows[0]))]
        leading = size * 1.6
        top = self.y
        for number, row in enumerate(rows):
            x = self.left
            self.canvas.setFont("Helvetica-Bold" if number == 0 else "Helvetica", size)
            for share, cell in zip(shares, row, strict=True):
                self.canvas.drawString(x + 5, self.y - leading + 0.35 * leading, cell)
                x += share
            self.y -= leading
        right, bottom = self.left + sum(shares), self.y
        self._draw_lines(style, shares, (self.left, top, right, bottom), leading, len(rows))
        text = "\n".join(" | ".join(row) for row in rows)
        self.label(RegionType.TABLE, (self.left, top, right, bottom), text, caption)
        self.y -= 14

    def _draw_lines(
        self,
        style: str,
        shares: Sequence[float],
        place: tuple[float, float, float, float],
        leading: float,
        rows: int,
    ) -> None:
        left, top, right, bottom = place
        self.canvas.setLineWidth(0.6)
        ys = {"grid": [top - leading * index for index in range(rows + 1)], "lines": [top, top - leading, bottom]}
        for y in ys.get(style, []):
            self.canvas.line(left, y, right, y)
        x = left
        for share in [0.0, *shares] if style == "grid" else []:
            x += share
            self.canvas.line(x, top, x, bottom)

    def chart(self, caption: str, values: Sequence[int], height: float = 120.0) -> None:
        """A drawn chart with labels, and what is written to it below."""
        self.y -= 6
        top, bottom = self.y, self.y - height
        wide = min(self.width, 260.0)
        self.canvas.setFont("Helvetica", 7)
        step = wide / len(values)
        for index, value in enumerate(values):
            x = self.left + index * step
            self.canvas.setFillColorRGB(0.2, 0.4, 0.7)
            self.canvas.rect(
                x + 0.2 * step, bottom + 12, 0.6 * step, (height - 24) * value / max(values), stroke=0, fill=1
            )
            self.canvas.setFillColorRGB(0, 0, 0)
            self.canvas.drawString(x + 0.3 * step, bottom + 3, f"Q{index + 1}")
        curve = self.canvas.beginPath()
        curve.moveTo(self.left + 4, bottom + 14)
        curve.curveTo(self.left + wide / 3, top, self.left + 2 * wide / 3, bottom, self.left + wide, top - 4)
        self.canvas.drawPath(curve)
        labels = "\n".join(f"Q{index + 1}" for index in range(len(values)))
        self.label(RegionType.FIGURE, (self.left, top, self.left + wide, bottom), labels, caption)
        self.y = bottom - 4
        self.caption(caption)
        self.y -= 8

    def photo(self, caption: str, height: float = 130.0) -> None:
        """A picture without text, and what is written to it below."""
        self.y -= 6
        top, bottom, wide = self.y, self.y - height, min(self.width, 220.0)
        self.canvas.drawImage(ImageReader(io.BytesIO(scenery())), self.left, bottom, wide, height)
        self.label(RegionType.FIGURE, (self.left, top, self.left + wide, bottom), "", caption)
        self.y = bottom - 4
        self.caption(caption)
        self.y -= 8

    def margins(self, head: str, number: int) -> None:
        """A running title and a page number."""
        self.canvas.setFont("Helvetica", 8)
        self.canvas.drawString(LEFT, HEIGHT - 40, head)
        self.label(RegionType.TEXT, (LEFT, HEIGHT - 31, LEFT + stringWidth(head, "Helvetica", 8), HEIGHT - 43), head)
        self.canvas.drawCentredString(WIDTH / 2, 30, str(number))

    def next_page(self) -> None:
        """Go on with another page."""
        self.canvas.showPage()
        self.page += 1
        self.left, self.width, self.y = LEFT, WIDTH - 2 * LEFT, HEIGHT - 90.0

    def done(self, name: str) -> MadeDocument:
        """The document."""
        self.canvas.showPage()
        self.canvas.save()
        return MadeDocument(name, self.out.getvalue(), list(self.labels), self.page)


def wrap(text: str, font: str, size: float, width: float) -> list[str]:
    """Lines of a text that are no wider."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if line and stringWidth(longer, font, size) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


def scenery() -> bytes:
    """A picture of hills and a sun, as PNG."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (440, 260), (150, 190, 230))
    draw = ImageDraw.Draw(image)
    draw.ellipse((330, 20, 400, 90), fill=(250, 220, 90))
    for index, colour in enumerate([(70, 120, 70), (50, 95, 60), (90, 70, 50)]):
        draw.polygon(
            [(0, 260), (0, 170 + 20 * index), (120 + 60 * index, 100 + 40 * index), (440, 190), (440, 260)], fill=colour
        )
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def report() -> MadeDocument:
    """Headings, paragraphs, a table with lines, a chart; two pages with running titles."""
    sheet = Sheet()
    sheet.margins("Yearly report of the harbour office", 1)
    sheet.heading("1 What was loaded and unloaded")
    for text in PARAGRAPHS[:3]:
        sheet.paragraph(text)
    sheet.table(TABLES[0], "grid", "Table 1: Goods by quarter, in thousand tonnes.")
    sheet.paragraph(PARAGRAPHS[3])
    sheet.next_page()
    sheet.margins("Yearly report of the harbour office", 2)
    sheet.heading("2 What is planned")
    sheet.paragraph(PARAGRAPHS[4])
    sheet.chart("Figure 1: Ships that waited, by quarter.", [4, 7, 5, 9])
    sheet.paragraph(PARAGRAPHS[5])
    sheet.table(TABLES[1], "lines", "Table 2. Berths and their depths.")
    sheet.paragraph(PARAGRAPHS[0])
    return sheet.done("report")


def paper() -> MadeDocument:
    """A title across two columns of text, with a table, a photo and a heading in them."""
    sheet = Sheet()
    sheet.canvas.setFont("Times-Bold", 18)
    sheet.heading("How tides shape the loading of small ships", 18.0)
    top, width = sheet.y - 6, (WIDTH - 2 * LEFT - COLUMN_GAP) / 2
    for column in range(2):
        sheet.left, sheet.width, sheet.y = LEFT + column * (width + COLUMN_GAP), width, top
        sheet.heading(("Introduction", "Results")[column], 12.0)
        sheet.paragraph(PARAGRAPHS[column])
        sheet.paragraph(PARAGRAPHS[column + 2])
        if column == 0:
            sheet.photo("Figure 1: The harbour from the east.")
            sheet.paragraph(PARAGRAPHS[5])
        else:
            sheet.table(TABLES[2], "plain", "Table 1: Waiting times.")
            sheet.paragraph(PARAGRAPHS[4])
    return sheet.done("paper")


def manual() -> MadeDocument:
    """Listings between paragraphs, and a table without lines."""
    sheet = Sheet()
    sheet.heading("Using the scheduler")
    sheet.paragraph(PARAGRAPHS[6])
    sheet.code(CODE)
    sheet.paragraph(PARAGRAPHS[7])
    sheet.table(TABLES[3], "plain")
    sheet.paragraph(PARAGRAPHS[6])
    sheet.code(GO_CODE)
    sheet.paragraph(PARAGRAPHS[3])
    return sheet.done("manual")


def german() -> MadeDocument:
    """Running text with umlauts, and a table with a caption in German."""
    sheet = Sheet()
    sheet.heading("Bericht über das Hafenjahr")
    for text in PARAGRAPHS_DE:
        sheet.paragraph(text)
    sheet.photo("Abb. 1: Der Hafen von Osten.")
    sheet.table(TABLES[0], "lines", "Tabelle 1: Umschlag nach Quartalen.")
    return sheet.done("german")


MAKERS: Sequence[Callable[[], MadeDocument]] = (report, paper, manual, german)


def made() -> list[MadeDocument]:
    """The whole labelled set."""
    return [make() for make in MAKERS]


def chinese() -> MadeDocument:
    """A text layer in Chinese; the font is the reader's, so its picture is not measured."""
    registerFont(UnicodeCIDFont("STSong-Light"))
    sheet = Sheet()
    lines = ["港口年度报告说明了去年的货物装卸情况和船舶等待", "时间,并提出了今后两年的计划。", "图 1 从东面看港口"]
    top, bottom = sheet.lines(lines[:2], "STSong-Light", 12, 18)
    sheet.label(RegionType.TEXT, (LEFT, top, LEFT + 300, bottom), "".join(lines[:2]))
    return sheet.done("chinese")


def long_document(pages: int) -> bytes:
    """Many pages of running text and tables, to measure speed."""
    sheet = Sheet()
    for number in range(pages):
        if number:
            sheet.next_page()
        sheet.margins("A long book", number + 1)
        sheet.heading(f"Chapter {number + 1}")
        for index in range(4):
            sheet.paragraph(PARAGRAPHS[(number + index) % len(PARAGRAPHS)])
        sheet.table(TABLES[number % len(TABLES)], ("grid", "plain", "lines")[number % 3])
        for index in range(3):
            sheet.paragraph(PARAGRAPHS[(number + index + 4) % len(PARAGRAPHS)])
    return sheet.done("long").data
