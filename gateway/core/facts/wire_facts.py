"""Facts on the wire: what a client states, what it asks for, and how a fact is told.

Pure: the moment and the id of what is stored are the caller's. Secrets are masked in what is stored and in what is
asked for, so that both meet.

Invariants, each with a test of its own:
  1. What is stored of a statement is within the bounds below, and its hash is that of what is stored.
  2. A fact that is told holds what was stated, less secrets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from gateway.core.context.secrets import mask_secrets
from gateway.core.context.terms import terms_of
from gateway.core.errors import Refusal
from gateway.core.facts.masking import mask_named, may_hold_secret, named
from gateway.core.facts.memory import (
    Anchor,
    Kind,
    Memory,
    Source,
    Wanted,
    fact_hash,
    fact_key,
    plain,
    topic_key,
)
from gateway.core.facts.times import later, micros_of, told_time
from gateway.core.facts.wire_json import invalid, read_fields, wrong_field

MAX_TTL_S = 3_153_600_000.0
"""A hundred years."""
Word = Annotated[str, Meta(min_length=1, max_length=512)]
Said = Annotated[str, Meta(min_length=1, max_length=8_192)]
Share = Annotated[float, Meta(ge=0, le=1)]
Moment = Annotated[datetime, Meta(tz=True)]
Seconds = Annotated[float, Meta(gt=0, le=MAX_TTL_S)]


class WireAnchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`Anchor`, as it is sent."""

    doc_id: Word | None = None
    page: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None
    region_id: Word | None = None
    vt_ref: Word | None = None
    path_line: Word | None = None


