"""In place of the last stages: `GET` and `DELETE` of one fact or one text, by its id.

An id is known to its owner only; whose it is otherwise, or whether it is anybody's, nobody can tell from the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from gateway.core.errors import Refusal
from gateway.core.facts.memory import Kind, Memory
from gateway.core.wire.paths import memory_name_of
from gateway.exchange import Exchange
from gateway.remembering import Remembering, answer_json, answer_nothing, owner_of

is_memory_id = re.compile(r"[0-9a-f]{32}").fullmatch


class AnswerMemoryStage:
    """Answers 200 with the memory, 204 when it is gone, or 404.

    Args:
        remembering: the store and its rules.
        kind: of the memories at this path.
        tell: how one is told.
    """

    def __init__(self, remembering: Remembering, kind: Kind, tell: Callable[[Memory], dict[str, Any]]) -> None:
        self._remembering = remembering
        self._kind = kind
        self._tell = tell

    async def __call__(self, exchange: Exchange) -> None:
        memory_id = memory_name_of(exchange.path) or ""
        if not is_memory_id(memory_id):
            raise self._unknown(memory_id)
        owner, remembering = owner_of(exchange), self._remembering
        if exchange.method == "DELETE":
            gone = await remembering.ask(lambda: remembering.store.delete(owner, [memory_id], self._kind))
            if not gone:
                raise self._unknown(memory_id)
            await answer_nothing(exchange)
            return
        found = await remembering.ask(lambda: remembering.store.get(owner, memory_id, self._kind))
        if found is None:
            raise self._unknown(memory_id)
        await answer_json(exchange, self._tell(found))

    def _unknown(self, memory_id: str) -> Refusal:
        message = f"There is no {self._kind.value} {memory_id[:64]!a} of this client."
        return Refusal(404, f"{self._kind.value}_not_found", message)
