"""Contexts on the wire: texts that an application keeps and looks for by itself, each for as long as its level says.

Invariants, each with a test of its own:
  1. What is stored of a text is within the bounds below and holds no secret; its metadata is a JSON object that any
     JSON library reads alike.
  2. A text's time to live is its own if it has one, else that of its level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from gateway.core.context.secrets import mask_secrets
from gateway.core.context.terms import name_terms
from gateway.core.facts.masking import mask_tree
from gateway.core.facts.memory import Kind, Level, Memory, Sought, Source, text_key
from gateway.core.facts.times import later, told_time
from gateway.core.facts.wire_facts import Draft, Seconds, lone_key, require_text, with_terms
from gateway.core.facts.wire_json import read_fields, wrong_field

MAX_METADATA_BYTES, MAX_METADATA_DEPTH = 4_096, 16
MAX_SOUGHT, MAX_DELETED = 50, 1_000
Text = Annotated[str, Meta(min_length=1, max_length=65_536)]
MemoryId = Annotated[str, Meta(max_length=512)]


class _Context(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: Text
    level: Level = Level.SHORT_TERM
    metadata: dict[str, Any] | None = None
    ttl_seconds: Seconds | None = None


class _Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    query: Annotated[str, Meta(min_length=1, max_length=8_192)]
    limit: Annotated[int, Meta(ge=1, le=MAX_SOUGHT)] = 10
    level: Level | None = None


class _Deletion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ids: Annotated[list[MemoryId], Meta(max_length=MAX_DELETED)]


class _Clearing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: Level | None = None


@dataclass(frozen=True, slots=True)
class ContextRules:
    """What holds for the texts of all clients.

    Attributes:
        is_deduplicated: the same text is stored once.
        ttl_s: by level, None for ever.
    """

    is_deduplicated: bool
    ttl_s: Mapping[Level, float | None]


class ContextQuestion(NamedTuple):
    """What a search looks for."""

    query: str
    sought: Sought
    limit: int


def parse_context(value: Any, rules: ContextRules, now_us: int, memory_id: str) -> Draft:
    """A text, as it is to be stored.

    Args:
        value: what was sent.
        rules: that hold.
        now_us: the moment.
        memory_id: under which it is stored unless it is there already.

    Raises:
        Refusal: 400.
    """
    sent = read_fields(value, _Context)
    require_text("text", sent.text)
    text = mask_secrets(sent.text)
    key = text_key(text)
    ttl_s = sent.ttl_seconds if sent.ttl_seconds is not None else rules.ttl_s[sent.level]
    memory = Memory(
        id=memory_id,
        kind=Kind.CONTEXT,
        subject="",
        predicate="",
        object=text,
        key=key if rules.is_deduplicated else lone_key(key, memory_id),
        observed_us=now_us,
        sources=(Source(key.hex()),),
        expires_us=later(now_us, ttl_s),
        level=sent.level,
        metadata=clean_metadata(sent.metadata),
    )
    return Draft(with_terms(memory), key.hex())


def clean_metadata(metadata: dict[str, Any] | None) -> dict[str, Any]:
    """Metadata as it is stored.

    Raises:
        Refusal: 400, it is too large, too deep, or holds a number that not every JSON library reads.
    """
    if not metadata:
        return {}
    _check_depth(metadata, 1)
    masked: dict[str, Any] = mask_tree(metadata)
    size = len(msgspec.json.encode(masked))
    if size > MAX_METADATA_BYTES:
        raise wrong_field("metadata", f"at most {MAX_METADATA_BYTES:,} bytes of JSON", f"{size:,} bytes")
    return masked


def _check_depth(value: Any, depth: int) -> None:
    """Depth and numbers, bounded by what the parser let through."""
    if isinstance(value, float) and not math.isfinite(value):
        raise wrong_field("metadata", "numbers that are finite", "one beyond 1.8e308")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise wrong_field("metadata", "whole numbers of 64 bits", "a larger one")
    if not isinstance(value, dict | list):
        return
    if depth > MAX_METADATA_DEPTH:
        raise wrong_field("metadata", f"at most {MAX_METADATA_DEPTH} levels deep", "more")
    for item in value.values() if isinstance(value, dict) else value:
        _check_depth(item, depth + 1)


def parse_search(value: Any) -> ContextQuestion:
    """What a search looks for; without a word that anything could be found by it has no terms.

    Raises:
        Refusal: 400.
    """
    asked = read_fields(value, _Search)
    named = name_terms(asked.query)
    hard_first = sorted(named.words, key=lambda term: term not in named.hard)
    sought = Sought(hard_first, named.hard, kind=Kind.CONTEXT, level=asked.level)
    return ContextQuestion(asked.query, sought, asked.limit)


def parse_ids(value: Any) -> Sequence[str]:
    """Which texts are to go; ids that are none of anybody's are nobody's.

    Raises:
        Refusal: 400.
    """
    return list(dict.fromkeys(read_fields(value, _Deletion).ids))


def parse_clearing(value: Any) -> Level | None:
    """Of which level all texts are to go; None for every one.

    Raises:
        Refusal: 400.
    """
    return read_fields(value, _Clearing).level


def told_context(memory: Memory, score: float | None = None) -> dict[str, Any]:
    """A text as it is told."""
    told: dict[str, Any] = {
        "id": memory.id,
        "text": memory.object,
        "level": memory.level.value if memory.level else Level.SHORT_TERM.value,
        "metadata": memory.metadata or {},
        "created_at": told_time(memory.observed_us),
        "expires_at": None if memory.expires_us is None else told_time(memory.expires_us),
    }
    return told if score is None else told | {"score": score}
