"""The design's invariants of compaction, tried on generated histories that grow, branch and are rewritten.

The first six tests are numbered as the design numbers them. What is true of a history is found without the code under
test; what was forwarded is counted again from its bytes.
"""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.context.brief import Level, render_brief
from gateway.core.context.budget import Budget
from gateway.core.context.render import turn_of
from gateway.core.routing.routes import Roles
from gateway.core.tokens.weight import PINNED_ROLES
from gateway.shell.tokens.counter import TiktokenCounter
from tests.histories import (
    FakeSummarizer,
    Message,
    Sent,
    World,
    budgets,
    called,
    cost_of,
    costs_of,
    failing,
    foldable,
    is_valid,
    least_tokens,
    lumpy,
    newest_start,
    nothing,
    per_four_chars,
    per_word,
    raw_messages,
    sessions,
    texts,
    told_turns,
    too_long,
)

T = TypeVar("T")
many = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
LOOP = asyncio.new_event_loop()
REAL = TiktokenCounter(1.3)


def run(work: Coroutine[Any, Any, T]) -> T:
    return LOOP.run_until_complete(work)


def send_all(world: World, session: Sequence[Sequence[Message]]) -> list[Sent]:
    return [run(world.send(messages, tools=TOOLS)) for messages in session]


def _world(
    budget: Budget, rule: Callable[[str], int], answer: Callable[..., str] | None, ratio: float, soft: float
) -> World:
    summarizer = FakeSummarizer(answer) if answer else None
    return World(budget, rule=rule, summarizer=summarizer, target_ratio=ratio, soft_ratio=soft)


rules = st.sampled_from([per_four_chars, per_word, lumpy])
answers = st.sampled_from([None, None, told_turns, told_turns, nothing, too_long, failing])
worlds = st.builds(_world, budgets, rules, answers, st.sampled_from([0.3, 0.5, 0.9]), st.sampled_from([0.7, 1.0]))
strict_or_open = st.sampled_from([Roles.OPEN, Roles.STRICT])


@many
@given(session=sessions(), world=worlds, roles=strict_or_open)
def test_1_what_is_forwarded_fits_or_is_refused_with_numbers(
    session: list[list[Message]], world: World, roles: Roles
) -> None:
    """The forwarded bytes, counted from nothing, fit the budget; else 400 says by how much they cannot."""
    if roles is Roles.STRICT:  # texts joined must not be dearer than apart, as with no tokenizer they are
        world = replace(world, roles=roles, rule=per_four_chars)
    for sent in send_all(world, session):
        if sent.refusal is None:
            slack = JOINT_TOKENS if has_moved_up(sent) else 0
            tokens = world.recount(sent.forwarded)
            assert tokens <= sent.limit + slack
            assert roles is Roles.STRICT or abs(tokens - sent.receipt.prompt_tokens) <= slack
        else:
            assert_numbers(sent)


JOINT_TOKENS = 9
"""What joining tools to a system message may change, with the lumpiest tokenizer; with a real one it saves 3 or 4."""


def has_moved_up(sent: Sent) -> bool:
    """Whether a system message from the middle is the first now, so that the tools are joined to it."""
    return first_role(sent.body) not in PINNED_ROLES and first_role(sent.forwarded) in PINNED_ROLES


def first_role(body: bytes) -> str:
    return str(json.loads(body)["messages"][0]["role"])


def assert_numbers(sent: Sent) -> None:
    assert sent.refusal is not None
    assert (sent.refusal.status, sent.refusal.code) == (400, "context_length_exceeded")
    found = re.search(r"needs (\d+) tokens \((\d+) in the prompt, (\d+) .* max_total is (\d+)", sent.refusal.message)
    assert found is not None
    needed, prompt, completion, max_total = map(int, found.groups())
    assert needed == prompt + completion > max_total == sent.receipt.budget.max_total_tokens
    assert f"Of the {sent.receipt.client_tokens} prompt tokens sent, {prompt} can" in sent.refusal.message
    assert f"{prompt - sent.limit} too many" in sent.refusal.message


