"""Does a chat fit, and if not: what stays, what is folded, what must be shortened?

Pure arithmetic over message facts. The plan says how much the brief and what is recalled may take; whoever makes them
must keep to that, and then the whole fits once what may be shortened has lost what `goal_tokens` says.

The folded messages are a prefix of the foldable ones, less a few that stay beside the brief (`pinned`: the first and
the last user message). The brief stands where the folded messages stood: before the first foldable message that it
does not cover. A stored brief remembers what was pinned beside it, so the prompt's prefix does not change between
compactions, whatever the next user message or the next request's limits are.

Where a user's message waits for its answer, little more than the newest turns is kept, because what that message
needs of the rest is recalled for it. In the middle of an agent's task the newest steps are kept up to the target.

Invariants, each with a test of its own:
  1. kept + brief + recalled <= limit once long results are shortened, or the plan says what lacks even then.
  2. No unit is split; pinned messages are always kept; order is the client's.
  3. A brief covers a prefix of the foldable messages, never the newest unit, and is smaller than what it replaces.
  4. Folding is deeper than the target asks for only where pinned content leaves no room.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

from gateway.core.context.facts import MessageFacts
from gateway.core.context.units import Outline

MIN_BRIEF_TOKENS = 96
"""Below this a brief says nothing beyond its own frame, and none is made."""
LEAST_RESULT_TOKENS = 48
"""A tool result is not shortened below this."""
LEAST_PART_TOKENS = 200
"""What an assistant said, and the arguments of one call, are not shortened below this."""
_CALL_TOKENS = 30
"""About what a call takes beside its arguments."""
GATHERED_TOKENS = 1000
"""What a long result is taken to need when units are gathered: fewer units that say something, not many stubs."""
_RECALL_SHARE = 0.35
"""Of what the target leaves beside pinned content and brief, what is recalled in the middle of an agent's task."""
_MIN_GAIN = 0.1
"""Of the limit: shortening alone must free this much, or units are folded."""


@dataclass(frozen=True, slots=True)
class FoldLimits:
    """The numbers that folding obeys, all in tokens.

    Attributes:
        prompt: what the whole prompt may take.
        brief: the running brief's share.
        recent: the share of recent turns that is kept verbatim where it fits.
        first_user: a first user message above this is not pinned.
        target_ratio: of `prompt`, what a fresh compaction aims at, so that the next one is many turns away.
        retrieved: the share of what is recalled; 0 where nothing is.
        fills: what is left beside the other shares is for recall, too.
    """

    prompt: int
    brief: int
    recent: int
    first_user: int
    target_ratio: float
    retrieved: int = 0
    fills: bool = True


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """How a chat is to be forwarded.

    Attributes:
        covers: how many foldable messages are folded, those in `pinned` excepted.
        pinned: numbers of covered messages that are forwarded all the same.
        kept: indices of the messages that are forwarded, in order.
        brief_before: the brief goes before `kept[brief_before]`.
        brief_tokens: what the brief's message may take; 0 means that there is none.
        kept_tokens: tokens of everything but the brief, before anything is shortened.
        goal_tokens: what kept messages and brief are to take together once long ones are shortened.
        recall_tokens: what may be recalled beside the brief, in the middle of an agent's task.
        lacking_tokens: what is missing even when they have lost all they can; 0 if the chat can be made to fit.
    """

    covers: int
    pinned: tuple[int, ...]
    kept: tuple[int, ...]
    brief_before: int
    brief_tokens: int
    kept_tokens: int
    goal_tokens: int = 0
    recall_tokens: int = 0
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


def plan_around(
    outline: Outline, fixed_tokens: int, limits: FoldLimits, covers: int, pinned: Sequence[int], brief_tokens: int
) -> FoldPlan:
    """The same as a compaction: what its long messages must lose beside that brief.

    Args:
        outline: the chat; `covers` is one of its boundaries.
        fixed_tokens: what the prompt costs beside its messages.
        limits: the budget.
        covers: how many foldable messages the brief stands for; 0 where there is none.
        pinned: numbers of covered messages that were pinned when it was made.
        brief_tokens: what its message costs.

    Returns:
        The plan; it lacks tokens if that is not enough.
    """
    plan = plan_with_brief(outline, fixed_tokens, covers, pinned, brief_tokens)
    sizes = _Sizes(outline, fixed_tokens, plan.pinned, covers)
    least = _shares(outline, limits, sizes, outline.boundaries[-1])[1]
    target = max(least, int(limits.target_ratio * limits.prompt))
    return _aimed(plan, outline, sizes, limits, target)


