"""Requests per second, added latency, CPU, memory: the upstream alone, a bare aiohttp proxy, the gateway.

    python3 dev.py bench [--quick] [--rounds N] [--json FILE]

Rounds go up and down the list of targets, one target process at a time, and every number printed is the
median over rounds; an added latency is the median of the differences within a round. The target has a core of
its own, load and upstream share another, where the machine allows. A request straight to the upstream stays
on one core, one through a target crosses cores twice: that is part of what "added" shows.

Not measured: a network, TLS, a slow upstream, many clients' keys, compaction (nothing sent here overflows),
more than one worker. Nothing is asserted; numbers of two machines, or of a busy one, do not compare, ratios
to `bare` do better.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path

from benchmarks import bodies, report, targets
from benchmarks.processes import choose_cores, pinned
from benchmarks.steps import CONNECTIONS, EVENTS, FULL, QUICK, STREAMS, Meter, Pace
from benchmarks.targets import NotStartedError, Target
from benchmarks.upstream import loop_factory

NAMES = ("upstream", "bare", "gateway")


def start(name: str, upstream: Target, cores: set[int] | None) -> contextlib.AbstractContextManager[Target]:
    """The target of that name."""
    if name == "upstream":
        return contextlib.nullcontext(upstream)
    return (targets.bare if name == "bare" else targets.gateway)(upstream.port, cores)


def run_rounds(count: int, pace: Pace, cores: tuple[set[int], set[int]] | None) -> report.Rounds:
    """Up and down the list, `count` times; a target that does not start is left out from then on."""
    rounds: report.Rounds = {name: [] for name in NAMES}
    left_out: set[str] = set()
    target_cores, load_cores = cores or (None, None)
    with (
        pinned(load_cores),
        asyncio.Runner(loop_factory=loop_factory()) as runner,
        targets.upstream(load_cores, EVENTS) as upstream,
    ):
        meter = Meter(upstream, (target_cores or set()) | (load_cores or set()), pace, runner)
        for number in range(count):
            for name in NAMES[:: -1 if number % 2 else 1]:
                if name in left_out:
                    continue
                began = time.monotonic()
                try:
                    with start(name, upstream, target_cores) as target:
                        rounds[name].append({"round": number, **meter.measure(target)})
                except (NotStartedError, OSError) as failure:  # OSError: it ended while it was measured
                    print(f"{name} did not start, or ended:\n{failure}\n", flush=True)
                    left_out.add(name)
                took_s = time.monotonic() - began
                print(f"round {number + 1} of {count}: {name}, {took_s:.0f} s", file=sys.stderr, flush=True)
    return rounds


def describe(command: str, cores: tuple[set[int], set[int]] | None) -> dict[str, str]:
    """What ran, where."""
    names = ("llm-gateway", "aiohttp", "uvloop", "msgspec", "tiktoken")
    versions = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    pins = f"target on core {min(cores[0])}, load and upstream on core {min(cores[1])}" if cores else "not pinned"
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "-"
    return {
        "command": command,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        **versions,
        "cores": f"{os.cpu_count()}; {pins}",
        "load average at start": load,
    }


def show(rounds: report.Rounds) -> None:
    """Print all tables."""
    medians = report.Medians(rounds)
    small, large = len(bodies.small()), len(bodies.large())
    saturated = f"{CONNECTIONS} connections saturated | 1 connection, sequential"
    streams = f"{STREAMS} streams of {EVENTS} words, unpaced | 1 stream after another"
    print()
    print(report.render_chat(medians, f"small: 1 message, {small:,} bytes; {saturated}", "small"))
    print(report.render_chat(medians, f"large: 40 messages, {large:,} bytes, all equal; {saturated}", "large"))
    print(report.render_chat(medians, f"growing: as large, and one new message in each; {saturated}", "growing"))
    print(report.render_streams(medians, f"streams, usage not asked for; {streams}", "stream"))
    print(report.render_streams(medians, f"streams, usage asked for; {streams}", "stream+usage"))
    print(report.render_memory(medians))
    print(report.render_failures(rounds) or "failed requests: 0")
    print("`of bare`: requests a second beside the bare proxy's. `by CPU`: the same from the least CPU time a")
    print("request took in any round, which other work on the machine moves least. A target whose `core busy`")
    print("is below about .95 was not the limit of its rate: load, upstream or other work were.")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round, about 20 seconds")
    parser.add_argument("--rounds", type=int, help="default 3, or 1 with --quick")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's numbers there")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    cores = choose_cores()
    facts = describe(" ".join(["python -m benchmarks.bench", *sys.argv[1:]]), cores)
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
    rounds = run_rounds(chosen.rounds or (1 if chosen.quick else 3), QUICK if chosen.quick else FULL, cores)
    show(rounds)
    if chosen.json:
        chosen.json.write_text(json.dumps({"facts": facts, "rounds": rounds}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
