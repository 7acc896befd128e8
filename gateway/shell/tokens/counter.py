"""Counting texts: tiktoken on the event loop for a few kB, in threads for more, word counts where tiktoken cannot.

tiktoken is linear on text and worse on long runs without a word boundary, and panics (with a BaseException from Rust)
on a million spaces. So every text is cut into bounded pieces first: at a word boundary, where tokens never cross, or
by force inside a run that has none, which costs at most a few tokens a cut.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import tiktoken

from gateway.core.tokens.profiles import WORDS, Profile
from gateway.shell.tokens.rank_files import load_encoding

_log = logging.getLogger("gateway.tokens")
INLINE_CHARS = 4_096
"""Texts up to this many characters together are counted on the event loop: about 0.3 ms."""
_PIECE_CHARS = 16_384
_RUN_CHARS = 512
"""A run without any word boundary is cut to this: tiktoken's cost grows with the square of a run's length."""
_word_boundary = re.compile(r"(?<=[^\W_])(?= [^\W_])")
_long_run = re.compile(rf"(?<!\S)\S{{{_RUN_CHARS + 1},}}|(?<!\s)\s{{{_RUN_CHARS + 1},}}")
"""Looked for only where a run begins: elsewhere the search would take the square of a run's length."""


class TiktokenCounter:
    """`ports.TextCounter`.

    Args:
        tokens_per_word: of the fallback `words`, for models that no tokenizer is known for.
    """

    def __init__(self, tokens_per_word: float) -> None:
        self._tokens_per_word = tokens_per_word
        self._encodings: dict[str, tiktoken.Encoding | None] = {WORDS: None}
        self._threads = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1), thread_name_prefix="count")
        self.fallbacks = 0

    def load(self, name: str) -> None:
        """Load an encoding now, in the calling thread; one that cannot be loaded is replaced by word counts, loudly."""
        if name in self._encodings:
            return
        try:
            self._encodings[name] = load_encoding(name)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, counting goes on, and the log says what
            _log.exception("cannot load an encoding; counting words instead", extra={"encoding": name})
            self._encodings[name] = None

    async def count(self, profile: Profile, texts: Sequence[str]) -> list[int]:
        is_small = sum(map(len, texts)) <= INLINE_CHARS and profile.encoding in self._encodings
        if is_small:
            return [self.count_here(profile, text) for text in texts]
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._count_all, profile, texts)

    def count_here(self, profile: Profile, text: str) -> int:
        encoding = self._encoding(profile.encoding)
        if encoding is None:
            return self._count_words(text)
        try:
            if len(text) <= _RUN_CHARS:
                return len(encoding.encode_ordinary(text))
            return sum(len(encoding.encode_ordinary(piece)) for piece in cut_pieces(text))
        except BaseException as error:  # a Rust panic is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit | asyncio.CancelledError):
                raise
            _log.warning("tokenizer failed; counting words instead", exc_info=error)
            return self._count_words(text)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _count_all(self, profile: Profile, texts: Sequence[str]) -> list[int]:
        return [self.count_here(profile, text) for text in texts]

    def _encoding(self, name: str) -> tiktoken.Encoding | None:
        self.load(name)
        return self._encodings.get(name)

    def _count_words(self, text: str) -> int:
        """Words times a rate, and never less than a fourth of the bytes: scripts without spaces have few words."""
        self.fallbacks += 1
        words = len(text.split())
        return max(math.ceil(words * self._tokens_per_word), math.ceil(len(text.encode("utf-8", "replace")) / 4))


def cut_pieces(text: str) -> Iterator[str]:
    """A text in pieces of bounded length, cut at word boundaries where there are any.

    Runs of more than `_RUN_CHARS` without white space (base64, a language without spaces, one letter repeated), or
    of white space alone, are cut by force.
    """
    at = 0
    while at < len(text):
        end = min(at + _PIECE_CHARS, len(text))
        if end < len(text):
            found = _last_boundary(text, at + _PIECE_CHARS // 2, end)
            end = found or end
        yield from _cut_runs(text[at:end])
        at = end


def _last_boundary(text: str, start: int, end: int) -> int | None:
    for window in (256, end - start):
        places = [found.start() for found in _word_boundary.finditer(text, max(start, end - window), end)]
        if places:
            return places[-1]
    return None


def _cut_runs(piece: str) -> Iterator[str]:
    at = 0
    for run in _long_run.finditer(piece):
        if run.start() > at:
            yield piece[at : run.start()]
        for start in range(run.start(), run.end(), _RUN_CHARS):
            yield piece[start : min(start + _RUN_CHARS, run.end())]
        at = run.end()
    if at < len(piece):
        yield piece[at:]
