"""One process that reads documents, as the gateway sees it: started, asked, and ended.

It is asked one thing at a time. Whatever goes wrong in between, a caller that is cancelled included, it is killed:
half a conversation cannot be gone on with. What it writes to its traces is read as long as it runs, and of that only
places in code are logged.

Invariants, each with a test of its own:
  1. After `ask` has raised anything but `VisionFault` the process is dead or dying.
  2. It gets neither the gateway's environment nor its files.
  3. Bytes of a document are sent once, in pieces that block nobody, and so many are held at most.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import sysconfig
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from gateway.ports_vision import VisionFault
from gateway.shell.vision import reader_frames as frames
from gateway.shell.vision.reader_frames import Outcome
from gateway.shell.vision.source import ReadLimits
from gateway.tasks import TaskGroup

T = TypeVar("T")
_PIECE_BYTES = 1 << 18
_HELD_BYTES = 64 << 20
_TRACE_BYTES = 8192
_REAP_S = 2.0
_places_in = re.compile(rb'File "([\w./ -]{1,300}\.py)", line (\d+), in (\w+)').findall
_PASSED = ("PATH", "PYTHONPATH")
_MODULE = "gateway.shell.vision.reader_child"


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """How documents are read.

    Attributes:
        limits: what is read at most.
        workers: processes for indexing.
        page_s: for one page, or one thing asked for.
        idle_s: after so long without work a process ends.
        memory_bytes: of a process.
        max_document_bytes: of a document.
        module: that is run; a test's own in tests.
    """

    limits: ReadLimits
    workers: int = 1
    page_s: float = 60.0
    idle_s: float = 60.0
    memory_bytes: int = 1 << 31
    max_document_bytes: int = 1 << 25
    module: str = _MODULE


class Held(NamedTuple):
    """A document: SHA-256 in hex, and its bytes."""

    hash: str
    data: bytes


class ReaderDied(Exception):  # noqa: N818 - an event
    """A process ended, or talked nonsense and was ended; `kind` is a stable word, `message` a clause about it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class ReaderProcess:
    """A process that runs; made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process, tasks: TaskGroup) -> None:
        self._process = process
        self._trace = bytearray()
        self._held: OrderedDict[str, int] = OrderedDict()
        self._is_killed = False
        self._tracing = tasks.spawn(self._read_trace(), "trace of a reader")

    @classmethod
    async def start(cls, options: ReaderOptions, tasks: TaskGroup) -> ReaderProcess:
        """Start a process.

        Raises:
            VisionFault: `down`, the machine has no room for one.
        """
        limits = options.limits
        told = frames.Start(os.getpid(), options.memory_bytes, limits.max_pages, limits.max_pixels, limits.ocr)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                options.module,
                msgspec.json.encode(told).decode(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        except OSError as fault:
            raise VisionFault("down", f"No process to read documents could be started: {fault.strerror}.") from fault
        return cls(process, tasks)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self._is_killed and self._process.returncode is None

    def holds(self, hash_: str) -> bool:
        """Whether it has this document already."""
        return hash_ in self._held

    def places(self) -> list[str]:
        """Where in code it failed, as far as its traces say."""
        found = _places_in(bytes(self._trace))
        return [f"{Path(file.decode()).name}:{line.decode()} {name.decode()}" for file, line, name in found[-6:]]

    async def ask(self, held: Held, order: frames.Work, max_bytes: int, decode: Callable[[bytes], T]) -> T:
        """Have an order carried out.

        Args:
            held: the document that it is about.
            order: what to do.
            max_bytes: of the answer.
            decode: makes what is returned of the answer; raises ValueError or `msgspec.MsgspecError`.

        Raises:
            VisionFault: `unreadable` or `disabled`, as the process says.
            ReaderDied: it did not answer, or not sensibly.
        """
        try:
            await self._send_document(held)
            await self._send(frames.render_order(order))
            outcome, body = await self._read_answer(max_bytes)
            return _told(outcome, body, decode)
        except VisionFault:
            raise
        except (OSError, EOFError):
            raise await self._died() from None
        except (ValueError, msgspec.MsgspecError):
            self.kill()
            raise ReaderDied("garbage", "gave an answer that makes no sense") from None
        except BaseException:
            self.kill()
            raise

    async def _send_document(self, held: Held) -> None:
        if held.hash in self._held:
            self._held.move_to_end(held.hash)
            return
        size_bytes = len(held.data)
        while self._held and sum(self._held.values()) + size_bytes > _HELD_BYTES:
            await self._send(frames.render_order(frames.Drop(self._held.popitem(last=False)[0])))
        await self._send(frames.render_order(frames.Hold(held.hash, size_bytes)))
        whole = memoryview(held.data)
        for start in range(0, size_bytes, _PIECE_BYTES):
            await self._send(whole[start : start + _PIECE_BYTES])
        self._held[held.hash] = size_bytes

    async def _send(self, data: bytes | memoryview) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def _read_answer(self, max_bytes: int) -> tuple[Outcome, bytes]:
        assert self._process.stdout is not None
        head = await self._process.stdout.readexactly(frames.ANSWER_HEAD.size)
        size_bytes, number = frames.ANSWER_HEAD.unpack(head)
        outcome = Outcome(number)
        if size_bytes > (max_bytes if outcome is Outcome.DONE else frames.MAX_MESSAGE_BYTES):
            raise ValueError(size_bytes)
        return outcome, await self._process.stdout.readexactly(size_bytes)

    async def _died(self) -> ReaderDied:
        """Why it ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_REAP_S):
                await self._process.wait()
        code = self._process.returncode
        was_killed = self._is_killed
        self.kill()
        if code is None or was_killed:
            return ReaderDied("ended", "stopped answering")
        if code == frames.OUT_OF_MEMORY:
            return ReaderDied("memory", "needed more memory than it may take")
        if code == -signal.SIGKILL:
            return ReaderDied("killed", "was killed, most likely for want of memory")
        if code < 0:
            return ReaderDied("crashed", f"crashed (signal {-code})")
        return ReaderDied("broken", f"met a fault (exit code {code})")

    def kill(self) -> None:
        """End it at once."""
        self._is_killed = True
        with suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """End it, and wait until it has."""
        self.kill()
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        await asyncio.wait({self._tracing}, timeout=_REAP_S)

    async def _read_trace(self) -> None:
        """Keep the last of what it writes to its traces."""
        assert self._process.stderr is not None
        with suppress(OSError):
            while piece := await self._process.stderr.read(_TRACE_BYTES):
                self._trace += piece
                del self._trace[:-_TRACE_BYTES]


def _told(outcome: Outcome, body: bytes, decode: Callable[[bytes], T]) -> T:
    if outcome is Outcome.DONE:
        return decode(body)
    kind = "unreadable" if outcome is Outcome.UNREADABLE else "disabled"
    raise VisionFault(kind, body.decode("utf-8", "replace"))


def _environment() -> dict[str, str]:
    """What a process needs to find its code, and nothing else: keys stand in environments."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    root = str(Path(__file__).resolve().parents[3])
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        paths = [root, *filter(None, [passed.get("PYTHONPATH")])]
        passed["PYTHONPATH"] = os.pathsep.join(paths)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return passed | threads | {"PYTHONDONTWRITEBYTECODE": "1"}
