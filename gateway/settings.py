"""Every option: type, default, unit, bounds, help. The one table that the loader, the JSON Schema and
config/gateway.yaml are made from; only the roots see it. Upstreams and clients have files of their own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.settings_clients import ClientOptions, CompactionDiffering, RateLimit, RateLimitStore, Recall
from gateway.settings_memory import Facts
from gateway.settings_section import Section
from gateway.settings_upstreams import StreamRepair, UpstreamOptions
from gateway.settings_vision import Vision


class Server(Section, frozen=True):
    """Where the gateway listens, and what it accepts."""

    host: Annotated[str, Meta(description="Address of the data port.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Data port; 0 takes a free one.")] = 8080
    admin_host: Annotated[str, Meta(description="Address of the admin port (metrics, health).")] = "127.0.0.1"
    admin_port: Annotated[int, Meta(ge=0, le=65535, description="Admin port; 0 takes a free one.")] = 8081
    admin_token: Annotated[
        str, Meta(description="Opens what holds content on the admin port; empty: from this machine only.")
    ] = ""
    admin_token_file: Annotated[str | None, Meta(description="A file that holds the token.")] = None
    max_body_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            description="Largest body of a metered request, decoded. Pass-through bodies are unbounded.",
        ),
    ] = 33_554_432
    max_buffered_bytes: Annotated[
        int, Meta(ge=1024, description="Bound of all request bodies held at once; above it, 503.")
    ] = 134_217_728
    body_idle_seconds: Annotated[
        float, Meta(gt=0, description="Longest silence while a request's body arrives; then 408.")
    ] = 30.0
    keepalive_seconds: Annotated[
        float,
        Meta(gt=0, description="How long a connection may idle, and how long the head of a request may take."),
    ] = 75.0
    drain_seconds: Annotated[
        float, Meta(ge=0, description="After SIGTERM, how long running requests may take to finish.")
    ] = 20.0
    lame_duck_seconds: Annotated[
        float,
        Meta(ge=0, description="After SIGTERM, how long new requests are still accepted while not ready."),
    ] = 0.0
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Processes that serve the data port, about one a core; a supervisor starts them anew when they"
            " end, and serves the admin port for all.",
        ),
    ] = 1
    watch_seconds: Annotated[
        float,
        Meta(
            ge=0,
            description="How often the configuration file, and the files of its secrets, are looked at for changes,"
            " which are applied as by SIGHUP; 0 for never.",
        ),
    ] = 5.0
    allow_anonymous: Annotated[
        bool,
        Meta(
            description="Serve on a non-loopback address with a provider key and no client keys: anyone who reaches the"
            " port spends the key."
        ),
    ] = False
    allowed_origins: Annotated[
        list[str], Meta(description='Web pages that may call, such as "https://app.example"; "*" for all.')
    ] = msgspec.field(default_factory=list)
    trusted_proxies: Annotated[
        list[str],
        Meta(
            description='Networks of proxies whose x-gateway-client header names the client, such as "10.0.0.0/8"; the'
            " proxy must set it on every request. From all others the header counts nothing."
        ),
    ] = msgspec.field(default_factory=list)


class Websockets(Section, frozen=True):
    """Websockets that are passed through, such as realtime sessions."""

    max_message_bytes: Annotated[
        int, Meta(ge=1024, description="Largest message, either way; a larger one closes with 1009.")
    ] = 33_554_432
    idle_seconds: Annotated[
        float, Meta(ge=0, description="Longest silence of both ends, pings included; then 1001. 0 for any.")
    ] = 0.0
    total_seconds: Annotated[
        float, Meta(ge=0, description="How long one may be open; then 1001. 0 for as long as its ends like.")
    ] = 0.0


Share = Annotated[int, Meta(ge=0)] | Annotated[float, Meta(gt=0, lt=1)]


class TokenBudget(Section, frozen=True):
    """Shares of one request, in tokens; a share below 1 is a fraction of max_total."""

    system_tokens: Annotated[Share, Meta(description="System messages, tools and schemas (a target).")] = 700
    running_brief: Annotated[Share, Meta(description="The running brief.")] = 1200
    recent_turns: Annotated[Share, Meta(description="Recent turns that stay verbatim (a target).")] = 450
    retrieved_context: Annotated[Share, Meta(description="Retrieved text; what is unused goes to recent turns.")] = 3750
    completion: Annotated[Share, Meta(description="The answer, where a request does not say.")] = 1000
    max_total: Annotated[
        Annotated[int, Meta(ge=64)] | Literal["auto"],
        Meta(description='Prompt and completion together; "auto" is the model\'s own window.'),
    ] = 8000
    on_unfittable: Annotated[
        Literal["error", "forward"], Meta(description="What becomes of a request that cannot be made to fit.")
    ] = "error"
    models: Annotated[
        dict[str, dict[str, Any]],
        Meta(description='Other values by model pattern, such as {"gpt-4o*": {max_total: 64000}}.'),
    ] = msgspec.field(default_factory=dict)


class ChatTemplate(Section, frozen=True):
    """What a model's chat template adds to the texts of a prompt, in tokens."""

    message_tokens: Annotated[int, Meta(ge=0, le=100, description="To each message, beside its role.")] = 3
    priming_tokens: Annotated[int, Meta(ge=0, le=10_000, description="To each prompt.")] = 3


