"""What a gateway and a process that reads documents say to each other, over two pipes.

An order is a frame: its length in four bytes, big-endian, then msgpack. After `Hold` come the document's bytes as they
are. An answer is its length in four bytes, an `Outcome` in one, and a body: msgpack, a PNG, or words of UTF-8. Orders
are answered one at a time, in turn; `Hold` and `Drop` are not answered.
"""

from __future__ import annotations

import enum
import struct

import msgspec

from gateway.core.vision.document import Box

ORDER_HEAD = struct.Struct(">I")
ANSWER_HEAD = struct.Struct(">IB")
MAX_ORDER_BYTES = 4096
MAX_PAGE_BYTES = 8 << 20
"""Of a page or a reading as msgpack: a page of a book has some kB."""
MAX_PICTURE_BYTES = 64 << 20
MAX_MESSAGE_BYTES = 1000
OUT_OF_MEMORY = 71
"""The exit code of a process that met its bound of memory."""
BROKEN = 70
"""The exit code of a process that met a fault of its own, or a library's."""


class Outcome(enum.IntEnum):
    """What became of an order."""

    DONE = 0
    UNREADABLE = 1
    DISABLED = 2


class Start(msgspec.Struct, frozen=True):
    """What a process is told as it starts, as JSON on its command line.

    Attributes:
        parent_pid: without that parent it ends.
        memory_bytes: what it may take.
        max_pages: see `source.ReadLimits`, and the next two.
        max_pixels: of a picture.
        ocr: text is read from pictures.
    """

    parent_pid: int
    memory_bytes: int
    max_pages: int
    max_pixels: int
    ocr: bool


class Hold(msgspec.Struct, frozen=True, tag=True):
    """Keep the document of this hash: so many bytes follow."""

    hash: str
    size_bytes: int


class Drop(msgspec.Struct, frozen=True, tag=True):
    """Let the document of this hash go."""

    hash: str


class Inspect(msgspec.Struct, frozen=True, tag=True):
    """Say what a document is: `ports_vision.Inspected`."""

    hash: str


class ReadPage(msgspec.Struct, frozen=True, tag=True):
    """Read a page: `LaidPage`."""

    hash: str
    page: int


class Render(msgspec.Struct, frozen=True, tag=True):
    """Render a part of a page: a PNG."""

    hash: str
    page: int
    box: Box | None
    max_side_px: int


class Decode(msgspec.Struct, frozen=True, tag=True):
    """Read a part of a page at a size: `Reading`."""

    hash: str
    page: int
    box: Box
    dpi: int


Work = Inspect | ReadPage | Render | Decode
Order = Hold | Drop | Work


def render_order(order: Order) -> bytes:
    """An order's frame."""
    body = msgspec.msgpack.encode(order)
    return ORDER_HEAD.pack(len(body)) + body


def render_answer(outcome: Outcome, body: bytes) -> bytes:
    """An answer's frame."""
    return ANSWER_HEAD.pack(len(body), outcome) + body
