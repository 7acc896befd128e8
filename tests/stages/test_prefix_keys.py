"""The names of a chat's prefixes are a sequence like any other, from either end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.fitting.draft import PrefixKeys


@given(boundaries=st.lists(st.integers(0, 30), unique=True).map(sorted), at=st.slices(31))
def test_they_are_those_of_the_boundaries(boundaries: list[int], at: slice) -> None:
    """Forwards, backwards, each by its place, and in parts."""
    keys = [str(number).encode() for number in range(31)]
    named = PrefixKeys(keys, boundaries)
    expected = [keys[boundary] for boundary in boundaries]

    assert list(named) == expected
    assert list(reversed(named)) == expected[::-1]
    assert [named[place] for place in range(len(named))] == expected
    assert named[at] == expected[at]
