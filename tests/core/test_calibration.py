"""Calibration: unknown tokenizers are found, exact ones stay exact, odd reports do no harm, the inverse is one."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.strange_tokenizers import Provider, growing, interleaved, providers, samples_of, short
from gateway.core.tokens.calibration import (
    EXACT,
    FORMAT_VERSION,
    MILLION,
    WINDOW,
    Calibration,
    Correction,
    Ignored,
    Prior,
    learn,
    new_calibration,
    parse_calibration,
    render_calibration,
)
from gateway.core.tokens.robust_fit import Sample
from tests.shared_data import shared_data

CORRECTIONS = st.builds(
    Correction,
    st.integers(1, 16 * MILLION),
    st.integers(-5000, 70_000),
    st.integers(-5000, 70_000),
    st.integers(0, 16 * MILLION),
    st.integers(0, 70_000),
)
SAMPLES = st.builds(
    Sample, st.integers(0, 10**7), st.booleans(), st.integers(0, 10**7), st.sampled_from([0, 1, 500, 10**6])
)


def learned(samples: Iterable[Sample], prior: Prior = EXACT) -> Calibration:
    """The state after these reports."""
    state = new_calibration(prior)
    for sample in samples:
        state, _ = learn(state, sample)
    return state


def billed(
    count: int, rule: Callable[[int, bool], float], *, seed: int = 1, noise: float = 0.01, sizes: int = 8000
) -> list[Sample]:
    """Reports of a provider that bills by a rule, but for noise."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        raw, has_tools = rng.randint(20, sizes), rng.random() < 0.3
        found.append(Sample(raw, has_tools, round(rule(raw, has_tools) * rng.gauss(1, noise))))
    return found


def dear(raw: int, has_tools: bool) -> float:
    return 1.3 * raw + 60 + 300 * has_tools


@given(correction=CORRECTIONS, limit=st.integers(-100, 10**6), has_tools=st.booleans())
def test_the_limit_is_the_exact_inverse(correction: Correction, limit: int, has_tools: bool) -> None:
    """The largest raw count that fits fits, and one more does not; -1 where nothing does."""
    raw = correction.raw_limit(limit, has_tools)

    def fits(tokens: int) -> bool:
        return correction.estimate(tokens, has_tools) + correction.margin(tokens, has_tools) <= limit

    assert raw >= -1
    assert raw == -1 or fits(raw)
    assert not fits(raw + 1)


@given(correction=CORRECTIONS, raws=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), has_tools=st.booleans())
def test_more_text_never_costs_less(correction: Correction, raws: tuple[int, int], has_tools: bool) -> None:
    """Estimate and bound grow with the raw count; the margin is never negative."""
    less, more = sorted(raws)

    assert 0 <= correction.estimate(less, has_tools) <= correction.estimate(more, has_tools)
    assert correction.margin(less, has_tools) >= 0
    assert correction.raw_limit(less, has_tools) <= correction.raw_limit(more, has_tools)


def test_nothing_known_changes_nothing() -> None:
    """An exact prior is the raw count; another is believed, with caution."""
    prior = Prior(1.2, 30, 200)
    cautious = new_calibration(prior).applied

    assert new_calibration(EXACT).applied.is_exact
    assert [Correction().estimate(raw, True) for raw in (0, 1, 999)] == [0, 1, 999]
    assert (cautious.estimate(1000, False), cautious.estimate(1000, True)) == (1230, 1430)
    assert 40 <= cautious.margin(1000, False) <= 100


@pytest.mark.parametrize("prior", [EXACT, Prior(1.6, 0, 0), Prior(0.8, 500, 900)], ids=str)
def test_an_unknown_tokenizer_is_found(prior: Prior) -> None:
    """From any prior within reason, ratio and fixed parts come out within 2 % after 50 answers."""
    state = learned(billed(50, dear), prior)

    for raw in (500, 2000, 8000):
        for has_tools in (False, True):
            assert state.applied.estimate(raw, has_tools) == pytest.approx(dear(raw, has_tools), rel=0.02)


