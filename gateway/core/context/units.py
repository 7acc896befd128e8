"""Units that are never split, and the messages that always stay.

A unit is a message, or an assistant message with tool calls together with all their results and whatever stands
between. Pinned are system and developer messages, the first user message (up to a cap), the last user message, and
the newest unit.

Invariants, each with a test of its own:
  1. Units cover every message exactly once, in order.
  2. A result is in the unit of the nearest earlier call with its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.context.facts import MessageFacts


class Unit(NamedTuple):
    """Messages start <= i < end."""

    start: int
    end: int


def find_units(facts: Sequence[MessageFacts]) -> list[Unit]:
    """Cut a chat into units."""
    units: list[Unit] = []
    at = 0
    while at < len(facts):
        end = _end_of_call(facts, at) if facts[at].calls else at + 1
        units.append(Unit(at, end))
        at = end
    return units


def _end_of_call(facts: Sequence[MessageFacts], at: int) -> int:
    open_calls = set(facts[at].calls)
    end = at + 1
    for index in range(at + 1, len(facts)):
        if facts[index].calls or not open_calls:
            break
        if facts[index].answers in open_calls:
            end = index + 1
            open_calls.discard(facts[index].answers or "")
    return end


class Pins(NamedTuple):
    """The places of messages that are kept whatever is folded; None where there is no such message."""

    first_user: int | None
    last_user: int | None
    newest: Unit | None


def find_pins(facts: Sequence[MessageFacts], units: Sequence[Unit], first_user_max_tokens: int) -> Pins:
    """Which messages are pinned beside system and developer messages.

    Args:
        facts: the chat.
        units: `find_units(facts)`.
        first_user_max_tokens: a first user message above this is folded like any other.
    """
    users = [index for index, fact in enumerate(facts) if fact.role == "user"]
    first = users[0] if users and facts[users[0]].tokens <= first_user_max_tokens else None
    newest = next((unit for unit in reversed(units) if facts[unit.start].is_foldable), None)
    return Pins(first, users[-1] if users else None, newest)
