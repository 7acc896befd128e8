"""A store of documents is opened, counted, swept and closed; one that is down stops nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.facts.memory import Scope
from gateway.ports_vision import VisionFault
from gateway.shell.vision.document_keeper import DocumentKeeper
from gateway.shell.vision.missing import MissingJobs, MissingReader
from gateway.shell.vision.sqlite import SqliteDocumentStore


class Store(SqliteDocumentStore):
    """A real one, that fails its first calls where it is told to, and says when it was swept."""

    def __init__(self, failing: int = 0) -> None:
        super().__init__()
        self.failing = failing
        self.swept = asyncio.Event()
        self.before_us = 0

    async def open(self) -> None:
        if self.failing:
            raise VisionFault("down", "as told")
        await super().open()

    async def totals(self) -> tuple[int, int]:
        if self.failing:
            self.failing -= 1
            raise VisionFault("down", "as told")
        return await super().totals()

    async def sweep(self, ended_before_us: int) -> int:
        self.before_us = ended_before_us
        self.swept.set()
        return await super().sweep(ended_before_us)


@pytest.mark.parametrize("failing", [0, 2])
async def test_a_store_is_kept(failing: int) -> None:
    store = Store(failing)
    keeper = DocumentKeeper(store, job_ttl_s=100.0, period_s=0.001, clock=lambda: 1000.0)
    await keeper.open()
    async with asyncio.timeout(10):
        await store.swept.wait()
    await keeper.close()

    assert store.before_us == 900_000_000
    assert (keeper.documents, keeper.regions, keeper.waiting) == (0, 0, 0)


async def test_a_store_that_hangs_holds_no_start_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Store):
        async def open(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr("gateway.shell.vision.document_keeper._OPEN_S", 0.01)
    keeper = DocumentKeeper(Hanging(), 100.0)
    async with asyncio.timeout(10):
        await keeper.open()
        await keeper.close()


async def test_without_the_extra_every_call_says_which_one() -> None:
    store, reader = SqliteDocumentStore(), MissingReader()
    jobs = MissingJobs(store)
    scope = Scope(b"o" * 32, "default")
    box: Any = None

    async def pages() -> None:
        async for _ in reader.pages(b"", 1):
            raise AssertionError

    for asking in (
        reader.inspect(b""),
        reader.render(b"", 1, None, 9),
        reader.decode(b"", 1, box, 72),
        pages(),
        jobs.submit(scope, "", b"", {}, is_forced=False),
    ):
        with pytest.raises(VisionFault, match=r"llm-gateway\[vision\]") as failed:
            await asking

        assert failed.value.kind == "disabled"
    assert await jobs.cancel(b"o" * 32, "0" * 32) is None
    await jobs.start()
    await jobs.close()
    await reader.close()
    await store.close()


async def test_a_fault_of_our_own_does_not_end_the_sweeping(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and there is a next time: else a store would grow and nobody would know."""

    class Odd(Store):
        async def held_bytes(self) -> int:
            if not self.before_us:
                self.before_us = 1
                raise TypeError("as told")
            return await super().held_bytes()

    store = Odd()
    keeper = DocumentKeeper(store, job_ttl_s=100.0, period_s=0.001, clock=lambda: 1000.0)
    await keeper.open()
    async with asyncio.timeout(10):
        await store.swept.wait()
    await keeper.close()

    assert store.before_us == 900_000_000
    assert "could not be swept" in caplog.text
