"""Conversations are spread over equal upstreams, and stay where they are."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.routing.balance import conversation_key, has_equals, order_by_weight
from gateway.core.routing.routes import Route
from gateway.core.wire.request import Endpoint, MeteredRequest, parse_metered
from tests.histories import route_of

names = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=2, max_size=6, unique=True)


def routes_of(*named: tuple[str, int, int]) -> list[Route]:
    """Of name, priority and weight."""
    return [replace(route_of(), name=name, priority=priority, weight=weight) for name, priority, weight in named]


@given(names=names, key=st.binary(max_size=20), data=st.data())
def test_a_conversation_keeps_its_order(names: list[str], key: bytes, data: st.DataObject) -> None:
    """However upstreams are listed; without one of them the others keep theirs."""
    routes = routes_of(*((name, data.draw(st.integers(0, 1)), data.draw(st.integers(1, 9))) for name in names))
    ordered = order_by_weight(routes, key)
    gone = data.draw(st.sampled_from(routes))

    assert order_by_weight(data.draw(st.permutations(routes)), key) == ordered
    assert [route.priority for route in ordered] == sorted(route.priority for route in routes)
    assert order_by_weight([route for route in routes if route is not gone], key) == [
        route for route in ordered if route is not gone
    ]


def test_shares_are_by_weight() -> None:
    """Of ten thousand conversations, to within three hundredths."""
    routes = routes_of(("a", 0, 1), ("b", 0, 3), ("c", 0, 6), ("d", 1, 100))
    first = Counter(order_by_weight(routes, str(number).encode())[0].name for number in range(10_000))

    assert {name: round(count / 10_000, 1) for name, count in first.items()} == {"a": 0.1, "b": 0.3, "c": 0.6}


def request_of(*messages: dict[str, Any]) -> MeteredRequest:
    return parse_metered(Endpoint.CHAT, json.dumps({"model": "m", "messages": messages}).encode())


SYSTEM, USER = {"role": "system", "content": "It is noon."}, {"role": "user", "content": "Hello"}


def test_a_conversation_is_known_by_how_it_began() -> None:
    """Whatever follows, and whatever time its system message tells; or by its session's name."""
    key = conversation_key(request_of(SYSTEM, USER), b"scope", None)
    later = request_of({**SYSTEM, "content": "It is one."}, USER, {"role": "assistant", "content": "Hi"}, USER)

    assert key is not None
    assert conversation_key(later, b"scope", None) == key
    assert conversation_key(later, b"other", None) != key
    assert conversation_key(request_of({**USER, "content": "Bye"}), b"scope", None) != key
    assert conversation_key(request_of(USER), b"s", "n") == conversation_key(later, b"s", "n") != key
    assert conversation_key(request_of(SYSTEM), b"scope", None) is None


def test_there_may_be_nothing_to_choose() -> None:
    assert not has_equals(routes_of(("a", 0, 1), ("b", 1, 1)))
    assert has_equals(routes_of(("a", 0, 1), ("b", 0, 1)))
