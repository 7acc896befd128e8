"""Plans: what stays, what is folded, what must be shortened."""

from __future__ import annotations

import time
from collections.abc import Callable

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.context.facts import MessageFacts
from gateway.core.context.plan import (
    GATHERED_TOKENS,
    LEAST_RESULT_TOKENS,
    MIN_BRIEF_TOKENS,
    FoldLimits,
    FoldPlan,
    can_shorten,
    gathered_tokens,
    least_tokens,
    plan_around,
    plan_fold,
    plan_with_brief,
)
from gateway.core.context.units import Outline, outline_of

FIXED = 7
Chat = list[MessageFacts]


def fact(role: str, tokens: int, *calls: str, answers: str | None = None) -> MessageFacts:
    return MessageFacts(role, tokens, b"", calls, answers)


sizes = st.one_of(st.integers(4, 25), st.integers(4, 60), st.integers(4, 400), st.integers(4, 3000))
rounds = st.lists(sizes, min_size=2, max_size=4).map(
    lambda tokens: [
        fact("assistant", tokens[0], *(f"c{place}" for place in range(len(tokens) - 1))),
        *(fact("tool", size, answers=f"c{place}") for place, size in enumerate(tokens[1:])),
    ]
)
atoms = st.one_of(
    st.builds(lambda size: [fact("user", size)], sizes),
    st.builds(lambda user, said: [fact("user", user), fact("assistant", said)], sizes, sizes),
    rounds,
    st.lists(rounds, min_size=2, max_size=6).map(lambda found: [each for one in found for each in one]),
    st.builds(lambda size: [fact("system", size)], st.integers(4, 60)),
)
chats = st.builds(
    lambda first, rest: [*first, *(each for atom in rest for each in atom)],
    st.lists(st.builds(fact, st.just("system"), st.integers(4, 200)), max_size=2),
    st.lists(atoms, min_size=1, max_size=12),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Chat, FoldLimits]:
    """A chat and a budget, often just around what of it cannot be folded."""
    chat = draw(chats)
    outline = outline_of(chat)
    pinned = plan_with_brief(outline, FIXED, outline.boundaries[-1], (), 0).kept_tokens
    prompt = st.one_of(st.integers(0, 9000), st.integers(pinned - 60, pinned + 300), st.integers(pinned, pinned + 3000))
    return chat, FoldLimits(
        prompt=draw(prompt),
        brief=draw(st.sampled_from([100, 400, 1200, 96, 0])),
        recent=draw(st.sampled_from([50, 450, 0])),
        first_user=draw(st.sampled_from([50, 500, 0])),
        target_ratio=draw(st.sampled_from([0.3, 0.5, 0.05, 0.9, 1.0])),
    )


many = settings(max_examples=200, deadline=None)


def total_of(chat: Chat) -> int:
    return FIXED + sum(each.tokens for each in chat)


def kept_at(chat: Chat, plan: FoldPlan, tokens_of: Callable[[MessageFacts], int]) -> int:
    """What stays takes, by a rule for each message."""
    return FIXED + sum(tokens_of(chat[index]) for index in plan.kept)


def folds(chat: Chat, limits: FoldLimits) -> tuple[Outline, list[FoldPlan]]:
    """The plan of a chat that has no brief, and of one that has one at each boundary."""
    outline = outline_of(chat)
    return outline, [plan_fold(outline, FIXED, limits, covered) for covered in outline.boundaries]


@many
@given(case=cases())
def test_it_fits_once_long_messages_are_shortened_or_says_what_lacks(case: tuple[Chat, FoldLimits]) -> None:
    """kept + brief, less what messages can lose, is at most the limit; else `lacking_tokens` is exactly the rest."""
    chat, limits = case
    for plan in folds(chat, limits)[1]:
        over = kept_at(chat, plan, least_tokens) + plan.brief_tokens - limits.prompt

        assert plan.kept_tokens == FIXED + sum(chat[index].tokens for index in plan.kept)
        assert plan.lacking_tokens == max(0, over)
        assert not plan.lacking_tokens or plan.brief_tokens == 0


@many
@given(case=cases())
@example(
    (
        [fact("system", 20), *(fact("user", size) for size in (154, 21, 21, 21, 54))],
        FoldLimits(prompt=181, brief=100, recent=50, first_user=0, target_ratio=0.3),
    )
)
def test_only_pinned_content_can_lack(case: tuple[Chat, FoldLimits]) -> None:
    """A plan lacks tokens only where system messages, the last user message and the newest unit do not fit."""
    chat, limits = case
    outline, plans = folds(chat, limits)
    deepest = plan_with_brief(outline, FIXED, outline.boundaries[-1], (), 0)
    least = kept_at(chat, deepest, least_tokens)

    assert [plan.lacking_tokens for plan in plans] == [max(0, least - limits.prompt)] * len(plans)


