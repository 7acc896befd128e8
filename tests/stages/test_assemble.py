"""What a request looks like after assemble, case by case; the invariants are in test_compaction_invariants."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from gateway.core.context.brief import Level
from gateway.core.context.budget import OnUnfittable
from gateway.core.context.facts import chain_digests
from gateway.core.errors import Refusal
from gateway.core.routing.routes import Roles
from gateway.core.tokens.calibration import Correction
from gateway.core.wire.request import Endpoint, parse_metered
from tests import responses
from tests.histories import (
    FakeSummarizer,
    FixedCorrection,
    Message,
    Sent,
    StuckSummarizer,
    World,
    body_of,
    budget_of,
    exchange_of,
    failing,
    foldable,
    growing,
    nothing,
    raw_messages,
    too_long,
)

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


SYSTEM: Message = {"role": "system", "content": "You are terse."}


def ask(text: str) -> Message:
    return {"role": "user", "content": text}


def say(text: str) -> Message:
    return {"role": "assistant", "content": text}


def call(*idents: str) -> Message:
    calls = [{"id": ident, "type": "function", "function": {"name": "bash", "arguments": "{}"}} for ident in idents]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(ident: str, text: str) -> Message:
    return {"role": "tool", "tool_call_id": ident, "content": text}


def chat_of(turns: int, size: int = 400) -> list[Message]:
    """A system message and so many exchanges, each of about two times `size` characters; it ends with a question."""
    messages = [SYSTEM]
    for turn in range(turns):
        fact = f"In step {turn} the value was {turn * 7919 % 10007} at /srv/run/{turn}.log. "
        messages += [
            ask(f"Question {turn}? " + fact * (size // len(fact))),
            say(f"Answer {turn}. " + "Fine. " * (size // 6)),
        ]
    return [*messages, ask("What now?")]


def test_a_completion_that_takes_all_is_refused_with_numbers() -> None:
    """Where the completion alone exceeds the budget, the refusal says so."""
    sent = run(World(budget_of(1000)).send([ask("hi")], max_tokens=1000))

    assert sent.refusal is not None
    assert "1000 for the completion" in sent.refusal.message
    assert "max_total is 1000" in sent.refusal.message


def test_shadow_watches_and_changes_nothing() -> None:
    """In shadow nothing is refused and nothing changed, whatever does not fit; the plan is on the receipt."""
    world = World(budget_of(1000), is_shadow=True)

    folded = run(world.send(chat_of(10)))
    unfit = run(world.send([ask("x" * 9000)]))
    greedy = run(world.send([ask("hi")], max_tokens=2000))

    assert [sent.forwarded == sent.body for sent in (folded, unfit, greedy)] == [True] * 3
    assert [sent.refusal for sent in (folded, unfit, greedy)] == [None] * 3
    assert folded.receipt.prompt_tokens < 1000 < folded.receipt.forwarded_tokens == folded.receipt.client_tokens


def test_unfittable_may_be_forwarded() -> None:
    """With `on_unfittable: forward` what cannot be made to fit goes out as it came."""
    world = World(replace(budget_of(1000), on_unfittable=OnUnfittable.FORWARD))

    sent = [run(world.send([ask("x" * 9000)])), run(world.send([ask("hi")], max_tokens=2000))]

    assert [each.refusal for each in sent] == [None, None]
    assert [each.forwarded == each.body for each in sent] == [True, True]


def test_compaction_off_refuses_what_does_not_fit() -> None:
    """Switched off, a request above the budget is refused, shadow or not."""
    world = World(budget_of(1000), is_enabled=False, is_shadow=True)

    assert run(world.send(chat_of(10))).refusal is not None
    assert run(world.send(chat_of(1))).refusal is None


@pytest.mark.parametrize(
    ("endpoint", "body", "code"),
    [
        (Endpoint.COMPLETIONS, {"prompt": "x" * 9000}, "context_length_exceeded"),
        (Endpoint.COMPLETIONS, {"prompt": "short"}, None),
        (Endpoint.RESPONSES, {"input": "x" * 9000}, "context_length_exceeded"),
        (Endpoint.EMBEDDINGS, {"input": "x" * 9000}, None),
    ],
    ids=["long completion", "short completion", "long response", "long embedding"],
)
def test_other_endpoints_are_counted_and_never_rewritten(endpoint: Endpoint, body: Message, code: str | None) -> None:
    """What is no chat is refused where it does not fit, embeddings never, and nothing is changed."""
    exchange = exchange_of(body_of([ask("x")]), b"c", Roles.OPEN)
    exchange.endpoint, exchange.request = endpoint, parse_metered(endpoint, json.dumps({"model": "m", **body}).encode())
    refused = None
    try:
        for stage in World(budget_of(1000)).stages:
            run(stage(exchange))
    except Refusal as refusal:
        refused = refusal.code

    assert refused == code
    assert exchange.prompt is None


LONG_INPUT = [
    item
    for turn in range(8)
    for item in ({"role": "user", "content": f"{turn} " + "x" * 400}, {"role": "assistant", "content": "y" * 400})
]
UNTOUCHED = {
    "server-side state": ({"input": LONG_INPUT, "previous_response_id": "resp_1"}, "previous_response_id"),
    "a stored conversation": ({"input": LONG_INPUT, "conversation": {"id": "conv_1"}}, "conversation"),
    "a provider's compaction": (
        {"input": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"}, *LONG_INPUT]},
        "never rewritten",
    ),
    "a reference": ({"input": [{"type": "item_reference", "id": "msg_1"}, *LONG_INPUT]}, "never rewritten"),
    "an unknown item": ({"input": [*LONG_INPUT, {"type": "hologram", "data": "x"}]}, "never rewritten"),
    "an item that is none": ({"input": [*LONG_INPUT, 5]}, "never rewritten"),
    "a text": ({"input": "x" * 9000}, "never folded"),
}


@pytest.mark.parametrize(("fields", "why"), UNTOUCHED.values(), ids=UNTOUCHED)
@pytest.mark.parametrize("max_total", [800, 10_000])
def test_what_only_the_provider_knows_is_never_rewritten(fields: Message, why: str, max_total: int) -> None:
    """It is counted as far as it can be seen, refused above the budget with the reason, below it forwarded as it is."""
    body = json.dumps({"model": "gpt-5", **fields}).encode()
    sent = run(responses.send(World(budget_of(max_total)), body))

    assert sent.forwarded == body
    assert (sent.refusal is not None) == (max_total < sent.receipt.client_tokens)
    if sent.refusal is not None:
        assert sent.refusal.code == "context_length_exceeded"
        assert why in sent.refusal.message


def test_fields_that_are_null_are_none() -> None:
    """Clients write nulls for what they do not ask for; so long an input is compacted all the same."""
    fields = {"input": LONG_INPUT, "previous_response_id": None, "conversation": None, "store": True}
    sent = run(responses.send(World(budget_of(800)), json.dumps({"model": "gpt-5", **fields}).encode()))

    assert sent.refusal is None
    assert sent.receipt.folded_messages > 0
    assert sent.brief.covers > 0


def test_long_inputs_of_custom_calls_are_shortened() -> None:
    """A patch that was applied long ago keeps its beginning and its end; its call and name stay."""
    patch = "*** Begin Patch\n" + "".join(f"+ line {number} of a new file\n" for number in range(300))
    items = [
        ask("Write it."),
        {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": patch},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
    ]
    sent = run(responses.send(World(budget_of(1200)), json.dumps({"model": "gpt-5", "input": items}).encode()))
    forwarded = responses.items_of(sent.forwarded)

    assert sent.refusal is None
    assert sent.receipt.level is Level.TRIMMED
    assert [forwarded[0], forwarded[2]] == [items[0], items[2]]
    assert {**forwarded[1], "input": patch} == items[1]
    assert forwarded[1]["input"].startswith("[shortened from ")
    assert "*** Begin Patch" in forwarded[1]["input"]


def test_chats_and_responses_share_no_briefs() -> None:
    """The same words in the other form are another conversation."""
    world = World(budget_of(800))
    asked: list[Message] = [*LONG_INPUT, ask("And now?")]
    chat = run(world.send(asked))
    sent = run(responses.send(world, json.dumps({"model": "gpt-4o", "input": asked}).encode()))

    assert chat.receipt.is_new_brief
    assert sent.receipt.is_new_brief


# What a request looks like after folding


def test_the_brief_stands_where_the_folded_messages_stood() -> None:
    """System messages, the first user message, the brief, recent turns, the last user message."""
    sent = run(World(budget_of(1200)).send(chat_of(10)))
    messages = sent.shown

    assert messages[:2] == chat_of(10)[:2]
    assert messages[2]["content"].startswith("<running_brief>\nRecord of earlier messages ")
    assert messages[3:] == chat_of(10)[-len(messages[3:]) :]


def test_in_an_open_tool_loop_the_brief_stands_after_its_request() -> None:
    """Hundreds of calls after one user message: it stays, the work that it asked for is folded behind it."""
    loop = [SYSTEM, ask("Fix the bug in parser.py, run the tests with pytest -x.")]
    for step in range(60):
        loop += [call("call_1"), result("call_1", f"output {step} of /src/parser.py line {step}\n" * 6)]
    sent = run(World(budget_of(1500)).send(loop))
    roles = [json.loads(raw)["role"] for raw in sent.raws]

    assert sent.raws[:2] == raw_messages(sent.body)[:2]
    assert roles[:4] == ["system", "user", "user", "assistant"]
    assert b"<running_brief>" in sent.raws[2]
    assert sent.raws[-2:] == raw_messages(sent.body)[-2:]


def test_a_prefill_stays_next_to_its_question() -> None:
    """An assistant prefill at the end: the last user message stands right before it, nothing between."""
    messages = [*chat_of(10), say("Now")]
    sent = run(World(budget_of(1200)).send(messages))

    assert sent.raws[-2:] == raw_messages(sent.body)[-2:]
    assert b"<running_brief>" in sent.raws[2]


def test_system_messages_in_the_middle_stay_in_place() -> None:
    """A system message between folded turns is kept, before the brief; one after them stays where it was."""
    first, middle, late = (
        SYSTEM,
        {"role": "developer", "content": "Now in French."},
        {"role": "system", "content": "Late."},
    )
    chat = chat_of(10)
    messages = [first, *chat[1:7], middle, *chat[7:-1], late, chat[-1]]
    sent = run(World(budget_of(1200)).send(messages))
    shown = sent.shown
    brief_at = next(at for at, raw in enumerate(sent.raws) if b"<running_brief>" in raw)

    assert shown.index(middle) < brief_at
    assert shown[-2:] == [late, chat[-1]]


def test_a_huge_first_user_message_is_folded_too() -> None:
    """A pasted document as the first message is no task to be kept: above a quarter of the prompt it is folded."""
    chat = [SYSTEM, ask("Read this: " + "some text of a document, page 7. " * 80), say("Read."), *chat_of(3)[1:]]
    sent = run(World(budget_of(1000)).send(chat))

    assert sent.refusal is None
    assert b"Read this: some text" not in sent.raws[1].replace(b"- [1 user] ", b"")[:40]
    assert not any(raw == raw_messages(sent.body)[1] for raw in sent.raws)


def test_one_huge_result_is_cut_and_the_memory_kept() -> None:
    """A result larger than the budget is shortened, head and tail kept, and the brief still has its room."""
    messages = [*chat_of(8), call("a", "b"), result("a", "HEAD " + "x y " * 9000 + " TAIL"), result("b", "small")]
    sent = run(World(budget_of(2000)).send(messages))
    shown = sent.shown

    assert sent.receipt.level is Level.TRIMMED
    assert sent.receipt.brief is not None
    assert shown[-2]["content"].startswith("HEAD")
    assert shown[-2]["content"].endswith("TAIL")
    assert "characters left out" in shown[-2]["content"]
    assert shown[-1] == messages[-1]


def test_the_brief_does_not_repeat_what_is_pinned() -> None:
    """The first user message is forwarded beside the brief, so the brief spends no room on it, until it is folded."""
    task = "Migrate the invoices table to shard 4417 before 2026-02-01."
    loop = [ask(task)]
    for step in range(40):
        loop += [call("call_1"), result("call_1", f"row {step} copied to shard, checksum {step * 31337}\n" * 4)]
    world = World(budget_of(1200))
    sent = run(world.send(loop))
    later = run(world.send([*loop, say("done"), ask("y" * 1200), *chat_of(9, 300)[1:]]))

    assert "4417" not in sent.brief.body
    assert any(task in raw.decode() for raw in later.raws)


def test_a_long_chat_compacts_seldom_and_its_brief_stays_small() -> None:
    """Hundreds of turns: the brief is bounded, each compaction frees a tenth at least, most requests need none."""
    chat = chat_of(300, 200)
    world = World(budget_of(2000, completion=200))
    sent = [run(world.send(prefix)) for prefix in growing(chat)]
    new = [each for each in sent if each.receipt.is_new_brief]

    assert all(each.refusal is None for each in sent)
    assert len(new) * 4 < len(sent)
    assert all(each.brief.tokens <= 200 for each in new)
    assert all(each.receipt.prompt_tokens <= 0.9 * 1800 for each in new)


def test_small_room_still_leaves_some_turns_between_compactions() -> None:
    """Even where system messages take most of the budget, a compaction is not due at every turn."""
    chat = [{"role": "system", "content": "x" * 4 * 1200}, *chat_of(60, 100)[1:]]
    world = World(budget_of(2000, brief=400, recent=450))
    sent = [run(world.send(prefix)) for prefix in growing(chat)]
    new = [each for each in sent if each.receipt.is_new_brief]

    assert all(each.refusal is None for each in sent)
    assert len(new) * 3 < len(sent)


# Briefs that are there already


def test_an_undone_history_gets_no_brief_of_its_future() -> None:
    """A brief that covers messages which the client has taken back is not used, and none is made from it."""
    chat = chat_of(10)
    world = World(budget_of(1200), summarizer=FakeSummarizer())

    assert run(world.send(chat)).brief.covers > 10
    for end in range(2, len(chat)):
        for history in (chat[:end], [*chat[:end], ask("z" * 2400)]):
            sent = run(world.send(history))
            assert sent.receipt.brief is None or sent.brief.covers < len(foldable(history))


def test_a_request_with_less_room_uses_what_it_can() -> None:
    """Where the stored brief has no room, a smaller one is made for that request alone; the stored one stays."""
    chat = chat_of(20)
    world = World(budget_of(2400, brief=600), target_ratio=0.01)
    before = run(world.send(chat))
    tight = run(world.send(chat, max_tokens=2400 - 350))
    again = run(world.send(chat))

    assert before.receipt.prompt_tokens > 350
    assert tight.brief.tokens < before.brief.tokens
    assert world.recount(tight.forwarded) <= 350
    assert not tight.receipt.is_new_brief
    assert again.raws == before.raws


def test_what_was_pinned_when_it_was_folded_stays_until_the_next_fold() -> None:
    """A tool loop is folded behind its user message; that message stays in place when the next question comes."""
    loop = [SYSTEM, ask("First task."), say("Done."), ask("Now fix parser.py.")]
    for step in range(40):
        loop += [call("call_1"), result("call_1", f"output {step}: line {step * 31} of parser.py\n" * 6)]
    world = World(budget_of(1500))
    folded = run(world.send(loop))
    after = run(world.send([*loop, say("Fixed."), ask("Thanks. And lexer.py?")]))

    assert folded.brief.pinned == (1, 3)
    assert after.raws[:-2] == folded.raws


def test_a_brief_that_is_no_gain_is_left_alone() -> None:
    """Undone to a large question inside the fold, a chat that fits is smaller without the brief: it goes as it is."""
    large = [SYSTEM, ask("Q" * 2000)]
    for step in range(6):
        large += [call("call_1"), result("call_1", f"output {step}")]
    world = World(budget_of(1600, brief=400), target_ratio=0.01)
    folded = run(world.send([*large[:-2], ask("And now? " * 100)], max_tokens=800))
    undone = run(world.send(large))

    assert folded.brief.covers > 5
    assert folded.brief.tokens > 100
    assert undone.forwarded == undone.body


def test_past_the_soft_threshold_the_next_brief_is_made_ahead_of_need() -> None:
    """What still fits goes as it is; the overflow that comes finds its brief ready, and asks nobody."""
    summarizer = FakeSummarizer()
    world = World(budget_of(1400), summarizer=summarizer, soft_ratio=0.8)

    async def two_turns() -> tuple[Sent, int, Sent, Sent]:
        before = await world.send(chat_of(6))
        await world.tasks.drain(5)
        jobs = len(summarizer.jobs)
        over = await world.send(chat_of(7))
        return before, jobs, over, await world.send(chat_of(7))

    before, jobs, over, again = run(two_turns())

    assert before.forwarded == before.body
    assert (before.receipt.brief, jobs) == (None, 1)
    assert over.receipt.has_overflowed
    assert over.receipt.is_new_brief
    assert over.brief.level is Level.BRIEF
    assert len(summarizer.jobs) == 1
    assert again.forwarded == over.forwarded


def test_a_brief_made_ahead_is_not_made_twice() -> None:
    """While one waits, or is being made, further requests past the threshold make no other."""
    summarizer = StuckSummarizer()
    world = World(budget_of(1400), summarizer=summarizer, soft_ratio=0.5)

    async def turns() -> None:
        await world.send(chat_of(4))
        await world.send(chat_of(5))
        while not summarizer.jobs:
            await asyncio.sleep(0)
        summarizer.release.set()
        await world.tasks.drain(5)
        await world.send(chat_of(5))
        await world.tasks.drain(5)

    run(turns())

    assert len(summarizer.jobs) == 1


def test_an_edited_history_does_not_meet_a_brief_made_ahead() -> None:
    """It is keyed by what it covers, like any other."""
    world = World(budget_of(1400), summarizer=FakeSummarizer(), soft_ratio=0.5)
    edited = [*chat_of(7)[:1], ask("Something else entirely. " * 8), *chat_of(7)[2:]]

    async def turns() -> Sent:
        await world.send(chat_of(4))
        await world.tasks.drain(5)
        return await world.send(edited)

    sent = run(turns())

    assert sent.brief.covers > 0
    assert "Question 0" not in sent.brief.body


def test_clients_never_share() -> None:
    """Another client with the same history gets a brief of its own."""
    world = World(budget_of(1200), summarizer=FakeSummarizer())
    first, second = run(world.send(chat_of(10), b"one")), run(world.send(chat_of(10), b"two"))

    assert [first.receipt.is_new_brief, second.receipt.is_new_brief] == [True, True]
    assert len(world.store) == 2


def test_models_that_count_differently_do_not_share() -> None:
    """What a brief costs holds for one tokenizer, so a model with another one has briefs of its own."""
    world = World(budget_of(1200))
    run(world.send(chat_of(10)))
    world.model = "gpt-4"
    other = run(world.send(chat_of(10)))
    world.model = "gpt-4o-mini"
    same = run(world.send(chat_of(10)))

    assert [each.receipt.is_new_brief for each in (other, same)] == [True, False]


def test_a_time_stamp_in_the_system_prompt_changes_nothing() -> None:
    """System messages are no part of what keys a brief."""
    world = World(budget_of(1200))
    first = run(world.send(chat_of(10)))
    again = run(world.send([{"role": "system", "content": "It is 12:31."}, *chat_of(10)[1:]]))

    assert again.receipt.brief == first.receipt.brief
    assert not again.receipt.is_new_brief


def test_a_rewritten_but_equal_history_keeps_its_brief() -> None:
    """Key order, nulls, empty lists and a lone text part are no edits."""
    world = World(budget_of(1200))
    first = run(world.send(chat_of(10)))
    rewritten = [
        {"tool_calls": None, "content": [{"type": "text", "text": message["content"]}], "role": message["role"]}
        for message in chat_of(10)
    ]
    again = run(world.send(rewritten))

    assert again.receipt.brief == first.receipt.brief


def test_an_applied_brief_stays_although_the_request_would_fit() -> None:
    """A later request with a smaller completion would fit whole; the prefix that the provider has cached stays."""
    world = World(budget_of(3000))
    chat = chat_of(10)
    tight = run(world.send(chat, max_tokens=1200))
    roomy = run(world.send([*chat, say("ok"), ask("go on")], max_tokens=10))

    assert not roomy.receipt.has_overflowed
    assert roomy.raws[:-2] == tight.raws


# Summarisers


def test_a_written_brief_is_used_and_built_upon() -> None:
    """Each compaction hands the summariser the brief before and only the turns since."""
    summarizer = FakeSummarizer()
    world = World(budget_of(1200), summarizer=summarizer)
    chat = chat_of(30)
    sent = [run(world.send(prefix)) for prefix in growing(chat)]
    told = [[turn.number for turn in job.turns] for job in summarizer.jobs]

    assert {each.receipt.level for each in sent if each.receipt.brief} == {Level.BRIEF}
    assert len(told) > 2
    assert [number for numbers in told for number in numbers] == list(range(2, told[-1][-1] + 1))
    assert all(job.earlier is not None for job in summarizer.jobs[1:])


@pytest.mark.parametrize("answer", [nothing, failing], ids=["empty", "failing"])
def test_without_a_usable_summary_the_brief_is_extracted(answer: Callable[..., str]) -> None:
    """An empty answer or a bug in the summariser costs one rung, never the request."""
    sent = run(World(budget_of(1200), summarizer=FakeSummarizer(answer)).send(chat_of(10)))

    assert sent.refusal is None
    assert sent.receipt.level is Level.EXTRACTIVE


def test_of_a_summary_that_is_too_long_the_best_lines_stay() -> None:
    """A summariser that knows no measure does not break the budget."""
    world = World(budget_of(1200), summarizer=FakeSummarizer(too_long))
    sent = run(world.send(chat_of(10)))

    assert sent.receipt.level is Level.BRIEF
    assert 100 < sent.brief.tokens <= 200


def test_a_late_summary_is_adopted_at_the_next_compaction() -> None:
    """The extract that was applied stays until the next overflow; then the late summary is what is built upon."""

    async def live() -> tuple[Sent, Sent, Sent, StuckSummarizer]:
        summarizer = StuckSummarizer()
        world = World(budget_of(1200), summarizer=summarizer, deadline_s=0)
        first = await world.send(chat_of(8))
        summarizer.release.set()
        await world.tasks.drain(5)
        second = await world.send([*chat_of(8), say("ok"), ask("go on")])
        third = await world.send([*chat_of(8), say("ok"), *chat_of(16)[17:]])
        await world.tasks.drain(5)
        return first, second, third, summarizer

    first, second, third, summarizer = run(live())

    assert first.receipt.level is Level.EXTRACTIVE
    assert second.receipt.brief == first.receipt.brief
    assert third.receipt.is_new_brief
    assert summarizer.jobs[1].earlier is not None
    assert summarizer.jobs[1].earlier.level is Level.BRIEF


def test_fifty_at_once_fold_once() -> None:
    """Concurrent requests for one prefix share one fold and one call of the summariser."""

    async def live() -> tuple[list[Sent], FakeSummarizer]:
        summarizer = FakeSummarizer()
        world = World(budget_of(1200), summarizer=summarizer)
        sent = await asyncio.gather(*(world.send(chat_of(10)) for _ in range(50)))
        return list(sent), summarizer

    sent, summarizer = run(live())

    assert len(summarizer.jobs) == 1
    assert len({each.forwarded for each in sent}) == 1
    assert sum(each.receipt.is_new_brief for each in sent) == 1


def test_a_client_that_leaves_takes_nobody_with_it() -> None:
    """Whoever asked first may hang up: the others still get the brief that was begun for it."""

    async def live() -> tuple[list[Any], StuckSummarizer]:
        summarizer = StuckSummarizer()
        world = World(budget_of(1200), summarizer=summarizer)
        requests = [asyncio.ensure_future(world.send(chat_of(10))) for _ in range(5)]
        while not summarizer.jobs:
            await asyncio.sleep(0)
        requests[0].cancel()
        await asyncio.wait(requests[:1])
        summarizer.release.set()
        return await asyncio.gather(*requests, return_exceptions=True), summarizer

    (first, *others), summarizer = run(live())

    assert isinstance(first, asyncio.CancelledError)
    assert [sent.receipt.level for sent in others] == [Level.BRIEF] * 4
    assert len(summarizer.jobs) == 1


def test_keys_of_briefs_differ_between_scopes() -> None:
    """The chain starts from the scope, so the same messages have other keys elsewhere."""
    count = run(World(budget_of(5000)).send(chat_of(3))).exchange.count
    assert count is not None
    one, two = chain_digests(b"one", count.facts), chain_digests(b"two", count.facts)

    assert not set(one) & set(two)
    assert len(set(one)) == len(one) == len(foldable(chat_of(3))) + 1


def test_the_time_that_assemble_takes() -> None:
    """Printed, not asserted: 400 messages that fit, the same with a brief applied, and the making of one."""

    async def timed(world: World, messages: Sequence[Message], times: int) -> float:
        exchange = (await world.send(messages)).exchange
        spent = 0.0
        for _ in range(times):
            exchange.prompt = exchange.receipt = None
            started = time.perf_counter()
            await world.stages[1](exchange)
            spent += time.perf_counter() - started
        return spent / times * 1e3

    chat = chat_of(200)
    roomy, tight = World(budget_of(10**6)), World(budget_of(7000, brief=1200, recent=450))
    fits, applied = run(timed(roomy, chat, 200)), run(timed(tight, chat, 50))
    print(f"\nassemble, {len(chat)} messages: fits {fits:.4f} ms, brief applied {applied:.2f} ms")

    assert fits < applied


@pytest.mark.parametrize("soft", [1.0, 0.7])
def test_what_an_upstream_bills_more_for_gets_less(soft: float) -> None:
    """A learned correction and its margin narrow the budget: what is billed fits, and refusals name billed tokens."""
    dearer = Correction(ratio_millionths=1_500_000, fixed_tokens=40, margin_millionths=100_000)
    world = World(budget_of(1600), soft_ratio=soft, calibrations=FixedCorrection(dearer))
    sent = run(world.send(chat_of(7)))
    unfit = run(world.send([SYSTEM, ask("x" * 6000)]))

    assert sent.receipt.has_overflowed
    assert sent.receipt.client_tokens < 1600
    assert 1.6 * world.recount(sent.forwarded) + 40 <= 1600
    assert sent.receipt.billed_tokens == math.ceil(1.5 * sent.receipt.prompt_tokens) + 40
    assert sent.receipt.remaining_tokens == 1600 - sent.receipt.billed_tokens
    assert unfit.refusal is not None
    assert str(math.ceil(1.6 * unfit.receipt.client_tokens) + 40) in unfit.refusal.message
