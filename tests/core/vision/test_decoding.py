"""Keys tell decodings apart; what may pass is tried again, after pauses that double."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.vision.decoding import MAX_PAUSE_S, decoding_key, is_passing, pause_s
from gateway.core.vision.document import Fidelity

PARTS = st.tuples(st.text(max_size=5), st.text(max_size=5), st.sampled_from(Fidelity), st.text(max_size=5))


@given(PARTS, PARTS)
def test_keys_differ_with_every_part(
    first: tuple[str, str, Fidelity, str], second: tuple[str, str, Fidelity, str]
) -> None:
    assert (decoding_key(*first) == decoding_key(*second)) is (first == second)


@pytest.mark.parametrize(
    ("status", "passes"),
    [(400, False), (401, False), (404, False), (408, True), (422, False), (429, True), (500, True), (503, True)],
)
def test_which_statuses_pass(status: int, passes: bool) -> None:
    assert is_passing(status) is passes


@given(st.integers(1, 100), st.floats(0, 60), st.floats(0, 1))
def test_pauses_double_up_to_the_longest(tries: int, unit_s: float, jitter: float) -> None:
    pause = pause_s(tries, unit_s, jitter)

    assert 0 <= pause <= MAX_PAUSE_S
    assert pause <= pause_s(tries + 1, unit_s, jitter)
    assert pause_s(1, 0.2, 1.0) == pytest.approx(0.2)
    assert pause_s(3, 0.2, 0.0) == pytest.approx(0.4)
