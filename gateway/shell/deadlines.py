"""Many deadlines, one timer.

`asyncio.timeout` makes and cancels a timer for every wait; a gateway waits several times a request and almost never
runs into one. Here a wait only notes when it is due, and one timer looks at all of them ten times a second, so a
deadline is met to within a tenth of a second.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

_TICK_S = 0.1


class Deadlines:
    """All waits of one event loop."""

    def __init__(self) -> None:
        self._waits: set[Wait] = set()
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> Wait:
        """A context in which the current task is cancelled when the time is over; then `TimeoutError` is raised."""
        return Wait(self, seconds)

    @property
    def is_ticking(self) -> bool:
        """Whether anybody waited at the last look."""
        return self._timer is not None

    def add(self, wait: Wait, loop: asyncio.AbstractEventLoop) -> None:
        """A wait begins."""
        self._waits.add(wait)
        if self._timer is None:
            self._timer = loop.call_later(_TICK_S, self._tick, loop)

    def discard(self, wait: Wait) -> None:
        """A wait has ended."""
        self._waits.discard(wait)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(_TICK_S, self._tick, loop) if self._waits else None
        now = loop.time()
        for wait in [wait for wait in self._waits if wait.due <= now]:
            wait.expire()


class Wait:
    """One wait; a context manager, used once."""

    __slots__ = ("_cancelling", "_deadlines", "_seconds", "_task", "due", "has_expired")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self.has_expired = False

    def __enter__(self) -> Wait:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self.due = loop.time() + self._seconds
        self._deadlines.add(self, loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.discard(self)
        if self.has_expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Interrupt the task that waits."""
        if not self.has_expired:
            self.has_expired = True
            self._task.cancel()
