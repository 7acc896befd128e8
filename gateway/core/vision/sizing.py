"""Makes regions of blocks: short neighbours of a column become one under their heading, long blocks become several.

A region is what a search finds and a model reads: too short says nothing, too long costs what it does not say. About 60
to 400 tokens are aimed at.

Invariants, each with a test of its own:
  1. Every line of a block is in exactly one region, or in a caption; a table's header may be repeated.
  2. Regions stand in the order of their blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.core.vision.blocks import Block, Kind
from gateway.core.vision.contents import Rect, Word, bound
from gateway.core.vision.document import RegionType
from gateway.core.vision.lines import Line
from gateway.core.vision.wording import code_text, estimate_tokens, paragraph_text, plain_text, row_text

_SHORT_TOKENS = 60
_FULL_TOKENS = 250
_MAX_TOKENS = 400
_SNIPPET_LINES = 2
_BELOW = 4.0
_TYPES = {Kind.TABLE: RegionType.TABLE, Kind.FIGURE: RegionType.FIGURE, Kind.CODE: RegionType.CODE}


class Sized(NamedTuple):
    """A region before its place is told in whole pixels.

    Attributes:
        type: what it shows.
        text: what stands there.
        caption: what is written to it.
        place: of it.
        words: that it holds, with those of its caption.
    """

    type: RegionType
    text: str
    caption: str
    place: Rect
    words: Sequence[Word]


def size_regions(blocks: Sequence[Block], captions: dict[int, int]) -> list[Sized]:
    """Regions in reading order.

    Args:
        blocks: of a page, in reading order.
        captions: from a block's index to its caption's.
    """
    used = set(captions.values())
    sized: list[Sized] = []
    pending: list[Block] = []
    for index, block in enumerate(blocks):
        if index in used:
            continue
        if block.kind in _TYPES and not (is_snippet(block) and index not in captions):
            sized.extend(_flow(pending))
            pending = []
            caption = blocks[captions[index]] if index in captions else None
            sized.extend(_captioned(block, caption))
        elif pending and not _goes_on(pending[-1], block):
            sized.extend(_flow(pending))
            pending = [block]
        else:
            pending.append(block)
    sized.extend(_flow(pending))
    return sized


def is_snippet(block: Block) -> bool:
    """Whether a block is a line or two of code, which say nothing without the text around them."""
    return block.kind is Kind.CODE and len(block.lines) <= _SNIPPET_LINES


def _goes_on(before: Block, block: Block) -> bool:
    """Whether a block is read on from the one before: in its column, or right below it."""
    if before.column == block.column:
        return True
    shared = min(before.right, block.right) - max(before.left, block.left)
    narrow = min(before.right - before.left, block.right - block.left)
    height = max(line.height for line in block.lines)
    return shared > 0.5 * narrow and -0.5 * height <= block.top - before.bottom < _BELOW * height


def _captioned(block: Block, caption: Block | None) -> Iterator[Sized]:
    """A table, a figure or a listing, with what is written to it."""
    type_ = _TYPES[block.kind]
    told = paragraph_text(caption.lines).replace("\n", " ") if caption else ""
    words = _words(caption.lines) if caption else []
    for text, lines in _parts(block):
        place = bound(lines) if lines and text is not None else block.place
        if block.kind is Kind.FIGURE or len(lines) == len(block.lines):
            place = block.place
        yield Sized(type_, text, told, place, [*_words(lines), *words])
        words = []


def _parts(block: Block) -> list[tuple[str, Sequence[Line]]]:
    if block.kind is Kind.TABLE:
        return _table_parts(block.rows)
    if block.kind is Kind.CODE:
        return _code_parts(block.lines)
    return [(plain_text(block.lines), block.lines)]


def _table_parts(rows: Sequence[Sequence[Sequence[Line]]]) -> list[tuple[str, Sequence[Line]]]:
    """A table's rows, as many at once as a region may have; further parts repeat the first row."""
    texts = [row_text(row) for row in rows]
    parts: list[tuple[str, Sequence[Line]]] = []
    start, tokens = 0, 0
    for index, text in enumerate(texts):
        tokens += estimate_tokens(text) + 1
        if tokens > _MAX_TOKENS and index > start + 1:
            parts.append(_table_part(rows, texts, start, index))
            start, tokens = index, estimate_tokens(texts[0]) + estimate_tokens(text)
    parts.append(_table_part(rows, texts, start, len(rows)))
    return parts


def _table_part(
    rows: Sequence[Sequence[Sequence[Line]]], texts: Sequence[str], start: int, end: int
) -> tuple[str, Sequence[Line]]:
    head = texts[:1] if start else []
    return "\n".join([*head, *texts[start:end]]), [line for row in rows[start:end] for cell in row for line in cell]


def _code_parts(lines: Sequence[Line]) -> list[tuple[str, Sequence[Line]]]:
    """A listing; a long one parted before lines that are not indented, where there are any."""
    left = min(line.left for line in lines)
    parts: list[tuple[str, Sequence[Line]]] = []
    part: list[Line] = []
    tokens = 0
    for line in lines:
        own = estimate_tokens(line.text()) + 2
        is_outer = line.left - left < 2
        if part and (tokens + own > 1.5 * _MAX_TOKENS or (tokens + own > _MAX_TOKENS and is_outer)):
            parts.append((code_text(part), part))
            part, tokens = [], 0
        part.append(line)
        tokens += own
    parts.append((code_text(part), part))
    return parts


def _flow(blocks: Sequence[Block]) -> Iterator[Sized]:
    """Headings and paragraphs of one column."""
    group: list[tuple[Sequence[Line], str]] = []
    tokens = 0
    has_body = False
    for block in blocks:
        for lines, text in _paragraphs(block):
            own = estimate_tokens(text)
            is_heading = block.kind is Kind.HEADING
            is_full = tokens + own > _FULL_TOKENS and tokens >= _SHORT_TOKENS
            if group and (
                is_full or tokens + own > _MAX_TOKENS or (is_heading and has_body and tokens >= _SHORT_TOKENS // 2)
            ):
                yield _text(group)
                group, tokens, has_body = [], 0, False
            group.append((lines, text))
            tokens += own
            has_body = has_body or not is_heading
    if group:
        yield _text(group)


def _paragraphs(block: Block) -> Iterator[tuple[Sequence[Line], str]]:
    """A paragraph; a long one in parts of whole lines."""
    if block.kind is Kind.CODE:
        yield block.lines, code_text(block.lines)
        return
    part: list[Line] = []
    tokens = 0
    for line in block.lines:
        own = estimate_tokens(line.text())
        if part and tokens + own > _MAX_TOKENS:
            yield part, paragraph_text(part)
            part, tokens = [], 0
        part.append(line)
        tokens += own
    if part:
        yield part, paragraph_text(part)


def _text(group: Sequence[tuple[Sequence[Line], str]]) -> Sized:
    lines = [line for part, _ in group for line in part]
    return Sized(RegionType.TEXT, "\n\n".join(text for _, text in group), "", bound(lines), _words(lines))


def _words(lines: Sequence[Line]) -> list[Word]:
    return [word for line in lines for word in line.words]