@many
@given(session=sessions(must_be_valid=True), world=worlds, roles=strict_or_open)
def test_2_valid_histories_stay_valid(session: list[list[Message]], world: World, roles: Roles) -> None:
    """Every result follows its call and every call has its results; strict templates get the sequence they take."""
    for sent in send_all(replace(world, roles=roles), session):
        before, after = sent.messages, sent.shown
        assert is_valid(before)
        assert is_valid(after)
        if roles is Roles.STRICT:
            assert has_users_in_a_row(before) or not has_users_in_a_row(after)
            assert has_late_system(before) or not has_late_system(after)


def has_users_in_a_row(messages: Sequence[Message]) -> bool:
    return any(first["role"] == second["role"] == "user" for first, second in pairwise(messages))


def has_late_system(messages: Sequence[Message]) -> bool:
    is_system = [message["role"] in ("system", "developer") for message in messages]
    return any(late and not early for early, late in pairwise(is_system))


@many
@given(session=sessions(), world=worlds, roles=strict_or_open)
def test_3_what_is_pinned_is_verbatim(session: list[list[Message]], world: World, roles: Roles) -> None:
    """System and developer messages, the last user message and all that was not folded keep their bytes, in order."""
    for sent in send_all(replace(world, roles=roles), session):
        if sent.exchange.prompt is None:
            assert sent.forwarded == sent.body
            continue
        pairs = list(zip(raw_messages(sent.body), sent.messages, strict=True))
        system = [raw for raw, message in pairs if not foldable([message])]
        last_user = [raw for raw, message in pairs if message["role"] == "user"][-1:]

        assert_rest_unchanged(sent)
        assert_quotes_are_the_users(sent)
        assert is_subsequence(system, sent.raws)
        if roles is Roles.STRICT:
            assert all(any(text in joined for joined in user_texts(sent.raws)) for text in user_texts(last_user))
        else:
            assert is_subsequence(last_user, sent.raws)
            assert_only_known_changes(sent)


def is_subsequence(few: Sequence[bytes], many_more: Sequence[bytes]) -> bool:
    rest = iter(many_more)
    return all(any(one == other for other in rest) for one in few)


def user_texts(raws: Sequence[bytes]) -> list[str]:
    contents = [message["content"] for message in map(json.loads, raws) if message["role"] == "user"]
    texts = [[text] if isinstance(text, str) else [part.get("text", "") for part in text] for text in contents]
    return [text for each in texts for text in each if text]


def assert_rest_unchanged(sent: Sent) -> None:
    """Every byte outside the messages is the client's."""
    start, end = sent.body.index(b"[", sent.body.index(b'"messages"')), sent.body.rindex(b', "temperature"')
    assert sent.forwarded.startswith(sent.body[:start])
    assert sent.forwarded.endswith(sent.body[end:])


def assert_quotes_are_the_users(sent: Sent) -> None:
    """Every quote of the ledger stands, letter for letter, in the user message that it names."""
    numbered = foldable(sent.messages)
    for quote in sent.receipt.brief.ledger if sent.receipt.brief else ():
        said = numbered[quote.turn - 1]
        assert said["role"] == "user"
        assert quote.text in turn_of(quote.turn, said).text


def assert_only_known_changes(sent: Sent) -> None:
    """Beside the client's own messages, in order, there are a brief, recalled text, and messages made shorter."""
    brief, recalled = sent.receipt.brief, sent.receipt.recalled
    added = [render_brief(brief.segments)] if brief else []
    added += [recalled.text] if recalled else []
    others = [raw for raw in sent.raws if json.loads(raw) not in [{"role": "user", "content": text} for text in added]]
    assert len(sent.raws) - len(others) == len(added)
    rest = raw_messages(sent.body)
    shortened = 0
    for raw in others:
        if raw in rest:
            rest = rest[rest.index(raw) + 1 :]
            continue
        own = next(place for place, other in enumerate(rest) if is_shorter(json.loads(raw), json.loads(other)))
        rest = rest[own + 1 :]
        shortened += 1
    assert shortened == sent.receipt.shortened_messages
    assert not shortened or sent.receipt.level is not Level.NONE


