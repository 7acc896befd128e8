"""Is it worth compacting a chat that fits? Where the upstream has forgotten it, often: all of it must be paid anyway.

Nothing is made here: the compaction that could be made is guessed from its plan, and `economics` decides. What is
recalled is another text for each user's message, so it is charged in full for each: chats of questions and answers
with much recall are seldom worth it, agents at work often. A chat that this process has not forwarded to that upstream
before is left alone, since nobody can say whether its cache is warm.

Invariants, each with a test of its own:
  1. A chat of which nothing is known is never compacted early, unless its upstream caches nothing.
  2. A chat that is compacted early has paused for longer than its upstream caches, at the usual prices.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.context.brief import Brief
from gateway.core.context.economics import Offer, Situation, Verdict, decide_compaction, estimate_growth
from gateway.core.context.facts import MessageFacts
from gateway.core.context.plan import FoldPlan, can_shorten, least_tokens, plan_fold
from gateway.core.context.prices import ModelPrices, PriceTable
from gateway.exchange import SentMark
from gateway.fitting.draft import Chat, Draft
from gateway.ports import SentPrompts

LEAST_SHARE = 0.25
"""Of the prompt's limit: shorter chats are not looked at, since there is little to gain."""
_LOOK_BACK = 32
"""Messages that may have come since the request before: an answer, and the results of its calls."""
_GROWTH_REQUESTS = 12


class EarlyRule:
    """When to compact though nothing forces it.

    Args:
        sent: what was forwarded before.
        prices: by model.
        keep_value: worth of a verbatim token a request, as a share of the input price.
    """

    def __init__(self, sent: SentPrompts, prices: PriceTable, keep_value: float) -> None:
        self._sent = sent
        self._prices = prices
        self._keep_value = keep_value

    def gains(self, chat: Chat, applied: Brief | None, draft: Draft | None, *, pays_for_brief: bool) -> bool:
        """Whether compacting this chat now costs less than waiting.

        Args:
            chat: it fits.
            applied: the brief that it has, or None.
            draft: what is forwarded otherwise; None for the client's own bytes.
            pays_for_brief: a language model would write the brief.
        """
        prompt = draft.tokens if draft else chat.receipt.client_tokens
        route = chat.exchange.routes[0]
        prices = self._prices.prices_of(chat.request.model)
        if route.cache_s:
            cached = self._cached_tokens(chat, prompt)
            if cached is None:
                return False
        else:
            cached, prices = 0, prices.uncached()
        plan = _plan_of(chat, applied)
        if plan is None:
            return False
        growth, asking = _pace_of(chat.outline.facts)
        recalled = draft.recalled.tokens if draft and draft.recalled else 0
        situation = Situation(prompt, cached, chat.limits.prompt, growth, asking * recalled)
        fee = _fee(chat, applied, plan, prices) if pays_for_brief else 0.0
        stable, recalled = _tokens_of(chat, plan)
        offer = Offer(stable + recalled, _unchanged_tokens(chat, draft, plan), fee, asking * recalled)
        return decide_compaction(situation, offer, prices.prompt, self._keep_value) is Verdict.GAINS

    def _cached_tokens(self, chat: Chat, prompt_tokens: int) -> int | None:
        """How much of the prompt its upstream should still have cached; None where that cannot be known."""
        route, keys = chat.exchange.routes[0], _newest(chat.keys)
        found = self._sent.find(route.name, keys)
        if found is None:
            return None
        if found.idle_s > route.cache_s:
            return 0
        number = len(chat.keys) - 1 - found.place
        is_same_question = (chat.outline.last_user or 0) <= number
        return min(prompt_tokens, found.tokens if is_same_question else found.lasting_tokens)


def mark_of(chat: Chat, draft: Draft | None) -> SentMark:
    """By what the next request of this chat will recognise that this one was forwarded."""
    tokens = lasting = draft.tokens if draft else chat.receipt.client_tokens
    latest = chat.outline.last_user
    if draft and draft.recalled and latest is not None and latest > draft.plan.covers:
        # What is recalled stands before the user's message, and is another for the next one.
        lasting = draft.stable_tokens - draft.tokens_after(chat.outline, latest - 1)
    return SentMark(_newest(chat.keys), tokens, lasting)


def _newest(keys: Sequence[bytes]) -> tuple[bytes, ...]:
    """The names of the longest prefixes, that of the whole chat first."""
    return tuple(keys[: -_LOOK_BACK - 1 : -1])


def _plan_of(chat: Chat, applied: Brief | None) -> FoldPlan | None:
    """What a compaction would come to; None where there is nothing that it could do."""
    around = chat.plan_around(applied)
    if can_shorten(chat.limits, around):
        return around
    covered = applied.covers if applied else 0
    plan = plan_fold(chat.outline, chat.count.fixed_tokens, chat.limits, covered)
    return plan if plan.brief_tokens and plan.covers > covered and not plan.lacking_tokens else None


def _tokens_of(chat: Chat, plan: FoldPlan) -> tuple[int, int]:
    """The prompt after it, and beside it all that may be recalled."""
    stable = min(plan.kept_tokens + plan.brief_tokens, plan.goal_tokens)
    if not plan.covers:
        return stable, 0
    folded = sum(fact.tokens for fact in chat.count.facts) - (plan.kept_tokens - chat.count.fixed_tokens)
    room = min(chat.limits.prompt, chat.receipt.client_tokens - 1) - stable
    share = chat.limits.retrieved if chat.is_asking else plan.recall_tokens
    return stable, max(0, min(folded, room, share))


def _unchanged_tokens(chat: Chat, draft: Draft | None, plan: FoldPlan) -> int:
    """Of its beginning: tools, and the messages that stay as they are before the first one that does not.

    A brief is taken to change, though most are only added to.
    """
    facts = chat.count.facts
    before = draft.plan.kept[: draft.plan.brief_before] if draft and draft.plan.covers else range(len(facts))
    tokens = chat.count.fixed_tokens
    after = plan.kept[: plan.brief_before] if plan.covers else plan.kept
    for old, new in zip(before, after, strict=False):
        if old != new or (facts[new].is_foldable and least_tokens(facts[new]) < facts[new].tokens):
            break
        tokens += facts[new].tokens
    return tokens


def _fee(chat: Chat, applied: Brief | None, plan: FoldPlan, prices: ModelPrices) -> float:
    """About what a language model takes for the brief, at the prices of the request's own model."""
    covered = applied.covers if applied else 0
    if plan.covers <= covered:
        return 0.0
    before = chat.outline.tokens_before
    read = before[plan.covers] - before[covered] + (applied.tokens if applied else 0)
    return prices.prompt.input * read + prices.output * plan.brief_tokens


def _pace_of(facts: Sequence[MessageFacts]) -> tuple[int, float]:
    """By how much its requests grow, and how many of them ask something new, by its newest ones."""
    tokens = requests = users = 0
    for fact in reversed(facts):
        if not fact.is_foldable:
            continue
        tokens += fact.tokens
        users += fact.role == "user"
        requests += fact.role == "assistant"
        if requests == _GROWTH_REQUESTS:
            break
    return estimate_growth(tokens, requests), min(1.0, users / max(1, requests))
