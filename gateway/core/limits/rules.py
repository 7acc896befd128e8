"""Which limits hold for a client and a model, and what a request asks of each.

Every rule whose patterns match holds, so the strictest decides. Each client has limits of its own; the models that
match one rule share them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gateway.core.limits.decision import Limit
from gateway.core.limits.gauge import Kind

_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Rule:
    """Limits of the clients and models whose names match.

    Attributes:
        client: pattern of clients' names.
        model: pattern of models; calls that name no model match `*` only.
        amounts: by kind, above 0.
        is_shadow: only recorded, never refused.
    """

    client: str
    model: str
    amounts: Mapping[Kind, int]
    is_shadow: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a client and a model: those that refuse, and those that only record what they would have."""

    strict: tuple[Limit, ...]
    shadow: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """What a request takes, or has used."""

    requests: int = 0
    tokens: int = 0
    concurrent: int = 0
    cost_nanos: int = 0
    """Billionths of a dollar."""

    def of(self, kind: Kind) -> int:
        """What that is of one kind of limit."""
        if kind is Kind.REQUESTS:
            return self.requests
        if kind is Kind.CONCURRENT:
            return self.concurrent
        return self.cost_nanos if kind is Kind.DAY_COST else self.tokens

    def of_all(self, limits: Sequence[Limit]) -> list[int]:
        """The same of several limits."""
        return [self.of(limit.kind) for limit in limits]


class RuleTable:
    """All rules."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [(rule, _name_of(rule)) for rule in rules]
        self._known: dict[tuple[bytes, str, str | None], Limits] = {}
        self._shared: dict[tuple[bytes, tuple[int, ...]], Limits] = {}

    def limits_for(self, scope: bytes, client: str, model: str | None) -> Limits:
        """The limits of a request.

        Args:
            scope: the client's.
            client: its name.
            model: None for calls that name none.
        """
        key = (scope, client, model)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
                self._shared.clear()
            matching = tuple(place for place, (rule, _) in enumerate(self._rules) if _holds(rule, client, model))
            found = self._shared.get((scope, matching))  # a client may make up models, and has few limits all the same
            if found is None:
                found = self._shared[scope, matching] = self._made(scope, matching)
            self._known[key] = found
        return found

    def _made(self, scope: bytes, matching: tuple[int, ...]) -> Limits:
        strict: list[Limit] = []
        shadow: list[Limit] = []
        for rule, name in map(self._rules.__getitem__, matching):
            made = [Limit(scope + name + kind.value.encode(), kind, amount) for kind, amount in rule.amounts.items()]
            (shadow if rule.is_shadow else strict).extend(made)
        return Limits(tuple(strict), tuple(shadow))


def _holds(rule: Rule, client: str, model: str | None) -> bool:
    return fnmatchcase(client, rule.client) and (rule.model == "*" if model is None else _is_of(model, rule))


def _is_of(model: str, rule: Rule) -> bool:
    return fnmatchcase(model, rule.model)


def _name_of(rule: Rule) -> bytes:
    """What it is known by: its content, so that it keeps its counts wherever it stands in the list."""
    parts = [rule.client, rule.model, str(rule.is_shadow), *(f"{kind.value}={n}" for kind, n in rule.amounts.items())]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()[:8]
