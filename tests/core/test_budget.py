"""Budgets by model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core.context.budget import AUTO, UNKNOWN_WINDOW_TOKENS, BudgetTable, window_of
from tests.histories import budget_of

DEFAULT = budget_of(8000)


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("gpt-4o", 128_000),
        ("gpt-4o-mini-2024-07-18", 128_000),
        ("gpt-4.1-nano", 1_047_576),
        ("gpt-4", 8_192),
        ("gpt-4-0613", 8_192),
        ("gpt-4-32k-0613", 32_768),
        ("gpt-4-turbo-preview", 128_000),
        ("gpt-5", 400_000),
        ("gpt-5.1-mini", 400_000),
        ("gpt-5-chat-latest", 128_000),
        ("gpt-3.5-turbo", 16_385),
        ("o1-mini", 128_000),
        ("o3", 200_000),
        ("openai/gpt-4o", 128_000),
        ("ft:gpt-4o:org::id", 128_000),
        ("GPT-4O", 128_000),
        ("somebody/some-model", UNKNOWN_WINDOW_TOKENS),
        ("", UNKNOWN_WINDOW_TOKENS),
    ],
)
def test_windows(model: str, tokens: int) -> None:
    """Known families have their window, behind vendor prefixes and fine-tunes too; unknown ones a cautious one."""
    assert window_of(model) == tokens


def test_the_first_matching_pattern_wins() -> None:
    """Overrides are tried in order; a model that none matches has the default."""
    small, large = budget_of(1000), budget_of(64_000)
    table = BudgetTable(DEFAULT, [("gpt-4o-mini*", small), ("gpt-4o*", large)])

    assert [table.budget_of(model) for model in ("gpt-4o-mini", "gpt-4o", "gpt-4")] == [small, large, DEFAULT]


def test_auto_is_the_models_own_window() -> None:
    """`auto` is resolved for each model, shares stay as they are."""
    table = BudgetTable(replace(DEFAULT, max_total_tokens=AUTO))

    assert table.budget_of("gpt-4o") == replace(DEFAULT, max_total_tokens=128_000)
    assert table.budget_of("unknown").max_total_tokens == UNKNOWN_WINDOW_TOKENS


def test_the_prompt_may_take_what_the_completion_leaves() -> None:
    assert DEFAULT.prompt_limit_tokens(1000) == 7000
    assert DEFAULT.prompt_limit_tokens(9000) < 1