def is_shorter(after: Message, before: Message) -> bool:
    """Whether one may be the other made shorter: same role, ids and names, and of what users said the same texts."""
    if without_texts(after) != without_texts(before) or after == before:
        return False
    if before["role"] == "user":  # a picture's line may be longer than its address, and costs less
        if isinstance(before["content"], str):
            return False
        texts = [part["text"] for part in before["content"] if part["type"] == "text"]
        return all(part["type"] == "text" for part in after["content"]) and set(texts) <= {
            part["text"] for part in after["content"]
        }
    if len(json.dumps(after)) >= len(json.dumps(before)):
        return False
    arguments = [call["function"]["arguments"] for call in after.get("tool_calls") or ()]
    return before["role"] not in PINNED_ROLES and all(isinstance(json.loads(text), dict) for text in arguments)


def without_texts(message: Message) -> Message:
    calls = [
        {**call, "function": {**call["function"], "arguments": ""}} if "function" in call else call
        for call in message.get("tool_calls") or ()
    ]
    return {**message, "content": "", "tool_calls": calls, "function_call": None}


@many
@given(session=sessions(), world=worlds)
def test_4_nothing_grows_and_what_fits_is_served(session: list[list[Message]], world: World) -> None:
    """What is forwarded never costs more than what the client sent, and what fits is never refused."""
    for sent in send_all(world, session):
        client_tokens = world.recount(sent.body)
        assert sent.receipt.client_tokens == client_tokens
        assert world.recount(sent.forwarded) <= client_tokens + (JOINT_TOKENS if has_moved_up(sent) else 0)
        assert sent.refusal is None or client_tokens > sent.limit
        assert sum(sent.receipt.sections.values()) == sent.receipt.prompt_tokens


@many
@given(session=sessions(), world=worlds, roles=strict_or_open)
def test_5_same_in_same_out_and_prefixes_only_grow(session: list[list[Message]], world: World, roles: Roles) -> None:
    """Run twice, every request goes out as the same bytes; between compactions the prompt's prefix only grows."""
    world = replace(world, roles=roles)
    first, second = send_all(world, session), send_all(replace(world), session)

    assert [(sent.forwarded, str(sent.refusal)) for sent in first] == [
        (sent.forwarded, str(sent.refusal)) for sent in second
    ]
    for sent in first:
        assert_next_only_grows(world, sent)


MORE: list[Message] = [{"role": "assistant", "content": "ok"}, {"role": "user", "content": "go on"}]


def assert_next_only_grows(world: World, sent: Sent) -> None:
    """An answer and one more question stand after exactly what was forwarded before, less what was recalled."""
    brief = sent.receipt.brief
    stored = [entry.applied for entry in world.store._entries.values()]
    if brief is None or brief not in stored or sent.receipt.level is Level.TRIMMED:
        return
    users = [number for number, message in enumerate(foldable(sent.messages), 1) if message["role"] == "user"]
    is_undone = any(number <= brief.covers and number not in brief.pinned for number in users[-1:])
    if is_undone:  # into the middle of what is folded: the last user message stays as long as it is the last
        return
    stable = sent.receipt.prompt_tokens - sent.receipt.sections["recalled"]
    if sent.limit - stable < sum(cost_of(message, world.rule) for message in MORE):
        return
    after = run(world.send([*sent.messages, *MORE], tools=TOOLS))
    if after.receipt.is_fresh and world.budget.retrieved_tokens:  # recent turns had left too little for recall
        return
    if world.roles is Roles.STRICT and (sent.receipt.recalled or after.receipt.recalled):  # joined to a user's message
        return
    has_folded_further = after.brief.covers > brief.covers  # on another branch that begins in the same way

    assert has_folded_further or stable_raws(after) == [*stable_raws(sent), *raw_messages(after.body)[-2:]]


def stable_raws(sent: Sent) -> list[bytes]:
    """The forwarded messages but for what was recalled."""
    recalled = sent.receipt.recalled
    return [raw for raw in sent.raws if recalled is None or json.loads(raw)["content"] != recalled.text]


