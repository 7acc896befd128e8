"""Bills a conversation's prompts at a simulated clock, and sums up what a policy costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.prompt_cache.cache import CacheRules, PromptCache, shared_pieces
from benchmarks.prompt_cache.chats import ANSWER_START, Chat, tokens_in
from benchmarks.prompt_cache.policies import Policy, Prompt


@dataclass(frozen=True, slots=True)
class Clock:
    """When requests come.

    Attributes:
        pause_s: between two requests.
        break_every: so many requests, one comes after a break; 0 for never.
        break_s: how long that is.
    """

    pause_s: float = 20
    break_every: int = 0
    break_s: float = 900

    def gap_s(self, number: int) -> float:
        """Before the request of this number, counted from 0."""
        is_break = self.break_every and number and number % self.break_every == 0
        return self.break_s if is_break else self.pause_s


@dataclass
class Bill:
    """What a policy costs; tokens, and costs in input tokens.

    Attributes:
        requests: that were billed.
        refused: that were not sent.
        too_long: prompts above the limit, by the judge's count.
        longest: tokens of the longest prompt.
        tokens: of all prompts.
        read: of them, from the cache.
        cost: of all prompts.
        summariser_tokens: read to make briefs; not in `cost`.
        compactions: how often the brief changed.
        kept_shares: of the prompt before, what starts the next, where the brief did not change.
    """

    requests: int = 0
    refused: int = 0
    too_long: int = 0
    longest: int = 0
    tokens: int = 0
    read: int = 0
    cost: float = 0.0
    summariser_tokens: int = 0
    compactions: int = 0
    kept_shares: list[float] = field(default_factory=list)

    def add(self, prompts: Iterable[Prompt | None], rules: CacheRules, clock: Clock, limit: int) -> None:
        """One conversation more."""
        cache, before, now_s = PromptCache(rules), None, 0.0
        for number, prompt in enumerate(prompts):
            now_s += clock.gap_s(number)
            if prompt is None:
                self.refused += 1
                continue
            charge = cache.charge(prompt.pieces, now_s)
            self.requests += 1
            self.too_long += charge.tokens > limit
            self.longest = max(self.longest, charge.tokens)
            self.tokens += charge.tokens
            self.read += charge.read
            self.cost += charge.cost
            self.summariser_tokens += prompt.summariser_tokens
            self.compactions += prompt.brief != (before.brief if before else None)
            if before and prompt.brief == before.brief:
                self.kept_shares.append(_kept_share(before, prompt))
            before = prompt


def _kept_share(before: Prompt, now: Prompt) -> float:
    old = [piece for piece in before.pieces if piece is not ANSWER_START]
    return tokens_in(old[: shared_pieces(old, now.pieces)]) / tokens_in(old)


def prompts_of(policy: Policy, chat: Chat, rules: CacheRules, clock: Clock) -> Sequence[Prompt]:
    """What a policy sends for each request of a chat."""
    gaps = [clock.gap_s(number) for number in range(len(chat.requests))]
    return [policy.prompt(end, is_warm=gap <= rules.lifetime_s) for end, gap in zip(chat.requests, gaps, strict=True)]


def bill_of(make: Callable[[Chat], Policy], chats: Sequence[Chat], rules: CacheRules, clock: Clock, limit: int) -> Bill:
    """What a policy costs on these chats."""
    bill = Bill()
    for chat in chats:
        bill.add(prompts_of(make(chat), chat, rules, clock), rules, clock, limit)
    return bill
