"""A decoder in which equal decodings are one, however many want it at the same time.

Invariants, each with a test of its own:
  1. While a decoding runs, an equal one waits for it, and gets the same reading or the same fault.
  2. Who leaves disturbs nobody who stays; once all have left, the decoding ends.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from gateway.core.vision.decoding import decoding_key
from gateway.core.vision.document import Fidelity, Reading
from gateway.exchange import Exchange
from gateway.ports_vision import Decoder, ToDecode


@dataclass(slots=True)
class _Flight:
    """A decoding that runs, and how many want it."""

    task: asyncio.Task[Reading]
    waiting: int = 0


class SharedDecoder:
    """`ports.Decoder` around another.

    Args:
        decoder: that is shared.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._flights: dict[bytes, _Flight] = {}
        self.version = decoder.version

    async def decode(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading:
        key = decoding_key(wanted.document_hash, wanted.region.id, fidelity, self.version)
        flight = self._flights.get(key)
        if flight is None:
            decoding = asyncio.ensure_future(self._decoder.decode(exchange, wanted, fidelity))
            assert isinstance(decoding, asyncio.Task)
            flight = self._flights[key] = _Flight(decoding)
            decoding.add_done_callback(partial(self._ended, key))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._flights.pop(key, None)
                flight.task.cancel()

    def _ended(self, key: bytes, decoding: asyncio.Future[Reading]) -> None:
        if not decoding.cancelled():
            decoding.exception()  # who wanted it may have left just before
        if (flight := self._flights.get(key)) is not None and flight.task is decoding:
            del self._flights[key]
