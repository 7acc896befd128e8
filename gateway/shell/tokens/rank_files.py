"""tiktoken encodings from rank files that are part of the package: nothing is downloaded, ever.

A packed file holds what tiktoken's public text file holds, in a form that loads in two thirds of the time: the number
of tokens, the length of each in rank order, then their bytes. It is checked against a SHA-256 of its own; that its
tokens are those of the file whose SHA-256 tiktoken expects is checked when it is written (`pack_ranks`) and by a test.
The split patterns are tiktoken's (openai_public.py, 0.14, 2026).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import sys
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import accumulate, pairwise
from typing import NamedTuple

import tiktoken

from gateway.core.tokens.profiles import CL100K, O200K

NEAREST: Mapping[str, str] = {
    "o200k_harmony": O200K,  # the same ranks; it adds special tokens only
    "p50k_base": CL100K,
    "p50k_edit": CL100K,
    "r50k_base": CL100K,
    "gpt2": CL100K,
}
"""Encodings that are counted with a packaged one; the first exactly, those of 2019 to 2022 nearly."""
_PACKED_SHA256 = {
    O200K: "ba55b38e477b631966c2496061ecd7d10108501c7c47358222d9dc27c22f9422",
    CL100K: "79045c4dbf49c4e3b90893afbcbfd80cf94cf2b99256bd84b19ffcace49d9bd2",
}
_LETTERS = r"\p{Lm}\p{Lo}\p{M}"
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_PATTERNS = {
    O200K: "|".join(
        (
            rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{_LETTERS}]*[\p{{Ll}}{_LETTERS}]+{_SUFFIX}",
            rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{_LETTERS}]+[\p{{Ll}}{_LETTERS}]*{_SUFFIX}",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    ),
    CL100K: (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
}
HEAD_BYTES = 4


class RankFile(NamedTuple):
    """An encoding and what tiktoken does not tell of it.

    Attributes:
        encoding: tiktoken's own object.
        pattern: its split pattern.
        lengths: bytes of each token, by rank.
    """

    encoding: tiktoken.Encoding
    pattern: str
    lengths: bytes


def load_rank_file(name: str, folder: Traversable | None = None) -> RankFile:
    """An encoding from its packaged rank file; takes about .2 s and 50 MB for o200k_base.

    Args:
        name: of a packaged encoding, or one of `NEAREST`.
        folder: where the rank files are, if not in the package.

    Raises:
        OSError: there is no such file.
        ValueError: the name is unknown, or the file is not what was packed.
    """
    name = NEAREST.get(name, name)
    if name not in _PATTERNS:
        raise ValueError(f"there is no encoding {name!r}; expected one of {', '.join([*_PATTERNS, *NEAREST])}")
    packed = (folder or resources.files("gateway.data")).joinpath(f"{name}.ranks").read_bytes()
    if hashlib.sha256(packed).hexdigest() != _PACKED_SHA256.get(name):
        raise ValueError(f"the packaged rank file of {name} is damaged; reinstall the package")
    tokens, lengths = unpack(packed)
    ranks = dict(zip(tokens, range(len(tokens)), strict=True))
    del packed, tokens
    # A special token that is never allowed: without any, `encode` would look for the empty one at every place.
    specials = {"<|endoftext|>": len(lengths)}
    encoding = tiktoken.Encoding(name, pat_str=_PATTERNS[name], mergeable_ranks=ranks, special_tokens=specials)
    encoding._mergeable_ranks = {}  # the tokenizer has its own copy by now; this one is 25 MB
    del ranks
    _return_freed_memory()
    return RankFile(encoding, _PATTERNS[name], lengths)


def _return_freed_memory() -> None:
    """glibc keeps 4 MB of what loading took and freed; elsewhere there is nothing to do."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def load_encoding(name: str, folder: Traversable | None = None) -> tiktoken.Encoding:
    """The encoding alone; see `load_rank_file`."""
    return load_rank_file(name, folder).encoding


def unpack(packed: bytes) -> tuple[list[bytes], bytes]:
    """Tokens in rank order, and their lengths."""
    start = HEAD_BYTES + int.from_bytes(packed[:HEAD_BYTES], "little")
    lengths = packed[HEAD_BYTES:start]
    return [packed[begin:end] for begin, end in pairwise(accumulate(lengths, initial=start))], lengths
