"""Does a chat fit? If not: shorten what is long, fold the oldest turns into the brief, and recall what is asked for.

A compaction decides three things, and they hold until the next one: the brief that stands for the oldest messages,
which long messages after them are shortened and to what, and, in the middle of an agent's task, what is recalled for
it. So the prompt's beginning only grows. For a user message that waits for its answer, what is recalled is chosen
anew and stands just before it; through the tool loop that follows it stays.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from gateway.core.context.brief import Brief
from gateway.core.context.economics import Cause
from gateway.core.context.plan import FoldLimits, FoldPlan, can_shorten, plan_fold
from gateway.core.context.shorten import (
    Arrangement,
    CountMessage,
    CountTokens,
    Shortened,
    Shorter,
    arranged_messages,
    names_in_use,
    shorten_again,
    shorten_messages,
)
from gateway.core.errors import Refusal
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.core.wire.request import Endpoint
from gateway.fitting.draft import Chat, Draft
from gateway.fitting.gain import LEAST_SHARE, EarlyRule, mark_of
from gateway.fitting.lineage import Lineages
from gateway.fitting.question import ChosenRecall, question_of
from gateway.ports import BriefMaker, BriefStore, TextCounter
from gateway.ports_memory import Recaller
from gateway.receipts import refuse_unless_forwarded, what_lacks

_SQUEEZED_SHARE = 0.5
"""Of the retrieved share: where recent turns leave less than this, older ones are folded."""
_MIN_GAIN = 0.1
"""Of the limit: what folding only for the sake of recall must free."""
_SHORTER_BYTES = 8 * 1024 * 1024
_SHORTER_ENTRY_BYTES = 300


class ChatFitter:
    """Makes chats fit.

    Args:
        store: briefs.
        maker: of briefs.
        recaller: of folded messages.
        counter: tokenizers.
        soft_ratio: of the prompt's limit, above which the next brief is made in the background; 1 for never.
        early: compacts chats that fit, too, where that costs less; None for never.
    """

    def __init__(
        self,
        store: BriefStore,
        maker: BriefMaker,
        recaller: Recaller,
        counter: TextCounter,
        soft_ratio: float,
        early: EarlyRule | None = None,
    ) -> None:
        self._store = store
        self._maker = maker
        self._recaller = recaller
        self._counter = counter
        self._soft_ratio = soft_ratio
        self._early = early
        self._lineages = Lineages()
        self._shorter = TwoGenerationCache[bytes](_SHORTER_BYTES, _SHORTER_ENTRY_BYTES, len)
        self._chosen = ChosenRecall()

    def may_need(self, client_tokens: int, limit_tokens: int, scope: bytes) -> bool:
        """Whether a chat of this scope is to be looked at: it is long, or something was done for one before."""
        share = self._soft_ratio if self._early is None else min(self._soft_ratio, LEAST_SHARE)
        return client_tokens > limit_tokens * share or not self._store.is_empty(scope)

    def note_sent(self, chat: Chat, draft: Draft | None) -> None:
        """Let what is forwarded now be recognised when this chat comes again, where that is asked for."""
        if self._early is not None:
            chat.exchange.sent_mark = mark_of(chat, None if chat.receipt.is_shadow else draft)

    async def fit(self, chat: Chat) -> Draft | None:
        """What is to be forwarded; None for the client's own bytes.

        Raises:
            Refusal: it cannot be made to fit.
        """
        draft = await self._fitted(chat)
        if draft is None and chat.has_more and not chat.receipt.has_overflowed:
            draft = await self._with_recalled(chat, Draft(chat.plan_with(None), None))
            return draft if draft.recalled and draft.tokens <= chat.limits.prompt else None
        return draft

    async def _fitted(self, chat: Chat) -> Draft | None:
        has_briefs = not self._store.is_empty(chat.scope)
        applied = await self._store.find(chat.scope, chat.keys_of(chat.outline.boundaries)) if has_briefs else None
        draft = await self._as_before(chat, applied) if has_briefs else None
        if draft is None and chat.receipt.has_overflowed:
            return await self._compact(chat, applied)
        if draft is not None and draft.tokens > chat.limits.prompt:
            return await self._compact(chat, applied)
        if draft is not None and self._is_squeezed(chat, draft):
            return await self._relieve(chat, applied, draft)
        if early := await self._compacted_early(chat, applied, draft):
            return early
        if self._is_nearly_full(chat, draft):
            await self._look_ahead(chat, applied if draft else None)
        return draft

    # What earlier compactions decided

    async def _as_before(self, chat: Chat, applied: Brief | None) -> Draft | None:
        """The chat as earlier compactions arranged it; None if none did, or that does not fit or is no gain."""
        draft = await self._arranged(chat, applied)
        if draft is None or draft.stable_tokens > min(chat.limits.prompt, chat.receipt.client_tokens - 1):
            return None
        return await self._with_recalled(chat, draft)

    async def _arranged(self, chat: Chat, applied: Brief | None) -> Draft | None:
        """The same without what is recalled, whether or not it fits; None where nothing was arranged."""
        covered = applied.covers if applied else 0
        later = [covered, *chat.outline.boundaries_after(covered)]
        arrangement = await self._store.find_arrangement(chat.scope, chat.keys_of(later))
        if arrangement is not None and arrangement.covers != covered:
            arrangement = None  # of a compaction before the one that made the brief
        if applied is None and arrangement is None:
            return None
        draft = Draft(chat.plan_with(applied), applied, arrangement=arrangement)
        if arrangement is not None and arrangement.shortened:
            draft = await self._shortened_as_before(chat, draft, arrangement)
        return draft

    async def _as_sent(self, chat: Chat, applied: Brief | None) -> Draft | None:
        """How the chat was forwarded so far, where briefs are written from that; else None."""
        if not self._maker.reuses_prompts or chat.request.endpoint is not Endpoint.CHAT:
            return None
        return await self._arranged(chat, applied) or Draft(chat.plan_with(None), None)

    async def _shortened_as_before(self, chat: Chat, draft: Draft, arrangement: Arrangement) -> Draft:
        wanted = {
            index: how._replace(tokens=how.tokens + chat.form.extra_tokens(index))
            for index, how in arranged_messages(arrangement, chat.outline, draft.plan.kept).items()
        }
        named = _named(chat, arrangement.names)
        keys = {index: _key_of_shorter(chat, index, how, named) for index, how in wanted.items()}
        found = {index: self._shorter.get(key) for index, key in keys.items()}
        raws = {index: raw for index, raw in found.items() if raw is not None}
        missing = {index: wanted[index] for index in wanted if index not in raws}
        if missing:
            count = partial(self._counter.count_here, chat.count.profile)
            made = await asyncio.to_thread(
                shorten_again, chat.raws, missing, arrangement.names, count, chat.pictures.texts
            )
            for index, raw in made.items():
                self._shorter.put(keys[index], raw)
            raws |= made
        return draft.with_shorter(chat.outline, {index: Shorter(wanted[index], raw) for index, raw in raws.items()})

    # Recall

    async def _with_recalled(self, chat: Chat, draft: Draft) -> Draft:
        """The draft with what the latest user message needs of the folded messages."""
        asked = question_of(chat, draft)
        if asked is None:
            return draft
        question, before = asked
        recalled = self._chosen.find(chat, draft, question)
        if recalled is None:
            recalled = await self._recaller.recall(
                chat.exchange, chat.count.profile, chat.words, chat.outline, question
            )
            self._chosen.put(chat, question, recalled)
        return replace(draft, recalled=recalled, recall_before=before) if recalled else draft

    # Ahead of need

    @staticmethod
    def _is_squeezed(chat: Chat, draft: Draft) -> bool:
        """Whether recent turns leave too little room for what is recalled for the user message at the end."""
        if not chat.is_asking or not draft.plan.covers:
            return False
        pool = chat.count.prompt_tokens - draft.plan.kept_tokens
        wanted = min(_SQUEEZED_SHARE * chat.limits.retrieved, pool)
        return chat.limits.prompt - draft.stable_tokens < wanted

    def _is_nearly_full(self, chat: Chat, draft: Draft | None) -> bool:
        if draft is None:
            return chat.receipt.client_tokens > chat.limits.prompt * self._soft_ratio
        if chat.is_asking:
            room = chat.limits.prompt - _SQUEEZED_SHARE * chat.limits.retrieved
            return draft.stable_tokens > room * self._soft_ratio
        return draft.tokens > chat.limits.prompt * self._soft_ratio

    async def _look_ahead(self, chat: Chat, applied: Brief | None) -> None:
        """Have the next brief made in the background, where somebody writes it and none waits yet."""
        if not self._maker.takes_time or self._lineages.slides(chat.scope, chat.count.facts):
            return
        covered = applied.covers if applied else 0
        if await self._store.find_waiting(chat.scope, chat.keys_of(chat.outline.boundaries_after(covered))):
            return
        # It is applied when the rest of the room is full: what it leaves is to meet the target then.
        spare = 1 - self._soft_ratio
        limits = replace(chat.limits, target_ratio=max(spare, chat.limits.target_ratio - spare))
        plan = plan_fold(chat.outline, chat.count.fixed_tokens, limits, covered)
        if plan.brief_tokens and plan.covers > covered and not plan.lacking_tokens:
            if applied is None:
                self._lineages.missed(chat.scope, chat.count.facts)
            base, key = chat.keys[covered], chat.keys[plan.covers]
            make_job = partial(chat.job_of, plan, applied, await self._as_sent(chat, applied))
            self._maker.prepare(chat.exchange, chat.scope, base, key, make_job)

    # Compaction

    async def _relieve(self, chat: Chat, applied: Brief | None, draft: Draft) -> Draft:
        """Fold recent turns that leave too little room for what is recalled, where that gains something."""
        covered = applied.covers if applied else 0
        plan = plan_fold(chat.outline, chat.count.fixed_tokens, chat.limits, covered)
        gain = draft.stable_tokens - plan.goal_tokens
        if plan.covers <= covered or plan.lacking_tokens or gain < _MIN_GAIN * chat.limits.prompt:
            return draft
        relieved = await self._compact(chat, applied)
        return replace(relieved, cause=Cause.RECALL) if relieved else draft

    async def _compacted_early(self, chat: Chat, applied: Brief | None, draft: Draft | None) -> Draft | None:
        """The chat, which fits, compacted all the same where that costs less; None where it does not."""
        if self._early is None or (applied is not None and draft is None):
            return None
        if not self._early.gains(chat, applied, draft, pays_for_brief=self._maker.takes_time):
            return None
        try:
            early = await self._compact(chat, applied)
        except Refusal:  # what fits as it is must not be refused for this
            return None
        if early is None or early.tokens >= (draft.tokens if draft else chat.receipt.client_tokens):
            return None
        return replace(early, cause=Cause.GAIN)

    async def _compact(self, chat: Chat, applied: Brief | None) -> Draft | None:
        """Make it fit; None where even that does not do, and the client's own bytes are to be forwarded.

        Raises:
            Refusal: even that does not do.
        """
        around = chat.plan_around(applied)
        if can_shorten(chat.limits, around):
            draft = await self._shortened(chat, Draft(around, applied))
            if draft.stable_tokens <= chat.limits.prompt:
                return await self._settled(chat, draft)
        covered = applied.covers if applied else 0
        may_wait = await self._maker.prepared(chat.keys[covered])
        if applied is None:
            may_wait = may_wait and not self._lineages.slides(chat.scope, chat.count.facts)
            self._lineages.missed(chat.scope, chat.count.facts)
        folded = await self._apply_waiting(chat, covered) or await self._folded(chat, applied, may_wait, chat.limits)
        if folded is None:
            return None
        draft = await self._shortened(chat, folded)
        if draft.stable_tokens > chat.limits.prompt:  # what was to be shortened could not be: fold all there is
            applied = await self._store.find(chat.scope, chat.keys_of(chat.outline.boundaries))
            deepest = replace(chat.limits, recent=0, target_ratio=0.0)
            folded = await self._folded(chat, applied, may_wait=False, limits=deepest)
            draft = await self._shortened(chat, folded) if folded else draft
        if draft.stable_tokens > chat.limits.prompt:
            refuse_unless_forwarded(chat.receipt, draft.stable_tokens, what_lacks(chat.receipt, draft.stable_tokens))
            return None
        return await self._settled(chat, draft)

    async def _folded(self, chat: Chat, applied: Brief | None, may_wait: bool, limits: FoldLimits) -> Draft | None:
        """The chat with more of it folded, before anything is shortened."""
        covered = applied.covers if applied else 0
        plan = plan_fold(chat.outline, chat.count.fixed_tokens, limits, covered)
        if plan.lacking_tokens:
            least = chat.limits.prompt + plan.lacking_tokens
            refuse_unless_forwarded(chat.receipt, least, what_lacks(chat.receipt, least))
            return None
        if not plan.brief_tokens:
            return Draft(plan, None)
        is_new = False
        if plan.covers > covered:
            ground, sent = await self._ground(chat, plan, applied), await self._as_sent(chat, applied)
            job = await asyncio.to_thread(chat.job_of, plan, ground, sent)
            key = chat.keys[plan.covers]
            applied, is_new = await self._maker.make(chat.exchange, chat.scope, key, job, may_wait=may_wait)
            if applied.pinned == plan.pinned and applied.tokens <= plan.brief_tokens:
                return Draft(plan, applied, is_new_brief=is_new)
            around = chat.plan_around(applied)
            if not around.lacking_tokens:
                return Draft(around, applied, is_new_brief=is_new)
        brief = await self._maker.refold(chat.count.profile, await asyncio.to_thread(chat.job_of, plan, applied))
        return Draft(plan, brief if brief.tokens <= plan.brief_tokens else None, is_new_brief=is_new)

    async def _apply_waiting(self, chat: Chat, covered: int) -> Draft | None:
        """The chat with the brief that was made ahead of need, if there is one and it serves."""
        waiting = await self._store.find_waiting(chat.scope, chat.keys_of(chat.outline.boundaries_after(covered)))
        if waiting is None or chat.plan_around(waiting).lacking_tokens:
            return None
        applied = await self._store.put_if_absent(chat.scope, chat.keys[waiting.covers], waiting)
        plan = chat.plan_around(applied)
        return None if plan.lacking_tokens else Draft(plan, applied, is_new_brief=applied is waiting)

    async def _ground(self, chat: Chat, plan: FoldPlan, applied: Brief | None) -> Brief | None:
        """What the next brief builds on: the one that came too late for the last fold, if it is as good a start."""
        if applied is None:
            return None
        nearby = [
            covers for covers in chat.outline.boundaries if 2 * applied.covers - plan.covers <= covers <= applied.covers
        ]
        return await self._store.find_waiting(chat.scope, chat.keys_of(nearby)) or applied

    async def _shortened(self, chat: Chat, draft: Draft) -> Draft:
        """The draft with its long messages shortened as far as the plan asks."""
        plan, outline = draft.plan, chat.outline
        excess = draft.stable_tokens - plan.goal_tokens
        asked = 0 if chat.is_asking else outline.last_user or 0
        if excess <= 0 and not asked:
            return draft
        names = await asyncio.to_thread(names_in_use, chat.raws, outline)
        if excess > 0:
            count_message, count = self._counts(chat)
            shorter = await asyncio.to_thread(
                shorten_messages,
                chat.raws,
                outline,
                plan.kept,
                excess,
                names,
                count_message,
                count,
                chat.pictures.texts,
            )
            named = _named(chat, names)
            for index, each in shorter.items():
                self._shorter.put(_key_of_shorter(chat, index, each.how, named), each.raw)
            draft = draft.with_shorter(outline, shorter)
        hows = tuple(
            found.how._replace(tokens=found.how.tokens - chat.form.extra_tokens(index))
            for index, found in sorted(draft.shorter.items())
        )
        left = plan.goal_tokens + plan.recall_tokens - draft.stable_tokens  # units are whole, so they leave some
        room = max(0, min(chat.limits.retrieved, left)) if plan.recall_tokens else 0
        return replace(draft, arrangement=Arrangement(plan.covers, hows, names, asked, room))

    def _counts(self, chat: Chat) -> tuple[CountMessage, CountTokens]:
        count = partial(self._counter.count_here, chat.count.profile)
        form = chat.form

        def count_message(index: int, message: Mapping[str, Any]) -> int:
            weight = form.weigh(index, message)
            return weight.total([count(text) for text in weight.all_texts]) + form.extra_tokens(index)

        return count_message, count

    async def _settled(self, chat: Chat, draft: Draft) -> Draft:
        """The draft with what is recalled; what was decided is kept for the next requests."""
        arrangement, newest = draft.arrangement, chat.outline.boundaries[-1]
        if arrangement is not None and newest and (arrangement.shortened or arrangement.asked):
            await self._store.put_arrangement(chat.scope, chat.keys[newest], arrangement)
        return await self._with_recalled(chat, replace(draft, is_fresh=True))


def _named(chat: Chat, names: Sequence[str]) -> bytes:
    """Stands for whose chat it is, and for the names in use."""
    return hashlib.sha256(chat.scope + "\n".join(names).encode("utf-8", "surrogatepass")).digest()


def _key_of_shorter(chat: Chat, index: int, how: Shortened, named: bytes) -> bytes:
    """Stands for a shortened message: the message, and how it was shortened."""
    return chat.count.facts[index].canonical + named + f"{how.bound}.{how.same_as}".encode()
