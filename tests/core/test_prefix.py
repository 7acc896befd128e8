"""Known beginnings of bodies: what is read with them is what is read without, to the byte."""

from __future__ import annotations

import json
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import Refusal
from gateway.core.wire.prefix import MIN_BYTES, Beginning, KnownMessages, PrefixMemo, places_of
from gateway.core.wire.request import Endpoint, MeteredRequest, parse_after, parse_metered
from gateway.shell.tokens.digest import message_digests

LONG = "word " * 900
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": LONG},
    {"role": "user", "content": 'He said: "}, {"'},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "ä漢字"},
]


def body_of(messages: list[dict[str, Any]], *, is_compact: bool = True, **others: Any) -> bytes:
    tree = {"model": "gpt-4o", **others.pop("before", {}), "messages": messages, **others}
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":") if is_compact else None).encode()


def memo_of(*bodies: bytes, max_bytes: int = 2**20) -> PrefixMemo:
    """A memo that has read these bodies; what was learned of a message is its text."""
    memo = PrefixMemo(message_digests, max_bytes)
    for body in bodies:
        remember(memo, body)
    return memo


def remember(memo: PrefixMemo, body: bytes) -> None:
    request = parse_metered(Endpoint.CHAT, body)
    place = request.spans["messages"]
    ends = places_of(place.start + 1, place.end - 1, [len(bytes(raw)) for raw in request.messages])
    if ends is not None:
        memo.put(body, place.start + 1, ends, "who", tuple(bytes(raw) for raw in request.messages))


def fields_of(request: MeteredRequest) -> Any:
    """All that a request says, messages as bytes."""
    told = (request.model, request.body, dict(request.spans), request.is_stream, request.asks_for_usage)
    more = (request.completion_tokens, request.choices, dict(request.sections), dict(request.options))
    return (*told, *more, [bytes(raw) for raw in request.messages])


messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=30)}),
    min_size=1,
    max_size=5,
)
others = st.fixed_dictionaries(
    {},
    optional={
        "stream": st.booleans(),
        "tools": st.just([{"type": "function", "function": {"name": "f"}}]),
        "max_tokens": st.integers(1, 99),
        "before": st.sampled_from([{}, {"n": 2}, {"user": '"messages":['}]),
    },
)


@settings(max_examples=300, deadline=None)
@given(first=messages, more=messages, fields=others, again=others)
def test_what_is_read_with_a_beginning_is_what_is_read_without(
    first: list[dict[str, Any]], more: list[dict[str, Any]], fields: dict[str, Any], again: dict[str, Any]
) -> None:
    """Whatever follows, whatever stands around it, at any number of known messages."""
    known = [*CHAT, *first]  # of these all but the last are known
    again = {**again, "before": fields.get("before", {})}
    memo = memo_of(body_of(known, **fields))
    body = body_of([*known, *more], **again)
    found = memo.find(body)

    assert found is not None
    request = parse_after(body, found)
    assert request is not None
    assert request.known == len(known) - 1
    assert fields_of(request) == fields_of(parse_metered(Endpoint.CHAT, body))
    learned = found.learned["who"]
    assert list(learned[: request.known]) == [bytes(raw) for raw in request.messages][: request.known]


def test_the_same_body_again_is_known_whole() -> None:
    body = body_of(CHAT)
    found = memo_of(body).find(body)

    assert found is not None
    again = parse_after(body, found)
    assert again is not None
    assert fields_of(again) == fields_of(parse_metered(Endpoint.CHAT, body))


def test_the_longest_beginning_is_taken() -> None:
    longer = [*CHAT, {"role": "assistant", "content": "More."}, {"role": "user", "content": "Yes?"}]
    found = memo_of(body_of(CHAT), body_of(longer)).find(body_of([*longer, *CHAT]))

    assert found is not None
    assert len(found.ends) == len(longer) - 1


