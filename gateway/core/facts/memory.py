"""What is remembered: facts and texts, each in one scope, and how it is told apart from others.

Two scopes never share anything: a scope is a client's own memory of one name. Within a scope a fact is known by what it
says, in one form for all spellings; the same fact from two places is one fact with two anchors.

Invariants, each with a test of its own:
  1. Facts that differ in anything but case, width and white space have different keys; those that do not, the same.
  2. The hash of a fact changes with every part that it stands for, and with nothing else.
"""

from __future__ import annotations

import enum
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class Kind(enum.Enum):
    """What a memory is."""

    FACT = "fact"
    CONTEXT = "context"


class Level(enum.Enum):
    """For how long a text is kept."""

    IMMEDIATE = "immediate"
    SHORT_TERM = "short_term"
    LONG_TERM = "long_term"


class Scope(msgspec.Struct, frozen=True):
    """Within what memories are shared: a client, by its 32 bytes, and the name of one of its memories."""

    owner: bytes
    name: str


class Anchor(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where in a document something stands."""

    doc_id: str | None = None
    page: int | None = None
    region_id: str | None = None
    vt_ref: str | None = None
    path_line: str | None = None


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where in a conversation something was said.

    Attributes:
        turn: digest of the message, in hex.
        start: of the characters of its text, secrets masked.
        end: of them.
        role: of the message.
        heading: what it stood under, such as the date of its session; "" for nothing.
    """

    turn: str
    start: int
    end: int
    role: str = ""
    heading: str = ""


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place that a memory comes from.

    Attributes:
        hash: of a fact and this anchor, in hex (`fact_hash`); of a text, of the text alone.
        source_doc: names the document, or None.
        anchor: where in it.
        origin: where in a conversation, of what was mined there.
    """

    hash: str
    source_doc: str | None = None
    anchor: Anchor = Anchor()
    origin: Origin | None = None


class Memory(msgspec.Struct, frozen=True):
    """A fact or a text, as stored. Times are microseconds since 1970, UTC.

    Attributes:
        id: 32 hexadecimal digits.
        kind: of it.
        subject: of a fact; "" of a text.
        predicate: of a fact; "" of a text.
        object: of a fact; of a text all of it.
        key: names what it says within its scope (`fact_key`, `text_key`); no two memories of a scope share one.
        topic: names what it speaks of (`topic_key`), where one statement takes the place of another; else b"".
        sources: where it comes from, at least one.
        datatype: of the object, or None.
        confidence: 0 to 1.
        observed_us: when it held or was said.
        ended_us: when a later statement took its place, or None while it holds.
        expires_us: when it is forgotten, or None for never.
        level: of a text.
        metadata: of a text, a JSON object.
        session: key of the session that it was mined from, or b"".
        terms: what it is found by: `terms.terms_of` its text, repeats included.
    """

    id: str
    kind: Kind
    subject: str
    predicate: str
    object: str
    key: bytes
    observed_us: int
    sources: Sequence[Source]
    topic: bytes = b""
    datatype: str | None = None
    confidence: float = 1.0
    ended_us: int | None = None
    expires_us: int | None = None
    level: Level | None = None
    metadata: Mapping[str, Any] | None = None
    session: bytes = b""
    terms: Sequence[int] = ()

    @property
    def text(self) -> str:
        """All that it says, on one line for a fact."""
        return f"{self.subject} {self.predicate} {self.object}" if self.kind is Kind.FACT else self.object


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended: the next begins behind it, in the order (`observed_us`, `id`)."""

    observed_us: int
    id: str


class Wanted(msgspec.Struct, frozen=True):
    """Which memories of a scope; None is any.

    Attributes:
        kind: of them.
        subject: in the form of `plain`, as are the next two.
        predicate: of them.
        object: of them.
        source_doc: as given, of any of its sources.
        min_confidence: at least.
        terms: all of which they hold.
        level: of texts.
        with_ended: also what a later statement took the place of.
    """

    kind: Kind | None = None
    subject: str | None = None
    predicate: str | None = None
    object: str | None = None
    source_doc: str | None = None
    min_confidence: float = 0.0
    terms: Sequence[int] = ()
    level: Level | None = None
    with_ended: bool = False


class Page(msgspec.Struct, frozen=True):
    """Memories in the order (`observed_us`, `id`), how many there are in all, and where to go on; None at the end."""

    memories: Sequence[Memory]
    total: int
    next: Position | None = None


class Sought(msgspec.Struct, frozen=True):
    """What is looked for by what it says.

    Attributes:
        terms: of the question, each once, what matters most first.
        exact: those among them that stand for whole numbers, paths and identifiers.
        vector: of the question, as the memories' are, or b"" for none.
        model: that made the vectors.
        kind: of the memories, or None for any.
        level: of texts, or None for any.
        min_confidence: of facts.
        is_rough: whoever asks puts what is found in order: it need not be weighed by all its words.
    """

    terms: Sequence[int]
    exact: frozenset[int] = frozenset()
    vector: bytes = b""
    model: str = ""
    kind: Kind | None = None
    level: Level | None = None
    min_confidence: float = 0.0
    is_rough: bool = False


class Found(msgspec.Struct, frozen=True):
    """A memory that was found, with its place (0 is best) by its words and by its vector; None where not by these.

    `similarity` is the cosine of its vector and the question's, where both have one.
    """

    memory: Memory
    lexical_rank: int | None = None
    vector_rank: int | None = None
    similarity: float | None = None


class Stored(msgspec.Struct, frozen=True):
    """What became of a memory that was to be stored: under which id it is now, and whether it was there before."""

    id: str
    is_duplicate: bool


class Vector(msgspec.Struct, frozen=True):
    """What a model made of the text of a memory, or of a region: float16, little-endian, of length 1."""

    id: str
    model: str
    data: bytes


def plain(text: str) -> str:
    """One form for all spellings of a text: case, width, and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def fact_key(subject: str, predicate: str, object_: str) -> bytes:
    """What a fact is known by within its scope."""
    return _digest("fact", plain(subject), plain(predicate), plain(object_))


def topic_key(subject: str, predicate: str) -> bytes:
    """What a fact speaks of."""
    return _digest("topic", plain(subject), plain(predicate))


def text_key(text: str) -> bytes:
    """What a text is known by within its scope."""
    return _digest("text", text)


def fact_hash(subject: str, predicate: str, object_: str, anchor: Anchor) -> str:
    """SHA-256, in hex, of a fact as it is spelt and where it stands: each part with its length before it."""
    page = "" if anchor.page is None else str(anchor.page)
    parts = (subject, predicate, object_, anchor.doc_id or "", page, anchor.region_id or "")
    return _digest(*parts).hex()


def _digest(*parts: str) -> bytes:
    joined = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        joined.update(len(data).to_bytes(8) + data)
    return joined.digest()