def plan_fold(outline: Outline, fixed_tokens: int, limits: FoldLimits, covered: int) -> FoldPlan:
    """Fold the oldest units so that the chat fits, with room to grow.

    Args:
        outline: the chat, which does not fit as it is, or not with the brief that it has.
        fixed_tokens: what the prompt costs beside its messages.
        limits: the budget.
        covered: how many foldable messages that brief stands for, one of the outline's boundaries; 0 for none. More
            are folded wherever that is possible.

    Returns:
        The plan; it lacks tokens if pinned content alone does not fit even with long results shortened.
    """
    first, last = outline.first_user, outline.last_user
    pins = [] if last is None else [last]
    if first is not None and first != last and outline.tokens_of(first) <= limits.first_user:
        plan = _plan_with_pins(outline, fixed_tokens, limits, covered, [first, *pins])
        if not plan.lacking_tokens:
            return plan
    return _plan_with_pins(outline, fixed_tokens, limits, covered, pins)


def can_shorten(limits: FoldLimits, plan: FoldPlan) -> bool:
    """Whether shortening alone, with the brief that there is, makes room enough for some turns to come.

    Args:
        limits: the budget.
        plan: of `plan_around` with that brief.
    """
    gain = plan.kept_tokens + plan.brief_tokens - plan.goal_tokens
    is_at_target = plan.goal_tokens + plan.recall_tokens < limits.prompt
    return is_at_target and gain >= _MIN_GAIN * limits.prompt and not plan.lacking_tokens


def _plan_with_pins(
    outline: Outline, fixed_tokens: int, limits: FoldLimits, covered: int, pins: Sequence[int]
) -> FoldPlan:
    sizes = _Sizes(outline, fixed_tokens, pins, covered)
    places = outline.boundaries_after(covered) or [covered]
    brief_tokens, target = _shares(outline, limits, sizes, places[-1])
    # What is kept shrinks with every unit folded: the first place that meets the target keeps the most.
    goal = target - _recall_tokens(outline, limits, target - sizes.pinned_tokens - brief_tokens)
    found = bisect_left(places, True, key=lambda covers: sizes.gathered(covers) + brief_tokens <= goal)
    covers = places[min(found, len(places) - 1)]
    replaced = sizes.whole(0) - sizes.whole(covers)
    brief_tokens = min(brief_tokens, replaced - 1)
    if brief_tokens < MIN_BRIEF_TOKENS:
        brief_tokens = 0
        covers = next(
            (place for place in places if place >= covers and _begins_with_user(outline, place, pins)), covers
        )
    plan = _arrange(outline, fixed_tokens, covers, [pin for pin in pins if pin <= covers], brief_tokens)
    return _aimed(plan, outline, sizes, limits, target)


def _begins_with_user(outline: Outline, covers: int, pins: Sequence[int]) -> bool:
    """Whether a user's message comes first where nothing stands for what was folded: some templates want one."""
    stays = outline.places[covers : covers + 1]
    return any(pin <= covers for pin in pins) or any(outline.facts[index].role == "user" for index in stays)


def _is_in_task(outline: Outline) -> bool:
    """Whether the chat ends with a tool's result: an agent is in the middle of something."""
    return bool(outline.places) and outline.facts[outline.places[-1]].is_tool_result


def _recall_tokens(outline: Outline, limits: FoldLimits, room_tokens: int) -> int:
    """What may be recalled beside a brief: something in the middle of a task; a user's message has its own."""
    return max(0, min(limits.retrieved, int(room_tokens * _RECALL_SHARE))) if _is_in_task(outline) else 0


def _aimed(plan: FoldPlan, outline: Outline, sizes: _Sizes, limits: FoldLimits, target: int) -> FoldPlan:
    """The plan with what its messages are to lose."""
    used = sizes.gathered(plan.covers) + plan.brief_tokens
    whole = target if used <= target else limits.prompt
    room = whole - sizes.pinned_tokens - plan.brief_tokens
    recall = _recall_tokens(outline, limits, room) if plan.covers else 0
    lacking = max(0, sizes.least(plan.covers) + plan.brief_tokens - limits.prompt)
    return replace(plan, goal_tokens=whole - recall, recall_tokens=recall, lacking_tokens=lacking)


