"""Is the gateway's event loop ever blocked? `python -m benchmarks.loop_lag`

While huge and hostile chat requests are counted and forwarded, two other connections ask every 2 ms: GET
/health/live on the admin port, and GET /v1/models on the data port (which goes on to the upstream). Printed
are their latencies without and with each kind of request, and how long that request took.

A late answer also counts for the questions that it kept from being asked, so a stall is not hidden by
waiting for it. `own max` is how late the measuring process itself woke at worst: a maximum near it says
nothing about the gateway. Each request differs from the ones before, so that no cached count helps.
Upstream and client share the machine with the gateway: a request of 4.5 MB costs them some milliseconds
too, which /v1/models shows and /health/live should not. What the request costs in memory is not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import functools
import http.client
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from benchmarks import targets
from benchmarks.bodies import prose, render_body
from benchmarks.framing import MessageReader
from benchmarks.measurement import percentile
from benchmarks.processes import choose_cores, pinned
from benchmarks.report import render_table
from benchmarks.targets import NotStartedError, Target
from benchmarks.upstream import loop_factory

PERIOD_S = 0.002
MEGABYTE = 1_000_000
PROSE_BYTES = 4_500_000  # some 1,000,000 tokens
MAX_TOTAL_TOKENS = 2_000_000
REQUEST_TIMEOUT_S = 120.0


@dataclass(slots=True)
class Seen:
    """Latencies of one prober while one kind of request ran, in seconds."""

    latencies: list[float] = field(default_factory=list)
    own_lateness: list[float] = field(default_factory=list)
    wrong: int = 0


class Prober(asyncio.Protocol):
    """One connection that asks the same question every PERIOD_S."""

    def __init__(self, port: int, path: str) -> None:
        self.request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode()
        self.reader = MessageReader()
        self.seen = Seen()
        self.asked_at = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape, not by class
        self.loop = asyncio.get_running_loop()
        self.ask_in(PERIOD_S)

    def ask_in(self, delay_s: float) -> None:
        """Ask then."""
        self.timer = self.loop.call_later(delay_s, self.ask, time.perf_counter() + delay_s)

    def ask(self, due_at: float) -> None:
        """The question."""
        self.asked_at = time.perf_counter()
        self.seen.own_lateness.append(self.asked_at - due_at)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        for piece in self.reader.feed(data):
            if piece is not None:
                continue
            now = time.perf_counter()
            self.seen.wrong += not self.reader.head.startswith(b"HTTP/1.1 200 ")
            was_due_at = self.asked_at
            while was_due_at < now:
                self.seen.latencies.append(now - was_due_at)
                was_due_at += PERIOD_S
            self.ask_in(was_due_at - now)

    def connection_lost(self, exc: Exception | None) -> None:
        self.seen.wrong += 1
        if self.timer:
            self.timer.cancel()


def itself(prober: Prober) -> Prober:
    """A protocol factory for a protocol that is there already."""
    return prober


def fill(text: str, size: int) -> str:
    """That text again and again."""
    return (text * (size // len(text) + 1))[:size]


def list_kinds() -> dict[str, Callable[[int], bytes]]:
    """Requests by name; the number makes each of them new."""
    book = fill("\n\n".join(prose()), PROSE_BYTES)
    noise = base64.b64encode(random.Random(1).randbytes(MEGABYTE * 3 // 4)).decode()
    part = PROSE_BYTES // 400

    def one(text: str) -> Callable[[int], bytes]:
        return lambda number: render_body([{"role": "user", "content": f"{number} {text} {number}"}])

    def many(number: int) -> bytes:
        texts = (book[start : start + part] for start in range(0, PROSE_BYTES, part))
        return render_body(
            [
                {"role": "assistant" if place % 2 else "user", "content": f"{number} {place} {text}"}
                for place, text in enumerate(texts)
            ]
        )

    return {
        "4.5 MB prose, one message": one(book),
        "4.5 MB prose, 400 messages": many,
        "1 MB of one letter": one("a" * MEGABYTE),
        "1 MB of spaces": one(" " * MEGABYTE),
        "1 MB of one CJK character": one("\u7684" * (MEGABYTE // 3)),
        "1 MB of base64": one(noise),
    }


def post(port: int, body: bytes) -> tuple[int, float]:
    """One chat request on a connection of its own, from a thread: status (0: no answer) and seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)
    began = time.perf_counter()
    headers = {"content-type": "application/json", "authorization": "Bearer sk-bench-client"}
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        answer.read()
        status = answer.status
    except (OSError, http.client.HTTPException):
        status = 0
    finally:
        connection.close()
    return status, time.perf_counter() - began


