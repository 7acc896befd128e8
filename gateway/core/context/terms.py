"""What a text is about, as terms that can be looked up: words in any script, numbers, paths and identifiers.

Words lose their endings, accents and case; function words are left out. Chinese, Japanese and other scripts without
spaces come as pairs of characters. A path, a number or an identifier is a term as a whole, and so is each of its
parts (`max_total`, `maxTotal`, `src/budget.py`). Terms are 32-bit checksums, so that a message's fit in few bytes and
are the same in every process; two words with one checksum only make a search a little worse.

Invariants, each with a test of its own:
  1. Any text gives terms; the same text gives the same ones, in any process.
  2. Case, accents and width of letters make no difference.
  3. Every number, path and identifier of up to `MAX_WORD_CHARS` is found by itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

from gateway.core.context.terms_words import ARABIC_HEADS, ARABIC_TAILS, ENDINGS, STOP_WORDS

MAX_WORD_CHARS = 160
"""Longer runs are blobs: base64 and the like; their first characters name them."""
_MAX_PARTS = 12
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uff66-\uff9f"
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese, Korean."""
_find_words = re.compile(
    rf"[{_SPACELESS}]+|[^\W{_SPACELESS}]+(?:(?:[-./:@#'’\\]+|,(?=\d))[^\W{_SPACELESS}]+)*", re.UNICODE
).findall
_split_parts = re.compile(r"[^\W_]+", re.UNICODE).findall
_split_camel = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\x00-\x7f]+").findall
_is_spaceless = re.compile(rf"[{_SPACELESS}]").match
_is_code = re.compile(r"[_./:@#\\\d]|[a-z][A-Z]|[A-Z]{2}[a-z]").search
_MIN_STEM_CHARS = 3


def terms_of(text: str) -> list[int]:
    """The terms of a text, in order and with repeats."""
    found: list[int] = []
    for word in _find_words(text):
        found += _terms_of_word(word[:MAX_WORD_CHARS])
    return found


class NamedTerms(NamedTuple):
    """The different terms of a text, in order of first use.

    Attributes:
        words: the word that each comes from, to name it to people.
        hard: those that stand for whole numbers, paths and identifiers: what matches exactly or not at all.
    """

    words: dict[int, str]
    hard: frozenset[int]


def name_terms(text: str) -> NamedTerms:
    """The terms of a text that asks for something."""
    words: dict[int, str] = {}
    hard: list[int] = []
    for word in dict.fromkeys(_find_words(text)):
        short = word[:MAX_WORD_CHARS]
        for term in _terms_of_word(short):
            words.setdefault(term, word)
        if not (short.islower() and short.isalpha()):  # as no path, number or identifier is
            hard += _hard_terms_of_word(short)
    return NamedTerms(words, frozenset(hard))


@lru_cache(maxsize=65_536)
def _terms_of_word(word: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(map(_number_of, _names_of(word))))


@lru_cache(maxsize=4_096)
def _hard_terms_of_word(word: str) -> tuple[int, ...]:
    return (_number_of(_folded(word)),) if _is_code(word) else ()


def _number_of(name: str) -> int:
    return crc32(name.encode("utf-8", "surrogatepass"))


def _names_of(word: str) -> Iterator[str]:
    if _is_spaceless(word):
        yield from [word[at : at + 2] for at in range(len(word) - 1)] or [word]
        return
    folded = _folded(word)
    if folded.isalpha() and not _is_code(word):
        yield from _plain(folded)
        return
    if _is_code(word):
        yield folded
    parts = _split_parts(word.replace(",", ""))[:_MAX_PARTS]
    for part in parts:
        pieces = _split_camel(part) if not part.islower() else [part]
        for piece in pieces if len(pieces) <= _MAX_PARTS else ():
            yield from _plain(_folded(piece))
        if len(pieces) > 1:
            yield _folded(part)


def _plain(word: str) -> Iterator[str]:
    """A word without its ending, or nothing."""
    if word not in STOP_WORDS:
        yield _stem(word)


def _folded(word: str) -> str:
    """One form for all spellings: case, accents, width, and digits grouped by commas."""
    if word.isascii():
        return word.lower().replace(",", "")
    spread = unicodedata.normalize("NFKD", word.lower().replace("ß", "ss"))
    return "".join(letter for letter in spread if not unicodedata.combining(letter)).replace("’", "'").replace(",", "")


def _stem(word: str) -> str:
    if not word.isascii():
        return _arabic_stem(word) if "\u0600" <= word[0] <= "\u06ff" else word
    if len(word) <= _MIN_STEM_CHARS or not word.isalpha():
        return word
    for ending, instead in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _MIN_STEM_CHARS:
            if ending != "s" or not word.endswith(("ss", "us", "is")):
                word = word[: len(word) - len(ending)] + instead
            break
    if len(word) > _MIN_STEM_CHARS and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word[:-1] if len(word) > _MIN_STEM_CHARS and word[-1] in "eo" else word


def _arabic_stem(word: str) -> str:
    for head in ARABIC_HEADS:
        if word.startswith(head) and len(word) - len(head) >= _MIN_STEM_CHARS:
            word = word[len(head) :]
            break
    for tail in ARABIC_TAILS:
        if word.endswith(tail) and len(word) - len(tail) >= _MIN_STEM_CHARS:
            return word[: -len(tail)]
    return word
