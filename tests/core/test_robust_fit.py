"""The robust line: exact on exact data, hardly moved by wild samples, quiet where the samples say nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.tokens.robust_fit import FIT_SAMPLES, Line, Sample, fit_line, fit_margin

PRIOR = Line()


def on_line(line: Line, count: int = 40, seed: int = 1) -> list[Sample]:
    """Samples of many sizes, every third with tools, reported as the line says."""
    rng = random.Random(seed)
    raws = [rng.randint(20, 9000) for _ in range(count)]
    return [Sample(raw, place % 3 == 0, max(1, round(line.at(raw, place % 3 == 0)))) for place, raw in enumerate(raws)]


def fitted(samples: list[Sample], prior: Line = PRIOR) -> Line:
    """What the second fit in a row says, as in a running gateway."""
    return fit_line(samples, prior, fit_line(samples, prior, prior))


@settings(max_examples=60, deadline=None)
@given(line=st.builds(Line, st.floats(0.7, 2.5), st.floats(0, 1000), st.floats(0, 800)), seed=st.integers(0, 1000))
def test_a_line_is_found(line: Line, seed: int) -> None:
    """Exact samples give the line back, within 1 % of prompts of their sizes."""
    found = fitted(on_line(line, seed=seed))

    for raw in (1000, 4000, 8000):
        assert found.at(raw, False) == pytest.approx(line.at(raw, False), rel=0.01)
        assert found.at(raw, True) == pytest.approx(line.at(raw, True), rel=0.01)


@settings(max_examples=60, deadline=None)
@given(factor=st.sampled_from([0.3, 0.5, 2.0, 3.0]), seed=st.integers(0, 1000))
def test_wild_samples_hardly_count(factor: float, seed: int) -> None:
    """One in eight is wrong by a factor, all in one direction: the line moves by less than 5 %."""
    line = Line(1.25, 40, 200)
    samples = [
        s._replace(reported_tokens=round(s.reported_tokens * factor)) if place % 8 == 1 else s
        for place, s in enumerate(on_line(line, 64, seed))
    ]
    found = fitted(samples)

    for raw in (1500, 4000, 8000):
        assert found.at(raw, False) == pytest.approx(line.at(raw, False), rel=0.05)


@pytest.mark.parametrize("prior", [Line(), Line(1.3, 50, 300)], ids=str)
def test_what_the_prior_says_stays(prior: Line) -> None:
    """Samples that agree move nothing, and neither does a single one that does not say which part is off."""
    samples = [s for s in on_line(prior) if s.reported_tokens == prior.at(s.raw_tokens, s.has_tools)]
    moved = fitted([Sample(1000, False, round(prior.at(1000, False)) + 20)], prior)

    assert fit_line(samples, prior, prior) == pytest.approx(prior)
    assert moved.ratio == pytest.approx(prior.ratio, abs=0.03)


def test_only_the_last_samples_count() -> None:
    """Bounded work: what is older than the window has no say."""
    old, new = on_line(Line(3.0)), on_line(Line(1.1), FIT_SAMPLES)

    assert fit_line([*old, *new], PRIOR, PRIOR) == fit_line(new, PRIOR, PRIOR)


@settings(max_examples=100, deadline=None)
@given(
    samples=st.lists(
        st.builds(Sample, st.integers(1, 10**7), st.booleans(), st.integers(1, 10**7)), min_size=1, max_size=80
    )
)
def test_any_samples_give_a_usable_line(samples: list[Sample]) -> None:
    """Whatever is reported, the line is finite and its ratio positive."""
    line = fitted(samples)

    assert 0.2 < line.ratio < 10
    assert all(abs(part) < 100_000 for part in line)


@given(
    samples=st.lists(
        st.builds(Sample, st.integers(1, 10**5), st.booleans(), st.integers(1, 10**5)), min_size=1, max_size=80
    ),
    left_out=st.integers(0, 3),
)
def test_the_margin_covers_all_but_those_left_out(samples: list[Sample], left_out: int) -> None:
    if left_out >= len(samples) // 2:
        left_out = 0
    ratio, fixed = fit_margin(samples, PRIOR, left_out)
    above = sum(s.reported_tokens > s.raw_tokens * (1 + ratio) + fixed + 1e-6 for s in samples)

    assert ratio >= 0
    assert fixed >= 0
    assert above <= left_out
