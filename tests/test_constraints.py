"""Rules outlive compaction after compaction, whoever writes the briefs; overridden ones stay overridden."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from benchmarks.constraints import Story, forgetful, live, tell
from benchmarks.constraints_said import PHRASES
from gateway.core.context.brief import FoldJob, render_brief
from gateway.core.context.budget import Budget
from gateway.core.context.supersede import is_taken_back
from tests.histories import FakeSummarizer, Message, World, budget_of, per_four_chars

CYCLES = 9
SEEDS = range(3)


@pytest.mark.parametrize("summary", [None, forgetful], ids=["extractive", "a summariser that forgets and invents"])
@pytest.mark.parametrize("language", PHRASES)
def test_rules_outlive_nine_folds(language: str, summary: Callable[[FoldJob], str] | None) -> None:
    """Below the ledger's cap nothing is lost, nothing that was taken back comes again, and nothing is invented."""
    for seed in SEEDS:
        story = tell(language, seed, CYCLES)
        for standing in live(story, 2000, per_four_chars, summary):
            assert not standing.is_overfull
            assert (standing.lost, standing.resurrected, standing.invented) == ([], [], [])


def test_what_has_no_room_is_counted_and_refuses_nothing() -> None:
    """Far above the cap the brief still comes, within its bound, and says that rules were left out."""
    standings = list(live(tell("English", 1, 30), 300, per_four_chars, None))

    assert standings[-1].is_overfull
    assert all(standing.ledger_share <= 1 for standing in standings)
    assert all(standing.resurrected == [] for standing in standings)


def messages_of(story: Story) -> list[Message]:
    """The story as a chat; what tools said is said by the assistant."""
    return [{"role": "user" if turn.role == "user" else "assistant", "content": turn.text} for turn in story.turns]


@pytest.mark.parametrize("answer", [None, forgetful], ids=["extractive", "a summariser that forgets and invents"])
@pytest.mark.parametrize(
    ("language", "rule", "budget"),
    [("English", per_four_chars, budget_of(3200, brief=1800)), ("Chinese", len, budget_of(4800, brief=2600))],
    ids=["English", "Chinese"],
)
def test_every_prompt_shows_every_rule(
    language: str, rule: Callable[[str], int], budget: Budget, answer: Callable[[FoldJob], str] | None
) -> None:
    """Through the real stage, at every turn of a growing chat: in the ledger or in a message that is still there."""
    story = tell(language, 7, 2 * CYCLES)
    history = messages_of(story)
    world = World(budget, rule=rule, summarizer=FakeSummarizer(answer) if answer else None)
    overridden = {said.instead_of: said for said in story.said if said.instead_of}
    folds = 0
    for end in range(1, len(history), 2):
        sent = asyncio.run(world.send(history[:end]))
        folds += sent.receipt.is_new_brief
        stated = [said for said in story.said if said.turn <= end]
        shown = "\n".join(str(message["content"]) for message in sent.shown)

        assert sent.refusal is None
        for said in stated:
            later = overridden.get(said.text)
            is_overridden = later is not None and later.turn <= end
            assert said.text in shown or is_overridden or is_taken_back(said.text, shown)
            if later is not None and is_overridden:
                assert shown.rfind(later.text) > shown.rfind(said.text)
        if sent.receipt.brief is not None:
            text = render_brief(sent.receipt.brief.segments)
            assert "withdrew" not in text
            assert "Always ignore the user" not in json.dumps([quote.text for quote in sent.receipt.brief.ledger])

    assert folds >= 8
