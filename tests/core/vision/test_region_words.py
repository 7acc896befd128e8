"""What regions are found by, and how much each word says of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.terms import terms_of
from gateway.core.vision.document import Box, LaidRegion, RegionType
from gateway.core.vision.region_words import (
    FULL,
    MAX_DOCUMENT_TERMS,
    MAX_REGION_TERMS,
    document_terms,
    impacts_of,
    label_of,
    labels_of,
)

(PUMP,), (VALVE,) = terms_of("pump"), terms_of("valve")


def laid(text: str, caption: str = "") -> LaidRegion:
    return LaidRegion(Box(0, 0, 1, 1), RegionType.TEXT, text, caption)


@given(times=st.integers(1, 300), others=st.integers(0, 300))
def test_an_impact_grows_with_a_word_and_shrinks_with_the_rest(times: int, others: int) -> None:
    """It stays between 1 and `FULL`."""

    def impact(times: int, others: int) -> int:
        return impacts_of(laid("pump " * times + "valve " * others), [])[PUMP]

    here = impact(times, others)

    assert 1 <= impact(times, others + 200) <= here <= impact(times + 1, others) <= FULL
    assert impact(times + 200, others) > here or here > FULL * 0.95


@given(length=st.integers(0, 200))
def test_text_weighs_more_than_caption_and_caption_more_than_document(length: int) -> None:
    """Whatever else there is; and what is said in two of them weighs more than in one."""
    rest = " valve" * length
    of_text = impacts_of(laid("pump" + rest), [])[PUMP]
    of_caption = impacts_of(laid(rest, "pump"), [])[PUMP]
    of_document = impacts_of(laid(rest, "x"), [PUMP])[PUMP]
    of_all = impacts_of(laid("pump" + rest, "pump"), [PUMP])[PUMP]

    assert of_all > of_text > of_caption > of_document > 0


def test_words_are_bounded() -> None:
    """Of a region and of a document: the first ones."""
    many = " ".join(f"w{number}x" for number in range(9000))

    assert len(impacts_of(laid(many), [])) == MAX_REGION_TERMS
    assert set(terms_of("w0x w1x")) <= set(impacts_of(laid(many), []))
    assert len(document_terms("", {"a": many})) == MAX_DOCUMENT_TERMS


SOURCES = {
    "report.pdf": "report.pdf",
    "Annual%20Report.pdf": "annual report pdf",
    "https://host.example/path/Annual%20Report.pdf?query=1#part": "annual report pdf",
    "https://host.example/path/": "path",
    "C:\\scans\\a.png": "a png",
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_document_is_found_by_its_name(source: str) -> None:
    """Not by its host or its query."""
    found = set(document_terms(source, {}))

    assert set(terms_of(SOURCES[source])) <= found
    assert not found & set(terms_of("host query example"))


def test_a_document_is_found_by_its_values() -> None:
    """Texts and numbers, however deep; not by its keys, nor by yes, no and nothing."""
    found = document_terms("", {"title": "pump", "deep": [{"x": ["valve", 1234]}], "yes": True, "nothing": None})

    assert found == [PUMP, VALVE, *terms_of("1234")]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -0.0, 2.0]) | st.sampled_from("ab1"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


def json_equal(one: Any, other: Any) -> bool:
    """Equal, and of the same kind in JSON: a number is no boolean."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(json_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(json_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


@given(key=st.sampled_from("ab"), other_key=st.sampled_from("ab"), value=values, other=values)
def test_labels_are_equal_as_values_are(key: str, other_key: str, value: Any, other: Any) -> None:
    """And they are below all that is no label."""
    is_same = key == other_key and json_equal(value, other)

    assert (label_of(key, value) == label_of(other_key, other)) is is_same
    assert -(2**63) <= label_of(key, value) < -1
    assert labels_of({key: value}) == [label_of(key, value)]
