"""A picture's width and height from the first bytes of its data URL; the picture itself is never decoded.

Base64 is read where it is needed: four characters at a time, since each four stand for three bytes. PNG, GIF, BMP and
WebP say their size within the first 30 bytes; a JPEG's segments are walked, however large its EXIF data and
colour profiles are, until the frame header.

Invariants, each with a test of its own:
  1. Whatever the text is: a size with both sides from 1 to 65,535, or None. Never an exception.
  2. At most `_MAX_SEGMENTS` small reads are made, whatever the header claims.
"""

from __future__ import annotations

from binascii import Error as BadBase64
from binascii import a2b_base64
from collections.abc import Callable

from gateway.core.tokens.images import Size

_MAX_SEGMENTS = 512
"""Of a JPEG before its frame header; real ones have a few dozen."""
_MAX_SIDE_PX = 65_535
_HEAD_CHARS = 128
"""Within which `base64,` stands in a data URL."""
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers SOF0 to SOF15 (baseline, progressive, lossless ...), less DHT, JPG and DAC."""
_BARE_MARKERS = frozenset(range(0xD0, 0xDA)) | {0x01}
"""JPEG markers without a segment."""
Read = Callable[[int, int], bytes]
"""Bytes start <= i < start + size, or what there is of them."""


def picture_size(url: str) -> Size | None:
    """The size of the picture in a data URL, or in bare base64.

    Args:
        url: as the request holds it.

    Returns:
        None where it is no base64, of no known format, cut short, or claims impossible numbers.
    """
    start = url.find("base64,", 0, _HEAD_CHARS) + len("base64,") if url.startswith("data:") else 0
    if url.startswith("data:") and start < len("base64,"):
        return None

    def read(at: int, size: int) -> bytes:
        first = start + at // 3 * 4
        chars = url[first : first + (size + 4) // 3 * 4 + 4]
        raw = chars.encode("ascii", "replace").translate(_URL_SAFE)
        return a2b_base64(raw + b"=" * (-len(raw) % 4))[at % 3 : at % 3 + size]

    try:
        found = _size_in(read)
    except (BadBase64, IndexError, ValueError):
        return None
    return found if found and all(0 < side <= _MAX_SIDE_PX for side in found) else None


def _size_in(read: Read) -> Size | None:
    head = read(0, 30)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Size(_big(head, 16, 4), _big(head, 20, 4))
    if head.startswith(b"\xff\xd8"):
        return _jpeg_size(read)
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Size(_little(head, 6, 2), _little(head, 8, 2))
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp_size(head)
    if head.startswith(b"BM"):
        return _bmp_size(head)
    return None


def _jpeg_size(read: Read) -> Size | None:
    at = 2
    for _ in range(_MAX_SEGMENTS):
        head = read(at, 9)
        if head[0] != 0xFF:
            return None
        marker = head[1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _BARE_MARKERS:
            at += 2
        elif marker in _FRAME_HEADERS:
            return Size(_big(head, 7, 2), _big(head, 5, 2))
        else:
            at += 2 + max(2, _big(head, 2, 2))
    return None


def _webp_size(head: bytes) -> Size | None:
    kind = head[12:16]
    if kind == b"VP8X":  # extended: 24 bits each, less one
        return Size(_little(head, 24, 3) + 1, _little(head, 27, 3) + 1)
    if kind == b"VP8 ":  # lossy: 14 bits each after the key frame's start code
        is_key_frame = head[23:26] == b"\x9d\x01\x2a"
        return Size(_little(head, 26, 2) & 0x3FFF, _little(head, 28, 2) & 0x3FFF) if is_key_frame else None
    if kind == b"VP8L" and head[20:21] == b"\x2f":  # lossless: 14 bits each, less one
        bits = _little(head, 21, 4)
        return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    return None


def _bmp_size(head: bytes) -> Size:
    if _little(head, 14, 4) == 12:  # the oldest header has 16 bits a side
        return Size(_little(head, 18, 2), _little(head, 20, 2))
    width = int.from_bytes(_cut(head, 18, 4), "little", signed=True)
    height = int.from_bytes(_cut(head, 22, 4), "little", signed=True)
    return Size(width, abs(height))  # a negative height means that the rows run from the top


def _big(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(_cut(data, at, size), "big")


def _little(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(_cut(data, at, size), "little")


def _cut(data: bytes, at: int, size: int) -> bytes:
    if len(data) < at + size:
        raise IndexError("the header is cut short")
    return data[at : at + size]
