"""What compaction promises, tried on generated histories that grow, branch and are rewritten.

The first six tests are the invariants of the design's section on compaction, in its order.
"""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.context.brief import Level, render_brief
from gateway.core.context.budget import OnUnfittable
from gateway.core.context.facts import chain_digests
from gateway.core.context.render import turn_of
from gateway.core.routing.routes import Roles
from gateway.core.tokens.profiles import CL100K, O200K
from gateway.core.wire.request import Endpoint
from gateway.shell.tokens.counter import TiktokenCounter
from tests.histories import (
    PROFILE,
    FakeSummarizer,
    Message,
    Sent,
    StuckSummarizer,
    World,
    any_turns,
    body_of,
    budget_of,
    budgets,
    cost_of,
    failing,
    foldable,
    growing,
    is_valid,
    least_tokens,
    lumpy,
    nothing,
    per_four_chars,
    per_word,
    raw_messages,
    sessions,
    too_long,
    valid_turns,
)

T = TypeVar("T")
many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
rules = st.sampled_from([per_four_chars, per_word, lumpy])
answers = st.sampled_from([None, None, None, nothing, too_long, failing])


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def send_all(world: World, session: Sequence[Sequence[Message]]) -> list[Sent]:
    return [await world.send(messages, tools=TOOLS) for messages in session]


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
FIXED = PROFILE.priming_tokens


def fixed_tokens(world: World) -> int:
    return world.recount(body_of([], tools=TOOLS))


def summarizers(answer: Callable[..., str] | None, is_asked: bool) -> FakeSummarizer | None:
    return FakeSummarizer(answer) if is_asked else None


worlds = st.builds(
    lambda budget, rule, answer, is_asked, ratio: World(
        budget, rule=rule, summarizer=summarizers(answer, is_asked), target_ratio=ratio
    ),
    budgets,
    rules,
    answers,
    st.booleans(),
    st.sampled_from([0.3, 0.5, 0.9]),
)


# The invariants


@many
@given(session=sessions(), world=worlds, is_strict=st.booleans())
def test_1_what_is_forwarded_fits_or_is_refused_with_numbers(
    session: list[list[Message]], world: World, is_strict: bool
) -> None:
    """The forwarded bytes, counted from nothing, fit the budget; else 400 says by how much they cannot."""
    if is_strict:  # joining texts must not make them dearer, as no tokenizer does
        world = replace(world, roles=Roles.STRICT, rule=per_four_chars)
    for sent in run(send_all(world, session)):
        assert sent.receipt is not None
        limit = sent.receipt.budget.max_total_tokens - sent.receipt.completion_tokens
        if sent.refusal is None:
            assert world.recount(sent.forwarded) <= limit
            assert is_strict or world.recount(sent.forwarded) == sent.receipt.prompt_tokens
            continue
        refusal = sent.refusal
        found = re.search(r"needs (\d+) tokens \((\d+) in the prompt, (\d+) .* max_total is (\d+)", refusal.message)
        assert (refusal.status, refusal.code) == (400, "context_length_exceeded")
        assert found is not None
        needed, prompt, completion, max_total = map(int, found.groups())
        assert needed == prompt + completion > max_total == sent.receipt.budget.max_total_tokens


@many
@given(session=sessions(valid_turns), world=worlds, is_strict=st.booleans())
def test_2_valid_histories_stay_valid(session: list[list[Message]], world: World, is_strict: bool) -> None:
    """Every result follows its call and every call has its results; strict templates get the sequence they take."""
    if is_strict:
        world = replace(world, roles=Roles.STRICT)
    for sent in run(send_all(world, session)):
        if sent.refusal is not None:
            continue
        before, after = list(sent.messages), json.loads(sent.forwarded)["messages"]
        assert is_valid(before)
        assert is_valid(after)
        assert not is_strict or has_users_in_a_row(before) or not has_users_in_a_row(after)
        assert not is_strict or has_late_system(before) or not has_late_system(after)


def has_users_in_a_row(messages: Sequence[Message]) -> bool:
    pairs = zip(messages, messages[1:], strict=False)
    return any(first["role"] == second["role"] == "user" for first, second in pairs)


def has_late_system(messages: Sequence[Message]) -> bool:
    is_system = [message["role"] in ("system", "developer") for message in messages]
    return any(late and not early for early, late in zip(is_system, is_system[1:], strict=False))


