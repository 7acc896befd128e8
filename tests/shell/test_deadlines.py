"""Deadlines: what takes too long is ended, what does not is left alone, a real cancellation stays one."""

from __future__ import annotations

import asyncio

import pytest

from gateway.shell.deadlines import Deadlines


async def test_a_wait_that_takes_too_long_times_out() -> None:
    """The task goes on after it, uncancelled."""
    deadlines = Deadlines()

    with pytest.raises(TimeoutError), deadlines.within(0.01):
        await asyncio.Event().wait()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_wait_that_ends_in_time_leaves_no_trace() -> None:
    """Nothing is cancelled later, and the timer stops when nobody waits."""
    deadlines = Deadlines()
    with deadlines.within(0.01):
        await asyncio.sleep(0)
    await asyncio.sleep(0.25)

    assert not deadlines.is_ticking


async def test_a_cancellation_from_outside_stays_one() -> None:
    """A client that leaves is not taken for a slow upstream."""
    deadlines = Deadlines()
    waiting = asyncio.Event()

    async def wait() -> None:
        with deadlines.within(60):
            waiting.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await waiting.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_waits_are_told_apart() -> None:
    """Of many at once only the late ones are ended."""
    deadlines = Deadlines()

    async def wait(limit_s: float, work_s: float) -> bool:
        try:
            with deadlines.within(limit_s):
                await asyncio.sleep(work_s)
        except TimeoutError:
            return False
        return True

    outcomes = await asyncio.gather(*(wait(limit_s, 0.4) for limit_s in (0.05, 60, 0.1, 60)))

    assert outcomes == [False, True, False, True]


async def test_an_inner_wait_does_not_end_the_outer_one() -> None:
    """Nested: each has its own time."""
    deadlines = Deadlines()
    with deadlines.within(60):
        with pytest.raises(TimeoutError), deadlines.within(0.01):
            await asyncio.Event().wait()
        await asyncio.sleep(0)
