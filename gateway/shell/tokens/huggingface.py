"""Tokenizers of other vendors, from a Hugging Face `tokenizer.json`; needs the optional extra `tokenizers`.

Nothing is downloaded: the configuration names a file. Special tokens are not added (a chat template's own are part
of the overheads), truncation and padding are off. `encode_batch_fast` is used because it releases Python's lock;
`encode` holds it.

What a cut costs depends on the tokenizer, so each is asked once, on a probe, whether the space at a cut belongs to the
right part (byte-level BPE), or to none (tokenizers that put a space before every text, and those that drop spaces).
Where neither adds up, a text above `PIECE_CHARS` may be off by a token or two a piece.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.core.tokens.profiles import FILE_PREFIX
from gateway.shell.tokens.pieces import PIECE_CHARS
from gateway.shell.tokens.tokenizer import WordTokenizer, fall_back, pair_surrogates

_PROBES = (
    ("The quick brown fox", "jumps over the lazy dog."),
    ("for item in list:", "print(item, 12)"),
    ("ä, 漢字", "né"),
)


class HuggingFaceTokenizer:
    """One tokenizer.json.

    Args:
        path: of the file.
        words: what stands in where it fails.

    Raises:
        ValueError: the package is not installed, or the file is missing or no tokenizer; the message says which.
    """

    def __init__(self, path: str, words: WordTokenizer) -> None:
        self._encode = _load(path).encode_batch_fast
        self._words = words
        self._is_space_dropped = not self._adds_up(" ") and self._adds_up("")

    def count(self, text: str) -> int:
        try:
            return self._count(text)
        except TypeError:  # a half surrogate pair
            return self._count_repaired(text)
        except BaseException as error:  # noqa: BLE001 - a Rust panic is no Exception
            return fall_back(error, self._words, text)

    def steps(self, text: str) -> Iterator[int]:
        at = 0
        while at < len(text):
            end = min(at + PIECE_CHARS, len(text))
            space = text.rfind(" ", at + 1, end) if end < len(text) else -1
            if space > at:
                end = space
            yield self.count(text[at:end])
            at = end + (self._is_space_dropped and space > 0)

    def _count(self, text: str) -> int:
        return len(self._encode([text], add_special_tokens=False)[0])

    def _count_repaired(self, text: str) -> int:
        try:
            return self._count(pair_surrogates(text))
        except BaseException as error:  # noqa: BLE001 - as above
            return fall_back(error, self._words, text)

    def _adds_up(self, lead: str) -> bool:
        """Whether two parts cost what the whole does, if the right one begins so."""
        return all(
            self._count(f"{left} {right}") == self._count(left) + self._count(lead + right) for left, right in _PROBES
        )


def _load(path: str) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # threads are ours to start
    try:
        package = importlib.import_module("tokenizers")
    except ImportError:
        raise ValueError(
            f"{FILE_PREFIX}{path} needs the package `tokenizers`; install llm-gateway[tokenizers]"
        ) from None
    if not Path(path).is_file():
        raise ValueError(f"{FILE_PREFIX}{path}: there is no such file")
    try:
        tokenizer = package.Tokenizer.from_file(path)
    except Exception as error:  # noqa: BLE001 - the package raises plain Exception
        raise ValueError(f"{FILE_PREFIX}{path} is no tokenizer.json that `tokenizers` can read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
