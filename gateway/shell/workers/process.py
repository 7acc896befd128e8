"""One worker as the supervisor sees it: a process, the channel to it, and what it last showed of its metrics."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Sequence

from gateway.shell.telemetry.figures_merge import Family
from gateway.shell.workers.channel import Channel, Drain, Figures, Message, Ready, Reload, Scrape, Start


class WorkerProcess:
    """A worker that has been started.

    Attributes:
        number: names it in logs; never used twice.
        figures: its metrics as it last showed them.
        is_ready: it accepts requests.
        is_leaving: it was told to end.
    """

    def __init__(self, number: int, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.number = number
        self.figures: Sequence[Family] = ()
        self.is_ready = False
        self.is_leaving = False
        self._process = process
        self._channel = channel
        self._started = asyncio.Event()
        self._shown = asyncio.Condition()
        self._hearing = asyncio.create_task(self._hear())

    @classmethod
    async def start(cls, number: int, listener: socket.socket, settings: bytes, limits: str) -> WorkerProcess:
        """Start a process that serves this socket.

        Args:
            number: of the worker.
            listener: listens already; the worker inherits it.
            settings: the configuration as JSON.
            limits: the folder of the limits that workers share.
        """
        ours, theirs = socket.socketpair()
        fds = (theirs.fileno(), listener.fileno())
        arguments = ["-m", "gateway", "worker", "--channel", str(fds[0]), "--listener", str(fds[1])]
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, pass_fds=fds, start_new_session=False
            )
        channel = await Channel.over(ours)
        channel.send(Start(number, settings, limits))
        return cls(number, process, channel)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait_ready(self, timeout_s: float) -> bool:
        """Whether it came to accept requests in time, and lives."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._started.wait()
        return self.is_ready

    async def wait_exit(self) -> int:
        """The exit code, once it has ended and everything that it said was heard."""
        code = await self._process.wait()
        await self._hearing
        return code

    async def scrape(self, timeout_s: float) -> None:
        """Bring `figures` up to date, if that can be done in time."""
        async with self._shown:
            self._channel.send(Scrape())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._shown.wait()

    def reload(self, settings: bytes) -> None:
        """Let it go on with another configuration."""
        self._channel.send(Reload(settings))

    def drain(self) -> None:
        """Tell it to finish and end."""
        self.is_leaving = True
        self._channel.send(Drain())

    def kill(self) -> None:
        """End it now."""
        self.is_leaving = True
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)

    async def _hear(self) -> None:
        while (message := await self._channel.receive()) is not None:
            await self._take(message)
        self.is_ready = False
        self._started.set()
        async with self._shown:
            self._shown.notify_all()
        await self._channel.close()

    async def _take(self, message: Message) -> None:
        if isinstance(message, Ready):
            self.is_ready = True
            self._started.set()
        elif isinstance(message, Figures):
            self.figures = message.families
            async with self._shown:
                self._shown.notify_all()