def render_row(kind: str, probers: list[Prober], asked: list[tuple[int, float]]) -> list[str]:
    """One line of the table."""
    cells = [kind]
    own: list[float] = []
    wrong = 0
    for prober in probers:
        seen = prober.seen
        cells += [f"{percentile(seen.latencies, share) * 1000:.2f}" for share in (0.5, 0.99, 1.0)]
        own += seen.own_lateness
        wrong += seen.wrong
    statuses = sorted({status for status, _ in asked})
    cells += [f"{percentile(own, 1.0) * 1000:.2f}", str(wrong)]
    cells.append(" ".join(f"{seconds * 1000:,.0f}" for _, seconds in asked) or "-")
    cells.append(" ".join(map(str, statuses)) or "-")
    return cells


async def settle(probers: list[Prober]) -> None:
    """Let what is left of the last kind pass, then begin anew."""
    await asyncio.sleep(0.5)
    for prober in probers:
        prober.seen = Seen()


async def probe(target: Target, times: int, idle_s: float) -> list[list[str]]:
    """Every kind in turn, `times` each."""
    loop = asyncio.get_running_loop()
    kinds = {kind: [render(number) for number in range(1, times + 1)] for kind, render in list_kinds().items()}
    probers = [Prober(target.admin_port, "/health/live"), Prober(target.port, "/v1/models")]
    ports = (target.admin_port, target.port)
    for prober, port in zip(probers, ports, strict=True):
        await loop.create_connection(functools.partial(itself, prober), "127.0.0.1", port)
    await settle(probers)
    await asyncio.sleep(idle_s)
    rows = [render_row("idle", probers, [])]
    for kind, requests in kinds.items():
        await settle(probers)
        asked = [await asyncio.to_thread(post, target.port, body) for body in requests]
        rows.append(render_row(kind, probers, asked))
    for prober in probers:
        prober.transport.close()
    return rows


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3, help="requests of each kind")
    parser.add_argument("--idle", type=float, default=3.0, metavar="SECONDS", help="how long to measure at rest")
    parser.add_argument("--one-core", action="store_true", help="give the gateway a single core, its threads too")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    cores = choose_cores() if chosen.one_core else None
    target_cores, load_cores = cores or (None, None)
    try:
        with (
            pinned(load_cores),
            asyncio.Runner(loop_factory=loop_factory()) as runner,
            targets.upstream(load_cores) as upstream,
            targets.gateway(upstream.port, target_cores, MAX_TOTAL_TOKENS) as target,
        ):
            rows = runner.run(probe(target, chosen.times, chosen.idle))
    except NotStartedError as failure:
        sys.exit(f"the gateway did not start:\n{failure}")
    heads = ["", "live p50 ms", "p99", "max", "| models p50 ms", "p99", "max", "| own max", "wrong"]
    heads += ["| requests took ms", "status"]
    pins = f"gateway on core {min(cores[0])}, the rest on core {min(cores[1])}" if cores else "not pinned"
    title = f"latency beside huge requests, asked every {PERIOD_S * 1000:.0f} ms; {pins}"
    print(render_table(title, heads, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
