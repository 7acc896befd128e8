"""Stage 5: does it fit the budget? If not, fold the oldest turns into the running brief.

What is forwarded fits `max_total` by our count, or the request is refused with numbers. A request that fits, and has
no applied brief, keeps the client's own bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import msgspec

from gateway.core.context.brief import Brief, FoldJob, Level, render_brief
from gateway.core.context.budget import Budget, BudgetTable, OnUnfittable
from gateway.core.context.facts import chain_digests, places_together
from gateway.core.context.plan import FoldLimits, FoldPlan, plan_fold, plan_with_brief
from gateway.core.context.render import array_of, join_brief, place_brief, trim_results, turn_of
from gateway.core.context.units import Outline, outline_of
from gateway.core.errors import context_length_exceeded
from gateway.core.routing.routes import Roles
from gateway.core.tokens.calibration import NO_CORRECTION, Correction
from gateway.core.tokens.weight import weigh_placed
from gateway.core.wire.body import Edit, splice
from gateway.core.wire.message import parse_message
from gateway.core.wire.overrides import Compacting
from gateway.core.wire.request import Endpoint, MeteredRequest, has_tools
from gateway.exchange import Count, Exchange, Receipt
from gateway.ports import BriefMaker, BriefStore, Calibrations, TextCounter

FIRST_USER_SHARE = 0.25
"""Of the prompt's limit: a first user message above this is folded like any other."""


@dataclass(frozen=True, slots=True)
class CompactionOptions:
    """How compaction behaves.

    Attributes:
        is_enabled: else requests that do not fit are refused (or forwarded, by `on_unfittable`).
        is_shadow: plan and record, and forward the client's own bytes.
        target_ratio: of the prompt's limit, what a fresh compaction aims at.
        soft_ratio: of the prompt's limit, above which the next brief is made in the background; 1 for never.
        fingerprint: of the settings that shape a brief's text.
    """

    is_enabled: bool
    is_shadow: bool
    target_ratio: float
    soft_ratio: float
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class _Chat:
    """A chat on its way through this stage. `keys` name what a brief covers, by how many foldable messages it does."""

    exchange: Exchange
    request: MeteredRequest
    count: Count
    outline: Outline
    limits: FoldLimits
    receipt: Receipt
    scope: bytes
    keys: Sequence[bytes]

    def keys_of(self, boundaries: Sequence[int]) -> list[bytes]:
        """The names of these prefixes."""
        return [self.keys[covers] for covers in boundaries]


@dataclass(frozen=True, slots=True)
class _Fold:
    """What is forwarded in place of the client's messages, as far as folding goes."""

    plan: FoldPlan
    brief: Brief | None
    is_new_brief: bool = False

    @property
    def tokens(self) -> int:
        return self.plan.kept_tokens + (self.brief.tokens if self.brief else 0)


