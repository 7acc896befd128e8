"""Which lines of a long text to keep: its head and tail, and between them the lines that say most.

Lines that report errors, hold wanted names, open a definition, or are unlike the others count most. A run of lines
left out becomes one line that counts them. Costs are characters; whoever bounds tokens converts.

Invariants, each with a test of its own:
  1. The result is at most `max_chars` long, or empty.
  2. Every line of it is a line of the text, a line's two ends with a note between, or a note of how many are missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

names_of = re.compile(r"[A-Za-z_][\w./:-]{2,}\w|\d{3,}|#\w{4,}").findall
"""Names, paths and numbers, as `wanted` holds them."""
reports_error = re.compile(
    r"\b(?:error|exception|fail(?:ed|ure|ures|s)?|fatal|panic|traceback|warning|denied|refused|not found|undefined"
    r"|assert\w*|fehler|warnung|errores?|fall[oó]|erreur|échec|ошибка)\b"
    r"|错误|失败|异常|エラー|失敗|警告|خطأ|فشل|[✗✘❌]",
    re.IGNORECASE,
).search
_opens = re.compile(
    r"\s*(?:\d+\W+)?(?:(?:export|public|private|static|async|pub|default|abstract) )*"
    r"(?:def|class|func|function|fn|impl|interface|struct|enum|trait|type|module|package|import|from|#+|[A-Z_]+ ?=) ?\S"
).match
"""Lines that say what comes below them: definitions, imports, headings."""
_shape = re.compile(r"\d+|[0-9a-f]{8,}|\s+")
_MAX_LINE_CHARS = 240
_HEAD_SHARE = 0.25
_TAIL_SHARE = 0.2
_GAP_CHARS = 18


def best_lines(text: str, max_chars: int, wanted: Collection[str]) -> str:
    """The best lines of a text, in order, within a number of characters; "" where that has room for none.

    Args:
        text: the whole.
        max_chars: the bound.
        wanted: names, paths and numbers whose lines are worth keeping.
    """
    whole = text.splitlines()
    even_share = (max_chars - 2 * _GAP_CHARS) // max(1, len(whole)) - 2  # few long lines may have more each
    cap = max(even_share, min(_MAX_LINE_CHARS, max(40, max_chars // 2)))
    lines = [short_line(line, cap) for line in whole]
    costs = [len(line) + 1 for line in lines]
    chosen: set[int] = set()
    left = max_chars - 2 * _GAP_CHARS
    for place in _in_order_of_worth(lines, costs, left, wanted):
        cost = costs[place] + _GAP_CHARS * (place - 1 not in chosen and place + 1 not in chosen)
        if cost <= left:
            chosen.add(place)
            left -= cost
        elif left < _GAP_CHARS:
            break
    shown = "\n".join(_with_gaps(lines, chosen))
    return shown if chosen and len(shown) <= max_chars else ""


def short_line(line: str, max_chars: int) -> str:
    """A line, or its two ends, cut between words where that is possible, about `max_chars` long."""
    if len(line) <= max_chars:
        return line
    room = max(8, max_chars - 26)
    head, tail = line[: room * 2 // 3], line[-(room // 3) :]
    if (at := head.rfind(" ")) > len(head) // 2:
        head = head[:at]
    if -1 < (at := tail.find(" ")) < len(tail) // 2:
        tail = tail[at + 1 :]
    return f"{head}[… {len(line) - len(head) - len(tail)} characters …]{tail}"


def _in_order_of_worth(lines: Sequence[str], costs: Sequence[int], room: int, wanted: Collection[str]) -> Iterator[int]:
    """Places of lines: a first head and tail, then the best of the rest."""
    head = _reach(costs, range(len(lines)), int(room * _HEAD_SHARE))
    tail = _reach(costs, range(len(lines) - 1, -1, -1), int(room * _TAIL_SHARE))
    first = dict.fromkeys([*head, *tail])
    yield from first
    shapes = [_shape.sub(" ", line).strip() for line in lines]
    alike = Counter(shapes)
    is_wanted = frozenset(wanted).intersection
    named = [is_wanted(names_of(line)) for line in lines] if wanted else [frozenset[str]()] * len(lines)
    seen = Counter(name for names in named for name in names)
    ranked = []
    for place, line in enumerate(lines):
        if place in first or not shapes[place]:
            continue
        score = 3.0 * bool(reports_error(line)) + 1.0 * bool(_opens(line)) + 1.0 / alike[shapes[place]]
        score += sum([2.0 / seen[name] + 0.5 for name in sorted(named[place])])
        score += 0.3 * (not line[0].isspace())
        ranked.append((-score / (costs[place] + 12) ** 0.5, place))
    yield from (place for _, place in sorted(ranked))


def _reach(costs: Sequence[int], places: range, room: int) -> list[int]:
    found = []
    for place in places:
        room -= costs[place]
        if room < 0:
            break
        found.append(place)
    return found


def _with_gaps(lines: Sequence[str], chosen: Collection[int]) -> Iterator[str]:
    for is_kept, places in groupby(range(len(lines)), key=chosen.__contains__):
        run = list(places)
        if is_kept:
            yield from (lines[place] for place in run)
        elif any(lines[place].strip() for place in run):
            yield f"[… {len(run)} line{'s' if len(run) > 1 else ''} …]"
