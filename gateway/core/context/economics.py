"""What compacting costs and saves where the upstream caches prompts: now or later, and how far down?

Pure arithmetic over token counts and prices. It decides nothing about what is folded, and knows no clock: whether the
upstream still has the prefix cached, the caller says with `cached_tokens`.

The model. A chat's requests grow by `growth` tokens each. What was sent before is read from the cache, what is new is
written to it. A compaction leaves `tokens` of prompt, of which the first `unchanged_tokens` are still cached; the rest
is written anew: that is the cache loss. Between two compactions lies a cycle of requests; its mean cost per request
judges what happens after the moment that is decided on, so compacting early is charged with the compactions that
follow sooner, and a wait ends at its cheapest moment, at the limit at the latest. `keep_value` is what a token of
history that is forwarded verbatim is worth in each request, as a share of the input price: with 0 only money counts,
at the price of a cached token a warm prefix is never given up, and above it more context is preferred to less.

Invariants, each with a test of its own:
  1. What does not fit is compacted, what frees less than a tenth never is unless it must.
  2. Otherwise it is compacted only if the expected cost is lower than that of the best wait; both are the costs that
     a simulation, request by request, comes to.
  3. A warmer cache or a larger compacted prompt never speaks for compacting; prices are a scale, their unit is nothing.
  4. The best target lies within its bounds, and no other within them is cheaper.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass

MIN_FREED_SHARE = 0.1
"""A compaction that frees less is not worth its trouble, and could be wanted again at the next request."""
DEFAULT_GROWTH_TOKENS = 300
"""Of a chat too short to tell: recorded ones grow by 75 (small talk) to 920 (long answers), agents by 350 to 400."""
DEFAULT_KEEP_VALUE = 0.3
"""Of a token of history. With the default prices the best targets hold as much on the mean as half of the limit does,
within 3 %, at 11 % less to 3 % more; next to nothing is compacted early while the prefix is warm, and most pauses are
used (simulated on recorded chats, docs/prompt-cache.md)."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a prompt token costs, in any unit; the defaults are shares of the input price.

    Attributes:
        input: neither read from the cache nor written to it.
        cached_input: read from the cache.
        cache_write: written to it; providers that charge nothing for it take their input price.
        min_prefix_tokens: a shorter prefix is not cached.
    """

    input: float = 1.0
    cached_input: float = 0.1
    cache_write: float = 1.25
    min_prefix_tokens: int = 1024

    def first_cost(self, tokens: int, cached_tokens: int) -> float:
        """A prompt of which so many tokens at its beginning may be cached."""
        cached = min(tokens, cached_tokens)
        if cached < self.min_prefix_tokens:
            cached = 0
        return self.cached_input * cached + self.cache_write * (tokens - cached)


@dataclass(frozen=True, slots=True)
class Situation:
    """A request before it is decided on; all in tokens.

    Attributes:
        prompt: what is forwarded if nothing is compacted.
        cached: of it, what the upstream should still have cached; 0 where the conversation paused for longer.
        limit: what a prompt may take.
        growth: by how much each request is longer than the one before.
        moving: of the prompt, what is another text in each request, such as what is recalled for it: never cached.
    """

    prompt: int
    cached: int
    limit: int
    growth: int
    moving: float = 0.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A compaction that could be made.

    Attributes:
        tokens: of the prompt after it.
        unchanged_tokens: how many of its first are those of the prompt before: tools, system messages, pinned ones,
            and the segments of a brief that is only added to.
        fee: what making the brief costs beside, in the unit of the prices; 0 without a language model.
        moving_tokens: of them, what is another text in each request after it, and never cached.
    """

    tokens: int
    unchanged_tokens: int
    fee: float = 0.0
    moving_tokens: float = 0.0


class Verdict(enum.Enum):
    """Compact now?"""

    FORCED = "forced"
    GAINS = "gains"
    WAIT = "wait"


class Cause(enum.Enum):
    """Why a request was compacted anew: it did not fit, what is to be recalled had no room, or it was cheaper."""

    FORCED = "forced"
    RECALL = "recall"
    GAIN = "gain"


@dataclass(frozen=True, slots=True)
class Weighed:
    """The expected costs of both ways over the same requests, in the unit of the prices.

    Attributes:
        now: of compacting at once.
        wait: of compacting at the cheapest later moment.
        requests: how many are forwarded uncompacted until then.
    """

    now: float
    wait: float
    requests: int

    @property
    def gain(self) -> float:
        """What compacting now saves; below 0 what it loses."""
        return self.wait - self.now


@dataclass(frozen=True, slots=True)
class _Cycle:
    """The requests from one compaction to the next; the first costs `first`, request s after it `base + slope * s`."""

    first: float
    base: float
    slope: float
    most: int

    def mean_cost(self, requests: int) -> float:
        """Per request, of a cycle of so many."""
        return (self.first - self.base) / requests + self.base + self.slope * (requests - 1) / 2

    def cheapest(self) -> int:
        """The length with the lowest mean cost."""
        if self.slope <= 0 or self.first <= self.base:
            ends = (1, self.most)
            return min(ends, key=self.mean_cost)
        return _lowest(self.mean_cost, math.sqrt(2 * (self.first - self.base) / self.slope), 1, self.most)


def estimate_growth(newest_tokens: int, requests: int) -> int:
    """By how much a chat's requests grow, from the request itself.

    Args:
        newest_tokens: of its newest messages; those of a dozen requests tell enough.
        requests: how many were made for these, which is how many of them are an assistant's.
    """
    return max(1, round(newest_tokens / requests)) if requests else DEFAULT_GROWTH_TOKENS