class AssembleStage:
    """Writes `receipt`, and `prompt` where the client's body is not forwarded as it is.

    Args:
        budgets: by model.
        options: of compaction.
        store: briefs.
        maker: of briefs.
        counter: tokenizers.
        calibrations: how upstreams bill what is counted.
    """

    def __init__(
        self,
        budgets: BudgetTable,
        options: CompactionOptions,
        store: BriefStore,
        maker: BriefMaker,
        counter: TextCounter,
        calibrations: Calibrations,
    ) -> None:
        self._calibrations = calibrations
        self._budgets = budgets
        self._options = options
        self._store = store
        self._maker = maker
        self._counter = counter

    async def __call__(self, exchange: Exchange) -> None:
        request, count = exchange.request, exchange.count
        if request is None or count is None or request.endpoint is Endpoint.EMBEDDINGS:
            return
        wish = exchange.overrides
        is_enabled = self._options.is_enabled and wish.compacting is not Compacting.OFF
        is_shadow = is_enabled and (self._options.is_shadow or wish.compacting is Compacting.SHADOW)
        budget = self._budgets.budget_of(request.model)
        if wish.max_total_tokens is not None and wish.max_total_tokens < budget.max_total_tokens:
            budget = budget.lowered_to(wish.max_total_tokens)
        correction = self._calibrations.correction_of(exchange.routes[0].name, request.model)
        receipt = plan_receipt(request, count, budget, correction, is_shadow=is_shadow)
        exchange.receipt = receipt
        if request.endpoint is Endpoint.CHAT and is_enabled:
            await self._fit_chat(exchange, request, count, receipt)
        elif receipt.has_overflowed:
            refuse_unless_forwarded(receipt, receipt.client_tokens, "Compaction is off for this request; send less.")

    async def _fit_chat(self, exchange: Exchange, request: MeteredRequest, count: Count, receipt: Receipt) -> None:
        assert exchange.client is not None
        soft_tokens = int(receipt.prompt_limit_tokens * self._options.soft_ratio)
        scope = _scope_of(
            exchange.client.scope, self._options.fingerprint, count.profile.encoding, count.profile.message_tokens
        )
        has_briefs = not self._store.is_empty(scope)
        if receipt.client_tokens <= soft_tokens and not has_briefs:
            return
        keys = chain_digests(scope, count.facts)
        chat = _Chat(exchange, request, count, outline_of(count.facts), self._limits_of(receipt), receipt, scope, keys)
        applied = await self._store.find(chat.keys_of(chat.outline.boundaries)) if has_briefs else None
        fold = _with_brief(chat, applied) if applied else None
        if fold is None and receipt.has_overflowed:
            fold = await self._fold(chat, applied)
        elif (fold.tokens if fold else receipt.client_tokens) > soft_tokens:
            await self._look_ahead(chat, applied if fold else None)
        if fold is not None:
            await self._write_prompt(chat, fold)

    def _limits_of(self, receipt: Receipt) -> FoldLimits:
        budget = receipt.budget
        prompt = receipt.prompt_limit_tokens
        return FoldLimits(
            prompt=prompt,
            brief=budget.running_brief_tokens,
            recent=budget.recent_tokens,
            first_user=int(prompt * FIRST_USER_SHARE),
            target_ratio=self._options.target_ratio,
        )

    async def _look_ahead(self, chat: _Chat, applied: Brief | None) -> None:
        """Have the next brief made in the background, where none waits yet."""
        covered = applied.covers if applied else 0
        if await self._store.find_waiting(chat.keys_of(chat.outline.boundaries_after(covered))):
            return
        plan = plan_fold(chat.outline, chat.count.fixed_tokens, chat.limits, covered)
        if plan.brief_tokens and plan.covers > covered and not plan.lacking_tokens:
            base, key = chat.keys[covered], chat.keys[plan.covers]
            self._maker.prepare(chat.exchange, chat.scope, base, key, partial(_job, chat, plan, applied))

    async def _apply_waiting(self, chat: _Chat, covered: int) -> _Fold | None:
        """The chat with the brief that was made ahead of need, if there is one and it serves."""
        waiting = await self._store.find_waiting(chat.keys_of(chat.outline.boundaries_after(covered)))
        if waiting is None or _with_brief(chat, waiting) is None:
            return None
        applied = await self._store.put_if_absent(chat.scope, chat.keys[waiting.covers], waiting)
        fold = _with_brief(chat, applied)
        return replace(fold, is_new_brief=applied is waiting) if fold else None

    async def _ground(self, chat: _Chat, plan: FoldPlan, applied: Brief | None) -> Brief | None:
        """What the next brief builds on: the one that came too late for the last fold, if it is as good a start."""
        if applied is None:
            return None
        nearby = [
            covers for covers in chat.outline.boundaries if 2 * applied.covers - plan.covers <= covers <= applied.covers
        ]
        return await self._store.find_waiting(chat.keys_of(nearby)) or applied

    async def _fold(self, chat: _Chat, applied: Brief | None) -> _Fold | None:
        """Compact; None where even that does not fit, and the client's own bytes are to be forwarded.

        Raises:
            Refusal: even that does not fit.
        """
        covered = applied.covers if applied else 0
        is_ready = await self._maker.prepared(chat.keys[covered])
        if fold := await self._apply_waiting(chat, covered):
            return fold
        plan = plan_fold(chat.outline, chat.count.fixed_tokens, chat.limits, covered)
        if plan.lacking_tokens:
            least = chat.limits.prompt + plan.lacking_tokens
            refuse_unless_forwarded(chat.receipt, least, _what_lacks(chat.receipt, least))
            return None
        if not plan.brief_tokens:
            return _Fold(plan, None)
        is_new = False
        if plan.covers > covered:
            job = await asyncio.to_thread(_job, chat, plan, await self._ground(chat, plan, applied))
            key = chat.keys[plan.covers]
            applied, is_new = await self._maker.make(chat.exchange, chat.scope, key, job, may_wait=is_ready)
            suits = applied.pinned == plan.pinned and applied.tokens <= plan.brief_tokens
            if fold := _Fold(plan, applied, is_new) if suits else _with_brief(chat, applied):
                return replace(fold, is_new_brief=is_new)
        brief = await self._maker.refold(chat.count.profile, await asyncio.to_thread(_job, chat, plan, applied))
        return _Fold(plan, brief if brief.tokens <= plan.brief_tokens else None, is_new)

    async def _write_prompt(self, chat: _Chat, fold: _Fold) -> None:
        excess = fold.tokens - chat.limits.prompt
        trimmed: dict[int, bytes] = {}
        lost_tokens = 0
        if excess > 0:
            trimmed, lost_tokens = await asyncio.to_thread(self._trim, chat, fold.plan.kept, excess)
        total = fold.tokens - lost_tokens
        chat.exchange.receipt = _written_receipt(chat, fold, total, is_trimmed=bool(trimmed))
        if total > chat.limits.prompt:
            refuse_unless_forwarded(chat.receipt, total, _what_lacks(chat.receipt, total))
        elif not chat.receipt.is_shadow:
            raws = chat.request.messages
            messages = [trimmed[index] if index in trimmed else bytes(raws[index]) for index in fold.plan.kept]
            chat.exchange.prompt = _body(chat, fold, messages)

    def _trim(self, chat: _Chat, kept: Sequence[int], excess_tokens: int) -> tuple[dict[int, bytes], int]:
        profile = chat.count.profile
        count = partial(self._counter.count_here, profile)
        places = places_together(chat.count.facts)

        def count_message(index: int, message: Mapping[str, Any]) -> int:
            weight = weigh_placed(message, profile, places.get(index))
            return weight.total([count(text) for text in weight.all_texts])

        return trim_results(chat.request.messages, chat.count.facts, kept, excess_tokens, count_message, count)