def test_equal_prompt_sizes_stay_near_the_prior() -> None:
    """What the samples cannot tell apart is shared out, and right where the samples are."""
    applied = learned([Sample(500, True, 800)] * 40).applied

    assert applied.estimate(500, True) == pytest.approx(800, rel=0.01)
    assert 1 <= applied.ratio_millionths / MILLION <= 1.6


STRAYS = {
    "none": lambda n, raw: raw,
    "a token or two": lambda n, raw: raw + (-2, -1, 0, 0, 1, 2)[n % 6],
    "one in fifty cut short": lambda n, raw: raw // 2 if n % 50 == 49 else raw,
    "one in a hundred doubled": lambda n, raw: raw * 2 + 100 if n % 100 == 60 else raw,
    "one in seventy with hidden thousands": lambda n, raw: raw + 7000 if n % 70 == 9 else raw,
}


@pytest.mark.parametrize("report", STRAYS.values(), ids=STRAYS)
def test_exact_counts_stay_exact(report: Callable[[int, int], int]) -> None:
    """Reports that confirm the raw count, but for strays, never move it, not even for one answer."""
    rng, state = random.Random(3), new_calibration(EXACT)
    for number in range(400):
        raw = rng.randint(10, 9000)
        state, _ = learn(state, Sample(raw, number % 3 == 0, report(number, raw)))

        assert state.applied.is_exact