class _Sizes:
    """What stays of a chat takes, by how many foldable messages are folded.

    Args:
        outline: the chat.
        fixed_tokens: what the prompt costs beside its messages.
        pins: numbers of messages that stay though they are folded.
        since: what is shortened is asked of no fewer: what a brief stands for already costs nothing here.
    """

    def __init__(self, outline: Outline, fixed_tokens: int, pins: Sequence[int], since: int) -> None:
        self._outline = outline
        self._since = since
        self._always = fixed_tokens + sum(outline.facts[index].tokens for index in outline.fixed)
        self._pins = [(pin, outline.tokens_of(pin)) for pin in pins]
        self._gathered = _sums_after(outline, since, gathered_tokens)
        self._least = _sums_after(outline, since, least_tokens)
        self.pinned_tokens = self._always + sum(tokens for _, tokens in self._pins)

    def whole(self, covers: int) -> int:
        """As it is."""
        return self._stays(covers) + self._outline.tokens_after(covers)

    def gathered(self, covers: int) -> int:
        """With long results as short as they may well be."""
        return self._stays(covers) + self._gathered[covers - self._since]

    def least(self, covers: int) -> int:
        """With everything as short as can be."""
        return self._stays(covers) + self._least[covers - self._since]

    def _stays(self, covers: int) -> int:
        return self._always + sum(tokens for pin, tokens in self._pins if pin <= covers)


def _sums_after(outline: Outline, since: int, tokens_of: Callable[[MessageFacts], int]) -> list[int]:
    """Tokens of the foldable messages numbered above `since`, above the next, and so on."""
    facts, places = outline.facts, outline.places[since:]
    tokens = [tokens_of(facts[index]) for index in places]
    last = outline.last_user
    if last is not None and last > since:  # it is forwarded as it is
        tokens[last - since - 1] = facts[places[last - since - 1]].tokens
    return list(accumulate(reversed(tokens), initial=0))[::-1]


def least_tokens(
    fact: MessageFacts, part_tokens: int = LEAST_PART_TOKENS, result_tokens: int = LEAST_RESULT_TOKENS
) -> int:
    """About what a message takes at least, shortened as far as it may be; exact for results."""
    if fact.is_tool_result:
        return min(fact.tokens, result_tokens)
    if fact.role == "assistant" and fact.calls:
        return min(fact.tokens, part_tokens + (part_tokens + _CALL_TOKENS) * len(fact.calls))
    return fact.tokens - fact.spare_tokens


gathered_tokens = partial(least_tokens, part_tokens=GATHERED_TOKENS, result_tokens=GATHERED_TOKENS)


def _shares(outline: Outline, limits: FoldLimits, sizes: _Sizes, deepest: int) -> tuple[int, int]:
    """What the brief may take, and what the compacted prompt should take at most.

    Of the room that pinned content leaves, the brief has about a half at most and recent turns at most half of the
    rest, so that the next compaction is some turns away even where the room is small.
    """
    pinned = sizes.gathered(deepest)
    if limits.prompt - pinned < MIN_BRIEF_TOKENS:
        pinned = sizes.least(deepest)
    room = limits.prompt - pinned
    brief = min(limits.brief, max(room // 2, MIN_BRIEF_TOKENS)) if room >= MIN_BRIEF_TOKENS else 0
    recent = min(limits.recent, max(0, limits.prompt - pinned - brief) // 2)
    least = pinned + brief + recent
    is_recalling = limits.retrieved > 0 and not _is_in_task(outline)
    return brief, least if is_recalling else max(least, int(limits.target_ratio * limits.prompt))


def _arrange(outline: Outline, fixed_tokens: int, covers: int, pinned: Sequence[int], brief_tokens: int) -> FoldPlan:
    """The messages that stay when the first `covers` foldable ones are folded, and where the brief goes."""
    facts, places = outline.facts, outline.places
    start = places[covers] if covers < len(places) else len(facts)
    stay = {places[number - 1] for number in pinned} | set(outline.fixed)
    kept = (*sorted(index for index in stay if index < start), *range(start, len(facts)))
    before = bisect_left(kept, places[covers]) if covers < len(places) else len(kept)
    kept_tokens = fixed_tokens + sum(facts[index].tokens for index in kept)
    return FoldPlan(covers, tuple(pinned), kept, before, brief_tokens, kept_tokens)
