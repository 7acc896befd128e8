"""The invariants of compaction, tried on generated Responses histories; what is forwarded is counted from its bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.context.brief import Level, render_brief
from gateway.core.context.budget import Budget
from gateway.core.routing.routes import Roles
from gateway.core.tokens.profiles import profile_of
from tests.histories import (
    FakeSummarizer,
    Sent,
    World,
    budget_of,
    budgets,
    lumpy,
    per_four_chars,
    per_word,
    told_turns,
)
from tests.responses import Item, body_of, is_valid, items_of, raw_items, recount, rounds_of, send, sessions

T = TypeVar("T")
many = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
LOOP = asyncio.new_event_loop()
EFFORTS: list[Any] = [None, {"effort": "none"}, {"effort": "high"}]


def run(work: Coroutine[Any, Any, T]) -> T:
    return LOOP.run_until_complete(work)


def _world(
    budget: Budget, rule: Callable[[str], int], answer: Callable[..., str] | None, ratio: float, soft: float
) -> World:
    summarizer = FakeSummarizer(answer) if answer else None
    return World(budget, rule=rule, summarizer=summarizer, target_ratio=ratio, soft_ratio=soft)


worlds = st.builds(
    _world,
    budgets,
    st.sampled_from([per_four_chars, per_word, lumpy]),
    st.sampled_from([None, None, told_turns]),
    st.sampled_from([0.3, 0.5]),
    st.sampled_from([0.7, 1.0]),
)
models = st.sampled_from(["gpt-4o", "gpt-5", "gpt-5.1"])
efforts = st.lists(st.sampled_from(EFFORTS), min_size=8, max_size=8)


def send_all(world: World, session: Sequence[Sequence[Item]], model: str, asked: Sequence[Any] = EFFORTS) -> list[Sent]:
    bodies = [
        body_of(items, model, reasoning=asked[place % len(asked)], parallel_tool_calls=True)
        for place, items in enumerate(session)
    ]
    return [run(send(world, body)) for body in bodies]


def count_of(world: World, body: bytes) -> int:
    model = json.loads(body)["model"]
    return recount(body, lambda text: world.counter.count_here(profile_of(model, {}), text))


@many
@given(session=sessions(), world=worlds, model=models, asked=efforts)
def test_what_is_forwarded_fits_or_is_refused_with_numbers(
    session: list[list[Item]], world: World, model: str, asked: list[Any]
) -> None:
    """The count is exact, fits the budget and is never above what was sent, whatever reasoning is asked for when."""
    for sent in send_all(world, session, model, asked):
        assert count_of(world, sent.body) == sent.receipt.client_tokens
        if sent.refusal is not None:
            assert (sent.refusal.status, sent.refusal.code) == (400, "context_length_exceeded")
            assert f"Of the {sent.receipt.client_tokens} prompt tokens sent" in sent.refusal.message
            assert sent.receipt.client_tokens > sent.limit
            continue
        tokens = count_of(world, sent.forwarded)
        assert tokens == sent.receipt.prompt_tokens <= min(sent.limit, sent.receipt.client_tokens)
        assert sum(sent.receipt.sections.values()) == tokens


@many
@given(session=sessions(), world=worlds, model=models, roles=st.sampled_from(list(Roles)))
def test_what_belongs_together_stays_together(
    session: list[list[Item]], world: World, model: str, roles: Roles
) -> None:
    """Every output follows its call, and all that came of a reasoning in one go stays or goes with it."""
    for sent in send_all(replace(world, roles=roles), session, model):
        before, after = items_of(sent.body), items_of(sent.forwarded)
        whole = [[bare(item) for item in each] for each in rounds_of(before)]

        assert is_valid(before)
        assert is_valid(after)
        assert all([bare(item) for item in each] in whole for each in rounds_of(after))


def bare(item: Item) -> Item:
    """An item less the texts that may be shortened."""
    return {key: value for key, value in item.items() if key not in ("arguments", "content", "input", "output")}


@many
@given(session=sessions(), world=worlds, model=models)
def test_all_else_is_the_clients_own(session: list[list[Item]], world: World, model: str) -> None:
    """Instructions, developer and user messages, reasoning and all that was not shortened keep bytes and order."""
    for sent in send_all(world, session, model):
        if sent.exchange.prompt is None:
            assert sent.forwarded == sent.body
            continue
        own = raw_items(sent.body)
        assert_rest_unchanged(sent)
        assert_kept_in_order(own, sent)
        assert [raw for raw in own if role_of(raw) == "user"][-1] in raw_items(sent.forwarded)
        assert [raw for raw in own if role_of(raw) == "developer"] == [
            raw for raw in raw_items(sent.forwarded) if role_of(raw) == "developer"
        ]


def role_of(raw: bytes) -> Any:
    return json.loads(raw).get("role")


def assert_rest_unchanged(sent: Sent) -> None:
    start, end = sent.body.index(b'"input": [') + 9, sent.body.rindex(b', "store"')
    assert sent.forwarded.startswith(sent.body[:start])
    assert sent.forwarded.endswith(sent.body[end:])


def assert_kept_in_order(own: Sequence[bytes], sent: Sent) -> None:
    """Beside the client's items, in order, there are a brief, recalled text, and items made shorter."""
    brief, recalled = sent.receipt.brief, sent.receipt.recalled
    added = [render_brief(brief.segments)] if brief else []
    added += [recalled.text] if recalled else []
    inserted = [{"role": "user", "content": text} for text in added]
    forwarded = raw_items(sent.forwarded)
    others = [raw for raw in forwarded if json.loads(raw) not in inserted]
    assert len(forwarded) - len(others) == len(added)
    rest = list(own)
    changed = []
    for raw in others:
        if raw in rest:
            rest = rest[rest.index(raw) + 1 :]
            continue
        place = next(place for place, other in enumerate(rest) if is_shorter(json.loads(raw), json.loads(other)))
        rest = rest[place + 1 :]
        changed.append(json.loads(raw))
    assert len(changed) == sent.receipt.shortened_messages
    assert not changed or sent.receipt.level is not Level.NONE
    assert not any(item.get("type") == "reasoning" for item in changed)


