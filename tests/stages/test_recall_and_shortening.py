"""What the assemble stage recalls and shortens, when it decides that, and how long it keeps to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any, TypeVar

import pytest

from gateway.core.context.brief import Level
from gateway.core.routing.routes import Roles
from tests.histories import FakeSummarizer, Message, Sent, World, budget_of

T = TypeVar("T")
LOOP = asyncio.new_event_loop()
SYSTEM: Message = {"role": "system", "content": "You help."}
TOOLS = [{"type": "function", "function": {"name": "read", "parameters": {"type": "object", "properties": {}}}}]
FACT = "The spare key of the boathouse hangs behind the blue barometer."
QUESTION = "Where does the spare key of the boathouse hang?"


def run(work: Coroutine[Any, Any, T]) -> T:
    return LOOP.run_until_complete(work)


def world_of(max_total: int = 4000, **options: Any) -> World:
    return World(budget_of(max_total, brief=400, recent=200, retrieved=1500), **options)


def ask(text: str) -> Message:
    return {"role": "user", "content": text}


def say(text: str) -> Message:
    return {"role": "assistant", "content": text}


def small_talk(turns: int, seed: int = 0) -> list[Message]:
    """So many exchanges about nothing that is asked for later."""
    topics = ("weather", "soup", "trains", "painting", "gardens", "music")
    history: list[Message] = []
    for turn in range(seed, seed + turns):
        topic = topics[turn % len(topics)]
        history += [
            ask(f"What do you think of {topic} on day {turn}? I thought about {topic} all morning, and then some."),
            say(f"On day {turn}, {topic} is as good as ever; others would say so too. " * 4),
        ]
    return history


def step(number: int, text: str) -> list[Message]:
    """An agent's call and its result."""
    call = {"id": f"call_{number}", "type": "function"}
    call["function"] = {"name": "read", "arguments": json.dumps({"path": f"src/module_{number}.py"})}  # type: ignore[assignment]
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"call_{number}", "content": text},
    ]


def long_result(number: int, lines: int = 120) -> str:
    return "\n".join(f"{number}:{line} value_{number}_{line} = compute({line * 7919 % 1000})" for line in range(lines))


def recalled_text(sent: Sent) -> str:
    assert sent.receipt.recalled is not None
    return sent.receipt.recalled.text


def without_recalled(sent: Sent) -> list[bytes]:
    recalled = sent.receipt.recalled
    return [raw for raw in sent.raws if recalled is None or json.loads(raw)["content"] != recalled.text]


def test_what_the_question_needs_comes_back_word_for_word() -> None:
    """A fact that was folded long ago stands, verbatim and once, just before the message that asks for it."""
    history = [SYSTEM, *small_talk(2), ask(f"By the way: {FACT}"), say("Noted."), *small_talk(60, 2)]
    sent = run(world_of().send([*history, ask(QUESTION)]))

    assert FACT in recalled_text(sent)
    assert [message["content"] for message in sent.shown[-2:]] == [recalled_text(sent), QUESTION]
    assert sum(str(message["content"]).count(recalled_text(sent)) for message in sent.shown) == 1
    assert sent.receipt.sections["recalled"] > 0
    assert sent.receipt.prompt_tokens <= sent.limit


def test_the_receipt_says_what_came_back_and_why() -> None:
    """Numbers of messages, best first, and how many words of the question each holds; no content."""
    history = [SYSTEM, *small_talk(2), ask(f"By the way: {FACT}"), say("Noted."), *small_talk(60, 2)]
    sent = run(world_of().send([*history, ask(QUESTION)]))
    told = json.loads(sent.receipt.explain())["recalled"]

    assert next(iter(told["matching_words"])) == "5"
    assert told["matching_words"]["5"] >= 4
    assert told["tokens"] == sent.receipt.sections["recalled"]
    assert "barometer" not in sent.receipt.explain()
    assert len(sent.receipt.explain()) < 2048


