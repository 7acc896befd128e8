"""Tokenizers: what a text costs, in steps that are each bounded, whatever the text.

`RankTokenizer` counts as tiktoken's `encode_ordinary` does, token for token, but never hands it more than a piece: it
panics (with a BaseException from Rust) on a million spaces, takes half a second for a megabyte of one letter, and
cannot be stopped. `WordTokenizer` is for models that no tokenizer is known for, and stands in where one fails.

Invariants, each with a test of its own:
  1. The steps of a text add up to what tiktoken says of the whole text, also where it is one long run.
  2. No text raises; what a tokenizer cannot take is counted in words, piece by piece, and told.
  3. A step takes no more than a few ms, and holds Python's lock for less than one.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import math
import re
from collections.abc import Callable, Generator, Iterator
from functools import cached_property
from typing import Any, Protocol

from gateway.shell.tokens.long_runs import count_run
from gateway.shell.tokens.pieces import PIECE_CHARS, find_cut
from gateway.shell.tokens.rank_files import RankFile

_log = logging.getLogger("gateway.tokens")
_SHORT_CHARS = 300
"""Up to here a list of the tokens costs less than a buffer."""
_RANK_BYTES = 4
_NO_SPECIALS: frozenset[str] = frozenset()
_PASSED_ON = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)


class Figures:
    """What went otherwise than planned, for metrics.

    Attributes:
        fallbacks: texts, or pieces of long ones, that were counted in words.
        inexact_cuts: places inside of long runs that may have cost a token too many or too few.
    """

    __slots__ = ("fallbacks", "inexact_cuts")

    def __init__(self) -> None:
        self.fallbacks = 0
        self.inexact_cuts = 0


class Tokenizer(Protocol):
    """One way of counting."""

    def count(self, text: str) -> int:
        """Tokens of a text of at most `PIECE_CHARS`."""

    def steps(self, text: str) -> Iterator[int]:
        """Tokens of any text, in parts; each step is bounded."""


class WordTokenizer:
    """Words times a rate, and never less than a fourth of the bytes: scripts without spaces have few words.

    Args:
        tokens_per_word: the rate.
        figures: where each text is noted as a fallback.
    """

    def __init__(self, tokens_per_word: float, figures: Figures) -> None:
        self._tokens_per_word = tokens_per_word
        self._figures = figures

    def count(self, text: str) -> int:
        return sum(self.steps(text))

    def steps(self, text: str) -> Iterator[int]:
        self._figures.fallbacks += 1
        words = size_bytes = 0
        is_inside = False
        for start in range(0, len(text), PIECE_CHARS):
            piece = text[start : start + PIECE_CHARS]
            words += len(piece.split()) - (is_inside and not piece[0].isspace())
            size_bytes += len(piece) if piece.isascii() else len(piece.encode("utf-8", "replace"))
            is_inside = not piece[-1].isspace()
            yield 0
        yield max(math.ceil(words * self._tokens_per_word), math.ceil(size_bytes / 4))


class RankTokenizer:
    """tiktoken, piece by piece.

    Args:
        ranks: a loaded encoding.
        words: what stands in for it.
        figures: where what went wrong is noted.
    """

    def __init__(self, ranks: RankFile, words: WordTokenizer, figures: Figures) -> None:
        self._core: Any = ranks.encoding._core_bpe
        self._lengths = ranks.lengths
        self._pattern = ranks.pattern
        self._words = words
        self._figures = figures

    def count(self, text: str) -> int:
        try:
            if len(text) <= _SHORT_CHARS:
                return len(self._core.encode_ordinary(text))
            # A buffer instead of a list: Python's lock is not held to make an object of each token.
            size_bytes: int = memoryview(self._core.encode_to_tiktoken_buffer(text, _NO_SPECIALS)).nbytes
            return size_bytes // _RANK_BYTES  # the view's own length is wrong in some versions
        except UnicodeEncodeError:
            return self.count(pair_surrogates(text))
        except BaseException as error:  # noqa: BLE001 - a Rust panic is no Exception
            return fall_back(error, self._words, text)

    def steps(self, text: str) -> Iterator[int]:
        at = 0
        while at < len(text):
            end = find_cut(text, at)
            if end is None:
                at = yield from self._beyond_cuts(text, at)
            else:
                yield self.count(text[at:end])
                at = end

    @cached_property
    def _split(self) -> Callable[..., Iterator[re.Match[str]]]:
        """The split pattern's matches; `regex` (which tiktoken depends on) is imported only where a text needs it."""
        find: Callable[..., Iterator[re.Match[str]]] = importlib.import_module("regex").compile(self._pattern).finditer
        return find

    def _beyond_cuts(self, text: str, start: int) -> Generator[int, None, int]:
        """Count on from `start`, where no cut is near; returns up to where.

        The split pattern is applied here. Its pieces are counted together, since tiktoken splits them alike, up to one
        that does not end in white space (how that is split depends on what follows); long ones are counted alone.
        """
        end = start
        for found in self._split(text, start, concurrent=True):
            end = found.end()
            if end - start < PIECE_CHARS // 2:
                continue
            begin = found.start()
            if end - begin > PIECE_CHARS:
                yield self._count_split(text, start, begin)
                yield from self._count_whole(text[begin:end])
                return end
            if not text[end - 1].isspace():
                break
        yield self.count(text[start:end])
        return end

    def _count_split(self, text: str, start: int, end: int) -> int:
        """Tokens up to `end`, where the split pattern splits the text; white space may stand before it."""
        if start == end or not text[end - 1].isspace():
            return self.count(text[start:end])
        tokens = 0
        for found in self._split(text, start):
            if found.start() == end:
                break
            tokens += sum(self._count_whole(found.group()))
        return tokens

    def _count_whole(self, piece: str) -> Iterator[int]:
        """Tokens of what the split pattern leaves whole."""
        told = 0
        try:
            run = count_run(self._core.encode_single_piece, self._lengths, render_utf8(piece))
            while True:
                tokens = next(run)
                told += tokens
                yield tokens
        except StopIteration as done:
            self._figures.inexact_cuts += done.value
        except BaseException as error:  # noqa: BLE001 - as above
            yield fall_back(error, self._words, piece) - told


def fall_back(error: BaseException, words: WordTokenizer, text: str) -> int:
    """Count in words what a tokenizer could not; what is no fault of the tokenizer's is raised again."""
    if isinstance(error, _PASSED_ON):
        raise error
    _log.warning("tokenizer failed; counting words instead", exc_info=error)
    return words.count(text)


def pair_surrogates(text: str) -> str:
    """The text with surrogate pairs joined and half ones replaced, as tiktoken's own `encode_ordinary` does."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def render_utf8(text: str) -> bytes:
    """The text's bytes as tiktoken sees them."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return pair_surrogates(text).encode()
