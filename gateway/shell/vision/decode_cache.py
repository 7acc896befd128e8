"""A decoder that remembers, through aiocache: what was read of a region is not read again for a while.

Only readings are kept, no faults, and none that was cut off. Without aiocache, or with nothing to keep, each is read
anew.

Invariants, each with a test of its own:
  1. A reading is returned again for the same document, region, fidelity and backend only, within its time.
  2. Never more readings than the bound.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

import msgspec

from gateway.core.cache.answer import Record
from gateway.core.vision.decoding import decoding_key
from gateway.core.vision.document import Fidelity, Reading
from gateway.exchange import Exchange
from gateway.ports import AnswerStore
from gateway.ports_vision import Decoder, ToDecode

_MAX_BYTES = 64 << 20
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Reading).decode


class Remembered(NamedTuple):
    """For how long readings are kept, and how many."""

    ttl_s: float
    max_entries: int


class CachedDecoder:
    """`ports.Decoder` around another.

    Args:
        decoder: that is asked for what is not remembered.
        rules: how long and how many.
        tally: where `hit` and `miss` are counted.
    """

    def __init__(self, decoder: Decoder, rules: Remembered, tally: Counter[str]) -> None:
        self._decoder = decoder
        self._rules = rules
        self._tally = tally
        self._store: AnswerStore | None = None
        self.version = decoder.version

    async def decode(self, exchange: Exchange, wanted: ToDecode, fidelity: Fidelity) -> Reading:
        key = decoding_key(wanted.document_hash, wanted.region.id, fidelity, self.version)
        store = self._opened()
        record = await store.get(key)
        if record is not None:
            self._tally["hit"] += 1
            return _decode(record.body)
        self._tally["miss"] += 1
        reading = await self._decoder.decode(exchange, wanted, fidelity)
        if not reading.is_cut:
            await store.put(key, Record(False, [], _encode(reading), 0, 0, time.time()))
        return reading

    def _opened(self) -> AnswerStore:
        if self._store is None:
            from gateway.shell.cache.memory import MemoryAnswers  # aiocache is an extra, loaded when it is used first

            self._store = MemoryAnswers(self._rules.ttl_s, self._rules.max_entries, _MAX_BYTES)
        return self._store
