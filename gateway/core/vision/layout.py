"""Makes regions of what stands on a page."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.vision.contents import PageContents, Word
from gateway.core.vision.document import Box, LaidPage, LaidRegion, Reading, RegionType


def lay_out(contents: PageContents) -> LaidPage:
    """Cut a page into regions."""
    blocks: list[list[list[Word]]] = []
    for line in _lines(contents):
        if blocks and line[0].top - blocks[-1][-1][0].bottom < 0.8 * (line[0].bottom - line[0].top):
            blocks[-1].append(line)
        else:
            blocks.append([line])
    regions = []
    for block in blocks:
        words = [word for line in block for word in line]
        regions.append(
            LaidRegion(
                box=_box(words, contents),
                type=RegionType.TEXT,
                text="\n".join(" ".join(word.text for word in line) for line in block),
                has_text_layer=contents.has_text_layer,
                confidence=_confidence(words),
            )
        )
    return LaidPage(size=contents.size, regions=regions)


def read_box(contents: PageContents) -> Reading:
    """All text of a page's part."""
    page = lay_out(contents)
    return Reading(
        text="\n\n".join(region.text for region in page.regions),
        confidence=_confidence(contents.words),
    )


def clip_contents(contents: PageContents, box: Box) -> PageContents:
    """What stands in a part of a page: words by their middle."""
    right, bottom = box.x + box.w, box.y + box.h
    return contents._replace(
        words=[
            word
            for word in contents.words
            if box.x <= (word.left + word.right) / 2 <= right and box.y <= (word.top + word.bottom) / 2 <= bottom
        ]
    )


def _lines(contents: PageContents) -> list[list[Word]]:
    lines: list[list[Word]] = []
    for word in sorted(contents.words, key=lambda word: ((word.top + word.bottom) / 2, word.left)):
        if lines and (word.top + word.bottom) / 2 < lines[-1][0].bottom:
            lines[-1].append(word)
        else:
            lines.append([word])
    return [sorted(line, key=lambda word: word.left) for line in lines]


def _confidence(words: Sequence[Word]) -> float:
    letters = sum(len(word.text) for word in words)
    return sum(len(word.text) * word.confidence for word in words) / letters if letters else 0.0


def _box(words: list[Word], contents: PageContents) -> Box:
    left = max(0, int(min(word.left for word in words)))
    top = max(0, int(min(word.top for word in words)))
    right = min(contents.size.width, int(max(word.right for word in words)) + 1)
    bottom = min(contents.size.height, int(max(word.bottom for word in words)) + 1)
    return Box(x=left, y=top, w=max(1, right - left), h=max(1, bottom - top))
