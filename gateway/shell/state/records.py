"""How briefs and arrangements are written for a store: a form number, a checksum, then MessagePack with fields by name.

A field that a dataclass gains with a default needs nothing here; one whose absence an older version must not overlook
raises `FORM`. What cannot be read is no error: the reader says why, and goes on as if it were not there.

Invariants, each with a test of its own:
  1. What was written is read back equal.
  2. Whatever bytes are read, the answer is a record that was written under this key, or a reason.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

import msgspec

from gateway.core.context.brief import Brief
from gateway.core.context.shorten import Arrangement
from gateway.shell.state.memory import Kind

FORM: Final = 1
Record = Brief | Arrangement
_HEAD = struct.Struct(">BI")
_DECODERS: dict[Kind, msgspec.msgpack.Decoder[Record]] = {
    Kind.APPLIED: msgspec.msgpack.Decoder(Brief),
    Kind.WAITING: msgspec.msgpack.Decoder(Brief),
    Kind.ARRANGEMENT: msgspec.msgpack.Decoder(Arrangement),
}


class UnusableRecord(Exception):  # noqa: N818 - named for what it is in metrics
    """Bytes that are no record of ours; `reason` is a stable word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def render_record(key: bytes, record: Record) -> bytes:
    """A record's bytes.

    Args:
        key: what it is stored under; under another it is none.
        record: a brief or an arrangement.

    Raises:
        UnusableRecord: it cannot be written, such as text with half of a surrogate pair.
    """
    try:
        content = msgspec.msgpack.encode(record)
    except (ValueError, OverflowError, TypeError):
        raise UnusableRecord("unwritable") from None
    return seal(key, content)


def seal(key: bytes, content: bytes) -> bytes:
    """Content with its form and a checksum over it and the key that it is stored under."""
    return _HEAD.pack(FORM, zlib.crc32(content, zlib.crc32(key))) + content


def unseal(key: bytes, data: bytes) -> bytes:
    """The content that was sealed so.

    Raises:
        UnusableRecord: with `form`, `checksum` or `unreadable`.
    """
    if len(data) < _HEAD.size:
        raise UnusableRecord("unreadable")
    form, checksum = _HEAD.unpack_from(data)
    if form != FORM:
        raise UnusableRecord("form")
    content = data[_HEAD.size :]
    if zlib.crc32(content, zlib.crc32(key)) != checksum:
        raise UnusableRecord("checksum")
    return content


def parse_record(kind: Kind, key: bytes, data: bytes) -> Record:
    """The record that was written so.

    Raises:
        UnusableRecord: with `form`, `checksum` or `unreadable`.
    """
    content = unseal(key, data)
    try:
        return _DECODERS[kind].decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise UnusableRecord("unreadable") from None
