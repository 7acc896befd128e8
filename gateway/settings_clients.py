"""The options of clients, and of the limits that they are held to: type, default, unit, bounds, help."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.settings_section import Section

Recall = Literal["fill", "share", "off"]


class CompactionDiffering(Section, frozen=True):
    """What differs for some models, or for a client; null is as for all."""

    enabled: bool | None = None
    shadow: bool | None = None
    target_ratio: Annotated[float, Meta(gt=0, le=1)] | None = None
    recall: Recall | None = None


Pattern = Annotated[str, Meta(min_length=1, max_length=256)]


class ClientOptions(Section, frozen=True):
    """Who may call, and what for."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._@-]{0,63})$",
            description='Label in metrics and logs, and what briefs are kept under. "*" stands for all names that a'
            " trusted proxy sends and no other client has.",
        ),
    ]
    key_sha256: Annotated[
        str | list[str] | None,  # checked apart: msgspec 0.22 crashes on a pattern in a union of text and list
        Meta(
            description="SHA-256 of the key (`llm-gateway key` makes both), or several of them while a key is changed;"
            " null: known by a trusted proxy's header only."
        ),
    ] = None
    models: Annotated[list[Pattern], Meta(min_length=1, description="Patterns of the models it may use.")] = (
        msgspec.field(default_factory=lambda: ["*"])
    )
    upstreams: Annotated[
        list[Pattern], Meta(min_length=1, description="Patterns of the names of the upstreams it may use.")
    ] = msgspec.field(default_factory=lambda: ["*"])
    may: Annotated[
        list[Literal["passthrough", "overrides", "facts", "vision"]] | None,
        Meta(
            description="passthrough: paths that are not metered; overrides: x-gateway-* headers and sessions; facts;"
            " vision. null: all, less passthrough where models are restricted, since nobody reads the model there."
        ),
    ] = None
    max_total: Annotated[
        Annotated[int, Meta(ge=64)] | None,
        Meta(description="Lowers the budget of each of its requests to this, where that is less."),
    ] = None
    compaction: Annotated[
        CompactionDiffering,
        Meta(description="What differs for it, over what its models say, such as {shadow: true}."),
    ] = msgspec.field(default_factory=lambda: CompactionDiffering())


class RateLimit(Section, frozen=True):
    """Limits of the clients and models whose names match; each client has limits of its own."""

    client: Annotated[Pattern, Meta(description="Pattern of clients' names.")] = "*"
    model: Annotated[
        Pattern, Meta(description='Pattern of models, which share the limits; "*" counts calls without a model, too.')
    ] = "*"
    requests_per_minute: Annotated[
        Annotated[int, Meta(ge=1, le=100_000_000)] | None, Meta(description="Also how many may come at once.")
    ] = None
    tokens_per_minute: Annotated[
        Annotated[int, Meta(ge=1, le=100_000_000)] | None,
        Meta(description="Of prompts and answers; an answer is reserved at its full length until its bill is known."),
    ] = None
    concurrent_requests: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None, Meta(description="That are being answered.")
    ] = None
    tokens_per_day: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000_000_000)] | None, Meta(description="Of a day by UTC.")
    ] = None
    cost_per_day_usd: Annotated[
        Annotated[float, Meta(gt=0, le=1_000_000)] | None, Meta(description="The same in money, by prices.")
    ] = None
    shadow: Annotated[bool, Meta(description="Record what would be refused, and refuse nothing.")] = False


class RateLimitStore(Section, frozen=True):
    """Where replicas keep their limits together (docs/limits.md)."""

    url: Annotated[
        str,
        Meta(
            description='redis://host:6379/0 (rediss:// for TLS) shares limits between replicas and workers; "" is'
            " state.url where that is a Redis, and otherwise the memory of each process."
        ),
    ] = ""
    cluster: Annotated[bool, Meta(description="The address is one node of a Redis Cluster.")] = False
    timeout_ms: Annotated[
        int,
        Meta(ge=1, le=10_000, description="What a decision waits for it; then each replica goes on with its share."),
    ] = 250
    lease_seconds: Annotated[
        float,
        Meta(ge=1, le=3600, description="After this, what a replica held that was killed is there again."),
    ] = 30.0
    replicas: Annotated[
        int,
        Meta(ge=1, le=10_000, description="That are taken to share the limits until they were counted there."),
    ] = 1
