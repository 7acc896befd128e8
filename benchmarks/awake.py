"""Keeps a core from sleeping while latency is measured: `python -m benchmarks.awake --core 0`.

A virtual core that fell asleep takes up to milliseconds to wake; one request after another then shows the
machine's sleep, not the proxy's work (measured on a two-core virtual machine: p99 of a bare proxy 4 ms
asleep, .7 ms awake). This process spins at SCHED_IDLE, which yields to everything else. At saturation nothing
sleeps and even such a process takes its small share, so it runs only beside the one-connection steps.
"""

from __future__ import annotations

import argparse
import os
import time


def spin(core: int, seconds: float) -> None:
    """Do nothing, busily, at the lowest priority there is."""
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        pass


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args()
    spin(chosen.core, chosen.seconds)


if __name__ == "__main__":
    main()
