"""A provider's prompt cache, as far as prices go: prefixes of prompts, in steps, that live for a while.

A prompt is a sequence of pieces (its tools, its messages), each the bytes of its token ids. A prefix that was sent
before is read from the cache where it is long enough and has been used within the lifetime; whole steps after it are
written to it; the rest of the prompt, less than a step, or all of a prompt that is too short, costs the plain price.

Invariants, each with a test of its own:
  1. What is read is a prefix that was sent before, token for token, in whole steps, used within the lifetime.
  2. read + written + plain is the prompt; where the pieces are cut makes no difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

TOKEN_BYTES = 4


@dataclass(frozen=True, slots=True)
class CacheRules:
    """How a provider's cache works, and what it charges, as shares of the input price."""

    min_tokens: int = 1024
    step_tokens: int = 128
    lifetime_s: float = 300
    input_price: float = 1.0
    cached_price: float = 0.1
    write_price: float = 1.25


@dataclass(frozen=True, slots=True)
class Charge:
    """What one prompt was billed for, in tokens, and its cost in input tokens."""

    read: int
    written: int
    plain: int
    cost: float

    @property
    def tokens(self) -> int:
        """Of the prompt."""
        return self.read + self.written + self.plain


class PromptCache:
    """The cache as one conversation meets it.

    Prefixes are known by a chain of digests, one a step. The digests of what a prompt shares with the one before are
    not reckoned again, so that a chat that is resent costs what is new of it.
    """

    def __init__(self, rules: CacheRules) -> None:
        self._rules = rules
        self._used_at: dict[bytes, float] = {}
        self._pieces: Sequence[bytes] = ()
        self._digests: list[bytes] = []

    def charge(self, pieces: Sequence[bytes], now_s: float) -> Charge:
        """Bill a prompt, and remember it.

        Args:
            pieces: the token ids, `TOKEN_BYTES` each.
            now_s: by the simulation's clock.
        """
        rules = self._rules
        digests = self._digests_of(pieces)
        oldest_s = now_s - rules.lifetime_s
        steps = 0
        for digest in digests:
            if self._used_at.get(digest, oldest_s - 1) < oldest_s:
                break
            steps += 1
        self._used_at.update(dict.fromkeys(digests, now_s))
        tokens = sum(map(len, pieces)) // TOKEN_BYTES
        read, whole = self._tokens_of(steps), self._tokens_of(len(digests))
        written, plain = whole - read, tokens - whole
        cost = rules.cached_price * read + rules.write_price * written + rules.input_price * plain
        return Charge(read, written, plain, cost)

    def _tokens_of(self, steps: int) -> int:
        return self._rules.min_tokens + (steps - 1) * self._rules.step_tokens if steps else 0

    def _digests_of(self, pieces: Sequence[bytes]) -> list[bytes]:
        """One for each prefix that can be cached: the shortest, and one step more each."""
        rules = self._rules
        shared = shared_pieces(self._pieces, pieces)
        shared_tokens = sum(map(len, pieces[:shared])) // TOKEN_BYTES
        known = max(0, (shared_tokens - rules.min_tokens) // rules.step_tokens + 1)
        digests = self._digests[:known]
        start = self._tokens_of(len(digests)) * TOKEN_BYTES
        # The bytes from the first step that is not known: only pieces that reach behind it are joined.
        ends = list(accumulate(map(len, pieces)))
        first = next((index for index, end in enumerate(ends) if end > start), len(pieces))
        before = ends[first - 1] if first else 0
        rest = b"".join(pieces[first:])[start - before :]
        cuts = [0] if digests else [0, rules.min_tokens * TOKEN_BYTES]
        step = rules.step_tokens * TOKEN_BYTES
        cuts += range(cuts[-1] + step, len(rest) + 1, step)
        for begin, end in pairwise(cuts):
            if end > len(rest):
                break
            last = digests[-1] if digests else b""
            digests.append(hashlib.blake2b(last + rest[begin:end], digest_size=16).digest())
        self._pieces, self._digests = pieces, digests
        return digests


def shared_pieces(before: Sequence[bytes], now: Sequence[bytes]) -> int:
    """How many pieces at the beginning are the same."""
    pairs = zip(before, now, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(before), len(now)))