class TokenEstimator(Section, frozen=True):
    """How tokens are counted before a request is sent."""

    strategy: Annotated[Literal["tiktoken", "word_based"], Meta(description="word_based counts words.")] = "tiktoken"
    tokens_per_word: Annotated[float, Meta(gt=0, le=20, description="Of word_based.")] = 1.3
    calibrate: Annotated[
        bool, Meta(description="Learn from reported usage how each upstream bills each model, and budget by that.")
    ] = True
    models: Annotated[
        dict[str, str],
        Meta(
            description="By model pattern: an encoding (o200k_base, cl100k_base, words), another model that it is to be"
            ' counted as ("prod-*": gpt-4o), or a Hugging Face tokenizer ("my-*": "hf:/models/tokenizer.json").'
        ),
    ] = msgspec.field(default_factory=dict)
    templates: Annotated[
        dict[str, ChatTemplate],
        Meta(description="What a chat template adds, by model pattern; others by the built-in table."),
    ] = msgspec.field(default_factory=dict)


class SummarizerBreaker(Section, frozen=True):
    """When an endpoint that writes briefs is left alone."""

    failures: Annotated[int, Meta(ge=1, description="In a row.")] = 5
    reset_seconds: Annotated[float, Meta(ge=0, description="How long nobody is asked.")] = 30.0


class SummarizerSettings(Section, frozen=True):
    """Who writes running briefs."""

    endpoint: Annotated[
        str,
        Meta(description='"upstream": the request\'s own; or the base URL of another, with /v1; "" extracts only.'),
    ] = "upstream"
    api_key: Annotated[str, Meta(description="Of an endpoint of its own.")] = ""
    api_key_file: Annotated[str | None, Meta(description="A file that holds the key.")] = None
    model: Annotated[str, Meta(description="Empty for the request's own model.")] = ""
    timeout_secs: Annotated[float, Meta(gt=0, description="Of one call.")] = 30.0
    max_retries: Annotated[int, Meta(ge=0, le=10, description="With exponential backoff.")] = 3
    deadline_seconds: Annotated[
        float, Meta(ge=0, description="How long a request waits for a written brief; then extraction serves.")
    ] = 2.0
    max_input_tokens: Annotated[
        int, Meta(ge=256, description="What folded turns may take of the summariser's prompt.")
    ] = 6000
    reuse_prompt: Annotated[
        bool,
        Meta(
            description="Ask the request's own model at the end of what it was sent already, which its provider has"
            " cached (docs/prompt-cache.md), where endpoint and model leave that to the request."
        ),
    ] = False
    breaker: Annotated[SummarizerBreaker, Meta(description="After failures in a row nobody is asked for a while.")] = (
        msgspec.field(default_factory=lambda: SummarizerBreaker())
    )


