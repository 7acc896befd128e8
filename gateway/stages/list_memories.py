"""In place of the last stages: which memories a client has, and their end: one by its name, or all."""

from __future__ import annotations

from gateway.core.wire.paths import memory_name_of
from gateway.exchange import Exchange
from gateway.remembering import Remembering, answer_json, named_scope, owner_of


class ListMemoriesStage:
    """Answers with names and how much each holds, or how much is gone.

    Args:
        remembering: the store and its rules.
    """

    def __init__(self, remembering: Remembering) -> None:
        self._remembering = remembering

    async def __call__(self, exchange: Exchange) -> None:
        owner, remembering = owner_of(exchange), self._remembering
        if exchange.method != "DELETE":
            names = await remembering.ask(lambda: remembering.store.names(owner))
            memories = [{"name": name, "items": items} for name, items in sorted(names.items())]
            await answer_json(exchange, {"memories": memories})
            return
        name = named_scope(exchange).name if memory_name_of(exchange.path) is not None else None
        deleted = await remembering.ask(lambda: remembering.store.delete_all(owner, name))
        await answer_json(exchange, {"deleted": deleted})
