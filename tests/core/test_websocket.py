"""Messages leave as they came, in bounded memory, and what must not pass does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.wire.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    Closing,
    FrameRelay,
    render_close,
)
from tests.splits import byte_by_byte, cuts, in_two

HELD = 40
MAX = 1000
KEY = b"\x01\x9a\xf0\x55"


def masked(payload, key):
    return bytes(byte ^ key[at % 4] for at, byte in enumerate(payload)) if key else payload


def frame(opcode, payload=b"", *, is_final=True, key=b""):
    """One frame, by the book."""
    first, mask, size = (0x80 if is_final else 0) | opcode, 0x80 if key else 0, len(payload)
    if size < 126:
        head = bytes([first, mask | size])
    elif size < 65_536:
        head = bytes([first, mask | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, mask | 127]) + size.to_bytes(8, "big")
    return head + key + masked(payload, key)


def frames_of(raw):
    """What a peer reads: (opcode, is_final, is_masked, payload) of each frame; fails on anything that is left over."""
    found = []
    while raw:
        size, at = raw[1] & 127, 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(raw[2 : 2 + width], "big"), 2 + width
        key = raw[at : at + 4] if raw[1] & 128 else b""
        at += len(key)
        assert len(raw) >= at + size, "it ends within a frame"
        found.append((raw[0] & 15, raw[0] >= 128, bool(key), masked(raw[at : at + size], key)))
        raw = raw[at + size :]
    return found


def messages_of(frames):
    """Whole messages and control frames in the order in which they end, and what is begun of another."""
    found, opcode, parts = [], 0, []
    for kind, is_final, _, payload in frames:
        if kind >= CLOSE:
            found.append((kind, payload))
            continue
        assert (kind == CONTINUATION) == bool(opcode)
        opcode, parts = kind or opcode, [*parts, payload]
        if is_final:
            found.append((opcode, b"".join(parts)))
            opcode, parts = 0, []
    return found, b"".join(parts)


def relay(*, is_masked=False, **options):
    return FrameRelay(is_masked=is_masked, **{"max_message_bytes": MAX, "held_bytes": HELD, **options})


def passed(one, chunks):
    return b"".join(one.feed(chunk) for chunk in chunks)


PAYLOADS = st.integers(0, 200).map(lambda size: bytes(at % 251 for at in range(size)))
CONTROLS = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))


@st.composite
def streams(draw, key):
    """Messages in one or more frames, with control frames anywhere that they may stand."""
    raw = b""
    for _ in range(draw(st.integers(0, 5))):
        parts = draw(st.lists(PAYLOADS, min_size=1, max_size=4))
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        for place, part in enumerate(parts):
            raw += frame(opcode if not place else CONTINUATION, part, is_final=place + 1 == len(parts), key=key)
            for kind, payload in draw(st.lists(CONTROLS, max_size=1)):
                raw += frame(kind, payload, key=key)
    return raw


@pytest.mark.parametrize("key", [b"", KEY], ids=["upstream", "client"])
@given(data=st.data())
def test_1_messages_leave_as_they_came(key, data):
    """In any chunks: the same messages, kinds and control frames, masked as they were."""
    raw = data.draw(streams(key))
    one = relay(is_masked=bool(key))
    out = passed(one, data.draw(cuts(raw)))

    assert messages_of(frames_of(out)) == messages_of(frames_of(raw))
    assert all(is_masked == bool(key) for _, _, is_masked, _ in frames_of(out))
    assert not one.is_over


@pytest.mark.parametrize("key", [b"", KEY], ids=["upstream", "client"])
def test_1_at_every_split(key):
    raw = frame(TEXT, b"a" * 100, is_final=False, key=key) + frame(PING, b"p", key=key)
    raw += (
        frame(CONTINUATION, b"bcdef" * 60, key=key) + frame(BINARY, b"", key=key) + frame(CLOSE, b"\x03\xe8", key=key)
    )
    expected = messages_of(frames_of(raw))
    for chunks in (byte_by_byte(raw), *in_two(raw)):
        one = relay(is_masked=bool(key))

        assert messages_of(frames_of(passed(one, chunks))) == expected
        assert one.closing == Closing(1000)


def test_1_what_is_whole_passes_byte_for_byte():
    raw = frame(BINARY, b"x" * 500) + frame(TEXT, b"") + frame(PING)

    assert relay().feed(raw) == raw


@given(data=st.data())
def test_2_and_3_what_is_out_ends_between_frames_and_little_is_held(data):
    raw = data.draw(streams(KEY))
    one = relay(is_masked=True)
    fed = out = b""
    for chunk in data.draw(cuts(raw)):
        fed += chunk
        out += one.feed(chunk)
        whole, begun = messages_of(frames_of(out))
        passed_bytes = sum(len(payload) for _, payload in whole) + len(begun)

        assert len(fed) - passed_bytes <= HELD + 125 + 14 * (len(frames_of(out)) + 2)


@pytest.mark.parametrize("sizes", [[MAX + 1], [600, 401], [1] * (MAX + 1)], ids=["one frame", "two", "many"])
def test_4_a_message_that_is_too_large_does_not_pass(sizes):
    raw = b"".join(
        frame(CONTINUATION if place else BINARY, b"x" * size, is_final=place + 1 == len(sizes))
        for place, size in enumerate(sizes)
    )
    for chunks in ([raw], byte_by_byte(raw)):
        one = relay()
        out = passed(one, chunks)

        assert one.flaw is not None
        assert one.flaw.code == TOO_BIG
        assert len(messages_of(frames_of(out))[1]) <= MAX
        assert one.feed(frame(TEXT, b"more")) == b""


def test_4_the_largest_message_passes_and_so_does_the_next():
    raw = frame(BINARY, b"x" * MAX) * 2

    assert relay().feed(raw) == raw


def test_4_a_size_is_refused_before_its_bytes_are_here():
    one = relay()
    one.feed(b"\x82\x7f" + b"\xff" * 8)

    assert one.flaw is not None
    assert one.flaw.code == TOO_BIG


def test_4_nothing_passes_after_a_close():
    raw = frame(CLOSE, b"\x0f\xa0why")
    one = relay()

    assert one.feed(raw + frame(TEXT, b"late")) == raw
    assert one.feed(frame(TEXT, b"later")) == b""
    assert one.closing == Closing(4000, "why")


BROKEN = {
    "a reserved bit": b"\xc1\x01x",
    "an unknown kind": b"\x83\x00",
    "an unknown control frame": b"\x8b\x00",
    "a mask": frame(TEXT, b"x", key=KEY),
    "a continuation of nothing": frame(CONTINUATION, b"x"),
    "a message within another": frame(TEXT, b"x", is_final=False) + frame(TEXT, b"y"),
    "a ping in pieces": frame(PING, b"x", is_final=False),
    "a long ping": frame(PING, b"x" * 126),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_the_protocol_is_not_passed_on(name):
    for chunks in ([BROKEN[name]], byte_by_byte(BROKEN[name])):
        one = relay()
        out = passed(one, chunks)

        assert one.flaw is not None
        assert one.flaw.code == PROTOCOL_ERROR
        assert BROKEN[name].startswith(out)
        assert len(out) < len(BROKEN[name])


def test_a_clients_frame_must_be_masked():
    one = relay(is_masked=True)

    assert one.feed(frame(TEXT, b"x")) == b""
    assert one.flaw is not None


@pytest.mark.parametrize("key", [b"", KEY])
def test_what_is_muted_still_shows_its_close(key):
    """Also behind a message that is too large to pass."""
    raw = frame(BINARY, b"x" * (MAX + 50), key=key) + frame(TEXT, b"y", key=key) + frame(CLOSE, b"\x03\xe9", key=key)
    for chunks in ([raw], byte_by_byte(raw)):
        one = relay(is_masked=bool(key))
        for chunk in chunks:
            if one.flaw is not None:
                one.mute()

            assert one.feed(chunk) == b""
        one.mute()
        one.feed(b"")

        assert one.closing == Closing(1001)


@given(data=st.data())
def test_texts_are_watched_however_they_come(data):
    raw = data.draw(streams(b""))
    seen = []
    one = relay(watch=seen.append, max_watched_bytes=300)
    passed(one, data.draw(cuts(raw)))

    whole = [payload for kind, payload in messages_of(frames_of(raw))[0] if kind == TEXT]

    assert seen == [payload for payload in whole if len(payload) <= 300]


@given(data=st.binary(max_size=80), is_masked=st.booleans())
def test_any_bytes_are_no_error(data, is_masked):
    one = relay(is_masked=is_masked)

    frames_of(one.feed(data))


@pytest.mark.parametrize("key", [b"", KEY])
@pytest.mark.parametrize("closing", [Closing(None), Closing(1000), Closing(4999, "ü" * 61), Closing(1011, "€" * 200)])
def test_a_close_says_its_code_and_reason(closing, key):
    raw = render_close(closing, key)
    one = relay(is_masked=bool(key))

    assert one.feed(raw) == raw
    assert one.closing is not None
    assert one.closing.code == closing.code
    assert closing.reason.startswith(one.closing.reason)
    assert len(one.closing.reason) == len(closing.reason) or len(raw) > 120
