"""Texts become what is stored, for as long as they or their level say; searches become terms."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import Refusal
from gateway.core.facts.memory import Level
from gateway.core.facts.times import SECOND_US
from gateway.core.facts.wire_contexts import (
    ContextRules,
    parse_clearing,
    parse_context,
    parse_ids,
    parse_search,
    told_context,
)

NOW_US, ID = 1_700_000_000_000_000, "0" * 31 + "a"
RULES = ContextRules(True, {Level.IMMEDIATE: 3600, Level.SHORT_TERM: 604800, Level.LONG_TERM: None})


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(depth - 1):
        inner = {"a": inner}
    return inner


BAD: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "text"),
    "empty": ({"text": ""}, "text"),
    "blank": ({"text": "\n"}, "text"),
    "too long": ({"text": "x" * 65537}, "text"),
    "a list": ({"text": ["x"]}, "text"),
    "unknown level": ({"text": "x", "level": "forever"}, "level"),
    "level is a number": ({"text": "x", "level": 1}, "level"),
    "metadata is text": ({"text": "x", "metadata": "{}"}, "metadata"),
    "metadata is a list": ({"text": "x", "metadata": []}, "metadata"),
    "metadata too large": ({"text": "x", "metadata": {"a": "ö" * 2048}}, "metadata"),
    "metadata too deep": ({"text": "x", "metadata": nested(17)}, "metadata"),
    "infinite metadata": ({"text": "x", "metadata": {"a": float("inf")}}, "metadata"),
    "an endless number": ({"text": "x", "metadata": {"a": [2**63]}}, "metadata"),
    "ttl 0": ({"text": "x", "ttl_seconds": 0}, "ttl_seconds"),
    "unknown field": ({"text": "x", "id": ID}, "id"),
}


@pytest.mark.parametrize(("value", "at"), BAD.values(), ids=BAD)
def test_bad_texts_name_the_field(value: Any, at: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_context(value, RULES, NOW_US, ID)

    assert (refused.value.status, (refused.value.details or {})["field"]) == (400, at)


@pytest.mark.parametrize(
    ("fields", "lives_s"),
    [
        ({}, 604800),
        ({"level": "immediate"}, 3600),
        ({"level": "short_term"}, 604800),
        ({"level": "long_term"}, None),
        ({"level": "long_term", "ttl_seconds": 5}, 5),
        ({"level": "immediate", "ttl_seconds": 1e6}, 1_000_000),
    ],
)
def test_a_text_lives_as_long_as_it_or_its_level_says(fields: dict[str, Any], lives_s: int | None) -> None:
    memory = parse_context({"text": "x", **fields}, RULES, NOW_US, ID).memory

    assert memory.expires_us == (None if lives_s is None else NOW_US + lives_s * SECOND_US)


def test_a_text_is_told_as_it_was_stored() -> None:
    metadata = {"n": 1, "deep": {"list": [1.5, None, True, "ö"]}, "least": -(2**63), "deepest": nested(15)}
    memory = parse_context({"text": " A text\n", "metadata": metadata}, RULES, NOW_US, ID).memory

    assert told_context(memory, 0.5) == {
        "id": ID,
        "text": " A text\n",
        "level": "short_term",
        "metadata": metadata,
        "created_at": "2023-11-14T22:13:20Z",
        "expires_at": "2023-11-21T22:13:20Z",
        "score": 0.5,
    }


def test_no_secret_is_in_a_text_or_its_metadata() -> None:
    """Neither by its shape nor by the name that it has there."""
    secret = "sk-abcdefghijklmnop0123456789"
    metadata = {"password": "hunter22", "list": [secret, {secret: "x"}], "plain": "as it is"}
    memory = parse_context({"text": f"Use {secret}.", "metadata": metadata}, RULES, NOW_US, ID).memory

    assert "hunter22" not in repr(memory)
    assert secret not in repr(memory)
    assert memory.metadata == {"password": "[secret]", "list": ["[secret]", {"[secret]": "x"}], "plain": "as it is"}


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": "x" * 8193}, "query"),
        ({"query": "x", "limit": 51}, "limit"),
        ({"query": "x", "limit": -1}, "limit"),
        ({"query": "x", "limit": 10**9}, "limit"),
        ({"query": "x", "level": ""}, "level"),
    ],
)
def test_bad_searches_name_the_field(value: Any, at: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_search(value)

    assert (refused.value.status, (refused.value.details or {})["field"]) == (400, at)


def test_a_search_looks_for_what_must_match_first() -> None:
    """Numbers, paths and identifiers before words, each once; without a word, for nothing."""
    sought = parse_search({"query": "locker locker 7T-4093", "level": "immediate"}).sought

    assert len(set(sought.terms)) == len(sought.terms)
    assert set(sought.terms[: len(sought.exact)]) == sought.exact
    assert len(sought.exact) == 1
    assert sought.level is Level.IMMEDIATE
    assert parse_search({"query": "?! --"}).sought.terms == []


@pytest.mark.parametrize("value", [{}, {"ids": "x"}, {"ids": [1]}, {"ids": ["x"] * 1001}, {"ids": [], "all": True}])
def test_bad_deletions_are_refused(value: Any) -> None:
    with pytest.raises(Refusal):
        parse_ids(value)


def test_ids_and_levels() -> None:
    assert parse_ids({"ids": ["b", "a", "b"]}) == ["b", "a"]
    assert parse_clearing({}) is None
    assert parse_clearing({"level": "long_term"}) is Level.LONG_TERM
    with pytest.raises(Refusal):
        parse_clearing({"levels": "immediate"})
