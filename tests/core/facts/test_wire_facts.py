"""Statements become what is stored, within bounds; questions become what is looked for; facts are told whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Refusal
from gateway.core.facts.memory import Anchor, Kind, fact_hash, fact_key, plain, topic_key
from gateway.core.facts.times import SECOND_US
from gateway.core.facts.wire_facts import FactRules, parse_fact, parse_question, told_fact

NOW_US, ID = 1_700_000_000_000_000, "0" * 31 + "a"
RULES = FactRules()
FACT: dict[str, Any] = {"subject": "Margit", "predicate": "lives in", "object": "Oslo"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "empty subject": ({"subject": ""}, "subject"),
    "blank subject": ({"subject": " \u3000\n"}, "subject"),
    "long subject": ({"subject": "x" * 513}, "subject"),
    "a megabyte": ({"subject": "x" * 1_000_000}, "subject"),
    "long predicate": ({"predicate": "x" * 513}, "predicate"),
    "empty object": ({"object": ""}, "object"),
    "long object": ({"object": "x" * 8193}, "object"),
    "object of another type": ({"object": 5}, "object"),
    "null": ({"predicate": None}, "predicate"),
    "long datatype": ({"datatype": "x" * 513}, "datatype"),
    "empty document": ({"source_doc": ""}, "source_doc"),
    "anchor is text": ({"source_anchor": "p. 3"}, "source_anchor"),
    "page is text": ({"source_anchor": {"page": "3"}}, "source_anchor.page"),
    "page below 0": ({"source_anchor": {"page": -1}}, "source_anchor.page"),
    "page without end": ({"source_anchor": {"page": 2**70}}, "source_anchor.page"),
    "unknown anchor": ({"source_anchor": {"line": 3}}, "source_anchor.line"),
    "confidence above 1": ({"confidence": 1.5}, "confidence"),
    "confidence below 0": ({"confidence": -0.1}, "confidence"),
    "confidence is text": ({"confidence": "high"}, "confidence"),
    "confidence is true": ({"confidence": True}, "confidence"),
    "confidence is NaN": ({"confidence": float("nan")}, "confidence"),
    "no time": ({"observed_at": "yesterday"}, "observed_at"),
    "a date": ({"observed_at": "2025-01-31"}, "observed_at"),
    "no zone": ({"observed_at": "2025-01-31T12:00:00"}, "observed_at"),
    "a number of seconds": ({"observed_at": 1738324800}, "observed_at"),
    "year 10000": ({"observed_at": "10000-01-01T00:00:00Z"}, "observed_at"),
    "year 10000 of UTC": ({"observed_at": "9999-12-31T23:59:59-01:00"}, "observed_at"),
    "year 0 of UTC": ({"observed_at": "0001-01-01T00:00:00+14:00"}, "observed_at"),
    "ttl 0": ({"ttl_seconds": 0}, "ttl_seconds"),
    "ttl below 0": ({"ttl_seconds": -5}, "ttl_seconds"),
    "ttl without end": ({"ttl_seconds": 1e300}, "ttl_seconds"),
    "ttl is true": ({"ttl_seconds": True}, "ttl_seconds"),
    "single_valued is text": ({"single_valued": "yes"}, "single_valued"),
    "unknown field": ({"owner": "me"}, "owner"),
    "an id of one's own": ({"id": ID}, "id"),
}


@pytest.mark.parametrize(("fields", "at"), BAD.values(), ids=BAD)
def test_bad_statements_name_the_field(fields: dict[str, Any], at: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_fact(FACT | fields, RULES, NOW_US, ID)

    assert (refused.value.status, (refused.value.details or {})["field"]) == (400, at)


@pytest.mark.parametrize("name", FACT)
def test_what_every_fact_must_have(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_fact({key: value for key, value in FACT.items() if key != name}, RULES, NOW_US, ID)

    assert refused.value.message == f"`{name}` is missing."


def test_a_fact_that_is_not_sure_enough() -> None:
    """422 with both numbers; at the threshold it is sure enough."""
    with pytest.raises(Refusal) as refused:
        parse_fact(FACT | {"confidence": 0.79}, RULES, NOW_US, ID)

    assert refused.value.status == 422
    assert refused.value.details == {"field": "confidence", "expected": "at least 0.8", "found": "0.79"}
    assert parse_fact(FACT | {"confidence": 0.8}, RULES, NOW_US, ID).memory.confidence == 0.8


def test_a_whole_statement() -> None:
    """Everything that was said is stored and told; the hash is of what is stored."""
    sent = FACT | {
        "datatype": "xsd:string",
        "source_doc": "register.pdf",
        "source_anchor": {"doc_id": "d1", "page": 3, "region_id": "r1", "vt_ref": "v1", "path_line": "a.txt:4"},
        "confidence": 0.9,
        "observed_at": "2023-11-14T23:13:20.5+01:00",
        "single_valued": True,
        "ttl_seconds": 60,
    }
    memory, hash_ = parse_fact(sent, RULES, NOW_US, ID)
    anchor = Anchor("d1", 3, "r1", "v1", "a.txt:4")

    assert hash_ == fact_hash("Margit", "lives in", "Oslo", anchor)
    assert memory.key == fact_key("Margit", "lives in", "Oslo")
    assert memory.topic == topic_key("Margit", "lives in")
    assert (memory.observed_us, memory.expires_us) == (NOW_US + 500_000, NOW_US + 60 * SECOND_US)
    assert told_fact(memory) == {
        **{key: value for key, value in sent.items() if key not in ("single_valued", "ttl_seconds")},
        "id": ID,
        "observed_at": "2023-11-14T22:13:20.500000Z",
        "hash": hash_,
        "expires_at": "2023-11-14T22:14:20Z",
    }


def test_the_least_that_can_be_said() -> None:
    memory = parse_fact(FACT, RULES, NOW_US, ID).memory

    assert told_fact(memory) == FACT | {
        "id": ID,
        "source_anchor": {},
        "confidence": 1.0,
        "observed_at": "2023-11-14T22:13:20Z",
        "hash": fact_hash("Margit", "lives in", "Oslo", Anchor()),
    }
    assert (memory.kind, memory.topic, memory.expires_us) == (Kind.FACT, b"", None)
    assert memory.terms


def test_how_long_a_fact_is_kept() -> None:
    """As it says, else as the configuration says."""
    rules = FactRules(ttl_s=10)

    assert parse_fact(FACT, rules, NOW_US, ID).memory.expires_us == NOW_US + 10 * SECOND_US
    assert parse_fact(FACT | {"ttl_seconds": 2.5}, rules, NOW_US, ID).memory.expires_us == NOW_US + 2_500_000


def test_without_deduplication_nothing_is_a_duplicate() -> None:
    rules = FactRules(is_deduplicated=False)
    keys = {parse_fact(FACT, rules, NOW_US, f"{number:032x}").memory.key for number in range(3)}

    assert len(keys) == 3


@pytest.mark.parametrize(
    ("fields", "secret"),
    [
        ({"object": "the key is sk-abcdefghijklmnop0123456789"}, "sk-abcdefghijklmnop"),
        ({"subject": "sk-abcdefghijklmnop0123456789"}, "sk-abcdefghijklmnop"),
        ({"predicate": "password", "object": "hunter22"}, "hunter22"),
        ({"predicate": "has the api_key", "object": "abcdefgh"}, "abcdefgh"),
        ({"source_doc": "https://ann:hunter22@host/a.pdf"}, "hunter22"),
        ({"source_anchor": {"path_line": "password=hunter22"}}, "hunter22"),
    ],
)
def test_secrets_are_not_stored(fields: dict[str, Any], secret: str) -> None:
    """And the hash is of what is."""
    memory, hash_ = parse_fact(FACT | fields, RULES, NOW_US, ID)

    assert secret not in repr(memory)
    assert "[secret]" in repr(memory)
    assert hash_ == fact_hash(memory.subject, memory.predicate, memory.object, memory.sources[0].anchor)


@given(st.dictionaries(st.sampled_from(["subject", "predicate", "object", "datatype"]), st.text(max_size=40)))
def test_what_is_stored_is_found_by_what_was_sent(fields: dict[str, str]) -> None:
    """A question in the words of a statement has the plain form of what is stored."""
    sent = FACT | {name: text.replace("\0", "") for name, text in fields.items()}
    try:
        memory = parse_fact(sent, RULES, NOW_US, ID).memory
    except Refusal:
        return
    asked = {name: sent[name] for name in ("subject", "predicate", "object")}
    wanted = parse_question({"query": asked}, RULES).wanted

    assert wanted.subject == plain(memory.subject)
    assert wanted.predicate == plain(memory.predicate)
    assert wanted.object == plain(memory.object)


BAD_QUESTIONS: dict[str, tuple[Any, str]] = {
    "no query": ({}, "query"),
    "query is text": ({"query": "SELECT *"}, "query"),
    "unknown field": ({"query": {"owner": "x"}}, "query.owner"),
    "limit below 1": ({"query": {"limit": 0}}, "query.limit"),
    "limit of -1": ({"query": {"limit": -1}}, "query.limit"),
    "limit of a billion": ({"query": {"limit": 10**9}}, "query.limit"),
    "limit without end": ({"query": {"limit": 10**90}}, "query.limit"),
    "limit is text": ({"query": {"limit": "5"}}, "query.limit"),
    "limit is true": ({"query": {"limit": True}}, "query.limit"),
    "limit beside it": ({"query": {}, "limit": 5}, "limit"),
    "empty subject": ({"query": {"subject": ""}}, "query.subject"),
    "confidence above 1": ({"query": {"min_confidence": 2}}, "query.min_confidence"),
    "text of a megabyte": ({"query": {"text": "x" * 1_000_000}}, "query.text"),
    "cursor is a number": ({"query": {}, "cursor": 5}, "cursor"),
}


@pytest.mark.parametrize(("value", "at"), BAD_QUESTIONS.values(), ids=BAD_QUESTIONS)
def test_bad_questions_name_the_field(value: Any, at: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_question(value, RULES)

    assert (refused.value.status, (refused.value.details or {})["field"]) == (400, at)


def test_a_question_has_the_configured_bound() -> None:
    """Also where it does not say how many."""
    few = FactRules(max_page=7)

    assert parse_question({"query": {}}, few).limit == 7
    assert parse_question({"query": {}}, FactRules(max_page=500)).limit == 100
    with pytest.raises(Refusal, match="from 1 to 7"):
        parse_question({"query": {"limit": 8}}, few)


def test_text_without_a_word_matches_nothing() -> None:
    """Rather than everything; with one, what holds it."""
    assert not parse_question({"query": {"text": "?!"}}, RULES).can_match
    assert parse_question({"query": {"text": "Oslo?!"}}, RULES).can_match
    assert parse_question({"query": {}}, RULES).can_match
