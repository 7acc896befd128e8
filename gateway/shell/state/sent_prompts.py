"""`ports.SentPrompts`: when each conversation was last forwarded, in this process's memory.

One entry for a conversation and upstream: a later request's replaces that of the one before. The least recently sent
go first. Nothing is shared with other replicas and nothing outlives the process: what is not known here is not used.

Invariants, each with a test of its own:
  1. It never holds more than `max_entries`.
  2. What it finds is the newest that was sent of the chain asked for, to that upstream.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from gateway.exchange import SentMark
from gateway.ports import SentPrompt

MAX_ENTRIES = 20_000
"""Conversations; about 300 bytes each."""


class RememberedPrompts:
    """Remembers what was forwarded.

    Args:
        max_entries: the bound.
        clock: monotonic, in seconds.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._sent: OrderedDict[bytes, tuple[float, int, int]] = OrderedDict()

    def put(self, upstream: str, mark: SentMark) -> None:
        salt = _salt_of(upstream)
        newest, *earlier = [salt + key[:16] for key in mark.keys]
        for key in earlier:
            self._sent.pop(key, None)
        self._sent[newest] = (self._clock(), mark.tokens, mark.lasting_tokens)
        self._sent.move_to_end(newest)
        if len(self._sent) > self._max_entries:
            self._sent.popitem(last=False)

    def find(self, upstream: str, keys: Sequence[bytes]) -> SentPrompt | None:
        salt = _salt_of(upstream)
        for place, key in enumerate(keys):
            found = self._sent.get(salt + key[:16])
            if found is not None:
                sent_s, tokens, lasting_tokens = found
                return SentPrompt(place, self._clock() - sent_s, tokens, lasting_tokens)
        return None

    def __len__(self) -> int:
        return len(self._sent)


def _salt_of(upstream: str) -> bytes:
    return hashlib.blake2b(upstream.encode(), digest_size=8).digest()
