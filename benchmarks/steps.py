"""The measurements taken of one running target, in order: one connection at a time, then saturated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import bodies
from benchmarks.load import run_load
from benchmarks.measurement import Plan
from benchmarks.processes import Running, core_seconds, kept_awake
from benchmarks.targets import Target

CONNECTIONS = 64
STREAMS = 32
EVENTS = 200


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each step lasts."""

    idle_s: float
    warm_s: float  # of the target, once
    ramp_s: float  # of each step
    alone_s: float
    saturated_s: float


FULL = Pace(idle_s=1.0, warm_s=1.5, ramp_s=0.3, alone_s=1.2, saturated_s=2.5)
QUICK = Pace(idle_s=0.2, warm_s=0.3, ramp_s=0.05, alone_s=0.25, saturated_s=0.6)


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement of a target."""

    name: str
    body: bytes
    connections: int
    source: Callable[[int, bytes], Callable[[], bytes]] = bodies.same_request
    is_stream: bool = False


def list_steps() -> list[Step]:
    """All measurements, in the order in which they run."""
    small, large = bodies.small(), bodies.large()
    stream = bodies.small(stream=True)
    asked = bodies.small(stream=True, stream_options={"include_usage": True})
    steps: list[Step] = []
    for kind, connections, streams in (("alone", 1, 1), ("saturated", CONNECTIONS, STREAMS)):
        steps += [
            Step(f"small {kind}", small, connections),
            Step(f"large {kind}", large, connections),
            Step(f"growing {kind}", large, connections, bodies.growing_request),
            Step(f"stream {kind}", stream, streams, is_stream=True),
            Step(f"stream+usage {kind}", asked, streams, is_stream=True),
        ]
    return steps


class Noise:
    """What else ran on the measuring cores, and what the host took, in cores, over a stretch of time."""

    def __init__(self, cores: set[int], ours: Sequence[Running]) -> None:
        self.cores = cores
        self.ours = ours
        self.before = self.read()

    def read(self) -> tuple[float, float, float]:
        """Wall time, seconds of others, stolen seconds."""
        busy, stolen = core_seconds(self.cores)
        return time.monotonic(), busy - time.process_time() - sum(one.cpu_s() for one in self.ours), stolen

    def end(self) -> dict[str, float]:
        """Both as a number of cores."""
        wall, others, stolen = (now - then for now, then in zip(self.read(), self.before, strict=True))
        return {"other_work_cores": max(0.0, others / wall), "stolen_cores": stolen / wall}


class Meter:
    """Takes all steps of one target after another."""

    def __init__(self, upstream: Target, cores: set[int], pace: Pace, runner: asyncio.Runner) -> None:
        self.upstream = upstream
        self.cores = cores
        self.pace = pace
        self.runner = runner

    def measure(self, target: Target) -> dict[str, Any]:
        """Everything about one target; the mock's own CPU and memory are not of interest."""
        process = target.process if target is not self.upstream else None
        time.sleep(self.pace.idle_s)
        memory = {"cold_start_s": target.cold_start_s, "rss_idle_mib": process.rss_mib()} if process else {}
        for body in (bodies.small(), bodies.large()):
            request = bodies.same_request(target.port, body)
            self.runner.run(run_load(Plan(target.port, request, 16, self.pace.warm_s / 2, 0.0)))
        steps = list_steps()
        with kept_awake(self.cores):
            taken = {step.name: self.take(step, target, process) for step in steps if step.connections == 1}
        noise = Noise(self.cores, [one for one in (process, self.upstream.process) if one])
        taken |= {step.name: self.take(step, target, process) for step in steps if step.connections > 1}
        disturbed = noise.end()
        if process:
            memory["rss_after_mib"] = process.rss_mib()
        return {"memory": memory | disturbed, "steps": taken}

    def take(self, step: Step, target: Target, process: Running | None) -> dict[str, Any]:
        """One step."""
        seconds = self.pace.alone_s if step.connections == 1 else self.pace.saturated_s
        request = step.source(target.port, step.body)
        edge = process.cpu_s if process else lambda: 0.0
        plan = Plan(target.port, request, step.connections, seconds, self.pace.ramp_s, step.is_stream, edge)
        return asdict(self.runner.run(run_load(plan)))
