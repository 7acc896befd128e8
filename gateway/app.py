"""The composition root: the one file that knows all others.

`Gateway` owns what lives as long as the process (sockets, tokenizers, metrics, stores); a `Pipeline` is made from one
configuration and swapped whole on reload, so that running requests keep the one they started with.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from prometheus_client.core import Metric

from gateway.compose import (
    make_answer_store,
    make_brief_store,
    make_journal,
    make_prior,
    make_route,
    make_shared_limiter,
    make_state_store,
)
from gateway.compose_memory import GatewayMemory
from gateway.compose_pipeline import Lasting, make_pipeline
from gateway.compose_vision import GatewayVision
from gateway.core.context.brief import Brief, render_brief
from gateway.core.context.count_caches import CountCaches
from gateway.core.tokens.profiles import O200K, Profile
from gateway.core.wire.origin import OriginRules
from gateway.exchange import Exchange
from gateway.listening import changed_for_restart, keeping, listen, log_listening, log_refused
from gateway.pipeline import Pipeline
from gateway.ports import Limiter
from gateway.settings import DEMO_URL, Settings
from gateway.settings_check import is_loopback
from gateway.settings_load import InvalidSettings, Loaded
from gateway.shell.config_watch import digest_of_files, watch_files
from gateway.shell.heap import trim_every
from gateway.shell.http.admin_server import AdminPort, AdminViews
from gateway.shell.http.data_server import DataPort, DataPortLimits
from gateway.shell.http.inbound import BufferPool
from gateway.shell.limits.memory import MemoryLimiter
from gateway.shell.recaller import RememberingRecaller
from gateway.shell.routing.health import RememberedHealth
from gateway.shell.routing.ids import StoredIds
from gateway.shell.routing.probes import Prober
from gateway.shell.routing.windows import LearnedWindows
from gateway.shell.state.calibrations import StoredCalibrations
from gateway.shell.state.sent_prompts import RememberedPrompts
from gateway.shell.telemetry.figures import (
    cache_metrics,
    calibration_metrics,
    context_metrics,
    count_metrics,
    health_metrics,
    limit_store_metrics,
    state_metrics,
    summary_metrics,
)
from gateway.shell.telemetry.loop_lag import watch_loop_lag
from gateway.shell.telemetry.metrics import Metrics, gauge_metric
from gateway.shell.tokens.counter import TiktokenCounter
from gateway.shell.tokens.digest import message_digests
from gateway.shell.upstream.client import HttpUpstream
from gateway.shell.upstream.demo_server import DemoUpstream
from gateway.stages.reuse import Flight
from gateway.tasks import TaskGroup

_log = logging.getLogger("gateway")
_GC_THRESHOLDS = (20_000, 20, 50)
"""A request makes about 400 containers and no cycle that matters: Python's own 700 would look every other request."""
_FLUSH_PERIOD_S = 20.0
_TRIM_PERIOD_S = 30.0
"""How much of what was learned a crash may cost."""
_SWITCH_INTERVAL_S = 0.0005
"""How long a counting thread may hold Python's lock while the event loop wants it; Python's own is ten times that."""


