"""A memory as a row of a database, and the numbers that it is looked up by: the same in every store.

What a memory is asked by (its terms; its subject, predicate and object in their plain form; the documents of its
sources) are its *words*: 64-bit numbers, kept in one list a word, scope and class (`bucket_of`). Terms are numbers of
32 bits, all others are digests below zero, so no text of a caller ever stands in a query. A memory's class is its kind
and level, and whether it has ended: a search for what holds never passes by what has ended.

Invariants, each with a test of its own:
  1. What is encoded comes back the same, whatever its texts.
  2. A text that no database could hold is refused with `ValueError`, before anything is stored.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from gateway.core.facts.memory import Kind, Level, Memory, Page, Position, Scope, Source, Vector, Wanted, plain

MAX_SOURCES = 64
"""A memory keeps so many sources, the newest."""
MAX_INDEXED_TERMS = 4096
"""A text is found by so many of its different terms, the first."""
ENDED = 8
"""Added to the class of what has ended."""
COLUMNS = (
    "m.seq, m.id, m.class, m.key, m.topic, m.session, m.observed_us, m.seen_us, m.ended_us, m.expires_us,"
    " m.confidence, m.body, m.terms"
)
"""What is read of a memory `m`, for `row_from`."""
_CLASSES: dict[tuple[Kind, Level | None], int] = {
    (Kind.FACT, None): 0,
    (Kind.CONTEXT, Level.IMMEDIATE): 1,
    (Kind.CONTEXT, Level.SHORT_TERM): 2,
    (Kind.CONTEXT, Level.LONG_TERM): 3,
    (Kind.CONTEXT, None): 4,
}
_BY_CLASS = {number: both for both, number in _CLASSES.items()}
_HEX_DIGITS = frozenset("0123456789abcdef")
_INT64 = range(-(2**63), 2**63)


@dataclass(slots=True, eq=False)
class Row:
    """A memory in a store.

    Attributes:
        seq: its number there, in the order of storing; 0 before it is stored.
        memory: as it is.
        seen_us: when it was last said; `memory.observed_us` is when it was first.
    """

    seq: int
    memory: Memory
    seen_us: int


class Body(msgspec.Struct, frozen=True, array_like=True):
    """What of a memory is kept but never asked for."""

    subject: str
    predicate: str
    object: str
    sources: Sequence[Source]
    datatype: str | None = None
    metadata: dict[str, Any] | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Body).decode


def class_of(memory: Memory) -> int:
    """The number of its kind and level, and of whether it holds."""
    level = memory.level if memory.kind is Kind.CONTEXT else None
    return _CLASSES[memory.kind, level] + (ENDED if memory.ended_us is not None else 0)


def classes_of(kind: Kind | None, level: Level | None = None, *, with_ended: bool = False) -> list[int]:
    """The classes of these; None is any. A level is of texts alone."""
    found = [
        number
        for (each, its_level), number in _CLASSES.items()
        if kind in (None, each) and (level is None or level is its_level)
    ]
    return found + [number + ENDED for number in found] if with_ended else found


def bucket_of(scope_id: int, class_: int) -> int:
    """Where the words of a scope's memories of one class are listed."""
    return scope_id * 16 + class_


def terms_bytes(terms: Sequence[int]) -> bytes:
    """As they are stored: 4 bytes each, little-endian."""
    packed = array.array("I", terms)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def terms_from(data: bytes) -> array.array[int]:
    """As they were."""
    packed = array.array("I")
    packed.frombytes(data)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed


def body_bytes(memory: Memory) -> bytes:
    """What is kept of a memory beside its columns, as JSON in UTF-8."""
    metadata = None if memory.metadata is None else dict(memory.metadata)
    body = Body(memory.subject, memory.predicate, memory.object, memory.sources, memory.datatype, metadata)
    return _encode(body)


