"""Documents that are broken, or made to harm, are refused with a reason or read as far as they can be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.vision.document import Box
from gateway.shell.vision.source import ReadLimits, open_source
from gateway.shell.vision.unreadable import Unreadable
from tests.shell.vision import hostile_documents as hostile

LIMITS = ReadLimits(max_pages=1000, max_pixels=10_000_000, ocr=False)
GOOD = hostile.page_of_size(b"[0 0 200 200]")


def read_all(data: bytes) -> list[str]:
    """Open a document and do all that can be done with its first page; returns its texts."""
    source = open_source(data, LIMITS)
    try:
        laid = source.read(1)
        source.render(1, None, 300)
        source.decode(1, Box(x=0, y=0, w=laid.size.width, h=laid.size.height), 144)
        return [region.text for region in laid.regions]
    finally:
        source.close()


def outcome_of(data: bytes) -> str:
    """What came of a document: what it says, or why it was refused."""
    try:
        return f"read: {read_all(data)}"
    except Unreadable as refused:
        return refused.message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "The document is empty: it has 0 bytes."),
        (b"hello", "The document's type is not known: its 5 bytes start with 68656c6c6f;"),
        (b"PK\x03\x04" + bytes(50), "The document's type is not known: its 54 bytes"),
        (hostile.encrypted("user"), "The PDF is encrypted"),
        (GOOD[:120], "The PDF is truncated: its 120 bytes hold no end mark."),
        (b"%PDF-1.4 nothing %%EOF", "The PDF is broken: its 22 bytes cannot be opened."),
        (hostile.many_pages(1001), "The document has 1001 pages; the limit is 1000."),
        (hostile.many_pages(100_000), "The document has 100000 pages; the limit is 1000."),
        (hostile.page_of_size(b"[0 0 90000 200]"), "Page 1 measures 90000x200 points; expected 3 to 14400."),
        (hostile.page_of_size(b"[0 0 200 1]"), "Page 1 measures 200x1 points; expected 3 to 14400."),
        (hostile.png_header(30_000, 30_000), "The picture has more than 10000000 pixels"),
        (hostile.png_header(4000, 3000), "The picture has 4000x3000 = 12000000 pixels; the limit is 10000000."),
        (hostile.png_header(40, 30), "Page 1 of the picture is broken: it cannot be decoded."),
        (b"GIF89a", "The picture is broken: it cannot be opened as GIF (6 bytes)."),
        (b"\xff\xd8\xff" + bytes(40), "The picture is broken: it cannot be opened as JPEG (43 bytes)."),
        (b"II*\x00" + b"\xff" * 60, "The picture is broken: it cannot be opened as TIFF (64 bytes)."),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_refused_with_its_reason(data: bytes, message: str) -> None:
    """The reason says what was found, with numbers."""
    with pytest.raises(Unreadable) as refused:
        read_all(data)

    assert refused.value.message.startswith(message)


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        hostile.looped_pages(),
        hostile.lying_count(),
        hostile.page_of_size(b"[200 200 0 0]"),
        b"junk before the header\n" + GOOD,
    ],
    ids=["good", "loop", "lie", "backwards", "junk"],
)
def test_what_can_be_read_is_read(data: bytes) -> None:
    """Faults that do not matter do no harm."""
    assert read_all(data) == ["hello there"]


@pytest.mark.parametrize(
    "data",
    [
        hostile.deep_pages(5000),
        hostile.bomb(50_000_000),
        hostile.page_of_size(b"[0 0 0 0]"),
        hostile.page_of_size(b"[0 0 nan inf]"),
        hostile.page_of_size(b"[0 0 14000 14000]"),
        hostile.page_of_size(b"null"),
    ],
    ids=["deep", "bomb", "empty", "nan", "large", "none"],
)
def test_what_is_strange_is_read_or_refused(data: bytes) -> None:
    """Nothing but `Unreadable` is raised."""
    assert outcome_of(data)


def test_a_password_of_the_owner_hinders_nobody() -> None:
    """A document that opens without a password is read."""
    assert read_all(hostile.encrypted("")) == ["a secret"]


def test_large_pages_are_rendered_within_the_limit() -> None:
    """However large a page, and however large it is asked for, a picture of it stays below the limit."""
    import io

    from PIL import Image

    source = open_source(hostile.page_of_size(b"[0 0 14000 14000]"), ReadLimits(max_pixels=1_000_000, ocr=False))
    for box in (None, Box(x=0, y=0, w=28_000, h=28_000), Box(x=5, y=5, w=9, h=9)):
        image = Image.open(io.BytesIO(source.render(1, box, 1_000_000)))

        assert image.width * image.height <= 1_000_000
    source.close()


@pytest.mark.parametrize(
    "box", [Box(x=5000, y=0, w=10, h=10), Box(x=0, y=0, w=0, h=0), Box(x=10, y=10, w=-5, h=5)], ids=str
)
def test_a_box_that_is_not_on_the_page_is_refused(box: Box) -> None:
    """Neither rendered nor decoded."""
    source = open_source(GOOD, LIMITS)
    for call in (lambda: source.render(1, box, 100), lambda: source.decode(1, box, 144)):
        with pytest.raises(Unreadable, match="is not on the page of 400x400 pixels"):
            call()
    source.close()


@pytest.mark.parametrize("number", [0, -1, 2, 10**9])
def test_a_page_that_is_not_there_is_refused(number: int) -> None:
    """Pages count from 1."""
    source = open_source(GOOD, LIMITS)
    with pytest.raises(Unreadable, match=f"There is no page {number}: the document has 1"):
        source.read(number)
    source.close()


@settings(max_examples=120, deadline=None)
@given(
    head=st.sampled_from((b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\x00", b"")),
    data=st.binary(max_size=300),
)
def test_random_bytes_are_refused(head: bytes, data: bytes) -> None:
    """Whatever the bytes, they are read or refused."""
    assert outcome_of(head + data + b"%%EOF")


@settings(max_examples=120, deadline=None)
@given(place=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255), cut=st.integers(0, len(GOOD)))
def test_a_damaged_document_is_read_or_refused(place: int, byte: int, cut: int) -> None:
    """A byte that changed, and an end that is missing, raise nothing else."""
    damaged = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    outcomes = [outcome_of(data) for data in (damaged, GOOD[:cut], GOOD[:cut] + b"%%EOF")]

    assert all(outcomes)
