"""In place of a reader and of jobs where the extra that they need is not installed: each call says which one."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from gateway.core.facts.memory import Scope
from gateway.core.vision.document import Box, Job, LaidPage, Reading
from gateway.ports_vision import DocumentStore, Inspected, VisionFault

NEEDED = "pypdfium2"
"""The package by which it is known whether the extra is there."""
_MESSAGE = "Documents cannot be read on this gateway: it needs pip install 'llm-gateway[vision]'."


class MissingReader:
    """`ports_vision.Reader` that reads nothing."""

    async def inspect(self, data: bytes) -> Inspected:
        raise VisionFault("disabled", _MESSAGE)

    def pages(self, data: bytes, first: int) -> AsyncGenerator[LaidPage, None]:
        raise VisionFault("disabled", _MESSAGE)

    async def render(self, data: bytes, page: int, box: Box | None, max_side_px: int) -> bytes:
        raise VisionFault("disabled", _MESSAGE)

    async def decode(self, data: bytes, page: int, box: Box, dpi: int) -> Reading:
        raise VisionFault("disabled", _MESSAGE)

    async def close(self) -> None:
        """Nothing runs."""


class MissingJobs:
    """`seeing.Jobs` that take no orders; those that were given before are told of.

    Args:
        store: of jobs.
    """

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self.tally: Counter[str] = Counter()

    async def submit(
        self, scope: Scope, source: str, data: bytes | None, metadata: Mapping[str, Any], *, is_forced: bool
    ) -> Job:
        raise VisionFault("disabled", _MESSAGE)

    async def cancel(self, owner: bytes, job_id: str) -> Job | None:
        return await self._store.job(owner, job_id)

    async def start(self) -> None:
        """Nothing runs."""

    async def close(self) -> None:
        """Nothing runs."""
