"""What a repaired stream holds, and what it leaves behind; how it goes on is told end to end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from gateway.core.routing.routes import Roles
from gateway.core.wire.stream import MAX_EVENT_BYTES
from gateway.ports import UpstreamAnswer, UpstreamFault
from gateway.repairs import RepairedAnswer
from gateway.shell.routing.health import RememberedHealth
from tests.histories import body_of, exchange_of


class Answer:
    """A stream of these chunks; `asked` counts those that were taken."""

    status, headers = 200, [("Content-Type", "text/event-stream")]

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks
        self.asked = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for chunk in self._chunks:
            self.asked += 1
            yield chunk

    def close(self) -> None:
        """Nothing is to be let go of."""


def repairing(answer: Answer) -> RepairedAnswer:
    """A stream that nobody can go on with: the request wants no certain answer."""
    exchange = exchange_of(body_of([{"role": "user", "content": "one"}], stream=True), b"someone", Roles.OPEN)
    route = exchange.routes[0]
    return RepairedAnswer(
        exchange, cast(UpstreamAnswer, answer), route, cast(Any, None), RememberedHealth(), asks_for_usage=False
    )


SAID = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'


@pytest.mark.asyncio
async def test_no_more_than_one_large_event_is_held() -> None:
    """What is beyond that passes as it comes, before the rest was asked for."""
    answer = Answer(b'data: {"choices":"' + b"x" * MAX_EVENT_BYTES, b"x" * 1000, b'"}\n\n')
    first = await anext(repairing(answer).chunks())

    assert len(first) > MAX_EVENT_BYTES
    assert answer.asked == 1


@pytest.mark.asyncio
async def test_a_fault_belongs_to_one_stream() -> None:
    """Raised again and again, one would hold the frames of all, and with them their requests."""
    faults = []
    for _ in range(2):
        with pytest.raises(UpstreamFault) as cut:
            async for _chunk in repairing(Answer(SAID)).chunks():
                pass
        faults.append(cut.value)

    assert faults[0] is not faults[1]
