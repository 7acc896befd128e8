"""What is put under load: the upstream alone, a bare aiohttp proxy, the gateway."""

from __future__ import annotations

import contextlib
import http.client
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import bodies
from benchmarks.processes import Running, free_port, running

START_S = 60.0
POLL_S = 0.005
CONFIG = """\
server: {{host: 127.0.0.1, port: {port}, admin_host: 127.0.0.1, admin_port: {admin_port}}}
upstreams: [{{name: mock, base_url: "http://127.0.0.1:{upstream}/v1", api_key: "sk-bench", models: ["*"]}}]
token_budget: {{max_total: {max_total}}}
telemetry: {{log_level: warning}}
"""


class NotStartedError(Exception):
    """A target did not answer 200 in time; the text holds its last output."""


@dataclass(slots=True)
class Target:
    """One thing to measure; `process` is None for the upstream alone, which is always there."""

    port: int
    admin_port: int = 0
    process: Running | None = None
    cold_start_s: float = 0.0


def is_200(method: str, port: int, path: str, body: bytes | None = None) -> bool:
    """Does one fresh connection get a 200?"""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"content-type": "application/json", "authorization": "Bearer sk-bench-client"}
    try:
        connection.request(method, path, body, headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until(is_ready: Callable[[], bool], process: Running) -> None:
    """Ask again and again.

    Raises:
        NotStartedError: the process ended, or START_S went by.
    """
    ends_at = time.monotonic() + START_S
    while not is_ready():
        if not process.is_alive() or time.monotonic() > ends_at:
            raise NotStartedError(process.output() or "no answer, and no output")
        time.sleep(POLL_S)


def answers_chat(port: int) -> bool:
    """Does the small chat request get a 200?"""
    return is_200("POST", port, "/v1/chat/completions", bodies.small())


@contextlib.contextmanager
def started(arguments: list[str], target: Target, cores: set[int] | None) -> Iterator[Target]:
    """A process that has answered its first chat request; the time to it is the cold start."""
    began = time.perf_counter()
    with running(arguments, cores) as target.process:
        wait_until(lambda: answers_chat(target.port), target.process)
        target.cold_start_s = time.perf_counter() - began
        yield target


@contextlib.contextmanager
def upstream(cores: set[int] | None, events: int = 200) -> Iterator[Target]:
    """The mock, for all that follows."""
    target = Target(free_port())
    with started(["benchmarks.upstream", "--port", str(target.port), "--events", str(events)], target, cores):
        yield target


@contextlib.contextmanager
def bare(upstream_port: int, cores: set[int] | None) -> Iterator[Target]:
    """The bare proxy."""
    target = Target(free_port())
    arguments = ["benchmarks.bare", "--port", str(target.port), "--upstream", str(upstream_port)]
    with started(arguments, target, cores):
        yield target


@contextlib.contextmanager
def gateway(upstream_port: int, cores: set[int] | None, max_total: int = 128_000) -> Iterator[Target]:
    """The gateway with its defaults, and a budget that nothing sent here overflows."""
    target = Target(free_port(), free_port())
    text = CONFIG.format(port=target.port, admin_port=target.admin_port, upstream=upstream_port, max_total=max_total)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "gateway.yaml")
        config.write_text(text)
        with started(["gateway", "serve", "--config", str(config)], target, cores):
            assert target.process
            wait_until(lambda: is_200("GET", target.admin_port, "/health/ready"), target.process)
            yield target
