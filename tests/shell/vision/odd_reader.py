"""A process in place of the one that reads documents: it does what the document says.

`say N pages`, `crash`, `crash once PATH`, `hang`, `grow`, `garbage`, `half`, `exit`: a document is one line for each
page; the command is carried out when its page is read.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from gateway.core.vision.document import Box, LaidPage, LaidRegion, PageSize, Reading, RegionType
from gateway.shell.vision import reader_child as child
from gateway.shell.vision import reader_wire as wire
from gateway.shell.vision.source import ReadLimits
from gateway.shell.vision.unreadable import Unreadable


class Lines:
    """A document of lines."""

    media_type = "text/plain"

    def __init__(self, data: bytes) -> None:
        self._lines = data.decode().split("\n")
        self.page_count = len(self._lines)

    def read(self, page: int) -> LaidPage:
        text = self._lines[page - 1]
        obey(text)
        return LaidPage(PageSize(100, 100), [LaidRegion(Box(0, 0, 9, 9), RegionType.TEXT, text)])

    def render(self, page: int, box: Box | None, max_side_px: int) -> bytes:
        obey(self._lines[page - 1])
        return b"\x89PNG" + str(max_side_px).encode()

    def decode(self, page: int, box: Box, dpi: int) -> Reading:
        obey(self._lines[page - 1])
        return Reading(f"{self._lines[page - 1]} at {dpi}", 0.5)

    def close(self) -> None:
        self._lines = []


def obey(line: str) -> None:
    command, _, argument = line.partition(" ")
    if command == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if command == "once" and not Path(argument).is_dir():
        os.mkdir(argument)  # a folder is no file: its size is not bounded
        os.kill(os.getpid(), signal.SIGSEGV)
    if command == "hang":
        time.sleep(3600)
    if command == "grow":
        held = [bytearray(1 << 26) for _ in range(1 << 14)]
        assert held
    if command == "garbage":
        os.write(ANSWERS, b"\x00\x00\x00\x04what")
        time.sleep(3600)
    if command == "half":
        os.write(ANSWERS, b"\x00\x00\x10\x00half")
        os._exit(0)
    if command == "exit":
        os._exit(3)
    if command == "print":
        print("a library's chatter", flush=True)
    if command == "broken":
        raise Unreadable("This page is broken: 7 of 9 bytes.")
    if command == "bug":
        raise ZeroDivisionError
    if command == "write":
        Path("/tmp/never").write_bytes(b"x" * 10)
    if command == "environment":
        raise Unreadable(" ".join(sorted(os.environ)))


def open_lines(data: bytes, limits: ReadLimits) -> Lines:
    return Lines(data)


ANSWERS = os.dup(1)
if __name__ == "__main__":
    limits = msgspec.json.decode(sys.argv[1], type=wire.Limits)
    answers = os.fdopen(ANSWERS, "wb")
    os.dup2(2, 1)
    child.bind(limits)
    child.serve(sys.stdin.buffer, answers, child.Desk(limits, open_lines))