@many
@given(session=sessions(), other=sessions(), world=worlds)
def test_6_a_brief_tells_of_what_it_covers(
    session: list[list[Message]], other: list[list[Message]], world: World
) -> None:
    """All that a brief tells stands in the covered messages of the very request, however often they were edited."""
    for mine, others in zip(session, other, strict=False):
        for messages, client in ((mine, b"me"), (others, b"you"), (mine, b"you")):
            assert_tells_of_its_own(run(world.send(messages, client)))


def assert_tells_of_its_own(sent: Sent) -> None:
    brief = sent.receipt.brief
    if brief is None:
        return
    turns = [turn_of(number, message) for number, message in enumerate(foldable(sent.messages), 1)]
    covered = {turn.number: turn for turn in turns[: brief.covers]}
    assert len(covered) == brief.covers < len(turns)
    for line in brief.body.splitlines():
        if told := re.fullmatch(r"told (\d+):(\d+)", line):
            assert zlib.crc32(covered[int(told[1])].text.encode()) == int(told[2])
        elif anchored := re.match(r"- \[(\d+) (\w+)\] ", line):
            turn = covered[int(anchored[1])]
            assert turn.role == anchored[2]
            assert line[anchored.end() :] in turn.text
        elif line.startswith("Also mentioned: "):
            for value in line.removeprefix("Also mentioned: ").split("; "):
                assert any(value in turn.text for turn in covered.values())
        elif line.startswith("Names and values seen: "):
            for name in line.removeprefix("Names and values seen: ").split(", "):
                assert any(name in turn.text for turn in covered.values())
        else:
            assert "a summary that knows no measure" in line


@many
@given(session=sessions(), world=worlds, text=texts, data=st.data())
def test_6_an_edited_history_gets_no_stale_brief(
    session: list[list[Message]], world: World, text: str, data: st.DataObject
) -> None:
    """One covered message rewritten, one left out, two exchanged: no brief that covers the place is used again."""
    for sent in send_all(world, session):
        if sent.receipt.brief is None:
            continue
        number = data.draw(st.integers(1, sent.brief.covers))
        places = [index for index, message in enumerate(sent.messages) if foldable([message])]
        at = places[number - 1]
        before, edited, after = sent.messages[:at], sent.messages[at], sent.messages[at + 1 :]
        for history in (
            [*before, {**edited, "content": text + "!"}, *after],
            [*before, *after],
            [*before, *after[:1], edited, *after[1:]],
        ):
            again = run(world.send(history, tools=TOOLS))
            is_same_start = foldable(history)[:number] == foldable(sent.messages)[:number]
            assert is_same_start or again.receipt.brief is not sent.brief
            assert_tells_of_its_own(again)


def fixed_tokens(world: World, sent: Sent) -> int:
    """What a request costs beside its messages."""
    return world.recount(sent.body) - sum(costs_of(sent.messages, world.rule))


@many
@given(session=sessions(), world=worlds)
def test_only_what_cannot_be_folded_is_refused(session: list[list[Message]], world: World) -> None:
    """Refused only where system messages, tools, last user message and newest unit alone do not fit; of that unit
    results can be cut, and where it holds calls their arguments may be what makes it fit."""
    for sent in send_all(world, session):
        cannot_fit = least_tokens(sent.messages, world.rule, fixed_tokens(world, sent)) > sent.limit
        is_too_long = cannot_fit and world.recount(sent.body) > sent.limit
        newest = sent.messages[newest_start(sent.messages) :]

        assert is_too_long or sent.refusal is None
        assert any(map(called, newest)) or (sent.refusal is not None) == is_too_long


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(session=sessions(), budget=budgets, roles=strict_or_open)
def test_it_fits_by_the_real_tokenizer_too(session: list[list[Message]], budget: Budget, roles: Roles) -> None:
    """The same promise with a tokenizer whose counts do not simply add up, for both kinds of templates."""
    world = World(budget, roles=roles).use(REAL)
    for sent in send_all(world, session):
        tokens = world.recount(sent.forwarded)
        assert tokens <= world.recount(sent.body)
        assert sent.refusal is not None or tokens <= sent.limit
