"""Embeddings on the wire, and vectors as they are kept: float16, little-endian, of length 1.

Source: platform.openai.com/docs/api-reference/embeddings (2026-01).

Invariants, each with a test of its own:
  1. An answer that is not one vector of one length for each input is none.
  2. A vector that is kept has length 1, but for what half precision loses.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import msgspec


class _Datum(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Datum]


_decode = msgspec.json.Decoder(_Answer).decode


def render_embeddings_request(model: str, texts: Sequence[str]) -> bytes:
    """The body that asks for the embeddings of these texts, as numbers."""
    inputs = [text.encode("utf-8", "replace").decode() for text in texts]
    return msgspec.json.encode({"model": model, "input": inputs, "encoding_format": "float"})


def read_embeddings(body: bytes, count: int) -> list[bytes] | None:
    """The vectors in an answer, in the order of the inputs; None where they are not all there.

    Args:
        body: of the answer.
        count: how many were asked for.
    """
    try:
        data = sorted(_decode(body).data, key=lambda datum: datum.index)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    lengths = {len(datum.embedding) for datum in data}
    if [datum.index for datum in data] != list(range(count)) or len(lengths) > 1 or 0 in lengths:
        return None
    try:
        return [_packed(datum.embedding) for datum in data]
    except (OverflowError, ValueError):
        return None


def _packed(numbers: Sequence[float]) -> bytes:
    length = math.sqrt(math.fsum(number * number for number in numbers))
    if not length or not math.isfinite(length):
        raise ValueError("a vector without a length")
    return struct.pack(f"<{len(numbers)}e", *[number / length for number in numbers])
