"""The retention judge, and the gateway's planning under it.

The recorded conversations here are a sample; `python -m benchmarks.retention run --method ours` judges all of them.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.retention.cases import evaluate, half_of, load, summary
from benchmarks.retention.ours import compact
from benchmarks.retention.over_http import Prefixes, next_step
from benchmarks.retention.scoring import Context, cut_points, identifiers, shape_errors
from benchmarks.retention.words import message_tokens, prompt_tokens
from tests.shared_data import shared_data

Message = dict[str, Any]
CALL: Message = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}],
}
RESULT: Message = {"role": "tool", "tool_call_id": "c1", "content": "lines"}
USER: Message = {"role": "user", "content": "go on"}


# The judge


@pytest.mark.parametrize(
    ("said", "evidence", "is_held"),
    [
        ("She moved to Oslo in May.", "She moved to Oslo in May.", True),
        ("In May she was moving to Oslo", "She moved to Oslo in May.", True),
        ("Oslo " + "word " * 200 + "May moved", "She moved to Oslo in May.", False),
        ("She stayed in Rome.", "She moved to Oslo in May.", False),
        ("moved to Oslo in May", "[8 May 2023]\nmoved to Oslo in May", True),
    ],
)
def test_evidence_is_held_word_for_word_or_close_together(said: str, evidence: str, is_held: bool) -> None:
    """Verbatim, or four fifths of its content words in a small window."""
    assert Context([{"role": "user", "content": said}, USER]).holds(evidence) is is_held


@pytest.mark.parametrize(
    ("out", "errors"),
    [
        ([USER, CALL, RESULT], []),
        ([USER, RESULT], ["tool result without its call"]),
        ([CALL, USER, RESULT], ["tool call without its result", "tool result without its call"]),
        ([USER, CALL], ["tool call without its result", "last message has another role"]),
    ],
)
def test_a_broken_shape_is_seen(out: list[Message], errors: list[str]) -> None:
    """As an upstream would refuse it."""
    found = shape_errors(out, [USER, CALL, RESULT])

    assert [error for error in found if error != "larger than what the client sent"] == errors


def test_identifiers_are_what_nobody_guesses() -> None:
    """Paths, names of code, ids and numbers; no plain words."""
    assert identifiers("edit src/app.py and maxTotal, order #W2378156, 4821 times") == {
        "src/app.py",
        "maxTotal",
        "#W2378156",
        "W2378156",
        "4821",
    } - {"W2378156"}


def message(text: str, role: str = "user") -> Message:
    return {"role": role, "content": text}


def test_prefixes_tell_the_stable_part_from_the_rest() -> None:
    """Retrieved text changes with each question; what stands before it must not, until a new brief is made."""
    system, brief, turn = message("be kind", "system"), message("<running_brief> one"), message("hello " * 40)
    first = [system, brief, turn, message("<recalled> a"), message("question one")]
    second = [system, brief, turn, message("question one"), message("<recalled> b"), message("question two")]
    third = [system, message("<running_brief> two"), message("question three")]
    prefixes = Prefixes("<running_brief>", "<recalled>")
    for prompt in (first, second, third):
        prefixes.follow("chat", prompt)
    scores = prefixes.scores()
    head = sum(map(message_tokens, first[:3]))

    assert prefixes.whole[0] == pytest.approx(head / sum(map(message_tokens, first)))
    assert scores["stable_share"] == 1.0
    assert scores["compactions"] == 1


def test_replay_stops_where_a_client_would_ask() -> None:
    """Never between a call and its results."""
    chat = [USER, CALL, RESULT, CALL, RESULT, USER]

    assert [next_step(chat, at, 1) for at in range(5)] == [1, 3, 3, 5, 5]


# The planning under it

sizes = st.integers(1, 1500)


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """Turns and tool loops of all sizes, ending where an answer is due."""
    chat: list[Message] = [message("be exact", "system"), message("task " * draw(st.integers(1, 300)))]
    for n in range(draw(st.integers(1, 12))):
        if draw(st.booleans()):
            arguments = json.dumps({"path": f"src/file_{n}.py", "text": "y " * draw(sizes)})
            ids = [f"c{n}_{k}" for k in range(draw(st.integers(1, 3)))]
            calls = [
                {"id": ident, "type": "function", "function": {"name": "write", "arguments": arguments}}
                for ident in ids
            ]
            chat.append(
                {"role": "assistant", "content": draw(st.sampled_from([None, "Let me see."])), "tool_calls": calls}
            )
            lines = draw(sizes)
            chat += [{"role": "tool", "tool_call_id": ident, "content": f"value_{n} = 7\n" * lines} for ident in ids]
        else:
            chat.append(message(f"What of item_{n}? " * draw(st.integers(1, 60))))
            chat.append(message(f"It is in box_{n}. " * draw(sizes), "assistant"))
    return chat if chat[-1]["role"] == "tool" else [*chat, message("Where is item_1?")]


@settings(max_examples=40, deadline=None)
@given(chat=histories(), budget=st.sampled_from([2000, 4000, 7000]))
def test_what_is_planned_fits_and_is_valid(chat: list[Message], budget: int) -> None:
    """Calls keep their results, the last user message stays, nothing grows; the same chat plans the same."""
    out = compact(chat, budget)

    assert shape_errors(out, chat) == []
    assert out == compact(chat, budget)
    if prompt_tokens(chat) <= budget:
        assert out == chat
    else:
        assert prompt_tokens(out) <= budget


@pytest.mark.parametrize(
    ("name", "only", "floors"),
    [
        ("conversations_dev.jsonl.gz", "locomo-conv-(41|47)", {"evidence": 0.9, "answer_literal": 0.94}),
        ("conversations_dev.jsonl.gz", "beam-100k-(3|7)$", {"evidence": 0.65}),
        ("traces_dev.jsonl.gz", "tau-bench|marshmallow", {"next_ids": 0.95, "next_ids_far": 0.86, "task_words": 0.99}),
    ],
)
def test_recorded_conversations_keep_what_answers_need(name: str, only: str, floors: dict[str, float]) -> None:
    """At 7,000 prompt tokens, on a sample; every prompt is valid and fits."""
    args = argparse.Namespace(
        budget=7000, only=only, skip_category=["adversarial", "abstention"], max_questions=40, cuts=4
    )
    scores = summary(evaluate(compact, load([str(shared_data(name))]), args))["all"]
    print(f"\n{only}: { {key: scores.get(key) for key in ('n', 'tokens', *floors)} }")

    assert scores["valid"] == scores["fits"] == 1.0
    assert all(scores[key] >= floor for key, floor in floors.items())


def test_halves_are_disjoint_and_whole() -> None:
    """What was tuned on one half can be tried on the other."""
    records = [{"id": f"{name}-{n}"} for name in ("a", "b") for n in range(5)]
    even, odd = list(half_of(records, "even")), list(half_of(records, "odd"))

    assert len(even) == 6
    assert sorted(record["id"] for record in even + odd) == sorted(record["id"] for record in records)


def test_cut_points_lie_beyond_the_budget() -> None:
    """Only where there is something to compact."""
    record = {"messages": [USER, *[message("word " * 100, "assistant"), USER] * 20]}
    cuts = cut_points(record, 500, 4)

    assert len(cuts) == 4
    assert all(sum(map(message_tokens, record["messages"][:cut])) > 500 for cut in cuts)
