"""Is a gateway's memory flat, and does it tell the truth, over 220,000 requests to upstreams that misbehave?

    python3 dev.py soak-faults [--requests 200000] [--streams 20000] [--concurrency 32] [--seed 1]

One real gateway process, two upstreams in a process of their own (`soak_upstream.py`), clients here
(`soak_callers.py`). Deadlines are short and caches small, so that all of them are full early. Printed at every tenth:
resident memory and open files of the gateway, what its metrics say that it holds, requests by how they ended. After
the first third and at the end, with no request in flight and no connection that idles, the two are compared.

The exit status is 1 if memory grew by more than a tenth since then, if files were left open, a request never ended, a
byte is still counted as buffered, a limit of concurrent requests has not come back, the gateway logged an error of its
own, or a client was told a lie.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import MIB, free_port, running
from benchmarks.soak_answers import text_of
from benchmarks.soak_callers import APPS, MAX_TURNS, TIGHT, Ask, Asks, Line, Talk, Tally, call, key_of
from benchmarks.soak_upstream import LET_GO
from tests.gateway_process import GatewayProcess, Json, Samples

MAX_GROWTH = 0.10
AT_ONCE = 12
"""Requests of one client; the limit of which all must come back."""
SETTLE_S = 30.0
TIMES = {
    "connect_seconds": 0.5,
    "header_seconds": 0.4,
    "first_token_seconds": 0.4,
    "idle_seconds": 0.3,
    "total_seconds": 1.0,
}
HEAD = (
    "| requests | streams | a second | RSS, MiB | files | in flight | buffered | state | context | counts | recall"
    " | answers |\n" + "|---" * 12 + "|"
)  # fmt: skip


def config_of(ports: list[int]) -> Json:
    """Two upstreams, of which one serves some models alone; small caches; a small window for all models but one."""
    first, second = (f"http://127.0.0.1:{port}/v1" for port in ports)
    usual = {
        "api_key": "sk-upstream",
        "timeouts": TIMES,
        "retries": {"max": 2, "budget_ratio": 1.0},
        "breaker": {"failures": 50, "reset_seconds": 0.05},
    }
    patient = {**TIMES, "header_seconds": 60, "total_seconds": 60}
    return {
        "server": {"port": 0, "admin_port": 0, "max_buffered_bytes": 2**24},
        "upstreams": [
            {"name": "first", "base_url": first, "models": ["alone-*", "two-*", "big-*"], "priority": 0, **usual},
            {"name": "second", "base_url": second, "models": ["two-*", "big-*"], "priority": 1, **usual},
            {"name": "patient", "base_url": second, "models": ["hold"], **usual, "timeouts": patient},
        ],
        "token_budget": {
            "max_total": 1500,
            "completion": 200,
            "system_tokens": 100,
            "running_brief": 300,
            "recent_turns": 200,
            "retrieved_context": 400,
            "models": {"big-*": {"max_total": 200_000}},
        },
        "summarizer": {"endpoint": "upstream", "timeout_secs": 1, "max_retries": 1, "deadline_seconds": 0.1},
        "clients": [
            {"name": name, "key_sha256": hashlib.sha256(key_of(name).encode()).hexdigest()} for name in (*APPS, TIGHT)
        ],
        "rate_limits": [
            {"client": "app-*", "concurrent_requests": AT_ONCE, "tokens_per_minute": 100_000_000},
            {"client": TIGHT, "requests_per_minute": 600, "tokens_per_minute": 50_000},
        ],
        "state": {
            "max_bytes": 2**20,
            "count_cache_bytes": 2**20,
            "journal_max_messages": 64,
            "journal_max_bytes": 2**16,
        },
        "cache": {"enabled": True, "max_entries": 300, "max_bytes": 2**21, "wait_seconds": 0.5},
    }


@dataclass(frozen=True, slots=True)
class Mark:
    """The gateway at one moment."""

    rss_mib: float
    files: int
    samples: Samples

    def figure(self, name: str) -> int:
        return int(self.samples.total(name))

    @property
    def in_flight(self) -> int:
        return self.figure("gateway_requests_in_flight")

    @property
    def buffered_bytes(self) -> int:
        return self.figure("gateway_buffered_bytes")

    @property
    def context_bytes(self) -> int:
        return self.figure("context_storage_bytes")


def render(tally: Tally, rate: float, mark: Mark) -> str:
    """A line of the table."""
    held = ("state_store", "context_storage", "count_cache", "recall_cache", "response_cache")
    cells = [
        *(f"{tally.done - tally.streams:,}", f"{tally.streams:,}", f"{rate:.0f}"),
        *(f"{mark.rss_mib:.1f}", mark.files, mark.in_flight, mark.buffered_bytes),
        *(f"{mark.figure(name + '_bytes') / 1024:,.0f} KiB" for name in held),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


@dataclass
class Soak:
    """A gateway, its upstreams, and all that was asked so far."""

    gateway: GatewayProcess
    upstream_ports: list[int]
    asks: Asks
    concurrency: int
    is_shown: bool = False
    tally: Tally = field(default_factory=Tally)
    talks: int = 0
    broken: list[Json] = field(default_factory=list)

    def read_logs(self) -> None:
        """Keep what the gateway logged as an error of its own, and forget the rest."""
        self.broken += [log for log in self.gateway.logs if log["level"] == "error" or "exception" in log]
        self.gateway.logs.clear()
        self.gateway.lines.clear()

    async def mark(self) -> Mark:
        """The gateway now."""
        files = len(list(Path(f"/proc/{self.gateway.pid}/fd").iterdir()))
        return Mark(self.gateway.memory_bytes() / MIB, files, await self.gateway.metrics())

    async def quiet(self) -> Mark:
        """The gateway once nothing is in flight and no connection idles, or as it is after `SETTLE_S`."""
        ends_at = time.monotonic() + SETTLE_S
        while (found := await self.mark()).in_flight and time.monotonic() < ends_at:
            await asyncio.sleep(0.1)
        for port in self.upstream_ports:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {LET_GO} HTTP/1.1\r\n\r\n".encode())
            await reader.read()
            writer.close()
        last = found.files + 1
        while found.files < last and time.monotonic() < ends_at:
            await asyncio.sleep(0.1)
            last, found = found.files, await self.mark()
        return found

    async def run(self, until: int) -> None:
        """All requests up to that one."""
        tenth = max(1, self.asks.total // 10)
        numbers = iter(range(self.tally.done, until))
        began = time.monotonic()
        counted = self.tally.done

        async def caller() -> None:
            nonlocal began, counted
            line, talk = Line(self.gateway.port), self._new_talk()
            for number in numbers:
                ask = self.asks.make(number, talk)
                talk = await self._one(line, ask, talk)
                if self.tally.done % 1000 == 0:
                    self.read_logs()
                if self.is_shown and self.tally.done % tenth == 0:
                    rate = (self.tally.done - counted) / (time.monotonic() - began)
                    began, counted = time.monotonic(), self.tally.done
                    print(render(self.tally, rate, await self.mark()), flush=True)
            line.close()

        await asyncio.gather(*(caller() for _ in range(self.concurrency)))

    async def _one(self, line: Line, ask: Ask, talk: Talk) -> Talk:
        """One request; the talk to go on with."""
        got = await call(line, ask)
        self.tally.add(ask, got)
        last = talk.messages[-1]
        if last["role"] == "user" and f"[n={ask.mark}]" in last["content"]:
            if got is None or got.status != 200:
                talk.messages.pop()
            else:
                talk.messages.append({"role": "assistant", "content": text_of(ask.mark)})
        return talk if len(talk.messages) < 2 * MAX_TURNS else self._new_talk()

    def _new_talk(self) -> Talk:
        self.talks += 1
        return Talk(self.talks, APPS[self.talks % len(APPS)], self.talks % 2 == 0)

    async def limits_lacking(self) -> list[str]:
        """Clients that may no longer have as many requests at once as their limit says, or may have more."""
        found = []
        for client in APPS:
            found.append(await self.lacking_of(client))
            await self.quiet()
        return [each for each in found if each]

    async def lacking_of(self, client: str) -> str:
        """What is wrong with a client's limit, found by taking all of it: none is answered until its client leaves."""
        lines = [Line(self.gateway.port) for _ in range(AT_ONCE + 1)]
        taking = [asyncio.create_task(call(line, hold(client))) for line in lines[1:]]
        try:
            ends_at = time.monotonic() + SETTLE_S
            while (await self.mark()).in_flight < AT_ONCE and not any(task.done() for task in taking):
                if time.monotonic() > ends_at:
                    break
            one_more = await call(lines[0], hold(client))
            refused = [got and got.status for got in (task.result() for task in taking if task.done())]
            if refused or time.monotonic() > ends_at:
                return f"{client}: not all of {AT_ONCE} were let in, {refused}"
            return "" if one_more and one_more.status == 429 else f"{client}: one more than {AT_ONCE} was let in"
        finally:
            for task in taking:
                task.cancel()
            await asyncio.gather(*taking, return_exceptions=True)
            for line in lines:
                line.close()


