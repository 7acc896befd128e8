"""What the gateway of one process and the supervisor of several have in common: ports, and changed configurations."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from gateway.settings import RESTART_ONLY, Settings
from gateway.settings_check import Fault, check_exposure
from gateway.settings_load import InvalidSettings
from gateway.shell.http.protocol import HttpServer

_log = logging.getLogger("gateway")
BACKLOG = 1024
"""Connections that wait to be accepted."""
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def listen(
    handler: Handler, door: tuple[str, int] | socket.socket, keepalive_s: float, drain_s: float
) -> tuple[web.ServerRunner, int]:
    """Serve an address, or a socket that listens already; returns what serves and the port.

    Raises:
        OSError: the address cannot be bound.
    """
    runner = web.ServerRunner(HttpServer(handler, keepalive_s), shutdown_timeout=drain_s)
    await runner.setup()
    if isinstance(door, socket.socket):
        await web.SockSite(runner, door, backlog=BACKLOG).start()
    else:
        await web.TCPSite(runner, *door, backlog=BACKLOG).start()
    bound: int = runner.addresses[0][1]
    return runner, bound


def log_listening(settings: Settings, data_port: int, admin_port: int) -> None:
    """Say where everything is."""
    server = settings.server
    _log.info(
        "listening",
        extra={
            "data": f"http://{_shown(server.host)}:{data_port}/v1",
            "admin": f"http://{_shown(server.admin_host)}:{admin_port}",
            "upstreams": [f"{upstream.name}={upstream.base_url}" for upstream in settings.upstreams],
        },
    )


def log_refused(invalid: InvalidSettings) -> None:
    """Say why a changed configuration is not taken up."""
    _log.error(
        "configuration refused, the present one stays",
        extra={"faults": [str(fault) for fault in invalid.faults]},
    )


def changed_for_restart(old: Settings, new: Settings) -> list[str]:
    """The sections that differ and that a running process cannot change."""
    return [name for name in RESTART_ONLY if getattr(old, name) != getattr(new, name)]


def keeping(new: Settings, old: Settings) -> Settings:
    """The new settings, with the old in what only a restart changes.

    Raises:
        InvalidSettings: together they would let anyone spend a provider's key: the new ones hold for another address.
    """
    kept = msgspec.structs.replace(new, **{name: getattr(old, name) for name in RESTART_ONLY})
    faults: list[Fault] = []
    check_exposure(kept, faults)
    if faults:
        raise InvalidSettings(faults)
    return kept


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
