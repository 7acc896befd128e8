"""Limits that replicas share in a real Redis: decided together, and by shares while it is slow, stopped or gone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from gateway.core.limits.decision import Limit, Verdict
from gateway.core.limits.gauge import Kind
from gateway.shell.limits.scripts import key_name
from gateway.shell.limits.shared import SharedLimiter
from tests.redis_server import RedisServer, StallingWire, free_port, redis_server, shared_redis

__all__ = ["redis_server", "shared_redis"]

TIMEOUT_S = 0.4


def limit_of(kind: Kind, amount: int) -> Limit:
    return Limit(os.urandom(32) + kind.value.encode(), kind, amount)


@asynccontextmanager
async def opened(
    url: str, lease_s: float = 30.0, replicas: int = 1, *, is_cluster: bool = False
) -> AsyncIterator[SharedLimiter]:
    limiter = SharedLimiter(url, is_cluster, TIMEOUT_S, lease_s, replicas)
    await limiter.open()
    try:
        yield limiter
    finally:
        await limiter.close()


async def take(limiter: SharedLimiter, limit: Limit, units: int) -> Verdict:
    return await limiter.take([limit], [units])


async def put_right(limiter: SharedLimiter, limit: Limit, verdict: Verdict, reserved: int, used: int) -> None:
    """Settle, and wait until it is so in Redis."""
    limiter.settle([limit], [reserved], [used], verdict.day, verdict.lease)
    await limiter.take([limit], [0])


async def until(condition: Any, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_replicas_decide_together(redis_server: RedisServer) -> None:
    """What one takes the other lacks, and has again when it is put right; neither writes twice."""
    limit = limit_of(Kind.TOKENS, 100)
    async with opened(redis_server.url) as one, opened(redis_server.url) as other:
        first = await take(one, limit, 80)
        refused = await take(other, limit, 30)
        told = (refused.refused, first.states[0].left, refused.states[0].left)
        await put_right(one, limit, first, 80, 10)
        again = await take(other, limit, 80)

    assert first.refused is None
    assert told[0] is not None
    assert told[0].wait_us is not None
    assert (told[1], told[2]) == (20, 20)
    assert again.refused is None


async def test_all_limits_or_none(redis_server: RedisServer) -> None:
    """What one limit refuses is taken of no other."""
    scope = os.urandom(32)
    limits = [Limit(scope + b"r", Kind.REQUESTS, 10), Limit(scope + b"c", Kind.CONCURRENT, 1)]
    async with opened(redis_server.url) as limiter:
        await limiter.take(limits, [1, 1])
        refused = await limiter.take(limits, [1, 1])

    assert refused.refused is not None
    assert refused.refused.limit.kind is Kind.CONCURRENT
    assert [state.left for state in refused.states] == [9, 0]


async def test_a_refusal_is_repeated_without_asking(redis_server: RedisServer) -> None:
    """Who hammers is told from memory, for a moment; others and later requests are not."""
    limit, another = limit_of(Kind.REQUESTS, 1), limit_of(Kind.REQUESTS, 1)
    async with opened(redis_server.url) as limiter:
        await take(limiter, limit, 1)
        await take(limiter, limit, 1)
        before = limiter.round_trips
        hammered = [limiter.peek([limit], [1]).refused for _ in range(50)]
        others = limiter.peek([another], [1]).refused
        asked = limiter.round_trips - before
        await asyncio.sleep(0.25)
        later = limiter.peek([limit], [1]).refused

    assert all(hammered)
    assert (others, asked, later) == (None, 0, None)


async def test_1_many_at_once_share_round_trips(redis_server: RedisServer) -> None:
    """A burst from several replicas is held to the limit to the unit, in few round trips."""
    limit = limit_of(Kind.DAY_TOKENS, 500)
    async with AsyncExitStack() as stack:
        limiters = [await stack.enter_async_context(opened(redis_server.url)) for _ in range(4)]
        before = sum(each.round_trips for each in limiters)
        verdicts = await asyncio.gather(*(take(limiters[n % 4], limit, 3) for n in range(400)))
        trips = sum(each.round_trips for each in limiters) - before

    assert sum(verdict.refused is None for verdict in verdicts) == 500 // 3
    assert trips <= 16


async def test_scripts_that_redis_has_forgotten(redis_server: RedisServer) -> None:
    """After SCRIPT FLUSH, as after a restart, calls go through, each once."""
    limit = limit_of(Kind.DAY_TOKENS, 100)
    async with opened(redis_server.url) as limiter:
        await take(limiter, limit, 1)
        with redis_server.client() as client:
            client.script_flush()
        found = await asyncio.gather(*(take(limiter, limit, 1) for _ in range(5)))

    assert min(verdict.states[0].left for verdict in found) == 94
    assert not limiter.faults


async def test_a_redis_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    """From the start each replica goes on with its share; it is said once, without the password."""
    limit = limit_of(Kind.TOKENS, 100)
    async with opened(f"redis://:s3cret@127.0.0.1:{free_port()}/0", replicas=4) as limiter:
        verdicts = [await take(limiter, limit, 10) for _ in range(5)]

    assert [verdict.refused is None for verdict in verdicts] == [True, True, False, False, False]
    assert limiter.is_down
    assert len([record for record in caplog.records if record.name == "gateway.limits"]) == 1
    assert "s3cret" not in str([vars(record) for record in caplog.records])


async def test_what_ended_meanwhile_is_told_afterwards(redis_server: RedisServer) -> None:
    """Tokens of requests that Redis had granted, and that ended while it was away."""
    limit = limit_of(Kind.DAY_TOKENS, 1000)
    async with StallingWire(redis_server.port) as wire, opened(wire.url) as limiter, opened(redis_server.url) as other:
        granted = [await take(limiter, limit, 100) for _ in range(5)]
        wire.stall()
        await take(limiter, limit, 1)
        assert limiter.is_down
        for verdict in granted:
            limiter.settle([limit], [100], [30], verdict.day, verdict.lease)
        wire.flow()
        await until(lambda: not limiter.is_down)
        left = 0
        async with asyncio.timeout(10):
            while left < 849:
                left = (await take(other, limit, 0)).states[0].left
                await asyncio.sleep(0.01)

    assert left in (849, 850), "the one that was not answered may have been heard"
    assert limiter.unsettled == 0


async def test_one_request_may_take_more_than_the_share(redis_server: RedisServer) -> None:
    """What fits the whole limit is not refused for good because Redis is away: it waits for a full share, and owes."""
    limit = limit_of(Kind.TOKENS, 100)
    async with opened(f"redis://127.0.0.1:{free_port()}/0", replicas=4) as limiter:
        large = await take(limiter, limit, 80)
        next_one = await take(limiter, limit, 1)
        limiter.settle([limit], [80], [80], large.day, large.lease)
        owing = await take(limiter, limit, 0)
        too_large = await take(limiter, limit, 101)

    assert large.refused is None
    assert next_one.refused is not None
    assert owing.states[0].left <= -55
    assert too_large.refused is not None
    assert too_large.refused.wait_us is None


@pytest.mark.parametrize("trouble", ["stalled", "stopped", "killed"])
async def test_a_redis_that_fails_under_load(trouble: str) -> None:
    """Two replicas under load: no call hangs, the shares hold, and afterwards they decide together again."""
    amount = 600
    limit = limit_of(Kind.TOKENS, amount)
    with RedisServer() as server:
        async with StallingWire(server.port) as wire, opened(wire.url, lease_s=4) as one, opened(wire.url, 4) as other:
            await until(lambda: one.replicas == other.replicas == 2)
            let_through: list[float] = []
            slowest_s = 0.0

            async def ask(limiter: SharedLimiter) -> None:
                nonlocal slowest_s
                began_s = time.monotonic()
                verdict = await take(limiter, limit, 10)
                slowest_s = max(slowest_s, time.monotonic() - began_s)
                if verdict.refused is None:
                    let_through.append(began_s)

            async def load(times: int) -> None:
                for _ in range(times):
                    await asyncio.gather(*(ask(limiter) for limiter in (one, other) for _ in range(5)))
                    await asyncio.sleep(0.01)

            began_s = time.monotonic()
            await load(3)
            process = server._process
            assert process is not None
            if trouble == "stalled":
                wire.stall()
            elif trouble == "stopped":
                os.kill(process.pid, signal.SIGSTOP)
            else:
                server.kill()
            await load(20)
            was_down = one.is_down and other.is_down
            if trouble == "stalled":
                wire.flow()
            elif trouble == "stopped":
                os.kill(process.pid, signal.SIGCONT)
            else:
                server.start()
            await until(lambda: not one.is_down and not other.is_down)
            await load(20)
            spent_s = time.monotonic() - began_s
            together = await take(one, limit, 0), await take(other, limit, 0)

    most = amount + amount * spent_s / 60 + amount  # a bucket, what refills, and what Redis has when it is back
    if trouble == "killed":
        most += amount  # it has forgotten what was taken
    print(f"\n{trouble}: {10 * len(let_through)} tokens let through in {spent_s:.1f} s, bound {most:.0f}")
    assert was_down
    assert slowest_s < 5
    assert 10 * len(let_through) <= most
    assert abs(together[0].states[0].left - together[1].states[0].left) <= 10


async def test_a_redis_that_is_slow(redis_server: RedisServer) -> None:
    """Within the time limit replicas decide together all the same; beyond it each alone, until it is quick again."""
    limit = limit_of(Kind.DAY_TOKENS, 1000)
    async with StallingWire(redis_server.port) as wire, opened(wire.url) as limiter:
        await take(limiter, limit, 1)
        wire.delay_s = TIMEOUT_S / 5
        slow = [await take(limiter, limit, 1) for _ in range(5)]
        was_down = limiter.is_down
        wire.delay_s = 3 * TIMEOUT_S
        began_s = time.monotonic()
        alone = [await take(limiter, limit, 1) for _ in range(50)]
        took_s = time.monotonic() - began_s
        wire.delay_s = 0.0
        await until(lambda: not limiter.is_down)
        together = await take(limiter, limit, 1)

    print(f"\n50 decisions beside a Redis that takes {6 * TIMEOUT_S:.1f} s: {took_s * 1000:.0f} ms")
    assert not was_down
    assert not any(verdict.lease.startswith("local") for verdict in [*slow, together])
    assert all(verdict.refused is None and verdict.lease.startswith("local") for verdict in alone)
    assert took_s < 50 * TIMEOUT_S


async def test_3_what_a_killed_replica_held_comes_back(redis_server: RedisServer) -> None:
    """Its running requests' concurrency, once its lease has run out; that of a living one stays taken."""
    limit = limit_of(Kind.CONCURRENT, 2)
    async with opened(redis_server.url, lease_s=1) as alive, opened(redis_server.url, lease_s=1) as dead:
        held = await take(alive, limit, 1)
        await take(dead, limit, 1)
        full = await take(alive, limit, 1)
        assert dead._beating is not None
        dead._beating.cancel()  # it says nothing any more
        began_s = time.monotonic()
        async with asyncio.timeout(10):
            while (verdict := await take(alive, limit, 1)).refused is not None:
                await asyncio.sleep(0.05)
        waited_s = time.monotonic() - began_s
        await asyncio.sleep(1.5)
        still = await take(alive, limit, 1)
        await put_right(alive, limit, held, 1, 0)
        freed = await take(alive, limit, 1)

    assert full.refused is not None
    assert waited_s > 0.5
    assert verdict.refused is None
    assert still.refused is not None
    assert freed.refused is None


