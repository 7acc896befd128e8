"""What a request asks of the gateway itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Refusal
from gateway.core.wire.overrides import NO_OVERRIDES, Compacting, Overrides, read_overrides


@pytest.mark.parametrize(
    ("headers", "overrides"),
    [
        ([], NO_OVERRIDES),
        ([("Accept", "*/*"), ("x-gateway-other", "?")], NO_OVERRIDES),
        ([("X-Gateway-Budget", " 3000 ")], Overrides(max_total_tokens=3000)),
        ([("x-gateway-compaction", "OFF")], Overrides(compacting=Compacting.OFF)),
        ([("x-gateway-compaction", "shadow")], Overrides(compacting=Compacting.SHADOW)),
        ([("x-gateway-compaction", "on")], NO_OVERRIDES),
        ([("x-gateway-compaction", "")], NO_OVERRIDES),
        ([("x-gateway-explain", "1"), ("x-gateway-budget", "1")], Overrides(1, Compacting.ON, explains=True)),
        ([("x-gateway-explain", "false")], NO_OVERRIDES),
        ([("X-Gateway-Session", " trip to Lisbon/1 ")], Overrides(session="trip to Lisbon/1")),
        ([("X-Gateway-Cache", "Off")], Overrides(caches=False)),
        ([("x-gateway-cache", "on")], NO_OVERRIDES),
        ([("x-gateway-session", "x" * 128)], Overrides(session="x" * 128)),
        ([("X-Gateway-Memory", " notes/1 ")], Overrides(memory="notes/1")),
    ],
)
def test_headers_become_overrides(headers: list[tuple[str, str]], overrides: Overrides) -> None:
    assert read_overrides(headers) == overrides


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-gateway-budget", "0"),
        ("x-gateway-budget", "-5"),
        ("x-gateway-budget", "1e3"),
        ("x-gateway-budget", "³"),
        ("x-gateway-budget", "9" * 5000),
        ("x-gateway-budget", "000000000001" + "9" * 5000),
        ("x-gateway-budget", "00000000000199999999999"),
        ("x-gateway-budget", ""),
        ("x-gateway-compaction", "maybe"),
        ("x-gateway-explain", "please"),
        ("x-gateway-cache", "no"),
        ("x-gateway-cache", ""),
        ("x-gateway-session", ""),
        ("x-gateway-session", "x" * 129),
        ("x-gateway-session", "Reise nach Köln"),
        ("x-gateway-session", "tab\there"),
        ("x-gateway-memory", ""),
        ("x-gateway-memory", "x" * 129),
    ],
)
def test_values_that_mean_nothing_are_refused(name: str, value: str) -> None:
    """With the header's name, what it takes and what was found."""
    with pytest.raises(Refusal) as refused:
        read_overrides([(name, value)])

    assert (refused.value.status, refused.value.param) == (400, name)
    assert "takes" in refused.value.message
    assert len(refused.value.message) < 200


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=5))
def test_other_headers_are_nothing_to_it(headers: list[tuple[str, str]]) -> None:
    others = [(name, value) for name, value in headers if not name.lower().startswith("x-gateway-")]

    assert read_overrides(others) is NO_OVERRIDES