def plan_receipt(
    request: MeteredRequest, count: Count, budget: Budget, correction: Correction, *, is_shadow: bool
) -> Receipt:
    """The receipt of a request to which nothing was done yet.

    Raises:
        Refusal: the completion alone leaves no room for a prompt.
    """
    completion = request.completion_tokens if request.completion_tokens is not None else budget.completion_tokens
    limit, tokens = budget.prompt_limit_tokens(completion), count.prompt_tokens
    billed, tools = tokens, has_tools(request)
    if correction.is_exact:
        correction = NO_CORRECTION
    else:
        limit, billed = correction.raw_limit(limit, tools), correction.estimate(tokens, tools)
    receipt = Receipt(
        level=Level.NONE,
        has_overflowed=tokens > limit,
        client_tokens=tokens,
        prompt_tokens=tokens,
        completion_tokens=completion,
        budget=budget,
        correction=correction,
        has_tools=tools,
        prompt_limit_tokens=limit,
        client_billed_tokens=billed,
        billed_tokens=billed,
        sections=count.sections,
        is_shadow=is_shadow,
    )
    if limit < 1:
        detail = "The completion alone takes the whole budget; ask for fewer completion tokens."
        refuse_unless_forwarded(receipt, tokens, detail)
    return receipt


def refuse_unless_forwarded(receipt: Receipt, least_tokens: int, detail: str) -> None:
    """What becomes of a request that cannot be made to fit.

    Args:
        receipt: of the request.
        least_tokens: what its prompt takes after everything that may be shortened was.
        detail: why that is so, and what to do.

    Raises:
        Refusal: 400 context_length_exceeded, unless the budget says `forward` or compaction only watches.
    """
    if receipt.is_shadow or receipt.budget.on_unfittable is OnUnfittable.FORWARD:
        return
    least = receipt.billed_at_most(least_tokens)
    raise context_length_exceeded(least, receipt.completion_tokens, receipt.budget.max_total_tokens, detail)


