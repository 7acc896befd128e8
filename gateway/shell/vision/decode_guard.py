"""A decoder that is asked with care: so many at once, again where that may help, not at all while its breaker is open.

Invariants, each with a test of its own:
  1. Never more than `max_concurrent` decodings run.
  2. What fails for good is tried once; what may pass is tried `retries` times more, after pauses that double.
  3. An open breaker refuses at once; once its time is over one decoding tries for all, and if that is cancelled, the
     next one does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.core.routing.breaker import CLOSED, Breaker, BreakerRules, Event, after, ask, give_back
from gateway.core.vision.decoding import pause_s
from gateway.core.vision.document import Fidelity, Reading
from gateway.exchange import Exchange
from gateway.ports_vision import Decoder, ToDecode, VisionFault
from gateway.shell.vision.backend import BackendFault, late

_OPEN = "The vision backend has failed again and again, and is left alone for a while (vision.circuit_breaker_*)."


@dataclass(frozen=True, slots=True)
class GuardRules:
    """How a decoder is asked.

    Attributes:
        max_concurrent: decodings at once.
        timeout_s: of one try.
        wait_s: how long a decoding waits for its turn.
        retries: after the first try.
        backoff_s: of the first pause.
        breaker: when it is left alone, and for how long.
    """

    max_concurrent: int
    timeout_s: float
    wait_s: float
    retries: int
    backoff_s: float
    breaker: BreakerRules


class GuardedDecoder:
    """`ports.Decoder` around another.

    Args:
        decoder: that is guarded.
        rules: how.
        tally: where tries are counted: `tries` and `retries`.
        clock: seconds, never going back.
        jitter: 0 to 1.
        sleep: waits.
    """

    def __init__(
        self,
        decoder: Decoder,
        rules: GuardRules,
        tally: Counter[str],
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._decoder = decoder
        self._rules = rules
        self._tally = tally
        self._clock = clock
        self._jitter = jitter
        self._sleep = sleep
        self._places = asyncio.Semaphore(rules.max_concurrent)
        self.breaker: Breaker = CLOSED
        self.version = decoder.version

    async def decode(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading:
        tries = 1
        while True:
            try:
                return await self._in_turn(exchange, wanted, fidelity)
            except BackendFault as fault:
                if not fault.is_passing or tries > self._rules.retries:
                    raise
            await self._sleep(pause_s(tries, self._rules.backoff_s, self._jitter()))
            tries += 1
            self._tally["retries"] += 1

    async def _in_turn(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading:
        """One try, once there is a place for it."""
        try:
            async with asyncio.timeout(self._rules.wait_s):
                await self._places.acquire()
        except TimeoutError:
            message = f"{self._rules.max_concurrent} regions are being read; none ended in {self._rules.wait_s:g} s."
            raise VisionFault("timeout", message) from None
        try:
            return await self._try(exchange, wanted, fidelity)
        finally:
            self._places.release()

    async def _try(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading:
        self.breaker, may = ask(self.breaker, self._clock())
        if not may:
            raise VisionFault("disabled", _OPEN)
        self._tally["tries"] += 1
        try:
            async with asyncio.timeout(self._rules.timeout_s):
                reading = await self._decoder.decode(exchange, wanted, fidelity)
        except TimeoutError:
            self._report(Event.FAILURE, 0.0)
            raise late(self._rules.timeout_s) from None
        except BackendFault as fault:
            self._report(fault.event, fault.cooldown_s)
            raise
        except BaseException:
            self._report(None, 0.0)  # cancelled, or a fault that is none of the backend's
            raise
        self._report(Event.SUCCESS, 0.0)
        return reading

    def _report(self, event: Event | None, cooldown_s: float) -> None:
        if event is None:
            self.breaker = give_back(self.breaker)
            return
        self.breaker = after(self.breaker, event, self._rules.breaker, self._clock(), self._jitter(), cooldown_s)
