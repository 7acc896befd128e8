"""Units that are never split, and where a chat may be folded.

A unit is a message, or an assistant message with tool calls together with all their results and whatever stands
between, or messages that are tied to each other, as reasoning is to what came of it. System and developer messages
always stay. Foldable messages are numbered from 1; what an outline names, it names by that number, since system
messages may come and go.

Invariants, each with a test of its own:
  1. Units cover every message exactly once, in order.
  2. A result is in the unit of the nearest earlier call with its id.
  3. A boundary never lies within a unit, after the newest unit's start, or between the last user message and an
     answer to it that is still open.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import NamedTuple

from gateway.core.context.facts import MessageFacts


class Unit(NamedTuple):
    """Messages start <= i < end."""

    start: int
    end: int


NO_TIES: Mapping[int, int] = MappingProxyType({})


def find_units(facts: Sequence[MessageFacts], ties: Mapping[int, int] = NO_TIES) -> list[Unit]:
    """Cut a chat into units.

    Args:
        facts: its messages.
        ties: which message must stay with which later one, by index, beside calls and their results.
    """
    reach = [ties.get(index, index) for index in range(len(facts))] if ties else list(range(len(facts)))
    caller: dict[str, int] = {}
    for index, fact in enumerate(facts):
        for ident in fact.calls:
            caller[ident] = index
        if fact.answers in caller:
            reach[caller[fact.answers]] = max(index, reach[caller[fact.answers]])
    units: list[Unit] = []
    start = 0
    while start < len(reach):
        last, end = reach[start], start + 1
        while end <= last or (end < len(reach) and _stands_with(facts[end], facts[end - 1])):
            last = max(last, reach[end])
            end += 1
        units.append(Unit(start, end))
        start = end
    return units


def _stands_with(fact: MessageFacts, before: MessageFacts) -> bool:
    """Whether a result stands among others, whosever it is: what it costs depends on them."""
    return fact.is_tool_result and (before.is_tool_result or bool(before.calls))


@dataclass(frozen=True, slots=True)
class Outline:
    """A chat as far as folding goes.

    Attributes:
        facts: its messages.
        units: they, cut into what is never split.
        places: the index of each foldable message; number n stands at `places[n - 1]`.
        tokens_after: tokens of the foldable messages numbered above n, by n.
        boundaries: how many foldable messages may be folded, ascending from 0.
        first_user: the number of the first user message, or None.
        last_user: the number of the last user message, or None.
    """

    facts: Sequence[MessageFacts]
    units: Sequence[Unit]
    places: Sequence[int]
    tokens_after: Sequence[int]
    boundaries: Sequence[int]
    first_user: int | None
    last_user: int | None

    def boundaries_after(self, covered: int) -> Sequence[int]:
        """The boundaries that fold more than so many messages."""
        return self.boundaries[bisect_right(self.boundaries, covered) :]

    def tokens_of(self, number: int) -> int:
        """Tokens of one foldable message."""
        return self.facts[self.places[number - 1]].tokens


def outline_of(facts: Sequence[MessageFacts], ties: Mapping[int, int] = NO_TIES) -> Outline:
    """The outline of a chat; `ties` as `find_units` takes them."""
    units = find_units(facts, ties)
    places = [index for index, fact in enumerate(facts) if fact.is_foldable]
    users = [number for number, index in enumerate(places, 1) if facts[index].role == "user"]
    last_user = users[-1] if users else None
    from_the_end = accumulate((facts[index].tokens for index in reversed(places)), initial=0)
    return Outline(
        facts,
        units,
        places,
        list(from_the_end)[::-1],
        _boundaries(facts, units, last_user),
        users[0] if users else None,
        last_user,
    )


def _boundaries(facts: Sequence[MessageFacts], units: Sequence[Unit], last_user: int | None) -> list[int]:
    """How many foldable messages stand before each unit that may be the first to stay."""
    before = list(accumulate((fact.is_foldable for fact in facts), initial=0))
    starts = (before[unit.start] for unit in units if before[unit.start] < before[unit.end])
    # Folding up to the last user message itself gains nothing, since it stays.
    return [0, *(start for start in starts if start not in (0, last_user))]
