"""What a vision model has written of a region, as plain text: its marks of places taken out, its tables as rows.

DeepSeek-OCR writes `<|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2]]<|/det|>` before what stands there, and tables as
HTML; asked to find places only, it writes the text itself between the first two marks. Nothing of it is evaluated:
marks are looked for as they are, once, from left to right.
Source: the model's card and its own reading of answers (huggingface.co/deepseek-ai/DeepSeek-OCR, 2025-10).

Invariants, each with a test of its own:
  1. What stands outside of marks comes back, in its order; of marks that are whole only a label is lost.
  2. Marks that are broken off or stand in no order cost no text, and time grows with the length alone.
  3. A loop at the end is kept once; what repeats itself for a line or two is no loop.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import NamedTuple

_REF, _REF_END, _DET, _DET_END = "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>"
_MARKS = (_REF, _REF_END, _DET, _DET_END)
_TEXTS = ("text", "title", "sub_title", "paragraph", "list", "list_item", "aside_text", "vertical_text")
_PICTURES = ("table", "image", "figure", "chart", "equation", "formula", "code", "algorithm", "seal")
_NOTES = ("caption", "footnote", "reference", "references", "header", "footer", "page_number", "table_footnote")
_CAPTIONS = tuple(f"{name}_caption" for name in ("table", "image", "figure", "code"))
LABELS = frozenset(_TEXTS + _PICTURES + _NOTES + _CAPTIONS)
"""What the model calls a place by; any other text between those marks is what stands there."""
_is_places = re.compile(r"\s*\[[\s\d.,\[\]-]*").fullmatch
_without_ends = re.compile(r"<｜(?:end▁of▁sentence|begin▁of▁sentence|▁pad▁)｜>|<\|(?:grounding|endoftext)\|>").sub
_many_lines = re.compile(r"\n{3,}").sub
_find_tables = re.compile(r"<table\b", re.IGNORECASE).finditer
_find_table_ends = re.compile(r"</table>", re.IGNORECASE).finditer
_MAX_PERIOD_CHARS = 256
_MIN_LOOP_TIMES = 8
SURE_LOOP_CHARS, LIKELY_LOOP_CHARS = 4_000, 400
"""What repeats itself for so long is a loop; and for so long, where the model did not end by itself."""


class Plain(NamedTuple):
    """A text without marks; `share` is how much of it is left where a loop was cut off, 1 where none was."""

    text: str
    share: float


def plain_text(written: str, *, has_ended: bool = True) -> Plain:
    """What a model has written, as text.

    Args:
        written: all of it.
        has_ended: it ended by itself, and not at its limit.
    """
    text = _without_ends("", without_marks(written))
    kept = without_loop(text, SURE_LOOP_CHARS if has_ended else LIKELY_LOOP_CHARS)
    share = len(kept) / len(text) if text else 1.0
    rows = table_rows(kept)
    lines = "\n".join(line.rstrip() for line in rows.splitlines())
    return Plain(_many_lines("\n\n", lines).strip("\n"), share)


def without_marks(written: str) -> str:
    """The text without marks of places."""
    if "<|" not in written:
        return written
    kept: list[str] = []
    at = 0
    while (start := written.find("<|", at)) >= 0:
        mark = next((each for each in _MARKS if written.startswith(each, start)), None)
        if mark is None:
            kept.append(written[at : start + 2])
            at = start + 2
            continue
        kept.append(written[at:start])
        at = start + len(mark)
        if mark in (_REF, _DET):
            inner_end, at_next = _inner(written, at, _REF_END if mark == _REF else _DET_END)
            inner = written[at:inner_end]
            is_lost = inner.strip() in LABELS if mark == _REF else _is_places(inner) is not None
            kept.append("" if is_lost else inner)
            at = at_next
    kept.append(written[at:])
    return "".join(kept)


def _inner(written: str, at: int, end_mark: str) -> tuple[int, int]:
    """Where what stands between two marks ends, and where it goes on: at the end mark, or before any other mark."""
    place = written.find("<|", at)
    if place < 0:
        return len(written), len(written)
    if written.startswith(end_mark, place):
        return place, place + len(end_mark)
    return place, place


def without_loop(text: str, min_chars: int = LIKELY_LOOP_CHARS) -> str:
    """The text with what repeats itself at its end, for at least so long, kept once."""
    tail = len(text)
    for period in range(1, min(_MAX_PERIOD_CHARS, tail // 2) + 1):
        if text[-1] != text[-1 - period]:
            continue
        unit = text[tail - period :]
        times = 1
        while text.startswith(unit, tail - (times + 1) * period) and tail >= (times + 1) * period:
            times += 1
        if times >= _MIN_LOOP_TIMES and times * period >= min_chars:
            return text[: tail - (times - 1) * period]
    return text


def table_rows(text: str) -> str:
    """The text with tables of HTML as lines, ` | ` between cells; one that does not end goes to the text's end."""
    if "<t" not in text.lower():
        return text
    ends = _find_table_ends(text)
    table_end = next(ends, None)
    parts: list[str] = []
    at = 0
    for found in _find_tables(text):
        if found.start() < at:
            continue  # a table within one
        while table_end is not None and table_end.start() < found.start():
            table_end = next(ends, None)
        end = len(text) if table_end is None else table_end.end()
        rows = _Rows()
        rows.feed(text[found.start() : end])
        rows.close()
        parts += [text[at : found.start()], rows.render()]
        at = end
    parts.append(text[at:])
    return "".join(parts)


class _Rows(HTMLParser):
    """Cells of a table, as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            if not self._rows:
                self._rows.append([])
            self._rows[-1].append("")
        elif tag == "br":
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        if self._rows and self._rows[-1]:
            self._rows[-1][-1] += data
        elif data.strip():
            self._rows.append([data])

    def render(self) -> str:
        rows = (" | ".join(" ".join(cell.split()) for cell in row) for row in self._rows if row)
        return "\n".join(rows)
