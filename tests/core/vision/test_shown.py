"""Regions of documents beside the messages that may be recalled: their order, their headings, and how much is shown."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.recall import Recalled, fit_recalled, recall
from gateway.core.context.recall_index import learn_terms
from gateway.core.context.recall_pool import Pool, Remembered
from gateway.core.context.recall_rank import query_of
from gateway.core.vision.document import Box, Fidelity, FoundRegion, LaidRegion, PageSize, Region, RegionType
from gateway.core.vision.shown import fidelity_shown, name_of_source, reminders_of_regions
from tests.core.test_recall import buried
from tests.histories import per_four_chars

TOTAL = "Total due: EUR 12,400.50, payable by 17 April 2024."


def found(text: str, page: int = 1, y: int = 0, doc: str = "d" * 32, caption: str = "") -> FoundRegion:
    """A region that was found."""
    laid = LaidRegion(Box(10, y, 100, 20), RegionType.TABLE, text, caption)
    region = Region(f"{doc[:4]}{page:04}{y:04}".ljust(32, "0"), doc, page, laid, 10, PageSize(1190, 1684))
    return FoundRegion(region, 0.5)


def test_regions_stand_in_the_order_of_their_documents() -> None:
    """Page by page and from the top, numbered before what follows, under name and page; repeats and blanks are left
    out.
    """
    regions = [
        found("third", 2, 5),
        found("first", 1, 9),
        found("second", 2, 1, caption="Table 1"),
        found("first", 3),
        found(" "),
    ]
    random.Random(7).shuffle(regions)
    shown = reminders_of_regions(regions, {"d" * 32: "https://docs.example.com/q1/report%20[1].pdf?v=2"}, after=4)

    assert [each.number for each in shown] == [-7, -6, -5]
    assert [each.label for each in shown] == ["d1", "d2", "d3"]
    assert [each.text for each in shown] == [
        "[report%20(1).pdf, page 1]\nfirst",
        "[report%20(1).pdf, page 2]\nTable 1\nsecond",
        "[report%20(1).pdf, page 2]\nthird",
    ]
    assert {each.role for each in shown} == {"table"}


@pytest.mark.parametrize(
    ("source", "name"),
    {
        "https://example.com/a/b.pdf": "b.pdf",
        "https://example.com/": "example.com",
        "scan.png": "scan.png",
        "": "",
        "file:///var/docs/a\nb.pdf": "a b.pdf",
        "x" * 200: "x" * 60,
    }.items(),
)
def test_a_document_has_a_short_name(source: str, name: str) -> None:
    """In one line, whatever it came from."""
    assert name_of_source(source) == name


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 10_000))
def test_more_of_a_region_is_never_coarser(first: int, second: int, whole: int) -> None:
    """The finest of the four that so much amounts to: a fifth is 5x, a tenth 10x, less a skim."""
    less, more = sorted((min(first, whole), min(second, whole)))

    assert fidelity_shown(less, whole).ratio >= fidelity_shown(more, whole).ratio
    assert fidelity_shown(whole, whole) is Fidelity.EXACT
    assert fidelity_shown(0, 0) is Fidelity.EXACT


@pytest.mark.parametrize(
    ("share", "fidelity"), [(0.96, "5x"), (0.2, "5x"), (0.19, "10x"), (0.1, "10x"), (0.09, "20x"), (0, "20x")]
)
def test_a_part_has_a_fidelity(share: float, fidelity: str) -> None:
    """As many text tokens stand for one that is shown, at most."""
    assert fidelity_shown(int(share * 1000), 1000).value == fidelity


def recalled_with(regions: list[FoundRegion], room: int) -> Recalled | None:
    """What is recalled of these and of messages that bury nothing."""
    shown = reminders_of_regions(regions, {"d" * 32: "report.pdf"}, after=0)
    beside = [Remembered(each.number, each.role, each.tokens, learn_terms(each.text), each.label) for each in shown]
    said = buried("We spoke of the garden.")
    own = [Remembered(at, role, per_four_chars(text), learn_terms(text)) for at, (role, text) in enumerate(said, 1)]
    texts = {each.number: each.text for each in shown} | {at: text for at, (_, text) in enumerate(said, 1)}
    pool = Pool([*beside, *own])
    picks = recall(query_of("What is the total due, in EUR?"), pool, room)
    return fit_recalled(picks, pool, texts.__getitem__, room, lambda lines: per_four_chars("".join(lines)))


def test_a_region_is_recalled_for_a_question() -> None:
    """Under its document and page, said to be from there; the messages of the chat follow under their own heading."""
    recalled = recalled_with([found(TOTAL, 4), found("Nothing of use.", 5)], 300)

    assert recalled is not None
    lines = recalled.text.splitlines()
    assert "lines that begin with d are from documents" in lines[1]
    assert lines[2:4] == ["[report.pdf, page 4]", f"d1 table: {TOTAL}"]
    assert recalled.tokens <= 300
