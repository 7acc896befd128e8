"""The options of memory: facts, contexts, and what is mined, found and embedded of them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings_section import Section

# A float, as other annotations of the same bounds are: `typing` takes equal ones for one, the first that it sees.
_LifeSeconds = Annotated[float, Meta(gt=0, le=3_153_600_000.0)]


class ContextLevels(Section, frozen=True):
    """How long texts are kept, by their level, where they do not say; null is for ever."""

    immediate_seconds: _LifeSeconds | None = 3_600.0
    short_term_seconds: _LifeSeconds | None = 604_800.0
    long_term_seconds: _LifeSeconds | None = None


class Embeddings(Section, frozen=True):
    """Who makes vectors of memories and of what is looked for."""

    model: Annotated[str, Meta(min_length=1, max_length=256, description="That makes them.")]
    base_url: Annotated[
        str, Meta(description='"upstream": the first upstream; or the base URL of another, with /v1.')
    ] = "upstream"
    api_key: Annotated[str, Meta(description="Of an endpoint of its own.")] = ""
    api_key_file: Annotated[str | None, Meta(description="A file that holds the key.")] = None
    batch_size: Annotated[int, Meta(ge=1, le=2048, description="Texts in one call.")] = 64
    deadline_seconds: Annotated[
        float, Meta(gt=0, le=60, description="How long a search waits for the vector of its question.")
    ] = 0.3


class Facts(Section, frozen=True):
    """What is remembered of facts and texts (docs/memory.md)."""

    enabled: Annotated[bool, Meta(description="Serve /api/v1/facts, /contexts and /memories, and remember.")] = True
    url: Annotated[
        str,
        Meta(
            description="memory:// is this process's memory, for one worker; sqlite:///path/to/file outlives it and is"
            " shared by workers; postgresql://user:password@host/database (extra postgres) is shared by replicas."
        ),
    ] = "memory://"
    collection_name: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z_][A-Za-z0-9_]{0,39}$",
            description="What the names of the tables in a PostgreSQL begin with.",
        ),
    ] = "facts"
    dedup_enabled: Annotated[
        bool,
        Meta(description="The same fact, or text, of a memory is stored once; a fact then with all of its sources."),
    ] = True
    confidence_threshold: Annotated[
        float, Meta(ge=0, le=1, description="A fact that is less sure is refused and not stored.")
    ] = 0.8
    max_facts_per_query: Annotated[int, Meta(ge=1, le=1000, description="Facts in one answer.")] = 100
    max_bytes: Annotated[
        int,
        Meta(
            ge=65536,
            description="Bound of what is stored in memory or a file, less vectors; what is oldest goes first.",
        ),
    ] = 268_435_456
    ttl_seconds: Annotated[
        _LifeSeconds | None, Meta(description="How long a fact is kept that does not say; null for ever.")
    ] = None
    levels: ContextLevels = ContextLevels()
    wait_seconds: Annotated[
        float, Meta(ge=0.1, le=300, description="How long a call of the API waits for a store that is down; then 503.")
    ] = 10.0
    retrieve_seconds: Annotated[
        float, Meta(ge=0, le=60, description="How long a chat waits for what is found for it; then it goes without.")
    ] = 0.25
    queue_max: Annotated[
        int, Meta(ge=1, description="Mined facts that wait to be stored; above it the oldest are let go.")
    ] = 10_000
    mine: Annotated[
        Literal["folded", "all", "none"],
        Meta(
            description="Of which messages a chat's memory learns: those that are folded into its brief, all that it"
            " sends, or none."
        ),
    ] = "folded"
    embeddings: Annotated[
        Embeddings | None,
        Meta(
            description="Find memories, documents and folded messages by meaning, too (extra embeddings), such as"
            " {base_url: upstream, model: text-embedding-3-small, batch_size: 64, deadline_seconds: 0.3}, with api_key"
            " or api_key_file for another base_url; null: by their words only."
        ),
    ] = None
