"""Does a chat fit, and if not: what stays, what is folded, what must be shortened?

Pure arithmetic over message facts. The plan says how much the brief may take; whoever makes it must keep to that,
and then the whole fits.

Invariants, each with a test of its own:
  1. kept + brief + fixed tokens <= limit, or the plan says by how much tool results must be trimmed, and what lacks.
  2. No unit is split; pinned messages are always kept; order is the client's.
  3. A brief covers a prefix of the foldable messages, never more than all but the newest unit.
  4. An applied brief stays applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.core.context.facts import MessageFacts
from gateway.core.context.units import Pins, Unit, find_pins, find_units

MIN_BRIEF_TOKENS = 96
"""Below this a brief says nothing beyond its own frame, and none is made."""
MIN_TRIMMED_TOKENS = 48
"""A tool result is not cut below this."""


@dataclass(frozen=True, slots=True)
class FoldLimits:
    """The numbers that folding obeys, all in tokens.

    Attributes:
        prompt: what the whole prompt may take.
        brief: the running brief's share.
        recent: the share of recent turns that is kept verbatim where it fits.
        first_user: a first user message above this is not pinned.
        target_ratio: of `prompt`, what a fresh compaction aims at, so that the next one is many turns away.
    """

    prompt: int
    brief: int
    recent: int
    first_user: int
    target_ratio: float


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """How a chat is to be forwarded.

    Attributes:
        covers: how many foldable messages the brief stands for (0: there is no brief).
        kept: indices of the messages that are forwarded, in order.
        brief_before: the brief goes before `kept[brief_before]`.
        brief_tokens: what the brief's message may take; 0 means that none fits.
        kept_tokens: tokens of everything but the brief.
        trim_tokens: how much tool results among `kept` must lose for the whole to fit.
        lacking_tokens: what is missing even when they have lost all they can; 0 if the chat can be made to fit.
    """

    covers: int
    kept: tuple[int, ...]
    brief_before: int
    brief_tokens: int
    kept_tokens: int
    trim_tokens: int = 0
    lacking_tokens: int = 0


def plan_with_brief(
    facts: Sequence[MessageFacts], fixed_tokens: int, limits: FoldLimits, covers: int, brief_tokens: int
) -> FoldPlan | None:
    """How the chat looks with a brief that exists already; it may or may not fit. None if it would split a unit."""
    units = find_units(facts)
    pins = find_pins(facts, units, limits.first_user)
    if covers not in _unit_ends(facts, units):
        return None
    return _arrange(facts, fixed_tokens, pins, covers, brief_tokens)


def _unit_ends(facts: Sequence[MessageFacts], units: Sequence[Unit]) -> set[int]:
    ends = {0}
    foldable = 0
    for unit in units:
        foldable += sum(facts[index].is_foldable for index in range(unit.start, unit.end))
        ends.add(foldable)
    return ends


def plan_fold(facts: Sequence[MessageFacts], fixed_tokens: int, limits: FoldLimits, covered: int) -> FoldPlan:
    """Fold the oldest units so that the chat fits, with room to grow.

    Args:
        facts: the chat, which does not fit as it is.
        fixed_tokens: what the prompt costs beside its messages.
        limits: the budget.
        covered: how many foldable messages an existing brief stands for; never fewer are folded.

    Returns:
        The plan; it lacks tokens if pinned content alone does not fit even with its tool results trimmed.
    """
    units = find_units(facts)
    pins = find_pins(facts, units, limits.first_user)
    plan = _plan_with_pins(facts, fixed_tokens, limits, covered, units, pins)
    if plan.lacking_tokens and pins.first_user not in (None, pins.last_user):
        plan = _plan_with_pins(facts, fixed_tokens, limits, covered, units, pins._replace(first_user=None))
    return plan


def _plan_with_pins(
    facts: Sequence[MessageFacts],
    fixed_tokens: int,
    limits: FoldLimits,
    covered: int,
    units: Sequence[Unit],
    pins: Pins,
) -> FoldPlan:
    boundaries = _boundaries(facts, units, pins, covered)
    smallest = _arrange(facts, fixed_tokens, pins, boundaries[-1], 0)
    room = limits.prompt - smallest.kept_tokens
    brief_tokens = min(limits.brief, room) if smallest.covers else 0
    if brief_tokens < MIN_BRIEF_TOKENS:
        brief_tokens = 0
    floor = smallest.kept_tokens + brief_tokens + limits.recent
    target = min(limits.prompt, max(int(limits.target_ratio * limits.prompt), floor))
    low, high = 0, len(boundaries) - 1
    while low < high:  # what is kept shrinks with the boundary: the first one that meets the target keeps the most
        middle = (low + high) // 2
        if _arrange(facts, fixed_tokens, pins, boundaries[middle], 0).kept_tokens + brief_tokens <= target:
            high = middle
        else:
            low = middle + 1
    plan = _arrange(facts, fixed_tokens, pins, boundaries[low], brief_tokens)
    replaced = fixed_tokens + sum(fact.tokens for fact in facts) - plan.kept_tokens
    if plan.brief_tokens >= replaced:  # a brief must be smaller than what it stands for
        plan = replace(plan, brief_tokens=replaced - 1 if replaced > MIN_BRIEF_TOKENS else 0)
    excess = plan.kept_tokens + plan.brief_tokens - limits.prompt
    lacking = excess - _trimmable_tokens(facts, plan.kept)
    return replace(plan, trim_tokens=max(0, excess), lacking_tokens=max(0, lacking))


def _boundaries(facts: Sequence[MessageFacts], units: Sequence[Unit], pins: Pins, covered: int) -> list[int]:
    """How many foldable messages may be folded, at unit boundaries, ascending; never fewer than are covered."""
    newest_start = pins.newest.start if pins.newest else len(facts)
    boundaries = []
    foldable = 0
    for unit in units:
        if foldable >= covered:
            boundaries.append(foldable)
        if unit.start >= newest_start:
            break
        foldable += sum(facts[index].is_foldable for index in range(unit.start, unit.end))
    return boundaries or [foldable]


def _arrange(facts: Sequence[MessageFacts], fixed_tokens: int, pins: Pins, covers: int, brief_tokens: int) -> FoldPlan:
    """The messages that stay when the first `covers` foldable ones are folded, and where the brief goes.

    The brief stands right after the leading system messages; once the fold has passed the last user message (an open
    tool loop), right after that message, so that the work it records follows the request it serves.
    """
    kept: list[int] = []
    pinned_newest = range(pins.newest.start, pins.newest.end) if pins.newest else range(0)
    foldable = 0
    brief_before = 0
    is_leading = True
    for index, fact in enumerate(facts):
        if not fact.is_foldable:
            kept.append(index)
            brief_before = len(kept) if is_leading else brief_before
            continue
        is_leading = False
        foldable += 1
        is_pinned = index in (pins.first_user, pins.last_user) or index in pinned_newest
        if foldable > covers or is_pinned:
            kept.append(index)
        if index == pins.last_user and foldable < covers:
            brief_before = len(kept)
    kept_tokens = fixed_tokens + sum(facts[index].tokens for index in kept)
    return FoldPlan(covers, tuple(kept), brief_before, brief_tokens if covers else 0, kept_tokens)


def _trimmable_tokens(facts: Sequence[MessageFacts], kept: Sequence[int]) -> int:
    return sum(max(0, facts[index].tokens - MIN_TRIMMED_TOKENS) for index in kept if facts[index].is_tool_result)


def plan_trims(facts: Sequence[MessageFacts], kept: Sequence[int], trim_tokens: int) -> dict[int, int]:
    """Which tool results to shorten, and to how many tokens each: the largest first, levelled down together.

    Args:
        facts: the chat.
        kept: indices of forwarded messages.
        trim_tokens: what they must lose together.

    Returns:
        Tokens that remain, by message index; empty when nothing must go.
    """
    results = sorted((index for index in kept if facts[index].is_tool_result), key=lambda i: (-facts[i].tokens, i))
    level = max((facts[index].tokens for index in results), default=0)
    low, high = MIN_TRIMMED_TOKENS, level
    while low < high:  # the highest level at which they lose enough
        middle = (low + high + 1) // 2
        if sum(max(0, facts[index].tokens - middle) for index in results) >= trim_tokens:
            low = middle
        else:
            high = middle - 1
    return {index: low for index in results if facts[index].tokens > low} if trim_tokens > 0 else {}
