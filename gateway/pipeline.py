"""Run the stages in order; turn what they raise into an answer; settle, always.

The one place where errors become outcomes: a `Refusal` is answered in OpenAI's form, a bug is a 500 that names the
request id, a client that left is recorded and its cancellation passed on. A cancellation while the client is still
there is a shutdown, and is said so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.core.errors import Refusal
from gateway.core.wire.error_event import EVENT_END, render_error_event
from gateway.core.wire.gateway_headers import gateway_headers
from gateway.core.wire.request import Endpoint
from gateway.exchange import Exchange
from gateway.ports import Telemetry
from gateway.stages.settle import CLIENT_GONE, Settle
from gateway.tasks import TaskGroup

_log = logging.getLogger("gateway.pipeline")
_STOPPING = "The gateway is stopping, and this request took longer than its drain_seconds. Send it again."
Stage = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages that a request walks, and what must happen at the end.

    Attributes:
        stages: in order.
        others: in place of `stages`, for endpoints that take another way.
        settle: the unwinding.
        telemetry: told at the start.
        tasks: where a settlement that takes time goes on after the client has gone.
    """

    stages: Sequence[Stage]
    others: Mapping[Endpoint, Sequence[Stage]]
    settle: Settle
    telemetry: Telemetry
    tasks: TaskGroup

    async def walk(self, exchange: Exchange) -> None:
        """Answer an exchange; one that comes with a refusal is refused with it.

        Raises:
            asyncio.CancelledError, ConnectionError: the client left.
        """
        self.telemetry.started(exchange)
        try:
            await self._answer(exchange)
        except (asyncio.CancelledError, ConnectionError):
            self._client_left(exchange)
            raise
        finally:
            self._settle(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            if exchange.outcome.refusal is not None:
                raise exchange.outcome.refusal
            for stage in self.others.get(exchange.endpoint, self.stages):
                await stage(exchange)
        except Refusal as refusal:
            await self._refuse(exchange, refusal)
        except asyncio.CancelledError:
            if not exchange.outbound.is_open:
                raise
            exchange.outcome.fault = "shutdown"
            await self._refuse(exchange, Refusal(503, "gateway_stopping", _STOPPING, retry_after_s=1))
        except Exception as error:
            if isinstance(error, ConnectionError) and not exchange.outbound.is_open:
                raise
            _log.exception("a stage failed", extra={"request_id": exchange.request_id})
            exchange.outcome.fault = "internal"
            message = f"The gateway failed on this request; its log names the request id {exchange.request_id}."
            await self._refuse(exchange, Refusal(500, "internal_error", message))

    async def _refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """Say no in place of an answer; what has begun is ended by an error event, or cut where there are no events."""
        outcome, outbound, count = exchange.outcome, exchange.outbound, exchange.count
        if outbound.has_started and outcome.is_stream:
            await outbound.end(EVENT_END + render_error_event(exchange.endpoint, refusal))
            return
        if outbound.has_started:
            await outbound.abort()
            return
        outcome.refusal = refusal
        outcome.status = refusal.status
        headers = gateway_headers(
            upstream=outcome.upstream,
            prompt_tokens=count.prompt_tokens if count else None,
            remaining_tokens=None,
            level="",
            saved_tokens=0,
        )
        await outbound.refuse(refusal, headers)

    def _client_left(self, exchange: Exchange) -> None:
        exchange.outcome.fault = "client_gone"
        if not exchange.outbound.has_started:
            exchange.outcome.status = CLIENT_GONE

    def _settle(self, exchange: Exchange) -> None:
        if self.settle.needs_counting(exchange):
            counting = self.tasks.spawn(self.settle.count_visible(exchange), "settle")
            counting.add_done_callback(partial(self.settle.finish_counted, exchange))
        else:
            self.settle.finish(exchange)
