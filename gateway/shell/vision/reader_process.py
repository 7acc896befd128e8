"""One process that reads documents, as whoever started it sees it: asked one thing at a time, killed when it fails.

Invariants, each with a test of its own:
  1. A call ends with an answer, a fault, or its caller's cancellation, and in the latter two the process is gone.
  2. Nothing of this process's environment reaches it but what Python needs to run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence

import msgspec

from gateway.shell.vision import reader_wire as wire

CHILD = ("-m", "gateway.shell.vision.reader_child")
_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_WRITE_BYTES = 1 << 20
_END_S = 5.0


class ReaderDied(Exception):  # noqa: N818 - named for what it is
    """The process ended, or said what cannot be understood; `how` says which, for a person."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class ReaderProcess:
    """A process that was started.

    Args:
        process: with pipes on both sides.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.newest = b""
        """The document that it was asked about last."""
        self._is_killed = False

    @classmethod
    async def start(cls, limits: wire.Limits, child: Sequence[str] = CHILD) -> ReaderProcess:
        """Start one.

        Raises:
            ReaderDied: it cannot be started.
        """
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= dict.fromkeys(_ONE_THREAD, "1")
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *child,
                msgspec.json.encode(limits).decode(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise ReaderDied(f"it could not be started ({error.strerror})") from None
        return cls(process)

    @property
    def is_alive(self) -> bool:
        """Whether it runs, as far as is known."""
        return self._process.returncode is None and not self._is_killed

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    async def ask(self, asked: wire.Inspect | wire.ReadPage | wire.Render | wire.Decode, data: bytes) -> wire.Told:
        """What it says; `data` is the document, in case it is missing there.

        Raises:
            ReaderDied: it says nothing, and is gone.
        """
        is_done = False
        try:
            self.newest = asked.hash
            told = await self._exchange(wire.render_frame(asked))
            if isinstance(told, wire.Refused) and told.kind == "missing":
                await self._write(await asyncio.to_thread(wire.render_frame, wire.Take(asked.hash, data)))
                told = await self._exchange(wire.render_frame(asked))
            is_done = True
            return told
        except (OSError, EOFError) as error:
            raise ReaderDied(await self._how_it_ended()) from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ReaderDied("it said what cannot be understood") from error
        finally:
            if not is_done:
                self.kill()

    async def _exchange(self, frame: bytes) -> wire.Told:
        await self._write(frame)
        stdout = self._process.stdout
        assert stdout is not None
        length = int.from_bytes(await stdout.readexactly(wire.LENGTH_BYTES))
        if length > wire.MAX_FRAME_BYTES:
            raise msgspec.DecodeError("a frame beyond all measure")
        return wire.read_told(await stdout.readexactly(length))

    async def _write(self, frame: bytes) -> None:
        """In parts, so that the event loop never copies much at once."""
        stdin = self._process.stdin
        assert stdin is not None
        for start in range(0, len(frame), _WRITE_BYTES):
            stdin.write(frame[start : start + _WRITE_BYTES])
            await stdin.drain()

    async def _how_it_ended(self) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        code = self._process.returncode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"it was ended by {signal.Signals(-code).name}"
        return "it closed its pipe" if code is None else f"it exited with {code}"

    def kill(self) -> None:
        """End it now."""
        self._is_killed = True
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def close(self) -> None:
        """End it, and wait until it is gone."""
        self.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._process.wait()
