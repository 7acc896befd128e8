"""Units that are never split, and where a chat may be folded.

A unit is a message, or an assistant message with tool calls together with all their results and whatever stands
between. System and developer messages always stay. Foldable messages are numbered from 1; what an outline names,
it names by that number, since system messages may come and go.

Invariants, each with a test of its own:
  1. Units cover every message exactly once, in order.
  2. A result is in the unit of the nearest earlier call with its id.
  3. A boundary never lies within a unit, after the newest unit's start, or between the last user message and an
     answer to it that is still open.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from gateway.core.context.facts import MessageFacts


class Unit(NamedTuple):
    """Messages start <= i < end."""

    start: int
    end: int


def find_units(facts: Sequence[MessageFacts]) -> list[Unit]:
    """Cut a chat into units."""
    reach = list(range(len(facts)))  # the last message that must stay with this one
    caller: dict[str, int] = {}
    for index, fact in enumerate(facts):
        for ident in fact.calls:
            caller[ident] = index
        if fact.answers in caller:
            reach[caller[fact.answers]] = index
    units: list[Unit] = []
    start = 0
    while start < len(reach):
        last, end = reach[start], start + 1
        while end <= last:
            last = max(last, reach[end])
            end += 1
        units.append(Unit(start, end))
        start = end
    return units


@dataclass(frozen=True, slots=True)
class Outline:
    """A chat as far as folding goes.

    Attributes:
        facts: its messages.
        places: the index of each foldable message; number n stands at `places[n - 1]`.
        tokens_after: tokens of the foldable messages numbered above n, by n.
        boundaries: how many foldable messages may be folded, ascending from 0.
        first_user: the number of the first user message, or None.
        last_user: the number of the last user message, or None.
    """

    facts: Sequence[MessageFacts]
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


def outline_of(facts: Sequence[MessageFacts]) -> Outline:
    """The outline of a chat."""
    places = [index for index, fact in enumerate(facts) if fact.is_foldable]
    users = [number for number, index in enumerate(places, 1) if facts[index].role == "user"]
    last_user = users[-1] if users else None
    from_the_end = accumulate((facts[index].tokens for index in reversed(places)), initial=0)
    return Outline(
        facts,
        places,
        list(from_the_end)[::-1],
        _boundaries(facts, last_user),
        users[0] if users else None,
        last_user,
    )


def _boundaries(facts: Sequence[MessageFacts], last_user: int | None) -> list[int]:
    """How many foldable messages stand before each unit that may be the first to stay."""
    before = list(accumulate((fact.is_foldable for fact in facts), initial=0))
    starts = (before[unit.start] for unit in find_units(facts) if before[unit.start] < before[unit.end])
    # Folding up to the last user message itself gains nothing, since it stays.
    return [0, *(start for start in starts if start not in (0, last_user))]
