"""The process that reads documents: `python -m gateway.shell.vision.reader_child START`.

It trusts no document: whatever a library does with one happens here, where there is nothing to be had. It has none of
the gateway's environment, opens no connection, writes no file, and takes no more memory than it is told. It ends when
its orders do, and when its parent does, however that ended. What cannot be gone on from, such as a lack of memory,
ends it: whoever gave the order starts another.

Invariants, each with a test of its own:
  1. Nothing that a library prints reaches the pipe of answers.
  2. It does not outlive its parent, even in the middle of a page.
  3. It says nothing of a document in its traces but where in the code it failed.
  4. Text that UTF-8 has no place for is no fault.
  5. Where memory runs out, it is ended before the gateway is.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

import msgspec

from gateway.core.vision.document import LaidPage, Reading
from gateway.ports_vision import Inspected
from gateway.shell.vision import reader_frames as frames
from gateway.shell.vision.reader_frames import Outcome
from gateway.shell.vision.source import ReadLimits, Source, open_source
from gateway.shell.vision.unreadable import Unreadable

Opener = Callable[[bytes, ReadLimits], Source]
_NICENESS = 5
_MAX_FILES = 64
_PR_SET_PDEATHSIG = 1


class Serving:
    """Carries out orders about documents that it holds; the last one that was read stays open.

    Args:
        open_: opens documents.
        limits: what is read at most.
    """

    def __init__(self, open_: Opener, limits: ReadLimits) -> None:
        self._open = open_
        self._limits = limits
        self._held: dict[str, bytes] = {}
        self._opened: tuple[str, Source] | None = None

    def hold(self, hash_: str, data: bytes) -> None:
        """Keep a document."""
        self._held[hash_] = data

    def drop(self, hash_: str) -> None:
        """Let a document go."""
        if self._opened is not None and self._opened[0] == hash_:
            self._close()
        self._held.pop(hash_, None)

    def answer(self, order: frames.Work) -> tuple[Outcome, bytes]:
        """Carry out an order."""
        try:
            body = self._work(self._source(order.hash), order)
        except Unreadable as fault:
            return Outcome.UNREADABLE, fault.message.encode("utf-8", "replace")[: frames.MAX_MESSAGE_BYTES]
        except ImportError as fault:
            missing = fault.name or "a library"
            return Outcome.DISABLED, f"Documents are not read here: {missing} is missing (extra vision).".encode()
        is_picture = isinstance(order, frames.Render)
        if len(body) > (most := frames.MAX_PICTURE_BYTES if is_picture else frames.MAX_PAGE_BYTES):
            return Outcome.UNREADABLE, f"A page holds {len(body)} bytes as read; the limit is {most}.".encode()
        return Outcome.DONE, body

    def _source(self, hash_: str) -> Source:
        if self._opened is None or self._opened[0] != hash_:
            self._close()
            self._opened = (hash_, self._open(self._held[hash_], self._limits))
        return self._opened[1]

    def _close(self) -> None:
        if self._opened is not None:
            opened, self._opened = self._opened[1], None
            opened.close()

    def _work(self, source: Source, order: frames.Work) -> bytes:
        match order:
            case frames.Inspect():
                return msgspec.msgpack.encode(Inspected(source.media_type, source.page_count))
            case frames.ReadPage(page=page):
                return _encoded(source.read(page))
            case frames.Render(page=page, box=box, max_side_px=max_side_px):
                return source.render(page, box, max_side_px)
            case frames.Decode(page=page, box=area, dpi=dpi):
                return _encoded(source.decode(page, area, dpi))


def _encoded(read: LaidPage | Reading) -> bytes:
    """As msgpack; halves of characters, which some PDFs hold and UTF-8 has no place for, become question marks."""
    try:
        return msgspec.msgpack.encode(read)
    except UnicodeEncodeError:
        return msgspec.msgpack.encode(_mended(read))


def _mended(read: LaidPage | Reading) -> LaidPage | Reading:
    if isinstance(read, Reading):
        return msgspec.structs.replace(read, text=_whole(read.text))
    regions = [
        msgspec.structs.replace(region, text=_whole(region.text), caption=_whole(region.caption))
        for region in read.regions
    ]
    return msgspec.structs.replace(read, regions=regions)


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def serve(orders: BinaryIO, answers: BinaryIO, serving: Serving) -> None:
    """Carry out orders until there are no more."""
    decoder = msgspec.msgpack.Decoder(frames.Order)
    while len(head := orders.read(frames.ORDER_HEAD.size)) == frames.ORDER_HEAD.size:
        order = decoder.decode(orders.read(*frames.ORDER_HEAD.unpack(head)))
        match order:
            case frames.Hold(hash=hash_, size_bytes=size_bytes):
                serving.hold(hash_, orders.read(size_bytes))
            case frames.Drop(hash=hash_):
                serving.drop(hash_)
            case _:
                answers.write(frames.render_answer(*serving.answer(order)))
                answers.flush()


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Orders and answers, out of reach of whatever prints or reads."""
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return orders, answers


def confine(start: frames.Start) -> None:
    """Give up what is not needed, end with the parent, and be the first to go where a machine has no memory left."""
    _end_with(start.parent_pid)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("1000")
    # Not the address space: libraries and models that are mapped would count, and they are not what grows.
    for limit, value in (
        (resource.RLIMIT_DATA, start.memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _MAX_FILES),
    ):
        with suppress(ValueError, OSError):  # a bound that is lower already stays
            resource.setrlimit(limit, (value, value))
    with suppress(OSError):
        os.nice(_NICENESS)


def _end_with(parent_pid: int) -> None:
    """Die when the parent dies: the end of orders is not seen in the middle of a page."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)


def run(open_: Opener, start_json: str) -> None:
    """Serve on this process's pipes; a fault of any kind ends the process, with an exit code that says which."""
    start = msgspec.json.decode(start_json, type=frames.Start)
    confine(start)
    orders, answers = take_pipes()
    try:
        serve(orders, answers, Serving(open_, ReadLimits(start.max_pages, start.max_pixels, start.ocr)))
    except BrokenPipeError:
        os._exit(0)
    except MemoryError:
        os._exit(frames.OUT_OF_MEMORY)
    except Exception as fault:  # noqa: BLE001 - libraries raise what they like; the process ends by it
        if "bad_alloc" in str(fault):  # so onnxruntime says it
            os._exit(frames.OUT_OF_MEMORY)
        where = "".join(traceback.StackSummary.from_list(_frames_of(fault)).format())
        sys.stderr.write(f"{where}{type(fault).__name__}\n")
        sys.stderr.flush()
        os._exit(frames.BROKEN)


def _frames_of(fault: Exception) -> list[tuple[str, int, str, str | None]]:
    return [(each.filename, each.lineno or 0, each.name, None) for each in traceback.extract_tb(fault.__traceback__)]


if __name__ == "__main__":
    run(open_source, sys.argv[1])
