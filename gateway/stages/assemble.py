"""Stage 5: does it fit the budget? If not, fold the oldest turns into the running brief.

What is forwarded fits `max_total` by our count, or the request is refused with numbers. A request that fits, and has
no applied brief, keeps the client's own bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gateway.core.context.brief import Brief, FoldJob, Level, render_brief
from gateway.core.context.budget import Budget, BudgetTable, OnUnfittable
from gateway.core.context.extractive import Turn
from gateway.core.context.facts import chain_digests
from gateway.core.context.plan import FoldLimits, FoldPlan, plan_fold, plan_trims, plan_with_brief
from gateway.core.context.render import array_of, join_brief, place_brief, trimmed_message, turn_of
from gateway.core.errors import context_length_exceeded
from gateway.core.routing.routes import Roles
from gateway.core.tokens.weight import weigh_message
from gateway.core.wire.body import Edit, splice
from gateway.core.wire.message import encode_message, parse_message
from gateway.core.wire.request import Endpoint, MeteredRequest
from gateway.exchange import Count, Exchange, Receipt
from gateway.ports import BriefMaker, BriefStore, TextCounter

FIRST_USER_SHARE = 0.25
"""Of the prompt's limit: a first user message above this is folded like any other."""


@dataclass(frozen=True, slots=True)
class CompactionOptions:
    """How compaction behaves.

    Attributes:
        is_enabled: else requests that do not fit are refused (or forwarded, by `on_unfittable`).
        is_shadow: plan and record, and forward the client's own bytes.
        target_ratio: of the prompt's limit, what a fresh compaction aims at.
        fingerprint: of the settings that shape a brief's text.
    """

    is_enabled: bool
    is_shadow: bool
    target_ratio: float
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class _Chat:
    """A chat on its way through this stage."""

    exchange: Exchange
    request: MeteredRequest
    count: Count
    limits: FoldLimits
    receipt: Receipt
    scope: bytes
    chain: Sequence[bytes]


class AssembleStage:
    """Writes `receipt`, and `prompt` where the client's body is not forwarded as it is.

    Args:
        budgets: by model.
        options: of compaction.
        store: briefs.
        maker: of briefs.
        counter: tokenizers.
    """

    def __init__(
        self,
        budgets: BudgetTable,
        options: CompactionOptions,
        store: BriefStore,
        maker: BriefMaker,
        counter: TextCounter,
    ) -> None:
        self._budgets = budgets
        self._options = options
        self._store = store
        self._maker = maker
        self._counter = counter

    async def __call__(self, exchange: Exchange) -> None:
        request, count = exchange.request, exchange.count
        if request is None or count is None or request.endpoint is Endpoint.EMBEDDINGS:
            return
        receipt = plan_receipt(request, count, self._budgets.budget_of(request.model))
        if request.endpoint is Endpoint.CHAT and self._options.is_enabled:
            await self._fit_chat(exchange, request, count, receipt)
        else:
            exchange.receipt = receipt
            if receipt.has_overflowed:
                refuse_unless_forwarded(receipt, "Compaction is off for this request; send less.")

    async def _fit_chat(self, exchange: Exchange, request: MeteredRequest, count: Count, receipt: Receipt) -> None:
        assert exchange.client is not None
        exchange.receipt = receipt
        scope = hashlib.sha256(exchange.client.scope + self._options.fingerprint).digest()
        has_briefs = not self._store.is_empty(scope)
        if not receipt.has_overflowed and not has_briefs:
            return
        chain = chain_digests(scope, count.facts)
        limits = self._limits_of(receipt)
        chat = _Chat(exchange, request, count, limits, receipt, scope, chain)
        applied = await self._store.find(chain) if has_briefs else None
        plan = self._plan_applied(chat, applied)
        if plan is None and not receipt.has_overflowed:
            return
        is_new = plan is None
        if plan is None:
            plan = plan_fold(count.facts, count.fixed_tokens, limits, applied.covers if applied else 0)
            if plan.lacking_tokens:
                exchange.receipt = replace(receipt, is_shadow=self._options.is_shadow)
                refuse_unless_forwarded(exchange.receipt, _what_lacks(plan))
                return
            applied = await self._brief_for(chat, plan, applied)
        await self._write_prompt(chat, plan, applied, is_new=is_new)

    def _limits_of(self, receipt: Receipt) -> FoldLimits:
        budget = receipt.budget
        prompt = budget.prompt_limit_tokens(receipt.completion_tokens)
        return FoldLimits(
            prompt=prompt,
            brief=budget.running_brief_tokens,
            recent=budget.recent_tokens,
            first_user=int(prompt * FIRST_USER_SHARE),
            target_ratio=self._options.target_ratio,
        )

    def _plan_applied(self, chat: _Chat, applied: Brief | None) -> FoldPlan | None:
        """The plan with the applied brief, if there is one and the whole fits with it."""
        if applied is None:
            return None
        plan = plan_with_brief(chat.count.facts, chat.count.fixed_tokens, chat.limits, applied.covers, applied.tokens)
        if plan is None or plan.kept_tokens + applied.tokens > chat.limits.prompt:
            return None
        return plan

    async def _brief_for(self, chat: _Chat, plan: FoldPlan, applied: Brief | None) -> Brief | None:
        """The brief that this plan has room for, or None if it has none."""
        if not plan.brief_tokens:
            return None
        covered = applied.covers if applied else 0
        if plan.covers == covered:
            brief = applied
        else:
            earlier = (await self._store.find_better(chat.chain[covered]) or applied) if applied else None
            turns = await asyncio.to_thread(_turns, chat, covered, plan.covers)
            job = FoldJob(plan.covers, earlier, turns, plan.brief_tokens)
            brief = await self._maker.make(chat.exchange, chat.scope, chat.chain[plan.covers], job)
        if brief is not None and brief.tokens > plan.brief_tokens:
            brief = await self._maker.shrink(chat.count.profile, brief, plan.brief_tokens)
        return brief

    async def _write_prompt(self, chat: _Chat, plan: FoldPlan, brief: Brief | None, *, is_new: bool) -> None:
        facts = chat.count.facts
        excess = plan.kept_tokens + (brief.tokens if brief else 0) - chat.limits.prompt
        trims = plan_trims(facts, plan.kept, excess)
        messages, kept_tokens = [], plan.kept_tokens
        for index in plan.kept:
            raw = bytes(chat.request.messages[index])
            if index in trims:
                raw, tokens = await asyncio.to_thread(self._trim, chat, index, trims[index])
                kept_tokens += tokens - facts[index].tokens
            messages.append(raw)
        total = kept_tokens + (brief.tokens if brief else 0)
        receipt = _written_receipt(chat, plan, brief, total, is_new=is_new, is_trimmed=bool(trims))
        receipt = replace(receipt, is_shadow=self._options.is_shadow)
        chat.exchange.receipt = receipt
        if total > chat.limits.prompt:
            refuse_unless_forwarded(receipt, "Its newest tool results cannot be shortened enough.")
        elif not self._options.is_shadow:
            chat.exchange.prompt = _body(chat, plan, brief, messages)

    def _trim(self, chat: _Chat, index: int, max_tokens: int) -> tuple[bytes, int]:
        """One tool result, shortened, and what it costs now."""
        profile = chat.count.profile
        message = parse_message(bytes(chat.request.messages[index]), index)
        count = partial(self._counter.count_here, profile)
        shorter = trimmed_message(message, chat.count.facts[index].tokens, max_tokens, count)
        weight = weigh_message(shorter, profile)
        return encode_message(shorter), weight.fixed_tokens + sum(count(text) for text in weight.texts)


