"""Notices that a configuration has changed: by the content of its files, looked at from time to time.

A ConfigMap is swapped by renaming a link, an editor replaces a file, a secret is rotated: all of it shows in what the
files say, and none of it reliably in events. A file that cannot be read counts as one with other content.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path


def digest_of_files(paths: Sequence[Path]) -> bytes:
    """What the files say, as 32 bytes."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            content = b"1" + path.read_bytes()
        except OSError:
            content = b"0"
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.digest()


async def watch_files(
    paths: Callable[[], Sequence[Path]], known: bytes, period_s: float, changed: Callable[[], None]
) -> None:
    """Call `changed` after each change, for ever.

    Args:
        paths: the files, asked anew each time: another configuration may name others, which is one more change.
        known: `digest_of_files` when they were read; what has changed since then is a change.
        period_s: between two looks.
        changed: must not raise.
    """
    while True:
        await asyncio.sleep(period_s)
        found = await asyncio.to_thread(digest_of_files, paths())
        if found != known:
            known = found
            changed()
