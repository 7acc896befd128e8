"""Does a chat fit, and if not: what stays, what is folded, what must be shortened?

Pure arithmetic over message facts. The plan says how much the brief may take; whoever makes it must keep to that,
and then the whole fits once tool results have lost what `plan_trims` says.

The folded messages are a prefix of the foldable ones, less a few that stay beside the brief (`pinned`: the first and
the last user message). The brief stands where the folded messages stood: before the first foldable message that it
does not cover. A stored brief remembers what was pinned beside it, so the prompt's prefix does not change between
compactions, whatever the next user message or the next request's limits are.

Invariants, each with a test of its own:
  1. kept + brief <= limit once tool results are trimmed, or the plan says what lacks even then.
  2. No unit is split; pinned messages are always kept; order is the client's.
  3. A brief covers a prefix of the foldable messages, never the newest unit, and is smaller than what it replaces.
  4. Tool results are trimmed only where pinned content leaves no room for the smallest brief.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.core.context.facts import MessageFacts
from gateway.core.context.units import Outline

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
        covers: how many foldable messages are folded, those in `pinned` excepted.
        pinned: numbers of covered messages that are forwarded all the same.
        kept: indices of the messages that are forwarded, in order.
        brief_before: the brief goes before `kept[brief_before]`.
        brief_tokens: what the brief's message may take; 0 means that there is none.
        kept_tokens: tokens of everything but the brief, before tool results are trimmed.
        lacking_tokens: what is missing even when they have lost all they can; 0 if the chat can be made to fit.
    """

    covers: int
    pinned: tuple[int, ...]
    kept: tuple[int, ...]
    brief_before: int
    brief_tokens: int
    kept_tokens: int
    lacking_tokens: int = 0


def plan_with_brief(
    outline: Outline, fixed_tokens: int, covers: int, pinned: Sequence[int], brief_tokens: int
) -> FoldPlan:
    """How the chat looks with a brief that exists already; it may or may not fit.

    Args:
        outline: the chat; `covers` is one of its boundaries.
        fixed_tokens: what the prompt costs beside its messages.
        covers: how many foldable messages the brief stands for.
        pinned: numbers of covered messages that were pinned when it was made.
        brief_tokens: what its message costs.
    """
    last = outline.last_user
    stay = {*pinned, last} if last is not None and last <= covers else set(pinned)
    return _arrange(outline, fixed_tokens, covers, sorted(stay), brief_tokens)


def plan_fold(outline: Outline, fixed_tokens: int, limits: FoldLimits, covered: int) -> FoldPlan:
    """Fold the oldest units so that the chat fits, with room to grow.

    Args:
        outline: the chat, which does not fit as it is, or not with the brief that it has.
        fixed_tokens: what the prompt costs beside its messages.
        limits: the budget.
        covered: how many foldable messages that brief stands for, one of the outline's boundaries; 0 for none. More
            are folded wherever that is possible.

    Returns:
        The plan; it lacks tokens if pinned content alone does not fit even with its tool results trimmed.
    """
    first, last = outline.first_user, outline.last_user
    pins = [] if last is None else [last]
    if first is not None and first != last and outline.tokens_of(first) <= limits.first_user:
        plan = _plan_with_pins(outline, fixed_tokens, limits, covered, [first, *pins])
        if not plan.lacking_tokens:
            return plan
    return _plan_with_pins(outline, fixed_tokens, limits, covered, pins)


def _plan_with_pins(
    outline: Outline, fixed_tokens: int, limits: FoldLimits, covered: int, pins: Sequence[int]
) -> FoldPlan:
    always = fixed_tokens + sum(fact.tokens for fact in outline.facts if not fact.is_foldable)

    def tokens_kept(covers: int) -> int:
        return always + outline.tokens_after[covers] + sum(outline.tokens_of(pin) for pin in pins if pin <= covers)

    places = outline.boundaries_after(covered) or [covered]
    deepest = places[-1]
    brief_tokens, target = _shares(limits, tokens_kept(deepest), _trimmable_tokens(outline, deepest))
    # What is kept shrinks with every unit folded: the first place that meets the target keeps the most.
    found = bisect_left(places, True, key=lambda covers: tokens_kept(covers) + brief_tokens <= target)
    covers = places[min(found, len(places) - 1)]
    replaced = tokens_kept(0) - tokens_kept(covers)
    brief_tokens = min(brief_tokens, replaced - 1)
    if brief_tokens < MIN_BRIEF_TOKENS:
        brief_tokens = 0
    plan = _arrange(outline, fixed_tokens, covers, [pin for pin in pins if pin <= covers], brief_tokens)
    lacking = plan.kept_tokens + brief_tokens - _trimmable_tokens(outline, covers) - limits.prompt
    return replace(plan, lacking_tokens=max(0, lacking))


def _shares(limits: FoldLimits, pinned_tokens: int, trimmable_tokens: int) -> tuple[int, int]:
    """What the brief may take, and what the compacted prompt should take at most.

    Of the room that pinned content leaves, the brief has about a half at most and recent turns at most half of the
    rest, so that the next compaction is some turns away even where the room is small.
    """
    room = limits.prompt - pinned_tokens
    if room < MIN_BRIEF_TOKENS:
        room += trimmable_tokens
    brief = min(limits.brief, max(room // 2, MIN_BRIEF_TOKENS)) if room >= MIN_BRIEF_TOKENS else 0
    recent = min(limits.recent, max(0, limits.prompt - pinned_tokens - brief) // 2)
    return brief, max(pinned_tokens + brief + recent, int(limits.target_ratio * limits.prompt))


def _arrange(outline: Outline, fixed_tokens: int, covers: int, pinned: Sequence[int], brief_tokens: int) -> FoldPlan:
    """The messages that stay when the first `covers` foldable ones are folded, and where the brief goes."""
    facts, places = outline.facts, outline.places
    folded = set(places[:covers]) - {places[number - 1] for number in pinned}
    kept = tuple(index for index in range(len(facts)) if index not in folded)
    before = bisect_left(kept, places[covers]) if covers < len(places) else len(kept)
    kept_tokens = fixed_tokens + sum(facts[index].tokens for index in kept)
    return FoldPlan(covers, tuple(pinned), kept, before, brief_tokens, kept_tokens)


def _trimmable_tokens(outline: Outline, covers: int) -> int:
    """What the tool results after the fold can lose; pinned messages before it are no tool results."""
    results = (outline.facts[index] for index in outline.places[covers:] if outline.facts[index].is_tool_result)
    return sum(max(0, fact.tokens - MIN_TRIMMED_TOKENS) for fact in results)


def plan_trims(facts: Sequence[MessageFacts], kept: Sequence[int], trim_tokens: int) -> dict[int, int]:
    """Which tool results to shorten, and to how many tokens each: the largest first, levelled down together.

    Args:
        facts: the chat.
        kept: indices of forwarded messages.
        trim_tokens: what they must lose together.

    Returns:
        Tokens that remain, by message index; empty when nothing must go.
    """
    if trim_tokens <= 0:
        return {}
    costs = {index: facts[index].tokens for index in kept if facts[index].is_tool_result}
    low, high = MIN_TRIMMED_TOKENS, max(costs.values(), default=MIN_TRIMMED_TOKENS)
    while low < high:  # the highest level at which they lose enough
        middle = (low + high + 1) // 2
        if sum(max(0, tokens - middle) for tokens in costs.values()) >= trim_tokens:
            low = middle
        else:
            high = middle - 1
    return {index: low for index, tokens in costs.items() if tokens > low}
