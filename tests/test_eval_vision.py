"""How rightly documents are read: bars that hold on a part of the labelled set (`python3 dev.py eval-vision`)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.vision.__main__ import Page, detection_of, ladder_of, sloped
from benchmarks.vision.accuracy import Found, accuracy, distance, overlap
from benchmarks.vision.degrading import KINDS, SLOPES, render_pages, to_png
from benchmarks.vision.documents import made, manual
from gateway.core.vision.document import Box, Fidelity, PageSize, RegionType
from gateway.shell.vision.source import ReadLimits, open_source

TYPES = (RegionType.TABLE, RegionType.CODE, RegionType.FIGURE)


def test_text_layers_are_read_as_they_are() -> None:
    """Letters above 99 % at every fidelity, and every table, listing and figure found."""
    for document in made():
        source = open_source(document.data, ReadLimits(ocr=False))
        pages = [
            Page(source, number, [label for label in document.labels if label.page == number])
            for number in range(1, document.pages + 1)
        ]
        ladder = ladder_of(pages, list(Fidelity))
        found, share, _ = detection_of(pages)
        source.close()

        assert min(right for right, _ in ladder.values()) > 0.99
        assert share > 0.99
        assert all((found[type_].precision, found[type_].recall) == (1.0, 1.0) for type_ in TYPES)


@pytest.mark.parametrize(("kind", "bar"), [("clean", 0.95), ("degraded", 0.88)])
def test_scans_are_read(kind: str, bar: float) -> None:
    """The ladder rises, the finest rung is above its bar, and the table and a listing are found."""
    document = manual()
    image = KINDS[kind](render_pages(document.data)[0])
    size = PageSize(width=image.width, height=image.height)
    labels = [sloped(label, size, SLOPES[kind]) for label in document.labels]
    source = open_source(to_png(image), ReadLimits())
    few = [label for label in labels if label.type in TYPES][1:]
    ladder = ladder_of([Page(source, 1, few)], [Fidelity.SKIM, Fidelity.DEFAULT, Fidelity.EXACT])
    found, share, _ = detection_of([Page(source, 1, labels)])
    source.close()
    rungs = [right for right, _ in ladder.values()]

    assert rungs[0] <= rungs[1] + 0.01 <= rungs[2] + 0.02
    assert rungs[2] > bar
    assert share > bar
    assert found[RegionType.TABLE].recall == 1.0
    assert found[RegionType.CODE].both >= 1


def plain_distance(one: str, two: str) -> int:
    """Levenshtein's distance, as it is written in books."""
    row = list(range(len(two) + 1))
    for count, letter in enumerate(one, 1):
        before, row[0] = row[0], count
        for index, other in enumerate(two, 1):
            before, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, before + (letter != other))
    return row[-1]


@given(one=st.text("abc", max_size=12), two=st.text("abc", max_size=12))
def test_the_distance_is_levenshteins(one: str, two: str) -> None:
    """Row by row with numpy is the same as cell by cell."""
    assert distance(one, two) == plain_distance(one, two)


def test_accuracy_counts_letters() -> None:
    """White space and bars between cells are free; what is too much counts as well as what is missing."""
    assert accuracy("a | b\n c", "a b c") == 1.0
    assert accuracy("abcd", "abcx") == 0.75
    assert accuracy("", "abc") == 0.0
    assert accuracy("x" * 50, "abc") == 0.0
    assert (accuracy("", ""), accuracy("x", "")) == (1.0, 0.0)


def test_found_regions_share_half_of_their_place() -> None:
    """Each labelled place is found once."""
    square, shifted = Box(x=0, y=0, w=100, h=100), Box(x=20, y=0, w=100, h=100)
    found = Found()
    found.add([square], [shifted, square, Box(x=500, y=0, w=9, h=9)])

    assert overlap(square, shifted) == pytest.approx(80 / 120)
    assert overlap(square, Box(x=200, y=0, w=10, h=10)) == 0.0
    assert (found.labelled, found.told, found.both) == (1, 3, 1)
    assert (Found().precision, Found().recall) == (1.0, 1.0)