class Gateway:
    """One running gateway.

    Args:
        loaded: a valid configuration.
        reload: reads the configuration again; None where there is nothing to read.
        listener: a socket that listens already, for one of several workers: the admin port is then another's.
        limiter: of all workers.
    """

    def __init__(
        self,
        loaded: Loaded,
        reload: Callable[[], Loaded] | None = None,
        listener: socket.socket | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self.settings = loaded.settings
        self._files = loaded.files
        self._files_digest = digest_of_files(loaded.files)
        self._listener = listener
        self._reload = reload
        self._stack = AsyncExitStack()
        self._tasks = TaskGroup()
        self.metrics = Metrics()
        self.counter = TiktokenCounter(self.settings.token_estimator.tokens_per_word)
        self._recaller = RememberingRecaller(self.counter, message_digests, self.settings.state.max_bytes)
        self._summaries: Counter[str] = Counter()
        self.state = make_state_store(self.settings.state)
        self.briefs = make_brief_store(self.settings.state, self.state)
        self.journal = make_journal(self.settings.state, self.state, self._tasks)
        self.calibrations = StoredCalibrations(self.state, make_prior)
        self._caches = CountCaches(self.settings.state.count_cache_bytes, message_digests)
        self._sent = RememberedPrompts()
        self._shared_limiter = make_shared_limiter(self.settings)
        self._limiter: Limiter = self._shared_limiter or limiter or MemoryLimiter()
        self._health = RememberedHealth()
        self._windows = LearnedWindows()
        self._ids = StoredIds(self.state, self._tasks)
        self.answers = make_answer_store(self.settings.cache)
        self.memory = GatewayMemory(self.settings)
        self.vision = GatewayVision(self.settings, self.counter)
        self._flights: dict[bytes, Flight] = {}
        self._reuse_tally: Counter[tuple[str, str]] = Counter()
        self._pool = BufferPool(self.settings.server.max_buffered_bytes)
        self._upstream = HttpUpstream()
        self._pipeline: Pipeline | None = None
        self._why_unready: str | None = "starting"
        self.data_port = 0
        self.admin_port = 0

    async def start(self) -> None:
        """Load tokenizers, listen, be ready.

        Raises:
            OSError: a port cannot be bound; what was started is stopped again.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        server = self.settings.server
        self.counter.load(O200K)
        self._stack.callback(self.counter.close)
        await self._open_state()
        await self.memory.open()
        self._stack.push_async_callback(self.memory.close)
        await self.vision.open()
        self._stack.push_async_callback(self.vision.close)
        if self.answers is not None:
            await self.answers.open()
            self._stack.push_async_callback(self.answers.close)
        if self._shared_limiter is not None:
            if self.settings.rate_limits:
                await self._shared_limiter.open()
            self._stack.push_async_callback(self._shared_limiter.close)
        await self._start_demo_upstream()
        await self._stack.enter_async_context(self._upstream)
        self._stack.push_async_callback(self.vision.disconnect)
        await self.vision.connect(self._upstream, self.metrics, self.state, self.settings.state.brief_ttl_seconds)
        observe_s = self.metrics.memory_retrieval.observe
        self.memory.connect(self.settings, self._upstream, observe_s, self.vision.beside)
        self._recaller.near = self.memory.chats.near if self.memory.chats else None
        self._pipeline = self._make_pipeline(self.settings)
        self._prober = Prober(self._upstream, self._health)
        self._prober.follow([make_route(upstream) for upstream in self.settings.upstreams])
        self._stack.callback(self._prober.close)
        self.metrics.bind(self._collect)
        limits = DataPortLimits(server.max_body_bytes, server.body_idle_seconds)
        origins = OriginRules(frozenset(server.allowed_origins), is_loopback(server.host))
        data = DataPort(self._walk, self._pool, limits, origins)
        if self._listener is None:
            await self._open_admin_port()
        door = self._listener or (server.host, server.port)
        self._data_runner, self.data_port = await listen(data, door, server.keepalive_seconds, server.drain_seconds)
        self._lag_task = asyncio.create_task(watch_loop_lag(self.metrics.loop_lag))
        self._trim_task = asyncio.create_task(trim_every(_TRIM_PERIOD_S))
        self._why_unready = None
        if self._listener is None:
            log_listening(self.settings, self.data_port, self.admin_port)

    async def stop(self) -> None:
        """Drain: not ready at once, still accepting for `lame_duck_seconds`, then finish what runs and let go."""
        server = self.settings.server
        self._why_unready = "draining"
        if server.lame_duck_seconds:
            await asyncio.sleep(server.lame_duck_seconds)
        _log.info("draining", extra={"in_flight": self.metrics.in_flight})
        await self._data_runner.cleanup()
        cancelled = await self._tasks.drain(2.0)
        self._lag_task.cancel()
        self._trim_task.cancel()
        await self._stack.aclose()
        _log.info("stopped", extra={"tasks_cancelled": cancelled})

    def reload(self) -> None:
        """Take up the configuration file as it is now; a broken one is refused and the present one stays."""
        if self._reload is None:
            _log.warning("nothing to reload: started without a configuration file")
            return
        try:
            loaded = self._reload()
            needs_restart = self.apply(loaded)
        except InvalidSettings as invalid:
            self.metrics.count_reload(is_applied=False)
            log_refused(invalid)
            return
        self.metrics.count_reload(is_applied=True)
        _log.info("configuration applied", extra={"needs_restart": needs_restart})

    def apply(self, loaded: Loaded) -> list[str]:
        """Go on with another configuration; returns the changed sections that only a restart takes up.

        Raises:
            InvalidSettings: something that it names cannot be used, or not on this address; the present one stays.
        """
        settings = keeping(loaded.settings, self.settings)
        pipeline = self._make_pipeline(settings)
        needs_restart = changed_for_restart(self.settings, loaded.settings)
        self._pipeline, self._files, self.settings = pipeline, loaded.files, settings
        self._prober.follow([make_route(upstream) for upstream in settings.upstreams])
        return needs_restart

    async def watch(self) -> None:
        """Reload after each change of the configuration's files, for ever."""
        await watch_files(lambda: self._files, self._files_digest, self.settings.server.watch_seconds, self.reload)

    def newest_brief(self) -> str | None:
        """The text of the brief that was made last, for the demo."""
        brief: Brief | None = self.briefs.newest
        return render_brief(brief.segments) if brief else None

    async def _open_admin_port(self) -> None:
        server = self.settings.server
        views = AdminViews(self._render_metrics, lambda: self._why_unready, self.briefs.find, server.admin_token)
        runner, self.admin_port = await listen(AdminPort(views), (server.admin_host, server.admin_port), 5.0, 0.0)
        self._stack.push_async_callback(runner.cleanup)

    async def _render_metrics(self) -> tuple[bytes, str]:
        return self.metrics.render()

    async def _walk(self, exchange: Exchange) -> None:
        assert self._pipeline is not None
        await self._pipeline.walk(exchange)

    async def _open_state(self) -> None:
        """The store, and what earlier processes learned; what this one learns is written from time to time."""
        await self.state.open()
        self._stack.push_async_callback(self.state.close)
        await self.calibrations.load()
        self._stack.push_async_callback(self.calibrations.flush)
        writing = asyncio.create_task(self.calibrations.flush_every(_FLUSH_PERIOD_S))
        self._stack.callback(writing.cancel)

    async def _start_demo_upstream(self) -> None:
        if not any(upstream.base_url == DEMO_URL for upstream in self.settings.upstreams):
            return
        demo = DemoUpstream(partial(self.counter.count_here, Profile(O200K)))
        self._upstream = HttpUpstream({DEMO_URL: await demo.start()})
        self._stack.push_async_callback(demo.close)
        _log.warning("upstream builtin://demo answers from the prompt's own words; it is no language model")

    def _make_pipeline(self, settings: Settings) -> Pipeline:
        return make_pipeline(
            settings,
            Lasting(
                metrics=self.metrics,
                counter=self.counter,
                caches=self._caches,
                recaller=self._recaller,
                summaries=self._summaries,
                briefs=self.briefs,
                journal=self.journal,
                calibrations=self.calibrations,
                sent=self._sent,
                limiter=self._limiter,
                health=self._health,
                windows=self._windows,
                ids=self._ids,
                answers=self.answers,
                cache=self.settings.cache,
                flights=self._flights,
                reuse_tally=self._reuse_tally,
                memory=self.memory,
                vision=self.vision,
                upstream=self._upstream,
                tasks=self._tasks,
            ),
        )

    def _collect(self) -> list[Metric]:
        return [
            *count_metrics(self._caches, self.counter),
            *context_metrics(self.briefs, self.journal, self.memory.tally["stored", "context"]),
            gauge_metric("gateway_buffered_bytes", "Request bodies held at this moment.", self._pool.held_bytes),
            gauge_metric("recall_cache_bytes", "What recall remembers of messages.", self._recaller.held_bytes),
            *summary_metrics(self._summaries),
            *calibration_metrics(self.calibrations),
            *limit_store_metrics(self._shared_limiter),
            *health_metrics(self._health, self._windows),
            *state_metrics(self.state, self.briefs.ignored + self.journal.ignored),
            *self.memory.metrics(),
            *self.vision.metrics(),
            *(cache_metrics(self._reuse_tally, self.answers) if self.answers is not None else ()),
        ]


def settle_process() -> None:
    """Once everything that lives as long as the process is there: what is then rarely looked at, and how often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


async def serve(loaded: Loaded, reload: Callable[[], Loaded] | None) -> None:
    """Run a gateway until SIGTERM or SIGINT; SIGHUP reloads. A second signal stops at once."""
    gateway = Gateway(loaded, reload)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    await gateway.start()
    settle_process()
    watching = asyncio.create_task(gateway.watch()) if reload and gateway.settings.server.watch_seconds else None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload)
    await stopping.wait()
    if watching is not None:
        watching.cancel()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
    await gateway.stop()
