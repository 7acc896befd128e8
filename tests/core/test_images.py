"""What pictures cost: worked examples of the vendor's page, recorded bills, and bounds for any numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tokens import images
from gateway.core.tokens.images import ASSUMED_SIZE, Size, image_tokens

COSTS = {
    # the vendor's worked examples (2026-03)
    "gpt-4o, 1024 x 1024": (images.TILES_GPT_4O, Size(1024, 1024), "high", 765),
    "gpt-4o, 2048 x 4096": (images.TILES_GPT_4O, Size(2048, 4096), "high", 1105),
    "gpt-4o, 4096 x 8192, low": (images.TILES_GPT_4O, Size(4096, 8192), "low", 85),
    "gpt-4.1-mini, 1024 x 1024": (images.PATCHES_GPT_4_1_MINI, Size(1024, 1024), "auto", 1659),
    "gpt-4.1-mini, 1800 x 2400": (images.PATCHES_GPT_4_1_MINI, Size(1800, 2400), "auto", 2353),
    # recorded bills
    "gpt-4o, 1 x 1": (images.TILES_GPT_4O, Size(1, 1), "auto", 255),
    "gpt-4o, 800 x 400": (images.TILES_GPT_4O, Size(800, 400), "auto", 425),
    "gpt-4o, 2560 x 1669": (images.TILES_GPT_4O, Size(2560, 1669), "auto", 1105),
    "gpt-4o-mini, 32 x 32": (images.TILES_GPT_4O_MINI, Size(32, 32), "auto", 8500),
    "gpt-4o-mini, 2560 x 1669": (images.TILES_GPT_4O_MINI, Size(2560, 1669), "auto", 36835),
    "gpt-4.1-nano, 128 x 128": (images.PATCHES_GPT_4_1_NANO, Size(128, 128), "auto", 41),
    "gpt-5-nano, 16 x 16": (images.PATCHES_GPT_5_NANO, Size(16, 16), "auto", 3),
    "gpt-5-nano, 2560 x 1669": (images.PATCHES_GPT_5_NANO, Size(2560, 1669), "auto", 2233),
    "gpt-5-mini, 597 x 566": (images.PATCHES_GPT_5_MINI, Size(597, 566), "auto", 412),
    "gpt-5.4, 512 x 512": (images.PATCHES_GPT_5_4, Size(512, 512), "auto", 312),
    "gpt-5.6, 512 x 149": (images.PATCHES_GPT_5_4, Size(512, 149), "auto", 98),
    # by documentation only
    "gpt-5, 1024 x 1024": (images.TILES_GPT_5, Size(1024, 1024), "high", 630),
    "o1, 1024 x 1024": (images.TILES_O, Size(1024, 1024), "high", 675),
    "gpt-5.4, low": (images.PATCHES_GPT_5_4, Size(4000, 4000), "low", 312),
    "gpt-5.4, original": (images.PATCHES_GPT_5_4, Size(3200, 3200), "original", 12188),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "size", "detail", "tokens"), COSTS.values(), ids=COSTS)
def test_a_picture_costs_what_its_family_says(rule, size, detail, tokens):
    assert image_tokens(rule, size, detail) == tokens


RULES = [rule for name, rule in vars(images).items() if name.startswith(("TILES", "PATCHES"))]


@given(
    st.sampled_from(RULES),
    st.integers(-(10**9), 10**12),
    st.integers(-(10**9), 10**12),
    st.sampled_from(["low", "high", "auto", "original", "odd", ""]),
)
def test_any_numbers_have_a_bounded_cost(rule, width, height, detail):
    """Negative, zero and huge sides too."""
    most = {images.TileRule: 40 * 6000, images.PatchRule: 12_200}[type(rule)]

    assert 0 < image_tokens(rule, Size(width, height), detail) <= most


@given(st.sampled_from(RULES), st.integers(1, 3000), st.integers(1, 3000), st.integers(2, 8))
def test_a_larger_picture_of_a_shape_is_never_cheaper(rule, width, height, factor):
    """Below the bound; at it, rounding to whole patches may take a few."""
    small, large = (image_tokens(rule, size) for size in (Size(width, height), Size(width * factor, height * factor)))

    assert large >= small * 0.94


@pytest.mark.parametrize("rule", RULES)
def test_an_unknown_size_is_the_assumed_one(rule):
    assert image_tokens(rule, None) == image_tokens(rule, ASSUMED_SIZE)
