"""Vectors for tests: float16, of length 1."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

from gateway.core.facts.memory import Memory, Vector

MODEL = "embedder"


def packed(values: Sequence[float]) -> bytes:
    """Of length 1, as a store keeps it."""
    length = sum(value * value for value in values) ** 0.5
    return struct.pack(f"<{len(values)}e", *(value / length for value in values))


def some_vector(chance: random.Random, dimensions: int = 32) -> bytes:
    return packed([chance.gauss(0, 1) for _ in range(dimensions)])


def cosine(one: bytes, other: bytes) -> float:
    count = len(one) // 2
    pairs = zip(struct.unpack(f"<{count}e", one), struct.unpack(f"<{count}e", other), strict=True)
    return sum(a * b for a, b in pairs)


def vector_of(memory: Memory, data: bytes, model: str = MODEL) -> Vector:
    return Vector(memory.id, model, data)
