"""The line through reported against counted tokens, fitted so that a few wild reports do not move it.

`reported = ratio * counted + fixed (+ tools_fixed where the request has tools)`: another tokenizer is a ratio, a system
text that a provider adds is a fixed part, and so is the frame of its tool prompt. Least absolute deviations of the
relative errors, drawn towards a prior where the samples do not say (equal prompt sizes cannot tell ratio from fixed).

Pure arithmetic on the last `FIT_SAMPLES` samples: bounded work. What is applied of it, and when, is `calibration`'s.

Invariants, each with a test of its own:
  1. Samples that lie on a line give that line, wherever the prior stood within reason.
  2. One wild sample in eight, in whichever direction, does not move the line by more than 5 % where most samples are.
  3. Equal samples give equal lines; samples that agree with the prior give the prior exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

FIT_SAMPLES = 64
_SHORT_TOKENS = 100
"""Added to a prompt's size where errors are made relative: one token more or less on a tiny prompt says little."""
_HALF_LIFE_SAMPLES = 48.0
_ROUNDS, _LAST_ROUNDS = 4, 2
_WILD = 8.0
"""In the last rounds, samples further off than so many times the usual error hardly count (Cauchy's weights)."""
_EXACT = 0.002
"""Relative errors below this all weigh the same."""
_NOISE_MIN, _NOISE_MAX, _FEW_NOISE = 0.004, 0.2, 0.6
"""The usual error is taken for no less than this, and than that by the number of samples: few prove little."""
_RATIO_DOUBT, _FIXED_DOUBT, _TOOLS_DOUBT = 0.2, 60.0, 300.0
"""How far a prior is usually off: its pull on each part."""
_RATIO_MIN, _RATIO_MAX = 0.25, 8.0
_FIXED_MIN, _FIXED_MAX = -4_096.0, 65_536.0


class Sample(NamedTuple):
    """One answered request: our raw count of what was forwarded, and what the provider says it was.

    `cached_tokens` are those that the report names as served from its prompt cache.
    """

    raw_tokens: int
    has_tools: bool
    reported_tokens: int
    cached_tokens: int = 0


class Line(NamedTuple):
    """Reported tokens as a function of counted ones."""

    ratio: float = 1.0
    fixed: float = 0.0
    tools_fixed: float = 0.0

    def at(self, raw_tokens: int, has_tools: bool) -> float:
        """What should be reported."""
        return self.ratio * raw_tokens + self.fixed + (self.tools_fixed if has_tools else 0.0)


def fit_line(samples: Sequence[Sample], prior: Line, start: Line) -> Line:
    """The line that the samples and the prior say.

    Args:
        samples: oldest first; only the last `FIT_SAMPLES` count, newer ones more.
        prior: what is believed without samples.
        start: where to look first, such as the last fit.
    """
    recent = samples[-FIT_SAMPLES:]
    rows = [(1.0 / (s.raw_tokens + _SHORT_TOKENS), s) for s in recent]
    ages = [0.5 ** ((len(recent) - 1 - place) / _HALF_LIFE_SAMPLES) for place in range(len(recent))]
    line = start
    for number in range(_ROUNDS + _LAST_ROUNDS):
        errors = [(s.reported_tokens - line.at(s.raw_tokens, s.has_tools)) * scale for scale, s in rows]
        sizes = sorted(map(abs, errors))
        noise = min(max(sizes[len(sizes) // 2], _NOISE_MIN, _FEW_NOISE / len(sizes)), _NOISE_MAX)
        if number < _ROUNDS:
            weights = [age / (noise * max(abs(error), _EXACT)) for age, error in zip(ages, errors, strict=True)]
        else:
            wild = (_WILD * noise) ** -2
            weights = [
                age / (noise * max(abs(error), _EXACT) * (1 + error * error * wild))
                for age, error in zip(ages, errors, strict=True)
            ]
        step = _solve(rows, weights, errors, line, prior)
        line = _bounded(Line(line.ratio + step[0], line.fixed + step[1], line.tools_fixed + step[2]))
    return line


def _solve(
    rows: Sequence[tuple[float, Sample]],
    weights: Sequence[float],
    errors: Sequence[float],
    line: Line,
    prior: Line,
) -> tuple[float, float, float]:
    """One step of iteratively reweighted least squares: the normal equations of ratio, fixed and tools_fixed."""
    ratio_pull = _pull(line.ratio - prior.ratio, _RATIO_DOUBT)
    fixed_pull = _pull(line.fixed - prior.fixed, _FIXED_DOUBT)
    tools_pull = _pull(line.tools_fixed - prior.tools_fixed, _TOOLS_DOUBT)
    rr, ff, tt = ratio_pull, fixed_pull, tools_pull
    rf = rt = ft = 0.0
    r = (prior.ratio - line.ratio) * ratio_pull
    f = (prior.fixed - line.fixed) * fixed_pull
    t = (prior.tools_fixed - line.tools_fixed) * tools_pull
    for (scale, sample), weight, error in zip(rows, weights, errors, strict=True):
        share = sample.raw_tokens * scale
        by_share, by_scale = weight * share, weight * scale
        rr += by_share * share
        rf += by_share * scale
        ff += by_scale * scale
        r += by_share * error
        f += by_scale * error
        if sample.has_tools:
            rt += by_share * scale
            ft += by_scale * scale
            tt += by_scale * scale
            t += by_scale * error
    return _solve_3(rr, rf, rt, ff, ft, tt, r, f, t)


def _pull(distance: float, doubt: float) -> float:
    """How much a part's prior weighs: less, the further the samples have drawn it away (Cauchy's weights)."""
    return 1 / (doubt * doubt + distance * distance)


def _solve_3(
    rr: float, rf: float, rt: float, ff: float, ft: float, tt: float, r: float, f: float, t: float
) -> tuple[float, float, float]:
    """The solution of a symmetric positive definite system, by elimination (the pulls keep it from being singular)."""
    f_by_r, t_by_r = rf / rr, rt / rr
    ff -= f_by_r * rf
    ft -= f_by_r * rt
    tt -= t_by_r * rt
    f -= f_by_r * r
    t -= t_by_r * r
    t_by_f = ft / ff
    tools = (t - t_by_f * f) / (tt - t_by_f * ft)
    fixed = (f - ft * tools) / ff
    return (r - rf * fixed - rt * tools) / rr, fixed, tools


def _bounded(line: Line) -> Line:
    return Line(
        min(max(line.ratio, _RATIO_MIN), _RATIO_MAX),
        min(max(line.fixed, _FIXED_MIN), _FIXED_MAX),
        min(max(line.tools_fixed, _FIXED_MIN), _FIXED_MAX),
    )


def fit_margin(samples: Sequence[Sample], line: Line, left_out: int) -> tuple[float, float]:
    """How far reports lie above a line: a share of the counted tokens, and a fixed part for short prompts.

    Args:
        samples: whose reports should lie below line + margin.
        line: the expectation.
        left_out: so many of the highest may lie above.

    Returns:
        ratio and fixed part, neither below 0.
    """
    above = [(s.raw_tokens, s.reported_tokens - line.at(s.raw_tokens, s.has_tools)) for s in samples]
    median = sorted(raw for raw, _ in above)[len(above) // 2]
    long = [excess / raw for raw, excess in above if raw >= median]
    ratio = max(0.0, _high(long, left_out // 2))
    fixed = max(0.0, _high([excess - ratio * raw for raw, excess in above], left_out))
    return ratio, fixed


def _high(values: Sequence[float], left_out: int) -> float:
    return sorted(values)[-1 - left_out]
