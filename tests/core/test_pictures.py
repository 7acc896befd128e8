"""A picture's size from the head of its data URL: every format, cut at every byte, with every bit flipped."""

import base64
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.tokens.images import Size
from gateway.core.tokens.pictures import picture_size


def png(width, height):
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\0\0\0" + b"\0" * 40


def gif(width, height):
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\xf7\0\0" + b"\0" * 40


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg(width, height, *before, start=0xC0):
    frame = segment(start, b"\x08" + struct.pack(">HH", height, width) + b"\x03" + b"\x01\x22\0" * 3)
    return b"\xff\xd8" + b"".join(before) + frame + b"\xff\xda" + b"\0" * 40


def webp(kind, body):
    return (
        b"RIFF" + struct.pack("<I", 30 + len(body)) + b"WEBP" + kind + struct.pack("<I", len(body)) + body + b"\0" * 20
    )


def lossy(width, height):
    return webp(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width | 0x4000, height | 0x8000))


def lossless(width, height):
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14))


def extended(width, height):
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return webp(b"VP8X", b"\x10\0\0\0" + sides)


def bmp(width, height, header=40):
    sides = struct.pack("<hh" if header == 12 else "<ii", width, height)
    return b"BM" + b"\0" * 12 + struct.pack("<I", header) + sides + b"\0" * 30


EXIF = segment(0xE1, b"Exif\0\0" + b"\xff\xc0" * 20_000)
"""Holds what looks like frame headers, in a thumbnail."""
PICTURES = {
    "PNG": png(640, 480),
    "GIF": gif(640, 480),
    "JPEG": jpeg(640, 480),
    "JPEG with EXIF": jpeg(640, 480, segment(0xE0, b"JFIF\0" + b"\0" * 9), EXIF),
    "JPEG with 40 profiles": jpeg(640, 480, *[segment(0xE2, b"\0" * 65_000)] * 40),
    "progressive JPEG": jpeg(640, 480, segment(0xDB, b"\0" * 65), start=0xC2),
    "JPEG with Huffman tables before": jpeg(640, 480, segment(0xC4, b"\0" * 20)),
    "JPEG with fill bytes": jpeg(640, 480, b"\xff\xff"),
    "JPEG with a restart mark": jpeg(640, 480, b"\xff\xd0"),
    "WebP, lossy": lossy(640, 480),
    "WebP, lossless": lossless(640, 480),
    "WebP, extended": extended(640, 480),
    "BMP": bmp(640, 480),
    "BMP from top to bottom": bmp(640, -480),
    "BMP of OS/2": bmp(640, 480, header=12),
}


def url_of(data):
    return "data:image/x;base64," + base64.b64encode(data).decode()


@pytest.mark.parametrize("data", PICTURES.values(), ids=PICTURES)
def test_the_size_is_read_from_the_head(data):
    """From a data URL and from bare base64, whatever stands before the frame header."""
    assert picture_size(url_of(data)) == Size(640, 480)
    assert picture_size(base64.b64encode(data).decode()) == Size(640, 480)
    assert picture_size("data:;base64," + base64.urlsafe_b64encode(data).decode()) == Size(640, 480)


@pytest.mark.parametrize("data", PICTURES.values(), ids=PICTURES)
def test_cut_at_every_byte_it_is_the_size_or_unknown(data):
    """A truncated header never lies and never raises."""
    for end in [*range(min(len(data), 200)), len(data) - 30]:
        assert picture_size(url_of(data[:end])) in (None, Size(640, 480))


@pytest.mark.parametrize("data", PICTURES.values(), ids=PICTURES)
def test_with_any_byte_changed_the_sides_stay_possible(data):
    """A lying header yields sides from 1 to 65,535, or nothing."""
    for place in range(min(len(data), 80)):
        for value in (0, 1, 0x7F, 0x80, 0xFF, data[place] ^ 0x55):
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            found = picture_size(url_of(changed))

            assert found is None or all(0 < side <= 65_535 for side in found)


UNKNOWN = {
    "an address": "https://example.com/a.png",
    "nothing": "",
    "a data URL without base64": "data:image/svg+xml,<svg/>",
    "a data URL that says nothing": "data:",
    "no picture": url_of(b"hello world" * 10),
    "half a quartet": "data:image/png;base64,iVBORw0KGgo",
    "not base64": "data:image/png;base64,\u00e9\u00e9\u00e9\u00e9",
    "huge sides": url_of(png(2**31, 2**31)),
    "no side": url_of(png(0, 10)),
    "a JPEG without a frame": url_of(b"\xff\xd8" + EXIF * 3),
    "a JPEG that only fills": url_of(b"\xff\xd8" + b"\xff" * 5000),
    "a JPEG whose segments have no length": url_of(b"\xff\xd8" + b"\xff\xe1\0\0" * 3000),
    "a WebP of nothing known": url_of(webp(b"ICCP", b"\0" * 30)),
    "a WebP that starts between key frames": url_of(webp(b"VP8 ", b"\0" * 30)),
}


@pytest.mark.parametrize("url", UNKNOWN.values(), ids=UNKNOWN)
def test_what_cannot_be_read_is_unknown(url):
    assert picture_size(url) is None


@settings(max_examples=300)
@given(st.sampled_from(list(PICTURES.values())), st.binary(max_size=40), st.integers(0, 60))
def test_whatever_the_bytes_are_nothing_is_raised(data, noise, place):
    found = picture_size(url_of(data[:place] + noise + data[place:]))

    assert found is None or all(0 < side <= 65_535 for side in found)


@given(st.text(max_size=200))
def test_whatever_the_text_is_nothing_is_raised(text):
    for url in (text, "data:" + text, "data:image/png;base64," + text):
        found = picture_size(url)

        assert found is None or all(0 < side <= 65_535 for side in found)
