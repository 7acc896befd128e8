"""In place of the last stages: texts go, by their ids (`/contexts/delete`) or all of a memory's (`/contexts/clear`)."""

from __future__ import annotations

from gateway.core.facts.memory import Kind
from gateway.core.facts.wire_contexts import parse_clearing, parse_ids
from gateway.exchange import Exchange
from gateway.remembering import Remembering, answer_json, owner_of, read_body, scope_of


class DeleteContextsStage:
    """Answers how many went; others' ids, and unknown ones, are none.

    Args:
        remembering: the store and its rules.
    """

    def __init__(self, remembering: Remembering) -> None:
        self._remembering = remembering

    async def __call__(self, exchange: Exchange) -> None:
        owner, remembering = owner_of(exchange), self._remembering
        ids = parse_ids(await read_body(exchange))
        deleted = await remembering.ask(lambda: remembering.store.delete(owner, ids, Kind.CONTEXT)) if ids else 0
        await answer_json(exchange, {"deleted": deleted})


class ClearContextsStage:
    """Answers how many went of the memory that the request names.

    Args:
        remembering: the store and its rules.
    """

    def __init__(self, remembering: Remembering) -> None:
        self._remembering = remembering

    async def __call__(self, exchange: Exchange) -> None:
        scope, remembering = scope_of(exchange), self._remembering
        level = parse_clearing(await read_body(exchange))
        deleted = await remembering.ask(
            lambda: remembering.store.delete_all(scope.owner, scope.name, kind=Kind.CONTEXT, level=level)
        )
        await answer_json(exchange, {"deleted": deleted})
