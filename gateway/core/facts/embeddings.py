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
MAX_INPUT_BYTES = 8_000
"""Of a text, what is sent: a token is a byte at least, and OpenAI's models take 8,192 tokens."""


def render_embeddings_request(model: str, texts: Sequence[str]) -> bytes:
    """The body that asks for the embeddings of these texts, as numbers; of a long one, of its beginning."""
    inputs = [
        text[:MAX_INPUT_BYTES].encode("utf-8", "replace")[:MAX_INPUT_BYTES].decode("utf-8", "ignore") for text in texts
    ]
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
    except ValueError:
        return None


def _packed(numbers: Sequence[float]) -> bytes:
    largest = max(map(abs, numbers))
    if not largest or not math.isfinite(largest):
        raise ValueError("a vector without a length")
    scaled = [number / largest for number in numbers]  # so that no square is beyond what a float holds, or nothing
    length = math.hypot(*scaled)
    return struct.pack(f"<{len(scaled)}e", *[number / length for number in scaled])