@many
@given(case=cases())
def test_units_stay_whole_and_pinned_messages_stay(case: tuple[Chat, FoldLimits]) -> None:
    """What is folded is a prefix that ends at a boundary, less the pinned; order is the client's."""
    chat, limits = case
    outline, plans = folds(chat, limits)
    for plan in plans:
        covered = {outline.places[number - 1] for number in range(1, plan.covers + 1)}
        pinned = {outline.places[number - 1] for number in plan.pinned}

        assert plan.covers in outline.boundaries
        assert list(plan.kept) == sorted(set(range(len(chat))) - covered | pinned)
        assert pinned <= covered
        assert all(chat[index].role == "user" for index in pinned)
        assert outline.last_user is None or outline.places[outline.last_user - 1] in plan.kept


@many
@given(case=cases())
def test_the_brief_stands_where_the_fold_ends(case: tuple[Chat, FoldLimits]) -> None:
    """Before it all that is kept of what was folded, and system messages among it; after it the first that stays."""
    chat, limits = case
    outline, plans = folds(chat, limits)
    for plan in plans:
        if plan.covers < len(outline.places):
            assert plan.kept[plan.brief_before] == outline.places[plan.covers]


@many
@given(case=cases())
def test_a_brief_is_smaller_than_what_it_replaces(case: tuple[Chat, FoldLimits]) -> None:
    """No brief is made that costs as much as the messages it stands for, nor one too small to say anything."""
    chat, limits = case
    for plan in folds(chat, limits)[1]:
        assert plan.brief_tokens == 0 or MIN_BRIEF_TOKENS <= plan.brief_tokens <= limits.brief
        assert plan.brief_tokens == 0 or plan.kept_tokens + plan.brief_tokens < total_of(chat)


@many
@given(case=cases())
def test_more_is_folded_wherever_there_is_more(case: tuple[Chat, FoldLimits]) -> None:
    """A brief that exists is built upon: the next plan covers more, unless all that may be folded is folded."""
    chat, limits = case
    outline, plans = folds(chat, limits)
    for covered, plan in zip(outline.boundaries, plans, strict=True):
        assert plan.covers > covered or plan.covers == covered == outline.boundaries[-1]


@many
@given(case=cases())
@example(
    (
        [fact("user", 10), fact("assistant", 800), fact("assistant", 10, "c"), fact("tool", 700, answers="c")],
        FoldLimits(prompt=1000, brief=1200, recent=0, first_user=50, target_ratio=0.5),
    )
)
def test_no_more_is_shortened_than_gathering_reckons_with(case: tuple[Chat, FoldLimits]) -> None:
    """Messages must lose more only where what stays at the deepest fold leaves no room for the smallest brief."""
    chat, limits = case
    outline, plans = folds(chat, limits)
    for plan in plans:
        deepest = plan_with_brief(outline, FIXED, outline.boundaries[-1], plan.pinned, 0)
        room = limits.prompt - kept_at(chat, deepest, gathered_tokens)

        assert kept_at(chat, plan, gathered_tokens) + plan.brief_tokens <= limits.prompt or room < MIN_BRIEF_TOKENS
        assert plan.goal_tokens + plan.recall_tokens <= max(limits.prompt, plan.kept_tokens)


@many
@given(case=cases())
def test_no_more_is_folded_than_the_target_asks_for(case: tuple[Chat, FoldLimits]) -> None:
    """One unit less, and the prompt would be above the target, or there would be nothing new to fold."""
    chat, limits = case
    outline, plans = folds(chat, limits)
    for covered, plan in zip(outline.boundaries, plans, strict=True):
        shallower = [boundary for boundary in outline.boundaries if covered < boundary < plan.covers]
        if shallower and plan.brief_tokens == limits.brief > 0:
            less = plan_with_brief(outline, FIXED, shallower[-1], plan.pinned, 0)
            gathered = kept_at(chat, less, gathered_tokens)
            assert gathered + plan.brief_tokens > int(limits.target_ratio * limits.prompt)


def test_a_first_user_message_is_pinned_up_to_its_cap() -> None:
    """The task stays beside the brief unless it is a book."""
    limits = FoldLimits(prompt=1000, brief=200, recent=0, first_user=100, target_ratio=0.5)

    def pinned(first_tokens: int) -> tuple[int, ...]:
        chat = [fact("user", first_tokens), *[fact("assistant", 150)] * 8, fact("user", 20)]
        return plan_fold(outline_of(chat), FIXED, limits, 0).pinned

    assert pinned(100) == (1,)
    assert pinned(101) == ()


