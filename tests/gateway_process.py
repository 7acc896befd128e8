"""A real gateway process on free ports, for tests that talk to it as applications do.

    async with GatewayProcess(config_for(fake)) as gateway:
        client = openai.AsyncOpenAI(base_url=gateway.base_url, api_key="any")

The process is started as operators start it (`python -m gateway serve --config FILE`) and told to stop by its own
pid. Everything that it writes is in `lines`; `logs` are those that are JSON. An access-log line is written once an
exchange is settled, so `wait_log` is what tests wait for before they look at metrics.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.openai_server import FakeOpenAI

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent


def upstream_for(fake: FakeOpenAI, **options: Any) -> Json:
    """An upstream of the configuration, with short pauses between retries."""
    return {"name": fake.name, "base_url": fake.base_url, **options}


def config_for(*fakes: FakeOpenAI, **sections: Json) -> Json:
    """A configuration on free ports, in front of fakes that count in their own way; sections are merged over it."""
    server = {"port": 0, "admin_port": 0, **sections.pop("server", {})}
    upstreams = [upstream_for(fake) for fake in fakes]
    return {"server": server, "upstreams": upstreams, "token_estimator": {"calibrate": False}, **sections}


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would configure a gateway."""
    taken = re.compile(r"OPENAI_|GATEWAY_|LLM_GATEWAY")
    return {name: value for name, value in os.environ.items() if not taken.match(name)} | dict(extra or {})