def _what_lacks(receipt: Receipt, least_tokens: int) -> str:
    least = receipt.billed_at_most(least_tokens)
    lacking = least - receipt.budget.prompt_limit_tokens(receipt.completion_tokens)
    sent = receipt.billed_at_most(receipt.client_tokens)
    return (
        f"Of the {sent} prompt tokens sent, {least} can neither be folded nor shortened (system messages, tools, the"
        f" last user message, the newest turn): {lacking} too many. Shorten them, or ask for fewer completion tokens."
    )


@lru_cache(maxsize=4096)
def _scope_of(client: bytes, fingerprint: bytes, encoding: str, message_tokens: int) -> bytes:
    """Within what briefs are shared; what they cost is part of them, so other tokenizers have other briefs."""
    parts = (client, fingerprint, encoding.encode(), str(message_tokens).encode())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


def _with_brief(chat: _Chat, brief: Brief) -> _Fold | None:
    """The chat with a brief that exists already; None if that does not fit or is no gain."""
    fixed = chat.count.fixed_tokens
    fold = _Fold(plan_with_brief(chat.outline, fixed, brief.covers, brief.pinned, brief.tokens), brief)
    return fold if fold.tokens <= min(chat.limits.prompt, chat.receipt.client_tokens - 1) else None


def _job(chat: _Chat, plan: FoldPlan, earlier: Brief | None) -> FoldJob:
    """What is to be told: what the earlier brief does not tell, less what is forwarded beside the new one."""
    covered = earlier.covers if earlier else 0
    numbers = {*range(covered + 1, plan.covers + 1), *(earlier.pinned if earlier else ())} - set(plan.pinned)
    turns = []
    for number in sorted(numbers):
        index = chat.outline.places[number - 1]
        turns.append(turn_of(number, parse_message(bytes(chat.request.messages[index]), index)))
    return FoldJob(plan.covers, plan.pinned, earlier, tuple(turns), plan.brief_tokens)


def _body(chat: _Chat, fold: _Fold, messages: list[bytes]) -> bytes:
    brief, before = fold.brief, fold.plan.brief_before
    text = render_brief(brief.segments) if brief else None
    if chat.exchange.routes[0].roles is Roles.STRICT:
        messages = join_brief(messages, before, text)
    elif text is not None:
        messages = place_brief(messages, before, text)
    place = chat.request.spans["messages"]
    return splice(chat.request.body, [Edit(place.start, place.end, array_of(messages))])


def _written_receipt(chat: _Chat, fold: _Fold, total: int, *, is_trimmed: bool) -> Receipt:
    brief = fold.brief
    return msgspec.structs.replace(
        chat.receipt,
        level=brief.level if brief and not is_trimmed else Level.TRIMMED,
        prompt_tokens=total,
        billed_tokens=chat.receipt.billed_tokens if chat.receipt.is_shadow else chat.receipt.billed(total),
        sections=_sections(chat.count.sections, brief.tokens if brief else 0, total),
        folded_messages=len(chat.count.facts) - len(fold.plan.kept),
        brief=brief,
        brief_id=chat.keys[brief.covers].hex() if brief else "",
        is_new_brief=fold.is_new_brief and brief is not None,
    )


def _sections(before: Mapping[str, int], brief_tokens: int, total: int) -> dict[str, int]:
    others = {name: tokens for name, tokens in before.items() if name != "turns"}
    return {**others, "brief": brief_tokens, "turns": total - brief_tokens - sum(others.values())}
