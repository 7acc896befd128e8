"""Cursors hold for one question; lines come out whole; ranks become one order; times survive; names betray secrets."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.secrets import mask_secrets
from gateway.core.errors import Refusal
from gateway.core.facts.cursor import parse_cursor, render_cursor
from gateway.core.facts.fusion import fuse
from gateway.core.facts.lines import LineSplitter
from gateway.core.facts.masking import mask_named, mask_tree, may_hold_secret
from gateway.core.facts.memory import Found, Kind, Memory, Position, Scope, Source, Wanted
from gateway.core.facts.times import later, micros_of, told_time

SCOPE, WANTED = Scope(b"a" * 32, "notes"), Wanted(kind=Kind.FACT, subject="ann", terms=(1, 2))
PLACE = Position(1_700_000_000_000_000, "ab" * 16)
OTHERS = [
    (Scope(b"b" * 32, "notes"), WANTED),
    (Scope(b"a" * 32, "other"), WANTED),
    (SCOPE, Wanted(kind=Kind.FACT, subject="ann", terms=(1, 3))),
    (SCOPE, Wanted(kind=Kind.FACT, subject="ann", terms=(1, 2), with_ended=True)),
    (SCOPE, Wanted(kind=Kind.FACT)),
]


@given(st.integers(-(2**62), 2**62), st.text("0123456789abcdef", min_size=32, max_size=32))
def test_a_cursor_comes_back_as_its_place(observed_us: int, memory_id: str) -> None:
    place = Position(observed_us, memory_id)

    assert parse_cursor(SCOPE, WANTED, render_cursor(SCOPE, WANTED, place)) == place


@pytest.mark.parametrize(("scope", "wanted"), OTHERS)
def test_a_cursor_of_another_client_memory_or_question(scope: Scope, wanted: Wanted) -> None:
    with pytest.raises(Refusal) as refused:
        parse_cursor(scope, wanted, render_cursor(SCOPE, WANTED, PLACE))

    assert (refused.value.status, refused.value.param) == (400, "cursor")


def test_a_cursor_that_was_touched() -> None:
    """Any one character changed, added or taken away; base64 that is spelt otherwise; what is no base64."""
    good = render_cursor(SCOPE, WANTED, PLACE)
    touched = {good[:at] + letter + good[at + 1 :] for at in range(len(good)) for letter in "Aa0_ \n"} - {good}
    touched |= {good[:at] for at in range(len(good))} | {good + "=", good + "A", f" {good}", "ö", "\0", "=" * 600}
    touched.add(base64.urlsafe_b64encode(b"x" * 16 + b"\x92\x01\xa0").decode())
    refused = 0
    for cursor in touched:
        with pytest.raises(Refusal):
            parse_cursor(SCOPE, WANTED, cursor)
        refused += 1

    assert refused == len(touched)


@given(st.lists(st.binary(max_size=8).filter(lambda line: b"\n" not in line), max_size=8), st.data())
def test_lines_do_not_depend_on_how_bytes_arrive(lines: list[bytes], data: st.DataObject) -> None:
    """A line above the bound is None, once, and those behind it are whole."""
    joined = b"\n".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(joined)), max_size=6)))
    splitter = LineSplitter(5)
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(joined)], strict=True):
        found += splitter.feed(joined[start:end])
    found += splitter.finish()
    expected = [line if len(line) <= 5 else None for line in lines]
    if expected and expected[-1] == b"":
        expected.pop()

    assert found == expected


def memory(number: int) -> Memory:
    return Memory(f"{number:032x}", Kind.CONTEXT, "", "", "t", b"k", number, [Source("h")])


RANKS = st.lists(st.tuples(st.none() | st.integers(0, 99), st.none() | st.integers(0, 99)), max_size=20)


@given(RANKS)
def test_scores_are_shares_and_fall(ranks: list[tuple[int | None, int | None]]) -> None:
    found = [Found(memory(number), *pair) for number, pair in enumerate(ranks) if pair != (None, None)]
    scores = [score for _, score in fuse(found)]

    assert len(scores) == len(found)
    assert all(0 < score <= 1 for score in scores)
    assert scores == sorted(scores, reverse=True)


def test_what_is_first_everywhere_is_first() -> None:
    """What both lists know beats what one knows better; with one list the first has all of the score."""
    both = fuse([Found(memory(1), 0, None), Found(memory(2), 1, 1), Found(memory(3), None, 0)])
    words = fuse([Found(memory(2), 1), Found(memory(1), 0)])

    assert [one.id[-1] for one, _ in both] == ["2", "3", "1"]
    assert [(one.id[-1], score) for one, score in words] == [("1", 1.0), ("2", 60 / 61)]
    assert fuse([Found(memory(1), 0, 0), Found(memory(2), 1, 1)])[0][1] == 1.0


@given(st.datetimes(), st.integers(-1439, 1439))
def test_a_time_survives(moment: datetime, minutes: int) -> None:
    """To the microsecond, also before 1970, whatever its zone."""
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    micros = micros_of(aware)
    if micros is None:
        assert moment.year in (1, 9999)
        return
    told = datetime.fromisoformat(told_time(micros))

    assert told == aware
    assert micros_of(told) == micros


def test_what_can_be_told_has_an_end() -> None:
    last = micros_of(datetime.max.replace(tzinfo=UTC))

    assert last is not None
    assert later(last - 1, 1e9) == last
    assert later(5, None) is None
    assert told_time(last + 10) == told_time(last)


@pytest.mark.parametrize(
    ("name", "value", "masked"),
    [
        ("password", "hunter22", "[secret]"),
        ("has the passphrase", "opensesame", "[secret]"),
        ("api_key", "abcdefgh", "[secret]"),
        ("likes", "hunter22", "hunter22"),
        ("lives in", "Oslo", "Oslo"),
        ("note", "password: hunter22", "password: [secret]"),
    ],
)
def test_a_name_tells_that_a_value_is_secret(name: str, value: str, masked: str) -> None:
    assert mask_named(name, value) == masked
    assert mask_named(name, masked) == masked


SECRETS = [
    "sk-abcdefghijklmnop0123456789",
    "password: hunter22",
    "the api_key is abc123abc",
    "https://ann:hunter22@host/a",
    "Bearer abcdefgh12345678ijkl",
    "-----BEGIN RSA PRIVATE KEY-----",
    "AKIAABCDEFGHIJKLMNOP",
]


@given(st.lists(st.none() | st.text(max_size=20) | st.sampled_from(SECRETS), max_size=5))
def test_one_look_at_all_texts_finds_what_a_look_at_each_would(texts: list[str | None]) -> None:
    given_texts = [text for text in texts if text is not None]

    assert may_hold_secret(texts) or list(map(mask_secrets, given_texts)) == given_texts


@pytest.mark.parametrize("secret", SECRETS)
def test_one_look_finds_a_secret_among_texts(secret: str) -> None:
    assert may_hold_secret(["plain", None, secret, "password"])
    assert not may_hold_secret(["plain", None, "password", "text"])


@given(
    st.recursive(
        st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.just("a"), inner)
    )
)
def test_what_holds_no_text_stays(value: object) -> None:
    assert mask_tree(value) == value
