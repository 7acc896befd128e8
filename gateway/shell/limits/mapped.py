"""`ports.Limiter` for the workers of one gateway: the gauges stand in a file that all of them map.

Nothing is awaited, and nothing is decided without the locks of all limits that are asked, so nothing falls between
reading and writing. What a worker's running requests hold is noted beside the table, before it is taken there; when a
worker has died, the supervisor gives it back.

Invariants, each with a test of its own:
  1. Workers together let through what one process would.
  2. What a worker held that was killed is there again once it was given back, and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.core.limits.decision import Limit, Verdict, decide, settle
from gateway.core.limits.gauge import DAY_US, DAYS, Gauge, Kind, fresh
from gateway.shell.limits.memory import verdict_of, wall_us
from gateway.shell.limits.slots import Held, SlotTable, digest_of, holds_path


class MappedLimiter:
    """Limits of several workers.

    Args:
        folder: of the table.
        owner: number of this worker.
        clock_us: microseconds since 1970.
    """

    def __init__(self, folder: Path, owner: int, clock_us: Callable[[], int] = wall_us) -> None:
        self._table = SlotTable(folder, owner)
        self._clock_us = clock_us

    @property
    def forgotten(self) -> int:
        """Limits that lost their place though something was missing of them."""
        return self._table.forgotten

    def close(self) -> None:
        """Let go of the files."""
        self._table.close()

    def peek(self, limits: Sequence[Limit], units: Sequence[int]) -> Verdict:
        digests = [digest_of(limit) for limit in limits]
        with self._table.locked(digests):
            now_us = self._clock_us()
            gauges = [self._read(limit, digest, now_us)[1] for limit, digest in zip(limits, digests, strict=True)]
        present, refused = decide(limits, gauges, units, now_us)
        return verdict_of(limits, present, refused, now_us) if refused else Verdict(None, (), now_us // DAY_US)

    async def take(self, limits: Sequence[Limit], units: Sequence[int]) -> Verdict:
        digests = [digest_of(limit) for limit in limits]
        with self._table.locked(digests):
            now_us = self._clock_us()
            found = [self._read(limit, digest, now_us) for limit, digest in zip(limits, digests, strict=True)]
            present, refused = decide(limits, [gauge for _, gauge in found], units, now_us)
            if refused is None:
                for limit, digest, gauge, asked in zip(limits, digests, present, units, strict=True):
                    self._write(limit, digest, gauge, asked, now_us, now_us // DAY_US)
        return verdict_of(limits, present, refused, now_us)

    def settle(
        self, limits: Sequence[Limit], reserved: Sequence[int], used: Sequence[int], day: int, lease: str = ""
    ) -> None:
        digests = [digest_of(limit) for limit in limits]
        with self._table.locked(digests):
            now_us = self._clock_us()
            for limit, digest, was, now in zip(limits, digests, reserved, used, strict=True):
                if was or now:
                    gauge = self._read(limit, digest, now_us)[1]
                    self._write(limit, digest, settle(limit, gauge, was, now, now_us, day), -was, now_us, day)

    def _read(self, limit: Limit, digest: bytes, now_us: int) -> tuple[int | None, Gauge]:
        place = self._table.find(digest)
        slot = self._table.read(place) if place is not None else None
        return place, slot.gauge if slot is not None else fresh(limit.kind, limit.amount, now_us)

    def _write(self, limit: Limit, digest: bytes, gauge: Gauge, more: int, now_us: int, day: int) -> None:
        """The gauge, and so much more that is held. A worker that dies in between gives back what it had not taken, or
        had given back already: others have a little more for a while, and nobody less for ever.
        """
        place = self._table.find_or_make(digest, now_us)
        held = self._table.held(place, digest)
        is_of_day = limit.kind not in DAYS or held.day == day
        holds = more and limit.kind is not Kind.REQUESTS and (is_of_day or more > 0)
        after = Held(max(0, (held.units if is_of_day else 0) + more), day)
        if holds and more > 0:
            self._table.hold(place, digest, after)
        self._table.write(place, digest, limit, gauge)
        if holds and more < 0:
            self._table.hold(place, digest, after)


def give_back(folder: Path, owner: int, clock_us: Callable[[], int] = wall_us) -> int:
    """Return what a worker held that has died, and forget the worker; returns of how many limits it held something."""
    path = holds_path(folder, owner)
    if not path.exists():
        return 0
    table = SlotTable(folder, owner)
    returned = 0
    try:
        for place in table.places_held():
            slot = table.read(place)
            if slot is None:
                continue
            with table.locked([slot.digest]):
                slot = table.read(place)
                held = table.held(place, slot.digest) if slot is not None else Held(0, 0)
                if slot is not None and held.units:
                    gauge = settle(slot.limit, slot.gauge, held.units, 0, clock_us(), held.day)
                    table.write(place, slot.digest, slot.limit, gauge)
                    returned += 1
    finally:
        table.close()
        path.unlink()
    return returned
