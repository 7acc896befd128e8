"""The pool of connections to upstreams: aiohttp's, less connections on which something came that nobody asked for.

An answer that an upstream sends without a question (a second one, or the 408 that some proxies send before they close
an idle connection) would be taken for the answer to the next request, which may be another client's, and every later
request on that connection would be given the answer to the one before it. So a connection that is not silent when it
is taken from the pool is closed, and another one is used: bytes that were read while it was idle, and bytes that wait
in the socket. What is still on its way at that moment nobody can tell from an answer; it can be wrong once, since the
true answer then comes unasked.

Relies on a detail of aiohttp, held by a test: a connector takes what it reuses from `_get`.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.connector import Connection

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.tracing import Trace


class SilentConnector(aiohttp.TCPConnector):
    """Reuses silent connections only."""

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (found := await super()._get(key, traces)) is not None:
            if is_silent(found):
                return found
            found.close()
        return None


def is_silent(connection: Connection) -> bool:
    """Whether nothing has come on it since it was last used."""
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None or protocol.should_close:
        return False
    socket = transport.get_extra_info("socket")
    if socket is None or not hasattr(select, "poll"):
        return True
    waiting = select.poll()
    waiting.register(socket.fileno(), select.POLLIN)
    return not waiting.poll(0)