async def test_4_who_leaves_while_it_waits_has_taken_nothing(redis_server: RedisServer) -> None:
    """Redis has granted it; nobody was there to take it."""
    limit = limit_of(Kind.CONCURRENT, 1)
    async with StallingWire(redis_server.port) as wire, opened(wire.url) as limiter:
        await take(limiter, limit, 0)
        wire.stall()
        asking = asyncio.create_task(take(limiter, limit, 1))
        await asyncio.sleep(0.02)
        asking.cancel()
        wire.flow()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            while (await take(limiter, limit, 1)).refused is not None:
                await asyncio.sleep(0.01)


async def test_what_somebody_else_has_put_there(redis_server: RedisServer) -> None:
    """A key of another type is no outage: that limit is decided by share, all others as ever."""
    broken, sound = limit_of(Kind.TOKENS, 100), limit_of(Kind.TOKENS, 100)
    with redis_server.client() as client:
        client.set(key_name(broken.key), "x")
    async with opened(redis_server.url) as limiter:
        by_share, together = await take(limiter, broken, 10), await take(limiter, sound, 10)

    assert by_share.refused is None
    assert by_share.lease.startswith("local")
    assert not together.lease.startswith("local")
    assert limiter.faults == {"foreign": 1}


async def test_a_redis_that_takes_no_writes(redis_server: RedisServer) -> None:
    """A full one, or a replica: each goes on by its share, until writes are taken again."""
    limit = limit_of(Kind.TOKENS, 100)
    with redis_server.client() as client:
        async with opened(redis_server.url) as limiter:
            client.config_set("maxmemory", 1)
            try:
                alone = await take(limiter, limit, 10)
                await asyncio.sleep(0.6)
                is_down = limiter.is_down
            finally:
                client.config_set("maxmemory", 0)
            await until(lambda: not limiter.is_down)
            together = await take(limiter, limit, 10)

    assert alone.lease.startswith("local")
    assert is_down
    assert not together.lease.startswith("local")


