"""How late the event loop is: a timer that measures itself, four times a second."""

from __future__ import annotations

import asyncio
from typing import Protocol

_PERIOD_S = 0.25


class Observer(Protocol):
    """A histogram."""

    def observe(self, amount: float) -> None: ...


async def watch_loop_lag(lag: Observer) -> None:
    """Observe the loop's lag in seconds until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _PERIOD_S
        await asyncio.sleep(_PERIOD_S)
        lag.observe(max(0.0, loop.time() - due))
