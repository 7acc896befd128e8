"""What a memory gives to a chat: nothing that the chat contains, nothing twice, in the order of observation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.recall_index import learn_terms
from gateway.core.facts.memory import Anchor, Found, Memory, Origin, Source, fact_hash
from gateway.core.facts.mine import SAID
from gateway.core.facts.reminders import reminders_of, said_by
from gateway.core.facts.times import micros_of
from tests.shell.facts.memories import fact, text

TURNS = [f"{number:064x}" for number in range(6)]
DAY_US = 86_400_000_000
LEAST_US, MOST_US = (
    micros_of(moment) or 0
    for moment in (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
)


def from_chat(subject: str, predicate: str, object_: str, *origins: Origin, **rest: Any) -> Memory:
    """A fact that was mined at these places; a place may be None, for a document."""
    hash_ = fact_hash(subject, predicate, object_, Anchor())
    return fact(subject, predicate, object_, sources=[Source(hash_, origin=origin) for origin in origins], **rest)


def at(turn: str, heading: str = "", role: str = "user") -> Origin:
    return Origin(turn, 0, 5, role, heading)


objects = st.sampled_from(["I moved to Bergen.", "I moved to Rome.", "7T-4093", "早上好", "x" * 3000])
origins = st.builds(at, st.sampled_from(TURNS), st.sampled_from(["", "8 May 2023"]), st.sampled_from(["user", "tool"]))
facts = st.builds(
    lambda subject, predicate, object_, places, observed_us: from_chat(
        subject, predicate, object_, *places, observed_us=observed_us
    ),
    st.sampled_from(["Ann", "user"]),
    st.sampled_from([SAID, "is"]),
    objects,
    st.lists(origins, min_size=1, max_size=3),
    st.integers(0, 4) | st.integers(LEAST_US, MOST_US),
)
notes = st.builds(lambda words, us: text(words, observed_us=us), objects, st.integers(0, 4))
founds = st.lists(st.builds(Found, facts | notes | st.builds(fact, st.just("a"), st.just("is"), objects)), max_size=12)
contained_sets = st.sets(st.sampled_from(TURNS), max_size=3)


@given(founds, contained_sets)
def test_1_nothing_that_is_contained_and_nothing_twice(found: list[Found], contained: set[str]) -> None:
    """And all the rest."""
    by_id = {each.memory.id: each.memory for each in found}
    reminders = reminders_of(found, contained)
    says = [said_by(by_id[each.id]) for each in reminders]
    fresh = [
        memory
        for memory in by_id.values()
        if not any(source.origin and source.origin.turn in contained for source in memory.sources)
    ]

    assert len(set(says)) == len(says)
    assert set(says) == {said_by(memory) for memory in fresh}
    assert all(by_id[each.id] in fresh for each in reminders)


@given(founds, contained_sets, st.randoms())
def test_2_same_memories_same_reminders(found: list[Found], contained: set[str], lot: Any) -> None:
    """In whatever order they were found: as observed, numbered up to -1, labelled from m1 on."""
    reminders = reminders_of(found, contained)
    shuffled = list(found)
    lot.shuffle(shuffled)
    observed = {each.memory.id: (each.memory.observed_us, each.memory.id) for each in found}

    assert reminders_of(shuffled, contained) == reminders
    assert [observed[each.id] for each in reminders] == sorted(observed[each.id] for each in reminders)
    assert [each.number for each in reminders] == list(range(-len(reminders), 0))
    assert [each.label for each in reminders] == [f"m{place}" for place in range(1, len(reminders) + 1)]


@given(founds)
def test_what_is_recalled_stands_under_a_heading(found: list[Found]) -> None:
    """Which recall knows as one, and takes what is said for all the rest."""
    by_id = {each.memory.id: each.memory for each in found}
    for each in reminders_of(found, set()):
        record = learn_terms(each.text, each.name)
        said = said_by(by_id[each.id])

        assert each.text == f"[{record.heading}]\n{said}"
        assert each.text[record.passages[0].start :].startswith(said[:200])
        assert each.tokens * 4 >= len(each.text)


MINED = from_chat("Ann", SAID, "I moved to Bergen.", at(TURNS[0], "8 May 2023"), observed_us=3 * DAY_US)
SHOWN: dict[str, tuple[Memory, tuple[str, str, str]]] = {
    "said under a date": (MINED, ("user", "Ann", "[8 May 2023]\nI moved to Bergen.")),
    "said on a day": (
        from_chat("Ann", SAID, "I moved.", at(TURNS[0], role="assistant"), observed_us=3 * DAY_US),
        ("assistant", "Ann", "[1970-01-04]\nI moved."),
    ),
    "noted of what was said": (
        from_chat("email", "is", "a@b.example", at(TURNS[0], "8 May 2023")),
        ("memory", "", "[8 May 2023]\nemail is a@b.example"),
    ),
    "noted by an application": (fact("bay 12", "is", "free"), ("memory", "", "[1970-01-01]\nbay 12 is free")),
    "said, as an application has it": (
        fact("Ann", SAID, "hello", observed_us=DAY_US),
        ("memory", "", "[1970-01-02]\nhello"),
    ),
    "a text": (text("Bay 12 is free.", observed_us=DAY_US), ("memory", "", "[1970-01-02]\nBay 12 is free.")),
    "before 1970": (text("Moon.", observed_us=-DAY_US), ("memory", "", "[1969-12-31]\nMoon.")),
    "the first moment": (text("Then.", observed_us=LEAST_US), ("memory", "", "[0001-01-01]\nThen.")),
    "the last moment": (text("Last.", observed_us=MOST_US), ("memory", "", "[9999-12-31]\nLast.")),
    "the second source has the place": (
        fact(
            "user",
            SAID,
            "I moved.",
            sources=[Source("0" * 64, "a.pdf"), Source("1" * 64, origin=at(TURNS[0], "8 May 2023"))],
        ),
        ("user", "", "[8 May 2023]\nI moved."),
    ),
}


@pytest.mark.parametrize(("memory", "expected"), SHOWN.values(), ids=SHOWN)
def test_what_is_shown(memory: Memory, expected: tuple[str, str, str]) -> None:
    """Of what somebody said, their words, their role and whose name it is under, which a role is not."""
    (shown,) = reminders_of([Found(memory)], set())

    assert (shown.role, shown.name, shown.text) == expected


def test_the_similarity_goes_along() -> None:
    found = [Found(MINED, similarity=0.25), Found(fact("a", "is", "b"))]
    shown = {each.id: each.similarity for each in reminders_of(found, set())}

    assert sorted(shown.values(), key=str) == [0.25, None]
    assert shown[MINED.id] == 0.25


def test_a_heading_that_is_none_does_not_hide_what_is_said() -> None:
    """One that came with an import, of any characters and length, is shown as one line or not at all."""
    said = "I moved to Bergen."
    headings: Sequence[str] = ("a]b", "a\nb", "x" * 81, "x", "</recalled>", " ", "[", "\u2028")
    for heading in headings:
        (shown,) = reminders_of([Found(from_chat("user", SAID, said, at(TURNS[0], heading)))], set())
        record = learn_terms(shown.text)

        assert record.heading
        assert shown.text[record.passages[0].start :] == said


@given(st.integers(LEAST_US, MOST_US))
def test_any_time_that_can_be_told_has_a_day(observed_us: int) -> None:
    (shown,) = reminders_of([Found(text("words", observed_us=observed_us))], set())
    day = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=observed_us)).date()

    assert shown.text == f"[{day.isoformat()}]\nwords"
