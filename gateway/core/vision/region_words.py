"""By what words a region is found, and how much each of them says of it.

Pure. A region is found by its text, by its caption, and by the name and the metadata of its document; what is said in
the text counts most. How much a word says of a region is BM25's term for it, with the length measured against a fixed
one: it depends on nothing but the region and its document, so it is worked out once, when the region is kept, and it
means the same in every search. Metadata are also `labels`: numbers that stand for "this key has this value".

Invariants, each with a test of its own:
  1. An impact is between 1 and `FULL`, and grows with how often a word is said, and the less else there is.
  2. A word of the text weighs more than one of the caption alone, and that more than one of the document alone.
  3. Two values have one label exactly if JSON says that they are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from gateway.core.context.terms import terms_of
from gateway.core.vision.document import LaidRegion

FULL = 255
"""The impact of a word that a region says without end."""
MAX_REGION_TERMS = 4096
"""A region is found by so many of its different words, the first."""
MAX_DOCUMENT_TERMS = 256
"""Its regions are found by so many of a document's."""
_CAPTION_WEIGHT = 0.6
_DOCUMENT_WEIGHT = 0.25
"""What a word of a caption, or of the document's name or metadata, counts for beside one of the text."""
_K1, _B, _USUAL_TERMS = 0.6, 0.5, 60
"""A region says a thing once more often than twice: what is said again counts for less than in BM25 as it is known."""
_LABEL_PERSON = b"label"


def document_terms(source: str, metadata: Mapping[str, Any]) -> list[int]:
    """What all regions of a document are found by: the name of its source, and its metadata's values."""
    path = urlsplit(source).path if "://" in source else source
    texts = [unquote(path.rstrip("/").rsplit("/", 1)[-1]), *_texts_in(metadata)]
    return list(dict.fromkeys(term for text in texts for term in terms_of(text)))[:MAX_DOCUMENT_TERMS]


def _texts_in(value: Any) -> list[str]:
    """The texts and numbers within a JSON value, its keys aside."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for each in value.values() for text in _texts_in(each)]
    if isinstance(value, Sequence):
        return [text for each in value for text in _texts_in(each)]
    return [] if value is None or isinstance(value, bool) else [str(value)]


def impacts_of(region: LaidRegion, of_document: Sequence[int]) -> dict[int, int]:
    """What each word says of a region, 1 to `FULL`.

    Args:
        region: it.
        of_document: terms that all regions of its document are found by (`document_terms`).
    """
    said, captioned = Counter(terms_of(region.text)), Counter(terms_of(region.caption))
    length = said.total() + captioned.total()
    damping = _K1 * (1 - _B + _B * length / _USUAL_TERMS)
    weighted: dict[int, float] = dict(said)
    for term, times in captioned.items():
        weighted[term] = weighted.get(term, 0.0) + _CAPTION_WEIGHT * times
    if len(weighted) > MAX_REGION_TERMS:
        weighted = dict(list(weighted.items())[:MAX_REGION_TERMS])
    for term in of_document:
        weighted[term] = weighted.get(term, 0.0) + _DOCUMENT_WEIGHT
    return {term: max(1, round(FULL * times / (times + damping))) for term, times in weighted.items()}


def labels_of(metadata: Mapping[str, Any]) -> list[int]:
    """Numbers below zero that stand for each key with its value.

    Raises:
        TypeError: a value is no JSON.
    """
    return [label_of(key, value) for key, value in metadata.items()]


def label_of(key: str, value: Any) -> int:
    """The number that stands for this key with this value; -1 is never one.

    Raises:
        TypeError: the value is no JSON.
    """
    told = msgspec.json.encode([key, _plain(value)], order="deterministic")
    return -2 - (int.from_bytes(blake2b(told, digest_size=8, person=_LABEL_PERSON).digest()) >> 2)


def _plain(value: Any) -> Any:
    """One form for all spellings of a number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
