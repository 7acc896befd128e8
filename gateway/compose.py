"""From options to what the core understands: routes, budgets, how compaction and the summariser behave.

Conversions only; with `app` and `offline`, the places that know `Settings`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from typing import Protocol

import msgspec

from gateway.core.access import Directory, Grants, Identity, Permission, scope_of
from gateway.core.context.budget import AUTO, Budget, BudgetTable, OnUnfittable
from gateway.core.context.economics import Prices
from gateway.core.context.prices import USUAL_CACHED_SHARE, USUAL_OUTPUT_TIMES, ModelPrices, PriceTable
from gateway.core.limits.gauge import Kind
from gateway.core.limits.rules import Rule, RuleTable
from gateway.core.routing.breaker import BreakerRules
from gateway.core.routing.routes import Roles, Route, StreamUsage, Timeouts
from gateway.core.tokens.calibration import Prior
from gateway.core.tokens.priors import prior_of
from gateway.core.tokens.profiles import FILE_PREFIX, WORDS, Template
from gateway.fitting.gain import EarlyRule
from gateway.fitting.options import CompactionOptions, CompactionTable, Differing
from gateway.ports import AnswerStore, Limiter, SentPrompts
from gateway.settings import (
    DEMO_URL,
    Cache,
    Settings,
    State,
    SummarizerSettings,
    TokenBudget,
    TokenEstimator,
    Websockets,
)
from gateway.settings_check import (
    Fault,
    is_redis,
    key_digests,
    limit_store_url,
    resolve_budget,
    share_tokens,
    sqlite_path,
)
from gateway.settings_clients import ClientOptions, CompactionDiffering
from gateway.settings_load import InvalidSettings
from gateway.settings_upstreams import DifferingTimeouts, UpstreamOptions, UpstreamTimeouts
from gateway.shell.state.briefs import StoredBriefs
from gateway.shell.state.journal import StoredJournal
from gateway.shell.state.key_value import ManagedStore, MemoryStateStore
from gateway.shell.state.memory import ManagedBriefStore, MemoryBriefStore
from gateway.shell.state.sqlite import SqliteStateStore
from gateway.shell.summarizer import SummarizerOptions
from gateway.shell.telemetry.figures import AnswerFigures, LimitStoreFigures
from gateway.shell.tokens.counter import encoding_fault
from gateway.stages.reuse import ReuseOptions
from gateway.tasks import TaskGroup
from gateway.tunnel import SocketLimits


def make_route(options: UpstreamOptions) -> Route:
    """An upstream as the core knows it."""
    return Route(
        name=options.name,
        base_url=options.base_url.rstrip("/") if options.base_url != DEMO_URL else DEMO_URL,
        api_key=options.api_key,
        models=tuple(options.models),
        priority=options.priority,
        roles=Roles(options.roles),
        stream_usage=StreamUsage(options.stream_usage),
        timeouts=_timeouts(options.timeouts),
        max_retries=options.retries.max,
        cache_s=options.cache_seconds,
        breaker=BreakerRules(options.breaker.failures, options.breaker.reset_seconds),
        retry_ratio=options.retries.budget_ratio,
        weight=options.weight,
        aliases=tuple(options.model_aliases.items()),
        key_header=options.key_header or ("api-key" if options.azure_api_version else "Authorization"),
        azure_version=options.azure_api_version,
        takes_prefill=options.accepts_prefill,
        probe_path=options.probe.path,
        probe_s=options.probe.interval_seconds,
        model_timeouts=tuple(
            (pattern, _timeouts(options.timeouts, differing)) for pattern, differing in options.model_timeouts.items()
        ),
    )


def _timeouts(options: UpstreamTimeouts, differing: DifferingTimeouts | None = None) -> Timeouts:
    """Deadlines, with those of some models over them."""
    others = msgspec.structs.asdict(differing) if differing is not None else {}
    options = msgspec.structs.replace(options, **{name: value for name, value in others.items() if value is not None})
    return Timeouts(
        options.connect_seconds,
        options.header_seconds,
        options.first_token_seconds,
        options.idle_seconds,
        options.total_seconds,
        options.max_answer_bytes,
    )


def make_socket_limits(options: Websockets) -> SocketLimits:
    """Bounds of websockets; 0 seconds are no bound."""
    return SocketLimits(options.max_message_bytes, options.idle_seconds or math.inf, options.total_seconds or math.inf)


def make_budget_table(options: TokenBudget) -> BudgetTable:
    """The budgets of all models; the overrides were checked when the configuration was loaded."""
    by_pattern = []
    for pattern in options.models:
        resolved = resolve_budget(options, pattern, [], [])
        assert resolved is not None
        by_pattern.append((pattern, _budget(resolved)))
    return BudgetTable(_budget(options), by_pattern)


def _budget(options: TokenBudget) -> Budget:
    return Budget(
        max_total_tokens=options.max_total if isinstance(options.max_total, int) else AUTO,
        system_tokens=share_tokens(options.system_tokens, options.max_total),
        running_brief_tokens=share_tokens(options.running_brief, options.max_total),
        recent_tokens=share_tokens(options.recent_turns, options.max_total),
        retrieved_tokens=share_tokens(options.retrieved_context, options.max_total),
        completion_tokens=share_tokens(options.completion, options.max_total),
        on_unfittable=OnUnfittable(options.on_unfittable),
    )


def make_compaction(settings: Settings) -> CompactionTable:
    """What shapes a brief's text is part of its key: other settings, other briefs."""
    shaping = (settings.token_budget.running_brief, settings.summarizer.endpoint, settings.summarizer.model)
    default = CompactionOptions(
        is_enabled=settings.compaction.enabled,
        is_shadow=settings.compaction.shadow,
        target_ratio=settings.compaction.target_ratio,
        recalls=settings.compaction.recall != "off",
        fills=settings.compaction.recall == "fill",
        fingerprint=hashlib.sha256(msgspec.json.encode(shaping)).digest(),
        is_early=settings.compaction.early,
    )
    by_model = [(pattern, _differing(row)) for pattern, row in settings.compaction.models.items()]
    plain = CompactionDiffering()
    by_client = {each.name: _differing(each.compaction) for each in settings.clients if each.compaction != plain}
    return CompactionTable(default, by_model, by_client)


