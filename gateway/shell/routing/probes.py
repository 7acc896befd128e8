"""Probes: upstreams that are asked from time to time whether they are well, so that no request has to find out.

Off unless an upstream has an interval. A probe is a GET with the upstream's own key; any answer below 500 says that it
is well, whatever it says of the request. One that was silent, or failed, so many times in a row as its breaker allows
is left alone for every model until it answers again.

Invariants, each with a test of its own:
  1. An upstream that fails its probes is left alone, if there are others, and taken up again at the first good one.
  2. A probe is bounded in time, and at most one is out for each upstream.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence

from gateway.core.routing.azure import azure_target
from gateway.core.routing.routes import Route
from gateway.core.wire.headers import Headers, credential
from gateway.ports import Upstream, UpstreamCall, UpstreamFault
from gateway.shell.routing.health import RememberedHealth

_log = logging.getLogger("gateway.health")
_UNWELL = 500


class Prober:
    """Asks upstreams.

    Args:
        upstream: the way to them.
        health: told what they say.
    """

    def __init__(self, upstream: Upstream, health: RememberedHealth) -> None:
        self._upstream = upstream
        self._health = health
        self._probing: list[asyncio.Task[None]] = []

    def follow(self, routes: Sequence[Route]) -> None:
        """From now on probe those of these upstreams that have an interval, and no others."""
        self.close()
        probed = [route for route in routes if route.probe_s]
        self._health.keep_probed({route.name for route in probed})
        self._probing = [asyncio.create_task(self._probe_on(route), name=f"probe {route.name}") for route in probed]

    def close(self) -> None:
        """Probe no more."""
        for task in self._probing:
            task.cancel()

    async def _probe_on(self, route: Route) -> None:
        failures = 0
        while True:
            await asyncio.sleep(route.probe_s * random.uniform(0.9, 1.1))
            is_well = await self.is_well(route)
            failures = 0 if is_well else failures + 1
            if self._health.probed(route, is_well=is_well or failures < route.breaker.failures):
                _log.warning(
                    "an upstream %s its probe", "passes" if is_well else "fails", extra={"upstream": route.name}
                )

    async def is_well(self, route: Route) -> bool:
        """One probe."""
        target = route.probe_path
        if route.azure_version:
            target = azure_target(target, "", route.azure_version)
        headers: Headers = [credential(route.api_key, route.key_header)] if route.api_key else []
        try:
            async with asyncio.timeout(route.timeouts.connect_s + route.timeouts.header_s):
                answer = await self._upstream.send(UpstreamCall(route, "GET", target, headers, None))
        except (UpstreamFault, TimeoutError):
            return False
        answer.close()
        return answer.status < _UNWELL
