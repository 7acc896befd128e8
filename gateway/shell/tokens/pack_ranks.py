"""Write a packed rank file: `python -m gateway.shell.tokens.pack_ranks o200k_base FILE`.

FILE is what tiktoken downloads, or that gzipped. Needed once an encoding is added; `rank_files` then names the SHA-256
that is printed.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from pathlib import Path

from gateway.core.tokens.profiles import CL100K, O200K
from gateway.shell.tokens.rank_files import HEAD_BYTES

SHA256 = {
    O200K: "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    CL100K: "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
"""Of the text files that tiktoken downloads, as tiktoken has them (openai_public.py, 0.14, 2026)."""
_GZIP_MAGIC = b"\x1f\x8b"


def pack(name: str, text: bytes) -> bytes:
    """A packed file from tiktoken's text file.

    Raises:
        ValueError: that is not the file that tiktoken expects.
    """
    if hashlib.sha256(text).hexdigest() != SHA256.get(name):
        raise ValueError(f"this is not tiktoken's rank file of {name}")
    fields = text.split()
    tokens = [a2b_base64(field) for field in fields[::2]]
    if [int(field) for field in fields[1::2]] != list(range(len(tokens))):
        raise ValueError(f"the ranks of {name} are not in order")
    return len(tokens).to_bytes(HEAD_BYTES, "little") + bytes(map(len, tokens)) + b"".join(tokens)


def render_text(tokens: Sequence[bytes]) -> bytes:
    """tiktoken's text file again."""
    return b"".join(b"%b %d\n" % (b2a_base64(token, newline=False), rank) for rank, token in enumerate(tokens))


def main() -> int:
    """Command line."""
    name, source = sys.argv[1:]
    text = Path(source).read_bytes()
    packed = pack(name, gzip.decompress(text) if text.startswith(_GZIP_MAGIC) else text)
    target = Path(__file__).resolve().parents[2] / "data" / f"{name}.ranks"
    target.write_bytes(packed)
    sys.stdout.write(f"{target}: {len(packed)} bytes, SHA-256 {hashlib.sha256(packed).hexdigest()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