@dataclass(frozen=True, slots=True)
class Samples:
    """One scrape: samples by name and labels."""

    by_name: Mapping[str, Sequence[tuple[Mapping[str, str], float]]]
    text: str

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name which have these labels; 0 where there is none."""
        found = self.by_name.get(name, ())
        return sum(value for own, value in found if labels.items() <= own.items())

    def labels(self, name: str, label: str) -> set[str]:
        """The values of one label."""
        return {own[label] for own, _ in self.by_name.get(name, ())}


def parse_samples(text: str) -> Samples:
    by_name: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            by_name.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Samples(by_name, text)


@dataclass(slots=True)
class Command:
    """A gateway command with its output, read as it comes."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    logs: list[Json] = field(default_factory=list)
    _process: asyncio.subprocess.Process | None = None
    _reader: asyncio.Task[None] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            *self.arguments,
            cwd=ROOT,
            env=clean_environment(self.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=2**22,
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
            if line.startswith(b"{"):
                self.logs.append(json.loads(line))
            self._changed.set()
        self._changed.set()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def wait_exit(self, timeout_s: float = 10) -> int:
        """Waits for the end of the process; all output is in `lines` then."""
        assert self._process is not None
        assert self._reader is not None
        async with asyncio.timeout(timeout_s):
            code = await self._process.wait()
            await self._reader
        return code

    async def wait_logs(self, count: int, timeout_s: float = 8, since: int = 0, **fields: Any) -> list[Json]:
        """Waits until so many of `logs[since:]` have these fields; the process may have ended.

        Raises:
            TimeoutError: with the process's last lines.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._changed.clear()
                    found = [
                        log
                        for log in self.logs[since:]
                        if all(log.get(name) == value for name, value in fields.items())
                    ]
                    if len(found) >= count:
                        return found
                    if self._reader is None or self._reader.done():
                        raise TimeoutError
                    await self._changed.wait()
        except TimeoutError:
            last = "\n".join(self.lines[-20:])
            raise TimeoutError(f"{count} log lines with {fields} did not come; the last lines are:\n{last}") from None

    async def wait_log(self, timeout_s: float = 8, since: int = 0, **fields: Any) -> Json:
        """Waits for a log line with these fields."""
        return (await self.wait_logs(1, timeout_s, since, **fields))[0]

    async def stop(self, timeout_s: float = 10) -> int:
        """SIGTERM, and SIGKILL for what does not end; returns the exit code."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self.signal(signal.SIGTERM)
        try:
            return await self.wait_exit(timeout_s)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return await self.wait_exit(timeout_s)


async def run_command(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """A gateway command run to its end: exit code and output."""
    command = await Command(arguments, environment or {}).start()
    try:
        return await command.wait_exit(20), command.output
    finally:
        await command.stop()


class GatewayProcess(Command):
    """A running gateway.

    Args:
        config: written to a file that `serve` reads; None starts without one.
        environment: variables beside the usual ones.
    """

    def __init__(self, config: Json | None, environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gateway-test-")
        self.config_file = Path(self._folder.name) / "gateway.yaml"
        arguments = ["serve"]
        if config is not None:
            self.write_config(config)
            arguments += ["--config", str(self.config_file)]
        super().__init__(arguments, environment or {})
        self.base_url = ""
        self.admin_url = ""

    def write_config(self, config: Json | str) -> None:
        """JSON is YAML too."""
        self.config_file.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")

    async def start(self) -> Self:
        """Start, and wait until it is ready.

        Raises:
            TimeoutError: it did not come up; the message holds what it said.
        """
        await super().start()
        try:
            listening = await self.wait_log(20, message="listening")
            self.base_url, self.admin_url = listening["data"], listening["admin"]
            if (await self.admin("/health/ready"))[0] != 200:
                raise TimeoutError(f"not ready: {self.output}")
        except BaseException:
            await self.stop()
            raise
        return self

    async def stop(self, timeout_s: float = 10) -> int:
        try:
            return await super().stop(timeout_s)
        finally:
            self._folder.cleanup()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        return int(self.base_url.rpartition(":")[2].partition("/")[0])

    async def admin(self, path: str) -> tuple[int, str]:
        """Status and text of a GET on the admin port."""
        async with aiohttp.ClientSession() as session, session.get(self.admin_url + path) as response:
            return response.status, await response.text()

    async def metrics(self) -> Samples:
        return parse_samples((await self.admin("/metrics"))[1])

    async def settled(self, response_headers: Mapping[str, str]) -> Json:
        """The access-log line of an answer, known by its x-gateway-request-id."""
        return await self.wait_log(logger="gateway.access", request_id=response_headers["x-gateway-request-id"])

    def memory_bytes(self, row: str = "VmRSS") -> int:
        """Resident memory, of which `VmHWM` is the peak."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{row}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def reset_peak(self) -> None:
        """Let `VmHWM` start anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as it came over the wire; `interim`: how many interim answers came before it."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    interim: int = 0

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def error(self) -> Json:
        """The error object, whose form is checked."""
        error: Json = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        return error


class Wire:
    """One TCP connection, for bytes that no client library would send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Wire:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**24))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.abort()

    def abort(self) -> None:
        self._writer.transport.abort()

    async def send(self, *pieces: bytes) -> None:
        """Bytes as they are; a peer that has closed already does not matter."""
        try:
            for piece in pieces:
                self._writer.write(piece)
                await self._writer.drain()
        except ConnectionError:
            pass

    async def send_eof(self) -> None:
        self._writer.write_eof()

    async def answer(self, timeout_s: float = 8, *, is_head: bool = False) -> Answer:
        """The next answer on this connection."""
        async with asyncio.timeout(timeout_s):
            interim = 0
            while True:
                head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                status = int(head.split(" ", 2)[1])
                if status >= 200:
                    break
                interim += 1
            lines = [line.partition(":") for line in head.split("\r\n")[1:] if line]
            headers = [(name, value.strip()) for name, _, value in lines]
            body = b"" if is_head or status in (204, 304) else await self._body(headers)
        return Answer(status, headers, body, interim)

    async def _body(self, headers: Sequence[tuple[str, str]]) -> bytes:
        named = {name.lower(): value for name, value in headers}
        if "content-length" in named:
            return await self._reader.readexactly(int(named["content-length"]))
        if named.get("transfer-encoding") != "chunked":
            return await self._reader.read()
        body = b""
        while size := int((await self._reader.readline()).split(b";")[0], 16):
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readuntil(b"\r\n")
        return body

    async def rest(self, timeout_s: float = 8) -> bytes:
        """All bytes until the peer closes; a reset ends them too."""
        async with asyncio.timeout(timeout_s):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""


def head(method: str, target: str, *lines: str, host: str = "localhost") -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode("latin-1")


def chunked(pieces: Iterator[bytes] | Sequence[bytes]) -> Iterator[bytes]:
    """A body in chunked encoding."""
    for piece in pieces:
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"


async def ask_raw(gateway: GatewayProcess, *pieces: bytes, is_head: bool = False, timeout_s: float = 8) -> Answer:
    """One request's bytes on a connection of their own."""
    async with await Wire.open(gateway.port) as wire:
        sending = asyncio.create_task(wire.send(*pieces))
        try:
            return await wire.answer(timeout_s, is_head=is_head)
        finally:
            sending.cancel()
