"""Threads for what takes long, in turns: a small job never waits for a big one to end.

A job is a generator whose steps are bounded. A thread takes the job that waited longest, runs one step, and puts it
back behind the others; so with n jobs about, each gets every n-th step, and a job of one step waits for n at most.
A job that nobody waits for any more is dropped before its next step.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]
_MIN_THREADS = 2
_MAX_THREADS = 4
_WORK_S = 0.001
_PAUSE_S = 0.000_01
"""Now and then a thread sleeps: one that only lets go of Python's lock for an instant has it back before the event
loop's thread is awake, and the waiting loop never gets to ask for it."""


@dataclass(slots=True, eq=False)
class _Job:
    steps: Generator[None, None, Any]
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[Any]
    is_given_up: bool = False


class FairPool:
    """Threads that start when they are first needed.

    Args:
        threads: how many.
        name: of the threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        self.size = threads
        self._name = name
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._is_started = False

    async def run(self, steps: Steps[T]) -> T:
        """Run a job to its end; returns what it returns, raises what it raises.

        Raises:
            asyncio.CancelledError: nobody waits, or the pool was closed; the job stops after the step it is at.
        """
        loop = asyncio.get_running_loop()
        job = _Job(steps, loop, loop.create_future())
        self._start()
        self._put(job)
        try:
            result: T = await job.result
        finally:
            job.is_given_up = True
        return result

    def close(self) -> None:
        """Let the threads go after the steps they are at; jobs that are not done are cancelled."""
        with self._changed:
            self._is_closed = True
            left = list(self._jobs)
            self._jobs.clear()
            self._changed.notify_all()
        for job in left:
            _drop(job)

    def _start(self) -> None:
        if self._is_started:
            return
        self._is_started = True
        for number in range(self.size):
            threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True).start()

    def _put(self, job: _Job) -> None:
        with self._changed:
            if not self._is_closed:
                self._jobs.append(job)
                self._changed.notify()
                return
        _drop(job)

    def _take(self) -> _Job | None:
        with self._changed:
            while not self._jobs and not self._is_closed:
                self._changed.wait()
            return None if self._is_closed else self._jobs.popleft()

    def _work(self) -> None:
        paused_s = time.perf_counter()
        while (job := self._take()) is not None:
            self._step(job)
            if time.perf_counter() - paused_s > _WORK_S:
                time.sleep(_PAUSE_S)
                paused_s = time.perf_counter()

    def _step(self, job: _Job) -> None:
        if job.is_given_up:
            job.steps.close()
            return
        try:
            next(job.steps)
        except StopIteration as done:
            _tell(job, job.result.set_result, done.value)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the job is waited for
            _tell(job, job.result.set_exception, error)
        else:
            self._put(job)


def _drop(job: _Job) -> None:
    job.steps.close()
    _tell(job, job.result.cancel)


def _tell(job: _Job, settle: Any, *values: Any) -> None:
    def settle_once() -> None:
        if not job.result.done():
            settle(*values)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        job.loop.call_soon_threadsafe(settle_once)


def default_size() -> int:
    """One thread for each core that this process may use, within reason; at least two: one may be at a long step."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cores = os.cpu_count() or 1
    return max(_MIN_THREADS, min(_MAX_THREADS, cores))
