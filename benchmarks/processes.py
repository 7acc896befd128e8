"""Starts, pins, weighs and stops the processes under measurement, each by its own id.

CPU time and resident memory are sums over a process and all its descendants, read from /proc; where there is
no /proc they are 0 and print as "-". CPU time comes in ticks of 10 ms: an error of one tick in a window of
seconds.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
STOP_S = 10.0
MIB = 1024 * 1024
FORGOTTEN = ("GATEWAY__", "OPENAI_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


def choose_cores() -> tuple[set[int], set[int]] | None:
    """One core for the target, one for load and upstream; None where that cannot be had."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return ({cores[0]}, {cores[1]}) if len(cores) >= 2 else None


@contextlib.contextmanager
def pinned(cores: set[int] | None) -> Iterator[None]:
    """Run on these cores; a process started meanwhile inherits them with all its threads."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """A started Python module with its output kept for when it fails."""

    def __init__(self, arguments: Sequence[str], cores: set[int] | None = None) -> None:
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FORGOTTEN)}
        with pinned(cores):
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=kept,
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=subprocess.STDOUT,
            )

    def is_alive(self) -> bool:
        """Has it not ended?"""
        return self.process.poll() is None

    def output(self) -> str:
        """The last lines it wrote."""
        self.log.seek(0)
        return self.log.read()[-2000:].decode(errors="replace").strip()

    def stop(self) -> None:
        """Ask it to end, then make it end; its children end with it or are ended after it."""
        family = self.family()
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            self.process.wait(STOP_S)
        self.log.close()

    def family(self) -> list[int]:
        """Its id and those of all its descendants."""
        parents = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents[int(entry.parent.name)] = int(stat_fields(entry)[1])
        found = [self.process.pid]
        for pid in found:
            found.extend(child for child, parent in parents.items() if parent == pid)
        return found

    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        ticks = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                fields = stat_fields(Path(f"/proc/{pid}/stat"))
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0

    def rss_mib(self) -> float:
        """Resident memory now."""
        pages = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MIB if pages else 0.0


def stat_fields(path: Path) -> list[str]:
    """The fields of /proc/PID/stat after the name, see proc(5): state, parent, ..., utime the 12th."""
    return path.read_text().rpartition(")")[2].split()


def core_seconds(cores: set[int]) -> tuple[float, float]:
    """Seconds that these cores were busy, and that the host took from them, ever; see proc(5)."""
    busy = stolen = 0.0
    with contextlib.suppress(OSError):
        for line in Path("/proc/stat").read_text().splitlines():
            name, *fields = line.split()
            if name.removeprefix("cpu").isdigit() and int(name[3:]) in cores:
                user, nice, system, _, _, interrupts, soft_interrupts, steal = map(int, fields[:8])
                busy += (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")
                stolen += steal / os.sysconf("SC_CLK_TCK")
    return busy, stolen


@contextlib.contextmanager
def running(arguments: Sequence[str], cores: set[int] | None = None) -> Iterator[Running]:
    """A process for the length of a block."""
    started = Running(arguments, cores)
    try:
        yield started
    finally:
        started.stop()


@contextlib.contextmanager
def kept_awake(cores: set[int]) -> Iterator[None]:
    """None of these cores sleeps during the block; see awake.py."""
    with contextlib.ExitStack() as stack:
        for core in cores if hasattr(os, "SCHED_IDLE") else ():
            stack.enter_context(running(["benchmarks.awake", "--core", str(core)], {core}))
        yield
