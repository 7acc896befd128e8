"""Pictures are opened by their bytes, stand upright, and stay within the limits; text is read from them."""

from __future__ import annotations

import io
import socket

import pytest
from PIL import Image

from benchmarks.vision.accuracy import accuracy
from benchmarks.vision.degrading import KINDS, render_pages, to_png
from benchmarks.vision.documents import Sheet, scenery
from gateway.core.vision.document import Box, PageSize, RegionType
from gateway.shell.vision.source import ReadLimits, open_source
from gateway.shell.vision.unreadable import Unreadable

TEXT_ONLY = ReadLimits(ocr=False)
SENTENCES = (
    "Ships that came at night waited for three hours, since the lock is opened by hand. The new crane lifts 250 tonnes."
)


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    """A picture's bytes in a format."""
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def text_picture(turn: int = 0) -> Image.Image:
    """A small page with a paragraph on it."""
    sheet = Sheet()
    sheet.width = 300
    sheet.paragraph(SENTENCES)
    page = render_pages(sheet.done("small").data)[0].crop((80, 140, 800, 360))
    return page.rotate(-turn, expand=True)


@pytest.mark.parametrize(
    ("format_", "media_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("WEBP", "image/webp"),
        ("TIFF", "image/tiff"),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
    ],
)
def test_pictures_are_told_by_their_bytes(format_: str, media_type: str) -> None:
    """Each format that may be read is read."""
    source = open_source(saved(Image.new("RGB", (60, 40), "red"), format_), TEXT_ONLY)
    laid = source.read(1)
    source.close()

    assert (source.media_type, source.page_count, laid.size) == (media_type, 1, PageSize(width=60, height=40))
    assert [region.type for region in laid.regions] == [RegionType.FIGURE]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I"])
def test_every_mode_of_colour_is_read(mode: str) -> None:
    """What is clear is white, and what has more than 8 bits keeps its upper ones."""
    image = Image.new(mode, (30, 20))
    source = open_source(saved(image, "TIFF" if mode in ("CMYK", "I") else "PNG"), TEXT_ONLY)
    rendered = Image.open(io.BytesIO(source.render(1, None, 100)))
    source.close()

    expected = (255, 255, 255) if mode in ("LA", "RGBA", "CMYK") else (0, 0, 0)
    assert rendered.mode == "RGB"
    assert rendered.getpixel((5, 5)) == expected


def test_a_picture_stands_as_its_orientation_says() -> None:
    """A photo that a camera marked as lying is turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    source = open_source(saved(Image.new("RGB", (60, 40)), "JPEG", exif=exif), TEXT_ONLY)
    size = source.read(1).size
    source.close()

    assert size == PageSize(width=40, height=60)


def test_a_tiff_has_pages() -> None:
    """Each of them is read, and too many are refused."""
    pages = [Image.new("RGB", (20 + 10 * number, 30)) for number in range(3)]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    source = open_source(data, TEXT_ONLY)
    widths = [source.read(number).size.width for number in (3, 1, 2)]
    source.close()

    assert widths == [40, 20, 30]
    with pytest.raises(Unreadable, match="The document has 3 pages; the limit is 2"):
        open_source(data, ReadLimits(max_pages=2))


def test_a_later_page_above_the_limit_is_refused() -> None:
    """Each page's size is looked at before it is decoded."""
    pages = [Image.new("RGB", (20, 20)), Image.new("RGB", (2000, 100))]
    source = open_source(
        saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]), ReadLimits(max_pixels=100_000, ocr=False)
    )
    with pytest.raises(Unreadable, match="2000x100 = 200000 pixels; the limit is 100000"):
        source.read(2)
    source.close()


def test_parts_of_pictures_are_rendered() -> None:
    """A part is cut out, and only ever made smaller."""
    source = open_source(scenery(), TEXT_ONLY)
    sizes = [
        Image.open(io.BytesIO(source.render(1, box, side))).size
        for box, side in ((None, 110), (Box(x=10, y=10, w=50, h=20), 400), (Box(x=10, y=10, w=50, h=20), 25))
    ]
    source.close()

    assert sizes == [(110, 65), (50, 20), (25, 10)]


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_text_is_read_from_pictures_however_they_lie(turn: int) -> None:
    """A paragraph is one region with its text and a measured confidence, and nothing is fetched for it."""
    image = text_picture(turn)
    source = open_source(to_png(image), ReadLimits())
    laid = source.read(1)
    source.close()
    (region,) = laid.regions

    assert accuracy(region.text, SENTENCES) > 0.97
    assert 0.9 < region.confidence < 1.0
    assert not region.has_text_layer
    assert 0 <= region.box.x < region.box.x + region.box.w <= image.width
    assert 0 <= region.box.y < region.box.y + region.box.h <= image.height
    assert (region.box.h > region.box.w) == (turn in (90, 270))


def test_reading_pictures_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models come with the package: a process without a network reads as well."""
    from gateway.shell.vision import recognition

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    recognition._engine.cache_clear()
    source = open_source(to_png(text_picture()), ReadLimits())
    reading = source.decode(1, Box(x=0, y=0, w=700, h=200), 96)
    source.close()

    assert accuracy(reading.text, SENTENCES) > 0.9


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_bad_scans_are_read(kind: str) -> None:
    """Askew, noisy and grey."""
    source = open_source(to_png(KINDS[kind](text_picture())), ReadLimits())
    text = " ".join(region.text for region in source.read(1).regions)
    source.close()

    assert accuracy(text, SENTENCES) > 0.9


def test_a_scan_in_a_pdf_is_read_from_its_picture() -> None:
    """A page that is only a picture has no text layer, and says so."""
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    image = text_picture()
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=(image.width / 2, image.height / 2))
    canvas.drawImage(ImageReader(image), 0, 0, image.width / 2, image.height / 2)
    canvas.save()
    data = out.getvalue()
    with_ocr, without = open_source(data, ReadLimits()), open_source(data, TEXT_ONLY)
    (region,) = with_ocr.read(1).regions
    decoded = with_ocr.decode(1, region.box, 144)

    assert accuracy(region.text, SENTENCES) > 0.97
    assert not region.has_text_layer
    assert accuracy(decoded.text, SENTENCES) > 0.97
    assert [one.type for one in without.read(1).regions] == [RegionType.FIGURE]
    with_ocr.close()
    without.close()


def test_without_ocr_a_picture_says_nothing() -> None:
    """There is no text, and no confidence was measured."""
    source = open_source(scenery(), TEXT_ONLY)
    reading = source.decode(1, Box(x=0, y=0, w=100, h=100), 144)
    source.close()

    assert (reading.text, reading.confidence) == ("", None)


def test_a_narrow_sign_is_not_taken_for_a_line_that_lies() -> None:
    """A page number of one digit is read as it stands."""
    sheet = Sheet()
    sheet.canvas.setFont("Helvetica", 12)
    sheet.canvas.drawString(100, 700, "1")
    page = render_pages(sheet.done("one").data)[0].crop((170, 250, 240, 310))
    source = open_source(to_png(page), ReadLimits())
    reading = source.decode(1, Box(x=0, y=0, w=70, h=60), 176)
    source.close()

    assert reading.text == "1"