class Compaction(Section, frozen=True):
    """Folding older turns into the running brief."""

    enabled: Annotated[bool, Meta(description="Off: what does not fit is refused.")] = True
    shadow: Annotated[bool, Meta(description="Plan and record, but forward the client's own bytes.")] = False
    soft_ratio: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="Above this share of the prompt's limit the next brief is made in the background; 1 for never.",
        ),
    ] = 0.8
    target_ratio: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="What a compaction in the middle of an agent's task aims at, of the prompt's limit: a lower"
            " one comes less often and forgets more. For a user's message recent turns are kept to their share.",
        ),
    ] = 0.65
    recall: Annotated[
        Recall,
        Meta(
            description="What of the folded messages comes back word for word for a user's message: as much as is worth"
            " its tokens and has room (fill), at most the share retrieved_context (share), or nothing (off)."
        ),
    ] = "fill"
    early: Annotated[
        bool,
        Meta(
            description="Compact a chat that fits, too, where that costs less than waiting: mostly after a pause in"
            " which the upstream has forgotten its prompt (docs/prompt-cache.md)."
        ),
    ] = False
    keep_value: Annotated[
        float,
        Meta(
            ge=0,
            le=10,
            description="Of early: what a token of history is worth that is forwarded as it is, in each request, as a"
            " share of the input price. Higher compacts more seldom.",
        ),
    ] = 0.3
    models: Annotated[
        dict[str, CompactionDiffering],
        Meta(
            description="Other values by model pattern, of enabled, shadow, target_ratio and recall, such as"
            ' {"gpt-4o*": {shadow: true}}; the first match wins.'
        ),
    ] = msgspec.field(default_factory=dict)


class ModelPrices(Section, frozen=True):
    """Prices of a model's tokens, in USD per million."""

    input: Annotated[float, Meta(gt=0, description="Of a prompt's token.")]
    cached_input: Annotated[float | None, Meta(description="Read from the cache; null: a tenth of input.")] = None
    cache_write: Annotated[float | None, Meta(description="Written to the cache; null: as input.")] = None
    output: Annotated[float | None, Meta(description="Of an answer's token; null: four times input.")] = None


class State(Section, frozen=True):
    """Where what was made and learned is kept."""

    url: Annotated[
        str,
        Meta(
            description="memory:// is this process's memory; sqlite:///path/to/file keeps briefs, and what was learned"
            " of token counts, across restarts; redis://host:6379/0 (rediss:// for TLS) shares them between replicas."
        ),
    ] = "memory://"
    brief_ttl_seconds: Annotated[
        float, Meta(ge=60, description="In a file or Redis, how long a brief is kept that no request uses.")
    ] = 604_800.0
    journal_ttl_seconds: Annotated[
        float, Meta(ge=1, description="How long the messages of a named session are kept that no request names.")
    ] = 604_800.0
    journal_max_messages: Annotated[
        int, Meta(ge=16, description="Bound of the messages kept of one session; the oldest go first.")
    ] = 5_000
    journal_max_bytes: Annotated[int, Meta(ge=16384, description="Bound of their text; the oldest go first.")] = (
        4_194_304
    )
    max_bytes: Annotated[
        int, Meta(ge=65536, description="Bound of the briefs in memory, and of a file; the least used go first.")
    ] = 67_108_864
    count_cache_bytes: Annotated[
        int, Meta(ge=65536, description="Bound of what is remembered of counted messages.")
    ] = 33_554_432


