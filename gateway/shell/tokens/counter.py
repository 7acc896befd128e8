"""Counting texts: a few kB on the event loop, more in threads that take turns.

Which tokenizer counts is named by `Profile.encoding`: a packaged one, `words`, or `hf:` and the path of a Hugging Face
tokenizer.json. They load on first use, or before by `load`; one that cannot be loaded is replaced by word counts,
loudly. `encoding_fault` says so beforehand, for a check of the configuration.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Generator, Sequence
from itertools import chain

from gateway.core.tokens.profiles import FILE_PREFIX, WORDS, Profile
from gateway.shell.tokens.huggingface import HuggingFaceTokenizer
from gateway.shell.tokens.pieces import PIECE_CHARS
from gateway.shell.tokens.pool import FairPool, default_size
from gateway.shell.tokens.rank_files import load_rank_file
from gateway.shell.tokens.tokenizer import Figures, RankTokenizer, Tokenizer, WordTokenizer

_log = logging.getLogger("gateway.tokens")
INLINE_CHARS = 4_096
"""Texts up to this many characters together are counted on the event loop: .1 ms of English, half of a thread's."""
_WIDE_CHAR_COST = 3
"""A text that is not ASCII has more bytes, and more tokens, than characters."""
_PART_CHARS = 65_536
"""Below this a job is not worth spreading over several threads."""


class TiktokenCounter:
    """`ports.TextCounter`.

    Args:
        tokens_per_word: of the fallback `words`, for models that no tokenizer is known for.
    """

    def __init__(self, tokens_per_word: float) -> None:
        self._figures = Figures()
        self._words = WordTokenizer(tokens_per_word, self._figures)
        self._tokenizers: dict[str, Tokenizer] = {WORDS: self._words}
        self._loading = threading.Lock()
        self._pool = FairPool(default_size(), "count")

    @property
    def fallbacks(self) -> int:
        """Texts, or pieces of long ones, that were counted in words so far."""
        return self._figures.fallbacks

    @property
    def inexact_cuts(self) -> int:
        """Places inside of long runs so far that may have cost a token too many or too few."""
        return self._figures.inexact_cuts

    def load(self, name: str) -> None:
        """Load an encoding now, in the calling thread; one that cannot be loaded is replaced by word counts, loudly."""
        self._tokenizer(name)

    async def count(self, profile: Profile, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        cost = sum([len(text) if text.isascii() else len(text) * _WIDE_CHAR_COST for text in texts])
        tokenizer = self._tokenizers.get(profile.encoding)
        if cost <= INLINE_CHARS and tokenizer is not None:
            return [tokenizer.count(text) for text in texts]
        if cost < _PART_CHARS:
            return await self._pool.run(self._count_all(profile.encoding, texts))
        parts = _split(texts, self._pool.size)
        jobs = [self._pool.run(self._count_all(profile.encoding, part)) for part in parts]
        return list(chain.from_iterable(await asyncio.gather(*jobs)))

    def count_here(self, profile: Profile, text: str) -> int:
        """Tokens of one text, in the calling thread."""
        tokenizer = self._tokenizer(profile.encoding)
        return tokenizer.count(text) if len(text) <= PIECE_CHARS else sum(tokenizer.steps(text))

    def counts_lines_apart(self, profile: Profile) -> bool:
        """Whether a text costs what its lines do, cut behind line ends that neither white space nor a slash follows."""
        return isinstance(self._tokenizer(profile.encoding), RankTokenizer)

    def close(self) -> None:
        """Let the threads go."""
        self._pool.close()

    def _count_all(self, encoding: str, texts: Sequence[str]) -> Generator[None, None, list[int]]:
        tokenizer = self._tokenizer(encoding)
        counts = []
        chars = 0
        for text in texts:
            if len(text) <= PIECE_CHARS:
                chars += len(text)
                if chars > PIECE_CHARS:
                    chars = len(text)
                    yield
                counts.append(tokenizer.count(text))
                continue
            tokens = 0
            for part in tokenizer.steps(text):
                tokens += part
                yield
            counts.append(tokens)
        return counts

    def _tokenizer(self, name: str) -> Tokenizer:
        found = self._tokenizers.get(name)
        if found is not None:
            return found
        with self._loading:
            if name not in self._tokenizers:
                self._tokenizers[name] = self._load(name)
        return self._tokenizers[name]

    def _load(self, name: str) -> Tokenizer:
        try:
            return _open(name, self._words, self._figures)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, counting goes on, and the log says what
            _log.exception("cannot load an encoding; counting words instead", extra={"encoding": name})
            return self._words


def encoding_fault(name: str) -> str | None:
    """Why texts cannot be counted with this encoding, or None; it is loaded to find out."""
    figures = Figures()
    try:
        if name != WORDS:
            _open(name, WordTokenizer(1.0, figures), figures)
    except Exception as error:  # noqa: BLE001 - whatever it is, the message is for the operator
        return str(error)
    return None


def _open(name: str, words: WordTokenizer, figures: Figures) -> Tokenizer:
    if name.startswith(FILE_PREFIX):
        return HuggingFaceTokenizer(name.removeprefix(FILE_PREFIX), words)
    return RankTokenizer(load_rank_file(name), words, figures)


def _split(texts: Sequence[str], parts: int) -> list[Sequence[str]]:
    """Up to so many neighbouring groups of about the same size."""
    goal = sum(map(len, texts)) / parts
    groups: list[Sequence[str]] = []
    start = chars = 0
    for place, text in enumerate(texts, 1):
        chars += len(text)
        if chars >= goal * (len(groups) + 1) or place == len(texts):
            groups.append(texts[start:place])
            start = place
    return groups
