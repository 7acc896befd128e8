"""Several workers behind one socket: started, watched, started anew, led through changes, drained together.

The supervisor opens the socket of the data port and hands it to its workers, so that connections which wait to be
accepted outlive any one of them. It serves the admin port for all: metrics are summed (`figures_merge`), ready means
that at least one worker is. It forwards no request itself.

Limits stand in a file that the workers map; without a store that outlives a process they share another one of their
own. Both go with the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from gateway.compose import check_tokenizers, make_brief_store, make_state_store
from gateway.listening import BACKLOG, changed_for_restart, keeping, listen, log_listening, log_refused
from gateway.settings import Settings, State
from gateway.settings_load import InvalidSettings, Loaded
from gateway.shell.config_watch import digest_of_files, watch_files
from gateway.shell.http.admin_server import AdminPort, AdminViews
from gateway.shell.limits.mapped import give_back
from gateway.shell.telemetry.figures_merge import Family, families_of, lasting, merge_families, render_families
from gateway.shell.telemetry.supervision import SupervisorMetrics
from gateway.shell.workers.process import WorkerProcess
from gateway.tasks import TaskGroup

_log = logging.getLogger("gateway.supervisor")
_START_S = 60.0
"""How long a worker may take until it accepts requests."""
_SCRAPE_S = 1.0
_PAUSE_S, _MAX_PAUSE_S = 0.1, 10.0
"""Between the end of a worker and its successor: doubling while successors end before they are ready."""
_GRACE_S = 5.0
"""What a worker may take beyond the drain before it is killed."""


class WorkersFailed(Exception):  # noqa: N818 - what happened
    """The workers did not come up; their own logs say why."""


class Supervisor:
    """All processes of a gateway with several workers.

    Args:
        loaded: a valid configuration.
        reload: reads the configuration again; None where there is nothing to read.
    """

    def __init__(self, loaded: Loaded, reload: Callable[[], Loaded] | None) -> None:
        self.settings = loaded.settings
        self._files = loaded.files
        self._files_digest = digest_of_files(loaded.files)
        self._reload = reload
        self._stack = contextlib.AsyncExitStack()
        self._tasks = TaskGroup()
        self._metrics = SupervisorMetrics(lambda: len(self._ready()))
        self._workers: dict[int, WorkerProcess] = {}
        self._number = 0
        self._ended: list[Family] = []
        self._stopping = asyncio.Event()
        self._replacing = asyncio.Lock()

    async def start(self) -> None:
        """Listen, start all workers, and wait until they accept requests.

        Raises:
            OSError: a port cannot be bound.
            WorkersFailed: a worker ended, or was not ready in time; nothing is left running.
        """
        try:
            await self._start()
        except BaseException:
            await self._end_all()
            raise

    async def _start(self) -> None:
        server = self.settings.server
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="llm-gateway-")))
        self._folder = folder
        self._shared = _shared_state(self.settings, folder)
        self._listener = self._stack.enter_context(_open_listener(server.host, server.port))
        self.data_port = self._listener.getsockname()[1]
        store = make_state_store(self._shared)
        await store.open()
        self._stack.push_async_callback(store.close)
        briefs = make_brief_store(self._shared, store)
        views = AdminViews(self._render_metrics, self._why_unready, briefs.find, server.admin_token)
        runner, self.admin_port = await listen(AdminPort(views), (server.admin_host, server.admin_port), 5.0, 0.0)
        self._stack.push_async_callback(runner.cleanup)
        started = [await self._start_worker() for _ in range(server.workers)]
        are_ready = await asyncio.gather(*(worker.wait_ready(_START_S) for worker in started))
        if not all(are_ready):
            raise WorkersFailed(f"{are_ready.count(False)} of {server.workers} workers did not start")
        for worker in started:
            self._tasks.spawn(self._watch(worker), f"worker {worker.number}")
        log_listening(self.settings, self.data_port, self.admin_port)

    async def stop(self) -> None:
        """Not ready at once, still accepting for `lame_duck_seconds`; then all workers drain, and are waited for."""
        self._stopping.set()
        server = self.settings.server
        await asyncio.sleep(server.lame_duck_seconds)
        _log.info("draining", extra={"workers": len(self._workers)})
        await self._end_all()
        _log.info("stopped")

    async def _end_all(self) -> None:
        self._stopping.set()
        while self._workers:  # one may just have been started in the place of another
            await asyncio.gather(*(self._end(worker) for worker in list(self._workers.values())))
        await self._tasks.drain(_GRACE_S)
        await self._stack.aclose()

    def reload(self) -> None:
        """Let all workers go on with the configuration as it is now; a broken one is refused and the present stays."""
        if self._reload is None:
            _log.warning("nothing to reload: started without a configuration file")
            return
        try:
            loaded = self._reload()
            check_tokenizers(loaded.settings.token_estimator)
            settings = keeping(loaded.settings, self.settings)
        except InvalidSettings as invalid:
            self._metrics.count_reload(is_applied=False)
            log_refused(invalid)
            return
        needs_restart = changed_for_restart(self.settings, loaded.settings)
        self.settings, self._files = settings, loaded.files
        for worker in self._workers.values():
            worker.reload(self._encoded())
        self._metrics.count_reload(is_applied=True)
        _log.info("configuration applied", extra={"needs_restart": needs_restart})

    async def watch(self) -> None:
        """Reload after each change of the configuration's files, for ever."""
        await watch_files(lambda: self._files, self._files_digest, self.settings.server.watch_seconds, self.reload)

    async def replace_workers(self) -> None:
        """One worker after the other: a new one, and once that is ready the old one drains."""
        async with self._replacing:
            for old in list(self._workers.values()):
                if self._stopping.is_set() or old.is_leaving:
                    continue
                new = await self._start_worker()
                if not await new.wait_ready(_START_S):
                    _log.error("a new worker did not start; the old ones stay", extra={"worker": new.number})
                    await self._end(new)
                    return
                self._tasks.spawn(self._watch(new), f"worker {new.number}")
                await self._end(old)
            _log.info("workers replaced", extra={"workers": sorted(self._workers)})

    def _encoded(self) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(self.settings, state=self._shared))

    async def _start_worker(self) -> WorkerProcess:
        self._number += 1
        worker = await WorkerProcess.start(self._number, self._listener, self._encoded(), str(self._folder))
        self._workers[worker.number] = worker
        return worker

    async def _watch(self, worker: WorkerProcess) -> None:
        """Wait for a worker's end; start another in its place unless it was told to end."""
        code = await worker.wait_exit()
        self._forget(worker)
        if worker.is_leaving or self._stopping.is_set():
            return
        self._metrics.exits["crash" if code else "exit"] += 1
        _log.error("a worker ended", extra={"ended": worker.number, "pid": worker.pid, "exit_code": code})
        pause_s = _PAUSE_S
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
                    return
            new = await self._start_worker()
            if await new.wait_ready(_START_S):
                self._tasks.spawn(self._watch(new), f"worker {new.number}")
                _log.info("a worker took its place", extra={"ended": worker.number, "started": new.number})
                return
            self._metrics.exits["start"] += 1
            await self._end(new)
            pause_s = min(_MAX_PAUSE_S, 2 * pause_s)

    def _forget(self, worker: WorkerProcess) -> None:
        """What it had counted stays; what it held of limits is there again."""
        if self._workers.pop(worker.number, None) is not None:
            give_back(self._folder, worker.number)
            self._ended = merge_families([self._ended, lasting(worker.figures)])

    async def _end(self, worker: WorkerProcess) -> None:
        worker.drain()
        try:
            async with asyncio.timeout(self.settings.server.drain_seconds + _GRACE_S):
                await worker.wait_exit()
        except TimeoutError:
            worker.kill()
            await worker.wait_exit()
        self._forget(worker)

    def _ready(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers.values() if worker.is_ready and not worker.is_leaving]

    def _why_unready(self) -> str | None:
        if self._stopping.is_set():
            return "draining"
        return None if self._ready() else "no worker is ready"

    async def _render_metrics(self) -> tuple[bytes, str]:
        workers = list(self._workers.values())
        await asyncio.gather(*(worker.scrape(_SCRAPE_S) for worker in workers if worker.is_ready))
        own = families_of(self._metrics.registry)
        names = {family.name for family in own}
        shown = merge_families([self._ended, *(worker.figures for worker in workers)])
        return render_families(own + [family for family in shown if family.name not in names])


