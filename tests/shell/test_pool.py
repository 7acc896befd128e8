"""Jobs take turns, stop when nobody waits, and end with the pool."""

import asyncio
import threading

import pytest

from gateway.shell.tokens.pool import FairPool, default_size


@pytest.fixture
async def pool():
    """One thread: what happens is a matter of order alone."""
    found = FairPool(1, "test")
    yield found
    found.close()


def steps(name, count, log, gate=None):
    """A job of some steps, each of which is logged; the first waits at the gate."""
    for number in range(count):
        if gate and not number:
            gate.wait(10)
        log.append(name)
        yield
    return f"{name} is done"


async def test_small_jobs_do_not_wait_for_a_big_one(pool):
    """However long the big one, a job of two steps is done after two turns of all jobs."""
    log, gate = [], threading.Event()
    big = asyncio.ensure_future(pool.run(steps("big", 1000, log, gate)))
    small = [asyncio.ensure_future(pool.run(steps(f"small {number}", 2, log))) for number in range(3)]
    await asyncio.sleep(0)
    gate.set()
    done = await asyncio.gather(*small)
    turns = log[:8]
    await big

    assert done == [f"small {number} is done" for number in range(3)]
    assert turns == ["big", "small 0", "small 1", "small 2"] * 2
    assert len(log) == 1006


async def test_a_job_that_nobody_waits_for_stops(pool):
    """After the step it is at; its generator is closed, and the next job has its turn."""
    log, gate, begun, closed = [], threading.Event(), threading.Event(), threading.Event()

    def endless():
        begun.set()
        try:
            yield from steps("big", 10**9, log, gate)
        finally:
            closed.set()

    big = asyncio.ensure_future(pool.run(endless()))
    await asyncio.to_thread(begun.wait, 10)
    big.cancel()
    with pytest.raises(asyncio.CancelledError):
        await big
    small = asyncio.ensure_future(pool.run(steps("small", 1, log)))
    await asyncio.sleep(0)
    gate.set()

    assert await small == "small is done"
    assert closed.is_set()
    assert log == ["big", "small"]


async def test_what_a_job_raises_is_raised_where_it_is_waited_for(pool):
    """A BaseException too, and the thread lives on."""

    class Panic(BaseException):
        pass

    def failing(error):
        yield
        raise error

    for error in (ValueError("bad"), Panic("worse")):
        with pytest.raises(type(error), match=str(error)):
            await pool.run(failing(error))
    assert await pool.run(steps("next", 1, [])) == "next is done"


async def test_a_closed_pool_cancels_what_is_left():
    """Jobs that wait, the one that is at a step, and those that come later."""
    pool, gate, log = FairPool(1, "test"), threading.Event(), []
    jobs = [asyncio.ensure_future(pool.run(steps(str(number), 5, log, gate))) for number in range(3)]
    await asyncio.sleep(0)
    pool.close()
    gate.set()
    results = await asyncio.gather(*jobs, pool.run(steps("late", 1, log)), return_exceptions=True)

    assert [type(result) for result in results] == [asyncio.CancelledError] * 4
    assert len(log) <= 1


async def test_many_jobs_on_many_threads_all_end_right():
    """Each job's result is its own; threads start once."""
    pool = FairPool(4, "many")

    def adding(number):
        total = 0
        for step in range(number):
            total += step
            yield
        return total

    found = await asyncio.gather(*(pool.run(adding(number)) for number in range(100)))
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("many")]
    pool.close()

    assert found == [number * (number - 1) // 2 for number in range(100)]
    assert len(threads) == 4


def test_the_size_is_within_reason():
    assert 2 <= default_size() <= 4
