"""In place of the last stages: what would this request cost? Nothing is sent for it, and nobody is billed.

`POST /api/v1/tokens/count` takes the body of any metered call and says what was counted, where, and what the upstream
is expected to bill. OpenAI's own `POST /v1/responses/input_tokens` is answered in its form where the upstream has no
such endpoint.
"""

from __future__ import annotations

import msgspec

from gateway.core.context.budget import BudgetTable
from gateway.core.wire.headers import Headers
from gateway.core.wire.request import has_tools
from gateway.exchange import Exchange
from gateway.ports import Calibrations

_JSON: Headers = [("Content-Type", "application/json")]


class AnswerCountStage:
    """Answers with the count.

    Args:
        calibrations: how upstreams bill what is counted.
        budgets: by model.
    """

    def __init__(self, calibrations: Calibrations, budgets: BudgetTable) -> None:
        self._calibrations = calibrations
        self._budgets = budgets

    async def __call__(self, exchange: Exchange) -> None:
        request, count = exchange.request, exchange.count
        assert request is not None
        assert count is not None
        upstream = exchange.routes[0].name
        correction = self._calibrations.correction_of(upstream, request.model)
        tools = has_tools(request)
        budget = self._budgets.budget_of(request.model)
        completion = request.completion_tokens if request.completion_tokens is not None else budget.completion_tokens
        told = {
            "object": "token_count",
            "model": request.model,
            "endpoint": request.endpoint.value,
            "upstream": upstream,
            "encoding": count.profile.encoding,
            "total": count.prompt_tokens,
            "expected": correction.estimate(count.prompt_tokens, tools),
            "margin": correction.margin(count.prompt_tokens, tools),
            "sections": dict(count.sections),
            "messages": [{"role": fact.role, "tokens": fact.tokens} for fact in count.facts],
            "budget": {
                "max_total": budget.max_total_tokens,
                "completion": completion,
                "fits": count.prompt_tokens <= correction.raw_limit(budget.prompt_limit_tokens(completion), tools),
            },
        }
        await answer(exchange, msgspec.json.encode(told))


async def answer(exchange: Exchange, body: bytes) -> None:
    """The gateway's own 200."""
    exchange.outcome.status = 200
    await exchange.outbound.start(200, _JSON, len(body))
    await exchange.outbound.end(body)


async def answer_input_tokens(exchange: Exchange) -> None:
    """OpenAI's answer to `/v1/responses/input_tokens` (API reference, 2025-11)."""
    assert exchange.count is not None
    told = {"object": "response.input_tokens", "input_tokens": exchange.count.prompt_tokens}
    await answer(exchange, msgspec.json.encode(told))
