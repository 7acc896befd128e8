"""How near the passages of a pool are to a question, by vectors that an endpoint made of both.

A passage is embedded with the end of what stands before it: an answer rarely says what it is about. The vectors of a
pool are put together once; while some are still missing, those passages count as neither near nor far. Needs numpy.

Invariants, each with a test of its own:
  1. What comes back is the cosine of each passage's vector and the question's, or None for a passage without one.
  2. Without the question's vector, or any passage's, there is nothing; vectors of another length are none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.context.recall import Question
from gateway.core.context.recall_pool import Pool
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.exchange import Exchange
from gateway.shell.facts.embedder import Embedder

CONTEXT_CHARS = 240
"""Of what stands before a passage, what is embedded with it."""
MAX_QUESTION_CHARS = 2_000
_ENTRY_BYTES = 300
_NUMBER_BYTES = 2


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
        self, exchange: Exchange, question: Question, pool: Pool, read: Callable[[int], str], asked: str
    ) -> list[float | None] | None:
        """The cosine of each passage to a question; None where there are no vectors in time.

        Args:
            exchange: on whose account.
            question: what is asked of which pool, and with which reminders, whose similarity is known.
            pool: the passages.
            read: reads the text of a message, by its number.
            asked: the latest user message.
        """
        known = {each.number: each.similarity for each in question.reminders}
        near = [known.get(number) for number in pool.numbers]
        own = [place for place, number in enumerate(pool.numbers) if number not in known]
        matrix = self._matrices.get(question.pool)
        texts = texts_of(pool, own, read) if matrix is None else ()
        vector, *vectors = await self._embedder.embed(exchange, [asked[-MAX_QUESTION_CHARS:], *texts])
        if vector is not None and matrix is None:
            there = [at for at, each in enumerate(vectors) if each is not None and len(each) == len(vector)]
            own = [own[at] for at in there]
            matrix = np.stack([_unpacked(vectors[at] or b"") for at in there]) if there else None
            if matrix is not None and len(there) == len(vectors):
                self._matrices.put(question.pool, matrix)
        if vector is not None and matrix is not None and matrix.shape[1] == len(vector) // _NUMBER_BYTES:
            for place, cosine in zip(own, (matrix @ _unpacked(vector)).tolist(), strict=True):
                near[place] = cosine
        return near if any(each is not None for each in near) else None


def texts_of(pool: Pool, places: Sequence[int], read: Callable[[int], str]) -> list[str]:
    """What of these passages of a pool is embedded."""
    texts, before = [], ""
    for place in places:
        passage = pool.passages[place]
        said = pool.memo.text_of(pool.numbers[place], read)[passage.start : passage.end]
        texts.append(with_context(before, said))
        before = said
    return texts


def _unpacked(vector: bytes) -> NDArray[Any]:
    return np.frombuffer(vector, "<f2").astype(np.float32)
