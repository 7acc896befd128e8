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

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        fixed: the index of each other message.
        tokens_before: tokens of the foldable messages numbered up to n, by n.
        starts: how many foldable messages stand before each unit that has some.
        boundaries: how many foldable messages may be folded, ascending from 0.
        first_user: the number of the first user message, or None.
        last_user: the number of the last user message, or None.
    """

    facts: Sequence[MessageFacts]
    units: list[Unit]
    places: list[int]
    fixed: list[int]
    tokens_before: list[int]
    starts: list[int]
    boundaries: list[int]
    first_user: int | None
    last_user: int | None

    def boundaries_after(self, covered: int) -> Sequence[int]:
        """The boundaries that fold more than so many messages."""
        return self.boundaries[bisect_right(self.boundaries, covered) :]

    def tokens_of(self, number: int) -> int:
        """Tokens of one foldable message."""
        return self.facts[self.places[number - 1]].tokens

    def tokens_after(self, number: int) -> int:
        """Tokens of the foldable messages numbered above this."""
        return self.tokens_before[-1] - self.tokens_before[number]


def outline_of(facts: Sequence[MessageFacts], ties: Mapping[int, int] = NO_TIES) -> Outline:
    """The outline of a chat; `ties` as `find_units` takes them."""
    return _outline(facts, find_units(facts, ties), [], [], [0], [], None, None)


def extend_outline(known: Outline, facts: Sequence[MessageFacts], common: int) -> Outline:
    """The same for a chat, without ties, that begins as one whose outline is known.

    Of what they have in common only the newest unit may end elsewhere; but for a result that answers something older,
    then all is looked at anew.

    Args:
        known: of the other chat.
        facts: of this one.
        common: how many messages both begin with.
    """
    if common == len(known.facts) == len(facts):
        return known
    if not common:
        return outline_of(facts)
    done = bisect_right(known.units, (common - 1, len(known.facts) + 1)) - 1
    start = known.units[done].start
    tail = facts[start:]
    if _reaches_back(tail, common - start):
        return outline_of(facts)
    places = bisect_left(known.places, start)
    units = known.units[:done]
    units += [Unit(start + unit.start, start + unit.end) for unit in find_units(tail)]
    starts = known.starts[: bisect_left(known.starts, places)]
    before = known.tokens_before[: places + 1]
    users = (number for number in range(places, 0, -1) if facts[known.places[number - 1]].role == "user")
    first = known.first_user if known.first_user is not None and known.first_user <= places else None
    last = next(users, None) if first is not None else None
    fixed = known.fixed[: bisect_left(known.fixed, start)]
    return _outline(facts, units, known.places[:places], fixed, before, starts, first, last, done)


def _reaches_back(tail: Sequence[MessageFacts], known: int) -> bool:
    """Whether one of these messages, from `known` on, answers a call that none of them made."""
    called = {ident for fact in tail[:known] for ident in fact.calls}
    for fact in tail[known:]:
        if fact.answers is not None and fact.answers not in called:
            return True
        called.update(fact.calls)
    return False


def _outline(
    facts: Sequence[MessageFacts],
    units: list[Unit],
    places: list[int],
    fixed: list[int],
    tokens_before: list[int],
    starts: list[int],
    first_user: int | None,
    last_user: int | None,
    done: int = 0,
) -> Outline:
    """An outline whose first `done` units are in these places, tokens and starts already; the lists are taken over."""
    for unit in units[done:]:
        number = len(places)
        for index in range(unit.start, unit.end):
            fact = facts[index]
            if not fact.is_foldable:
                fixed.append(index)
                continue
            places.append(index)
            tokens_before.append(tokens_before[-1] + fact.tokens)
            if fact.role == "user":
                last_user = len(places)
                first_user = first_user or last_user
        if len(places) > number:
            starts.append(number)
    # Folding up to the last user message itself gains nothing, since it stays.
    boundaries = starts[bisect_right(starts, 0) :]
    boundaries.insert(0, 0)
    at = bisect_left(boundaries, last_user) if last_user is not None else len(boundaries)
    if boundaries[at : at + 1] == [last_user]:
        del boundaries[at]
    return Outline(facts, units, places, fixed, tokens_before, starts, boundaries, first_user, last_user)
