"""What is roughly known of other models' bills."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tokens.priors import EXACT, UNKNOWN, Prior, prior_of

FAMILIES = [
    ("gpt-4o", EXACT),
    ("openai/gpt-5-mini", EXACT),
    ("o3-mini", EXACT),
    ("text-embedding-3-small", EXACT),
    ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", prior_of("claude-sonnet-4-5")),
    ("meta-llama/llama-4-scout-17b-16e-instruct", prior_of("llama4:scout")),
    ("Llama-Guard-3-8B", prior_of("llama-guard3")),
    ("openai.gpt-oss-120b-1:0", prior_of("gpt-oss-20b")),
    ("models/gemini-2.5-flash", prior_of("gemini-2.0-flash")),
    ("my-own-model", UNKNOWN),
    ("", UNKNOWN),
]


@pytest.mark.parametrize(("model", "prior"), FAMILIES)
def test_a_name_has_its_familys_prior(model, prior):
    assert prior_of(model) == prior


def test_families_are_told_apart():
    """Guard models and Llama 4 are no ordinary Llama, gpt-oss is no GPT."""
    names = [
        "llama-3.1-8b",
        "llama-4-maverick",
        "llama-guard-3",
        "gpt-oss-20b",
        "gpt-4o",
        "claude-3",
        "grok-4",
        "qwen3",
    ]

    assert len({prior_of(name) for name in names}) == len(names)


def test_a_bill_is_made_of_its_parts():
    prior = Prior(ratio=1.5, fixed_tokens=10, tools_fixed_tokens=200, tools_ratio=2.0)

    assert prior.bill(100, 0) == 160
    assert prior.bill(140, 40) == 160 + 80 + 200


@given(st.text(max_size=30), st.integers(0, 10**7), st.integers(0, 10**6))
def test_any_bill_is_above_zero_and_grows_with_the_estimate(model, estimate, tools):
    prior = prior_of(model)
    total = estimate + tools

    assert 0 < prior.bill(total, tools) <= prior.bill(total + 10, tools)


@given(st.integers(1, 10**7), st.integers(0, 10**6))
def test_exact_rules_are_left_alone(estimate, tools):
    assert EXACT.bill(estimate + tools, tools) == estimate + tools
