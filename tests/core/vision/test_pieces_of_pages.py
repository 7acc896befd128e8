"""The pieces that a page's layout is made of: lines, rows, tables, captions, wording, sizes, turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.vision.blocks import Kind, cut_blocks
from gateway.core.vision.captions import label_of
from gateway.core.vision.contents import PageContents, Rect, Word, bound, box_of, clip, confidence_of, drop_cut
from gateway.core.vision.document import Box, Fidelity, PageSize
from gateway.core.vision.fidelity import LOCAL_DPI, TOKEN_SIDE_PX, vision_side
from gateway.core.vision.figures import find_figures
from gateway.core.vision.lines import Line, even_out, find_lines, join_words
from gateway.core.vision.rows import Span, assign, find_rows, find_runs, merge_spans
from gateway.core.vision.sizing import size_regions
from gateway.core.vision.tables import find_drawn, is_table, take_cells
from gateway.core.vision.turning import slope, turn_back, turn_contents, turn_rect
from gateway.core.vision.wording import code_text, estimate_tokens, paragraph_text
from tests.core.vision.made_pages import SIZE, grid, page, put, put_cells, put_lines

NUMBERS = st.floats(0, 1000)
RECTS = st.builds(lambda x, y, w, h: Rect(x, y, x + w, y + h), NUMBERS, NUMBERS, st.floats(1, 300), st.floats(1, 60))
WORDS = st.lists(st.builds(lambda place: Word(*place, "word"), RECTS), max_size=30)


@given(words=WORDS)
def test_every_word_is_in_one_line(words: list[Word]) -> None:
    """No word is lost, and none is told twice."""
    lines = find_lines(words)

    assert sorted(word for line in lines for word in line.words) == sorted(words)


def test_a_wide_gap_parts_a_line() -> None:
    """Two columns on one row are two lines, in whatever order their words come."""
    left, right = put("in the left column", 100, 300), put("in the right one", 400, 300)

    for words in ([*left, *right], [*right, *left], [*left[:2], *right[:1], *left[2:], *right[1:]]):
        assert sorted(line.text() for line in find_lines(words)) == ["in the left column", "in the right one"]


def test_spaces_in_code_part_no_line() -> None:
    """Where letters are equally wide, columns are made with spaces."""
    words = put("name     string", 100, 300, is_mono=True)

    assert len(find_lines(words)) == 1
    assert len(find_lines([word._replace(is_mono=False) for word in words])) == 2


def test_chinese_words_are_joined_without_spaces() -> None:
    """Between Latin letters, and between both, a space stays."""
    words = [Word(0, 0, 1, 1, text) for text in ("港口", "年度", "report", "of", "港口")]

    assert join_words(words) == "港口年度 report of 港口"


def test_recognised_lines_get_one_height() -> None:
    """What differs by chance is made equal; what differs by much is not."""
    lines = [Line(put("text", 100, top, height=height)) for top, height in ((100, 22.0), (200, 27.0), (300, 40.0))]
    even_out(lines, 24.0)

    assert [line.height for line in lines] == [24.0, 24.0, 40.0]


@given(places=st.lists(RECTS, max_size=25))
def test_every_line_is_in_one_row_and_one_run(places: list[Rect]) -> None:
    """Rows and runs hold what they were given."""
    rows = find_rows(places)
    runs = find_runs(rows, 20.0)

    assert sorted(place for row in rows for place in row) == sorted(places)
    assert [row for run, _ in runs for row in run] == rows


def test_a_gutter_is_kept_as_long_as_it_is_free() -> None:
    """A line across both columns ends what has two of them."""
    left, right, across = Rect(0, 0, 100, 10), Rect(150, 0, 250, 10), Rect(0, 40, 250, 50)
    runs = find_runs([[left, right], [across]], 20.0)

    assert [len(columns) for _, columns in runs] == [2, 1]


def test_spans_that_are_near_are_one() -> None:
    """And those that are not stay apart; what stands between goes to what it shares most with."""
    columns = merge_spans([Span(100, 200), Span(0, 50), Span(55, 70)], 10.0)

    assert columns == [Span(0, 70), Span(100, 200)]
    assert assign([Rect(60, 0, 130, 5), Rect(10, 0, 20, 5)], columns) == [[Rect(10, 0, 20, 5)], [Rect(60, 0, 130, 5)]]


def test_a_grid_has_cells() -> None:
    """A line that runs through the ruling lines is parted there."""
    table = find_drawn(grid((90, 240, 390), (296, 324, 352, 380)))[0]
    words = [Word(100, 300, 238, 320, "left"), Word(242, 300, 300, 320, "right"), *put("below", 100, 330)]
    rows = take_cells(table, find_lines(words))

    assert rows is not None
    assert [[" ".join(line.text() for line in cell) for cell in row] for row in rows] == [
        ["left", "right"],
        ["below", ""],
    ]


def test_wrapped_cells_are_one_cell() -> None:
    """A row that only goes on with a cell of the one above is put to it."""
    rules = [Rect(90, y, 700, y + 1) for y in (296, 326, 460)]
    words = [
        *put_cells([("Option", "Meaning", "Unit")], (100, 250, 600), 300),
        *put_cells([("--wait", "how long a ship may", "min")], (100, 250, 600), 332),
        *put("wait for its berth", 250, 357),
        *put_cells([("--night", "plan after ten", "none")], (100, 250, 600), 400),
    ]
    rows = take_cells(find_drawn(rules)[0], find_lines(words))

    assert rows is not None
    assert [len(row) for row in rows] == [3, 3, 3]
    assert [line.text() for line in rows[1][1]] == ["how long a ship may", "wait for its berth"]


def test_columns_of_running_text_are_no_table() -> None:
    """Long lines that fill their columns are read column by column."""
    text = ("and most of them carried grain", "while one in ten of them was empty", "which nobody had expected")
    lines = find_lines([*put_lines(text, 100, 300), *put_lines(text, 500, 300)])
    rows = find_rows(lines)

    assert not is_table(rows, [Span(100, 440), Span(500, 840)])


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Figure 3: The harbour.", Kind.FIGURE),
        ("Fig. 12. Ships that waited", Kind.FIGURE),
        ("Abb. 1: Der Hafen", Kind.FIGURE),
        ("Table 2. Berths", Kind.TABLE),
        ("Tabelle A1: Umschlag", Kind.TABLE),
        ("Listing 4: How a plan is made", Kind.CODE),
        ("图 1 从东面看港口", Kind.FIGURE),
        ("表 2：泊位", Kind.TABLE),
        ("Figure 3 shows what was said above", None),
        ("Table manners are taught at home", None),
        ("The figure 3: none", None),
        ("", None),
    ],
)
def test_labels_of_captions(text: str, kind: Kind | None) -> None:
    """A caption starts with its label; a sentence that speaks of a figure does not."""
    assert label_of(text) is kind


def test_a_small_line_below_a_figure_is_its_caption() -> None:
    """It needs no label, if it is near, narrow and smaller than the text."""
    from gateway.core.vision.layout import lay_out

    words = [*put("seen from the east", 120, 505, height=17.0), *put_lines(["A line of text here"] * 3, 100, 700)]
    laid = lay_out(page(words, pictures=[Rect(100, 300, 500, 500)]))

    assert laid.regions[0].caption == "seen from the east"


def test_a_line_that_ends_early_ends_what_it_says() -> None:
    """Short lines and items of lists keep their line ends."""
    lines = find_lines(put_lines(["a line that is as long as it may be", "short", "- an item of a list"], 100, 300))

    assert paragraph_text(lines) == "a line that is as long as it may be short\n- an item of a list"


def test_code_text_keeps_columns_and_blank_lines() -> None:
    """Words stand at the columns at which they are drawn."""
    texts = ["a = 1      # one", "    b = 22 # two", "", "", "c"]

    assert code_text(find_lines(put_lines(texts, 100, 300, is_mono=True))) == "\n".join(texts)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abcd", 1), ("abcde", 2), ("港口年度", 4)])
def test_tokens_are_estimated(text: str, tokens: int) -> None:
    """A quarter of the letters, and each Chinese one."""
    assert estimate_tokens(text) == tokens


def test_blocks_become_regions_in_order() -> None:
    """No line is lost on the way from blocks to regions."""
    lines = find_lines(put_lines([f"line number {row} of the text" for row in range(120)], 100, 10))
    blocks = cut_blocks(lines, 24.0)
    sized = size_regions(blocks, {})

    assert [word for region in sized for word in region.words] == [word for line in lines for word in line.words]


def test_pieces_of_a_picture_are_one_figure() -> None:
    """Strips that touch are one; a background and a speck are none."""
    strips = [Rect(100, 100 + 30 * strip, 400, 130 + 30 * strip) for strip in range(5)]
    places = find_figures(page([], pictures=[*strips, Rect(0, 0, 1190, 1684), Rect(700, 700, 720, 720)]))

    assert places == [Rect(100, 100, 400, 250)]


@given(place=RECTS, turn=st.sampled_from((0, 90, 180, 270)))
def test_turning_back_gives_the_place(place: Rect, turn: int) -> None:
    """A place that is turned, and turned back, is where it was."""
    contents = PageContents(SIZE, [Word(*place, "word")], turn=turn)
    turned = turn_contents(contents).words[0]

    assert turn_back(Rect(*turned[:4]), contents) == pytest.approx(place)


def test_a_sloping_page_is_turned_back() -> None:
    """A place on a page that was straightened is told where it stands on the page itself."""
    contents = PageContents(SIZE, [], skew=1.0)
    place = turn_back(Rect(900, 100, 1000, 120), contents)

    assert place.top > 104
    assert place == slope(Rect(900, 100, 1000, 120), SIZE, 1.0)
    assert turn_rect(place, SIZE, 0) == place


@given(place=RECTS)
def test_boxes_stand_on_the_page(place: Rect) -> None:
    """A place that is partly or wholly off the page becomes pixels of the page."""
    size = PageSize(width=200, height=150)
    box = box_of(place, size)

    assert 0 <= box.x < box.x + box.w <= 200
    assert 0 <= box.y < box.y + box.h <= 150


def test_clipping_takes_words_by_their_middle() -> None:
    """Half a word is a word or none."""
    contents = page([Word(0, 0, 20, 10, "in"), Word(15, 0, 40, 10, "out")])

    assert [word.text for word in clip(contents, Box(x=0, y=0, w=20, h=20)).words] == ["in"]
    assert confidence_of([]) == 0.0
    assert bound(contents.words) == Rect(0, 0, 40, 10)


def test_pieces_of_lines_at_an_edge_are_dropped() -> None:
    """What the edge of a part cuts through is not told; whole lines at the edge are."""
    whole = [Word(0, 10 * row, 50, 10 * row + 10, "whole") for row in range(5)]
    contents = PageContents(PageSize(width=60, height=50), [*whole, Word(0, 0, 50, 4, "cut")])

    assert drop_cut(contents).words == whole
    assert drop_cut(contents._replace(words=[])).words == []


def test_finer_fidelities_are_never_coarser() -> None:
    """Neither for this machine's reading, nor for a model."""
    order = [Fidelity.SKIM, Fidelity.DEFAULT, Fidelity.FINE, Fidelity.EXACT]
    sides = [vision_side(Box(x=0, y=0, w=1000, h=300), 400, fidelity) for fidelity in order]

    assert [LOCAL_DPI[fidelity] for fidelity in order] == sorted(LOCAL_DPI.values())
    assert sides == sorted(sides)


@given(
    wide=st.integers(1, 30_000),
    high=st.integers(1, 30_000),
    tokens=st.integers(0, 10**6),
    fidelity=st.sampled_from(Fidelity),
)
def test_the_size_for_a_model_is_sane(wide: int, high: int, tokens: int, fidelity: Fidelity) -> None:
    """Whatever the region, between 256 and 1280 pixels, and whole tokens."""
    side = vision_side(Box(x=0, y=0, w=wide, h=high), tokens, fidelity)

    assert 256 <= side <= 1280
    assert side % TOKEN_SIDE_PX == 0


def test_the_size_for_a_model_follows_the_ratio() -> None:
    """2,000 tokens of text at 10x are about 200 vision tokens: a square of 905 pixels, rounded up."""
    square = Box(x=0, y=0, w=500, h=500)

    assert vision_side(square, 2000, Fidelity.DEFAULT) == 960
    assert vision_side(square, 2000, Fidelity.SKIM) == 640
    assert vision_side(square, 2000, Fidelity.EXACT) == 1280
