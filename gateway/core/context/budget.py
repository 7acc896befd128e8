"""The token budget of a model: shares, and how much of it the prompt may take.

Shares are targets, not cages; `max_total` is the bound. `auto` takes the model's own context window from the table.
Source of the table: the providers' model pages (2026-01).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from gateway.core.tokens.profiles import bare_model

_WINDOWS: tuple[tuple[str, int], ...] = (
    ("gpt-5*-chat*", 128_000),
    ("gpt-5*", 400_000),
    ("gpt-4.1*", 1_047_576),
    ("gpt-4o*", 128_000),
    ("gpt-4-turbo*", 128_000),
    ("gpt-4-32k*", 32_768),
    ("gpt-4*", 8_192),
    ("gpt-3.5-turbo-instruct*", 4_096),
    ("gpt-3.5*", 16_385),
    ("o1-mini*", 128_000),
    ("o[134]*", 200_000),
    ("claude-*", 200_000),
    ("deepseek-*", 128_000),
    ("demo", 16_384),
)
UNKNOWN_WINDOW_TOKENS = 8_192


class OnUnfittable(enum.Enum):
    """What becomes of a request that cannot be made to fit."""

    ERROR = "error"
    FORWARD = "forward"


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens of one request, prompt and completion together at most `max_total_tokens`."""

    max_total_tokens: int
    system_tokens: int
    running_brief_tokens: int
    recent_tokens: int
    retrieved_tokens: int
    completion_tokens: int
    on_unfittable: OnUnfittable = OnUnfittable.ERROR

    def prompt_limit_tokens(self, completion_tokens: int) -> int:
        """What the prompt may take when the answer may take this much; below 1 when nothing is left."""
        return self.max_total_tokens - completion_tokens

    def lowered_to(self, max_total_tokens: int) -> Budget:
        """The same shares of a smaller whole."""
        share = max_total_tokens / self.max_total_tokens
        return Budget(
            max_total_tokens,
            int(self.system_tokens * share),
            int(self.running_brief_tokens * share),
            int(self.recent_tokens * share),
            int(self.retrieved_tokens * share),
            int(self.completion_tokens * share),
            self.on_unfittable,
        )


@dataclass(frozen=True, slots=True)
class BudgetTable:
    """The default budget, and those of models that match a pattern (first match wins)."""

    default: Budget
    by_pattern: Sequence[tuple[str, Budget]] = ()

    def budget_of(self, model: str) -> Budget:
        """The budget for this model, `auto` already resolved."""
        found = next((budget for pattern, budget in self.by_pattern if fnmatchcase(model, pattern)), self.default)
        return found if found.max_total_tokens > 0 else replace(found, max_total_tokens=window_of(model))


AUTO = 0
"""`max_total_tokens` of a budget whose bound is the model's window."""


def window_of(model: str) -> int:
    """A model's context window in tokens; unknown models get a cautious one."""
    name = bare_model(model)
    return next((window for pattern, window in _WINDOWS if fnmatchcase(name, pattern)), UNKNOWN_WINDOW_TOKENS)
