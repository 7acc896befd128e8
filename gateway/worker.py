"""One of several worker processes: a gateway on a socket that the supervisor has opened, led over a channel.

A worker ends when it is told to, when it gets SIGTERM, or when the supervisor is gone: each time after a drain.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from pathlib import Path

import msgspec

from gateway.app import Gateway, settle_process
from gateway.settings import Settings
from gateway.settings_load import InvalidSettings, Loaded
from gateway.shell.limits.mapped import MappedLimiter
from gateway.shell.telemetry.figures_merge import families_of
from gateway.shell.telemetry.logs import set_up_logging
from gateway.shell.workers.channel import Channel, Drain, Figures, Ready, Reload, Scrape, Start

_log = logging.getLogger("gateway.worker")
FIGURES_PERIOD_S = 1.0
"""How often a worker shows its metrics unasked: what a killed one has counted since is lost."""


async def run_worker(channel_end: socket.socket, listener: socket.socket) -> int:
    """Serve until told otherwise; returns the process's exit code."""
    channel = await Channel.over(channel_end)
    start = await channel.receive()
    if not isinstance(start, Start):
        return 1
    settings = msgspec.json.decode(start.settings, type=Settings)
    set_up_logging(settings.telemetry.log_level, settings.telemetry.log_format, worker=start.number)
    gateway = Gateway(Loaded(settings), None, listener, MappedLimiter(Path(start.limits), start.number))
    await gateway.start()
    settle_process()
    leaving = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leaving.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the supervisor knows what to do
    channel.send(Ready())
    showing = asyncio.create_task(_show_figures(gateway, channel))
    listening = asyncio.create_task(_listen_to(channel, gateway, leaving))
    await leaving.wait()
    await gateway.stop()
    channel.send(_figures(gateway))
    for task in (showing, listening):
        task.cancel()
    await channel.close()
    return 0


async def _listen_to(channel: Channel, gateway: Gateway, leaving: asyncio.Event) -> None:
    while True:
        match await channel.receive():
            case Scrape():
                channel.send(_figures(gateway))
            case Reload(settings):
                _apply(gateway, msgspec.json.decode(settings, type=Settings))
            case Drain() | None:
                leaving.set()
                return
            case other:
                _log.error("a message that is not for workers", extra={"kind": type(other).__name__})


def _apply(gateway: Gateway, settings: Settings) -> None:
    try:
        gateway.apply(Loaded(settings))
    except InvalidSettings as invalid:
        _log.error("configuration refused by a worker", extra={"faults": [str(fault) for fault in invalid.faults]})


async def _show_figures(gateway: Gateway, channel: Channel) -> None:
    while True:
        await asyncio.sleep(FIGURES_PERIOD_S)
        channel.send(_figures(gateway))


def _figures(gateway: Gateway) -> Figures:
    return Figures(families_of(gateway.metrics.registry))