A = TypeVar("A", bound=WireAnchor)


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fact, as it is sent to be stored."""

    subject: Word
    predicate: Word
    object: Said
    datatype: Word | None = None
    source_doc: Word | None = None
    source_anchor: WireAnchor | None = None
    confidence: Share = 1.0
    observed_at: Moment | None = None
    single_valued: bool = False
    ttl_seconds: Seconds | None = None


class _Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    subject: Word | None = None
    predicate: Word | None = None
    object: Said | None = None
    source_doc: Word | None = None
    min_confidence: Share = 0.0
    text: Said | None = None
    limit: int | None = None
    include_superseded: bool = False


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    query: _Query
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class FactRules:
    """What holds for the facts of all clients.

    Attributes:
        is_deduplicated: the same fact is stored once.
        min_confidence: below it nothing is stored.
        max_page: of a query.
        ttl_s: of facts that do not say how long, or None for ever.
    """

    is_deduplicated: bool = True
    min_confidence: float = 0.8
    max_page: int = 100
    ttl_s: float | None = None


class Draft(NamedTuple):
    """A memory that is to be stored, and the hash of it that its client is told."""

    memory: Memory
    hash: str


class FactQuestion(NamedTuple):
    """What a query asks for; `can_match` is False where its text holds no word that anything could be found by."""

    wanted: Wanted
    limit: int
    cursor: str | None
    can_match: bool


def parse_fact(value: Any, rules: FactRules, now_us: int, memory_id: str) -> Draft:
    """A statement, as it is to be stored.

    Args:
        value: what was sent.
        rules: that hold.
        now_us: the moment.
        memory_id: under which it is stored unless it is there already.

    Raises:
        Refusal: 400 for what is wrong with it, 422 for a confidence below the threshold.
    """
    sent = read_fields(value, Statement)
    for name in ("subject", "predicate", "object"):
        require_text(name, getattr(sent, name))
    if refusal := decide_confidence(sent.confidence, rules):
        raise refusal
    sent_anchor = sent.source_anchor
    places = anchor_texts(sent_anchor)
    if may_hold_secret(
        (*said_texts(sent.subject, sent.predicate, sent.object), sent.datatype, sent.source_doc, *places)
    ):
        sent, sent_anchor = _masked(sent), masked_anchor(sent_anchor)
    subject, predicate, object_ = sent.subject, sent.predicate, sent.object
    anchor = plain_anchor(sent_anchor)
    hash_ = fact_hash(subject, predicate, object_, anchor)
    key = fact_key(subject, predicate, object_)
    observed_us = now_us if sent.observed_at is None else moment_of("observed_at", sent.observed_at)
    memory = Memory(
        id=memory_id,
        kind=Kind.FACT,
        subject=subject,
        predicate=predicate,
        object=object_,
        key=key if rules.is_deduplicated else lone_key(key, memory_id),
        observed_us=observed_us,
        sources=(Source(hash_, sent.source_doc, anchor),),
        topic=topic_key(subject, predicate) if sent.single_valued else b"",
        datatype=sent.datatype,
        confidence=sent.confidence,
        expires_us=later(now_us, sent.ttl_seconds if sent.ttl_seconds is not None else rules.ttl_s),
    )
    return Draft(with_terms(memory), hash_)


def lone_key(key: bytes, memory_id: str) -> bytes:
    """The key of a memory that is no duplicate, whatever else says the same."""
    return hashlib.sha256(key + memory_id.encode()).digest()


def with_terms(memory: Memory) -> Memory:
    """A memory with what it is found by."""
    return msgspec.structs.replace(memory, terms=tuple(terms_of(memory.text)))


def require_text(name: str, text: str) -> None:
    """White space says nothing.

    Raises:
        Refusal: 400.
    """
    if not plain(text):
        raise wrong_field(name, "a text that says something", "white space")


def decide_confidence(confidence: float, rules: FactRules) -> Refusal | None:
    """The refusal of a fact that is too unsure to be stored, or None."""
    if confidence >= rules.min_confidence:
        return None
    message = (
        f"The fact's confidence is {confidence:g} and facts.confidence_threshold is {rules.min_confidence:g}: it was"
        " not stored."
    )
    return invalid(message, "confidence", f"at least {rules.min_confidence:g}", f"{confidence:g}", 422)


def moment_of(name: str, moment: datetime) -> int:
    """A field's moment as a number.

    Raises:
        Refusal: 400, it is not within the years 1 to 9999 of UTC.
    """
    found = micros_of(moment)
    if found is None:
        raise wrong_field(name, "a time of the years 1 to 9999 in UTC", moment.isoformat())
    return found


def masked_or_none(text: str | None) -> str | None:
    """A text without secrets, if it is one."""
    return None if text is None else mask_secrets(text)


def _masked(sent: Statement) -> Statement:
    return msgspec.structs.replace(
        sent,
        subject=mask_secrets(sent.subject),
        predicate=mask_secrets(sent.predicate),
        object=mask_named(sent.predicate, sent.object),
        datatype=masked_or_none(sent.datatype),
        source_doc=masked_or_none(sent.source_doc),
    )


def said_texts(subject: str, predicate: str, object_: str) -> tuple[str, ...]:
    """What a fact says, as it is looked at for secrets."""
    return subject, predicate, named(predicate, object_)


def anchor_texts(sent: WireAnchor | None) -> tuple[str | None, ...]:
    """The texts of an anchor."""
    return () if sent is None else (sent.doc_id, sent.region_id, sent.vt_ref, sent.path_line)


def masked_anchor(sent: A | None) -> A | None:
    """An anchor without secrets."""
    if sent is None:
        return None
    doc_id, region_id, vt_ref, path_line = map(masked_or_none, anchor_texts(sent))
    return msgspec.structs.replace(sent, doc_id=doc_id, region_id=region_id, vt_ref=vt_ref, path_line=path_line)


def plain_anchor(sent: WireAnchor | None) -> Anchor:
    """An anchor as it is stored."""
    return Anchor() if sent is None else Anchor(sent.doc_id, sent.page, sent.region_id, sent.vt_ref, sent.path_line)


def parse_question(value: Any, rules: FactRules) -> FactQuestion:
    """What a query asks for.

    Raises:
        Refusal: 400.
    """
    asked = read_fields(value, _Asked)
    query = asked.query
    limit = min(100, rules.max_page) if query.limit is None else query.limit
    if not 1 <= limit <= rules.max_page:
        found = str(limit) if abs(limit) < 10**20 else "a number of many digits"
        raise wrong_field("query.limit", f"from 1 to {rules.max_page} (facts.max_facts_per_query)", found)
    terms = () if query.text is None else tuple(dict.fromkeys(terms_of(query.text)))
    object_ = query.object
    if object_ is not None:
        object_ = mask_named(query.predicate, object_) if query.predicate else mask_secrets(object_)
    wanted = Wanted(
        kind=Kind.FACT,
        subject=_plain_or_none(query.subject),
        predicate=_plain_or_none(query.predicate),
        object=None if object_ is None else plain(object_),
        source_doc=masked_or_none(query.source_doc),
        min_confidence=query.min_confidence,
        terms=terms,
        with_ended=query.include_superseded,
    )
    return FactQuestion(wanted, limit, asked.cursor, query.text is None or bool(terms))


def _plain_or_none(text: str | None) -> str | None:
    return None if text is None else plain(mask_secrets(text))


def told_fact(memory: Memory) -> dict[str, Any]:
    """A fact as it is told; what it lacks is left out."""
    first = memory.sources[0]
    told = {
        "id": memory.id,
        "subject": memory.subject,
        "predicate": memory.predicate,
        "object": memory.object,
        "datatype": memory.datatype,
        "source_doc": first.source_doc,
        "source_anchor": msgspec.to_builtins(first.anchor),
        "origin": None if first.origin is None else msgspec.to_builtins(first.origin),
        "confidence": memory.confidence,
        "observed_at": told_time(memory.observed_us),
        "hash": first.hash,
        "sources": told_sources(memory.sources) if len(memory.sources) > 1 else None,
        "superseded_at": None if memory.ended_us is None else told_time(memory.ended_us),
        "expires_at": None if memory.expires_us is None else told_time(memory.expires_us),
    }
    return {name: value for name, value in told.items() if value is not None}


def told_sources(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Where a memory comes from."""
    told = []
    for source in sources:
        row: dict[str, Any] = {"hash": source.hash, "source_anchor": msgspec.to_builtins(source.anchor)}
        if source.source_doc is not None:
            row["source_doc"] = source.source_doc
        if source.origin is not None:
            row["origin"] = msgspec.to_builtins(source.origin)
        told.append(row)
    return told
