"""What a memory gives to a chat: the memories found for its latest user message, as what recall ranks beside messages.

Regions of documents that belong to the memory (`core.vision.shown`) stand before them in the same form. All join the
folded messages in one ranking, before all of them, each with a label by which the reader and the receipt name it. What
the chat contains itself is left out: it is visible, or is recalled as the message it stands in.

Invariants, each with a test of its own:
  1. No reminder is of a message that the chat contains, and none says the same as another.
  2. Same memories, same reminders, in the order in which they were observed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence, Set
from functools import lru_cache

import msgspec

from gateway.core.context.recall_index import is_heading
from gateway.core.facts.memory import Found, Kind, Memory
from gateway.core.facts.mine import SAID
from gateway.core.facts.times import told_time

_BYTES_A_TOKEN = 4
_DAY_US = 86_400_000_000
_DAY_CHARS = len("2023-05-08")


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where in a document a region stands."""

    doc_id: str
    page: int


class Reminder(msgspec.Struct, frozen=True, gc=False):
    """A memory, or a region of a document, among the messages that may be recalled.

    Attributes:
        number: its place among those, below 0.
        id: of the memory, or the region.
        role: of whoever said it; "memory" for what nobody said.
        name: whose name it is under, or ""; a role is no name.
        text: what can be recalled, under a first line in brackets that says when it was.
        tokens: about what it takes.
        label: what its line begins with.
        similarity: cosine to the question, or None where there are no vectors.
        heading: the first line of its text, without the brackets.
        terms: what its text without the heading is found by, repeats included.
        confidence: of the memory.
        place: of a region; None of a memory.
    """

    number: int
    id: str
    role: str
    name: str
    text: str
    tokens: int
    label: str
    similarity: float | None = None
    heading: str = ""
    terms: Sequence[int] = ()
    confidence: float = 1.0
    place: Place | None = None

    @property
    def key(self) -> bytes:
        """Names the memory and what is shown of it: another source may bring another heading."""
        return hashlib.sha256(
            f"{self.id} {self.role}\0{self.name}\0{self.text}".encode("utf-8", "surrogatepass")
        ).digest()


def reminders_of(found: Iterable[Found], contained: Set[str]) -> list[Reminder]:
    """What was found as reminders, in the order in which it was observed.

    Args:
        found: in any order.
        contained: digests, in hex, of the messages that the chat contains.
    """
    told: set[str] = set()
    chosen: list[tuple[Found, str]] = []
    for each in sorted(found, key=lambda each: (each.memory.observed_us, each.memory.id)):
        memory = each.memory
        says = said_by(memory)
        if says in told or any(source.origin and source.origin.turn in contained for source in memory.sources):
            continue
        told.add(says)
        chosen.append((each, says))
    return [_reminder(at, len(chosen), each, says) for at, (each, says) in enumerate(chosen)]


def said_by(memory: Memory) -> str:
    """What a reader is shown of a memory: of what somebody said, their words; else all of it."""
    return memory.object if memory.kind is Kind.FACT and memory.predicate == SAID else memory.text


def about_tokens(text: str) -> int:
    """About what a text takes, without counting."""
    return (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) // _BYTES_A_TOKEN + 1


@lru_cache(maxsize=1024)
def _day(number: int) -> str:
    """The day of this number since 1970, as it is told."""
    return told_time(number * _DAY_US)[:_DAY_CHARS]


def _reminder(at: int, total: int, found: Found, says: str) -> Reminder:
    memory = found.memory
    origin = next((source.origin for source in memory.sources if source.origin), None)
    role = origin.role if origin and memory.predicate == SAID and memory.kind is Kind.FACT else ""
    is_under = origin is not None and is_heading(origin.heading)
    heading = origin.heading if origin and is_under else _day(memory.observed_us // _DAY_US)
    text = f"[{heading}]\n{says}"
    return Reminder(
        number=at - total,
        id=memory.id,
        role=role or "memory",
        name=memory.subject if role and memory.subject != role else "",
        text=text,
        tokens=about_tokens(text),
        label=f"m{at + 1}",
        similarity=found.similarity,
        heading=heading,
        terms=memory.terms,
        confidence=memory.confidence,
    )
