"""What tokens cost, by model: the table that a configuration may fill.

Only ratios matter to whoever decides by them, so a model without a row has those that are usual: a cached token at a
tenth, one written to the cache at five quarters, one of an answer at four times the price of an input token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from gateway.core.context.economics import Prices

USUAL_CACHED_SHARE = 0.1
"""Of the input price. OpenAI's newer models and Anthropic's; others ask a quarter or a half (price pages, 2026-01)."""
USUAL_OUTPUT_TIMES = 4.0


@dataclass(frozen=True, slots=True)
class ModelPrices:
    """Of one model, in one unit.

    Attributes:
        prompt: of prompt tokens.
        output: of a token that the model writes.
    """

    prompt: Prices
    output: float

    def uncached(self) -> ModelPrices:
        """The same at an upstream that caches nothing: every token is read in full."""
        price = self.prompt.input
        return replace(self, prompt=replace(self.prompt, cached_input=price, cache_write=price))


_USUAL = ModelPrices(Prices(), USUAL_OUTPUT_TIMES)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices of models that match a pattern; the first match wins."""

    by_pattern: Sequence[tuple[str, ModelPrices]] = ()

    def prices_of(self, model: str) -> ModelPrices:
        """The prices of this model, or the usual ratios."""
        return self.known_prices_of(model) or _USUAL

    def known_prices_of(self, model: str) -> ModelPrices | None:
        """The prices of this model in USD per million, or None where the configuration has none."""
        return next((prices for pattern, prices in self.by_pattern if fnmatchcase(model, pattern)), None)


def cost_nanos(prices: ModelPrices, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
    """What a request costs, in billionths of a dollar; prices are in USD per million tokens."""
    fresh = max(0, prompt_tokens - cached_tokens)
    read = min(cached_tokens, prompt_tokens)
    per_million = prices.prompt.input * fresh + prices.prompt.cached_input * read + prices.output * completion_tokens
    return round(per_million * 1000)
