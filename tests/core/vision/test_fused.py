"""One order of what words and meanings found, and scores along it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.vision.fused import fuse_places, scores_in_order

places = st.lists(st.integers(0, 30), unique=True, max_size=12)
shares = st.floats(0, 1)


def test_what_both_lists_name_comes_before_what_one_does() -> None:
    """Of equals what words found."""
    assert fuse_places([1, 2, 3], [3, 9]) == [3, 1, 2, 9]
    assert fuse_places([1], [0]) == [1, 0]


@given(places, places)
def test_the_order_is_of_both_lists(by_words: list[int], by_meaning: list[int]) -> None:
    """Invariant 1: nothing is lost or told twice; one list alone keeps its order, and the first of both is first."""
    fused = fuse_places(by_words, by_meaning)

    assert sorted(fused) == sorted({*by_words, *by_meaning})
    assert fuse_places(by_words, []) == by_words
    assert fuse_places([], by_meaning) == by_meaning
    assert fuse_places([99, *by_words], [99, *by_meaning])[0] == 99


@given(st.lists(st.tuples(shares, st.none() | st.floats(-1, 1.001)), max_size=20))
def test_scores_never_rise(said: list[tuple[float, float | None]]) -> None:
    """Invariant 2: nor are they below what a region has of itself, or above 1; shares that fall stay as they are."""
    scores = scores_in_order([share for share, _ in said], [cosine for _, cosine in said])
    falling = sorted((share for share, _ in said), reverse=True)

    assert all(first >= second for first, second in pairwise(scores))
    assert all(
        1 >= score >= min(1, max(share, cosine or 0)) for score, (share, cosine) in zip(scores, said, strict=True)
    )
    assert scores_in_order(falling, [None] * len(falling)) == falling