def row_from(columns: Sequence[Any]) -> Row:
    """The row of these `COLUMNS`."""
    seq, id_, class_, key, topic, session, observed_us, seen_us, ended_us, expires_us, confidence, body, terms = columns
    kind, level = _BY_CLASS[class_ % ENDED]
    told = _decode(body)
    memory = Memory(
        id=id_.hex(),
        kind=kind,
        subject=told.subject,
        predicate=told.predicate,
        object=told.object,
        key=key,
        observed_us=observed_us,
        sources=told.sources,
        topic=topic or b"",
        datatype=told.datatype,
        confidence=confidence,
        ended_us=ended_us,
        expires_us=expires_us,
        level=level,
        metadata=told.metadata,
        session=session or b"",
        terms=terms_from(terms).tolist(),
    )
    return Row(seq, memory, seen_us)


def page_of(memories: Sequence[Memory], total: int, limit: int) -> Page:
    """A page of what was read: one more than asked for, if there are so many."""
    shown = memories[:limit]
    has_more = len(memories) > limit and bool(shown)
    return Page(shown, total, Position(shown[-1].observed_us, shown[-1].id) if has_more else None)


def words_of(memory: Memory) -> frozenset[int]:
    """All that it is looked up by."""
    terms = list(dict.fromkeys(memory.terms))[:MAX_INDEXED_TERMS]
    named: list[int] = []
    if memory.kind is Kind.FACT:
        named = [
            _named("subject", plain(memory.subject)),
            _named("predicate", plain(memory.predicate)),
            _named("object", plain(memory.object)),
        ]
    documents = [_named("document", source.source_doc) for source in memory.sources if source.source_doc is not None]
    return frozenset(terms + named + documents)


def wanted_words(wanted: Wanted) -> list[int]:
    """What all those that are wanted are looked up by; each once."""
    fields = {
        "subject": wanted.subject,
        "predicate": wanted.predicate,
        "object": wanted.object,
        "document": wanted.source_doc,
    }
    named = [_named(name, value) for name, value in fields.items() if value is not None]
    return list(dict.fromkeys([*named, *wanted.terms]))


def _named(name: str, value: str) -> int:
    digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8, person=name.encode()).digest()
    return -1 - (int.from_bytes(digest) >> 1)


def id_bytes(id_: str) -> bytes | None:
    """An id as it is stored, or None for what can be no id."""
    return bytes.fromhex(id_) if len(id_) == 32 and _HEX_DIGITS.issuperset(id_) else None


def ids_bytes(ids: Iterable[str]) -> list[bytes]:
    """Those that can be ids, each once, in order."""
    return sorted({data for data in map(id_bytes, ids) if data is not None})


def scope_name(name: str) -> bytes:
    """A scope's name as it is stored.

    Raises:
        ValueError: it has no form in UTF-8.
    """
    return _utf8(name, "the name of a scope")


def checked(scope: Scope, memories: Sequence[Memory]) -> None:
    """Refuse what cannot be stored.

    Raises:
        ValueError: an id is not 32 lowercase hexadecimal digits, a text has no form in UTF-8 (a lone surrogate), a
            number does not fit, or metadata is no JSON.
    """
    scope_name(scope.name)
    for memory in memories:
        if id_bytes(memory.id) is None:
            raise ValueError(f"a memory's id has to be 32 lowercase hexadecimal digits, this is {memory.id!r}")
        numbers = (memory.observed_us, memory.ended_us or 0, memory.expires_us or 0)
        if not all(number in _INT64 for number in numbers):
            raise ValueError("a memory's times have to be numbers of 64 bits")
        if memory.terms and not 0 <= min(memory.terms) <= max(memory.terms) < 2**32:
            raise ValueError("a memory's terms have to be numbers of 32 bits")
        if not 0 <= memory.confidence <= 1:
            raise ValueError(f"a memory's confidence has to be between 0 and 1, this is {memory.confidence}")
        try:
            body_bytes(memory)
        except (UnicodeEncodeError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"a memory cannot be stored: {error}") from None


def checked_vectors(vectors: Sequence[Vector]) -> None:
    """Refuse what can be no vector.

    Raises:
        ValueError: its data are no float16, or the model's name has no form in UTF-8.
    """
    for vector in vectors:
        if not vector.data or len(vector.data) % 2:
            raise ValueError(
                f"a vector has to be float16, two bytes a dimension; this one has {len(vector.data)} bytes"
            )
        _utf8(vector.model, "the name of a model")


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} cannot be stored: it holds a lone surrogate") from None
