"""A process that reads made documents, and does what they say: crash, hang, take memory, talk nonsense.

A document is JSON: `{"pages": 5, "3": "crash", "flag": PATH}`. What is done at a page of a document with a flag is done
once: the flag is a file that stands for having done it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from gateway.core.vision.document import Box, LaidPage, LaidRegion, PageSize, Reading, RegionType
from gateway.shell.vision import reader_child, reader_frames
from gateway.shell.vision.source import ReadLimits
from gateway.shell.vision.unreadable import Unreadable

PNG = b"\x89PNG\r\n\x1a\n"
SECRET = "the words of a document"
_answers: list[BinaryIO] = []


def document(pages: int, flag: Path | None = None, **acts: str) -> bytes:
    """A document that does something at a page: `p3="crash"`."""
    told: dict[str, Any] = {"pages": pages} | {page.removeprefix("p"): act for page, act in acts.items()}
    return json.dumps(told | ({"flag": str(flag)} if flag else {})).encode()


class MadeSource:
    """An open document that was made."""

    media_type = "application/x-made"

    def __init__(self, data: bytes, limits: ReadLimits) -> None:
        self._told = json.loads(data)
        self.page_count = int(self._told["pages"])
        self._act("open")

    def _act(self, where: str) -> None:
        act, flag = self._told.get(where), self._told.get("flag")
        if act is None or (flag and Path(flag).exists()):
            return
        if flag:
            Path(flag).touch()
        if act != "ok":
            ACTS[act]()

    def read(self, page: int) -> LaidPage:
        self._act(str(page))
        text = self._told.get("text") or f"page {page} by {os.getpid()}"
        has_text = self._told.get("scan") is None
        return LaidPage(
            PageSize(100, 200), [LaidRegion(Box(1, 2, 3, 4), RegionType.TEXT, text, has_text_layer=has_text)]
        )

    def render(self, page: int, box: Box | None, max_side_px: int) -> bytes:
        self._act(str(page))
        return PNG + f"{page} {max_side_px} {os.getpid()}".encode()

    def decode(self, page: int, box: Box, dpi: int) -> Reading:
        self._act(str(page))
        return Reading(self._told.get("text") or f"{page} {box.w} {dpi} {os.getpid()}", 0.5)

    def close(self) -> None:
        """Nothing to let go of."""


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    while True:
        time.sleep(60)


def _take_memory() -> None:
    held = []
    while True:
        held.append(bytearray(1 << 24))


def _say_nonsense() -> None:
    _answers[0].write(b"\xff" * 64)
    _answers[0].flush()
    _hang()


def _say_another_shape() -> None:
    _answers[0].write(reader_frames.render_answer(reader_frames.Outcome.DONE, msgspec.msgpack.encode({"size": "no"})))
    _answers[0].flush()
    _hang()


def _end_within_an_answer() -> None:
    _answers[0].write(reader_frames.ANSWER_HEAD.pack(1000, 0) + b"some")
    _answers[0].flush()
    os._exit(0)


def _print_much() -> None:
    for _ in range(1000):
        print(SECRET * 100)
        sys.stderr.write(SECRET * 100)


def _fail() -> None:
    raise ValueError(SECRET)


def _refuse() -> None:
    raise Unreadable("The page is broken: it has 0 letters.")


def _miss() -> None:
    raise ImportError("no", name="pypdfium2")


def _write() -> None:
    path = Path("/tmp") / f"reader-{os.getpid()}"
    try:
        path.write_bytes(b"x")
    finally:
        path.unlink()


def _look_around() -> None:
    raise Unreadable(" ".join(sorted(os.environ)) + f" | {os.nice(0)} {os.getsid(0) == os.getpid()} {os.getcwd()}")


ACTS = {
    "crash": _crash,
    "killed": _killed,
    "hang": _hang,
    "memory": _take_memory,
    "nonsense": _say_nonsense,
    "shape": _say_another_shape,
    "half": _end_within_an_answer,
    "print": _print_much,
    "fail": _fail,
    "refuse": _refuse,
    "miss": _miss,
    "write": _write,
    "look": _look_around,
}


if __name__ == "__main__":
    take_pipes = reader_child.take_pipes

    def take_and_keep() -> tuple[BinaryIO, BinaryIO]:
        orders, answers = take_pipes()
        _answers.append(answers)
        return orders, answers

    reader_child.take_pipes = take_and_keep
    reader_child.run(MadeSource, sys.argv[1])
