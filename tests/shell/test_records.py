"""Records of briefs: what is written is read back, and nothing else is taken for one."""

from __future__ import annotations

import contextlib
import struct
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.brief import Brief, Level, Segment
from gateway.core.context.shorten import Arrangement, Shortened
from gateway.core.context.supersede import Quote
from gateway.shell.state.memory import Kind
from gateway.shell.state.records import FORM, Record, UnusableRecord, parse_record, render_record

KEY = b"k" * 65
BRIEF = Brief(4, Level.BRIEF, (Segment(1, 4, (Quote(1, "Never."),), "字 é 😀"),), 1, 99, (2,), 0.75)
texts = st.text(max_size=40)
numbers = st.integers(0, 2**40)
quotes = st.builds(Quote, numbers, texts, numbers)
segments = st.builds(Segment, numbers, numbers, st.lists(quotes, max_size=3).map(tuple), texts)
briefs = st.builds(
    Brief,
    numbers,
    st.sampled_from(Level),
    st.lists(segments, max_size=3).map(tuple),
    numbers,
    numbers,
    st.lists(numbers, max_size=4).map(tuple),
    st.floats(0, 1),
)
shortened = st.builds(Shortened, numbers, st.binary(max_size=16), numbers, numbers, numbers)
arrangements = st.builds(
    Arrangement, numbers, st.lists(shortened, max_size=3).map(tuple), st.lists(texts).map(tuple), numbers, numbers
)
records: st.SearchStrategy[tuple[Kind, Record]] = st.one_of(
    st.tuples(st.sampled_from([Kind.APPLIED, Kind.WAITING]), briefs),
    st.tuples(st.just(Kind.ARRANGEMENT), arrangements),
)


@given(record=records)
def test_what_was_written_is_read_back(record: tuple[Kind, Record]) -> None:
    """Equal in every field, and of the same types: a tuple is a tuple, a quote is a quote."""
    kind, written = record
    read = parse_record(kind, KEY, render_record(KEY, written))

    assert read == written
    assert repr(read) == repr(written)


@given(record=records, at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_one_changed_byte_is_noticed(record: tuple[Kind, Record], at: int, flip: int) -> None:
    kind, written = record
    data = bytearray(render_record(KEY, written))
    data[at % len(data)] ^= flip

    with pytest.raises(UnusableRecord) as caught:
        parse_record(kind, KEY, bytes(data))
    assert caught.value.reason in ("form", "checksum")


def sealed(content: bytes, form: int = FORM) -> bytes:
    """Content with a checksum that is right."""
    return struct.pack(">BI", form, zlib.crc32(content, zlib.crc32(KEY))) + content


def without(*names: str) -> bytes:
    """The brief as a version wrote it that did not have these fields."""
    fields = msgspec.to_builtins(BRIEF)
    return msgspec.msgpack.encode({name: value for name, value in fields.items() if name not in names})


FOREIGN = {
    "nothing": (b"", "unreadable"),
    "a few bytes": (b"\x01abc", "unreadable"),
    "text": (b"hello, this is somebody else's", "form"),
    "another form": (sealed(msgspec.msgpack.encode(BRIEF), FORM + 1), "form"),
    "no MessagePack": (sealed(b"\xc1\xc1"), "unreadable"),
    "cut short": (sealed(msgspec.msgpack.encode(BRIEF)[:-3]), "unreadable"),
    "too long": (sealed(msgspec.msgpack.encode(BRIEF) + b"x"), "unreadable"),
    "something else": (sealed(msgspec.msgpack.encode(["a", "b"])), "unreadable"),
    "without a field that it needs": (sealed(without("segments")), "unreadable"),
    "a level that there is not": (sealed(without().replace(b"\xa5brief", b"\xa5bryyf")), "unreadable"),
    "no text": (sealed(without().replace("é".encode(), b"\xff\xff")), "unreadable"),
    "deeply nested": (sealed(b"\x91" * 100_000 + b"\xc0"), "unreadable"),
    "for another key": (render_record(KEY + b"x", BRIEF), "checksum"),
}


@pytest.mark.parametrize(("data", "reason"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_ours_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnusableRecord) as caught:
        parse_record(Kind.APPLIED, KEY, data)
    assert caught.value.reason == reason


@given(content=st.binary(max_size=200), kind=st.sampled_from(Kind))
def test_any_content_is_a_record_or_has_a_reason(content: bytes, kind: Kind) -> None:
    """Nothing but `UnusableRecord` comes out, also where the checksum is right."""
    for data in (content, sealed(content)):
        with contextlib.suppress(UnusableRecord):
            assert isinstance(parse_record(kind, KEY, data), Brief | Arrangement)


def test_fields_may_come_and_go() -> None:
    """One that has a default may be absent; one that is unknown is passed over."""
    older = parse_record(Kind.APPLIED, KEY, sealed(without("pinned", "coverage")))
    newer = msgspec.msgpack.encode({**msgspec.to_builtins(BRIEF), "a_later_field": [1, 2]})

    assert older == Brief(BRIEF.covers, BRIEF.level, BRIEF.segments, BRIEF.lost_quotes, BRIEF.tokens)
    assert parse_record(Kind.APPLIED, KEY, sealed(newer)) == BRIEF


def test_what_cannot_be_written_is_said() -> None:
    """Half of a surrogate pair has no bytes."""
    odd = Brief(1, Level.BRIEF, (Segment(1, 1, (), "\ud800"),), 0, 1)

    with pytest.raises(UnusableRecord) as caught:
        render_record(KEY, odd)
    assert caught.value.reason == "unwritable"
