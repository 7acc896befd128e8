"""Stage 5: does it fit the budget? If not, shorten what is long, fold the oldest turns, and recall what is asked for.

What is forwarded fits `max_total` by our count, or the request is refused with numbers. A request that fits, and to
which nothing was done before, keeps the client's own bytes, unless it names a session that has kept what it lacks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import msgspec

from gateway.core.context.budget import BudgetTable
from gateway.core.context.facts import chain_digests
from gateway.core.context.items import ties_of
from gateway.core.context.journal import Kept, session_key
from gateway.core.context.known_chats import KnownChats
from gateway.core.context.plan import FoldLimits
from gateway.core.context.receipt import Receipt
from gateway.core.context.units import Outline, outline_of
from gateway.core.wire.overrides import Compacting
from gateway.core.wire.request import Endpoint, MeteredRequest
from gateway.exchange import Count, Exchange, Session
from gateway.fitting.draft import Chat, body_of, receipt_of
from gateway.fitting.fitter import ChatFitter
from gateway.fitting.forms import Form, ItemsForm, MessagesForm
from gateway.fitting.memory import ChatMemory
from gateway.fitting.options import CompactionOptions, CompactionTable
from gateway.ports import Calibrations, Journal, Windows
from gateway.ports_vision import Pictures
from gateway.receipts import plan_receipt, refuse_unless_forwarded

SERVER_SIDE_KEYS = ("previous_response_id", "conversation")
"""Of a Responses request: the provider holds what came before."""
FIRST_USER_SHARE = 0.25
"""Of the prompt's limit: a first user message above this is folded like any other."""

_KNOWN_BYTES = 16 * 1024 * 1024
"""About 50,000 messages of chats that come again."""


