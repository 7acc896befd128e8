"""A long conversation and many at once: what is kept stays bounded, and compactions stay seldom.

`python3 dev.py soak` does the same with ten thousand turns and a thousand conversations, and prints what they cost.
"""

from __future__ import annotations

import asyncio

from benchmarks.soak_compaction import BRIEF_TOKENS, LIMIT, budget, long_conversation, many_conversations
from gateway.shell.state.memory import MemoryBriefStore
from tests.histories import FakeCounter, FakeSummarizer, World, per_four_chars

STORE_BYTES = 40_000


def small_world(summarizer: FakeSummarizer | None = None) -> World:
    """One whose store holds a few dozen briefs."""
    world = World(budget(), summarizer=summarizer)
    world.store = MemoryBriefStore(STORE_BYTES)
    return world.use(FakeCounter(per_four_chars))


def test_six_hundred_turns_of_one_conversation() -> None:
    """Every turn is answered within its budget, the brief keeps its share, and the store its bound."""
    world = small_world()
    tally = asyncio.run(long_conversation(world, 600, 120))

    assert tally.is_sound
    assert (tally.sent, tally.refused) == (600, 0)
    assert 20 <= tally.folds <= 100
    assert tally.largest_brief <= BRIEF_TOKENS
    assert tally.largest_prompt <= LIMIT
    assert world.store.held_bytes <= STORE_BYTES


def test_a_fold_reads_what_is_new_and_counts_little_more() -> None:
    """Each turn is folded once, and texts are counted in proportion to the conversation, not to its square."""
    counted = []
    for turns in (200, 400):
        world = small_world(summarizer := FakeSummarizer())
        asyncio.run(long_conversation(world, turns, 120))
        assert isinstance(world.counter, FakeCounter)
        counted.append(world.counter.calls)
        told = [turn.number for job in summarizer.jobs for turn in job.turns]
        assert len(told) == len(set(told)) <= 2 * turns

    assert counted[1] <= 2.5 * counted[0]


def test_thirty_conversations_at_once() -> None:
    """More conversations than the store has room for: briefs are made anew where they were dropped, and nothing
    mixes."""
    world = small_world()
    tally = asyncio.run(many_conversations(world, 30, 34, 120))

    assert (tally.sent, tally.refused) == (1020, 0)
    assert tally.largest_brief <= BRIEF_TOKENS
    assert tally.largest_prompt <= LIMIT
    assert world.store.held_bytes <= STORE_BYTES