def test_a_first_user_message_that_cannot_stay_goes() -> None:
    """Where the rest fits only without it, the first user message is folded like any other."""
    limits = FoldLimits(prompt=1000, brief=200, recent=0, first_user=250, target_ratio=0.5)
    chat = [fact("user", 240), fact("assistant", 300), fact("user", 900)]
    plan = plan_fold(outline_of(chat), FIXED, limits, 0)

    assert (plan.pinned, plan.lacking_tokens, plan.kept) == ((), 0, (2,))


def test_an_applied_brief_keeps_its_place_and_its_pins() -> None:
    """What was pinned when a brief was made stays beside it, whoever is the last user now."""
    chat = [fact("system", 5), *[fact("user", 10), fact("assistant", 10)] * 4, fact("user", 10)]
    plan = plan_with_brief(outline_of(chat), FIXED, 4, (1, 3), 50)

    assert plan.kept == (0, 1, 3, 5, 6, 7, 8, 9)
    assert plan.brief_before == 3
    assert plan.kept_tokens == FIXED + 5 + 7 * 10


@given(tokens=st.integers(1, 9000), calls=st.integers(1, 5))
def test_only_results_and_calls_are_shortened(tokens: int, calls: int) -> None:
    """A result comes down to its least, a call to something for each of its parts; what others say stays."""
    ids = [f"c{place}" for place in range(calls)]

    assert least_tokens(fact("tool", tokens, answers="c")) == min(tokens, LEAST_RESULT_TOKENS)
    assert gathered_tokens(fact("tool", tokens, answers="c")) == min(tokens, GATHERED_TOKENS)
    assert min(tokens, 200) <= least_tokens(fact("assistant", tokens, *ids)) <= tokens
    assert [least_tokens(fact(role, tokens)) for role in ("system", "user", "assistant")] == [tokens] * 3


TASK = [fact("system", 50), fact("user", 100)]
LIMITS = FoldLimits(prompt=7000, brief=1200, recent=450, first_user=1750, target_ratio=0.5, retrieved=3750)


def steps(count: int, tokens: int) -> Chat:
    """So many steps of an agent, each with a result of this size."""
    rounds = [[fact("assistant", 30, f"c{step}"), fact("tool", tokens, answers=f"c{step}")] for step in range(count)]
    return [each for one in rounds for each in one]


def test_where_long_results_are_all_the_trouble_they_are_shortened_and_nothing_folded() -> None:
    """The first rung: few steps with long results; many steps are folded instead."""
    few = plan_around(outline_of([*TASK, *steps(2, 8000)]), FIXED, LIMITS, 0, (), 0)
    many = plan_around(outline_of([*TASK, *steps(40, 400)]), FIXED, LIMITS, 0, (), 0)

    assert can_shorten(LIMITS, few)
    assert not can_shorten(LIMITS, many)
    assert few.goal_tokens == 3500


def test_for_a_question_little_is_kept_and_for_a_task_the_newest_steps() -> None:
    """What is asked for is recalled; an agent goes on from its newest steps, and something is recalled beside them."""
    history = [fact("assistant" if place % 2 else "user", 100) for place in range(1, 200)]
    asked = plan_fold(outline_of([*history, fact("user", 20)]), FIXED, LIMITS, 0)
    working = plan_fold(outline_of([*TASK, *steps(40, 400)]), FIXED, LIMITS, 0)

    assert asked.kept_tokens < 20 + 450 + 2 * 100 + FIXED
    assert asked.recall_tokens == 0
    assert 1200 < working.kept_tokens <= 3500
    assert 0 < working.recall_tokens <= 800
    assert working.goal_tokens + working.recall_tokens == 3500


def test_a_thousand_messages_are_planned_in_milliseconds() -> None:
    """Printed, not asserted: the time depends on the machine."""
    chat = [fact("system", 50)]
    for turn in range(250):
        chat += [fact("user", 40), fact("assistant", 20, f"c{turn}"), fact("tool", 200, answers=f"c{turn}")]
        chat += [fact("assistant", 120)]
    limits = FoldLimits(prompt=7000, brief=1200, recent=450, first_user=1750, target_ratio=0.5)
    started = time.perf_counter()
    for _ in range(20):
        plan = plan_fold(outline_of(chat), FIXED, limits, 0)
    print(f"\nplan of {len(chat)} messages, outline and fold: {(time.perf_counter() - started) / 20 * 1e3:.2f} ms")

    assert plan.lacking_tokens == 0
