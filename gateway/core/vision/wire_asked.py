"""What clients ask of vision, as JSON: searches, decodings, orders to index, pages of a list.

Pure. Fields are read strictly; whatever is wrong is a 400 that names the field.

Invariants, each with a test of its own:
  1. Any value gives what is asked for, or a 400 that names a field.
  2. A search says one thing one way: a filter's singular and plural are not both given.
  3. A decoding names at least one region and at most so many as it may, each with a fidelity that there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from gateway.core.context.terms import name_terms
from gateway.core.facts.wire_contexts import clean_metadata
from gateway.core.facts.wire_json import read_fields, read_json, wrong_field
from gateway.core.vision.document import Fidelity, RegionsSought, RegionType
from gateway.core.vision.sources import MAX_URL_CHARS

MAX_SOUGHT, USUAL_SOUGHT = 50, 12
MAX_LISTED, USUAL_LISTED = 1000, 100
MAX_SIDE_PX = 4096
_MAX_DIGITS = 12
_Id = Annotated[str, Meta(min_length=1, max_length=512)]
_Ids = Annotated[list[_Id], Meta(min_length=1, max_length=1000)]
_Page = Annotated[int, Meta(ge=1, le=1_000_000_000)]
_Types = Annotated[list[RegionType], Meta(min_length=1, max_length=16)]


class _Pages(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    from_: _Page | None = None
    to: _Page | None = None


class _Filters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: RegionType | None = None
    types: _Types | None = None
    doc_id: _Id | None = None
    doc_ids: _Ids | None = None
    page: _Page | None = None
    pages: _Pages | None = None
    metadata: dict[str, Any] | None = None


class _Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    query: Annotated[str, Meta(min_length=1, max_length=8_192)]
    top_k: Annotated[int, Meta(ge=1, le=MAX_SOUGHT)] = USUAL_SOUGHT
    filters: _Filters | None = None


class _Decoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    region_ids: list[_Id]
    fidelity: Fidelity | None = None


class _Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    doc_url: Annotated[str, Meta(min_length=1, max_length=MAX_URL_CHARS)]
    metadata: dict[str, Any] | None = None
    force_reindex: bool = False


class RegionQuestion(NamedTuple):
    """What a search looks for, the word of the question that each of its terms comes from, and the question."""

    sought: RegionsSought
    words: Mapping[int, str]
    limit: int
    query: str


class Decoding(NamedTuple):
    """Which regions are to be read, and how finely."""

    region_ids: list[str]
    fidelity: Fidelity


class Order(NamedTuple):
    """What is to be indexed: a URL, or a file that comes with the order (its name is the source)."""

    source: str
    metadata: Mapping[str, Any]
    is_forced: bool


class PageAsked(NamedTuple):
    """Which page of a list."""

    limit: int
    cursor: str | None


def parse_search(value: Any) -> RegionQuestion:
    """What a search looks for; without a word that anything could be found by it has no terms.

    Raises:
        Refusal: 400.
    """
    asked = read_fields(value, _Search)
    filters = asked.filters or _Filters()
    for one, many in (("type", "types"), ("doc_id", "doc_ids"), ("page", "pages")):
        if getattr(filters, one) is not None and getattr(filters, many) is not None:
            raise wrong_field(f"filters.{many}", f"left out beside `filters.{one}`", "both")
    pages = filters.pages or _Pages(filters.page, filters.page)
    if pages.from_ is not None and pages.to is not None and pages.from_ > pages.to:
        raise wrong_field("filters.pages", "`from` up to `to`", f"from {pages.from_} to {pages.to}")
    types = filters.types if filters.type is None else [filters.type]
    doc_ids = filters.doc_ids if filters.doc_id is None else [filters.doc_id]
    named = name_terms(asked.query)
    hard_first = sorted(named.words, key=lambda term: term not in named.hard)
    sought = RegionsSought(
        hard_first,
        named.hard,
        None if types is None else frozenset(types),
        None if doc_ids is None else frozenset(doc_ids),
        pages.from_,
        pages.to,
        clean_metadata(filters.metadata) or None,
    )
    return RegionQuestion(sought, named.words, asked.top_k, asked.query)


def parse_decoding(value: Any, max_regions: int, usual: Fidelity) -> Decoding:
    """Which regions are to be read.

    Args:
        value: what was sent.
        max_regions: of one call.
        usual: the fidelity where none is named.

    Raises:
        Refusal: 400.
    """
    asked = read_fields(value, _Decoding)
    count = len(asked.region_ids)
    if not 1 <= count <= max_regions:
        expected = f"1 to {max_regions} ids (vision.max_regions_per_request)"
        raise wrong_field("region_ids", expected, f"{count:,}")
    return Decoding(asked.region_ids, asked.fidelity or usual)


def parse_order(value: Any) -> Order:
    """A document that is to be fetched and indexed; whether its URL may be fetched, the sources' rules say.

    Raises:
        Refusal: 400.
    """
    asked = read_fields(value, _Order)
    return Order(asked.doc_url, clean_metadata(asked.metadata), asked.force_reindex)


def parse_form(name: str, fields: Mapping[str, bytes]) -> Order:
    """The order that an uploaded file comes with.

    Args:
        name: of the file.
        fields: the other parts of the form.

    Raises:
        Refusal: 400.
    """
    for field in fields:
        if field not in ("metadata", "force_reindex"):
            raise wrong_field(field[:64], "no part of the form, beside `file`, `metadata`, `force_reindex`", "a part")
    metadata: Any = read_json(fields["metadata"]) if fields.get("metadata", b"").strip() else None
    if metadata is not None and not isinstance(metadata, dict):
        raise wrong_field("metadata", "a JSON object", "another value")
    forced = fields.get("force_reindex", b"").strip().lower()
    if forced not in (b"", b"true", b"false", b"1", b"0"):
        raise wrong_field("force_reindex", "true or false", "another text")
    return Order(name, clean_metadata(metadata), forced in (b"true", b"1"))


def parse_page(target: str) -> PageAsked:
    """Which page a query string asks for: `limit` and `cursor`.

    Raises:
        Refusal: 400.
    """
    asked = _query_of(target, ("limit", "cursor"))
    return PageAsked(_whole_number(asked, "limit", USUAL_LISTED, MAX_LISTED), asked.get("cursor"))


def parse_side(target: str) -> int | None:
    """The `max_side_px` of a query string; None where it names none.

    Raises:
        Refusal: 400.
    """
    asked = _query_of(target, ("max_side_px",))
    return _whole_number(asked, "max_side_px", 0, MAX_SIDE_PX) or None


def _query_of(target: str, known: tuple[str, ...]) -> dict[str, str]:
    try:
        pairs = parse_qsl(target.partition("?")[2], keep_blank_values=True, max_num_fields=16)
    except ValueError:
        raise wrong_field("query", f"{' and '.join(known)} at most", "more") from None
    for name, _ in pairs:
        if name not in known:
            raise wrong_field("query", f"{' and '.join(known)} at most", "another parameter")
    if len(dict(pairs)) < len(pairs):
        raise wrong_field("query", "each parameter once", "one of them twice")
    return dict(pairs)


def _whole_number(asked: Mapping[str, str], name: str, usual: int, most: int) -> int:
    value = asked.get(name)
    if value is None:
        return usual
    is_number = value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS
    if not is_number or not 1 <= int(value) <= most:
        raise wrong_field(name, f"a whole number from 1 to {most}", "another text")
    return int(value)
