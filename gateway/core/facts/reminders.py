"""What a memory gives to a chat: the memories found for its latest user message, as what recall ranks beside messages.

They join the folded messages in one ranking, before all of them, each with a label by which the reader and the receipt
name it. What the chat contains itself is left out: it is visible, or is recalled as the message it stands in.

Invariants, each with a test of its own:
  1. No reminder is of a message that the chat contains, and none says the same as another.
  2. Same memories, same reminders, in the order in which they were observed.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from datetime import UTC, datetime

import msgspec

from gateway.core.facts.memory import Found, Kind, Memory
from gateway.core.facts.mine import SAID

_BYTES_A_TOKEN = 4


class Reminder(msgspec.Struct, frozen=True, gc=False):
    """A memory among the messages that may be recalled.

    Attributes:
        number: its place among those, below 0.
        id: of the memory.
        role: of whoever said it; "memory" for what nobody said.
        name: whose name it is under, or "".
        text: what can be recalled, under a first line in brackets that says when it was.
        tokens: about what it takes.
        label: what its line begins with.
        similarity: cosine to the question, or None where there are no vectors.
    """

    number: int
    id: str
    role: str
    name: str
    text: str
    tokens: int
    label: str
    similarity: float | None = None


def reminders_of(found: Iterable[Found], contained: Set[str]) -> list[Reminder]:
    """What was found as reminders, in the order in which it was observed.

    Args:
        found: in any order.
        contained: digests, in hex, of the messages that the chat contains.
    """
    told: set[str] = set()
    chosen: list[Found] = []
    for each in sorted(found, key=lambda each: (each.memory.observed_us, each.memory.id)):
        memory = each.memory
        says = said_by(memory)
        if says in told or any(source.origin and source.origin.turn in contained for source in memory.sources):
            continue
        told.add(says)
        chosen.append(each)
    return [_reminder(at, len(chosen), each) for at, each in enumerate(chosen)]


def said_by(memory: Memory) -> str:
    """What a reader is shown of a memory: of what somebody said, their words; else all of it."""
    return memory.object if memory.kind is Kind.FACT and memory.predicate == SAID else memory.text


def _reminder(at: int, total: int, found: Found) -> Reminder:
    memory = found.memory
    origin = next((source.origin for source in memory.sources if source.origin), None)
    said = memory.predicate == SAID and memory.kind is Kind.FACT and origin is not None
    day = datetime.fromtimestamp(memory.observed_us / 1e6, UTC).date().isoformat()
    heading = (origin.heading if origin else "") or day
    text = f"[{heading}]\n{said_by(memory)}"
    return Reminder(
        number=at - total,
        id=memory.id,
        role=origin.role if said and origin else "memory",
        name=memory.subject if said else "",
        text=text,
        tokens=len(text.encode("utf-8", "surrogatepass")) // _BYTES_A_TOKEN + 1,
        label=f"m{at + 1}",
        similarity=found.similarity,
    )
