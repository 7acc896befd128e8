"""The limiter of several workers: one table in a file, from processes that live and processes that are killed."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.limits.decision import Limit
from gateway.core.limits.gauge import DAY_US, Kind
from gateway.shell.limits.mapped import MappedLimiter, give_back
from gateway.shell.limits.memory import MemoryLimiter
from gateway.shell.limits.slots import GROUPS, PLACES, digest_of, group_of, holds_path
from tests.shell.test_memory_limiter import START, Clock, limits_of

_numbers = itertools.count()
LIVE = """
import asyncio, sys
from pathlib import Path
from gateway.core.limits.decision import Limit
from gateway.core.limits.gauge import Kind
from gateway.shell.limits.mapped import MappedLimiter

async def main(folder, owner, times, ends):
    limiter = MappedLimiter(Path(folder), int(owner))
    limits = [Limit(b"a" + kind.value.encode(), kind, 1000) for kind in (Kind.DAY_TOKENS, Kind.CONCURRENT)]
    print("ready", flush=True)
    sys.stdin.readline()
    taken = 0
    for _ in range(int(times)):
        verdict = await limiter.take(limits, [3, 1])
        if verdict.refused is None:
            taken += 1
            if ends == "settles":
                limiter.settle(limits, [3, 1], [3, 0], verdict.day)
    print(taken, flush=True)
    sys.stdin.readline()

asyncio.run(main(*sys.argv[1:]))
"""


class Worker:
    """A process with a limiter of its own."""

    def __init__(self, folder: Path, owner: int, times: int, ends: str) -> None:
        arguments = [sys.executable, "-c", LIVE, str(folder), str(owner), str(times), ends]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        assert self._stdout.readline() == "ready\n"

    def go(self) -> None:
        self._stdin.write("\n")
        self._stdin.flush()

    def taken(self) -> int:
        return int(self._stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._stdin.close()
        self._stdout.close()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[Worker]]:
    started: list[Worker] = []
    yield started
    for worker in started:
        worker.kill()


def test_1_processes_together_take_what_one_would(tmp_path: Path, workers: list[Worker]) -> None:
    """Four at once, none sees what another has half written; all that they settle comes back."""
    workers += [Worker(tmp_path, number, 400, "settles") for number in range(4)]
    for worker in workers:
        worker.go()
    taken = [worker.taken() for worker in workers]
    limiter = MappedLimiter(tmp_path, 9)
    left = [state.left for state in asyncio.run(left_of(limiter))]

    print(f"\ntaken by four processes: {taken}")
    assert sum(taken) == 1000 // 3
    assert left == [1000 - 3 * sum(taken), 1000]


async def left_of(limiter: MappedLimiter) -> list[object]:
    limits = [Limit(b"a" + kind.value.encode(), kind, 1000) for kind in (Kind.DAY_TOKENS, Kind.CONCURRENT)]
    return list((await limiter.take(limits, [0, 0])).states)


def test_2_what_a_killed_worker_held_comes_back(tmp_path: Path, workers: list[Worker]) -> None:
    """kill -9 with 100 requests running: their places and tokens, once; those of the living stay."""
    workers += [Worker(tmp_path, number, 100, "holds") for number in range(2)]
    for worker in workers:
        worker.go()
        assert worker.taken() == 100
    workers[0].kill()
    limiter = MappedLimiter(tmp_path, 9)
    before = [state.left for state in asyncio.run(left_of(limiter))]
    returned = give_back(tmp_path, 0)
    after = [state.left for state in asyncio.run(left_of(limiter))]
    again = give_back(tmp_path, 0)

    assert before == [400, 800]
    assert (returned, again) == (2, 0)
    assert after == [700, 900]
    assert not holds_path(tmp_path, 0).exists()


moves = st.lists(
    st.tuples(
        st.integers(0, 40_000_000), st.sampled_from([0, 1]), st.integers(0, 12), st.integers(0, 3), st.integers(0, 20)
    ),
    max_size=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=moves)
async def test_it_decides_as_the_memory_of_one_process(moves: list[tuple[int, ...]], tmp_path: Path) -> None:
    """Two workers by turns, with takes and settlements, against one memory."""
    clock = Clock()
    mapped = [MappedLimiter(tmp_path, owner, clock) for owner in (0, 1)]
    memory = MemoryLimiter(clock)
    limits = limits_of(next(_numbers).to_bytes(8))
    try:
        for later_us, which, tokens, requests, used in moves:
            clock.now_us += later_us
            units = [tokens, requests]
            assert mapped[which].peek(limits, units) == memory.peek(limits, units)
            expected, found = await memory.take(limits, units), await mapped[1 - which].take(limits, units)
            assert found == expected
            if found.refused is None and used > 5:
                memory.settle(limits, units, [used, 0], found.day)
                mapped[1 - which].settle(limits, units, [used, 0], found.day)
    finally:
        for each in mapped:
            each.close()


async def test_a_day_that_is_over_is_not_given_back(tmp_path: Path) -> None:
    """What a worker held of yesterday is of no use to today."""
    clock = Clock()
    limiter = MappedLimiter(tmp_path, 1, clock)
    limit = Limit(b"d", Kind.DAY_TOKENS, 100)
    await limiter.take([limit], [60])
    clock.now_us += DAY_US
    await limiter.take([limit], [30])
    limiter.settle([limit], [60], [10], START // DAY_US)
    today = (await limiter.take([limit], [0])).states[0].left
    limiter.close()
    give_back(tmp_path, 1, clock)
    other = MappedLimiter(tmp_path, 2, clock)
    after = (await other.take([limit], [0])).states[0].left
    other.close()

    assert (today, after) == (70, 100)


async def test_a_full_group_lets_go_of_what_need_not_be_remembered(tmp_path: Path) -> None:
    """Idle limits first; where none is, the one that was used longest ago, which is counted."""
    clock = Clock()
    limiter = MappedLimiter(tmp_path, 1, clock)
    same = []
    number = 0
    while len(same) < PLACES + 2:
        limit = Limit(number.to_bytes(8), Kind.TOKENS, 10)
        number += 1
        if group_of(digest_of(limit)) == 7:
            same.append(limit)
    for limit in same[:PLACES]:
        clock.now_us += 1
        await limiter.take([limit], [10])
    clock.now_us += 1
    first, second = same[PLACES:]
    await limiter.take([first], [1])
    forgotten = limiter.forgotten
    clock.now_us += 60_000_000
    await limiter.take([second], [1])
    limiter.close()

    assert GROUPS > 7
    assert (forgotten, limiter.forgotten) == (1, 1)


async def test_files_take_room_as_they_are_used(tmp_path: Path) -> None:
    """A table for 131,072 limits begins as good as empty."""
    limiter = MappedLimiter(tmp_path, 1)
    await limiter.take(limits_of(b"a"), [1, 1])
    used = sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir())
    limiter.close()

    assert used < 100_000
