"""Documents in a folder of this machine: what `file:` URLs name, and nothing outside that folder.

The folder is opened, then each step of the path within the one before, and none that is a link: there is no moment
between a check and its use at which somebody could put another thing in its place. It blocks: call it in a thread.

Invariants, each with a test of its own:
  1. No link, device, pipe, socket or folder is read, and nothing outside the root.
  2. No more is read than the bound.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote

from gateway.core.vision.sources import MAX_URL_CHARS, SourceRefusedError
from gateway.ports_vision import VisionFault

_file_url = re.compile(r"file:(?://(?:localhost)?)?(/[^?#]*)", re.IGNORECASE | re.ASCII).fullmatch
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_STEP = _FOLDER | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""A pipe is opened without waiting for who writes to it."""
_READ_AT_ONCE = 1 << 20
_NO_SUCH_FILE = "there is no such file that may be read"


def read_below(root: Path, url: str, max_bytes: int) -> bytes:
    """The file that a `file:` URL names.

    Raises:
        SourceRefusedError: it is not under the root, is no regular file, or there is none; which, is not told.
        VisionFault: `unreadable`, it is too large.
    """
    steps = _steps_below(root, url)
    try:
        number = _opened(root, steps)
    except (OSError, ValueError):
        raise SourceRefusedError(_NO_SUCH_FILE) from None
    try:
        told = os.fstat(number)
        if not stat.S_ISREG(told.st_mode):
            raise SourceRefusedError(_NO_SUCH_FILE)
        parts, left = [], max_bytes + 1
        while left > 0 and (part := os.read(number, min(left, _READ_AT_ONCE))):
            parts.append(part)
            left -= len(part)
    except OSError:
        raise SourceRefusedError(_NO_SUCH_FILE) from None
    finally:
        os.close(number)
    if left <= 0:
        size = max(told.st_size, max_bytes + 1)
        raise VisionFault("unreadable", f"the document has {size} bytes, at most {max_bytes} are read")
    return b"".join(parts)


def _steps_below(root: Path, url: str) -> list[str]:
    """The path within the root that a URL names, as the root is written or as it really is."""
    matched = _file_url(url) if len(url) <= MAX_URL_CHARS else None
    if matched is None:
        raise SourceRefusedError("a file: URL has to be file:///, then the path of a file")
    steps = unquote(matched[1], errors="surrogateescape").split("/")[1:]
    if any(step in ("", ".", "..") or "\0" in step for step in steps):
        raise SourceRefusedError("the file: URL's path holds an empty step, . or ..: write it without")
    for above in dict.fromkeys((root.absolute(), root.resolve())):
        parts = list(above.parts[1:])
        if steps[: len(parts)] == parts and len(steps) > len(parts):
            return steps[len(parts) :]
    raise SourceRefusedError(_NO_SUCH_FILE)


def _opened(root: Path, steps: list[str]) -> int:
    """The file that these steps lead to, opened."""
    folder = os.open(root, _FOLDER)
    try:
        for step in steps[:-1]:
            below = os.open(step, _STEP, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(steps[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)
