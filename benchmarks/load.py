"""A closed-loop load client: `python -m benchmarks.load --port 8080 --body large --connections 64`.

Each connection sends its next request when the answer to the last one is whole. Measured: requests and events
that end inside the window, and the time from writing a request to its last byte (or to its first event). Not
measured: connecting, the warm-up before the window, and what an open-loop client would see of a target that
stalls. Client and target are on one machine: a time here holds no network.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gc
import json
import time
from dataclasses import asdict
from typing import cast

from benchmarks import bodies
from benchmarks.framing import MessageReader
from benchmarks.measurement import Plan, Result, Window
from benchmarks.upstream import loop_factory

GRACE_S = 15.0
DONE = b"data: [DONE]\n\n"


class Caller(asyncio.Protocol):
    """One connection in a closed loop."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.reader = MessageReader()
        self.is_done = False
        self.sent_at = 0.0
        self.first_at = 0.0
        self.seam = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape, not by class
        self.window.live += 1
        self.send()

    def send(self) -> None:
        """The next request."""
        self.first_at = 0.0
        self.seam = b""
        request = self.window.plan.request()
        assert self.transport
        self.sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        for piece in self.reader.feed(data):
            if piece is None:
                self.finish()
            elif self.window.plan.is_stream:
                self.count_events(piece)
            else:
                self.seam = piece

    def count_events(self, piece: bytes) -> None:
        """Count ends of events, also one that is cut between two pieces."""
        text = self.seam + piece
        found = text.count(b"\n\n") - self.seam.count(b"\n\n")
        if found:
            self.first_at = self.first_at or time.perf_counter()
            self.window.events += found if self.window.is_open else 0
        self.seam = text[-len(DONE) :]

    def finish(self) -> None:
        """An answer is whole: count it, send the next or leave."""
        window, now = self.window, time.perf_counter()
        if not self.reader.head.startswith(b"HTTP/1.1 200 "):
            window.fail(self.reader.head.split(b"\r\n", 1)[0] + b" " + self.seam)
        elif window.plan.is_stream and self.seam != DONE:
            window.fail(b"a stream ended with " + self.seam)
        elif window.is_open:
            window.latencies.append(now - self.sent_at)
            if self.first_at:
                window.firsts.append(self.first_at - self.sent_at)
        if window.is_over:
            self.stop()
            window.leave()
        else:
            self.send()

    def stop(self) -> None:
        """Close, which is then no failure."""
        self.is_done = True
        if self.transport:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_done:
            self.window.fail(b"connection lost")
            self.window.leave()


def keep(caller: Caller) -> Caller:
    """A protocol factory for a protocol that is there already."""
    return caller


async def run_load(plan: Plan) -> Result:
    """Run one plan; ends at most GRACE_S after its window.

    Raises:
        OSError: nothing listens there.
    """
    loop = asyncio.get_running_loop()
    window = Window(plan, asyncio.Event())
    gc.collect()
    gc.disable()
    timers = [
        loop.call_later(plan.warm_s, window.open),
        loop.call_later(plan.warm_s + plan.measure_s, window.close),
    ]
    callers = [Caller(window) for _ in range(plan.connections)]
    try:
        for caller in callers:
            await loop.create_connection(functools.partial(keep, caller), "127.0.0.1", plan.port)
        await asyncio.wait_for(window.ended.wait(), plan.warm_s + plan.measure_s + GRACE_S)
    except TimeoutError:
        window.close()
    finally:
        gc.enable()
        for timer in timers:
            timer.cancel()
    result = window.result()
    for caller in callers:
        caller.stop()
    return result


def main() -> None:
    """Command line, for any target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--body", choices=("small", "large", "growing", "stream"), default="small")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    chosen = parser.parse_args()
    body = {"small": bodies.small(), "stream": bodies.small(stream=True)}.get(chosen.body, bodies.large())
    source = bodies.growing_request if chosen.body == "growing" else bodies.same_request
    plan = Plan(
        chosen.port,
        source(chosen.port, body),
        chosen.connections,
        chosen.seconds,
        is_stream=chosen.body == "stream",
    )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        print(json.dumps(asdict(runner.run(run_load(plan))), indent=1))


if __name__ == "__main__":
    main()
