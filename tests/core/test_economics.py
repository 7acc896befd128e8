"""The net-gain rule: compact only when forced, or when that costs less than waiting; and how far down."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.context.economics import (
    DEFAULT_GROWTH_TOKENS,
    Offer,
    Prices,
    Situation,
    Verdict,
    best_target_tokens,
    cycle_cost,
    decide_compaction,
    estimate_growth,
    weigh,
)

CACHED = Prices()
UNCACHED = Prices(1.0, 1.0, 1.0)
WARM = Situation(prompt=6000, cached=5700, limit=7000, growth=300)
COLD = replace(WARM, cached=0)
LARGE = Situation(prompt=150_000, cached=149_000, limit=200_000, growth=1000)
OFFER = Offer(tokens=3500, unchanged_tokens=1500)


@pytest.mark.parametrize(
    ("case", "situation", "offer", "prices", "keep_value", "verdict"),
    [
        ("does not fit", replace(WARM, prompt=7001), OFFER, CACHED, 0.2, Verdict.FORCED),
        ("does not fit, frees little", replace(WARM, prompt=7001), Offer(6900, 0), CACHED, 9.0, Verdict.FORCED),
        ("warm, past four fifths", WARM, OFFER, CACHED, 0.2, Verdict.WAIT),
        ("warm, only money counts, small window", WARM, OFFER, CACHED, 0.0, Verdict.WAIT),
        ("paused for longer than the cache lives", COLD, OFFER, CACHED, 0.2, Verdict.GAINS),
        ("paused soon after a compaction", replace(COLD, prompt=3800), OFFER, CACHED, 0.2, Verdict.WAIT),
        ("paused, but much is recalled", COLD, replace(OFFER, moving_tokens=1500), CACHED, 0.2, Verdict.WAIT),
        (
            "as much as before",
            replace(COLD, moving=1500),
            replace(OFFER, moving_tokens=1500),
            CACHED,
            0.2,
            Verdict.GAINS,
        ),
        ("paused, and history is worth much", replace(COLD, prompt=4500), OFFER, CACHED, 1.5, Verdict.WAIT),
        ("warm, large window", LARGE, Offer(20_000, 5000), CACHED, 0.0, Verdict.GAINS),
        ("the same, history is worth it", LARGE, Offer(20_000, 5000), CACHED, 0.2, Verdict.WAIT),
        ("no cache, only money counts", replace(COLD, prompt=4500), OFFER, UNCACHED, 0.0, Verdict.GAINS),
        ("no cache, history is worth more than its price", COLD, OFFER, UNCACHED, 1.5, Verdict.WAIT),
        ("a dear brief in a pause", replace(COLD, prompt=4500), replace(OFFER, fee=9000), CACHED, 0.2, Verdict.WAIT),
    ],
)
def test_compact_only_when_forced_or_cheaper(
    case: str, situation: Situation, offer: Offer, prices: Prices, keep_value: float, verdict: Verdict
) -> None:
    """Named cases."""
    assert decide_compaction(situation, offer, prices, keep_value) is verdict, case


@st.composite
def chats(draw: st.DrawFn) -> tuple[Situation, Offer]:
    """A prompt that fits, and a compaction that makes it smaller."""
    limit = draw(st.integers(2000, 12_000))
    prompt = draw(st.integers(500, limit))
    tokens = draw(st.integers(200, prompt))
    unchanged = draw(st.integers(0, tokens))
    growth = draw(st.integers(limit // 20, limit // 2))
    cached = draw(st.sampled_from([0, max(0, prompt - growth), prompt // 2]))
    moving = draw(st.sampled_from([0, prompt // 3])), draw(st.sampled_from([0, tokens // 2]))
    fee = draw(st.sampled_from([0.0, 800.0]))
    return Situation(prompt, cached, limit, growth, moving[0]), Offer(tokens, unchanged, fee, moving[1])


worths = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.5, 1.2])
prices_of = st.builds(
    Prices,
    input=st.just(1.0),
    cached_input=st.sampled_from([0.1, 0.25, 0.5, 1.0]),
    cache_write=st.sampled_from([1.0, 1.25, 2.0]),
    min_prefix_tokens=st.sampled_from([0, 1024]),
)


class Simulation:
    """Requests one by one: what the closed forms are held to."""

    def __init__(self, situation: Situation, offer: Offer, prices: Prices, worth: float) -> None:
        self.now, self.offer, self.prices, self.worth = situation, offer, prices, worth
        most = 1
        while offer.tokens + most * situation.growth <= situation.limit:
            most += 1
        self.length = min(range(1, most + 1), key=lambda length: sum(self.cycle(length)) / length)

    def compaction(self, cached: int) -> float:
        """The request that compacts."""
        paid = self.prices.first_cost(self.offer.tokens, min(cached, self.offer.unchanged_tokens))
        return paid + self.offer.fee - self.worth * self.offer.tokens

    def request(self, before: int, moving: float) -> float:
        """One that adds to a prompt of so many tokens, all cached but for those that moved."""
        size, new = before + self.now.growth, self.now.growth + moving
        return self.prices.cached_input * (size - new) + self.prices.cache_write * new - self.worth * size

    def cycle(self, length: int) -> list[float]:
        """A compaction and the requests until the next."""
        sizes = [self.offer.tokens + number * self.now.growth for number in range(length - 1)]
        return [
            self.compaction(self.offer.unchanged_tokens),
            *(self.request(size, self.offer.moving_tokens) for size in sizes),
        ]

    def costs(self, waits: int, total: int) -> list[float]:
        """Of so many requests, the first of which go uncompacted."""
        now = self.now
        out = []
        if waits:
            out.append(self.prices.first_cost(now.prompt, now.cached) - self.worth * now.prompt)
            out += [self.request(now.prompt + number * now.growth, now.moving) for number in range(waits - 1)]
        else:
            out = [self.compaction(now.cached), *self.cycle(self.length)[1:]]
        while len(out) < total:
            out += self.cycle(self.length)
        return out[:total]

    def gain(self, waits: int) -> float:
        """Of compacting now rather than after some waiting: in the long run, whatever request is the last."""
        ends = range(waits + self.length + 1, waits + 2 * self.length + 1)
        difference = [sum(self.costs(waits, end)) - sum(self.costs(0, end)) for end in ends]
        return sum(difference) / len(ends)


@settings(deadline=None)
@given(chat=chats(), prices=prices_of, worth=worths)
def test_the_gain_is_what_a_simulation_comes_to(chat: tuple[Situation, Offer], prices: Prices, worth: float) -> None:
    """Against the best of all moments to wait for; so nothing is compacted that loses."""
    situation, offer = chat
    simulation = Simulation(situation, offer, prices, worth)
    most = (situation.limit - situation.prompt) // situation.growth + 1
    gains = {waits: simulation.gain(waits) for waits in range(1, most + 1)}
    weighed = weigh(situation, offer, prices, worth)

    assert weighed.gain == pytest.approx(min(gains.values()), abs=1e-6)
    assert gains[weighed.requests] == pytest.approx(weighed.gain, abs=1e-6)
    frees = offer.tokens <= 0.9 * situation.prompt
    is_due = decide_compaction(situation, offer, prices, worth) is Verdict.GAINS
    assert is_due == (frees and weighed.gain > 0)


@given(chat=chats(), prices=prices_of, worth=worths, more=st.integers(0, 12_000))
def test_a_warmer_cache_speaks_against_compacting(
    chat: tuple[Situation, Offer], prices: Prices, worth: float, more: int
) -> None:
    """There is more to lose."""
    situation, offer = chat
    warmer = replace(situation, cached=min(situation.prompt, situation.cached + more))

    assert weigh(warmer, offer, prices, worth).gain <= weigh(situation, offer, prices, worth).gain + 1e-6


@given(chat=chats(), prices=prices_of, share=st.floats(0, 1), more=st.integers(0, 12_000))
def test_a_larger_compacted_prompt_speaks_against_it(
    chat: tuple[Situation, Offer], prices: Prices, share: float, more: int
) -> None:
    """While history is worth no more than reading it from the cache."""
    situation, offer = chat
    worth = share * prices.cached_input
    larger = replace(offer, tokens=min(situation.prompt, offer.tokens + more))

    assert weigh(situation, larger, prices, worth).gain <= weigh(situation, offer, prices, worth).gain + 1e-6


@given(chat=chats(), prices=prices_of, worth=worths, more=st.floats(0, 3))
def test_dearer_writing_speaks_against_it_where_the_prefix_is_warm(
    chat: tuple[Situation, Offer], prices: Prices, worth: float, more: float
) -> None:
    """The loss is what is written anew; nothing moves here, which would be written in both ways."""
    situation, offer = replace(chat[0], moving=0), replace(chat[1], moving_tokens=0)
    prices = replace(prices, min_prefix_tokens=0)
    warm = replace(situation, cached=max(offer.unchanged_tokens, situation.prompt - situation.growth))
    offer = replace(offer, tokens=max(offer.tokens, offer.unchanged_tokens + situation.growth))
    dearer = replace(prices, cache_write=prices.cache_write + more)

    assert weigh(warm, offer, dearer, worth).gain <= weigh(warm, offer, prices, worth).gain + 1e-6


@given(chat=chats(), prices=prices_of, worth=worths, scale=st.sampled_from([0.001, 3.0, 1e6]))
def test_prices_are_a_scale(chat: tuple[Situation, Offer], prices: Prices, worth: float, scale: float) -> None:
    """Dollars a million tokens decide as shares of the input price do."""
    situation, offer = chat
    dollars = replace(
        prices,
        input=scale * prices.input,
        cached_input=scale * prices.cached_input,
        cache_write=scale * prices.cache_write,
    )
    scaled = weigh(situation, replace(offer, fee=scale * offer.fee), dollars, worth)
    weighed = weigh(situation, offer, prices, worth)

    assert scaled.gain == pytest.approx(scale * weighed.gain, rel=1e-6, abs=1e-3 * scale)


@pytest.mark.parametrize(
    ("tokens", "cached", "cost"),
    [(1000, 1000, 1250), (2000, 1023, 2500), (2000, 1024, 102.4 + 1220), (2000, 5000, 200), (0, 0, 0)],
)
def test_what_a_prompt_costs(tokens: int, cached: int, cost: float) -> None:
    """A prefix too short to be cached is not."""
    assert CACHED.first_cost(tokens, cached) == pytest.approx(cost)


# How far down


@pytest.mark.parametrize(
    ("case", "limit", "bounds", "unchanged", "growth", "keep_value", "target"),
    [
        ("only money counts", 7000, (2000, 6300), 1500, 300, 0.0, 2000),
        ("worth what reading costs", 7000, (2000, 6300), 1500, 300, 0.1, 2000),
        ("worth twice that", 7000, (2000, 6300), 1500, 300, 0.2, 2200),
        ("worth four times that", 7000, (2000, 6300), 1500, 300, 0.4, 3700),
        ("worth its full price", 7000, (2000, 6300), 1500, 300, 1.0, 5200),
        ("a larger window", 31_000, (3000, 28_000), 1500, 300, 0.4, 23_200),
        ("a chat that grows fast", 31_000, (3000, 28_000), 1500, 1500, 0.4, 14_500),
        ("bounds that are one", 7000, (3000, 3000), 1500, 300, 0.4, 3000),
    ],
)
def test_the_best_target(
    case: str, limit: int, bounds: tuple[int, int], unchanged: int, growth: int, keep_value: float, target: int
) -> None:
    """The cheapest is the least, unless history is worth more than reading it costs."""
    assert best_target_tokens(limit, bounds, unchanged, growth, CACHED, keep_value) == target, case


@settings(deadline=None, max_examples=60)
@given(data=st.data(), prices=prices_of, worth=worths, fee=st.sampled_from([0.0, 800.0]))
def test_no_other_target_is_cheaper(data: st.DataObject, prices: Prices, worth: float, fee: float) -> None:
    """Within the bounds, which are kept."""
    limit = data.draw(st.integers(1000, 4000))
    most = data.draw(st.integers(1, limit))
    least = data.draw(st.integers(1, most))
    unchanged = data.draw(st.integers(0, least))
    growth = data.draw(st.integers(1, 1500))
    target = best_target_tokens(limit, (least, most), unchanged, growth, prices, worth, fee)

    def cost(tokens: int) -> float:
        return cycle_cost(Offer(tokens, unchanged, fee), limit, growth, prices, worth)

    assert least <= target <= most
    assert cost(target) <= min(map(cost, range(least, most + 1, 7))) + 1e-6


@pytest.mark.parametrize(
    ("tokens", "requests", "growth"),
    [(0, 0, DEFAULT_GROWTH_TOKENS), (900, 0, DEFAULT_GROWTH_TOKENS), (900, 3, 300), (0, 3, 1), (1, 12, 1)],
)
def test_growth_is_that_of_the_newest_requests(tokens: int, requests: int, growth: int) -> None:
    """And a default where there are none."""
    assert estimate_growth(tokens, requests) == growth