def _differing(row: CompactionDiffering) -> Differing:
    recall = row.recall
    return Differing(
        row.enabled,
        row.shadow,
        row.target_ratio,
        None if recall is None else recall != "off",
        None if recall is None else recall == "fill",
    )


def make_directory(settings: Settings) -> Directory | None:
    """Who may call; None where no clients are configured."""
    if not settings.clients:
        return None
    by_name: dict[str, Identity] = {}
    by_digest: dict[bytes, Identity] = {}
    for options in settings.clients:
        identity = Identity(options.name, scope_of(options.name), _grants(options))
        by_name[options.name] = identity
        by_digest |= {bytes.fromhex(digest): identity for digest in key_digests(options)}
    proxies = tuple(map(ipaddress.ip_network, settings.server.trusted_proxies))
    return Directory(by_digest, by_name, proxies)


def _grants(options: ClientOptions) -> Grants:
    if options.may is not None:
        may = frozenset(map(Permission, options.may))
    else:
        may = frozenset(Permission) - (set() if options.models == ["*"] else {Permission.PASSTHROUGH})
    return Grants(tuple(options.models), tuple(options.upstreams), may, options.max_total)


def make_rule_table(settings: Settings) -> RuleTable:
    """What limits hold."""
    rules = []
    for row in settings.rate_limits:
        cost = None if row.cost_per_day_usd is None else max(1, round(row.cost_per_day_usd * 1e9))
        amounts = {
            Kind.REQUESTS: row.requests_per_minute,
            Kind.TOKENS: row.tokens_per_minute,
            Kind.CONCURRENT: row.concurrent_requests,
            Kind.DAY_TOKENS: row.tokens_per_day,
            Kind.DAY_COST: cost,
        }
        given = {kind: amount for kind, amount in amounts.items() if amount is not None}
        rules.append(Rule(row.client, row.model, given, row.shadow))
    return RuleTable(rules)


def make_price_table(settings: Settings) -> PriceTable:
    """The prices of models that the configuration names."""
    rows = []
    for pattern, row in settings.prices.items():
        read = row.cached_input if row.cached_input is not None else USUAL_CACHED_SHARE * row.input
        write = row.cache_write if row.cache_write is not None else row.input
        output = row.output if row.output is not None else USUAL_OUTPUT_TIMES * row.input
        rows.append((pattern, ModelPrices(Prices(row.input, read, write), output)))
    return PriceTable(rows)


def make_early_rule(settings: Settings, sent: SentPrompts) -> EarlyRule | None:
    """When chats that fit are compacted; None for never."""
    if not settings.compaction.early:
        return None
    return EarlyRule(sent, make_price_table(settings), settings.compaction.keep_value)


def make_encodings(options: TokenEstimator) -> dict[str, str]:
    """Encoding by model pattern, beyond the built-in table."""
    return {"*": WORDS} if options.strategy == "word_based" else dict(options.models)


def make_state_store(options: State) -> ManagedStore:
    """Where state is kept, as `state.url` says."""
    if is_redis(options.url):
        from gateway.shell.state.redis import RedisStateStore  # its client is an extra

        return RedisStateStore(options.url, options.max_bytes)
    path = sqlite_path(options.url)
    return MemoryStateStore(options.max_bytes) if path is None else SqliteStateStore(path, options.max_bytes)


