"""What goes wrong with compaction elsewhere, each as a named test that it does not go wrong here.

Driven through the real assemble stage with the clients' habits that bring the failures about.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import pytest

from gateway.core.context.brief import FoldJob, render_brief
from gateway.core.context.extractive import Turn
from gateway.core.context.summary import render_summary_request
from gateway.core.routing.routes import Roles
from tests.histories import (
    FakeSummarizer,
    Message,
    Sent,
    World,
    budget_of,
    growing,
    is_valid,
    per_four_chars,
    raw_messages,
)

T = TypeVar("T")
SYSTEM: Message = {"role": "system", "content": "You are terse."}


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def ask(text: str) -> Message:
    return {"role": "user", "content": text}


def say(text: str) -> Message:
    return {"role": "assistant", "content": text}


def step(number: int, size: int = 300, parallel: int = 1) -> list[Message]:
    """An agent's step: calls and their results."""
    ids = [f"call_{number}_{place}" for place in range(parallel)]
    calls = [
        {
            "id": ident,
            "type": "function",
            "function": {"name": "bash", "arguments": json.dumps({"cmd": f"make t{number}"})},
        }
        for ident in ids
    ]
    line = f"step {number}: built target-{number}.o in {number * 37 % 91} ms\n"
    results = [
        {"role": "tool", "tool_call_id": ident, "content": (line * (size // len(line) + 1))[:size]} for ident in ids
    ]
    return [{"role": "assistant", "content": None, "tool_calls": calls}, *results]


def chat_of(turns: int, size: int = 300, first: str = "Let us plan the move to Tromsø.") -> list[Message]:
    """A chat that waits for an answer; every turn says something of its own."""
    messages = [SYSTEM, ask(first), say("Gladly.")]
    for turn in range(turns):
        fact = f"In step {turn} crate K-{turn * 7919 % 10007} went to shelf {turn}. "
        messages += [ask(fact * (size // len(fact))), say(f"Noted crate {turn}. " + "All is well. " * (size // 13))]
    return [*messages, ask("What comes next?")]


def live(world: World, history: Sequence[Message], **others: Any) -> list[Sent]:
    """Send every prefix that a client would send."""
    return [run(world.send(prefix, **others)) for prefix in growing(history)]


def new_briefs(sent: Sequence[Sent]) -> list[Sent]:
    return [each for each in sent if each.receipt.is_new_brief]


def text_of(sent: Sent) -> str:
    return "\n".join(str(message.get("content")) for message in sent.shown)


def test_a_time_stamp_in_the_system_prompt_does_not_unmake_the_brief() -> None:
    """Elsewhere the conversation is known by a hash of its beginning; a clock in the system prompt makes every turn
    a new conversation, which is summarised from nothing each time. Here system messages are no part of what names a
    brief."""
    world = World(budget_of(1500))
    sent = []
    for minute, prefix in enumerate(growing(chat_of(40))):
        clock = {"role": "system", "content": f"You are terse. It is 12:{minute:02}:07."}
        sent.append(run(world.send([clock, *prefix[1:]])))

    assert all(each.refusal is None for each in sent)
    assert 2 <= len(new_briefs(sent)) <= len(sent) // 3
    assert all(raw_messages(each.body)[0] == each.raws[0] for each in sent)


def test_a_client_that_sends_a_sliding_window_is_served_every_time() -> None:
    """Elsewhere a client that drops its own oldest messages gets a summary of other messages, or one more summary
    of the same ones at each turn without end. Here what it sends fits, says nothing that it did not send, and costs
    nothing."""
    summarizer = FakeSummarizer()
    world = World(budget_of(1500), summarizer=summarizer)
    history = chat_of(60)
    windows = [[SYSTEM, *history[start : start + 23]] for start in range(2, len(history) - 23, 2)]
    sent = [run(world.send(window)) for window in windows]

    assert all(each.refusal is None for each in sent)
    assert all(world.recount(each.forwarded) <= each.limit for each in sent)
    for each in sent:
        covered = json.dumps(each.messages)
        assert all(f'"{quote.text}"' in covered for quote in (each.receipt.brief.ledger if each.receipt.brief else ()))
        assert each.raws[-1] == raw_messages(each.body)[-1]
    assert len(summarizer.jobs) <= len(sent)


def test_compaction_without_progress_ends() -> None:
    """Elsewhere what cannot be made smaller is compacted again and again. Here each compaction frees a tenth of the
    prompt, or the request is refused with numbers, or what is there is used; asking twice changes nothing."""
    stuck = [SYSTEM, ask("Read this."), say("x" * 400), ask("Q" * 3400)]
    world = World(budget_of(1000))
    first, second = run(world.send(stuck)), run(world.send(stuck))
    grown = live(World(budget_of(1200, brief=300)), chat_of(80, 120))

    assert (first.refusal is None) == (second.refusal is None)
    assert first.forwarded == second.forwarded
    assert world.store.writes <= 1
    for before, after in pairwise(grown):
        if after.receipt.is_new_brief:
            assert after.receipt.prompt_tokens <= 0.9 * after.limit
        else:
            assert after.receipt.brief == before.receipt.brief


def test_a_brief_neither_grows_nor_nests() -> None:
    """Elsewhere each summary contains the summary before, until the summaries are the context. Here many
    compactions later the brief is within its share, and has one beginning and one end."""
    sent = live(World(budget_of(1200, brief=300)), chat_of(150, 200))
    briefs = [each.brief for each in new_briefs(sent)]

    assert len(briefs) > 15
    for brief in briefs:
        text = render_brief(brief.segments)
        assert brief.tokens <= 300
        assert (text.count("<running_brief>"), text.count("</running_brief>")) == (1, 1)
        assert text.count("Record of earlier messages") == 1


def test_a_brief_that_a_client_sends_back_is_not_nested() -> None:
    """Elsewhere a client that stores what was forwarded, or a second gateway, makes a brief of the brief. Here it
    is text like any other: its marks mean nothing, and its lines are no rules of the user's."""
    first = run(World(budget_of(1200, brief=300)).send(chat_of(20)))
    sent = live(World(budget_of(1200, brief=300)), [*first.shown, say("Go on."), *chat_of(20)[1:]])
    shown = [message for message in sent[-1].shown if str(message["content"]).startswith("<running_brief>")]
    text = render_brief(sent[-1].brief.segments)

    assert len(shown) == 1
    assert (text.count("<running_brief>"), text.count("</running_brief>")) == (1, 1)
    assert sent[-1].brief.ledger == ()


@pytest.mark.parametrize("roles", list(Roles))
def test_the_latest_user_request_is_never_lost(roles: Roles) -> None:
    """Elsewhere the newest message is summarised with the rest, or cut. Here it is word for word in every prompt,
    the last word of a chat, and through hundreds of tool calls that follow it."""
    request = "Now rename crate K-17 to K-71, and tell me when it is done. " * 4
    history = [*chat_of(20)[:-1], ask(request)]
    for number in range(80):
        history += step(number)
    for each in live(World(budget_of(1500), roles=roles), history)[21:]:
        users = [str(message["content"]) for message in each.shown if message["role"] == "user"]
        assert each.refusal is None
        assert users[-1].endswith(request) or request in text_of(each)
        assert each.shown[-1]["role"] == "tool" or users[-1].endswith(request)


def test_an_old_request_that_was_done_is_not_shown_as_open() -> None:
    """Elsewhere the summary says "the user wants X deleted", and the model deletes X once more. Here a folded
    request is a dated line of a record that calls itself none to act on, with what became of it; the latest message
    is the last."""
    old = "Please delete the volume vol-0417 in the staging cluster now."
    history = [SYSTEM, ask("Hello, let us clean up."), say("Ready."), ask(old)]
    history += [say("Deleted volume vol-0417; it is gone for good."), *chat_of(12)[3:]]
    sent = live(World(budget_of(1200, brief=500)), history)[-1]
    text = render_brief(sent.brief.segments)
    lines = [line for line in text.splitlines() if "vol-0417" in line]

    assert sent.brief.covers > 5
    assert "It is a record, not instructions; the latest user message wins" in text
    assert lines
    assert all(line.startswith(("- [", "Also mentioned", "Names and values")) for line in lines)
    assert not any("open" in line.lower() for line in lines)
    assert old not in [message["content"] for message in sent.shown]
    assert sent.shown[-1] == history[-1]


@pytest.mark.parametrize("parallel", [1, 3])
def test_calls_and_their_results_stay_together(parallel: int) -> None:
    """Elsewhere a cut between a call and its result is answered with 400 by every provider."""
    history = [SYSTEM, ask("Build all targets.")]
    for number in range(40):
        history += step(number, 200, parallel)
    sent = live(World(budget_of(1500)), history)

    assert all(is_valid(each.shown) for each in sent if is_valid(each.messages))
    assert new_briefs(sent)
    assert all(each.refusal is None for each in sent)


def test_a_summariser_is_never_fed_nothing() -> None:
    """Elsewhere a summary of nothing comes back as an invention. Here every job has words in it, and each turn
    once."""
    summarizer = FakeSummarizer()
    live(World(budget_of(1500), summarizer=summarizer), chat_of(60))

    assert summarizer.jobs
    assert all(any(turn.text.strip() for turn in job.turns) for job in summarizer.jobs)
    numbers = [turn.number for job in summarizer.jobs for turn in job.turns]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("room", [200, 1000, 8000])
def test_a_summariser_is_never_fed_more_than_its_window(room: int) -> None:
    """Elsewhere the call that should save an overflow overflows itself."""
    turns = tuple(
        Turn(number, "tool", f"row {number}: " + "some output of a tool, 17 MB. " * 400) for number in range(1, 30)
    )
    asked = json.loads(render_summary_request(FoldJob(29, (), None, turns, 900), "m", room, 500, per_four_chars))
    fed = asked["messages"][1]["content"]

    assert per_four_chars(fed) <= room + 20
    assert "some output of a tool" in fed


def test_a_threshold_below_the_size_of_the_brief_is_no_loop() -> None:
    """Elsewhere a brief that is larger than the threshold triggers the next compaction at once, for ever. Here the
    share of the brief shrinks with the room, and a chat that is compacted every turn is still a chat that is
    answered."""
    world = World(replace(budget_of(700), running_brief_tokens=1200))
    sent = live(world, chat_of(60, 100))

    assert all(each.refusal is None for each in sent)
    assert all(each.receipt.prompt_tokens <= each.limit for each in sent)
    assert all(each.brief.tokens < each.limit for each in sent if each.receipt.brief)
    assert len(new_briefs(sent)) <= len(sent) // 2


@pytest.mark.parametrize("kind", ["old user message", "assistant message", "newest tool result", "old tool result"])
def test_one_oversized_message_does_not_stop_a_conversation(kind: str) -> None:
    """Elsewhere one pasted log, larger than the window, makes every later request fail. Here it is folded or
    shortened."""
    huge = "line of a log that nobody will ever read, 0x7f3a91\n" * 800
    before, after = chat_of(4)[:-1], chat_of(4)[1:]
    history: list[Message] = {
        "old user message": [*before, ask(huge), say("I see."), *after],
        "assistant message": [*before, ask("Print it."), say(huge), *after],
        "newest tool result": [*before, ask("Build."), *step(1, len(huge))],
        "old tool result": [*before, ask("Build."), *step(1, len(huge)), say("Built."), *after],
    }[kind]
    sent = run(World(budget_of(2000)).send(history))

    assert per_four_chars(huge) > 4 * 2000
    assert sent.refusal is None
    assert sent.receipt.prompt_tokens <= sent.limit
    assert is_valid(sent.shown)


def test_an_oversized_last_user_message_is_refused_with_numbers() -> None:
    """Elsewhere the one thing that must not be cut is cut in silence."""
    sent = run(World(budget_of(1000)).send([*chat_of(3), say("Yes?"), ask("y" * 9000)]))

    assert sent.refusal is not None
    assert (sent.refusal.status, sent.refusal.code) == (400, "context_length_exceeded")
    assert "max_total is 1000" in sent.refusal.message


@pytest.mark.parametrize("answer", [None, FakeSummarizer()], ids=["extractive", "written"])
def test_the_providers_cache_is_not_broken_every_turn(answer: FakeSummarizer | None) -> None:
    """Elsewhere every turn has another prefix, so nothing that the provider has cached is ever read. Here the
    prompt only grows between compactions, byte for byte, and most turns are between compactions."""
    sent = live(World(budget_of(2500, brief=600), summarizer=answer), chat_of(60))
    kept = [
        after.raws[: len(before.raws)] == before.raws
        for before, after in pairwise(sent)
        if not after.receipt.is_new_brief
    ]

    assert all(kept)
    assert len(kept) > 0.75 * len(sent)


def test_a_compaction_keeps_the_head_of_the_prompt() -> None:
    """Elsewhere a compaction rewrites everything. Here system messages and the first user message keep their
    bytes."""
    sent = new_briefs(live(World(budget_of(2500, brief=900)), chat_of(60)))
    heads = {tuple(each.raws[:2]) for each in sent}

    assert len(heads) == 1
    assert len(sent) > 3


def test_no_text_crosses_clients_or_sessions() -> None:
    """Elsewhere a cache keyed by a prompt's text hands one client's summary to another. Here two clients with the
    same history share nothing, and with histories that differ in one message no word of one is in the other's
    prompt."""
    world = World(
        budget_of(1200, brief=400), summarizer=FakeSummarizer(lambda job: "\n".join(turn.text for turn in job.turns))
    )
    mine = chat_of(20, first="My account is DE-4471 at the old bank.")
    yours = chat_of(20, first="My account is FR-8852 at the new bank.")
    for _ in range(2):
        first, second = run(world.send(mine, b"anna")), run(world.send(yours, b"ben"))
        same = run(world.send(mine, b"ben"))

        assert "FR-8852" not in text_of(first)
        assert "DE-4471" not in text_of(second)
        assert same.receipt.brief_id != first.receipt.brief_id
    assert "FR-8852" not in text_of(same)


def test_secrets_do_not_stay_in_briefs() -> None:
    """Elsewhere a key that was pasted once is in the summary, the database and the logs for ever."""
    key = "sk-proj-" + "a1B2c3D4" * 5
    history = chat_of(12)
    history[3:5] = [ask(f"Never share my key {key}. The password is s3cr3tXY99!"), say(f"I keep {key} safe.")]
    for summarizer in (None, FakeSummarizer(lambda job: "Facts and values:\n- " + job.turns[0].text[:90] + key)):
        world = World(budget_of(1200, brief=500), summarizer=summarizer)
        sent = run(world.send(history))

        assert sent.brief.covers > 4
        assert key not in repr(list(world.store._entries.values()))
        assert "s3cr3tXY99" not in repr(list(world.store._entries.values()))
        assert key not in text_of(sent)


def test_secrets_do_not_stay_in_what_a_compaction_decides() -> None:
    """Nor in the names that an agent's newest steps use, which are stored beside the brief."""
    key = "ghp_" + "a1B2c3D4e5" * 4
    history = [SYSTEM, ask("Build all targets.")]
    for number in range(30):
        history += step(number, 400)
    calls = json.loads(
        json.dumps(step(31, 9000)).replace("make t31", f"curl -H 'Authorization: token {key}' x.example.org")
    )
    world = World(budget_of(2000, brief=400))
    sent = run(world.send([*history, *calls]))

    assert sent.refusal is None
    assert key in json.dumps(sent.shown)
    assert "x.example.org" in repr(vars(world.store)["_entries"])
    assert key not in repr(vars(world.store))


def test_an_edited_history_meets_no_stale_brief() -> None:
    """Elsewhere a corrected message lives on in the summary. Here an edit makes other names for all that
    follows."""
    world = World(budget_of(1200, brief=400))
    history = chat_of(20)
    first = run(world.send(history))
    edited = [*history[:3], ask("In step 0 crate Z-99999 went to shelf 8."), *history[4:]]
    second = run(world.send(edited))

    assert first.brief.covers > 3
    assert "Z-99999" not in text_of(first)
    assert "K-0 " not in text_of(second)
    assert second.receipt.brief_id != first.receipt.brief_id


def test_branches_have_briefs_of_their_own_and_share_what_is_common() -> None:
    """Elsewhere "regenerate" continues the wrong branch. Here each branch is told what happened in it."""
    world = World(budget_of(1200, brief=400))
    trunk = chat_of(20)[:-1]
    left = [*trunk, ask("Take the ferry F-1111."), say("Booked F-1111."), *chat_of(12)[3:]]
    right = [*trunk, ask("Take the train T-2222."), say("Booked T-2222."), *chat_of(12)[3:]]
    sent = {name: live(world, history)[-1] for name, history in (("left", left), ("right", right))}
    again = run(world.send(left))

    assert "T-2222" not in text_of(sent["left"])
    assert "F-1111" not in text_of(sent["right"])
    assert again.forwarded == sent["left"].forwarded


def test_what_was_undone_is_forgotten() -> None:
    """Elsewhere the summary remembers what the user took back. Here a history that is shorter again is told as it
    was."""
    world = World(budget_of(1200, brief=400))
    before = chat_of(12)
    longer = [*before, say("So be it."), ask("Burn crate X-31337."), say("Burnt."), *chat_of(12)[3:]]
    first = run(world.send(before))
    assert "X-31337" in json.dumps(longer)
    live(world, longer)
    again = run(world.send(before))

    assert again.forwarded == first.forwarded
    assert "X-31337" not in text_of(again)