@given(at=st.integers(0, len(body_of(CHAT)) - 30), byte=st.integers(0, 255))
def test_another_beginning_is_not_taken(at: int, byte: int) -> None:
    """One byte changed anywhere before the last message, and it is another chat."""
    body = body_of(CHAT)
    changed = body[:at] + bytes([byte]) + body[at + 1 :]
    end = len(body_of(CHAT[:-1])) - 2
    memo = memo_of(body)

    if changed != body and at < end:
        assert memo.find(changed) is None


@pytest.mark.parametrize(
    "tail",
    [
        b',"messages":[]}',
        b',{"role":"user","content":"x"}],"messages":[]}',
        b',{"role":"user","content":"x"}],"model":"other"}',
        b",]}",
        b',{"role":"user","content":"x"}',
        b"]",
        b"]}}",
        b',{"role":"user","content":"x"}]} x',
        b',7],"stream":"maybe"}',
    ],
)
def test_what_would_be_refused_is_refused_as_ever(tail: bytes) -> None:
    """A second key, a broken end, a wrong type: the whole is read again, and the same is said of it."""
    known = body_of(CHAT)
    body = known[: known.rindex(b"]")] + tail
    found = memo_of(known).find(body)

    assert found is None or parse_after(body, found) is None
    with pytest.raises(Refusal):
        parse_metered(Endpoint.CHAT, body)


def test_bodies_with_spaces_are_read_as_ever() -> None:
    """Places are known only where messages stand one byte apart; others are not kept."""
    body = body_of(CHAT, is_compact=False)

    assert memo_of(body).find(body) is None
    assert places_of(0, 10, [4, 4]) is None
    assert places_of(0, 9, [4, 4]) == array("L", [4, 9])


@pytest.mark.parametrize("level", [2_048, 8_192, 65_536])
@pytest.mark.parametrize("off", [0, 1])
def test_a_body_may_end_where_an_anchor_does(level: int, off: int) -> None:
    """The last message's end exactly at a place that bodies are compared up to, or beside it."""
    short = body_of([CHAT[1], {"role": "user", "content": ""}])
    chat = [CHAT[1], {"role": "user", "content": "x" * (level + off + 2 - len(short))}]
    memo = memo_of(body_of([*chat, CHAT[0]]))
    found = memo.find(body_of([*chat, *CHAT]))

    assert len(body_of(chat)) - 2 == level + off
    assert found is not None
    assert len(found.ends) == 2


def test_short_bodies_are_not_looked_up() -> None:
    body = body_of([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "x"}])
    memo = memo_of(body)

    assert len(body) < MIN_BYTES
    assert memo.find(body) is None
    assert (memo.hits, memo.misses) == (0, 0)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 40), max_size=40), max_bytes=st.integers(1_000, 40_000))
def test_it_stays_within_its_bytes(sizes: list[int], max_bytes: int) -> None:
    """However many conversations, however long."""
    memo = PrefixMemo(message_digests, max_bytes)
    for number, size in enumerate(sizes):
        remember(memo, body_of([{"role": "user", "content": f"{number}{LONG}"}, *CHAT[1:] * size]))

        assert memo.held_bytes <= max_bytes


def test_messages_by_their_places() -> None:
    """Like a list of them."""
    known = KnownMessages(b"[aa,b,cccc]", 1, array("L", [3, 5, 10]))

    assert list(known) == [b"aa", b"b", b"cccc"]
    assert (known[-1], known[1:], len(known)) == (b"cccc", [b"b", b"cccc"], 3)
    with pytest.raises(IndexError):
        known[3]
    assert known.at([2, 0, 1]) == [known[2], known[0], known[1]]
    assert known.at(()) == []


def test_one_message_is_a_beginning_too() -> None:
    """A long system message that many chats share; of a chat of one message nothing stands before the last."""
    assert memo_of(body_of(CHAT[:1])).find(body_of(CHAT)) is None
    assert isinstance(memo_of(body_of(CHAT[:2])).find(body_of([CHAT[0], CHAT[3]])), Beginning)
