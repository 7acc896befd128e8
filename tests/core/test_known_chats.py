"""A chat that comes again is read as if it were new, whatever its client did to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.facts import MessageFacts, chain_digests
from gateway.core.context.known_chats import KnownChats
from gateway.core.context.units import Outline, extend_outline, outline_of

IDS = st.sampled_from(["a", "b", "c", ""])


@st.composite
def facts(draw: st.DrawFn) -> MessageFacts:
    """Any message, of few kinds, so that chats meet again: its results may answer what nobody called."""
    role = draw(st.sampled_from(["system", "user", "assistant", "assistant", "tool", "tool"]))
    calls = tuple(draw(st.lists(IDS, max_size=2))) if role == "assistant" else ()
    answers = draw(IDS) if role == "tool" else None
    tokens = draw(st.integers(1, 3))
    return MessageFacts(role, tokens, repr((role, calls, answers, tokens)).encode(), calls, answers)


histories = st.lists(facts(), max_size=14)


def shown(outline: Outline) -> tuple[object, ...]:
    """Everything that it says, whatever it is held in."""
    named = (
        outline.facts,
        outline.units,
        outline.places,
        outline.fixed,
        outline.tokens_before,
        outline.starts,
        outline.boundaries,
    )
    return *map(list, named), outline.first_user, outline.last_user


@given(history=histories, data=st.data())
def test_an_extended_outline_is_that_of_the_whole(history: list[MessageFacts], data: st.DataObject) -> None:
    """From wherever it is extended, whatever the other went on with."""
    at = data.draw(st.integers(0, len(history)))
    other = [*history[:at], *data.draw(histories)]

    assert shown(extend_outline(outline_of(other), history, at)) == shown(outline_of(history))


@given(chats=st.lists(st.tuples(st.sampled_from([b"one", b"two"]), histories, st.booleans()), max_size=12))
def test_what_is_read_is_what_would_be_made(chats: list[tuple[bytes, list[MessageFacts], bool]]) -> None:
    """Growing, cut, edited and unrelated chats, in any order, in two scopes."""
    known = KnownChats(1_000_000)
    before: list[MessageFacts] = []

    for scope, messages, goes_on in chats:
        chat = [*before, *messages] if goes_on else messages
        chain, outline = known.read(scope, chat)
        before = chat

        assert list(chain) == chain_digests(scope, chat)
        assert shown(outline) == shown(outline_of(chat))


def test_a_long_chat_is_held_beside_its_branches() -> None:
    """Edits of its end are held as far as there is room, and never in place of it."""
    known = KnownChats(2_000_000)
    chat = [MessageFacts("user", 1, str(place).encode()) for place in range(2500)]
    first = known.read(b"", chat)
    for number in range(6):
        edited = [*chat[:-1], MessageFacts("user", 1, f"edited {number}".encode())]
        found = known.read(b"", edited)

        assert list(found.chain) == chain_digests(b"", edited)
        assert found.chain[2000] is first.chain[2000]
    again = known.read(b"", [*chat, chat[0]])

    assert again.chain[2000] is first.chain[2000]
    assert 0 < known.held_bytes <= 2_000_000


def test_what_is_held_is_bounded() -> None:
    """Whatever comes, and however long it is."""
    known = KnownChats(100_000)

    for number in range(200):
        name = str(number).encode()
        known.read(b"", [MessageFacts("user", 1, name + str(part).encode()) for part in range(number)])

        assert known.held_bytes <= 100_000
