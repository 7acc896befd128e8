"""What a summariser states is believed only as far as the folded messages say it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.context.brief import Stated
from gateway.core.context.extractive import Turn
from gateway.core.context.terms import terms_of
from gateway.core.facts.statements import (
    MAX_STATEMENTS,
    Statement,
    hold_to_span,
    is_single,
    read_statements,
    with_newest,
)
from tests.histories import contents

TURNS = (
    Turn(3, "user", "I am Margit Oyelaran. I moved to Bergen in May, to 12 Harbour Street."),
    Turn(4, "assistant", "Noted: the rent is 1,250 EUR, due on 2024-05-01."),
    Turn(7, "tool", "src/auth/token_store.py: def rotate_keys(max_age=90)"),
)
KEY = "sk-proj-4f9Qx7LmZ2vT8kWc1Yb6Rd3H"


def answer(content: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


def stated(*rows: Any) -> bytes:
    return answer(json.dumps({"goal": ["Move."], "statements": list(rows)}))


def row(subject: Any = "Margit", predicate: Any = "lives in", object_: Any = "Bergen") -> dict[str, Any]:
    return {"subject": subject, "predicate": predicate, "object": object_}


def held(*parts: str, turns: tuple[Turn, ...] = TURNS) -> list[tuple[int, str]]:
    """The messages that support a statement, each with its role."""
    return [(each.number, each.role) for each in hold_to_span([Statement(*parts)], turns)]


# Reading


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
rows = st.builds(row, *[st.one_of(st.text(max_size=30), json_values)] * 3)
told_objects = st.builds(lambda each: json.dumps({"statements": each}), st.lists(st.one_of(rows, json_values)))
bodies = st.one_of(
    st.binary(max_size=300),
    json_values.map(lambda value: json.dumps(value).encode()),
    json_values.map(answer),
    st.one_of(st.text(max_size=200), told_objects, told_objects.map(lambda told: f"Here:\n```json\n{told}\n```")).map(
        answer
    ),
)


@given(bodies)
@example(b"\xff\xfe")
@example(b"[" * 100_000)
@example(answer("{" * 5000 + "}" * 5000))
@example(answer('{"statements": [' + "[" * 5000 + "]" * 5000 + "]}"))
@example(answer('{"statements": [{"subject": "\\ud800", "predicate": "is", "object": "x"}]}'))
@example(b'{"choices": [{"message": {"content": "{\\"statements\\": [\\ud800]}"}}]}')
@example(stated(row("Ann\x00", "is\x00", "\x00here")))
def test_1_any_answer_gives_statements_or_none(body: bytes) -> None:
    """Each whole, in one line, short, and such that every store takes it."""
    found = read_statements(body)

    assert len(found) <= 2 * MAX_STATEMENTS
    for each in found:
        for part in (each.subject, each.predicate, each.object):
            assert part
            assert part == " ".join(part.split())
            assert part.encode().decode() == part
            assert "\x00" not in part


READ = {
    "plain": (stated(row()), 1),
    "one without an object": (stated({"subject": "a", "predicate": "b"}, row()), 1),
    "one that is a number": (stated(7, row()), 1),
    "an object that is a number": (stated(row(object_=7), row()), 1),
    "an empty subject": (stated(row(subject=" \n"), row()), 1),
    "a subject too long": (stated(row(subject="x" * 201), row()), 1),
    "an object too long": (stated(row(object_="x" * 1001), row()), 1),
    "with a preface": (answer(f"Sure!\n```json\n{json.dumps({'statements': [row()]})}\n```\nDone."), 1),
    "no statements": (answer('{"goal": []}'), 0),
    "statements that are no list": (answer('{"statements": {}}'), 0),
    "no text": (answer(None), 0),
    "no choice": (b'{"choices": []}', 0),
    "an error": (b'{"error": {"message": "no"}}', 0),
}


@pytest.mark.parametrize(("body", "count"), READ.values(), ids=READ)
def test_what_is_read(body: bytes, count: int) -> None:
    """What is none is passed over, and the rest is read."""
    assert list(read_statements(body)) == [Statement("Margit", "lives in", "Bergen")] * count


def test_secrets_are_masked() -> None:
    (read,) = read_statements(stated(row("the service", "has the key", KEY)))

    assert KEY not in repr(read)


# Held to the span


SUPPORTED = {
    "said by a user": (("Margit Oyelaran", "lives in", "Bergen"), [(3, "user")]),
    "in other spelling": (("MARGIT", "lives at", "12 harbour street"), [(3, "user")]),
    "of whoever speaks": (("user", "moved to", "Bergen in May"), [(3, "user")]),
    "of whoever answers": (("assistant", "noted", "the rent"), [(4, "assistant")]),
    "of a tool": (("tool", "shows", "rotate_keys"), [(7, "tool")]),
    "with a number": (("the rent", "costs", "1,250 EUR"), [(4, "assistant")]),
    "with a date": (("the rent", "is due on", "2024-05-01"), [(4, "assistant")]),
    "with a path": (("rotate_keys", "stands in", "src/auth/token_store.py"), [(7, "tool")]),
    "a subject that nobody spoke of": (("Anneke", "lives in", "Bergen"), []),
    "an object that nobody spoke of": (("Margit", "plays", "the saxophone"), []),
    "another number": (("the rent", "costs", "1,350 EUR"), []),
    "a number in the predicate": (("the rent", "rose by 70 to", "1,250 EUR"), []),
    "a number that is part of one": (("the rent", "costs", "250 EUR"), []),
    "another date": (("the rent", "is due on", "2024-05-02"), []),
    "another path": (("rotate_keys", "stands in", "src/auth/key_store.py"), []),
    "another identifier": (("rotateKeys", "stands in", "src/auth/token_store.py"), []),
    "an object from two messages": (("Margit", "pays", "rent Bergen EUR Harbour due"), []),
    "nothing but small words": (("Margit", "is", "the"), []),
    "a part of a word": (("Margit", "moved to", "Ber"), []),
}


@pytest.mark.parametrize(("parts", "expected"), SUPPORTED.values(), ids=SUPPORTED)
def test_2_what_the_span_supports(parts: tuple[str, str, str], expected: list[tuple[int, str]]) -> None:
    assert held(*parts) == expected


def test_nothing_is_supported_by_nothing() -> None:
    assert hold_to_span([Statement("user", "lives in", "Bergen")], ()) == ()
    assert held("user", "lives in", "Bergen", turns=(Turn(1, "user", ""),)) == []


def test_statements_come_in_the_order_of_their_passages() -> None:
    """Each with where it stands."""
    found = hold_to_span(
        [Statement("rotate_keys", "takes", "max_age"), Statement("the rent", "costs", "1,250 EUR"), Statement(*SAID)],
        TURNS,
    )

    assert [each.number for each in found] == [3, 4, 7]
    assert "Bergen" in TURNS[0].text[found[0].start : found[0].end]
    assert "1,250" in TURNS[1].text[found[1].start : found[1].end]


SAID = ("Margit", "lives in", "Bergen")
words = st.lists(st.sampled_from([word for turn in TURNS for word in turn.text.split()] + ["Rome", "77"])).map(" ".join)
spans = st.lists(st.builds(Turn, st.integers(1, 50), st.sampled_from(["user", "tool"]), contents), max_size=6)


@given(st.lists(st.builds(Statement, words, words, words), max_size=6), spans)
def test_2_what_is_kept_stands_in_the_span(statements: list[Statement], turns: list[Turn]) -> None:
    """Every subject and digit is the conversation's, and most of an object stands in one passage of one message."""
    turns = [*TURNS, *turns]
    whole = "\n".join(turn.text for turn in turns)
    spoken = set(terms_of(whole))
    for each in hold_to_span(statements, turns):
        said = next(
            turn.text[each.start : each.end]
            for turn in turns
            if (turn.number, turn.role) == (each.number, each.role) and len(turn.text) >= each.end
        )
        told = set(terms_of(each.object))

        assert said
        assert set(terms_of(each.subject)) <= spoken or each.subject in ("user", "assistant", "tool")
        assert not told <= {*terms_of("Rome 77")}
        assert all(digit in whole for digit in (each.subject + each.predicate + each.object) if digit.isdigit())


