"""What becomes of memories that are put where others are: the rules of `MemoryStore.put`, in no store's language.

Pure: the store loads what is there of the same keys and topics, and writes what changed. What has expired is not there.

One that is there already is told again: its sources are united (by hash, document and origin; the newest `MAX_SOURCES`
are kept), its confidence and expiry become the greater, and it takes the topic if it had none. When it was last said
counts for what ends what, so that statements may arrive in any order: of a topic those hold that were said last. One
that is found under its own id was put before by the same caller, who was not told: it is no duplicate. One that was
mined in a place where it was mined before, by a process that has forgotten that, is no news: it changes nothing. One
that is new and has expired already is not stored, and ends nothing.

Invariants, each with a test of its own:
  1. The order in which statements of a topic arrive does not matter for which of them hold.
  2. The same call made twice leaves what one leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from gateway.core.facts.memory import Memory, Origin, Source, Stored
from gateway.shell.facts.rows import MAX_SOURCES, Row


@dataclass(slots=True)
class Merged:
    """What a put comes to.

    Attributes:
        stored: for each memory, in order.
        added: rows to insert.
        changed: rows to write again, with what they were.
        gone: rows that had expired.
    """

    stored: list[Stored] = field(default_factory=list)
    added: list[Row] = field(default_factory=list)
    changed: list[tuple[Memory, Row]] = field(default_factory=list)
    gone: list[Row] = field(default_factory=list)


def is_alive(memory: Memory, now_us: int) -> bool:
    """Whether it has not expired."""
    return memory.expires_us is None or memory.expires_us > now_us


def merge(known: Iterable[Row], memories: Sequence[Memory], now_us: int) -> Merged:
    """Put memories where these are.

    Args:
        known: rows of the scope that have a key of the memories, or hold and have a topic of them; each once.
        memories: in order.
        now_us: the time.
    """
    rows = list(known)
    before = {id(row): row.memory for row in rows}
    seen_before = {id(row): row.seen_us for row in rows}
    merged = Merged(gone=[row for row in rows if not is_alive(row.memory, now_us)])
    alive = [row for row in rows if is_alive(row.memory, now_us)]
    by_key = {row.memory.key: row for row in alive}
    by_topic: dict[bytes, list[Row]] = {}
    for row in alive:
        by_topic.setdefault(row.memory.topic, []).append(row)
    for memory in memories:
        found = by_key.get(memory.key)
        if found is None and not is_alive(memory, now_us):
            merged.stored.append(Stored(memory.id, is_duplicate=False))
            continue
        if found is None:
            row = by_key[memory.key] = Row(0, _fresh(memory), memory.observed_us)
            by_topic.setdefault(memory.topic, []).append(row)
            merged.added.append(row)
            merged.stored.append(Stored(memory.id, is_duplicate=False))
        else:
            row = found
            merged.stored.append(Stored(row.memory.id, is_duplicate=row.memory.id != memory.id))
            if _is_no_news(row.memory, memory):
                continue
            if _tell_again(row, memory):
                by_topic.setdefault(memory.topic, []).append(row)
        if memory.topic and memory.ended_us is None:  # what has ended already, as told by an export, ends nothing
            _take_place(row, by_topic.get(memory.topic, ()), memory.observed_us, now_us)
    for row in alive:
        if row.memory != before[id(row)] or row.seen_us != seen_before[id(row)]:
            merged.changed.append((before[id(row)], row))
    return merged


def _is_no_news(old: Memory, memory: Memory) -> bool:
    known = {_name_of(source) for source in old.sources if source.origin is not None}
    return bool(known) and all(_name_of(source) in known for source in memory.sources)


def _fresh(memory: Memory) -> Memory:
    return replace(memory, sources=united((), memory.sources), terms=list(memory.terms))


def _tell_again(row: Row, memory: Memory) -> bool:
    """Add what a memory says to the row that says the same; whether the row has a topic only now."""
    old = row.memory
    ended_us = old.ended_us
    if ended_us is not None and ended_us <= memory.observed_us and old.id != memory.id:
        ended_us = None
    row.memory = replace(
        old,
        sources=united(old.sources, memory.sources),
        confidence=max(old.confidence, memory.confidence),
        expires_us=_later(old.expires_us, memory.expires_us),
        ended_us=ended_us,
        topic=old.topic or memory.topic,
    )
    row.seen_us = max(row.seen_us, memory.observed_us)
    return bool(memory.topic) and not old.topic


def _take_place(row: Row, topic: Sequence[Row], observed_us: int, now_us: int) -> None:
    """End what was said before of the same topic, or the row itself where another was said later."""
    holding = [other for other in topic if other.memory.ended_us is None and is_alive(other.memory, now_us)]
    others = [other for other in holding if other is not row]
    for other in others:
        if other.seen_us < observed_us:
            other.memory = replace(other.memory, ended_us=observed_us)
    later = [
        other.memory.observed_us if other.memory.observed_us > row.seen_us else other.seen_us
        for other in others
        if other.seen_us > row.seen_us
    ]
    if later and row.memory.ended_us is None:
        row.memory = replace(row.memory, ended_us=min(later))


def united(old: Sequence[Source], new: Sequence[Source]) -> list[Source]:
    """Sources of both, each once, the newest `MAX_SOURCES`."""
    known = {_name_of(source): source for source in old}
    for source in new:
        known.setdefault(_name_of(source), source)
    return list(known.values())[-MAX_SOURCES:]


def _name_of(source: Source) -> tuple[str, str | None, Origin | None]:
    """By what a source is known; the hash is of the fact and its place in the document, not of which document it is."""
    return source.hash, source.source_doc, source.origin


def _later(one_us: int | None, other_us: int | None) -> int | None:
    return None if one_us is None or other_us is None else max(one_us, other_us)