@many
@given(session=sessions(), world=worlds, is_strict=st.booleans())
def test_3_what_is_pinned_is_verbatim(session: list[list[Message]], world: World, is_strict: bool) -> None:
    """System and developer messages, the last user message and all that was not folded keep their bytes, in order."""
    if is_strict:
        world = replace(world, roles=Roles.STRICT)
    for sent in run(send_all(world, session)):
        if sent.refusal is not None or sent.exchange.prompt is None:
            assert sent.forwarded == sent.body
            continue
        raws, before = sent.raws, raw_messages(sent.body)
        assert_rest_unchanged(sent)
        assert_ledger_quotes(sent)
        system = [raw for raw, message in zip(before, sent.messages, strict=True) if message not in foldable([message])]
        last_user = [raw for raw, message in zip(before, sent.messages, strict=True) if message["role"] == "user"][-1:]
        assert is_subsequence(system, raws)
        if is_strict:
            assert all(any(text in joined for joined in user_texts(raws)) for text in user_texts(last_user))
        else:
            assert is_subsequence(last_user, raws)
            assert_only_known_changes(sent)


def is_subsequence(few: Sequence[bytes], many_more: Sequence[bytes]) -> bool:
    rest = iter(many_more)
    return all(any(one == other for other in rest) for one in few)