def decide_compaction(situation: Situation, offer: Offer, prices: Prices, keep_value: float) -> Verdict:
    """Compact only when forced or when that costs less than waiting.

    Args:
        situation: the request.
        offer: the compaction that could be made of it.
        prices: of its upstream and model.
        keep_value: worth of a verbatim token a request, as a share of the input price.
    """
    if situation.prompt > situation.limit:
        return Verdict.FORCED
    if offer.tokens > (1 - MIN_FREED_SHARE) * situation.prompt:
        return Verdict.WAIT
    return Verdict.GAINS if weigh(situation, offer, prices, keep_value).gain > 0 else Verdict.WAIT


def weigh(situation: Situation, offer: Offer, prices: Prices, keep_value: float) -> Weighed:
    """The expected costs of compacting now and of waiting, for a request that fits; see `decide_compaction`."""
    growth = max(1, situation.growth)
    worth = keep_value * prices.input
    cycle = _cycle_of(offer, situation.limit, growth, prices, worth)
    mean = cycle.mean_cost(cycle.cheapest())
    later_base = cycle.base + (prices.cached_input - worth) * (situation.prompt - offer.tokens)
    later_base += (prices.cache_write - prices.cached_input) * (situation.moving - offer.moving_tokens)

    def waiting(requests: int) -> float:
        """What the requests after this one cost beyond the mean, if so many wait, this one among them."""
        further = requests - 1
        return further * (later_base - mean) + cycle.slope * further * (further + 1) / 2

    most = max(0, situation.limit - situation.prompt) // growth + 1
    turning = (mean - later_base) / cycle.slope + 0.5 if cycle.slope > 0 else most
    requests = min((1, most, _lowest(waiting, turning, 1, most)), key=waiting)
    this = prices.first_cost(situation.prompt, situation.cached) - worth * situation.prompt
    compacted = prices.first_cost(offer.tokens, min(offer.unchanged_tokens, situation.cached))
    wait = this + waiting(requests) + (requests - 1) * mean + cycle.first
    now = compacted + offer.fee - worth * offer.tokens + requests * mean
    return Weighed(now, wait, requests)


def cycle_cost(offer: Offer, limit: int, growth: int, prices: Prices, keep_value: float) -> float:
    """Mean cost per request, less what the context is worth, of a chat that is compacted like this again and again.

    Args:
        offer: each compaction.
        limit: what a prompt may take, in tokens.
        growth: by how much each request is longer than the one before, in tokens.
        prices: of its upstream and model.
        keep_value: worth of a verbatim token a request, as a share of the input price.
    """
    cycle = _cycle_of(offer, limit, max(1, growth), prices, keep_value * prices.input)
    return cycle.mean_cost(cycle.cheapest())


def best_target_tokens(
    limit: int,
    bounds: tuple[int, int],
    unchanged: int,
    growth: int,
    prices: Prices,
    keep_value: float,
    fee: float = 0.0,
) -> int:
    """How far down to compact.

    As long as reading a cached token costs more than it is worth, the answer is the lower bound: a smaller prompt is
    cheaper to write, to read, and longer away from the next compaction. Above that it is the whole number of requests
    nearest to sqrt(2 (write - read) growth (limit - unchanged) / (worth - read)) tokens below the limit.

    Args:
        limit: what a prompt may take, in tokens.
        bounds: the least and the most that a compacted prompt may have, in tokens; the most at most `limit`.
        unchanged: the tokens at the beginning that no compaction changes.
        growth: by how much each request is longer than the one before, in tokens.
        prices: of its upstream and model.
        keep_value: worth of a verbatim token a request, as a share of the input price.
        fee: what making a brief costs beside.
    """
    least, most = bounds
    growth = max(1, growth)
    worth = keep_value * prices.input

    def cost(tokens: int) -> float:
        return cycle_cost(Offer(tokens, min(unchanged, tokens), fee), limit, growth, prices, keep_value)

    def fullest(requests: int) -> int:
        """The largest prompt after which so many requests fit."""
        return min(most, max(least, limit - (requests - 1) * growth))

    candidates = {least, most}
    for floor in (least, most):  # of what leaves room for a whole number of requests, at either end of the bounds
        candidates |= {fullest((limit - floor) // growth + step) for step in (1, 2)}
    if worth > prices.cached_input:
        loss = max(0.0, (prices.cache_write - prices.cached_input) * (limit - unchanged) + fee)
        width = math.sqrt(2 * loss * growth / (worth - prices.cached_input))
        candidates |= {fullest(max(1, math.floor(width / growth) + step)) for step in (-1, 0, 1, 2, 3)}
    return min(sorted(candidates), key=cost)


def _cycle_of(offer: Offer, limit: int, growth: int, prices: Prices, worth: float) -> _Cycle:
    read = prices.cached_input - worth
    return _Cycle(
        first=prices.first_cost(offer.tokens, offer.unchanged_tokens) + offer.fee - worth * offer.tokens,
        base=read * offer.tokens + (prices.cache_write - prices.cached_input) * (growth + offer.moving_tokens),
        slope=read * growth,
        most=max(0, limit - offer.tokens) // growth + 1,
    )


def _lowest(cost: Callable[[int], float], near: float, least: int, most: int) -> int:
    """The whole number within bounds with the lowest cost, of a cost that falls to `near` and rises from there."""
    below = max(least, min(most, math.floor(near)))
    return min(below, min(most, below + 1), key=cost)