def test_recall_takes_what_is_left_its_share_or_nothing() -> None:
    """`fill`, `share` and `off`; and without a share nothing comes back either."""
    history = [SYSTEM, *small_talk(62), ask("On which days did I think about soup all morning?")]
    filled, shared = run(world_of().send(history)), run(world_of(fills=False).send(history))
    off = run(world_of(recalls=False).send(history))
    without = run(World(budget_of(4000, brief=400, recent=200)).send(history))

    assert filled.receipt.sections["recalled"] > 1500
    assert 750 < shared.receipt.sections["recalled"] <= 1500
    assert [sent.receipt.recalled for sent in (off, without)] == [None, None]
    assert off.receipt.brief is not None


def test_strict_templates_get_it_joined_to_the_question() -> None:
    """Recalled text and question are one user message, each whole."""
    history = [SYSTEM, *small_talk(2), ask(FACT), say("Noted."), *small_talk(60, 2), ask(QUESTION)]
    sent = run(world_of(roles=Roles.STRICT).send(history))
    last = str(sent.shown[-1]["content"])

    assert last.endswith(f"{recalled_text(sent)}\n\n{QUESTION}")
    assert all(first["role"] != second["role"] for first, second in pairwise(sent.shown))


def test_between_compactions_only_the_recalled_text_moves() -> None:
    """Turn by turn the forwarded prompt begins with the one before, up to what was recalled."""
    world, history = world_of(), [SYSTEM, *small_talk(2), ask(FACT), say("Noted."), *small_talk(50, 2)]
    sents = []
    for turn in range(12):
        history = [*history, ask(f"{turn}: {QUESTION}"), say("Behind the barometer.")]
        sents.append(run(world.send(history[:-1])))
    steady = [(before, after) for before, after in pairwise(sents) if not after.receipt.is_fresh]

    assert len(steady) >= 8
    for before, after in steady:
        stable = without_recalled(before)
        assert without_recalled(after)[: len(stable)] == stable


def test_through_a_tool_loop_the_recalled_text_stays() -> None:
    """What was chosen for a user message stands before it, byte for byte, while its tools are called."""
    world = world_of()
    history = [SYSTEM, *small_talk(2), ask(FACT), say("Noted."), *small_talk(60, 2), ask(QUESTION)]
    first = run(world.send(history, tools=TOOLS))
    for number in range(4):
        history += step(number, f"nothing in module {number}")
        later = run(world.send(history, tools=TOOLS))
        assert later.raws[: len(first.raws)] == first.raws
        assert not later.receipt.is_fresh


def test_few_steps_with_long_results_are_shortened_and_nothing_is_folded() -> None:
    """The first rung: the level says so, there is no brief, and the newest result keeps the most."""
    history = [SYSTEM, ask("Read the modules."), *step(1, long_result(1, 700)), *step(2, long_result(2, 700))]
    sent = run(world_of(5000).send(history, tools=TOOLS))
    sizes = [len(str(message["content"])) for message in sent.shown if message["role"] == "tool"]

    assert sent.receipt.level in (Level.ELIDED, Level.TRIMMED)
    assert (sent.receipt.brief, sent.receipt.folded_messages) == (None, 0)
    assert sent.receipt.shortened_messages >= 1
    assert sizes[0] < sizes[1]


def test_old_results_alone_are_elided_and_stay_so() -> None:
    """What was shortened is shortened to the same bytes in later requests, and new messages stand behind it."""
    world = world_of(4500)
    history = [SYSTEM, ask("Read the modules."), *step(1, long_result(1, 600)), *step(2, long_result(2, 20))]
    first = run(world.send(history, tools=TOOLS))
    later = run(world.send([*history, *step(3, "short")], tools=TOOLS))

    assert first.receipt.level is Level.ELIDED
    assert first.receipt.is_fresh
    assert not later.receipt.is_fresh
    assert later.raws[: len(first.raws)] == first.raws
    assert b"shortened from" in later.raws[3]


def test_of_the_same_file_read_again_and_again_one_copy_stays() -> None:
    """Older copies become a note that names the newest one."""
    text = long_result(7, 130)
    history = [SYSTEM, ask("Read it."), *[message for number in range(4) for message in step(number, text)]]
    sent = run(world_of(3000).send(history, tools=TOOLS))
    results = [str(message["content"]) for message in sent.shown if message["role"] == "tool"]
    notes = [result for result in results if result.startswith("[the same text as in message")]

    assert results[-1] == text or results[-1].startswith("[shortened")
    assert len(notes) == len(results) - 1


