"""Figures of memory: how much there is, what it gives to chats and gets from them, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from prometheus_client.core import CounterMetricFamily, Metric

from gateway.core.facts.memory import Kind
from gateway.shell.telemetry.metrics import counter_metric, gauge_metric, labelled_gauge_metric

RESTING = "resting"
"""Among a chat store's faults: the store was left alone, and nothing has failed."""


class ChatFigures(NamedTuple):
    """What chats have done with their memories.

    Attributes:
        queued: mined memories that wait to be stored.
        dropped: of those, how many were let go.
        mined: facts found in folded messages.
        retrievals: look-ups, by what they came to.
        store_faults: of searches and of what was put later, by kind; and searches that were not made (`RESTING`).
        embeddings: calls, texts, tokens and failures; None where nobody makes vectors.
        vector_bytes: size of the vectors held in memory.
    """

    queued: int
    dropped: int
    mined: int
    retrievals: Mapping[str, int]
    store_faults: Mapping[str, int]
    embeddings: Mapping[str, int] | None = None
    vector_bytes: int = 0


class KeptMemories(Protocol):
    """What is known of how many memories there are."""

    @property
    def items(self) -> Mapping[Kind, int]: ...


class EvictingStore(Protocol):
    """A store that lets memories go for want of room."""

    evicted: int


def memory_metrics(
    kept: KeptMemories | None,
    store: EvictingStore | None,
    tally: Mapping[tuple[str, str], int],
    chats: ChatFigures | None = None,
) -> list[Metric]:
    """What is remembered, and what went wrong; nothing where memory is off.

    Args:
        kept: how many there are.
        store: of them.
        tally: what happened, by what and kind.
        chats: what chats have done with it; None where they do nothing.
    """
    if kept is None or store is None:
        return []
    of_chats = {kind: count for kind, count in chats.store_faults.items() if kind != RESTING} if chats else {}
    faults = Counter({"down": 0, "timeout": 0, "full": 0})
    faults.update({kind: count for (what, kind), count in tally.items() if what == "fault"})
    faults.update(of_chats)
    return [
        labelled_gauge_metric(
            "memory_items",
            "Memories, by kind, when they were last counted.",
            ["kind"],
            [((kind.value,), kept.items.get(kind, 0)) for kind in Kind],
        ),
        counter_metric("memory_store_errors", "Calls that the memory store failed, by kind.", "kind", {**faults}),
        counter_metric("memory_evictions", "Memories that went before their time.", "reason", {"room": store.evicted}),
        CounterMetricFamily("facts_duplicates", "Facts that were there already.", tally.get(("duplicate", "fact"), 0)),
        gauge_metric("memory_queue_depth", "Mined memories that wait to be stored.", chats.queued if chats else 0),
        *(_chat_metrics(chats) if chats is not None else ()),
    ]


def _chat_metrics(chats: ChatFigures) -> list[Metric]:
    looked_up = {"found": 0, "nothing": 0, "down": 0, "timeout": 0} | dict(chats.retrievals)
    metrics: list[Metric] = [
        counter_metric("memory_retrievals", "Look-ups of memory for chats, by result.", "result", {**looked_up}),
        counter_metric("memory_dropped", "Mined memories that were never stored.", "reason", {"queue": chats.dropped}),
        CounterMetricFamily("memory_mined", "Facts found in folded messages.", chats.mined),
    ]
    if chats.embeddings is not None:
        counts = {"calls": 0, "failures": 0, "texts": 0, "prompt_tokens": 0} | dict(chats.embeddings)
        metrics += [
            counter_metric("embeddings", "Embeddings that were asked for, by what is counted.", "what", {**counts}),
            gauge_metric("embeddings_cache_bytes", "Size of the vectors held in memory.", chats.vector_bytes),
        ]
    return metrics
