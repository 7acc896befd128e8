"""The text of a block as it is kept: paragraphs without line ends, listings with their indentation, rows of cells.

Invariants, each with a test of its own:
  1. No letter of a word is lost, but the hyphen at a line's end that only parts a word.
  2. A listing's lines start as far to the right of one another as they stand.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from gateway.core.vision.blocks import starts_item
from gateway.core.vision.lines import Line, is_cjk, join_words

CELL_SEPARATOR = " | "
_SHORT_LINE = 0.75
"""A line that ends before so much of its column ends what it says."""
_HYPHENS = ("-", "\u2010")
_BLANK_LINE = 1.7
_TAB_COLUMNS = 200
"""What is further to the right is not indentation any more."""
_LETTERS_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has: a quarter of its letters, and each of Chinese and Japanese."""
    wide = 0 if text.isascii() else sum(map(is_cjk, text))
    return wide + (len(text) - wide + _LETTERS_PER_TOKEN - 1) // _LETTERS_PER_TOKEN


def paragraph_text(lines: Sequence[Line]) -> str:
    """Lines of running text as one, with a line end where a line ends early or an item of a list starts."""
    if not lines:
        return ""
    left, right = min(line.left for line in lines), max(line.right for line in lines)
    early = left + _SHORT_LINE * (right - left)
    text = lines[0].text()
    for before, line in itertools.pairwise(lines):
        ends = before.right < early or starts_item(line)
        text = f"{text}\n{line.text()}" if ends else _join(text, line.text())
    return text


def _join(text: str, more: str) -> str:
    """Two lines of a sentence."""
    last_word = text.rsplit(None, 1)[-1] if text.strip() else ""
    if last_word.endswith(_HYPHENS) and len(last_word) > 1:
        is_parted = (
            last_word[-2].islower() and more[:1].islower() and not any(hyphen in last_word[:-1] for hyphen in _HYPHENS)
        )
        return (text[:-1] if is_parted else text) + more
    if text and more and is_cjk(text[-1]) and is_cjk(more[0]):
        return text + more
    return f"{text} {more}"


def code_text(lines: Sequence[Line]) -> str:
    """A listing, each line indented as it stands, blank lines where they are."""
    if not lines:
        return ""
    advance = _advance(lines)
    left = min(line.left for line in lines)
    pitch = _pitch(lines)
    texts: list[str] = []
    for index, line in enumerate(lines):
        if index:
            down = line.middle - lines[index - 1].middle
            if down < 0.5 * line.height and texts:
                texts[-1] = _placed(texts[-1], line, left, advance)
                continue
            if pitch and down > _BLANK_LINE * pitch:
                texts.extend([""] * min(3, round(down / pitch) - 1))
        texts.append(_placed("", line, left, advance))
    return "\n".join(texts)


def _advance(lines: Sequence[Line]) -> float:
    """How wide a letter is."""
    widths = sorted((word.right - word.left) / len(word.text) for line in lines for word in line.words)
    return max(1.0, widths[len(widths) // 2])


def _pitch(lines: Sequence[Line]) -> float:
    """How far down the next line stands."""
    steps = sorted(after.middle - line.middle for line, after in itertools.pairwise(lines))
    steps = [step for step in steps if step > 1]
    return steps[(len(steps) - 1) // 2] if steps else 0.0


def _placed(text: str, line: Line, left: float, advance: float) -> str:
    """A line's words after what stands there already, each at its column."""
    for word in line.words:
        column = min(_TAB_COLUMNS, round((word.left - left) / advance))
        if text:
            column = max(column if column > len(text) + 1 else 0, len(text) + 1)
        text = text.ljust(column) + word.text
    return text


def cell_text(lines: Sequence[Line]) -> str:
    """What stands in a cell, on one line."""
    text = ""
    for line in lines:
        text = _join(text, line.text()) if text else line.text()
    return text


def row_text(cells: Sequence[Sequence[Line]]) -> str:
    """A row of a table."""
    return CELL_SEPARATOR.join(cell_text(cell) for cell in cells).strip()


def plain_text(lines: Sequence[Line]) -> str:
    """Lines that do not go on with one another, such as those in a drawing."""
    return "\n".join(join_words(line.words) for line in lines)