def hold(client: str) -> Ask:
    """A request that is not answered."""
    return Ask("hold", client, b'{"model":"hold","messages":[{"role":"user","content":"[n=hold]"}]}')


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found; `start` is before all requests, `warm` after the first third."""

    start: Mark
    warm: Mark
    end: Mark
    lacking: list[str]
    tally: Tally
    broken: list[Json]

    @property
    def growth(self) -> float:
        """Of resident memory, as a share of what it was when warm."""
        return self.end.rss_mib / self.warm.rss_mib - 1

    def faults(self, max_growth: float = MAX_GROWTH) -> list[str]:
        """Everything that is wrong."""
        found = [*self.tally.lies[:20], *self.lacking, *(f"logged: {log}" for log in self.broken[:20])]
        if self.growth > max_growth:
            found.append(f"memory grew by {self.growth:.1%}: {self.warm.rss_mib:.1f} to {self.end.rss_mib:.1f} MiB")
        if self.end.files > self.start.files + 1:
            found.append(f"{self.end.files} files are open, {self.start.files} were at the start")
        if self.end.in_flight:
            found.append(f"{self.end.in_flight} requests never ended")
        if self.end.buffered_bytes:
            found.append(f"{self.end.buffered_bytes} bytes are counted as buffered")
        return found


@contextlib.asynccontextmanager
async def running_soak(asks: Asks, concurrency: int, **options: Any) -> AsyncIterator[Soak]:
    """All processes of a soak."""
    ports = [free_port(), free_port()]
    arguments = ["benchmarks.soak_upstream", "--ports", ",".join(map(str, ports)), "--seed", str(asks.seed)]
    with running(arguments) as upstream:
        for port in ports:
            while not await _is_listening(port):
                if not upstream.is_alive():
                    raise RuntimeError(upstream.output())
                await asyncio.sleep(0.02)
        async with GatewayProcess(config_of(ports)) as gateway:
            yield Soak(gateway, ports, asks, concurrency, **options)


async def _is_listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def judge_soak(soak: Soak) -> Verdict:
    """Ask everything, and look at what is left."""
    start = await soak.quiet()
    await soak.run(soak.asks.total // 3)
    warm = await soak.quiet()
    await soak.run(soak.asks.total)
    end = await soak.quiet()
    lacking = await soak.limits_lacking()
    soak.read_logs()
    return Verdict(start, warm, end, lacking, soak.tally, soak.broken)


async def _main(chosen: argparse.Namespace) -> int:
    asks = Asks(chosen.seed, chosen.requests, chosen.streams)
    print(HEAD, flush=True)
    began = time.monotonic()
    async with running_soak(asks, chosen.concurrency, is_shown=True) as soak:
        found = await judge_soak(soak)
    print(f"\n{found.tally.done:,} requests in {time.monotonic() - began:.0f} s, {soak.talks:,} conversations")
    for name, mark in (("at the start", found.start), ("after a third", found.warm), ("at the end", found.end)):
        print(f"{name}: {mark.rss_mib:.1f} MiB, {mark.files} files, {mark.in_flight} in flight")
    print(f"memory since the first third: {found.growth:+.1%}; lies: {len(found.tally.lies)}")
    for label, count in sorted(found.tally.seen.items()):
        print(f"  {label}: {count:,}")
    for fault in (faults := found.faults()):
        print(f"WRONG: {fault}")
    return 1 if faults else 0


def main() -> int:
    """Command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--requests", type=int, default=200_000, help="answered whole")
    options.add_argument("--streams", type=int, default=20_000)
    options.add_argument("--concurrency", type=int, default=32)
    options.add_argument("--seed", type=int, default=1)
    return asyncio.run(_main(options.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
