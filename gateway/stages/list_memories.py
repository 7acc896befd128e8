"""In place of the last stages: which memories a client has, and their end: one by its name, or all.

The documents of a memory go with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.core.wire.paths import memory_name_of
from gateway.exchange import Exchange
from gateway.remembering import Remembering, answer_json, named_scope, owner_of

Forget = Callable[[bytes, str | None], Awaitable[int]]
"""Lets go of the documents of a client, or of one of its memories; returns how many."""


class ListMemoriesStage:
    """Answers with names and how much each holds, or how much is gone.

    Args:
        remembering: the store and its rules.
        forget_documents: None where there are none.
    """

    def __init__(self, remembering: Remembering, forget_documents: Forget | None = None) -> None:
        self._remembering = remembering
        self._forget_documents = forget_documents

    async def __call__(self, exchange: Exchange) -> None:
        owner, remembering = owner_of(exchange), self._remembering
        if exchange.method != "DELETE":
            names = await remembering.ask(lambda: remembering.store.names(owner))
            memories = [{"name": name, "items": items} for name, items in sorted(names.items())]
            await answer_json(exchange, {"memories": memories})
            return
        name = named_scope(exchange).name if memory_name_of(exchange.path) is not None else None
        documents = await self._forget_documents(owner, name) if self._forget_documents is not None else 0
        deleted = await remembering.ask(lambda: remembering.store.delete_all(owner, name))
        told = {"deleted": deleted} | ({"documents": documents} if documents else {})
        await answer_json(exchange, told)