def is_shorter(after: Item, before: Item) -> bool:
    """Whether one may be the other made shorter: all else is equal, and no user's text is missing."""
    if bare(after) != bare(before) or after == before:
        return False
    if before.get("role") == "user":  # a picture's line may be longer than its address, and costs less
        return all(isinstance(item["content"], list) for item in (before, after)) and texts_of(before) <= texts_of(
            after
        )
    return before.get("role") != "developer" and len(json.dumps(after)) < len(json.dumps(before))


def texts_of(item: Item) -> set[str]:
    assert all(part["type"] in ("input_text", "input_image") for part in item["content"])
    return {part["text"] for part in item["content"] if part["type"] == "input_text"}


@many
@given(session=sessions(), world=worlds, model=models)
def test_same_in_same_out(session: list[list[Item]], world: World, model: str) -> None:
    """Run twice, every request goes out as the same bytes."""
    first, second = send_all(world, session, model), send_all(replace(world), session, model)

    assert [(sent.forwarded, str(sent.refusal)) for sent in first] == [
        (sent.forwarded, str(sent.refusal)) for sent in second
    ]


def agent_history(steps: int, size: int = 700) -> list[Item]:
    """An agent's task: a step is reasoning, a call as the server stores it, and its output."""
    items: list[Item] = [
        {"role": "developer", "content": "Work in small steps."},
        {"role": "user", "content": "Fix the bug AB-1207 in /srv/app/main.py. Never push."},
    ]
    for step in range(steps):
        ident = f"call_{step}"
        items += [
            {"id": f"rs_{step}", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA" + "x" * 1200},
            {
                "id": f"fc_{step}",
                "type": "function_call",
                "status": "completed",
                "call_id": ident,
                "name": "bash",
                "arguments": json.dumps({"command": f"grep -n handler_{step} /srv/app/main.py"}),
            },
            {
                "type": "function_call_output",
                "call_id": ident,
                "output": f"{step}: def handler_{step}(request): ...\n" + f"line {step} of a log\n" * (size // 16),
            },
        ]
    return items


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5"])
@pytest.mark.parametrize("retrieved", [0, 300])
def test_an_agents_prefix_is_stable_between_compactions(model: str, retrieved: int) -> None:
    """Through a long tool loop what was forwarded begins what is forwarded next, but for few compactions."""
    world = World(budget_of(4000, 500, brief=400, recent=400, retrieved=retrieved))
    history = agent_history(60)
    sents = [run(send(world, body_of(history[:end], model))) for end in range(5, len(history) + 1, 3)]
    outs = [raw_items(sent.forwarded) for sent in sents]
    breaks = [place for place in range(1, len(outs)) if outs[place][: len(outs[place - 1])] != outs[place - 1]]
    fresh = [place for place, sent in enumerate(sents) if sent.receipt.is_fresh]

    assert all(sent.refusal is None for sent in sents)
    assert sents[-1].receipt.level is not Level.NONE
    assert set(breaks) <= set(fresh)
    assert 1 <= len(breaks) <= len(sents) // 4


def test_a_brief_tells_what_the_items_said() -> None:
    """Rules of the user and values of calls and outputs are in it; reasoning is not."""
    world = World(budget_of(4000, 500, brief=600, recent=300))
    told = [*agent_history(25), {"role": "user", "content": "And now?"}]
    sent = run(send(world, body_of(told, "gpt-5")))
    brief = render_brief(sent.brief.segments)

    assert "handler_" in brief
    assert "gAAAA" not in brief
    assert sent.brief.covers < len(told) - 1
