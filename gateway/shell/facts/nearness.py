"""How near the passages of a pool are to a question, by vectors that an endpoint made of both.

A passage is embedded with the end of what stands before it: an answer rarely says what it is about. The vectors of a
pool are put together once; while some are still missing, those passages count as neither near nor far. Needs numpy.

Invariants, each with a test of its own:
  1. What comes back is the cosine of each passage's vector and the question's, or None for a passage without one.
  2. Without the question's vector, or any passage's, there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.context.recall_pool import Pool
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.exchange import Exchange
from gateway.shell.facts.embedder import Embedder

CONTEXT_CHARS = 240
"""Of what stands before a passage, what is embedded with it."""
MAX_QUESTION_CHARS = 2_000
_ENTRY_BYTES = 300


def with_context(before: str, passage: str) -> str:
    """What of a passage is embedded."""
    return f"{before[-CONTEXT_CHARS:]}\n{passage}" if before else passage


class Nearness:
    """Cosines of passages and questions.

    Args:
        embedder: makes vectors.
        max_bytes: bound of what is put together.
    """

    def __init__(self, embedder: Embedder, max_bytes: int) -> None:
        self._embedder = embedder
        self._matrices = TwoGenerationCache[NDArray[Any]](max_bytes, _ENTRY_BYTES, lambda matrix: int(matrix.nbytes))

    async def to(
        self, exchange: Exchange, key: bytes, pool: Pool, read: Callable[[int], str], question: str
    ) -> list[float | None] | None:
        """The cosine of each passage to a question; None where there are no vectors in time.

        Args:
            exchange: on whose account.
            key: names the pool.
            pool: the passages.
            read: reads the text of a message, by its number.
            question: the latest user message.
        """
        matrix = self._matrices.get(key)
        asked = question[-MAX_QUESTION_CHARS:]
        if matrix is not None:
            (vector,) = await self._embedder.embed(exchange, [asked])
            return None if vector is None else (matrix @ _unpacked(vector)).tolist()
        vector, *vectors = await self._embedder.embed(exchange, [asked, *texts_of(pool, read)])
        there = [
            place for place, each in enumerate(vectors) if each is not None and vector and len(each) == len(vector)
        ]
        if vector is None or not there:
            return None
        matrix = np.stack([_unpacked(vectors[place] or b"") for place in there])
        if len(there) == len(vectors):
            self._matrices.put(key, matrix)
        near: list[float | None] = [None] * len(vectors)
        for place, cosine in zip(there, (matrix @ _unpacked(vector)).tolist(), strict=True):
            near[place] = cosine
        return near


def texts_of(pool: Pool, read: Callable[[int], str]) -> Sequence[str]:
    """What of each passage of a pool is embedded."""
    texts, before = [], ""
    for number, passage in zip(pool.numbers, pool.passages, strict=True):
        said = pool.memo.text_of(number, read)[passage.start : passage.end]
        texts.append(with_context(before, said))
        before = said
    return texts


def _unpacked(vector: bytes) -> NDArray[Any]:
    return np.frombuffer(vector, "<f2").astype(np.float32)
