"""From options, and what lives as long as the process, to the stages that a request walks; a root, as `compose` is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gateway.compose import (
    check_tokenizers,
    make_budget_table,
    make_compaction,
    make_directory,
    make_early_rule,
    make_encodings,
    make_price_table,
    make_reuse_options,
    make_route,
    make_rule_table,
    make_socket_limits,
    make_summarizer_options,
    make_templates,
)
from gateway.compose_memory import GatewayMemory, make_memory_stages
from gateway.compose_vision import GatewayVision
from gateway.core.context.count_caches import CountCaches
from gateway.core.wire.request import Endpoint
from gateway.fitting.fitter import ChatFitter
from gateway.pipeline import Pipeline, Stage
from gateway.ports import AnswerStore, BriefStore, Calibrations, Journal, Limiter, SentPrompts
from gateway.settings import Cache, Settings
from gateway.shell.brief_maker import StoredBriefMaker
from gateway.shell.recaller import RememberingRecaller
from gateway.shell.routing.health import RememberedHealth
from gateway.shell.routing.ids import StoredIds
from gateway.shell.routing.windows import LearnedWindows
from gateway.shell.state.calibrations import NoCalibrations, StoredCalibrations
from gateway.shell.summarizer import Summarizer
from gateway.shell.telemetry.metrics import Metrics
from gateway.shell.telemetry.recorder import Recorder
from gateway.shell.tokens.counter import TiktokenCounter
from gateway.shell.upstream.client import HttpUpstream
from gateway.stages.admit import AdmitStage
from gateway.stages.answer_count import AnswerCountStage, answer_input_tokens
from gateway.stages.assemble import AssembleStage
from gateway.stages.count import CountStage
from gateway.stages.forget_session import ForgetSessionStage
from gateway.stages.forward import Fallbacks, ForwardStage, Refit
from gateway.stages.forward_socket import ForwardSocketStage
from gateway.stages.identify import IdentifyStage
from gateway.stages.list_models import ListModelsStage
from gateway.stages.reserve import ReserveStage
from gateway.stages.reuse import Flight, ReuseStage
from gateway.stages.route import RouteStage
from gateway.stages.settle import LimitSettling, Settle
from gateway.tasks import TaskGroup


@dataclass(frozen=True, slots=True)
class Lasting:
    """What lives as long as the process, and every pipeline is made of."""

    metrics: Metrics
    counter: TiktokenCounter
    caches: CountCaches
    recaller: RememberingRecaller
    summaries: Counter[str]
    briefs: BriefStore
    journal: Journal
    calibrations: StoredCalibrations
    sent: SentPrompts
    limiter: Limiter
    health: RememberedHealth
    windows: LearnedWindows
    ids: StoredIds
    answers: AnswerStore | None
    cache: Cache
    flights: dict[bytes, Flight]
    reuse_tally: Counter[tuple[str, str]]
    memory: GatewayMemory
    vision: GatewayVision
    upstream: HttpUpstream
    tasks: TaskGroup


def make_pipeline(settings: Settings, lasting: Lasting) -> Pipeline:
    """The stages of all requests, as one configuration wants them.

    Raises:
        InvalidSettings: something that it names cannot be used.
    """
    recorder = Recorder(lasting.metrics)
    rules, prices = make_rule_table(settings), make_price_table(settings)
    limits = LimitSettling(lasting.limiter, rules, prices) if settings.rate_limits else None
    own_keys = any(not upstream.api_key for upstream in settings.upstreams)
    identify = IdentifyStage(lasting.caches.prefixes, make_directory(settings), has_own_keys=own_keys)
    routes = [make_route(upstream) for upstream in settings.upstreams]
    ids = lasting.ids if len(routes) > 1 else None
    route = RouteStage(routes, ids)
    estimator = settings.token_estimator
    check_tokenizers(estimator)
    encodings, templates = make_encodings(estimator), make_templates(estimator)
    count = CountStage(lasting.counter, lasting.caches, encodings, templates=templates)
    calibrations = lasting.calibrations if estimator.calibrate else NoCalibrations()
    assemble = _make_assemble(settings, lasting, calibrations, limits)
    again = tuple(settings.fallbacks.items())
    forward = ForwardStage(
        lasting.upstream,
        lasting.health,
        {Endpoint.INPUT_TOKENS: answer_input_tokens},
        lasting.sent,
        Refit(lasting.windows, assemble),
        Fallbacks(again, (route, count, assemble)) if again else None,
        ids,
        repairs=settings.stream_repair.enabled,
    )
    let_in: tuple[Stage, ...] = (identify, AdmitStage(rules, lasting.limiter)) if limits else (identify,)
    reserve: tuple[Stage, ...] = (ReserveStage(rules, lasting.limiter, prices, calibrations),) if limits else ()
    charge_session = limits.charge_session if limits else None
    sockets = ForwardSocketStage(
        lasting.upstream, lasting.health, make_socket_limits(settings.websockets), charge_session
    )
    answer_count = AnswerCountStage(calibrations, make_budget_table(settings.token_budget))
    others: dict[Endpoint, tuple[Stage, ...]] = {
        Endpoint.TOKENS_COUNT: (*let_in, route, count, answer_count),
        Endpoint.INPUT_TOKENS: (*let_in, route, count, forward),
        Endpoint.MODELS: (*let_in, route, *reserve, ListModelsStage(lasting.upstream, forward)),
        Endpoint.REALTIME: (*let_in, route, *reserve, sockets),
        **_make_kept_stages(settings, lasting, identify, let_in),
    }
    settle = Settle(lasting.counter, calibrations, recorder, lasting.journal, limits)
    later = _reusing(settings, lasting, (route, count, assemble, *reserve, forward))
    return Pipeline((*let_in, *later), others, settle, recorder, lasting.tasks)


def _make_assemble(
    settings: Settings, lasting: Lasting, calibrations: Calibrations, limits: LimitSettling | None
) -> AssembleStage:
    """What makes chats fit."""
    mines = settings.facts.enabled and settings.facts.mine != "none"
    options = make_summarizer_options(settings.summarizer, states=mines)
    charge = limits.charge if limits else None
    counter, upstream = lasting.counter, lasting.upstream
    summarizer = Summarizer(options, upstream, counter, lasting.summaries, charge) if options else None
    deadline_s = settings.summarizer.deadline_seconds
    maker = StoredBriefMaker(lasting.briefs, counter, summarizer, deadline_s, lasting.tasks)
    early = make_early_rule(settings, lasting.sent)
    soft_ratio = settings.compaction.soft_ratio
    fitter = ChatFitter(lasting.briefs, maker, lasting.recaller, counter, soft_ratio, early)
    budgets, compaction = make_budget_table(settings.token_budget), make_compaction(settings)
    memory = lasting.memory.for_chats(charge)
    pictures, journal, windows = lasting.vision.pictures, lasting.journal, lasting.windows
    return AssembleStage(budgets, compaction, fitter, calibrations, journal, windows, memory, pictures)


def _make_kept_stages(
    settings: Settings, lasting: Lasting, identify: Stage, let_in: tuple[Stage, ...]
) -> dict[Endpoint, tuple[Stage, ...]]:
    """Of calls about what the gateway keeps itself: sessions, memories, documents."""
    remembering = lasting.memory.remembering(settings.facts)
    forget_documents = lasting.vision.forget
    memory = make_memory_stages(remembering, forget_documents)
    stages: dict[Endpoint, tuple[Stage, ...]] = {end: (*let_in, stage) for end, stage in memory.items()}
    stages |= {end: (*let_in, *found) for end, found in lasting.vision.stages().items()}
    stages[Endpoint.SESSIONS] = (identify, ForgetSessionStage(lasting.journal, lasting.briefs, remembering))
    return stages


def _reusing(settings: Settings, lasting: Lasting, later: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages after those that let a request in: behind the response cache, where there is one."""
    if lasting.answers is None:
        return later
    options = make_reuse_options(settings, lasting.cache)
    tally, tasks = lasting.reuse_tally, lasting.tasks
    return (ReuseStage(later, lasting.answers, lasting.flights, options, tally, tasks),)
