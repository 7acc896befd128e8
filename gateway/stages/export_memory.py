"""In place of the last stages: `GET /api/v1/memories/{name}/export` tells all of a memory, a line each, as it is read.

A store that fails on the way cuts the answer off: what does not end is not whole.
"""

from __future__ import annotations

from contextlib import aclosing

from gateway.bulk import NDJSON
from gateway.core.facts.wire_portable import portable_lines
from gateway.exchange import Exchange
from gateway.remembering import Remembering, named_scope

_WRITE_BYTES = 65_536


class ExportMemoryStage:
    """Answers with lines.

    Args:
        remembering: the store and its rules.
    """

    def __init__(self, remembering: Remembering) -> None:
        self._remembering = remembering

    async def __call__(self, exchange: Exchange) -> None:
        scope = named_scope(exchange)
        waiting = bytearray()
        is_started = False
        async with aclosing(self._remembering.scan(scope)) as memories:
            async for memory in memories:
                for line in portable_lines(memory):
                    waiting += line + b"\n"
                if len(waiting) < _WRITE_BYTES:
                    continue
                if not is_started:
                    is_started = True
                    await exchange.outbound.start(200, NDJSON, None)
                await exchange.outbound.write(bytes(waiting))
                waiting.clear()
        exchange.outcome.status = 200
        if not is_started:
            await exchange.outbound.start(200, NDJSON, len(waiting))
        await exchange.outbound.end(bytes(waiting))
