"""Which upstreams may answer for a model, in which order, under which deadlines."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gateway.core.routing.breaker import USUAL_RULES, BreakerRules


class Roles(enum.Enum):
    """Which sequences of roles an upstream's chat template takes."""

    OPEN = "open"
    STRICT = "strict"


class StreamUsage(enum.Enum):
    """Whether usage may be asked for in a streamed request whose client did not."""

    ASK = "ask"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of one upstream call, in seconds, and how many bytes its answer may have; 0 for any number."""

    connect_s: float
    header_s: float
    first_token_s: float
    idle_s: float
    total_s: float
    max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """One upstream, as requests see it: `base_url` without a slash at its end, `api_key` "" if the client's passes."""

    name: str
    base_url: str
    api_key: str
    models: tuple[str, ...]
    priority: int
    roles: Roles
    stream_usage: StreamUsage
    timeouts: Timeouts
    max_retries: int
    cache_s: float = 300.0
    """How long it caches a prompt after its last use; 0 for not at all."""
    breaker: BreakerRules = USUAL_RULES
    retry_ratio: float = 0.2
    """Of its recent calls, how many may be retries."""
    weight: int = 1
    """Its share of conversations among those of its priority."""
    aliases: tuple[tuple[str, str], ...] = ()
    """Models by the names that requests use and those that this upstream uses."""
    key_header: str = "Authorization"
    """What carries its key: this one as a bearer token, any other as it is."""
    azure_version: str = ""
    """Of Azure's interface, where it speaks that: models are deployments then."""
    probe_path: str = ""
    """What is asked from time to time whether it is well."""
    probe_s: float = 0.0
    """How often; 0 for never."""
    takes_prefill: bool = False
    """It goes on from a last message of the assistant's, rather than answering it."""
    model_timeouts: tuple[tuple[str, Timeouts], ...] = ()
    """Other deadlines by pattern of models; the first match holds."""

    def timeouts_for(self, model: str) -> Timeouts:
        """The deadlines of a call for a model, "" for none."""
        for pattern, timeouts in self.model_timeouts:
            if fnmatchcase(model, pattern):
                return timeouts
        return self.timeouts

    def known_as(self, model: str) -> str:
        """The name by which it knows a model; an alias is looked up once."""
        return next((sent for name, sent in self.aliases if name == model), model)


def routes_for(model: str | None, routes: Sequence[Route]) -> list[Route]:
    """The routes for a model, best first; without a model, all of them in order.

    Args:
        model: as the request names it, or None for a call that names none.
        routes: in configured order.
    """
    matching = [route for route in routes if model is None or _serves(route, model)]
    return sorted(matching, key=_by_priority)


def _serves(route: Route, model: str) -> bool:
    return any(name == model for name, _ in route.aliases) or any(
        fnmatchcase(model, pattern) for pattern in route.models
    )


def _by_priority(route: Route) -> int:
    return route.priority
