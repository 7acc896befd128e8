"""What is written to tables, figures and listings: found by its label, or by how near and small it stands.

Invariants, each with a test of its own:
  1. A caption belongs to one block, and a block has one caption.
  2. A sentence that only speaks of a figure is no caption.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.core.vision.blocks import Block, Kind

_NUMBER = r"\s*(?:[A-Z]?\d+(?:[.\-–]\d+)*|[IVX]+)[a-z]?"
_LABELS = (
    (Kind.FIGURE, r"fig(?:ure|\.)?|abb(?:ildung|\.)?|chart|diagram|exhibit|plate|photo|figura|obr\.|рис\.|图|圖|図"),
    (Kind.TABLE, r"tab(?:le|elle|leau|la|\.)?|табл(?:ица|\.)|表"),
    (Kind.CODE, r"listing|code|algorithm|program"),
)
_LABELLED = tuple(
    (kind, re.compile(rf"^(?:{words}){_NUMBER}(?:\s*[:.：。|–—-](?:\s|$)|\s*[:：]|$)", re.IGNORECASE))
    for kind, words in _LABELS
)
_LABELLED_CJK = ((Kind.FIGURE, re.compile(r"^[图圖図]\s*\d")), (Kind.TABLE, re.compile(r"^表\s*\d")))
_CJK_CAPTION_LETTERS = 60
_MAX_LINES = 8
_REACH = 5.0
"""In heights of a line: no further stands a labelled caption."""
_NEAR = 1.6
_SMALL = 0.95
_CAPTIONED = (Kind.FIGURE, Kind.TABLE, Kind.CODE)


def label_of(text: str) -> Kind | None:
    """What a text that starts with a label is the caption of."""
    for kind, pattern in _LABELLED:
        if pattern.match(text):
            return kind
    for kind, pattern in _LABELLED_CJK:
        if len(text) <= _CJK_CAPTION_LETTERS and pattern.match(text):
            return kind
    return None


def find_captions(blocks: Sequence[Block], body_px: float) -> dict[int, int]:
    """Captions: from a block's index to that of the block that is its caption.

    Args:
        blocks: of a page.
        body_px: how high most lines are.
    """
    found: dict[int, int] = {}
    texts = {index: block.lines[0].text() for index, block in enumerate(blocks) if _may_be(block) and block.lines}
    labelled = {index: kind for index, text in texts.items() if (kind := label_of(text))}
    for index, kind in labelled.items():
        near = sorted(
            (_distance(blocks[index], other), other_index)
            for other_index, other in enumerate(blocks)
            if other.kind in _CAPTIONED and other_index not in found
        )
        reached = [(distance, other) for distance, other in near if distance <= _REACH * body_px]
        fitting = [other for _, other in reached if blocks[other].kind is kind] or [
            other for distance, other in reached if distance <= _NEAR * body_px and kind is Kind.FIGURE
        ]
        if fitting:
            found[fitting[0]] = index
    taken = set(found.values())
    for index, block in enumerate(blocks):
        if block.kind is Kind.FIGURE and index not in found:
            below = [other for other in texts if other not in taken and _is_small_below(blocks[other], block, body_px)]
            if below:
                found[index] = min(below, key=lambda other: blocks[other].top)
                taken.add(found[index])
    return found


def _may_be(block: Block) -> bool:
    return block.kind in (Kind.TEXT, Kind.HEADING) and len(block.lines) <= _MAX_LINES


def _distance(caption: Block, block: Block) -> float:
    """How far above or below a block stands; endless where it stands beside it."""
    if min(caption.right, block.right) <= max(caption.left, block.left):
        return float("inf")
    return max(0.0, block.top - caption.bottom, caption.top - block.bottom)


def _is_small_below(caption: Block, figure: Block, body_px: float) -> bool:
    is_below = -2 <= caption.top - figure.bottom <= _NEAR * body_px and len(caption.lines) <= 3
    is_within = caption.left >= figure.left - body_px and caption.right <= figure.right + body_px
    return is_below and is_within and max(line.height for line in caption.lines) < _SMALL * body_px
