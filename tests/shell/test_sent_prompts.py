"""What was forwarded when: bounded, the newest first, each upstream for itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import SentMark
from gateway.shell.state.sent_prompts import RememberedPrompts


@dataclass
class Clock:
    """Says what it was told."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def chain(*names: object) -> tuple[bytes, ...]:
    """Keys of a conversation, the newest first."""
    return tuple(hashlib.sha256(repr(name).encode()).digest() for name in names)


def test_a_longer_chat_is_recognised_by_what_was_sent_of_it() -> None:
    """Its place in the chain, its age and its tokens are those of the newest request."""
    clock = Clock()
    sent = RememberedPrompts(10, clock)
    sent.put("a", SentMark(chain(1), 100, 90))
    clock.now_s = 5.0
    sent.put("a", SentMark(chain(3, 2, 1), 300, 200))
    clock.now_s = 12.0
    found = sent.find("a", chain(5, 4, 3, 2, 1))

    assert found is not None
    assert (found.place, found.idle_s, found.tokens, found.lasting_tokens) == (2, 7.0, 300, 200)
    assert len(sent) == 1


def test_each_upstream_and_each_chat_has_its_own() -> None:
    """What one upstream was sent says nothing of another's cache."""
    sent = RememberedPrompts(10, Clock())
    sent.put("a", SentMark(chain(1), 100, 100))

    assert sent.find("b", chain(1)) is None
    assert sent.find("a", chain(2)) is None
    assert sent.find("a", ()) is None


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(1, 4)), max_size=40),
)
def test_what_is_held_is_bounded(bound: int, requests: list[tuple[str, int, int]]) -> None:
    """Whatever is sent, at most so many conversations are remembered, the latest always among them."""
    clock = Clock()
    sent = RememberedPrompts(bound, clock)
    for upstream, chat, length in requests:
        clock.now_s += 1
        keys = chain(*((chat, turn) for turn in range(length, 0, -1)))
        sent.put(upstream, SentMark(keys, length, length))
        found = sent.find(upstream, keys)

        assert len(sent) <= bound
        assert found is not None
        assert (found.place, found.idle_s, found.tokens) == (0, 0.0, length)
