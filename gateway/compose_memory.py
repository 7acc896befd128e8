"""From the options of memory to its store, its rules and its stages; a root, as `compose` is."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from prometheus_client.core import Metric

from gateway.compose import make_endpoint_route, make_route
from gateway.core.facts.memory import Kind, Level
from gateway.core.facts.wire_contexts import ContextRules, told_context
from gateway.core.facts.wire_facts import FactRules, told_fact
from gateway.core.wire.request import OF_MEMORY, Endpoint
from gateway.exchange import Exchange
from gateway.fitting.memory import ChatMemory
from gateway.pipeline import Stage
from gateway.ports import Upstream
from gateway.ports_memory import Embedding, MemoryStore, Reminding
from gateway.remembering import Remembering, refuse_switched_off
from gateway.settings import Settings
from gateway.settings_check import sqlite_path
from gateway.settings_check_memory import has_memory, is_postgres
from gateway.settings_memory import Facts
from gateway.shell.facts.chat_store import ChatMemoryStore
from gateway.shell.facts.embedder import Embedder, EmbeddingOptions
from gateway.shell.facts.filler import VectorFiller
from gateway.shell.facts.miner import FoldMiner
from gateway.shell.facts.reminding import StoredReminding
from gateway.shell.memory_keeper import MemoryKeeper
from gateway.shell.recaller import Near
from gateway.shell.telemetry.figures_memory import ChatFigures, memory_metrics
from gateway.stages.answer_memory import AnswerMemoryStage
from gateway.stages.delete_contexts import ClearContextsStage, DeleteContextsStage
from gateway.stages.export_memory import ExportMemoryStage
from gateway.stages.import_memory import ImportMemoryStage
from gateway.stages.insert_facts import InsertFactsStage
from gateway.stages.list_memories import Forget, ListMemoriesStage
from gateway.stages.query_facts import QueryFactsStage
from gateway.stages.search_contexts import SearchContextsStage
from gateway.stages.store_context import StoreContextStage
from gateway.tasks import TaskGroup

_VECTOR_BYTES, _MATRIX_BYTES = 64 << 20, 64 << 20
_DRAIN_S = 2.0
_EMBEDDING_S = 30.0
Beside = Callable[[Reminding, float, Embedder | None], Reminding]
"""Adds what else is looked up, within so many seconds, by the vectors of whoever makes them."""
_GRACE_S = 0.05
"""By which the store's own deadline comes first: after a fault that it has seen itself it is left alone for a while."""


class ManagedMemory(MemoryStore, Protocol):
    """Memories whose store is opened, closed and measured."""

    evicted: int

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class GatewayMemory:
    """All of memory that lives as long as the process.

    Args:
        settings: with which the process was started.

    Attributes:
        store: of memories; None where nothing is remembered.
        chats: what chats have of it, once it is connected.
        tally: what happened, by what and kind.
    """

    def __init__(self, settings: Settings) -> None:
        self.tally: Counter[tuple[str, str]] = Counter()
        self.store = make_memory_store(settings)
        self.chats: MemoryOfChats | None = None
        self._keeper = MemoryKeeper(self.store, self.tally) if self.store is not None else None

    async def open(self) -> None:
        """Open the store, as far as that is possible now."""
        if self._keeper is not None:
            await self._keeper.open()

    def connect(
        self,
        settings: Settings,
        upstream: Upstream,
        observe_s: Callable[[float], None],
        beside: Beside,
    ) -> None:
        """Let chats use it, now that there is a way to upstreams, and what is looked up beside it."""
        if self.store is not None:
            self.chats = MemoryOfChats(self.store, settings, upstream, observe_s, beside)

    def for_chats(self, charge: Callable[[Exchange, int, int], None] | None) -> ChatMemory | None:
        """What the assemble stage has of it; whoever is told what embeddings took is told so from now on."""
        if self.chats is None:
            return None
        self.chats.charge_to(charge)
        return self.chats.memory

    async def close(self) -> None:
        """Finish what is pending."""
        if self.chats is not None:
            await self.chats.close()
        if self._keeper is not None:
            await self._keeper.close()

    def remembering(self, options: Facts) -> Remembering | None:
        """What the stages of memory share; None where nothing is remembered."""
        if self.store is None:
            return None
        embedder = self.chats.embedder if self.chats is not None else None
        return make_remembering(self.store, options, self.tally, embedder)

    def metrics(self) -> list[Metric]:
        """Figures of the store, and of what chats do with it."""
        return memory_metrics(self._keeper, self.store, self.tally, self.chats.figures() if self.chats else None)


