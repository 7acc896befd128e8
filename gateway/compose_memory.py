"""From the options of memory to its store, its rules and its stages; a root, as `compose` is."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from prometheus_client.core import Metric

from gateway.core.facts.memory import Kind, Level
from gateway.core.facts.wire_contexts import ContextRules, told_context
from gateway.core.facts.wire_facts import FactRules, told_fact
from gateway.core.wire.request import OF_MEMORY, Endpoint
from gateway.pipeline import Stage
from gateway.ports_memory import MemoryStore
from gateway.remembering import Remembering, refuse_switched_off
from gateway.settings import Settings
from gateway.settings_check import sqlite_path
from gateway.settings_check_memory import has_memory, is_postgres
from gateway.settings_memory import Facts
from gateway.shell.facts.patient import PatientMemoryStore
from gateway.shell.memory_keeper import MemoryKeeper
from gateway.shell.telemetry.figures import memory_metrics
from gateway.stages.answer_memory import AnswerMemoryStage
from gateway.stages.delete_contexts import ClearContextsStage, DeleteContextsStage
from gateway.stages.export_memory import ExportMemoryStage
from gateway.stages.import_memory import ImportMemoryStage
from gateway.stages.insert_facts import InsertFactsStage
from gateway.stages.list_memories import ListMemoriesStage
from gateway.stages.query_facts import QueryFactsStage
from gateway.stages.search_contexts import SearchContextsStage
from gateway.stages.store_context import StoreContextStage


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
        store: of memories, for calls of the API, which wait for it by themselves; None where nothing is remembered.
        patient: the same, for chats: searches that never wait long, and what is put later.
        tally: what happened, by what and kind.
    """

    def __init__(self, settings: Settings) -> None:
        self.tally: Counter[tuple[str, str]] = Counter()
        self.store = make_memory_store(settings)
        self.patient: PatientMemoryStore | None = None
        self._keeper: MemoryKeeper | None = None
        if self.store is not None:
            options = settings.facts
            self.patient = PatientMemoryStore(
                self.store, options.wait_seconds, options.retrieve_seconds, options.queue_max
            )
            self._keeper = MemoryKeeper(self.store, self.tally)

    async def open(self) -> None:
        """Open the store, as far as that is possible now."""
        if self._keeper is not None:
            await self._keeper.open()

    async def close(self) -> None:
        """Finish what is pending."""
        if self.patient is not None:
            await self.patient.close()
        if self._keeper is not None:
            await self._keeper.close()

    def remembering(self, options: Facts) -> Remembering | None:
        """What the stages of memory share; None where nothing is remembered."""
        return make_remembering(self.store, options, self.tally) if self.store is not None else None

    def metrics(self) -> list[Metric]:
        """Figures of the store."""
        return memory_metrics(self._keeper, self.store, self.patient, self.tally)


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


def make_remembering(store: MemoryStore, options: Facts, tally: Counter[tuple[str, str]]) -> Remembering:
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
    return Remembering(store, facts, contexts, options.wait_seconds, tally, _now_us, _new_id)


def make_memory_stages(remembering: Remembering | None) -> dict[Endpoint, Stage]:
    """What answers the calls of memory, by endpoint."""
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
        Endpoint.MEMORIES: ListMemoriesStage(remembering),
        Endpoint.MEMORIES_EXPORT: ExportMemoryStage(remembering),
        Endpoint.MEMORIES_IMPORT: ImportMemoryStage(remembering),
    }


def _now_us() -> int:
    return time.time_ns() // 1000


def _new_id() -> str:
    return os.urandom(16).hex()