def test_arguments_of_the_newest_call_are_shortened_before_a_request_is_refused() -> None:
    """A file written by a call alone exceeds the budget: it stays a JSON object of the same keys."""
    written = json.dumps({"path": "src/big.py", "text": long_result(1, 400)})
    call = {"id": "c", "type": "function", "function": {"name": "write", "arguments": written}}
    history = [
        SYSTEM,
        ask("Write it."),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "ok"},
    ]
    sent = run(world_of(2000).send(history, tools=TOOLS))
    arguments = json.loads(sent.shown[2]["tool_calls"][0]["function"]["arguments"])

    assert sent.refusal is None
    assert sent.receipt.level is Level.TRIMMED
    assert arguments["path"] == "src/big.py"
    assert len(str(arguments)) < len(written)


def test_a_long_task_keeps_its_prefix_between_compactions() -> None:
    """Sixty steps: the prompt only grows between compactions, and these are some steps apart."""
    world, history = world_of(), [SYSTEM, ask("Read all modules, and find value_9_9.")]
    sents = []
    for number in range(60):
        history = [*history, *step(number, long_result(number, 30))]
        sents.append(run(world.send(history, tools=TOOLS)))
    fresh = [place for place, sent in enumerate(sents) if sent.receipt.is_fresh]

    for before, after in pairwise(sents):
        if not after.receipt.is_fresh:
            assert after.raws[: len(before.raws)] == before.raws
    assert len(fresh) >= 5
    assert min(later - earlier for earlier, later in pairwise(fresh)) >= 3
    assert any(sent.receipt.recalled for sent in sents)
    assert all(sent.receipt.prompt_tokens <= sent.limit for sent in sents)


def sliding(world: World, history: list[Message], window: int, requests: int) -> list[Sent]:
    """A client that sends only the newest messages of a history that goes on."""
    return [
        run(world.send([SYSTEM, *history[: 2 * turn + 1][-window:]]))
        for turn in range(window // 2, window // 2 + requests)
    ]


def test_what_cannot_be_shortened_after_all_is_folded() -> None:
    """Long answers in parts look as if they could lose much, and cannot: more is folded, nothing is refused."""
    history = [SYSTEM, ask("Read the modules.")]
    for number in range(5):
        call, result = step(number, "ok")
        parts = [{"type": "text", "text": long_result(number, 780)}, {"type": "text", "text": "That was it."}]
        history += [{**call, "content": parts}, result]
        sent = run(world_of(9000, target_ratio=0.95).send(history, tools=TOOLS))

        assert sent.refusal is None
        assert sent.receipt.prompt_tokens <= sent.limit


@pytest.mark.parametrize("window", [81, 121], ids=["nearly full", "too long"])
def test_a_client_that_slides_its_window_is_not_summarised_again_and_again(window: int) -> None:
    """No brief is ever its own, so after three from a language model no more are asked for."""
    summarizer = FakeSummarizer()
    world = world_of(summarizer=summarizer, soft_ratio=0.8)
    sent = sliding(world, small_talk(150), window, requests=12)

    assert all(each.receipt.prompt_tokens <= each.limit for each in sent)
    assert 3 <= len(summarizer.jobs) <= 4
    assert all(each.receipt.level in (Level.NONE, Level.EXTRACTIVE) for each in sent[-6:])


def test_many_conversations_that_begin_alike_are_no_sliding_window() -> None:
    """Each has a brief from the language model, though their first and last messages are the same."""
    summarizer = FakeSummarizer()
    world = world_of(summarizer=summarizer)
    head = small_talk(30)
    sent = [
        run(world.send([SYSTEM, *head, ask(f"Now to case {case}."), *small_talk(30, 100 * case), ask("Go on.")]))
        for case in range(8)
    ]

    assert [each.receipt.level for each in sent] == [Level.BRIEF] * 8
