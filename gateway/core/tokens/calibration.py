"""From what a provider reported to what the next prompt will cost there: learned per (upstream, model).

Our raw count is right for some models and an approximation for the others. A `Calibration` watches pairs of raw count
and report, and holds a `Correction`: the calibrated expectation, a safety margin, and the inverse that budgets need.
The correction moves in steps: only when what was learned has moved by more than a step, with enough samples behind it,
so that equal prompts get equal budgets and equal bytes from one answer to the next. Where reports confirm the raw
count, it stays exactly that.

It will not fetch, store or time anything. The unit is always tokens; ratios of a correction are integers in
millionths, so that the inverse is exact.

Invariants, each with a test of its own:
  1. `raw_limit(limit)` is the largest raw count with `estimate + margin <= limit`; both grow with the raw count.
  2. Reports that confirm the raw count, but for a token or two and one stray in fifty, leave ratio 1 and margin 0.
  3. A minority of absurd, cached-only or truncated reports does not move the correction beyond a few percent.
  4. A calibration never grows: at most `WINDOW` samples, whatever is learned.
  5. Stored data that is corrupt, foreign or of another version is None, never an exception; what was rendered is read
     back as it was.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from gateway.core.tokens.robust_fit import Line, Sample, fit_line, fit_margin

WINDOW = 128
MILLION = 1_000_000
FORMAT_VERSION = 1
_STRAY_TOKENS = 2
"""A report this close to the raw count confirms it."""
_CONFIRMING_SHARE = 0.75
_CAUTIOUS_MARGIN = 0.05
"""Of a prior that is not exact, until reports say better."""
_WILD_RATIO, _WILD_TOKENS, _STRAYS_ONE_IN = 0.25, 64, 64
"""One report, and one in 64, may lie this far above the expectation, and the margin does not follow."""
_MARGIN_STRETCH = 1.4
"""The highest of some samples is not the highest to come: margins learned are stretched by this, and more at first."""
_FIT_EACH_UNTIL, _FIT_EVERY, _FIT_RARELY = 16, 8, 32
"""Every sample is fitted at first, then every eighth, and every 32nd once the window is full: a fit takes 0.3 ms."""
_COARSE_SAMPLES, _COARSE_STEP = 4, 0.10
"""A change by more than this share of a prompt takes this many samples since the last one."""
_FINE_SAMPLES_MIN, _FINE_SAMPLES_MAX, _FINE_STEP = 16, 64, 0.01
"""A smaller one takes as many as stood behind the last change, within these bounds: the more is known, the rarer."""
_BREACHES = 1
"""More of the last `_FIT_EACH_UNTIL` reports than this above estimate + margin: the margin cannot wait for a step."""
_ABSURD_RATIO, _ABSURD_FIXED = 8, 20_000
_LOW_RATIO = 4
_SAME_REPORT, _LONGER_PROMPT, _SHORTFALL = 0.01, 0.2, 0.95


class Prior(NamedTuple):
    """What is believed of a model before its first answer; 1, 0, 0 where our count is the provider's own."""

    ratio: float = 1.0
    fixed: float = 0.0
    tools_fixed: float = 0.0


EXACT = Prior()


class Ignored(enum.Enum):
    """Why a report was not learned from."""

    EMPTY = "empty"
    """Nothing was counted or reported."""
    ABSURD = "absurd"
    """Far more than the prompt can be."""
    LOW = "low"
    """Far less than the prompt can be: cut by the upstream, or only what it did not have in its cache."""
    CACHED = "cached"
    """The report leaves out what was served from the cache."""
    TRUNCATED = "truncated"
    """A much longer prompt was reported like a shorter one: the upstream cuts prompts at that length."""


_Millionths = Annotated[int, Meta(ge=0, le=16 * MILLION)]
_Tokens = Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]
_Count = Annotated[int, Meta(ge=0, le=2**53)]


