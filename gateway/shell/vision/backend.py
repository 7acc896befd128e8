"""Calls of a backend that decodes: its answer read whole, and what went wrong in words that say what to do about it."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

from gateway.core.routing.breaker import Event, event_of_status
from gateway.core.routing.retry import parse_retry_after
from gateway.core.vision.decoding import is_passing
from gateway.core.wire.headers import header_of
from gateway.ports import Upstream, UpstreamCall, UpstreamFault
from gateway.ports_vision import VisionFault

MAX_ANSWER_BYTES = 16 << 20


class BackendFault(VisionFault):
    """A fault of a backend.

    Attributes:
        is_passing: another try may succeed.
        event: what its breaker is told; None where it is not to blame.
        cooldown_s: how long it wants to be left alone, where the event says that it does.
        status: of its answer, 0 for none.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        is_passing: bool,
        event: Event | None = Event.FAILURE,
        cooldown_s: float = 0.0,
        status: int = 0,
    ) -> None:
        super().__init__(kind, message)
        self.is_passing = is_passing
        self.event = event
        self.cooldown_s = cooldown_s
        self.status = status


class StatusFault(BackendFault):
    """It answered, and not with success; `said` is the beginning of what it said, for this process alone."""

    def __init__(self, status: int, said: bytes, retry_after_s: float | None) -> None:
        super().__init__(
            "upstream",
            f"The vision backend answered with status {status}.",
            is_passing=is_passing(status),
            event=event_of_status(status, retry_after_s),
            cooldown_s=retry_after_s or 0.0,
            status=status,
        )
        self.said = said


async def ask_backend(upstream: Upstream, call: UpstreamCall, timeout_s: float) -> bytes:
    """The body of its answer, where that is a success.

    Raises:
        BackendFault: there is none.
    """
    try:
        async with asyncio.timeout(timeout_s):
            status, retry_after, body = await _ask(upstream, call)
    except TimeoutError:
        raise late(timeout_s) from None
    except UpstreamFault as fault:
        if fault.kind.endswith("timeout"):
            raise late(timeout_s) from None
        raise BackendFault("upstream", f"The vision backend cannot be asked: {fault.kind}.", is_passing=True) from None
    if not 200 <= status < 300:
        raise StatusFault(status, body[:2048], parse_retry_after(retry_after, time.time()))
    if len(body) > MAX_ANSWER_BYTES:
        raise unreadable_answer(f"it has more than {MAX_ANSWER_BYTES:,} bytes")
    return body


async def _ask(upstream: Upstream, call: UpstreamCall) -> tuple[int, str | None, bytes]:
    answer = await upstream.send(call)
    try:
        body = bytearray()
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    break
        return answer.status, header_of(answer.headers, "retry-after"), bytes(body)
    finally:
        answer.close()


def late(timeout_s: float) -> BackendFault:
    """It did not answer in time."""
    message = f"The region was not read within {timeout_s * 1000:g} ms (vision.timeout_ms)."
    return BackendFault("timeout", message, is_passing=True)


def unreadable_answer(why: str) -> BackendFault:
    """It answered with what cannot be read; it may do so again, and is asked again all the same."""
    return BackendFault("upstream", f"The vision backend's answer cannot be read: {why}.", is_passing=True)
