"""`ports.Calibrations`: what was learned of each (upstream, model), in memory, written to the state store now and then.

Nothing here waits for the store: it is read once at the start and written in batches, at intervals and at the end. What
was learned since the last write may be lost with the process; what is read is believed only as far as it can be parsed.

Invariants, each with a test of its own:
  1. At most `max_keys` calibrations are held; the one that learned least recently goes first, from the store too.
  2. A restart continues where the last write stood; corrupt, foreign and outdated entries are dropped and counted.
  3. A changed correction is logged, once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator

import msgspec

from gateway.core.tokens.calibration import (
    MILLION,
    NO_CORRECTION,
    WINDOW,
    Calibration,
    Correction,
    Prior,
    learn,
    new_calibration,
    parse_calibration,
    render_calibration,
)
from gateway.core.tokens.robust_fit import Sample
from gateway.core.wire.usage import Usage
from gateway.ports import StateStore

_log = logging.getLogger("gateway.calibration")
SPACE = "calibration"
MAX_KEYS = 500
_ALL_UNTIL, _SAMPLE_PERIOD_S = 4 * WINDOW, 0.05
"""After so many answers, one in each such period is enough: learning from one takes 2 to 14 us."""
_UNREADABLE = "unreadable"
_Key = tuple[str, str]
_decode_key = msgspec.json.Decoder(_Key).decode


class StoredCalibrations:
    """What was learned, by (upstream, model).

    Args:
        store: where it is kept across restarts.
        prior_of: what is believed of a model before its first answer.
        max_keys: bound of what is held.
    """

    def __init__(self, store: StateStore, prior_of: Callable[[str], Prior], max_keys: int = MAX_KEYS) -> None:
        self._store = store
        self._prior_of = prior_of
        self._max_keys = max_keys
        self._known: OrderedDict[_Key, Calibration] = OrderedDict()
        self._unwritten: set[_Key] = set()
        self._unlearned: dict[str, Correction] = {}
        self._next_sample_s = 0.0
        self.ignored: Counter[str] = Counter()
        self.learned = 0

    def correction_of(self, upstream: str, model: str) -> Correction:
        known = self._known.get((upstream, model))
        if known is not None:
            return known.applied
        correction = self._unlearned.get(model)
        if correction is None:
            correction = new_calibration(self._prior_of(model)).applied
            if len(self._unlearned) < self._max_keys:
                self._unlearned[model] = correction
        return correction

    def learn(self, upstream: str, model: str, raw_tokens: int, has_tools: bool, reported: Usage) -> None:
        key = upstream, model
        known = self._known.get(key)
        if known is not None and known.seen > _ALL_UNTIL:
            now = time.monotonic()
            if now < self._next_sample_s:
                return
            self._next_sample_s = now + _SAMPLE_PERIOD_S
        before = known or new_calibration(self._prior_of(model))
        sample = Sample(raw_tokens, has_tools, reported.prompt_tokens, reported.cached_tokens)
        after, ignored = learn(before, sample)
        if ignored is not None:
            self.ignored[ignored.value] += 1
            return
        self.learned += 1
        self._known[key] = after
        self._known.move_to_end(key)
        self._unwritten.add(key)
        if after.applied != before.applied:
            _log.info("a token correction changed", extra=_described(upstream, model, after))
        if len(self._known) > self._max_keys:
            oldest, _ = self._known.popitem(last=False)
            self._unwritten.add(oldest)

    def corrections(self) -> Iterator[tuple[str, str, Correction]]:
        """Upstream, model and correction of everything that is held, the most recently learned first."""
        for (upstream, model), state in reversed(self._known.items()):
            yield upstream, model, state.applied

    async def load(self) -> None:
        """Take up what an earlier process learned."""
        async for raw_key, data in self._store.scan(SPACE):
            try:
                key = _decode_key(raw_key)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                key = None
            state = parse_calibration(data, self._prior_of(key[1])) if key else None
            if key is None or state is None or len(self._known) >= self._max_keys:
                self.ignored[_UNREADABLE] += state is None
                await self._store.delete(SPACE, raw_key)
            elif key not in self._known:
                self._known[key] = state
        if self._known or self.ignored:
            dropped = self.ignored[_UNREADABLE]
            _log.info("token corrections loaded", extra={"loaded": len(self._known), "dropped": dropped})

    async def flush(self) -> None:
        """Write what was learned since the last time."""
        while self._unwritten:
            key = self._unwritten.pop()
            state = self._known.get(key)
            raw_key = msgspec.json.encode(key)
            if state is None:
                await self._store.delete(SPACE, raw_key)
            else:
                await self._store.put(SPACE, raw_key, render_calibration(state))

    async def flush_every(self, period_s: float) -> None:
        """Write at intervals until cancelled."""
        while True:
            await asyncio.sleep(period_s)
            await self.flush()


class NoCalibrations:
    """`ports.Calibrations` where counts are taken as they are."""

    def correction_of(self, upstream: str, model: str) -> Correction:
        return NO_CORRECTION

    def learn(self, upstream: str, model: str, raw_tokens: int, has_tools: bool, reported: Usage) -> None:
        """Nothing is learned."""


def _described(upstream: str, model: str, state: Calibration) -> dict[str, object]:
    applied = state.applied
    return {
        "upstream": upstream,
        "model": model,
        "ratio": applied.ratio_millionths / MILLION,
        "fixed_tokens": applied.fixed_tokens,
        "tools_tokens": applied.tools_tokens,
        "margin_ratio": applied.margin_millionths / MILLION,
        "margin_tokens": applied.margin_tokens,
        "answers": state.seen,
    }