class MemoryOfChats:
    """What chats have of memory: what they fold goes there, and what they ask for comes from there.

    Args:
        store: of memories.
        settings: with which the process was started.
        upstream: the way to whoever makes vectors.
        observe_s: told how long each look-up took.
        beside: adds what else is looked up.

    Attributes:
        near: how near passages are to a question; None where nobody makes vectors.
        memory: for the assemble stage.
        embedder: makes vectors; None where nobody does.
    """

    def __init__(
        self,
        store: MemoryStore,
        settings: Settings,
        upstream: Upstream,
        observe_s: Callable[[float], None],
        beside: Beside,
    ) -> None:
        options = settings.facts
        self._tasks = TaskGroup()
        self._store = ChatMemoryStore(store, options.retrieve_seconds, options.queue_max)
        self.embedder = self._make_embedder(settings, upstream)
        self.near = self._make_near()
        deadline_s = options.retrieve_seconds + _GRACE_S
        self._reminding = StoredReminding(self._store, deadline_s, self.embedder, observe_s)
        self._miner: FoldMiner | None = None
        if options.mine != "none":
            self._miner = FoldMiner(self._store, self._tasks, options.ttl_seconds, options.confidence_threshold)
        reminding = beside(self._reminding, deadline_s, self.embedder)
        self.memory = ChatMemory(reminding, self._miner, mines_all=options.mine == "all")
        self._filling: asyncio.Task[None] | None = None
        if self.embedder is not None and self.embedder.is_own:
            self._filling = asyncio.create_task(VectorFiller(store, self.embedder).run())

    def charge_to(self, charge: Callable[[Exchange, int, int], None] | None) -> None:
        """Whom to tell what embeddings took."""
        if self.embedder is not None:
            self.embedder.charge = charge

    async def close(self) -> None:
        """Store what waits to be stored."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])
        await self._tasks.drain(_DRAIN_S)
        await self._store.close()

    def figures(self) -> ChatFigures:
        """For metrics."""
        return ChatFigures(
            queued=self._store.waiting,
            dropped=self._store.dropped,
            mined=self._miner.mined if self._miner else 0,
            retrievals=self._reminding.tally,
            store_faults=self._store.faults,
            embeddings=self.embedder.tally if self.embedder else None,
            vector_bytes=self.embedder.held_bytes if self.embedder else 0,
        )

    def _make_embedder(self, settings: Settings, upstream: Upstream) -> Embedder | None:
        options = settings.facts.embeddings
        if options is None:
            return None
        home = make_route(settings.upstreams[0]) if settings.upstreams[0].api_key else None
        route = None
        if options.base_url != "upstream":
            base_url = options.base_url.rstrip("/").removesuffix("/embeddings")
            route = make_endpoint_route("embeddings", base_url, options.api_key, _EMBEDDING_S)
        embedding = EmbeddingOptions(route, home, options.model, options.batch_size, options.deadline_seconds)
        return Embedder(embedding, upstream, self._tasks, _VECTOR_BYTES)

    def _make_near(self) -> Near | None:
        if self.embedder is None:
            return None
        from gateway.shell.facts.nearness import Nearness  # numpy is an extra

        return Nearness(self.embedder, _MATRIX_BYTES)


def make_memory_store(settings: Settings) -> ManagedMemory | None:
    """Where memories are kept, as `facts.url` says; None where nothing is remembered."""
    if not has_memory(settings):
        return None
    options = settings.facts
    if is_postgres(options.url):
        from gateway.shell.facts.postgres import PostgresMemoryStore  # its client is an extra

        return PostgresMemoryStore(options.url, options.collection_name)
    from gateway.shell.facts.sqlite import SqliteMemoryStore  # costs nothing where memory is off

    return SqliteMemoryStore(sqlite_path(options.url), options.max_bytes)


def make_remembering(
    store: MemoryStore, options: Facts, tally: Counter[tuple[str, str]], embedder: Embedding | None = None
) -> Remembering:
    """What the stages of memory share."""
    levels = options.levels
    ttl_s: Mapping[Level, float | None] = {
        Level.IMMEDIATE: levels.immediate_seconds,
        Level.SHORT_TERM: levels.short_term_seconds,
        Level.LONG_TERM: levels.long_term_seconds,
    }
    facts = FactRules(
        options.dedup_enabled, options.confidence_threshold, options.max_facts_per_query, options.ttl_seconds
    )
    contexts = ContextRules(options.dedup_enabled, ttl_s)
    return Remembering(store, facts, contexts, options.wait_seconds, tally, _now_us, _new_id, embedder)


def make_memory_stages(remembering: Remembering | None, forget_documents: Forget | None) -> dict[Endpoint, Stage]:
    """What answers the calls of memory, by endpoint.

    Args:
        remembering: what they share; None where nothing is remembered.
        forget_documents: lets go of the documents of a memory; None where there are none.
    """
    if remembering is None:
        return dict.fromkeys(OF_MEMORY, refuse_switched_off)
    return {
        Endpoint.FACTS: InsertFactsStage(remembering),
        Endpoint.FACTS_QUERY: QueryFactsStage(remembering),
        Endpoint.FACT: AnswerMemoryStage(remembering, Kind.FACT, told_fact),
        Endpoint.CONTEXTS: StoreContextStage(remembering),
        Endpoint.CONTEXTS_SEARCH: SearchContextsStage(remembering),
        Endpoint.CONTEXTS_DELETE: DeleteContextsStage(remembering),
        Endpoint.CONTEXTS_CLEAR: ClearContextsStage(remembering),
        Endpoint.CONTEXT: AnswerMemoryStage(remembering, Kind.CONTEXT, told_context),
        Endpoint.MEMORIES: ListMemoriesStage(remembering, forget_documents),
        Endpoint.MEMORIES_EXPORT: ExportMemoryStage(remembering),
        Endpoint.MEMORIES_IMPORT: ImportMemoryStage(remembering),
    }


def _now_us() -> int:
    return time.time_ns() // 1000


def _new_id() -> str:
    return os.urandom(16).hex()
