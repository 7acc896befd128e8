"""Makes regions of what stands on a page: tables, figures, code and text, in reading order.

Pure, and the same for text layers and for text that was recognised. What is drawn comes first: tables with lines around
their cells, and pictures, take the words that stand in them. The margins are set apart. All other words become lines
(`lines.py`) and blocks (`blocks.py`); captions go to what they are written to (`captions.py`); blocks become regions of
a sensible size (`sizing.py`).

Invariants, each with a test of its own:
  1. Every word is in exactly one region, or in the caption of one.
  2. Regions stand inside the page.
  3. The same contents give the same regions.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.vision.blocks import Block, Kind, cut_blocks
from gateway.core.vision.captions import find_captions
from gateway.core.vision.contents import PageContents, Placed, Rect, Word, bound, box_of, clip, confidence_of
from gateway.core.vision.document import Box, LaidPage, LaidRegion, Reading, RegionType
from gateway.core.vision.figures import beside_figure, find_figures
from gateway.core.vision.lines import Line, even_out, find_lines
from gateway.core.vision.rows import find_rows
from gateway.core.vision.sizing import Sized, size_regions
from gateway.core.vision.tables import find_drawn, take_cells
from gateway.core.vision.turning import turn_back, turn_contents

_MARGIN = 0.085
"""Running titles and page numbers stand in so much of the page's height."""
_MARGIN_GAP = 0.9
"""In heights of a line: so far from the text at least."""


def lay_out(contents: PageContents, whole_is_picture: bool = False) -> LaidPage:
    """Cut a page into regions.

    Args:
        contents: what stands on it.
        whole_is_picture: the page is one picture: where nothing is found on it, it is a figure without text.

    Returns:
        The page with its regions in reading order.
    """
    upright = turn_contents(contents)
    sized = _sized(upright)
    if not sized and (whole_is_picture or contents.pictures):
        whole = Rect(0.0, 0.0, float(upright.size.width), float(upright.size.height))
        sized = [Sized(RegionType.FIGURE, "", "", whole, ())]
    regions = [
        LaidRegion(
            box=box_of(turn_back(region.place, contents), contents.size),
            type=region.type,
            text=region.text,
            caption=region.caption,
            has_text_layer=contents.has_text_layer,
            confidence=confidence_of(region.words) if region.words else 1.0,
        )
        for region in sized
    ]
    return LaidPage(size=contents.size, regions=regions)


def read_box(contents: PageContents, box: Box | None = None) -> Reading:
    """What a part of a page says.

    Args:
        contents: of the page.
        box: the part; None for the whole page.
    """
    part = turn_contents(clip(contents, box) if box else contents)
    texts = [f"{region.caption}\n{region.text}" if region.caption else region.text for region in _sized(part)]
    return Reading(text="\n\n".join(texts), confidence=confidence_of(part.words) if part.words else None)


def _sized(contents: PageContents) -> list[Sized]:
    left, blocks = _take_drawn(contents)
    lines = find_lines(left, contents.has_text_layer)
    body_px = _body_height(lines)
    if not contents.has_text_layer:
        even_out(lines, body_px)
    head, body, foot = _part_margins(lines, blocks, contents, body_px)
    body_blocks = cut_blocks([*body, *blocks], body_px)
    return [
        *_margin(head),
        *size_regions(body_blocks, find_captions(body_blocks, body_px)),
        *_margin(foot),
    ]


def _margin(lines: Sequence[Line]) -> list[Sized]:
    """A page's head or foot, as one region."""
    if not lines:
        return []
    rows = find_rows(lines)
    text = "\n".join("   ".join(line.text() for line in row) for row in rows)
    return [Sized(RegionType.TEXT, text, "", bound(lines), [word for line in lines for word in line.words])]


def _body_height(lines: Sequence[Line]) -> float:
    """How high most lines are, by their letters."""
    heights = sorted((line.height, sum(len(word.text) for word in line.words)) for line in lines)
    total, half = 0, sum(letters for _, letters in heights) / 2
    for height, letters in heights:
        total += letters
        if total >= half:
            return max(1.0, height)
    return 1.0


def _take_drawn(contents: PageContents) -> tuple[list[Word], list[Block]]:
    """Tables and figures that are drawn, with the words that stand in them, and all other words."""
    left = list(contents.words)
    blocks: list[Block] = []
    for table in find_drawn(contents.rules):
        inside = [word for word in left if table.place.holds_middle(word)]
        rows = take_cells(table, find_lines(inside, contents.has_text_layer)) if len(inside) > 1 else None
        if rows:
            lines = [line for row in rows for cell in row for line in cell]
            blocks.append(Block(Kind.TABLE, lines, rows, table.place, 0))
            left = [word for word in left if not table.place.holds_middle(word)]
    for place in find_figures(contents):
        if any(block.place.holds_middle(place) for block in blocks):
            continue
        inside = [word for word in left if place.holds_middle(word)]
        left = [word for word in left if not place.holds_middle(word)]
        labels = beside_figure(place, find_lines(left, contents.has_text_layer))
        lines = [*find_lines(inside, contents.has_text_layer), *labels]
        taken = {id(word) for line in labels for word in line.words}
        left = [word for word in left if id(word) not in taken]
        blocks.append(Block(Kind.FIGURE, lines, (), bound([place, *labels]), 0))
    return left, blocks


def _part_margins(
    lines: Sequence[Line], blocks: Sequence[Block], contents: PageContents, body_px: float
) -> tuple[list[Line], list[Line], list[Line]]:
    """Running titles and page numbers above and below, and all other lines."""
    height = contents.size.height
    head = [line for line in lines if line.bottom < _MARGIN * height]
    foot = [line for line in lines if line.top > (1 - _MARGIN) * height]
    inner = [line for line in lines if line.bottom >= _MARGIN * height and line.top <= (1 - _MARGIN) * height]
    places: list[Placed] = [*inner, *blocks]
    gap = _MARGIN_GAP * body_px
    if not places or (head and min(place.top for place in places) - max(line.bottom for line in head) < gap):
        head = []
    if not places or (foot and min(line.top for line in foot) - max(place.bottom for place in places) < gap):
        foot = []
    set_apart = {id(line) for line in (*head, *foot)}
    return head, [line for line in lines if id(line) not in set_apart], foot
