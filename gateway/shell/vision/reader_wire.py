"""What a gateway and a process that reads documents say to each other: frames of msgpack behind their length.

A document is sent once, which is not answered, and named by its SHA-256 from then on; a process that has let go of it
answers that it is missing.

Invariants, each with a test of its own:
  1. What was rendered is read as the same, and nothing else is.
"""

from __future__ import annotations

import msgspec

from gateway.core.vision.document import Box, LaidPage, Reading
from gateway.ports_vision import Inspected

LENGTH_BYTES = 4
MAX_FRAME_BYTES = 1 << 31


class Limits(msgspec.Struct, frozen=True):
    """What a process may read, and take.

    Attributes:
        max_pages: of a document.
        max_pixels: of a picture, or a rendered page.
        ocr: text is read from pictures.
        memory_bytes: of the process.
        held_bytes: of documents that it keeps, beside the one it reads.
    """

    max_pages: int
    max_pixels: int
    ocr: bool
    memory_bytes: int
    held_bytes: int = 64 << 20


class Take(msgspec.Struct, tag=True, frozen=True):
    """Here is a document."""

    hash: bytes
    data: bytes


class Inspect(msgspec.Struct, tag=True, frozen=True):
    """What is it?"""

    hash: bytes


class ReadPage(msgspec.Struct, tag=True, frozen=True):
    """What stands on a page?"""

    hash: bytes
    page: int


class Render(msgspec.Struct, tag=True, frozen=True):
    """How does a part of a page look?"""

    hash: bytes
    page: int
    box: Box | None
    max_side_px: int


class Decode(msgspec.Struct, tag=True, frozen=True):
    """What does a part of a page say?"""

    hash: bytes
    page: int
    box: Box
    dpi: int


Asked = Take | Inspect | ReadPage | Render | Decode


class IsInspected(msgspec.Struct, tag=True, frozen=True):
    """What it is."""

    inspected: Inspected


class IsRead(msgspec.Struct, tag=True, frozen=True):
    """A page."""

    page: LaidPage


class IsRendered(msgspec.Struct, tag=True, frozen=True):
    """A PNG."""

    png: bytes


class IsDecoded(msgspec.Struct, tag=True, frozen=True):
    """What was read."""

    reading: Reading


class Refused(msgspec.Struct, tag=True, frozen=True):
    """It could not be done: `missing` (the document is not here), `unreadable`, or `memory`, after which the process
    ends.
    """

    kind: str
    message: str


Told = IsInspected | IsRead | IsRendered | IsDecoded | Refused
_read_asked = msgspec.msgpack.Decoder(Asked)
_read_told = msgspec.msgpack.Decoder(Told)


def render_frame(said: Asked | Told) -> bytes:
    """A frame with its length before it."""
    body = msgspec.msgpack.encode(said)
    return len(body).to_bytes(LENGTH_BYTES) + body


def read_asked(body: bytes) -> Asked:
    """What is asked for.

    Raises:
        msgspec.MsgspecError: nothing that can be.
    """
    asked: Asked = _read_asked.decode(body)
    return asked


def read_told(body: bytes) -> Told:
    """What is told.

    Raises:
        msgspec.MsgspecError: nothing that can be.
    """
    told: Told = _read_told.decode(body)
    return told