def plan_receipt(request: MeteredRequest, count: Count, budget: Budget) -> Receipt:
    """The receipt of a request to which nothing was done yet.

    Raises:
        Refusal: the completion alone leaves no room for a prompt.
    """
    completion = request.completion_tokens if request.completion_tokens is not None else budget.completion_tokens
    limit = budget.prompt_limit_tokens(completion)
    if limit < 1 and budget.on_unfittable is OnUnfittable.ERROR:
        raise context_length_exceeded(
            count.prompt_tokens,
            completion,
            budget.max_total_tokens,
            "The completion alone takes the whole budget; ask for fewer completion tokens.",
        )
    has_overflowed = count.prompt_tokens > limit
    return Receipt(
        Level.NONE,
        has_overflowed,
        count.prompt_tokens,
        count.prompt_tokens,
        completion,
        budget,
        count.sections,
    )


def refuse_unless_forwarded(receipt: Receipt, detail: str) -> None:
    """What becomes of a request that cannot be made to fit.

    Raises:
        Refusal: 400 context_length_exceeded, unless the budget says `forward` or compaction only watches.
    """
    if receipt.is_shadow or receipt.budget.on_unfittable is OnUnfittable.FORWARD:
        return
    raise context_length_exceeded(
        receipt.client_tokens, receipt.completion_tokens, receipt.budget.max_total_tokens, detail
    )


def _what_lacks(plan: FoldPlan) -> str:
    return (
        f"What may not be folded (system messages, tools, the last user message, the newest turn) takes"
        f" {plan.kept_tokens} tokens, {plan.lacking_tokens} too many. Shorten it, or ask for fewer completion tokens."
    )


def _turns(chat: _Chat, covered: int, covers: int) -> tuple[Turn, ...]:
    """The foldable messages covered < i <= covers, as text."""
    turns = []
    number = 0
    for index, fact in enumerate(chat.count.facts):
        if not fact.is_foldable:
            continue
        number += 1
        if covered < number <= covers:
            turns.append(turn_of(number, parse_message(bytes(chat.request.messages[index]), index)))
    return tuple(turns)


def _body(chat: _Chat, plan: FoldPlan, brief: Brief | None, messages: list[bytes]) -> bytes:
    if brief is not None:
        text = render_brief(brief.covers, brief.ledger, brief.body)
        is_strict = chat.exchange.routes[0].roles is Roles.STRICT
        messages = (join_brief if is_strict else place_brief)(messages, plan.brief_before, text)
    place = chat.request.spans["messages"]
    return splice(chat.request.body, [Edit(place.start, place.end, array_of(messages))])


def _written_receipt(
    chat: _Chat, plan: FoldPlan, brief: Brief | None, total: int, *, is_new: bool, is_trimmed: bool
) -> Receipt:
    level = brief.level if brief else Level.EXTRACTIVE
    return replace(
        chat.receipt,
        level=Level.TRIMMED if is_trimmed else level,
        prompt_tokens=total,
        sections=_sections(chat.count.sections, brief.tokens if brief else 0, total),
        folded_messages=len(chat.count.facts) - len(plan.kept),
        brief=brief,
        is_new_brief=is_new and brief is not None,
    )


def _sections(before: Mapping[str, int], brief_tokens: int, total: int) -> dict[str, int]:
    others = {name: tokens for name, tokens in before.items() if name != "turns"}
    return {**others, "brief": brief_tokens, "turns": total - brief_tokens - sum(others.values())}
