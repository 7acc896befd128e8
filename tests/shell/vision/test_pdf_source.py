"""PDFs are read as they are shown: words, lines, pictures, whatever the page's rotation and boxes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from benchmarks.vision.documents import CODE, chinese, made, scenery
from gateway.core.vision.document import Box, LaidPage, PageSize, RegionType
from gateway.shell.vision.source import ReadLimits, Source, open_source
from tests.shell.vision import hostile_documents as hostile

TEXT_ONLY = ReadLimits(ocr=False)


@pytest.fixture
def read() -> Iterator[Callable[..., LaidPage]]:
    """Reads the first page of a PDF that is drawn by a function."""
    opened: list[Source] = []

    def draw_and_read(draw: Callable[[Canvas], None], size: tuple[float, float] = (400, 600)) -> LaidPage:
        out = io.BytesIO()
        canvas = Canvas(out, pagesize=size)
        draw(canvas)
        canvas.showPage()
        canvas.save()
        opened.append(open_source(out.getvalue(), TEXT_ONLY))
        return opened[-1].read(1)

    yield draw_and_read
    for source in opened:
        source.close()


def test_a_document_says_what_it_is() -> None:
    """Its type and how many pages it has."""
    source = open_source(hostile.many_pages(7), TEXT_ONLY)

    assert (source.media_type, source.page_count) == ("application/pdf", 7)
    source.close()


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_places_are_those_of_the_page_as_shown(read: Callable[..., LaidPage], rotation: int) -> None:
    """A region's place holds the ink of the page that is rendered upright."""

    def draw(canvas: Canvas) -> None:
        canvas.setPageRotation(rotation)
        canvas.setFont("Helvetica", 20)
        canvas.drawString(50, 300, "Anchor of the ship")

    out = io.BytesIO()
    canvas = Canvas(out, pagesize=(400, 600))
    draw(canvas)
    canvas.save()
    source = open_source(out.getvalue(), TEXT_ONLY)
    (region,) = source.read(1).regions
    page = Image.open(io.BytesIO(source.render(1, None, 5000))).convert("L")
    laid_size = source.read(1).size
    scale = page.width / laid_size.width
    ink = page.point(lambda level: 255 * (level < 128)).getbbox()
    source.close()

    assert region.text == "Anchor of the ship"
    assert ink is not None
    assert region.box.x - 6 <= ink[0] / scale
    assert ink[2] / scale <= region.box.x + region.box.w + 6
    assert region.box.y - 6 <= ink[1] / scale
    assert ink[3] / scale <= region.box.y + region.box.h + 6


def test_a_crop_box_moves_the_page() -> None:
    """Places count from the corner of what is shown."""
    page = hostile.PAGE.replace(b"[0 0 200 200]", b"[0 0 200 200]/CropBox[10 50 200 150]")
    source = open_source(hostile.pdf([hostile.CATALOG, hostile.ONE_PAGE, page, hostile.HELLO]), TEXT_ONLY)
    laid = source.read(1)
    source.close()

    assert laid.size == PageSize(width=380, height=200)
    assert laid.regions[0].box.x == pytest.approx(20, abs=2)


def test_text_that_stands_sideways_is_read(read: Callable[..., LaidPage]) -> None:
    """A page whose text runs upwards is laid out as if it were turned."""

    def draw(canvas: Canvas) -> None:
        canvas.rotate(90)
        canvas.drawString(100, -200, "one two three four five six")
        canvas.drawString(100, -214, "seven eight nine ten eleven")

    laid = read(draw)

    assert laid.regions[0].text == "one two three four five six seven eight nine ten eleven"
    assert laid.regions[0].box.h > laid.regions[0].box.w


def test_what_stands_in_a_form_is_read_where_it_is_shown(read: Callable[..., LaidPage]) -> None:
    """Drawings inside forms are moved with them."""

    def draw(canvas: Canvas) -> None:
        canvas.beginForm("stamp")
        canvas.drawImage(ImageReader(io.BytesIO(scenery())), 0, 0, 100, 60)
        canvas.endForm()
        canvas.translate(50, 300)
        canvas.doForm("stamp")

    laid = read(draw)

    assert [(region.type, region.box) for region in laid.regions] == [
        (RegionType.FIGURE, Box(x=100, y=480, w=200, h=120))
    ]


def test_text_that_is_not_shown_is_read(read: Callable[..., LaidPage]) -> None:
    """The layer under a scan is as good as any."""

    def draw(canvas: Canvas) -> None:
        text = canvas.beginText(50, 500)
        text.setTextRenderMode(3)
        text.textLine("words under the picture")
        canvas.drawText(text)

    assert read(draw).regions[0].text == "words under the picture"


def test_ligatures_are_letters() -> None:
    """What is written as one sign is told as the letters that it stands for."""
    cmap = (
        b"/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <FF> endcodespacerange"
        b" 1 beginbfchar <41> <FB03> endbfchar endcmap end"
    )
    page = hostile.PAGE.replace(b"/BaseFont/Helvetica", b"/BaseFont/Helvetica/ToUnicode 5 0 R")
    content = hostile.stream(b"BT /F 12 Tf 20 100 Td (A) Tj ET")
    data = hostile.pdf([hostile.CATALOG, hostile.ONE_PAGE, page, content, hostile.stream(cmap)])
    source = open_source(data, TEXT_ONLY)
    text = source.read(1).regions[0].text
    source.close()

    assert text == "ffi"


def test_chinese_has_no_spaces() -> None:
    """Lines of a text layer in Chinese are joined without."""
    document = chinese()
    source = open_source(document.data, TEXT_ONLY)
    laid = source.read(1)
    source.close()

    assert laid.regions[0].text == document.labels[0].text


def test_code_keeps_its_lines() -> None:
    """A listing of a made document comes out as it went in."""
    (manual,) = [document for document in made() if document.name == "manual"]
    source = open_source(manual.data, TEXT_ONLY)
    listings = [region.text for region in source.read(1).regions if region.type is RegionType.CODE]
    source.close()

    assert listings[0] == CODE


def test_a_part_is_rendered_no_larger_than_asked() -> None:
    """The longer side of the picture is the given one, or less."""
    source = open_source(made()[0].data, TEXT_ONLY)
    sizes = [
        Image.open(io.BytesIO(source.render(1, box, side))).size
        for box, side in ((None, 800), (Box(x=100, y=100, w=400, h=100), 640), (Box(x=0, y=0, w=3, h=900), 64))
    ]
    source.close()

    assert [max(size) for size in sizes] == [800, 640, 64]


def test_decoding_tells_the_text_layer_of_the_part() -> None:
    """With full confidence, whatever the size."""
    document = made()[0]
    source = open_source(document.data, TEXT_ONLY)
    label = document.labels[2]
    readings = [source.decode(1, label.box, dpi) for dpi in (64, 176)]
    source.close()

    assert [(reading.text, reading.confidence) for reading in readings] == [(label.text, 1.0)] * 2


def test_the_same_bytes_are_read_the_same() -> None:
    """Reading twice gives equal pages."""
    first, second = (open_source(made()[1].data, TEXT_ONLY) for _ in range(2))

    assert first.read(1) == second.read(1)
    first.close()
    second.close()