class Cache(Section, frozen=True):
    """Answers that are returned again to requests that ask exactly the same."""

    enabled: Annotated[bool, Meta(description="Keep answers, of each client for itself (docs/cache.md).")] = False
    url: Annotated[
        str,
        Meta(
            description="memory:// is this process's memory; redis://host:6379/0 (rediss:// for TLS) shares answers"
            " between replicas."
        ),
    ] = "memory://"
    ttl_seconds: Annotated[float, Meta(gt=0, le=31_536_000, description="How long an answer may be returned.")] = 3600.0
    max_entries: Annotated[int, Meta(ge=1, description="Bound of the answers in memory; the least used go first.")] = (
        1000
    )
    max_bytes: Annotated[int, Meta(ge=65536, description="Bound of their size.")] = 67_108_864
    max_answer_bytes: Annotated[int, Meta(ge=1024, description="A larger answer is not kept.")] = 1_048_576
    only_deterministic: Annotated[
        bool,
        Meta(
            description="Only for requests that want the same answer each time: embeddings, and those with temperature"
            " 0 or a seed."
        ),
    ] = True
    wait_seconds: Annotated[
        float,
        Meta(
            ge=0,
            description="How long a request waits for the answer to an equal one that was sent before it; then it asks"
            " for itself.",
        ),
    ] = 30.0


class Telemetry(Section, frozen=True):
    """Logs. Metrics are always on."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"


class Settings(Section, frozen=True):
    """The whole configuration."""

    server: Server = Server()
    websockets: Websockets = Websockets()
    upstreams: Annotated[
        list[UpstreamOptions],
        Meta(
            description="Tried in order of priority; a request goes to those whose patterns match its model. Empty:"
            " OPENAI_BASE_URL and OPENAI_API_KEY make one; without them, builtin://demo."
        ),
    ] = msgspec.field(default_factory=list)
    fallbacks: Annotated[
        dict[str, list[str]],
        Meta(
            description="Models that stand in, in order, for one whose upstreams all fail before the answer's first"
            ' byte, by pattern, such as {"gpt-4o": ["gpt-4o-mini"]}. x-gateway-model then says who answered.'
        ),
    ] = msgspec.field(default_factory=dict)
    stream_repair: StreamRepair = StreamRepair()
    clients: Annotated[
        list[ClientOptions],
        Meta(
            description="Who may call, by key; then nobody else may, and their keys never reach an upstream. Such as"
            ' [{name: app, key_sha256: "...", models: ["gpt-4o*"], upstreams: ["*"], may: [overrides]}]. Empty: all are'
            " one client."
        ),
    ] = msgspec.field(default_factory=list)
    token_budget: TokenBudget = TokenBudget()
    token_estimator: TokenEstimator = TokenEstimator()
    summarizer: SummarizerSettings = SummarizerSettings()
    compaction: Compaction = Compaction()
    prices: Annotated[
        dict[str, ModelPrices],
        Meta(
            description="What tokens cost in USD per million, by model pattern, for compaction.early, such as"
            ' {"gpt-4o*": {input: 2.5, cached_input: 1.25, output: 10}}. Without a row cached tokens count a tenth of'
            " the input price, and those written to the cache 1.25 times it."
        ),
    ] = msgspec.field(default_factory=dict)
    rate_limits: Annotated[
        list[RateLimit],
        Meta(
            description="Every row that matches holds. Such as [{client: app, model: gpt-4o*, requests_per_minute: 600,"
            " tokens_per_minute: 200000, concurrent_requests: 100, tokens_per_day: 5000000, cost_per_day_usd: 20,"
            " shadow: false}]."
        ),
    ] = msgspec.field(default_factory=list)
    rate_limit_store: RateLimitStore = RateLimitStore()
    state: State = State()
    facts: Facts = Facts()
    vision: Vision = Vision()
    cache: Cache = Cache()
    telemetry: Telemetry = Telemetry()


DEMO_URL = "builtin://demo"
LATER = frozenset(
    {
        "page",
        "telemetry.otlp_endpoint",
        "telemetry.capture_content",
    }
)
"""Names that are kept for what this version does not do yet; using one is an error that says so."""
RESTART_ONLY = ("server", "rate_limit_store", "state", "facts", "vision", "cache", "telemetry")
"""Sections that a reload cannot change."""
