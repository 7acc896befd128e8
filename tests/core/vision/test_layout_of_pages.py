"""Pages are cut into tables, figures, code and text, in the order in which they are read."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.vision.contents import PageContents, Rect, Word
from gateway.core.vision.document import Box, LaidPage, PageSize, RegionType
from gateway.core.vision.layout import lay_out, read_box
from tests.core.vision.made_pages import SIZE, grid, page, put, put_cells, put_lines, types_of

PROSE = (
    "The harbour handled more ships than it did in the year before,",
    "and most of them carried grain, timber and parts of machines,",
    "while fewer than one in ten of them was empty on its arrival.",
)
ROWS = (("Goods", "First", "Second"), ("Grain", "312.5", "287.0"), ("Timber", "98.1", "120.4"), ("Other", "1", "2"))
CODE = ("def assign(ships):", "    for ship in ships:", "        yield ship.name", "", "    return None")
TABLE_TEXT = "Goods | First | Second\nGrain | 312.5 | 287.0\nTimber | 98.1 | 120.4\nOther | 1 | 2"


def only(laid: LaidPage, type_: RegionType) -> str:
    """The text of the one region of this type."""
    (region,) = [region for region in laid.regions if region.type is type_]
    return region.text


def test_a_paragraph_is_one_line_of_text() -> None:
    """Lines that go on with one another are joined with spaces."""
    laid = lay_out(page(put_lines(PROSE, 100, 300)))

    assert [region.text for region in laid.regions] == [" ".join(PROSE)]


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("it was a long and very hand-", "some ship that came to us", "very handsome ship"),
        ("it was the state-of-the-art-", "like ship that came to us", "state-of-the-art-like ship"),
        ("it was written by Anne-Marie-", "Louise who came to us then", "Anne-Marie-Louise who"),
        ("它是一艘很大的船它是一艘很大的船", "在港口里面的水上面在港口里面的", "的船在港口"),
    ],
)
def test_words_that_lines_part_are_joined(first: str, second: str, joined: str) -> None:
    """A hyphen that only parts a word goes, others stay, and Chinese has no spaces."""
    laid = lay_out(page(put_lines([first, second], 100, 300)))

    assert joined in laid.regions[0].text


def test_a_table_with_lines_is_a_table() -> None:
    """Cells between drawn lines are rows with bars between."""
    words = put_cells(ROWS, (100, 250, 400), 300)
    rules = grid((90, 240, 390, 520), [296 + 28 * row for row in range(5)])
    laid = lay_out(page([*put_lines(PROSE, 100, 150), *words, *put_lines(PROSE, 100, 500)], rules))

    assert types_of(laid) == [RegionType.TEXT, RegionType.TABLE, RegionType.TEXT]
    assert only(laid, RegionType.TABLE) == TABLE_TEXT


def test_a_table_without_lines_is_a_table() -> None:
    """Cells that stand below one another are a table, though nothing is drawn."""
    words = put_cells(ROWS, (100, 250, 400), 300)
    laid = lay_out(page([*put_lines(PROSE, 100, 150), *words, *put_lines(PROSE, 100, 500)]))

    assert types_of(laid) == [RegionType.TEXT, RegionType.TABLE, RegionType.TEXT]
    assert only(laid, RegionType.TABLE) == TABLE_TEXT


def test_a_table_between_lines_is_a_table() -> None:
    """Lines above, below and under the header are enough."""
    words = put_cells(ROWS, (100, 250, 400), 300)
    rules = [Rect(90, y, 520, y + 1) for y in (296, 326, 412)]
    laid = lay_out(page([*put_lines(PROSE, 100, 150), *words], rules))

    assert only(laid, RegionType.TABLE) == TABLE_TEXT


def test_a_frame_around_text_is_no_table() -> None:
    """A box that is drawn around a paragraph changes nothing."""
    laid = lay_out(page(put_lines(PROSE, 100, 300), grid((90, 800), (290, 400))))

    assert types_of(laid) == [RegionType.TEXT]


def test_two_columns_are_read_one_after_the_other() -> None:
    """First the left column, then the right one, below the title across both."""
    left = ("the left column starts with this", "and goes on with a second line", "until it ends with the left end")
    right = ("the right column has its own text", "which is read when the left is", "done, until it ends at the right")
    title = put("A title that stands across both columns of this page", 130, 150, height=36.0)
    laid = lay_out(page([*title, *put_lines(left, 100, 300), *put_lines(right, 500, 300)]))
    text = "\n".join(region.text for region in laid.regions)

    assert types_of(laid) == [RegionType.TEXT] * 3
    assert text.index("A title") < text.index("the left end") < text.index("the right column")


def test_columns_whose_lines_are_not_level_are_read_one_after_the_other() -> None:
    """Baselines need not agree between columns."""
    left = ("the left column starts with this", "and goes on with a second line", "until it ends with the left end")
    right = ("the right column has its own text", "which is read when the left is", "done, until it ends at the right")
    laid = lay_out(page([*put_lines(left, 100, 300), *put_lines(right, 500, 314)]))
    text = "\n".join(region.text for region in laid.regions)

    assert text.index("the left end") < text.index("the right column")


def test_code_keeps_its_indentation() -> None:
    """A listing in a font of equal widths is code, with its blank lines."""
    laid = lay_out(page([*put_lines(PROSE, 100, 150), *put_lines(CODE, 100, 300, is_mono=True)]))

    assert only(laid, RegionType.CODE) == "\n".join(CODE)


def test_recognised_code_is_code_by_its_shape() -> None:
    """Where fonts are not known, indentation and signs tell a listing."""
    words = [*put_lines(PROSE, 100, 150), *put_lines(CODE, 100, 300)]
    laid = lay_out(page(words)._replace(has_text_layer=False))

    assert only(laid, RegionType.CODE).splitlines()[:3] == list(CODE[:3])


def test_typewritten_prose_is_no_code() -> None:
    """Running text is text, though all its letters are equally wide."""
    laid = lay_out(page(put_lines(PROSE, 100, 300, is_mono=True)))

    assert types_of(laid) == [RegionType.TEXT]


def test_a_figure_takes_its_labels_and_its_caption() -> None:
    """Words inside a picture are its text, and what is written below it is its caption."""
    words = [*put("North", 150, 350), *put("Figure 3: The harbour.", 100, 520), *put_lines(PROSE, 100, 600)]
    laid = lay_out(page(words, pictures=[Rect(100, 300, 500, 500)]))

    assert types_of(laid) == [RegionType.FIGURE, RegionType.TEXT]
    assert (laid.regions[0].text, laid.regions[0].caption) == ("North", "Figure 3: The harbour.")
    assert laid.regions[0].box == Box(x=100, y=300, w=400, h=200)


def test_shapes_near_one_another_are_a_figure() -> None:
    """Bars of a chart are one drawing."""
    bars = [Rect(100 + 40 * bar, 300 + 20 * bar, 120 + 40 * bar, 500) for bar in range(5)]
    laid = lay_out(page(put_lines(PROSE, 100, 700), shapes=bars))

    assert types_of(laid) == [RegionType.FIGURE, RegionType.TEXT]


def test_a_coloured_ground_is_no_figure() -> None:
    """An area behind a paragraph stays what it is."""
    laid = lay_out(page(put_lines(PROSE, 100, 300), shapes=[Rect(90, 290, 760, 390)]))

    assert types_of(laid) == [RegionType.TEXT]


def test_margins_stand_apart() -> None:
    """A running title and a page number are regions of their own, first and last."""
    words = [*put("12", 590, 1620), *put_lines(PROSE, 100, 300), *put("Yearly report", 100, 60)]
    laid = lay_out(page(words))

    assert [region.text for region in laid.regions] == ["Yearly report", " ".join(PROSE), "12"]


def test_short_neighbours_become_one_region_under_their_heading() -> None:
    """A heading and its short paragraphs are found together."""
    words = [
        *put("What is planned", 100, 200, is_bold=True),
        *put("First this.", 100, 260),
        *put("Then that.", 100, 320),
    ]
    laid = lay_out(page(words))

    assert [region.text for region in laid.regions] == ["What is planned\n\nFirst this.\n\nThen that."]


def test_long_text_becomes_several_regions() -> None:
    """No region of text is longer than a few hundred tokens."""
    laid = lay_out(page(put_lines([PROSE[row % 3] for row in range(45)], 100, 200)))

    assert len(laid.regions) > 1
    assert max(len(region.text) for region in laid.regions) < 1700


def test_a_long_table_repeats_its_header() -> None:
    """Each part of a table that runs long starts with its first row."""
    rows = [("Goods", "First", "Second"), *(("Grain of wheat", f"{row}.5", "287.0") for row in range(120))]
    size = PageSize(width=1190, height=4000)
    words = put_cells(rows, (100, 350, 500), 300)
    laid = lay_out(PageContents(size, words))

    assert len(laid.regions) > 1
    assert {region.type for region in laid.regions} == {RegionType.TABLE}
    assert all(region.text.startswith("Goods | First | Second\n") for region in laid.regions)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_page_that_lies_is_read_upright(turn: int) -> None:
    """Text that stands sideways is read like upright text, and its place is that on the page."""
    from gateway.core.vision.turning import turn_rect

    upright = put_lines(PROSE, 100, 300)
    turned = [word._replace(**turn_rect(Rect(*word[:4]), SIZE, 360 - turn)._asdict()) for word in upright]
    size = SIZE if turn == 180 else PageSize(width=SIZE.height, height=SIZE.width)
    laid = lay_out(PageContents(size, turned, turn=turn))
    (region,) = laid.regions

    assert region.text == " ".join(PROSE)
    assert min(word.left for word in turned) == pytest.approx(region.box.x, abs=1)
    assert min(word.top for word in turned) == pytest.approx(region.box.y, abs=1)


def test_confidence_is_by_letters() -> None:
    """A region's confidence is the mean of its words', by how many letters they have."""
    words = [Word(100, 300, 190, 324, "abcdefghi", confidence=1.0), Word(200, 300, 210, 324, "j", confidence=0.5)]
    laid = lay_out(page(words)._replace(has_text_layer=False))

    assert laid.regions[0].confidence == pytest.approx(0.95)


def test_a_page_with_nothing_has_no_regions() -> None:
    """An empty page is no error, and a page that is one picture is a figure."""
    assert list(lay_out(page([])).regions) == []
    assert types_of(lay_out(page([]), whole_is_picture=True)) == [RegionType.FIGURE]


def test_a_part_of_a_page_is_read() -> None:
    """What stands in a box is told, and nothing else."""
    contents = page([*put_lines(PROSE, 100, 300), *put("elsewhere", 100, 900)])
    reading = read_box(contents, Box(x=90, y=290, w=800, h=120))

    assert reading.text == " ".join(PROSE)
    assert reading.confidence == 1.0
    assert read_box(contents, Box(x=900, y=1200, w=10, h=10)).confidence is None


EDGES = st.floats(0, 1100)
SIDES = st.floats(0.5, 90)
WORDS = st.builds(
    lambda left, top, wide, high, text, is_mono: Word(left, top, left + wide, top + high, text, is_mono),
    EDGES,
    st.floats(0, 1590),
    SIDES,
    SIDES,
    st.text(string.ascii_letters + "文.-{", min_size=1, max_size=9),
    st.booleans(),
)
RECTS = st.builds(
    lambda left, top, wide, high: Rect(left, top, left + wide, top + high), EDGES, EDGES, st.floats(0, 900), SIDES
)


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(WORDS, max_size=40),
    rules=st.lists(RECTS, max_size=8),
    pictures=st.lists(RECTS, max_size=4),
    shapes=st.lists(RECTS, max_size=4),
    turn=st.sampled_from((0, 90, 180, 270)),
    has_text_layer=st.booleans(),
)
def test_whatever_stands_on_a_page_is_laid_out(
    words: list[Word],
    rules: list[Rect],
    pictures: list[Rect],
    shapes: list[Rect],
    turn: int,
    has_text_layer: bool,
) -> None:
    """Every letter is told once, every region is on the page, and the same page gives the same regions."""
    contents = PageContents(SIZE, words, rules, pictures, shapes, has_text_layer, turn)
    laid = lay_out(contents)
    told = "".join(region.text + region.caption for region in laid.regions)
    letters = sorted(letter for word in words for letter in word.text if letter not in "-")

    assert sorted(letter for letter in told if letter not in "- \n|") == letters
    for region in laid.regions:
        box = region.box
        assert 0 <= box.x < box.x + box.w <= SIZE.width
        assert 0 <= box.y < box.y + box.h <= SIZE.height
    assert lay_out(contents) == laid
