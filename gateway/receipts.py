"""Receipts: what was done to make a prompt fit, and what becomes of one that cannot be made to fit."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.context.brief import Level
from gateway.core.context.budget import Budget, OnUnfittable
from gateway.core.context.receipt import Receipt
from gateway.core.errors import context_length_exceeded
from gateway.core.tokens.calibration import NO_CORRECTION, Correction
from gateway.core.wire.request import MeteredRequest, has_tools
from gateway.exchange import Count


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


def what_lacks(receipt: Receipt, least_tokens: int) -> str:
    least = receipt.billed_at_most(least_tokens)
    lacking = least - receipt.budget.prompt_limit_tokens(receipt.completion_tokens)
    sent = receipt.billed_at_most(receipt.client_tokens)
    return (
        f"Of the {sent} prompt tokens sent, {least} can neither be folded nor shortened (system messages, tools, the"
        f" last user message, the newest turn): {lacking} too many. Shorten them, or ask for fewer completion tokens."
    )


def sections_of(
    before: Mapping[str, int], history: str, brief_tokens: int, recalled_tokens: int, total: int
) -> dict[str, int]:
    """Tokens by name of a prompt that was compacted; they sum up to `total`.

    Args:
        before: the same of the client's own prompt.
        history: the name of the section that was compacted.
        brief_tokens: of the brief's message.
        recalled_tokens: of the message with what was recalled.
        total: the whole prompt.
    """
    others = {name: tokens for name, tokens in before.items() if name != history}
    added = {"brief": brief_tokens, "recalled": recalled_tokens}
    return {**others, **added, history: total - sum(added.values()) - sum(others.values())}
