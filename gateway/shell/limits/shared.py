"""`ports.Limiter` in a Redis that replicas share: one decision a request for all of them together.

Each process holds what its running requests have taken under a lease, which it renews; of one that was killed the lease
runs out, and what it held is there again. Where Redis does not answer in time, each process goes on at once in its own
memory with its share of every limit: the limit over the replicas that were last seen. What was granted is put right
where it was granted.

After trouble a process goes on under a new lease: what it asked for then may have been granted without its knowing, and
comes back when the old lease runs out. Requests that still run under the old one are charged in full when they end.

Invariants, each with a test of its own:
  1. A decision takes one round trip, and no longer than the time limit; then this process decides alone.
  2. While Redis is away, each replica lets through its share of what it last saw to be left, and of what refills. When
     Redis is back, what it had left is there once more: one amount at most, or two where it has forgotten everything.
  3. What a killed process held comes back within the lease.
  4. A caller that is cancelled while it waits has taken nothing, once the answer is there.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.limits.decision import Limit, Refused, Verdict, decide
from gateway.core.limits.gauge import DAY_US, Gauge, Kind, fresh
from gateway.shell.limits.memory import MemoryLimiter, verdict_of, wall_us
from gateway.shell.limits.script_line import LineDownError, ScriptLine
from gateway.shell.limits.scripts import (
    COUNT,
    RENEW,
    REPLICAS_KEY,
    Call,
    key_name,
    read_taken,
    settle_call,
    take_call,
)
from gateway.tasks import TaskGroup

_SEEN_S = 0.2
"""So long a refusal is repeated without asking again: who is refused and comes back at once costs no round trip."""
_MAX_SEEN = 10_000
_LOCAL = "local"
_BEATS_A_LEASE = 4
_MAX_LATE = 20_000
"""Requests of an outage whose use Redis is told of afterwards."""


class _Seen(NamedTuple):
    """A limit as Redis had it, and until when a refusal by it is repeated (seconds of the monotonic clock)."""

    limit: Limit
    gauge: Gauge
    refused_until_s: float


class SharedLimiter:
    """Limits of many replicas.

    Args:
        url: of Redis.
        is_cluster: whether it is one node of a cluster.
        timeout_s: what a decision may wait for Redis.
        lease_s: after this a replica that says nothing holds nothing any more.
        replicas: that are taken to be there until some were seen.
    """

    def __init__(self, url: str, is_cluster: bool, timeout_s: float, lease_s: float, replicas: int) -> None:
        self._line = ScriptLine(url, is_cluster, timeout_s, self._renounce, self._catch_up)
        self._lease_us = round(lease_s * 1e6)
        self._beat_s = lease_s / _BEATS_A_LEASE
        self._replica = uuid.uuid4().hex
        self._lease = uuid.uuid4().hex
        self._held: Counter[bytes] = Counter()
        self._local = MemoryLimiter()
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        self._late: deque[Call] = deque(maxlen=_MAX_LATE)
        self._tasks = TaskGroup()
        self._beating: asyncio.Task[None] | None = None
        self.replicas = replicas
        self.unsettled = 0

    async def open(self) -> None:
        """Connect, say that one is here, and see how many are."""
        await self._line.open()
        await self._beat()
        self._start_beating()

    async def close(self) -> None:
        """Say that one is gone, once what ended was put right."""
        if self._beating is not None:
            self._beating.cancel()
        if self._beating is not None and not self._line.is_down:
            await asyncio.wait([self._line.call(Call(COUNT, [REPLICAS_KEY], [self._replica, 0]))], timeout=1)
        await self._tasks.drain(0.5)
        await self._line.close()

    @property
    def is_down(self) -> bool:
        """Whether this process decides alone."""
        return self._line.is_down

    @property
    def faults(self) -> Counter[str]:
        """What went wrong so far, by reason; `down` are decisions that were not even asked for."""
        return self._line.faults

    @property
    def round_trips(self) -> int:
        """To Redis, so far."""
        return self._line.round_trips

    def peek(self, limits: Sequence[Limit], units: Sequence[int]) -> Verdict:
        if self._line.is_down:
            shares, own = self._shares(limits, units, self.replicas)
            return self._local.peek(shares, own)
        now_us, now_s = wall_us(), time.monotonic()
        known = [self._seen.get(limit.key) for limit in limits]
        gauges = [
            each.gauge if each is not None and now_s < each.refused_until_s else fresh(limit.kind, limit.amount, now_us)
            for limit, each in zip(limits, known, strict=True)
        ]
        present, refused = decide(limits, gauges, units, now_us)
        return verdict_of(limits, present, refused, now_us) if refused else Verdict(None, (), now_us // DAY_US)

    async def take(self, limits: Sequence[Limit], units: Sequence[int]) -> Verdict:
        if not limits:
            return Verdict(None, (), wall_us() // DAY_US)
        self._start_beating()
        lease = self._lease
        asked = self._line.call(take_call(limits, units, lease, self._lease_us))
        try:
            reply = await asyncio.shield(asked)
        except LineDownError:
            return await self._take_alone(limits, units)
        except asyncio.CancelledError:
            asked.add_done_callback(lambda done: self._give_back(done, limits, units, lease))
            raise
        taken = read_taken(reply)
        gauges, refused = decide(limits, taken.present, units, taken.now_us)
        self._remember(limits, gauges, is_refused=not taken.is_granted)
        if not taken.is_granted:
            return verdict_of(limits, taken.present, refused or _unexplained(limits, units), taken.now_us)
        self._hold(limits, units, lease)
        return verdict_of(limits, gauges, None, taken.now_us, lease)

    def settle(
        self, limits: Sequence[Limit], reserved: Sequence[int], used: Sequence[int], day: int, lease: str = ""
    ) -> None:
        if lease.startswith(_LOCAL):
            shares, own = self._shares(limits, reserved, int(lease.removeprefix(_LOCAL)))
            self._local.settle(shares, own, used, day)
            return
        changed = [
            each
            for each in zip(limits, reserved, used, strict=True)
            if each[1] != each[2] or (each[1] and each[0].kind is not Kind.REQUESTS)
        ]
        if not changed:
            return
        which, was, now = zip(*changed, strict=True)
        if lease == self._lease:
            self._held.subtract([limit.key for limit, units, _ in changed if units and limit.kind is not Kind.REQUESTS])
        self._put_right(which, was, now, day, lease)

    def _put_right(
        self, limits: Sequence[Limit], reserved: Sequence[int], used: Sequence[int], day: int, lease: str
    ) -> None:
        self._tell(settle_call(limits, reserved, used, lease, self._lease_us, day))

    def _tell(self, call: Call) -> None:
        """Say what was used; while Redis is away that waits for it. One that was heard and not answered in time is said
        twice then: what a request had over it gets twice, which is little.
        """

        def note(done: asyncio.Future[object]) -> None:
            if not done.cancelled() and done.exception() is not None:
                self.unsettled += len(self._late) == _MAX_LATE
                self._late.append(call)

        self._line.call(call).add_done_callback(note)

    def _catch_up(self) -> None:
        """Tell Redis, which is back, what it missed."""
        late = [*self._late]
        self._late.clear()
        for call in late:
            self._tell(call)

    def _give_back(
        self, done: asyncio.Future[list[int]], limits: Sequence[Limit], units: Sequence[int], lease: str
    ) -> None:
        """What was granted to a request that did not wait for it."""
        if done.cancelled() or done.exception() is not None:
            return
        taken = read_taken(done.result())
        if taken.is_granted:
            self._put_right(limits, units, [0] * len(units), taken.now_us // DAY_US, lease)

    # Leases

    def _hold(self, limits: Sequence[Limit], units: Sequence[int], lease: str) -> None:
        if lease == self._lease:
            self._held.update(
                [limit.key for limit, n in zip(limits, units, strict=True) if n and limit.kind is not Kind.REQUESTS]
            )

    def _renounce(self) -> None:
        """Go on under a new lease, and with shares of what was left."""
        self._lease = uuid.uuid4().hex
        self._held.clear()
        for limit, gauge, _ in self._seen.values():
            if limit.kind is not Kind.CONCURRENT:
                share = self._shares([limit], [0], self.replicas)[0][0]
                self._local.begin(share, Gauge(gauge.level // self.replicas, gauge.at))
        self._seen.clear()

    def _start_beating(self) -> None:
        if self._beating is None:
            self._beating = self._tasks.spawn(self._beat_on(), "renew leases of rate limits")

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            await self._beat()

    async def _beat(self) -> None:
        """Say that one is here, and go on holding what is held."""
        if self._line.is_down:
            return
        self._held = +self._held
        count = self._line.call(Call(COUNT, [REPLICAS_KEY], [self._replica, self._lease_us]))
        renewed = [
            self._line.call(Call(RENEW, [key], [self._lease, self._lease_us])) for key in map(key_name, self._held)
        ]
        found = (await asyncio.gather(count, *renewed, return_exceptions=True))[0]
        if isinstance(found, int):
            self.replicas = max(1, found)

    # Without Redis

    async def _take_alone(self, limits: Sequence[Limit], units: Sequence[int]) -> Verdict:
        among = self.replicas
        shares, own = self._shares(limits, units, among)
        verdict = await self._local.take(shares, own)
        return verdict if verdict.refused else Verdict(None, verdict.states, verdict.day, f"{_LOCAL}{among}")

    @staticmethod
    def _shares(limits: Sequence[Limit], units: Sequence[int], among: int) -> tuple[list[Limit], list[int]]:
        """One replica's share of limits, and what of these units it can be asked for: what one request may take of the
        whole limit it may take of the share, too, when that is full, and owes the rest.
        """
        shares = [Limit(limit.key, limit.kind, max(1, limit.amount // among)) for limit in limits]
        own = [
            min(asked, share.amount) if asked <= limit.amount else asked
            for limit, share, asked in zip(limits, shares, units, strict=True)
        ]
        return shares, own

    def _remember(self, limits: Sequence[Limit], gauges: Sequence[Gauge], *, is_refused: bool) -> None:
        """What was found, so that a refusal can be repeated, and shares be taken of what is left."""
        until_s = time.monotonic() + _SEEN_S if is_refused else 0.0
        for limit, gauge in zip(limits, gauges, strict=True):
            self._seen.pop(limit.key, None)
            self._seen[limit.key] = _Seen(limit, gauge, until_s)
        while len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)


def _unexplained(limits: Sequence[Limit], units: Sequence[int]) -> Refused:
    """Redis refused what seems to fit: taken for the first limit, for a moment."""
    return Refused(limits[0], 0, units[0], 1_000_000)