def user_texts(raws: Sequence[bytes]) -> list[str]:
    found = []
    for message in map(json.loads, raws):
        if message["role"] == "user":
            content = message["content"]
            texts = [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
            found += [text for text in texts if text]
    return found


def assert_rest_unchanged(sent: Sent) -> None:
    start, end = sent.body.index(b"[", sent.body.index(b'"messages"')), sent.body.rindex(b', "temperature"')
    assert sent.forwarded.startswith(sent.body[:start])
    assert sent.forwarded.endswith(sent.body[end:])


def assert_ledger_quotes(sent: Sent) -> None:
    assert sent.receipt is not None
    numbered = foldable(sent.messages)
    for quote in sent.receipt.brief.ledger if sent.receipt.brief else ():
        said = numbered[quote.turn - 1]
        assert said["role"] == "user"
        assert quote.text in turn_of(quote.turn, said).text


def assert_only_known_changes(sent: Sent) -> None:
    """Beside the client's own messages, in order, there are one brief and shortened tool results."""
    assert sent.receipt is not None
    brief = sent.receipt.brief
    text = render_brief(brief.covers, brief.ledger, brief.body) if brief else None
    others = [raw for raw in sent.raws if text is None or json.loads(raw) != {"role": "user", "content": text}]
    assert len(sent.raws) - len(others) == (brief is not None)
    rest = iter(raw_messages(sent.body))
    for raw in others:
        if raw.startswith(b'{"role":"tool"') or raw.startswith(b'{"role":"function"'):  # encoded by us: shortened
            shortened = json.loads(raw)
            fields = {key: value for key, value in shortened.items() if key != "content"}
            assert any(fields.items() <= json.loads(other).items() for other in rest)
            assert sent.receipt.level is Level.TRIMMED
        else:
            assert any(raw == other for other in rest)


@many
@given(session=sessions(), world=worlds)
def test_4_nothing_grows(session: list[list[Message]], world: World) -> None:
    """What is forwarded never costs more than what the client sent, and what fits is never refused."""
    for sent in run(send_all(world, session)):
        assert sent.receipt is not None
        client_tokens = world.recount(sent.body)
        limit = sent.receipt.budget.max_total_tokens - sent.receipt.completion_tokens
        assert sent.receipt.client_tokens == client_tokens
        assert world.recount(sent.forwarded) <= client_tokens
        assert sent.refusal is None or client_tokens > limit
        assert sum(sent.receipt.sections.values()) == sent.receipt.prompt_tokens


@many
@given(session=sessions(), world=worlds, is_strict=st.booleans())
def test_5_the_same_in_gives_the_same_out(session: list[list[Message]], world: World, is_strict: bool) -> None:
    """Run twice, every request is forwarded as the same bytes; between compactions the prompt's prefix only grows."""
    world = replace(world, roles=Roles.STRICT if is_strict else Roles.OPEN)
    first, second = run(send_all(world, session)), run(send_all(replace(world), session))

    assert [(sent.forwarded, str(sent.refusal)) for sent in first] == [
        (sent.forwarded, str(sent.refusal)) for sent in second
    ]
    for sent in first:
        follow_up(world, sent, is_strict=is_strict)


def follow_up(world: World, sent: Sent, *, is_strict: bool) -> None:
    """An answer and one more question, where they fit, come after exactly what was forwarded before."""
    assert sent.receipt is not None
    brief = sent.receipt.brief
    last_user = max((n for n, m in enumerate(foldable(sent.messages), 1) if m["role"] == "user"), default=0)
    is_applied = brief is not None and brief in [kept for _, kept in world.store._applied.values()]
    if brief is None or not is_applied or sent.receipt.level is Level.TRIMMED:
        return
    if last_user <= brief.covers and last_user not in brief.pinned:
        return  # undone into the middle of what is folded: the last user message stays only as long as it is the last
    more: list[Message] = [{"role": "assistant", "content": "ok"}, {"role": "user", "content": "go on"}]
    if sent.messages[-1].get("tool_calls"):
        return
    room = sent.receipt.budget.max_total_tokens - sent.receipt.completion_tokens - sent.receipt.prompt_tokens
    if room < sum(cost_of(message, world.rule) for message in more):
        return
    after = run(world.send([*sent.messages, *more], tools=TOOLS))
    assert after.receipt is not None
    deeper = after.receipt.brief is not None and after.receipt.brief.covers > brief.covers
    if deeper:
        return  # another branch of this session had folded further
    assert after.raws == [*sent.raws, *raw_messages(after.body)[-2:]]


@many
@given(session=sessions(), other=sessions(), world=worlds)
def test_6_a_brief_covers_what_it_is_keyed_by(
    session: list[list[Message]], other: list[list[Message]], world: World
) -> None:
    """All that a brief tells stands in the messages of this very request that it covers, however often it was edited."""
    for mine, others in zip(session, other, strict=False):
        for messages, client in ((mine, b"me"), (others, b"you"), (mine, b"you")):
            assert_brief_tells_of(run(world.send(messages, client)))


def assert_brief_tells_of(sent: Sent) -> None:
    assert sent.receipt is not None
    brief = sent.receipt.brief
    if brief is None or sent.refusal is not None:
        return
    numbered = [turn_of(number, message) for number, message in enumerate(foldable(sent.messages), 1)]
    covered = {turn.number: turn for turn in numbered[: brief.covers]}
    assert len(covered) == brief.covers < len(numbered)
    for line in brief.body.splitlines():
        if told := re.fullmatch(r"(?:- \[\d+ assistant\] )?told (\d+):(\d+)", line):
            assert zlib.crc32(covered[int(told[1])].text.encode()) == int(told[2])
        elif anchored := re.match(r"- \[(\d+) (\w+)\] ", line):
            turn = covered[int(anchored[1])]
            assert turn.role == anchored[2]
            assert line[anchored.end() :] in turn.text
        else:
            assert "a summary that knows no measure" in line


# Refusals


@many
@given(session=sessions(), world=worlds)
def test_only_what_cannot_be_folded_is_refused(session: list[list[Message]], world: World) -> None:
    """Refused exactly where system messages, tools, the last user message and the newest unit do not fit on their own."""
    fixed = fixed_tokens(world)
    for sent in run(send_all(world, session)):
        assert sent.receipt is not None
        least = least_tokens(sent.messages, world.rule, fixed)
        limit = sent.receipt.budget.max_total_tokens - sent.receipt.completion_tokens
        client_tokens = world.recount(sent.body)

        assert (sent.refusal is not None) == (least > limit and client_tokens > limit)


@many
@given(session=sessions(), world=worlds)
def test_results_are_trimmed_only_where_the_pinned_leave_no_room(session: list[list[Message]], world: World) -> None:
    """A tool result is shortened only where what may not be folded, with the smallest brief, does not fit."""
    for sent in run(send_all(world, session)):
        assert sent.receipt is not None
        if sent.refusal is not None or sent.receipt.level is not Level.TRIMMED:
            continue
        own = raw_messages(sent.body)
        shortened = [raw for raw in sent.raws if raw not in own and not raw.startswith(b'{"role":"user"')]
        if shortened:
            uncut = sum(cost_of(json.loads(raw), world.rule) for raw in sent.raws if raw in own)
            assert sent.receipt.prompt_tokens <= sent.receipt.client_tokens
            assert uncut < sent.receipt.budget.max_total_tokens - sent.receipt.completion_tokens
            assert len(shortened) <= len(
                [message for message in sent.messages if message["role"] in ("tool", "function")]
            )


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
    assert folded.receipt is not None
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


def test_other_endpoints_are_counted_and_never_rewritten() -> None:
    """A legacy completion above the budget is refused; an embedding never is."""
    world = World(budget_of(1000))

    async def send(endpoint: Endpoint, body: bytes) -> Any:
        from gateway.core.errors import Refusal
        from gateway.core.wire.request import parse_metered
        from tests.histories import exchange_of

        exchange = exchange_of(body_of([ask("x")]), b"c", Roles.OPEN)
        exchange.endpoint, exchange.request = endpoint, parse_metered(endpoint, body)
        try:
            for stage in world.stages:
                await stage(exchange)
        except Refusal as refusal:
            return refusal.code
        return exchange.prompt

    text = "x" * 9000
    assert (
        run(send(Endpoint.COMPLETIONS, json.dumps({"model": "m", "prompt": text}).encode()))
        == "context_length_exceeded"
    )
    assert run(send(Endpoint.COMPLETIONS, json.dumps({"model": "m", "prompt": "short"}).encode())) is None
    assert run(send(Endpoint.EMBEDDINGS, json.dumps({"model": "m", "input": text}).encode())) is None


# What a request looks like after folding


def test_the_brief_stands_where_the_folded_messages_stood() -> None:
    """System messages, the first user message, the brief, recent turns, the last user message."""
    sent = run(World(budget_of(1200)).send(chat_of(10)))
    messages = [json.loads(raw) for raw in sent.raws]

    assert messages[:2] == chat_of(10)[:2]
    assert messages[2]["content"].startswith("<running_brief>\nRecord of the first ")
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
    shown = [json.loads(raw) for raw in sent.raws]
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
    shown = [json.loads(raw) for raw in sent.raws]

    assert sent.receipt is not None
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

    assert sent.receipt is not None and sent.receipt.brief is not None
    assert "4417" not in sent.receipt.brief.body
    assert later.receipt is not None and later.receipt.brief is not None
    assert any(task in raw.decode() for raw in later.raws)


def test_a_long_chat_compacts_seldom_and_its_brief_stays_small() -> None:
    """Hundreds of turns: the brief is bounded, each compaction frees a tenth at least, most requests need none."""
    chat = chat_of(300, 200)
    world = World(budget_of(2000, completion=200))
    sent = [run(world.send(prefix)) for prefix in growing(chat)]
    new = [each for each in sent if each.receipt and each.receipt.is_new_brief]

    assert all(each.refusal is None for each in sent)
    assert len(new) * 4 < len(sent)
    assert all(each.receipt.brief.tokens <= 200 for each in new if each.receipt and each.receipt.brief)
    assert all(each.receipt.prompt_tokens <= 0.9 * 1800 for each in new if each.receipt)


def test_small_room_still_leaves_some_turns_between_compactions() -> None:
    """Even where system messages take most of the budget, a compaction is not due at every turn."""
    chat = [{"role": "system", "content": "x" * 4 * 1200}, *chat_of(60, 100)[1:]]
    world = World(budget_of(2000, brief=400, recent=450))
    sent = [run(world.send(prefix)) for prefix in growing(chat)]
    new = [each for each in sent if each.receipt and each.receipt.is_new_brief]

    assert all(each.refusal is None for each in sent)
    assert len(new) * 3 < len(sent)


# Briefs that are there already


def test_an_undone_history_gets_no_brief_of_its_future() -> None:
    """A brief that covers messages which the client has taken back is not used, and none is made from it."""
    chat = chat_of(10)
    world = World(budget_of(1200), summarizer=FakeSummarizer())
    whole = run(world.send(chat))
    assert whole.receipt is not None and whole.receipt.brief is not None
    for end in range(2, len(chat)):
        assert_brief_tells_of(run(world.send(chat[:end])))
        assert_brief_tells_of(run(world.send([*chat[:end], ask("z" * 2400)])))


def test_a_request_with_less_room_uses_what_it_can() -> None:
    """A brief larger than a request has room for is made smaller for that request; the stored one stays."""
    chat = chat_of(10)
    world = World(budget_of(2400, brief=600))
    before = run(world.send(chat))
    tight = run(world.send(chat, max_tokens=2400 - 260))
    after = run(world.send([*chat, say("ok"), ask("go on")]))

    assert before.receipt is not None and before.receipt.brief is not None and before.receipt.brief.tokens > 260
    assert tight.refusal is None
    assert world.recount(tight.forwarded) <= 260
    assert after.refusal is None


def test_clients_never_share() -> None:
    """Another client with the same history gets a brief of its own."""
    world = World(budget_of(1200), summarizer=FakeSummarizer())
    first, second = run(world.send(chat_of(10), b"one")), run(world.send(chat_of(10), b"two"))

    assert first.receipt is not None and second.receipt is not None
    assert first.receipt.is_new_brief and second.receipt.is_new_brief
    assert len(world.store) == 2


def test_models_that_count_differently_do_not_share() -> None:
    """What a brief costs holds for one tokenizer, so a model with another one has briefs of its own."""
    world = World(budget_of(1200))
    run(world.send(chat_of(10)))
    world.model = "gpt-4"
    other = run(world.send(chat_of(10)))
    world.model = "gpt-4o-mini"
    same = run(world.send(chat_of(10)))

    assert [each.receipt.is_new_brief for each in (other, same) if each.receipt] == [True, False]
    assert (CL100K, O200K) == ("cl100k_base", "o200k_base")


def test_a_time_stamp_in_the_system_prompt_changes_nothing() -> None:
    """System messages are no part of what keys a brief."""
    world = World(budget_of(1200))
    first = run(world.send(chat_of(10)))
    again = run(world.send([{"role": "system", "content": "It is 12:31."}, *chat_of(10)[1:]]))

    assert first.receipt is not None and again.receipt is not None
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

    assert first.receipt is not None and again.receipt is not None
    assert again.receipt.brief == first.receipt.brief


def test_an_applied_brief_stays_although_the_request_would_fit() -> None:
    """A later request with a smaller completion would fit whole; the prefix that the provider has cached stays."""
    world = World(budget_of(3000))
    chat = chat_of(10)
    tight = run(world.send(chat, max_tokens=1200))
    roomy = run(world.send([*chat, say("ok"), ask("go on")], max_tokens=10))

    assert tight.receipt is not None and roomy.receipt is not None
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

    assert {each.receipt.level for each in sent if each.receipt and each.receipt.brief} == {Level.BRIEF}
    assert len(told) > 2
    assert [number for numbers in told for number in numbers] == list(range(2, told[-1][-1] + 1))
    assert all(job.earlier is not None for job in summarizer.jobs[1:])


@pytest.mark.parametrize("answer", [nothing, failing], ids=["empty", "failing"])
def test_without_a_usable_summary_the_brief_is_extracted(answer: Callable[..., str]) -> None:
    """An empty answer or a bug in the summariser costs one rung, never the request."""
    sent = run(World(budget_of(1200), summarizer=FakeSummarizer(answer)).send(chat_of(10)))

    assert sent.refusal is None
    assert sent.receipt is not None
    assert sent.receipt.level is Level.EXTRACTIVE


def test_of_a_summary_that_is_too_long_the_best_lines_stay() -> None:
    """A summariser that knows no measure does not break the budget."""
    world = World(budget_of(1200), summarizer=FakeSummarizer(too_long))
    sent = run(world.send(chat_of(10)))

    assert sent.receipt is not None and sent.receipt.brief is not None
    assert sent.receipt.level is Level.BRIEF
    assert 100 < sent.receipt.brief.tokens <= 200


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

    assert first.receipt is not None and second.receipt is not None and third.receipt is not None
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
    assert sum(each.receipt.is_new_brief for each in sent if each.receipt) == 1


# The real tokenizer


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(session=sessions(any_turns), budget=budgets, is_strict=st.booleans())
def test_it_fits_by_the_real_tokenizer_too(session: list[list[Message]], budget: Any, is_strict: bool) -> None:
    """The same promise with a tokenizer whose counts do not simply add up, for both kinds of templates."""
    world = World(budget, roles=Roles.STRICT if is_strict else Roles.OPEN).use(REAL)
    for sent in run(send_all(world, session)):
        assert sent.receipt is not None
        limit = sent.receipt.budget.max_total_tokens - sent.receipt.completion_tokens
        assert sent.refusal is not None or world.recount(sent.forwarded) <= limit
        assert world.recount(sent.forwarded) <= world.recount(sent.body)


REAL = TiktokenCounter(1.3)


def test_keys_of_briefs_are_never_reused_between_scopes() -> None:
    """The chain starts from the scope, so the same messages have other keys elsewhere."""
    facts = run(World(budget_of(5000)).send(chat_of(3))).exchange.count
    assert facts is not None
    one, two = chain_digests(b"one", facts.facts), chain_digests(b"two", facts.facts)

    assert not set(one) & set(two)
    assert len(set(one)) == len(one) == len(foldable(chat_of(3))) + 1