POISON = {
    "zero": Sample(500, False, 0),
    "nothing counted": Sample(0, False, 500),
    "absurd": Sample(500, False, 10**9),
    "cached only, said so": Sample(4000, False, 20, 5200),
    "cached only, silent": Sample(4000, False, 200),
    "half of it cached": Sample(4000, False, 2600, 2660),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_reports_that_say_nothing_are_left_out(poison: Sample) -> None:
    """They are named, and the state does not change, however many there are."""
    state = learned(billed(40, dear))
    after, ignored = learn(state, poison)

    assert ignored is not None
    assert after is state


MINORITIES: dict[str, Callable[[Sample], Sample]] = {
    "doubled": lambda s: s._replace(reported_tokens=2 * s.reported_tokens),
    "with hidden search results": lambda s: s._replace(reported_tokens=s.reported_tokens + 9000),
    "half cached, silent": lambda s: s._replace(reported_tokens=s.reported_tokens // 2),
    "cut at 2,048": lambda s: s._replace(reported_tokens=min(2048, s.reported_tokens)),
}


@pytest.mark.parametrize("spoil", MINORITIES.values(), ids=MINORITIES)
@pytest.mark.parametrize("seed", range(3))
def test_a_minority_of_odd_reports_does_not_poison(spoil: Callable[[Sample], Sample], seed: int) -> None:
    """One in five is spoiled: the expectation stays within 4 % of what the others say."""
    rng = random.Random(seed)
    state = learned(spoil(s) if rng.random() < 0.2 else s for s in billed(120, dear, seed=seed))

    for raw in (500, 2000, 8000):
        assert state.applied.estimate(raw, False) == pytest.approx(dear(raw, False), rel=0.04)


def test_an_upstream_that_cuts_prompts_is_not_believed() -> None:
    """A chat grows past what the upstream reads: from there on every report is the same, and is left out."""
    growing_chat = [Sample(raw, False, min(4096, round(1.1 * raw + 20))) for raw in range(100, 20_000, 100)]
    state, reasons = new_calibration(EXACT), []
    for sample in growing_chat:
        state, ignored = learn(state, sample)
        reasons.append(ignored)

    assert state.applied.estimate(10_000, False) == pytest.approx(11_020, rel=0.03)
    assert reasons.count(Ignored.TRUNCATED) > 100
    assert not any(reasons[:37])


def test_a_large_system_text_is_no_truncation() -> None:
    """Short prompts that are all billed nearly the same are a fixed part."""
    state = learned(Sample(raw, False, 5000 + raw) for raw in (10, 30, 20, 90, 15, 400, 40, 60) * 6)

    assert state.applied.estimate(50, False) == pytest.approx(5050, rel=0.02)


def test_the_correction_moves_in_steps() -> None:
    """Over 300 answers it changes a handful of times; once settled, hardly ever, and new facts are still taken up."""
    state, changes = new_calibration(EXACT), []
    for number, sample in enumerate(billed(300, dear)):
        before, (state, _) = state.applied, learn(state, sample)
        if state.applied != before:
            changes.append(number)
    turned = learned(billed(300, dear)).applied
    for sample in billed(60, lambda raw, has_tools: 0.9 * raw, seed=9):
        state, _ = learn(state, sample)

    assert changes[0] == 3
    assert len(changes) <= 8
    assert len([number for number in changes if number >= 100]) <= 3
    assert state.applied != turned
    assert state.applied.estimate(4000, False) == pytest.approx(3600, rel=0.03)


def test_the_margin_covers() -> None:
    """Of the reports to come, about 99 in 100 stay below estimate and margin, which is no multiple of the noise."""
    covered, margins = [], []
    for seed in range(5):
        state = learned(billed(100, dear, seed=seed, noise=0.02))
        for sample in billed(400, dear, seed=seed + 100, noise=0.02):
            estimate, margin = (
                state.applied.estimate(sample.raw_tokens, sample.has_tools),
                state.applied.margin(sample.raw_tokens, sample.has_tools),
            )
            covered.append(sample.reported_tokens <= estimate + margin)
            margins.append(margin / estimate)

    assert statistics.mean(covered) > 0.985
    assert statistics.median(margins) < 0.15


@pytest.mark.parametrize("place", range(4))
def test_generated_chats_converge(place: int) -> None:
    """Against other tokenizers, templates and system texts: below 2 % at the median after 50 answers."""
    assert median_after_50(providers()[place], "generated") < 0.02


def test_recorded_chats_converge() -> None:
    """Our o200k against cl100k with a template and a system text, on recorded conversations of all kinds."""
    shared_data("conversations_dev.jsonl.gz")
    cl100k = providers()[0]

    for kind in ("prose", "agents", "mixed"):
        assert median_after_50(cl100k, kind) < 0.02


def median_after_50(provider: Provider, kind: str) -> float:
    errors = []
    for sequence in (growing, interleaved, short):
        state = new_calibration(EXACT)
        for number, sample in enumerate(samples_of(provider, sequence(100, random.Random(5), kind))):
            estimate = state.applied.estimate(sample.raw_tokens, sample.has_tools)
            if number >= 50:
                errors.append(abs(estimate - sample.reported_tokens) / sample.reported_tokens)
            state, _ = learn(state, sample)
    return statistics.median(errors)


@settings(max_examples=60, deadline=None)
@given(st.lists(SAMPLES, max_size=3 * WINDOW), st.sampled_from([EXACT, Prior(1.3, 70, 400)]))
def test_whatever_is_reported_the_state_stays_bounded_and_usable(samples: list[Sample], prior: Prior) -> None:
    """No report raises, no state grows, and what was rendered is read back as it was."""
    state = learned(samples, prior)

    assert len(state.samples) <= WINDOW
    assert state.applied.estimate(1000, True) >= 0
    assert len(render_calibration(state)) < 6000
    assert parse_calibration(render_calibration(state), prior) == state


def test_equal_reports_give_equal_states() -> None:
    """Nothing but the reports decides."""
    samples = billed(90, dear)

    assert learned(samples) == learned(samples)


GOOD = render_calibration(learned(billed(30, dear)))
OTHERS = {
    "empty": b"",
    "not JSON": b"\x00\xff",
    "another thing": b'{"v":1}',
    "cut short": GOOD[:-20],
    "of another version": GOOD.replace(b"[%d," % FORMAT_VERSION, b"[%d," % (FORMAT_VERSION + 1), 1),
    "a ratio of nothing": GOOD.replace(b'"ratio_millionths":', b'"ratio_millionths":0,"x":'),
    "numbers as texts": GOOD.replace(b"[%d,[[" % FORMAT_VERSION, b'[%d,[["1",' % FORMAT_VERSION),
    "more seen than learned": msgspec.json.encode([1, [[1, False, 1, 0]], [1.0, 0.0, 0.0], {}, 0, 0]),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_foreign_data_is_nothing(data: bytes) -> None:
    assert parse_calibration(GOOD, EXACT) is not None
    assert parse_calibration(data, EXACT) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Never an exception."""
    parse_calibration(data, EXACT)
