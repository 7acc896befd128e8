"""What is asked of vision is read strictly: right calls give what they say, wrong ones name their field."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.terms import terms_of
from gateway.core.errors import Refusal
from gateway.core.vision.document import Fidelity, RegionType
from gateway.core.vision.wire_asked import (
    parse_decoding,
    parse_form,
    parse_order,
    parse_page,
    parse_search,
    parse_side,
)

Json = dict[str, Any]


def field_of(refused: pytest.ExceptionInfo[Refusal]) -> str:
    assert refused.value.status == 400
    assert refused.value.details is not None
    return str(refused.value.details["field"])


def test_a_search_with_nothing_but_a_question() -> None:
    """Its exact terms come first; everything else is open."""
    asked = parse_search({"query": "total of invoice 2024-00917"})
    sought = asked.sought

    assert asked.limit == 12
    assert sought.exact == {*terms_of("2024-00917")[:1]}
    assert sought.terms[0] in sought.exact
    assert {asked.words[term] for term in sought.terms} == {"total", "invoice", "2024-00917"}
    assert (sought.types, sought.doc_ids, sought.first_page, sought.last_page, sought.metadata) == (None,) * 5


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"type": "table"}, {"types": {RegionType.TABLE}}),
        ({"types": ["table", "code"]}, {"types": {RegionType.TABLE, RegionType.CODE}}),
        ({"doc_id": "d"}, {"doc_ids": {"d"}}),
        ({"doc_ids": ["d", "e"]}, {"doc_ids": {"d", "e"}}),
        ({"page": 3}, {"first_page": 3, "last_page": 3}),
        ({"pages": {"from": 2}}, {"first_page": 2, "last_page": None}),
        ({"pages": {"to": 2}}, {"first_page": None, "last_page": 2}),
        ({"pages": {"from": 2, "to": 5}}, {"first_page": 2, "last_page": 5}),
        ({"metadata": {"year": 2024, "tags": ["a"]}}, {"metadata": {"year": 2024, "tags": ["a"]}}),
        ({"metadata": {}}, {"metadata": None}),
        (None, {}),
    ],
)
def test_filters(filters: Json | None, found: Json) -> None:
    sought = parse_search({"query": "q", "filters": filters}).sought

    assert {name: getattr(sought, name) for name in found} == found


WRONG_SEARCHES = [
    ({}, "query"),
    ({"query": ""}, "query"),
    ({"query": 5}, "query"),
    ({"query": "q" * 8193}, "query"),
    ({"query": "q", "top_k": 0}, "top_k"),
    ({"query": "q", "top_k": 51}, "top_k"),
    ({"query": "q", "top_k": True}, "top_k"),
    ({"query": "q", "top_k": "5"}, "top_k"),
    ({"query": "q", "k": 5}, "k"),
    ({"query": "q", "filters": []}, "filters"),
    ({"query": "q", "filters": {"type": "picture"}}, "filters.type"),
    ({"query": "q", "filters": {"types": []}}, "filters.types"),
    ({"query": "q", "filters": {"types": ["table", "x"]}}, "filters.types[1]"),
    ({"query": "q", "filters": {"type": "table", "types": ["code"]}}, "filters.types"),
    ({"query": "q", "filters": {"doc_id": "a", "doc_ids": ["b"]}}, "filters.doc_ids"),
    ({"query": "q", "filters": {"doc_ids": [5]}}, "filters.doc_ids[0]"),
    ({"query": "q", "filters": {"page": 0}}, "filters.page"),
    ({"query": "q", "filters": {"page": 1, "pages": {"from": 1}}}, "filters.pages"),
    ({"query": "q", "filters": {"pages": {"from": 5, "to": 2}}}, "filters.pages"),
    ({"query": "q", "filters": {"pages": {"from": 1.5}}}, "filters.pages.from"),
    ({"query": "q", "filters": {"metadata": "a"}}, "filters.metadata"),
    ({"query": "q", "filters": {"metadata": {"a": 2**70}}}, "metadata"),
    ({"query": "q", "filters": {"author": "a"}}, "filters.author"),
]


@pytest.mark.parametrize(("value", "field"), WRONG_SEARCHES)
def test_wrong_searches_name_their_field(value: Json, field: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_search(value)

    assert field_of(refused) == field


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["query", "top_k", "filters", "type", "pages", "from"]), inner)
        ),
        max_leaves=12,
    )
)
def test_any_value_is_asked_or_refused(value: Any) -> None:
    for parse in (parse_search, parse_order, lambda sent: parse_decoding(sent, 16, Fidelity.DEFAULT)):
        with suppress(Refusal):
            parse(value)


def test_a_decoding() -> None:
    """Ids as they come, repeats too; the usual fidelity where none is named."""
    asked = parse_decoding({"region_ids": ["b", "a", "b"]}, 16, Fidelity.FINE)
    exact = parse_decoding({"region_ids": ["a"] * 16, "fidelity": "1x"}, 16, Fidelity.FINE)

    assert asked == (["b", "a", "b"], Fidelity.FINE)
    assert exact == (["a"] * 16, Fidelity.EXACT)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "region_ids"),
        ({"region_ids": []}, "region_ids"),
        ({"region_ids": ["r"] * 17}, "region_ids"),
        ({"region_ids": "r"}, "region_ids"),
        ({"region_ids": [5]}, "region_ids[0]"),
        ({"region_ids": [""]}, "region_ids[0]"),
        ({"region_ids": ["r"], "fidelity": "2x"}, "fidelity"),
        ({"region_ids": ["r"], "fidelity": 10}, "fidelity"),
        ({"region_ids": ["r"], "dpi": 10}, "dpi"),
    ],
)
def test_wrong_decodings_name_their_field(value: Json, field: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_decoding(value, 16, Fidelity.DEFAULT)

    assert field_of(refused) == field


def test_an_order() -> None:
    order = parse_order({"doc_url": "https://h/a.pdf", "metadata": {"a": 1}, "force_reindex": True})

    assert order == ("https://h/a.pdf", {"a": 1}, True)
    assert parse_order({"doc_url": "file:///srv/a.pdf"}) == ("file:///srv/a.pdf", {}, False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://h/" + "x" * 8192,
        5,
        None,
    ],
)
def test_no_urls_are_refused_at_once(url: Any) -> None:
    with pytest.raises(Refusal) as refused:
        parse_order({"doc_url": url})

    assert field_of(refused) == "doc_url"


def test_a_form() -> None:
    assert parse_form("a.pdf", {"metadata": b' {"a": [1]} ', "force_reindex": b"True"}) == ("a.pdf", {"a": [1]}, True)
    assert parse_form("", {"metadata": b"", "force_reindex": b""}) == ("", {}, False)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"metadata": b"[1]"}, "metadata"),
        ({"metadata": b'{"a": "' + b"x" * 5000 + b'"}'}, "metadata"),
        ({"force_reindex": b"yes"}, "force_reindex"),
        ({"other": b""}, "other"),
    ],
)
def test_wrong_forms_name_their_part(fields: dict[str, bytes], field: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_form("a.pdf", fields)

    assert field_of(refused) == field


def test_a_page() -> None:
    assert parse_page("/d") == (100, None)
    assert parse_page("/d?limit=5&cursor=a%2Bb") == (5, "a+b")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=00000000000110000", "limit"),
        ("limit=000000000001" + "9" * 5000, "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "query"),
        ("page=1", "query"),
        ("&".join(["limit=1"] * 20), "query"),
    ],
)
def test_wrong_pages_name_their_parameter(query: str, field: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_page(f"/d?{query}")

    assert field_of(refused) == field


def test_a_size() -> None:
    """However it is written, its bound holds."""
    assert parse_side("/i") is None
    assert parse_side("/i?max_side_px=4096") == 4096
    for wrong in ("4097", "00000000000199999"):
        with pytest.raises(Refusal) as refused:
            parse_side(f"/i?max_side_px={wrong}")

        assert field_of(refused) == "max_side_px"
