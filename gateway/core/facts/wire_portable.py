"""Memories as lines that can be taken elsewhere: all that a memory holds but for its id, its owner and its scope.

What a line says of itself is believed as far as it concerns its own client: when it was observed, where it comes from,
until when it holds. Who owns it, where it is stored and under which id is not a line's to say.

Invariants, each with a test of its own:
  1. What is told and read again is the same memory, but for its id.
  2. No line that is read is stored under an id that it names, or with a secret in it.
  3. However many sources a memory has, each of its lines is short enough to be read again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.core.context.secrets import mask_secrets
from gateway.core.facts.masking import mask_named, may_hold_secret
from gateway.core.facts.memory import Kind, Level, Memory, Origin, Source, fact_hash, fact_key, text_key, topic_key
from gateway.core.facts.times import told_time
from gateway.core.facts.wire_contexts import ContextRules, clean_metadata
from gateway.core.facts.wire_facts import (
    Draft,
    FactRules,
    Moment,
    Share,
    WireAnchor,
    anchor_texts,
    decide_confidence,
    lone_key,
    masked_anchor,
    masked_or_none,
    moment_of,
    plain_anchor,
    require_text,
    said_texts,
    told_sources,
    with_terms,
)
from gateway.core.facts.wire_json import invalid, read_fields, wrong_field

_SOURCES_A_LINE = 40
MAX_LINE_BYTES = 1_048_576
"""Of a line that is read; what is told of any memory that came over the wire fits, whatever its characters are."""
_Word = Annotated[str, Meta(min_length=1, max_length=768)]
_Said = Annotated[str, Meta(min_length=1, max_length=12_288)]
_Text = Annotated[str, Meta(min_length=1, max_length=98_304)]
"""A mask may be longer than the secret that it stands for: these are half as long again as what is taken at first."""
_MAX_SOURCES, _MAX_NAME_CHARS = 1_000, 300
_Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    turn: Annotated[str, Meta(max_length=128)]
    start: Annotated[int, Meta(ge=0, lt=2**53)]
    end: Annotated[int, Meta(ge=0, lt=2**53)]
    role: Annotated[str, Meta(max_length=_MAX_NAME_CHARS)] = ""
    heading: Annotated[str, Meta(max_length=_MAX_NAME_CHARS)] = ""


class _Anchor(WireAnchor, frozen=True, forbid_unknown_fields=True):
    doc_id: _Word | None = None
    region_id: _Word | None = None
    vt_ref: _Word | None = None
    path_line: _Word | None = None


class _Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hash: _Digest | None = None
    source_doc: _Word | None = None
    source_anchor: _Anchor | None = None
    origin: _Origin | None = None


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    observed_at: Moment
    sources: Annotated[list[_Source], Meta(max_length=_MAX_SOURCES)] = []
    superseded_at: Moment | None = None
    expires_at: Moment | None = None
    session: _Digest | None = None


class _FactLine(_Line, frozen=True, kw_only=True):
    kind: Literal["fact"]
    subject: _Word
    predicate: _Word
    object: _Said
    datatype: _Word | None = None
    confidence: Share = 1.0
    single_valued: bool = False


class _ContextLine(_Line, frozen=True, kw_only=True):
    kind: Literal["context"]
    text: _Text
    level: Level = Level.SHORT_TERM
    metadata: dict[str, Any] | None = None


def portable_lines(memory: Memory) -> Iterator[bytes]:
    """A memory as lines of JSON, without their ends: one, or as many as its sources fill.

    Those after the first are the same memory from other sources, and become one with it where they are read.
    """
    told: dict[str, Any] = {"kind": memory.kind.value}
    if memory.kind is Kind.FACT:
        told |= {"subject": memory.subject, "predicate": memory.predicate, "object": memory.object}
        told |= {"confidence": memory.confidence, "single_valued": bool(memory.topic)}
        told |= {"datatype": memory.datatype} if memory.datatype is not None else {}
    else:
        level = memory.level or Level.SHORT_TERM
        told |= {"text": memory.object, "level": level.value, "metadata": memory.metadata or {}}
    told["observed_at"] = told_time(memory.observed_us)
    for name, micros in (("superseded_at", memory.ended_us), ("expires_at", memory.expires_us)):
        if micros is not None:
            told[name] = told_time(micros)
    if memory.session:
        told["session"] = memory.session.hex()
    sources = told_sources(memory.sources)
    for start in range(0, len(sources), _SOURCES_A_LINE):
        yield msgspec.json.encode(told | {"sources": sources[start : start + _SOURCES_A_LINE]})


def parse_portable(value: Any, facts: FactRules, contexts: ContextRules, now_us: int, memory_id: str) -> Draft:
    """A line, as it is to be stored.

    Args:
        value: what was sent.
        facts: rules that hold for facts.
        contexts: and for texts.
        now_us: the moment.
        memory_id: under which it is stored unless it is there already.

    Raises:
        Refusal: 400, or 422 for a confidence below the threshold.
    """
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind not in ("fact", "context"):
        raise invalid('`kind` must be "fact" or "context".', "kind", '"fact" or "context"', "another value, or none")
    if kind == "fact":
        draft = _fact(read_fields(value, _FactLine), facts, memory_id)
    else:
        draft = _context(read_fields(value, _ContextLine), contexts, memory_id)
    expires_us = draft.memory.expires_us
    if expires_us is not None and expires_us <= now_us:
        raise wrong_field("expires_at", "a time to come", told_time(expires_us))
    return draft


def _fact(line: _FactLine, rules: FactRules, memory_id: str) -> Draft:
    for name in ("subject", "predicate", "object"):
        require_text(name, getattr(line, name))
    if refusal := decide_confidence(line.confidence, rules):
        raise refusal
    texts = [text for sent in line.sources for text in (sent.source_doc, *anchor_texts(sent.source_anchor))]
    if may_hold_secret((*said_texts(line.subject, line.predicate, line.object), line.datatype, *texts)):
        line = _masked(line)
    subject, predicate, object_ = line.subject, line.predicate, line.object
    sources = []
    for sent in line.sources or [_Source()]:
        anchor = plain_anchor(sent.source_anchor)
        hash_ = sent.hash or fact_hash(subject, predicate, object_, anchor)
        sources.append(Source(hash_, sent.source_doc, anchor, _origin(sent.origin)))
    key = fact_key(subject, predicate, object_)
    memory = Memory(
        id=memory_id,
        kind=Kind.FACT,
        subject=subject,
        predicate=predicate,
        object=object_,
        key=key if rules.is_deduplicated else lone_key(key, memory_id),
        observed_us=moment_of("observed_at", line.observed_at),
        sources=sources,
        topic=topic_key(subject, predicate) if line.single_valued else b"",
        datatype=line.datatype,
        confidence=line.confidence,
        ended_us=None if line.superseded_at is None else moment_of("superseded_at", line.superseded_at),
        expires_us=None if line.expires_at is None else moment_of("expires_at", line.expires_at),
        session=bytes.fromhex(line.session or ""),
    )
    return Draft(with_terms(memory), sources[0].hash)


def _masked(line: _FactLine) -> _FactLine:
    """A line without secrets, whose hashes are to be made anew."""
    return msgspec.structs.replace(
        line,
        subject=mask_secrets(line.subject),
        predicate=mask_secrets(line.predicate),
        object=mask_named(line.predicate, line.object),
        datatype=masked_or_none(line.datatype),
        sources=[
            _Source(None, masked_or_none(sent.source_doc), masked_anchor(sent.source_anchor), sent.origin)
            for sent in line.sources
        ],
    )


def _context(line: _ContextLine, rules: ContextRules, memory_id: str) -> Draft:
    require_text("text", line.text)
    text = mask_secrets(line.text)
    key = text_key(text)
    sources = [
        Source(
            key.hex(),
            masked_or_none(sent.source_doc),
            plain_anchor(masked_anchor(sent.source_anchor)),
            _origin(sent.origin),
        )
        for sent in line.sources
    ]
    memory = Memory(
        id=memory_id,
        kind=Kind.CONTEXT,
        subject="",
        predicate="",
        object=text,
        key=key if rules.is_deduplicated else lone_key(key, memory_id),
        observed_us=moment_of("observed_at", line.observed_at),
        sources=sources or (Source(key.hex()),),
        ended_us=None if line.superseded_at is None else moment_of("superseded_at", line.superseded_at),
        expires_us=None if line.expires_at is None else moment_of("expires_at", line.expires_at),
        level=line.level,
        metadata=clean_metadata(line.metadata),
        session=bytes.fromhex(line.session or ""),
    )
    return Draft(with_terms(memory), key.hex())


def _origin(sent: _Origin | None) -> Origin | None:
    if sent is None:
        return None
    if not _is_turn(sent.turn):
        raise wrong_field("sources.origin.turn", "a digest in hexadecimal digits", "another text")
    return Origin(sent.turn, sent.start, sent.end, _plain(sent.role), _plain(sent.heading))


def _plain(text: str) -> str:
    """What every store takes, without secrets."""
    return mask_secrets(text).replace("\0", " ")


_is_turn = re.compile(r"[0-9a-f]{0,128}").fullmatch
