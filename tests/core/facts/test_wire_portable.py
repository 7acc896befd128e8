"""What is exported is read again as the same memory, under an id of its new place, with nothing that it may not say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.terms import terms_of
from gateway.core.errors import Refusal
from gateway.core.facts.memory import (
    Anchor,
    Kind,
    Level,
    Memory,
    Origin,
    Source,
    fact_hash,
    fact_key,
    text_key,
    topic_key,
)
from gateway.core.facts.wire_contexts import ContextRules
from gateway.core.facts.wire_facts import FactRules
from gateway.core.facts.wire_json import read_json
from gateway.core.facts.wire_portable import MAX_LINE_BYTES, parse_portable, portable_lines

NOW_US, ID, NEW_ID = 1_700_000_000_000_000, "a" * 32, "b" * 32
FACTS = FactRules()
CONTEXTS = ContextRules(True, dict.fromkeys(Level, 60.0))
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=30).map(
    lambda text: f"x{text}"
)
MAYBE = st.none() | TEXT
ANCHORS = st.builds(Anchor, MAYBE, st.none() | st.integers(0, 999), MAYBE, MAYBE, MAYBE)
PLACES = st.sampled_from(["", "user", "8 May 2023, 7:30  pm"])
ORIGINS = st.none() | st.builds(Origin, st.just("ab" * 32), st.integers(0, 99), st.integers(0, 99), PLACES, PLACES)
TIMES = st.integers(-(10**15), 10**15)
LATER = st.none() | st.integers(NOW_US + 1, 2 * NOW_US)
SESSIONS = st.just(b"") | st.binary(min_size=32, max_size=32)


@st.composite
def facts(draw: st.DrawFn) -> Memory:
    said = [draw(TEXT) for _ in range(3)]
    anchors = draw(st.lists(ANCHORS, min_size=1, max_size=3))
    return Memory(
        ID,
        Kind.FACT,
        *said,
        key=fact_key(*said),
        observed_us=draw(TIMES),
        sources=[Source(fact_hash(*said, anchor), draw(MAYBE), anchor, draw(ORIGINS)) for anchor in anchors],
        topic=draw(st.sampled_from([b"", topic_key(*said[:2])])),
        datatype=draw(MAYBE),
        confidence=draw(st.floats(0.8, 1)),
        ended_us=draw(st.none() | TIMES),
        expires_us=draw(LATER),
        session=draw(SESSIONS),
    )


@st.composite
def texts(draw: st.DrawFn) -> Memory:
    said = draw(TEXT)
    return Memory(
        ID,
        Kind.CONTEXT,
        "",
        "",
        said,
        key=text_key(said),
        observed_us=draw(TIMES),
        sources=[Source(text_key(said).hex(), draw(MAYBE))],
        expires_us=draw(LATER),
        level=draw(st.sampled_from(Level)),
        metadata=draw(st.dictionaries(TEXT, st.none() | TEXT | st.integers(-9, 9), max_size=3)),
        session=draw(SESSIONS),
    )


@given(facts() | texts())
def test_what_is_told_and_read_again_is_the_same(memory: Memory) -> None:
    """But for its id, which is given where it is read."""
    (line,) = portable_lines(memory)
    read = parse_portable(read_json(line), FACTS, CONTEXTS, NOW_US, NEW_ID).memory
    same = msgspec.structs.replace(memory, id=NEW_ID, terms=tuple(terms_of(memory.text)))

    assert ID not in line.decode()
    assert msgspec.structs.replace(read, sources=list(read.sources)) == same


def test_many_sources_are_several_lines() -> None:
    """Each short enough to be read again, whatever its characters are; together they hold every source."""
    wide = "\x01" * 512
    sources = [
        Source(f"{number:064x}", wide, Anchor(wide, number, wide, wide, wide), Origin("f" * 128, 0, 9))
        for number in range(100)
    ]
    said = ("\x01" * 512, "\x01" * 512, "\x01" * 8192)
    memory = Memory(ID, Kind.FACT, *said, key=b"k", observed_us=0, sources=sources)
    lines = list(portable_lines(memory))
    hashes = [source["hash"] for line in lines for source in json.loads(line)["sources"]]

    assert hashes == [source.hash for source in sources]
    assert max(map(len, lines)) <= MAX_LINE_BYTES


FACT: dict[str, Any] = {
    "kind": "fact",
    "subject": "a",
    "predicate": "b",
    "object": "c",
    "observed_at": "2020-01-01T00:00:00Z",
}
BAD: dict[str, tuple[Any, str]] = {
    "no object": (5, "kind"),
    "no kind": ({"subject": "a"}, "kind"),
    "another kind": (FACT | {"kind": "brief"}, "kind"),
    "an id": (FACT | {"id": ID}, "id"),
    "an owner": (FACT | {"owner": "f" * 64}, "owner"),
    "a scope": (FACT | {"scope": "notes"}, "scope"),
    "a key": (FACT | {"key": "f" * 64}, "key"),
    "a hash that is none": (FACT | {"sources": [{"hash": "x"}]}, "sources[0].hash"),
    "a session that is none": (FACT | {"session": "trip"}, "session"),
    "no time": ({name: value for name, value in FACT.items() if name != "observed_at"}, "observed_at"),
    "expired": (FACT | {"expires_at": "2021-01-01T00:00:00Z"}, "expires_at"),
    "not sure": (FACT | {"confidence": 0.1}, "confidence"),
    "too many sources": (FACT | {"sources": [{}] * 1001}, "sources"),
    "a turn that is none": (
        FACT | {"sources": [{"origin": {"turn": "?", "start": 0, "end": 1}}]},
        "sources.origin.turn",
    ),
}


@pytest.mark.parametrize(("value", "at"), BAD.values(), ids=BAD)
def test_what_a_line_may_not_say(value: Any, at: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_portable(value, FACTS, CONTEXTS, NOW_US, NEW_ID)

    assert (refused.value.details or {})["field"] == at


def test_a_secret_in_a_line_is_masked_and_its_hash_made_anew() -> None:
    value = FACT | {"predicate": "password", "object": "hunter22", "sources": [{"hash": "f" * 64}]}
    memory, hash_ = parse_portable(value, FACTS, CONTEXTS, NOW_US, NEW_ID)

    assert (memory.object, hash_) == ("[secret]", fact_hash("a", "password", "[secret]", Anchor()))
    assert (
        parse_portable(FACT, replace(FACTS, is_deduplicated=False), CONTEXTS, NOW_US, NEW_ID).memory.key != memory.key
    )
