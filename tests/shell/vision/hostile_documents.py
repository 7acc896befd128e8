"""Documents that are made to harm whoever reads them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
_FONT = b"/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R" + _FONT + b">>"


def pdf(objects: Sequence[bytes]) -> bytes:
    """A PDF of these objects, the first of which is its catalogue."""
    out, places = b"%PDF-1.5\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    return out + b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        size,
        table,
        size,
        len(out),
    )


def stream(data: bytes, entries: bytes = b"") -> bytes:
    """A stream object."""
    return b"<<" + entries + b"/Length %d>>stream\n" % len(data) + data + b"\nendstream"


HELLO = stream(b"BT /F 12 Tf 20 100 Td (hello there) Tj ET")
ONE_PAGE = b"<</Type/Pages/Count 1/Kids[3 0 R]>>"


def page_of_size(media_box: bytes) -> bytes:
    """A PDF whose page has this box."""
    return pdf([CATALOG, ONE_PAGE, PAGE.replace(b"[0 0 200 200]", media_box), HELLO])


def many_pages(count: int) -> bytes:
    """A PDF that shows one page so many times."""
    return pdf([CATALOG, b"<</Type/Pages/Count %d/Kids[%s]>>" % (count, b"3 0 R " * count), PAGE, HELLO])


def looped_pages() -> bytes:
    """A PDF whose tree of pages holds itself."""
    return pdf([CATALOG, b"<</Type/Pages/Count 3/Kids[2 0 R 3 0 R 2 0 R]>>", PAGE, HELLO])


def deep_pages(depth: int) -> bytes:
    """A PDF whose only page hangs so deep."""
    nodes = [b"<</Type/Pages/Count 1/Kids[%d 0 R]>>" % (number + 3) for number in range(depth)]
    return pdf([CATALOG, *nodes, b"<</Type/Page/MediaBox[0 0 200 200]>>"])


def lying_count() -> bytes:
    """A PDF that says it has a thousand million pages, and has one."""
    return pdf([CATALOG, b"<</Type/Pages/Count 999999999/Kids[3 0 R]>>", PAGE, HELLO])


def bomb(size_bytes: int) -> bytes:
    """A PDF whose page is so much larger than the file, twice compressed."""
    packed = zlib.compress(zlib.compress(b"\0" * size_bytes, 9), 9)
    return pdf([CATALOG, ONE_PAGE, PAGE, stream(packed, b"/Filter[/FlateDecode/FlateDecode]")])


def encrypted(password: str) -> bytes:
    """A PDF that opens with this password."""
    out = io.BytesIO()
    canvas = Canvas(out, encrypt=StandardEncryption(password, ownerPassword="owner", strength=128))
    canvas.drawString(100, 700, "a secret")
    canvas.save()
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and holds next to nothing."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 100)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
