"""Background tasks: kept, their failures said, drained within a bound."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.tasks import TaskGroup


async def test_a_failure_is_logged_under_its_name(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody awaits it, and still it is not silent."""

    async def fail() -> None:
        raise RuntimeError("broken on purpose")

    tasks = TaskGroup()
    with caplog.at_level(logging.ERROR, "gateway.tasks"):
        tasks.spawn(fail(), "the broken one")
        await tasks.drain(1.0)
        await asyncio.sleep(0)

    (record,) = caplog.records
    assert record.__dict__["task"] == "the broken one"
    assert record.exc_info is not None


async def test_drain_waits_for_what_ends_and_cancels_what_does_not() -> None:
    """Bounded: the late one is cancelled and counted, the other one's work is done."""
    done = asyncio.Event()

    async def finish() -> None:
        await asyncio.sleep(0)
        done.set()

    tasks = TaskGroup()
    late = tasks.spawn(asyncio.Event().wait(), "late")
    tasks.spawn(finish(), "finishing")

    cancelled = await tasks.drain(0.01)

    assert cancelled == 1
    assert done.is_set()
    assert late.cancelled()


async def test_drain_of_nothing_returns() -> None:
    """No task, no wait."""
    assert await TaskGroup().drain(60.0) == 0