class Correction(msgspec.Struct, frozen=True):
    """A frozen correction of raw counts.

    Attributes:
        ratio_millionths: real tokens for a million raw ones.
        fixed_tokens: added to each prompt by the provider.
        tools_tokens: added where the request has tools.
        margin_millionths: safety margin for a million raw tokens.
        margin_tokens: safety margin of each prompt.
    """

    ratio_millionths: _Millionths = MILLION
    fixed_tokens: _Tokens = 0
    tools_tokens: _Tokens = 0
    margin_millionths: _Millionths = 0
    margin_tokens: Annotated[int, Meta(ge=0, le=1_000_000)] = 0

    @property
    def is_exact(self) -> bool:
        """Whether raw counts are taken as they are."""
        return self == NO_CORRECTION

    def estimate(self, raw_tokens: int, has_tools: bool) -> int:
        """What the provider will report, as far as is known."""
        return max(0, _scaled(self.ratio_millionths, raw_tokens) + self._added(has_tools))

    def margin(self, raw_tokens: int, has_tools: bool) -> int:
        """Tokens beside the estimate that the report stays below in about 99 of 100 cases."""
        return self._upper(raw_tokens, has_tools) - self.estimate(raw_tokens, has_tools)

    def raw_limit(self, limit_tokens: int, has_tools: bool) -> int:
        """The largest raw count whose estimate and margin fit the limit; -1 where not even an empty prompt fits."""
        if limit_tokens < 0:
            return -1
        room = limit_tokens - self._added(has_tools) - self.margin_tokens
        return max(-1, room * MILLION // (self.ratio_millionths + self.margin_millionths))

    def _upper(self, raw_tokens: int, has_tools: bool) -> int:
        scaled = _scaled(self.ratio_millionths + self.margin_millionths, raw_tokens)
        return max(0, scaled + self._added(has_tools) + self.margin_tokens)

    def _added(self, has_tools: bool) -> int:
        return self.fixed_tokens + (self.tools_tokens if has_tools else 0)


NO_CORRECTION = Correction()
"""Raw counts as they are."""


def _scaled(millionths: int, tokens: int) -> int:
    return -(-millionths * tokens // MILLION)


class Calibration(msgspec.Struct, frozen=True):
    """What is known of one (upstream, model).

    Attributes:
        prior: what was believed at the start.
        samples: the last reports, oldest first.
        line: the fit of them.
        applied: the correction in force.
        seen: how many reports were learned from, ever.
        changed_at: `seen` when `applied` last changed.
    """

    prior: Prior
    samples: tuple[Sample, ...]
    line: Line
    applied: Correction
    seen: int = 0
    changed_at: int = 0


def new_calibration(prior: Prior) -> Calibration:
    """The state before the first report."""
    line = Line(*prior)
    if prior == EXACT:
        return Calibration(prior, (), line, NO_CORRECTION)
    margin_tokens = round(_CAUTIOUS_MARGIN * max(0.0, line.fixed))
    return Calibration(prior, (), line, _correction(line, _CAUTIOUS_MARGIN, margin_tokens))


def learn(state: Calibration, sample: Sample) -> tuple[Calibration, Ignored | None]:
    """The state after one more report, and why the report was left out if it was.

    Args:
        state: what was known.
        sample: of a complete answer whose prompt was counted.
    """
    ignored = decide_ignored(state, sample)
    if ignored is not None:
        return state, ignored
    samples = (*state.samples[1 - WINDOW :], sample)
    seen = state.seen + 1
    is_due = seen <= _FIT_EACH_UNTIL or seen % (_FIT_EVERY if seen <= WINDOW else _FIT_RARELY) == 0
    if is_due and state.applied.is_exact and _confirm(samples[-_FIT_RARELY:]):
        is_due = False  # nothing to learn, which for exact models is always
    line = fit_line(samples, Line(*state.prior), state.line) if is_due else state.line
    learned = msgspec.structs.replace(state, samples=samples, line=line, seen=seen)
    return (_stepped(learned) if is_due else learned), None


def _confirm(samples: Sequence[Sample]) -> bool:
    """Whether the raw count was right each time."""
    return all(-_STRAY_TOKENS <= s.reported_tokens - s.raw_tokens <= _STRAY_TOKENS for s in samples)


def decide_ignored(state: Calibration, sample: Sample) -> Ignored | None:
    """Why a report must not be learned from, or None."""
    raw, reported = sample.raw_tokens, sample.reported_tokens
    if raw <= 0 or reported <= 0:
        return Ignored.EMPTY
    if sample.cached_tokens > reported:
        return Ignored.CACHED
    if reported > _ABSURD_RATIO * raw + _ABSURD_FIXED:
        return Ignored.ABSURD
    if reported * _LOW_RATIO < raw:
        return Ignored.LOW
    if sample.cached_tokens and _leaves_cache_out(state, sample):
        return Ignored.CACHED
    return Ignored.TRUNCATED if _is_cut(state, sample) else None


def _leaves_cache_out(state: Calibration, sample: Sample) -> bool:
    """Whether the cached tokens, added to the report, explain it better than the report alone."""
    expected = state.line.at(sample.raw_tokens, sample.has_tools)
    whole = sample.reported_tokens + sample.cached_tokens
    return abs(whole - expected) < abs(sample.reported_tokens - expected) / 2


def _is_cut(state: Calibration, sample: Sample) -> bool:
    """Whether this much longer prompt was reported like a shorter one, and no prompt was ever reported longer."""
    if sample.reported_tokens > _SHORTFALL * state.line.at(sample.raw_tokens, sample.has_tools):
        return False
    tolerance = max(_STRAY_TOKENS, _SAME_REPORT * sample.reported_tokens)
    if any(other.reported_tokens > sample.reported_tokens + tolerance for other in state.samples):
        return False
    shorter = sample.raw_tokens - _LONGER_PROMPT * sample.reported_tokens
    return any(
        other.raw_tokens < shorter and sample.reported_tokens - other.reported_tokens <= tolerance
        for other in state.samples
        if other.has_tools == sample.has_tools
    )


def _stepped(state: Calibration) -> Calibration:
    """Apply what was learned if it is a step away from what is applied, and enough samples say so."""
    since = state.seen - state.changed_at
    if since < _COARSE_SAMPLES:
        return state
    learned = _learned_correction(state)
    moved = _distance(state, learned)
    is_coarse = moved > _COARSE_STEP or (moved > 0 and _is_breached(state))
    fine_samples = min(max(state.changed_at, _FINE_SAMPLES_MIN), _FINE_SAMPLES_MAX)
    if not is_coarse and (moved <= _FINE_STEP or since < fine_samples):
        return state
    return msgspec.structs.replace(state, applied=learned, changed_at=state.seen)


def _is_breached(state: Calibration) -> bool:
    applied = state.applied
    above = 0
    for raw, has_tools, reported, _ in state.samples[-_FIT_EACH_UNTIL:]:
        above += reported > applied.estimate(raw, has_tools) + applied.margin(raw, has_tools) + _STRAY_TOKENS
    return above > _BREACHES


def _learned_correction(state: Calibration) -> Correction:
    samples = state.samples
    recent = samples[-_FIT_EACH_UNTIL:]
    confirming = sum(abs(s.reported_tokens - s.raw_tokens) <= _STRAY_TOKENS for s in recent)
    line = Line() if confirming >= _CONFIRMING_SHARE * len(recent) else state.line
    samples = _without_strays(samples, line)
    ratio, fixed = fit_margin(samples, line, len(samples) // 100)
    if line == Line() and ratio * max(s.raw_tokens for s in samples) + fixed <= _STRAY_TOKENS:
        return NO_CORRECTION
    stretch = _MARGIN_STRETCH + 4 / len(samples)
    return _correction(line, ratio * stretch, fixed * stretch)


def _without_strays(samples: tuple[Sample, ...], line: Line) -> tuple[Sample, ...]:
    """The samples but for those far above the line, if these are so few that no margin need cover them."""
    kept = tuple(
        s for s in samples if s.reported_tokens <= (1 + _WILD_RATIO) * line.at(s.raw_tokens, s.has_tools) + _WILD_TOKENS
    )
    return kept if len(samples) - len(kept) <= 1 + len(samples) // _STRAYS_ONE_IN else samples


def _correction(line: Line, margin_ratio: float, margin_fixed: float) -> Correction:
    """Rounded to what a log line shows: thousandths and whole tokens."""
    return Correction(
        round(line.ratio * 1000) * 1000,
        round(line.fixed),
        round(line.tools_fixed),
        min(16 * MILLION, -int(-margin_ratio * 1000 // 1) * 1000),
        min(MILLION, -int(-margin_fixed // 1)),
    )


def _distance(state: Calibration, learned: Correction) -> float:
    """How differently the two corrections see the recent prompts: the median, as a share; the larger of both bounds."""
    estimates, uppers = [], []
    for sample in state.samples[-_FIT_EACH_UNTIL:]:
        raw, has_tools = sample.raw_tokens, sample.has_tools
        size = max(raw, _SHORT_PROMPT)
        before, after = state.applied.estimate(raw, has_tools), learned.estimate(raw, has_tools)
        estimates.append(abs(after - before) / size)
        spread = learned.margin(raw, has_tools) - state.applied.margin(raw, has_tools)
        uppers.append(abs(after - before + spread) / size)
    middle = len(estimates) // 2
    return max(sorted(estimates)[middle], sorted(uppers)[middle] / 2)


_SHORT_PROMPT = 64


class _Stored(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    samples: Annotated[list[tuple[_Count, bool, _Count, _Count]], Meta(max_length=WINDOW)]
    line: tuple[
        Annotated[float, Meta(ge=0.1, le=16)],
        Annotated[float, Meta(ge=-1e6, le=1e6)],
        Annotated[float, Meta(ge=-1e6, le=1e6)],
    ]
    applied: Correction
    seen: _Count
    changed_at: _Count


_decode = msgspec.json.Decoder(_Stored).decode


def render_calibration(state: Calibration) -> bytes:
    """The state for a store; the prior is not part of it, newer code may know a better one."""
    stored = _Stored(FORMAT_VERSION, list(state.samples), state.line, state.applied, state.seen, state.changed_at)
    return msgspec.json.encode(stored)


def parse_calibration(data: bytes, prior: Prior) -> Calibration | None:
    """What `render_calibration` gave, or None for anything else."""
    try:
        stored = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if stored.version != FORMAT_VERSION or not 0 <= stored.changed_at <= stored.seen:
        return None
    if len(stored.samples) > stored.seen or stored.applied.ratio_millionths == 0:
        return None
    samples = tuple(Sample(*fields) for fields in stored.samples)
    return Calibration(prior, samples, Line(*stored.line), stored.applied, stored.seen, stored.changed_at)