@contextlib.contextmanager
def _open_listener(host: str, port: int) -> Iterator[socket.socket]:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.create_server(address[:2], family=family, backlog=BACKLOG) as listener:
        listener.setblocking(False)
        yield listener


def _shared_state(settings: Settings, folder: Path) -> State:
    """Where the workers keep what they share; a file of the supervisor's own, where the configuration names none."""
    if settings.state.url != "memory://":
        return settings.state
    return msgspec.structs.replace(settings.state, url=f"sqlite://{folder / 'state.db'}")


async def supervise(loaded: Loaded, reload: Callable[[], Loaded] | None) -> None:
    """Run a gateway of several workers until SIGTERM or SIGINT; SIGHUP reloads, SIGUSR2 replaces the workers.

    Raises:
        OSError: a port cannot be bound.
        WorkersFailed: they did not start.
    """
    supervisor = Supervisor(loaded, reload)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    await supervisor.start()
    tasks = TaskGroup()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    loop.add_signal_handler(signal.SIGUSR2, lambda: tasks.spawn(supervisor.replace_workers(), "replace workers"))
    watching = asyncio.create_task(supervisor.watch()) if reload and supervisor.settings.server.watch_seconds else None
    await stopping.wait()
    if watching is not None:
        watching.cancel()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
    await supervisor.stop()
