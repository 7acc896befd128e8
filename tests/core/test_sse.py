"""Events come out whole, unchanged, and the same however the network cuts the stream."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.wire.sse import Event, EventSplitter, parse_event, raw_position, render_event
from tests.splits import byte_by_byte, cuts, in_two
from tests.sse_vectors import VECTORS

BOM = b"\xef\xbb\xbf"
FRAGMENTS = st.sampled_from(
    [
        b"\n", b"\r", b"\r\n", b"\n\n", b"data", b"data:", b"data: ", b"event: x", b"event:", b":", b"id: 1", b" ", BOM,
        b'data: {"a":1}\n\n', b"[DONE]", b'{"usage":null}', b"data: {", b"}", "é😀".encode(), b"\xff", b"\xef",
    ]
)  # fmt: skip
STREAMS = st.lists(FRAGMENTS, max_size=14).map(b"".join)
BY_NAME = [pytest.param(vector, id=vector.name) for vector in VECTORS]


def pieces_of(chunks):
    """What comes out while the stream arrives, with the last piece if its end proves it whole, and the rest."""
    splitter = EventSplitter()
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
    if splitter.rest_is_event:
        pieces.append(splitter.take_rest())
    return pieces, splitter.take_rest()


def events_of(chunks):
    return [event for piece in pieces_of(chunks)[0] if (event := parse_event(piece))]


def as_specified(raw):
    """The standard's algorithm, line by line over the whole stream: what a browser would dispatch."""
    events, data, name = [], [], b""
    for line in re.split(rb"\r\n|\n|\r", raw.removeprefix(BOM))[:-1]:
        if not line:
            if data:
                events.append(Event((name or b"message").decode("utf-8", "replace"), b"\n".join(data)))
            data, name = [], b""
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return events


@pytest.mark.parametrize("vector", BY_NAME)
def test_vectors_give_their_events_at_every_split(vector):
    """What upstreams really send is read as the standard says, at every way of cutting it."""
    expected = [(name, data) for name, data in vector.events]
    for chunks in ([vector.raw], byte_by_byte(vector.raw), *in_two(vector.raw)):
        found = [(event.name, event.data.decode("utf-8", "replace")) for event in events_of(chunks)]

        assert found == expected


@given(st.data())
def test_vectors_give_their_events_at_many_splits(data):
    vector = data.draw(st.sampled_from(VECTORS))
    chunks = data.draw(cuts(vector.raw))

    assert pieces_of(chunks) == pieces_of([vector.raw])


@settings(max_examples=300)
@example(b"data: {\rdata: }\n\n")
@given(STREAMS)
def test_events_are_those_of_the_standard(raw):
    """Any stream, however odd, dispatches what the standard's own algorithm dispatches."""
    assert events_of([raw]) == as_specified(raw)


@settings(max_examples=300)
@given(STREAMS.flatmap(lambda raw: st.tuples(st.just(raw), cuts(raw))))
def test_no_byte_is_lost_and_splits_do_not_matter(case):
    """Joined, what comes out is what went in; cut otherwise, the same pieces come out."""
    raw, chunks = case
    pieces, rest = pieces_of(chunks)

    assert b"".join(pieces) + rest == raw
    assert (pieces, rest) == pieces_of([raw])
    assert (pieces, rest) == pieces_of(byte_by_byte(raw))


@given(STREAMS.flatmap(cuts))
def test_no_more_than_one_incomplete_event_is_held(chunks):
    """As soon as an event's blank line is there, nothing of that event is held back."""
    splitter = EventSplitter()
    for chunk in chunks:
        splitter.feed(chunk)
        held = bytes(splitter.rest)

        assert not as_specified(held[:-1] if held.endswith(b"\r") else held)


@given(STREAMS)
def test_raw_positions_lead_to_the_same_bytes(raw):
    """Each byte of an event's data, line joints aside, is found again in the event's raw bytes."""
    for piece in pieces_of([raw])[0]:
        event = parse_event(piece)
        for at, byte in enumerate(event.data if event else b""):
            position = raw_position(piece, at)

            assert piece[position] == byte or (byte == ord("\n") and piece[position] in b"\r\n")


def test_a_position_behind_the_data_is_an_error():
    with pytest.raises(IndexError):
        raw_position(b"data: x\n\n", 5)


@given(st.binary().filter(lambda data: not re.search(rb"[\r\n]", data)), st.sampled_from(["", "error", "a b"]))
def test_rendered_events_are_read_back(data, name):
    assert events_of([render_event(data, name)]) == [Event(name or "message", data)]