class AssembleStage:
    """Writes `receipt`, `session`, and `prompt` where the client's body is not forwarded as it is.

    Args:
        budgets: by model.
        options: of compaction, by client and model.
        fitter: makes chats fit.
        calibrations: how upstreams bill what is counted.
        journal: what named sessions have said; None where there are none.
        windows: that upstreams have named; a budget is lowered to them.
        memory: that requests name; None where nothing is remembered.
        pictures: what stands in old ones; None where they are not read.
    """

    def __init__(
        self,
        budgets: BudgetTable,
        options: CompactionTable,
        fitter: ChatFitter,
        calibrations: Calibrations,
        journal: Journal | None = None,
        windows: Windows | None = None,
        memory: ChatMemory | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        self._budgets = budgets
        self._options = options
        self._fitter = fitter
        self._calibrations = calibrations
        self._journal = journal
        self._windows = windows
        self._memory = memory
        self._pictures = pictures
        self._known = KnownChats(_KNOWN_BYTES)

    async def __call__(self, exchange: Exchange) -> None:
        request, count = exchange.request, exchange.count
        if request is None or count is None or request.endpoint is Endpoint.EMBEDDINGS:
            return
        wish, client = exchange.overrides, exchange.client
        options = self._options.options_for(client.name if client else "", request.model)
        is_enabled = options.is_enabled and wish.compacting is not Compacting.OFF
        is_shadow = is_enabled and (options.is_shadow or wish.compacting is Compacting.SHADOW)
        budget = self._budgets.budget_of(request.model)
        window = self._windows.window_of(exchange.routes[0].name, request.model) if self._windows else None
        for most in (wish.max_total_tokens, client.grants.max_total_tokens if client else None, window):
            if most is not None and most < budget.max_total_tokens:
                budget = budget.lowered_to(most)
        correction = self._calibrations.correction_of(exchange.routes[0].name, request.model)
        receipt = plan_receipt(request, count, budget, correction, is_shadow=is_shadow)
        exchange.receipt = receipt
        detail = _what_forbids(request, count) if is_enabled else "Compaction is off for this request; send less."
        if not detail:
            await self._fit(exchange, request, count, receipt, options)
        elif receipt.has_overflowed:
            refuse_unless_forwarded(receipt, receipt.client_tokens, detail)

    async def _fit(
        self,
        exchange: Exchange,
        request: MeteredRequest,
        count: Count,
        receipt: Receipt,
        options: CompactionOptions,
    ) -> None:
        assert exchange.client is not None
        owner, name = exchange.client.scope, exchange.overrides.session
        owner = owner if name is None else session_key(owner, name)
        profile = count.profile
        scope = _scope_of(owner, options.fingerprint, request.endpoint, profile.encoding, profile.message_tokens)
        kept: Sequence[Kept] = ()
        if name is not None and self._journal is not None:
            exchange.session = Session(owner, scope)
            contained = {fact.canonical for fact in count.facts}
            kept = [each for each in await self._journal.read(owner) if each.canonical not in contained]
            receipt = msgspec.structs.replace(receipt, session_id=owner[:8].hex(), kept_messages=len(kept))
            exchange.receipt = receipt
        memory = self._memory if exchange.overrides.memory is not None else None
        may_need = self._fitter.may_need(receipt.client_tokens, receipt.prompt_limit_tokens, scope)
        if not (kept or memory or may_need):
            return
        keys, outline, form = self._read(request, count, scope)
        chat = Chat(exchange, request, count, outline, _limits_of(receipt, options), receipt, scope, keys, form, kept)
        if memory is not None:
            chat = replace(chat, reminders=await memory.remind(chat))
        if self._pictures is not None and may_need:
            shown = {at: fact.canonical for at, fact in enumerate(count.facts) if fact.spare_tokens}
            chat = replace(chat, pictures=await self._pictures.look(exchange, shown, chat.raws.__getitem__))
        draft = await self._fitter.fit(chat) if chat.has_more or may_need else None
        self._fitter.note_sent(chat, draft)
        if memory is not None and not receipt.is_shadow:
            memory.note_folded(chat, draft)
        if draft is not None:
            exchange.receipt = receipt_of(chat, draft)
            if not receipt.is_shadow:
                exchange.prompt = body_of(chat, draft)

    def _read(self, request: MeteredRequest, count: Count, scope: bytes) -> tuple[Sequence[bytes], Outline, Form]:
        facts, profile = count.facts, count.profile
        if request.endpoint is Endpoint.CHAT:
            chain, outline = self._known.read(scope, facts)
            return chain, outline, MessagesForm(request.messages, facts, profile)
        items = count.items
        outline = outline_of(facts, ties_of(items, facts))
        return chain_digests(scope, facts), outline, ItemsForm(request.messages, items, facts, profile)


def _limits_of(receipt: Receipt, options: CompactionOptions) -> FoldLimits:
    budget = receipt.budget
    prompt = receipt.prompt_limit_tokens
    return FoldLimits(
        prompt=prompt,
        brief=budget.running_brief_tokens,
        recent=budget.recent_tokens,
        first_user=int(prompt * FIRST_USER_SHARE),
        target_ratio=options.target_ratio,
        retrieved=budget.retrieved_tokens if options.recalls else 0,
        # A prompt that was made shorter to be cheaper is not filled up again.
        fills=options.fills and (receipt.has_overflowed or not options.is_early),
    )


def _what_forbids(request: MeteredRequest, count: Count) -> str:
    """Why this request is never rewritten, and what to do; "" if it may be."""
    if request.endpoint is Endpoint.CHAT:
        return ""
    if request.endpoint is not Endpoint.RESPONSES:
        return "Nothing of a plain prompt is folded; send less."
    for key in SERVER_SIDE_KEYS:
        span = request.spans.get(key)
        if span is not None and request.body[span.start : span.end] != b"null":
            return f"With `{key}` the provider holds the conversation, so it is not compacted here; send less."
    if not request.messages:
        return "An `input` that is one text, the user's latest message, is never folded; send less."
    if not count.facts:
        return (
            "Its `input` holds items that are never rewritten (a provider's compaction, references, or types that are"
            " not known), so it is not compacted; send less."
        )
    return ""


@lru_cache(maxsize=4096)
def _scope_of(owner: bytes, fingerprint: bytes, endpoint: Endpoint, encoding: str, message_tokens: int) -> bytes:
    """Within what briefs are shared: a client, or one named session of it.

    What they cost is part of them, so other tokenizers have other briefs.
    """
    parts = [owner, fingerprint, encoding.encode(), str(message_tokens).encode()]
    if endpoint is not Endpoint.CHAT:
        parts.append(endpoint.value.encode())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
