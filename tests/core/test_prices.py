"""Prices by model."""

from __future__ import annotations

from gateway.core.context.economics import Prices
from gateway.core.context.prices import ModelPrices, PriceTable


def test_the_first_pattern_that_matches_wins() -> None:
    """Others have the usual ratios."""
    mini, rest = ModelPrices(Prices(0.15), 0.6), ModelPrices(Prices(2.5), 10.0)
    table = PriceTable([("gpt-4o-mini*", mini), ("gpt-4o*", rest)])

    assert table.prices_of("gpt-4o-mini-2024-07-18") is mini
    assert table.prices_of("gpt-4o") is rest
    assert table.prices_of("other").prompt == Prices(1.0, 0.1, 1.25)


def test_an_upstream_without_a_cache_reads_every_token_in_full() -> None:
    """Neither a discount nor a surcharge is left."""
    assert ModelPrices(Prices(2.0, 0.2, 2.5), 8.0).uncached().prompt == Prices(2.0, 2.0, 2.0)
