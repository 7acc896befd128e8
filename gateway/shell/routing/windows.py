"""`ports.Windows` in this process's memory: how large a prompt each upstream has said that it takes, by model.

Bounded; the eldest go. A window is learned from a refusal only, and a smaller one in place of a larger.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_WINDOWS = 1000


class LearnedWindows:
    """Windows that upstreams have named."""

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, str], int] = {}

    def window_of(self, upstream: str, model: str) -> int | None:
        return self._tokens.get((upstream, model)) if self._tokens else None

    def learn(self, upstream: str, model: str, window_tokens: int) -> None:
        key = (upstream, model)
        known = self._tokens.pop(key, window_tokens)
        self._tokens[key] = min(known, window_tokens)
        if len(self._tokens) > MAX_WINDOWS:
            del self._tokens[next(iter(self._tokens))]

    def all(self) -> Iterator[tuple[str, str, int]]:
        """Upstream, model and window."""
        for (upstream, model), tokens in self._tokens.items():
            yield upstream, model, tokens