async def test_replicas_are_counted(redis_server: RedisServer) -> None:
    """Those that are there, and not those that have said that they go."""
    async with opened(redis_server.url, lease_s=1) as one:
        async with opened(redis_server.url, lease_s=1), opened(redis_server.url, lease_s=1):
            await take(one, limit_of(Kind.TOKENS, 1), 1)
            await until(lambda: one.replicas == 3)
        await until(lambda: one.replicas == 1)


async def test_a_cluster() -> None:
    """Three nodes: clients in different slots, each with several limits, are decided on where they lie."""
    async with AsyncExitStack() as stack:
        nodes = [stack.enter_context(RedisServer("--cluster-enabled", "yes")) for _ in range(3)]
        await join(nodes)
        limiter = await stack.enter_async_context(opened(nodes[0].url, is_cluster=True))
        verdicts = []
        for _ in range(40):
            scope = os.urandom(32)
            limits = [Limit(scope + b"r", Kind.REQUESTS, 2), Limit(scope + b"t", Kind.TOKENS, 100)]
            verdicts += [await limiter.take(limits, [1, 40]) for _ in range(3)]
            limiter.settle(limits, [1, 40], [1, 10], verdicts[-1].day, verdicts[-2].lease)
        used = []
        for node in nodes:
            with node.client() as client:
                used.append(client.dbsize())

    assert not limiter.faults
    assert [verdict.refused is None for verdict in verdicts] == [True, True, False] * 40
    assert all(used)


async def join(nodes: list[RedisServer]) -> None:
    """Make a cluster of them."""
    share = 16384 // len(nodes) + 1
    for place, node in enumerate(nodes):
        with node.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(place * share, min(16384, (place + 1) * share)))
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
            if place:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
    async with asyncio.timeout(20):
        for node in nodes:
            with node.client() as client:
                while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO") or (
                    b"cluster_known_nodes:3" not in client.execute_command("CLUSTER", "INFO")
                ):
                    await asyncio.sleep(0.05)
