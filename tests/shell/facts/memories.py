"""Memories for tests of stores, and what a store has to do, as a dictionary."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.core.context.terms import terms_of
from gateway.core.facts.memory import (
    Anchor,
    Kind,
    Level,
    Memory,
    Scope,
    Source,
    fact_hash,
    fact_key,
    text_key,
    topic_key,
)

ALICE = Scope(b"a" * 32, "notes")
BOB = Scope(b"b" * 32, "notes")
OTHER = Scope(b"a" * 32, "other")
NOW_US = 1_000_000_000
_ids = random.Random(7)


class Clock:
    """Seconds that a test sets."""

    def __init__(self, now_us: int = NOW_US) -> None:
        self.now_us = now_us

    def __call__(self) -> float:
        return self.now_us / 1e6


def new_id() -> str:
    return f"{_ids.getrandbits(128):032x}"


def fact(
    subject: str, predicate: str, object_: str, *, doc: str | None = None, topic: bool = False, **rest: Any
) -> Memory:
    """A fact from a document, about what is said of its subject and predicate where it has a topic."""
    anchor = Anchor(doc_id=doc)
    source = Source(fact_hash(subject, predicate, object_, anchor), doc, anchor)
    told: dict[str, Any] = {
        "id": new_id(),
        "kind": Kind.FACT,
        "subject": subject,
        "predicate": predicate,
        "object": object_,
        "key": fact_key(subject, predicate, object_),
        "observed_us": 1,
        "sources": [source],
        "topic": topic_key(subject, predicate) if topic else b"",
        "terms": terms_of(f"{subject} {predicate} {object_}"),
    }
    return Memory(**(told | rest))


def text(words: str, level: Level = Level.LONG_TERM, **rest: Any) -> Memory:
    """A text."""
    told: dict[str, Any] = {
        "id": new_id(),
        "kind": Kind.CONTEXT,
        "subject": "",
        "predicate": "",
        "object": words,
        "key": text_key(words),
        "observed_us": 1,
        "sources": [Source(text_key(words).hex())],
        "level": level,
        "terms": terms_of(words),
    }
    return Memory(**(told | rest))


def told(memories: Sequence[Memory]) -> list[str]:
    return [memory.text for memory in memories]


def same(one: Memory | None, other: Memory) -> bool:
    """Whether they are equal in all that they say."""
    return one is not None and msgspec.to_builtins(one) == msgspec.to_builtins(other)
