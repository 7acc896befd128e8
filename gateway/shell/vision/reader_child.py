"""A process that reads documents: `python -m gateway.shell.vision.reader_child LIMITS`, frames in, frames out.

It is bounded in memory, knows no secret and no file of its own, and ends with whoever started it. Whatever a hostile
document does to the libraries that read it, it does here.

Invariants, each with a test of its own:
  1. Each frame is answered by one frame, in order, and nothing else reaches the pipe.
  2. It ends when its input does, or its parent dies.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import BinaryIO

import msgspec

from gateway.ports_vision import Inspected
from gateway.shell.vision import reader_wire as wire
from gateway.shell.vision.source import ReadLimits, Source, open_source
from gateway.shell.vision.unreadable import Unreadable

_MAX_HELD = 4
_NICE = 5
_MAX_FILES = 64
_PR_SET_PDEATHSIG = 1
Opener = Callable[[bytes, ReadLimits], Source]


class Desk:
    """The documents that are open.

    Args:
        limits: what may be read.
        open_: opens a document.
    """

    def __init__(self, limits: wire.Limits, open_: Opener = open_source) -> None:
        self._limits = ReadLimits(limits.max_pages, limits.max_pixels, limits.ocr)
        self._held_bytes = limits.held_bytes
        self._open_source = open_
        self._held: OrderedDict[bytes, bytes] = OrderedDict()
        self._opened: tuple[bytes, Source] | None = None

    def answer(self, asked: wire.Asked) -> wire.Told | None:
        """What is to be said; None of a document that was taken."""
        try:
            if isinstance(asked, wire.Take):
                self._take(asked)
                return None
            source = self._source(asked.hash)
            if source is None:
                return wire.Refused("missing", "")
            return _done(source, asked)
        except Unreadable as refused:
            return wire.Refused("unreadable", refused.message)
        except MemoryError:
            return wire.Refused("memory", "")
        except Exception as error:  # noqa: BLE001 - whatever a library makes of a document is a reason to refuse it
            return wire.Refused("unreadable", f"The document could not be read: {type(error).__name__}.")

    def _take(self, taken: wire.Take) -> None:
        self._held[taken.hash] = taken.data
        self._held.move_to_end(taken.hash)
        while len(self._held) > 1 and (
            len(self._held) > _MAX_HELD or sum(map(len, self._held.values())) > self._held_bytes
        ):
            self._held.popitem(last=False)

    def _source(self, hash_: bytes) -> Source | None:
        """The document, open; None where it is not here."""
        if self._opened is not None:
            if self._opened[0] == hash_:
                return self._opened[1]
            self._opened[1].close()
            self._opened = None
        data = self._held.get(hash_)
        if data is None:
            return None
        self._held.move_to_end(hash_)
        source = self._open_source(data, self._limits)
        self._opened = (hash_, source)
        return source


def _done(source: Source, asked: wire.Inspect | wire.ReadPage | wire.Render | wire.Decode) -> wire.Told:
    if isinstance(asked, wire.Inspect):
        return wire.IsInspected(Inspected(source.media_type, source.page_count))
    if isinstance(asked, wire.ReadPage):
        return wire.IsRead(source.read(asked.page))
    if isinstance(asked, wire.Render):
        return wire.IsRendered(source.render(asked.page, asked.box, asked.max_side_px))
    return wire.IsDecoded(source.decode(asked.page, asked.box, asked.dpi))


def serve(frames: BinaryIO, answers: BinaryIO, desk: Desk) -> None:
    """Answer frames until there are no more."""
    while head := frames.read(wire.LENGTH_BYTES):
        length = int.from_bytes(head)
        body = frames.read(length)
        if len(head) < wire.LENGTH_BYTES or len(body) < length:
            return
        told = desk.answer(wire.read_asked(body))
        del body
        if told is None:
            continue
        answers.write(wire.render_frame(told))
        answers.flush()
        if isinstance(told, wire.Refused) and told.kind == "memory":
            return  # what is left of the heap is nothing to go on with


def bind(limits: wire.Limits) -> None:
    """Let the process take no more than it may, and live no longer than its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(_NICE)
    for kind, most in (
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _MAX_FILES),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def main() -> None:
    limits = msgspec.json.decode(sys.argv[1], type=wire.Limits)
    # Libraries may print what they like: the pipe is ours alone.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    bind(limits)
    serve(sys.stdin.buffer, answers, Desk(limits))


if __name__ == "__main__":
    main()