class SharedLimits(Limiter, LimitStoreFigures, Protocol):
    """Limits of all replicas, whose store is opened, closed and measured."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


def make_shared_limiter(settings: Settings) -> SharedLimits | None:
    """What keeps limits for all replicas; None where each process keeps its own."""
    url, options = limit_store_url(settings), settings.rate_limit_store
    if url is None:
        return None
    from gateway.shell.limits.shared import SharedLimiter  # its client is an extra

    return SharedLimiter(url, options.cluster, options.timeout_ms / 1000, options.lease_seconds, options.replicas)


class ManagedAnswers(AnswerStore, AnswerFigures, Protocol):
    """Answers whose store is opened, closed and measured."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


def make_answer_store(options: Cache) -> ManagedAnswers | None:
    """Where answers are kept, as `cache.url` says; None where they are not."""
    if not options.enabled:
        return None
    if is_redis(options.url):
        from gateway.shell.cache.redis import RedisAnswers  # aiocache is an extra

        return RedisAnswers(options.url, options.ttl_seconds)
    from gateway.shell.cache.memory import MemoryAnswers

    return MemoryAnswers(options.ttl_seconds, options.max_entries, options.max_bytes)


def make_reuse_options(settings: Settings, cache: Cache) -> ReuseOptions:
    """What shapes an answer is part of its key: other settings, other answers."""
    upstreams = [
        (each.name, each.base_url, each.models, each.model_aliases, each.priority, each.roles)
        for each in settings.upstreams
    ]
    summarizer = (settings.summarizer.endpoint, settings.summarizer.model)
    clients = [(each.name, each.upstreams, each.max_total, each.compaction) for each in settings.clients]
    estimator = settings.token_estimator
    shaping = (upstreams, clients, settings.token_budget, estimator, settings.compaction, summarizer)
    fingerprint = hashlib.sha256(msgspec.json.encode(shaping)).digest()
    return ReuseOptions(fingerprint, cache.only_deterministic, cache.max_answer_bytes, cache.wait_seconds)


def make_brief_store(options: State, store: ManagedStore) -> ManagedBriefStore:
    """Where briefs are kept: as they are in memory, or written to a store that outlives the process."""
    if isinstance(store, MemoryStateStore):
        return MemoryBriefStore(options.max_bytes)
    return StoredBriefs(store, options.max_bytes, options.brief_ttl_seconds)


def make_journal(options: State, store: ManagedStore, tasks: TaskGroup) -> StoredJournal:
    """Where named sessions are kept; an eighth of the store's bound is held in memory before it."""
    return StoredJournal(
        store,
        tasks,
        options.journal_ttl_seconds,
        options.journal_max_messages,
        options.journal_max_bytes,
        options.max_bytes // 8,
    )


def make_templates(options: TokenEstimator) -> dict[str, Template]:
    """What chat templates add, by model pattern."""
    return {
        pattern: Template(found.message_tokens, found.priming_tokens) for pattern, found in options.templates.items()
    }


def check_tokenizers(options: TokenEstimator) -> None:
    """Load every tokenizer that the configuration names.

    Raises:
        InvalidSettings: one cannot be loaded, with the reason.
    """
    faults = [
        Fault(f'token_estimator.models["{pattern}"]', f"{value}: {fault}", "a tokenizer that can be loaded")
        for pattern, value in options.models.items()
        if value.startswith(FILE_PREFIX) and (fault := encoding_fault(value))
    ]
    if faults:
        raise InvalidSettings(faults)


def make_prior(model: str) -> Prior:
    """What is believed of a model's bills before its first answer."""
    known = prior_of(model)
    return Prior(known.ratio, known.fixed_tokens, known.tools_fixed_tokens)


def make_endpoint_route(name: str, base_url: str, api_key: str, wait_s: float) -> Route:
    """An endpoint that is asked on the gateway's own account."""
    timeouts = Timeouts(min(5.0, wait_s), wait_s, wait_s, wait_s, wait_s)
    return Route(name, base_url, api_key, ("*",), 0, Roles.OPEN, StreamUsage.NEVER, timeouts, max_retries=0)


def make_summarizer_options(options: SummarizerSettings, *, states: bool = False) -> SummarizerOptions | None:
    """How briefs are written; None for extraction only.

    Args:
        options: as configured.
        states: facts are wanted with briefs, where a request names a memory.
    """
    if not options.endpoint:
        return None
    route = None
    if options.endpoint != "upstream":
        base_url = options.endpoint.rstrip("/").removesuffix("/chat/completions")
        route = make_endpoint_route("summarizer", base_url, options.api_key, options.timeout_secs)
    return SummarizerOptions(
        route,
        options.model,
        options.timeout_secs,
        options.max_retries,
        options.max_input_tokens,
        breaker_failures=options.breaker.failures,
        breaker_rest_s=options.breaker.reset_seconds,
        reuses_prompts=options.reuse_prompt,
        states=states,
    )