# Of many briefs


def stated_at(number: int, object_: str = "x") -> Stated:
    return Stated("s", "p", object_, number, "user", 0, 1)


@given(st.lists(st.integers(1, 200), max_size=150), st.lists(st.integers(1, 200), max_size=150))
def test_3_the_newest_stay(earlier: list[int], newer: list[int]) -> None:
    """At most so many, each once, and never one of the newer ones for one of the earlier."""
    found = with_newest([stated_at(each) for each in earlier], [stated_at(each) for each in newer])
    fresh = [each for each in dict.fromkeys(newer) if each not in earlier]

    assert len(found) == min(MAX_STATEMENTS, len({*earlier, *newer}))
    assert len(set(found)) == len(found)
    assert [each.number for each in found][-len(fresh[-MAX_STATEMENTS:]) or len(found) :] == fresh[-MAX_STATEMENTS:]


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("lives in", True),
        ("Lives  In", True),
        ("has email", True),
        ("has the email", False),
        ("email is", True),
        ("has deadline", True),
        ("costs", True),
        ("wohnt in", True),
        ("likes", False),
        ("has", False),
        ("is", False),
        ("said", False),
        ("", False),
    ],
)
def test_of_what_one_object_holds_at_a_time(predicate: str, expected: bool) -> None:
    assert is_single(predicate) is expected
