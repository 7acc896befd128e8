"""The options of upstreams: type, default, unit, bounds, help."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.settings_section import Section


class UpstreamTimeouts(Section, frozen=True):
    """Deadlines of one call."""

    connect_seconds: Annotated[float, Meta(gt=0, description="Until connected.")] = 5.0
    header_seconds: Annotated[float, Meta(gt=0, description="Until the head of the answer.")] = 60.0
    first_token_seconds: Annotated[float, Meta(gt=0, description="From the head to the first byte.")] = 60.0
    idle_seconds: Annotated[float, Meta(gt=0, description="Between two chunks.")] = 60.0
    total_seconds: Annotated[float, Meta(gt=0, description="The whole answer.")] = 600.0
    max_answer_bytes: Annotated[int, Meta(ge=0, description="A longer answer is broken off; 0: none is.")] = 0


class DifferingTimeouts(Section, frozen=True):
    """Deadlines of some models; null is as the upstream's."""

    connect_seconds: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="Until connected.")] = None
    header_seconds: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="Until the head of the answer.")
    ] = None
    first_token_seconds: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="From the head to the first byte.")
    ] = None
    idle_seconds: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="Between two chunks.")] = None
    total_seconds: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="The whole answer.")] = None
    max_answer_bytes: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="0: any number.")] = None


class Retries(Section, frozen=True):
    """What is tried again, before the first byte has reached the client."""

    max: Annotated[int, Meta(ge=0, le=10, description="Further calls to the same upstream.")] = 2
    budget_ratio: Annotated[
        float,
        Meta(ge=0, le=1, description="Of an upstream's recent requests, how many may be retried, so that none storm."),
    ] = 0.2


class UpstreamBreaker(Section, frozen=True):
    """When an upstream is left alone for a model; others are asked meanwhile, if there are any."""

    failures: Annotated[int, Meta(ge=1, le=1000, description="In a row.")] = 5
    reset_seconds: Annotated[
        float, Meta(gt=0, le=3600, description="Until one request tries again; twice as long each time that fails.")
    ] = 30.0


class Probe(Section, frozen=True):
    """A question from time to time, so that no request has to find out that an upstream is down."""

    path: Annotated[str, Meta(pattern="^/", description="Asked for below base_url; any answer below 500 will do.")] = (
        "/models"
    )
    interval_seconds: Annotated[float, Meta(ge=0, le=3600, description="How often; 0: never.")] = 0.0


class UpstreamOptions(Section, frozen=True):
    """One OpenAI-compatible endpoint."""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="Label in metrics, logs and headers.")]
    base_url: Annotated[
        str, Meta(description='Up to and with /v1, or "builtin://demo" for the upstream that is built in.')
    ]
    api_key: Annotated[str, Meta(description="Replaces the client's; empty lets the client's own pass.")] = ""
    api_key_file: Annotated[str | None, Meta(description="A file that holds the key.")] = None
    models: Annotated[
        list[str], Meta(min_length=1, description='Patterns of the models it serves, such as "gpt-4o*".')
    ] = msgspec.field(default_factory=lambda: ["*"])
    model_aliases: Annotated[
        dict[str, str],
        Meta(
            description="Models that it knows by other names, which it serves beside `models`: such as"
            ' {"gpt-4o": "prod-gpt4o"}. Metered requests are sent with its name.'
        ),
    ] = msgspec.field(default_factory=dict)
    accepts_prefill: Annotated[
        bool, Meta(description="It goes on from a last assistant message (stream_repair), rather than answering it.")
    ] = False
    azure_api_version: Annotated[
        str,
        Meta(
            description="Of an Azure OpenAI resource, such as 2024-10-21: its base_url ends in /openai, models are its"
            " deployments (see model_aliases), and the key goes in api-key."
        ),
    ] = ""
    key_header: Annotated[
        Literal["", "Authorization", "api-key", "x-api-key"],
        Meta(description='What carries api_key; "": Authorization, or api-key where azure_api_version is set.'),
    ] = ""
    priority: Annotated[int, Meta(description="Lower is asked first.")] = 0
    weight: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Among upstreams of one priority, its share of conversations; each stays with its upstream as"
            " long as that answers.",
        ),
    ] = 1
    roles: Annotated[
        Literal["open", "strict"],
        Meta(description="strict: its chat template takes no second system message and no two user messages in a row."),
    ] = "open"
    stream_usage: Annotated[
        Literal["ask", "never"],
        Meta(description="Whether usage is asked for in streams whose client did not."),
    ] = "ask"
    cache_seconds: Annotated[
        float,
        Meta(
            ge=0,
            description="How long it caches a prompt after its last use, for compaction.early; 0: it does not cache.",
        ),
    ] = 300.0
    timeouts: UpstreamTimeouts = UpstreamTimeouts()
    model_timeouts: Annotated[
        dict[str, DifferingTimeouts],
        Meta(
            description="Other timeouts by model pattern, such as"
            ' {"o3*": {first_token_seconds: 300}}; the first match holds.'
        ),
    ] = msgspec.field(default_factory=dict)
    retries: Retries = Retries()
    breaker: UpstreamBreaker = UpstreamBreaker()
    probe: Probe = Probe()


class StreamRepair(Section, frozen=True):
    """Streams that break off after their first byte (docs/routing.md)."""

    enabled: Annotated[
        bool,
        Meta(
            description="A chat's stream goes on with another upstream's answer, if that begins with exactly the same"
            " text (temperature 0, or a seed) or takes it as given (accepts_prefill)."
        ),
    ] = False
