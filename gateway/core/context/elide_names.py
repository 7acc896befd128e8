"""Names and values of text that is folded or shortened: paths, identifiers, numbers, ids, on one line.

An agent's next steps use them letter for letter, and nobody can make them up again. Ranked by how often they were used,
how recently, and by whom; what is visible anyway is left out.

Invariants, each with a test of its own:
  1. Every name stands, letter for letter, in what was given; none comes twice.
  2. The line takes at most `max_tokens`.
  3. Same input, same bytes.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

_candidate = re.compile(r"[A-Za-z_][\w./:@-]{2,}\w|\d[\d.,:-]+\d|#\w{3,}")
_is_name = re.compile(r"[_./\d@#]|[a-z][A-Z]").search
_escape = re.compile(r"\\[nrt]")
"""Line ends within JSON strings."""
_MAX_NAME_CHARS = 90
_MAX_LINE_NUMBER_DIGITS = 7
_MAX_TIMES = 3
_CALL_WEIGHT = 3.0
"""What an agent itself wrote it may write again; of a tool's output it uses little."""
_HALF_AFTER = 40
"""Messages after which a use counts half."""


def names_in(text: str) -> Iterator[str]:
    """Paths, identifiers, ids and numbers of a text, in order, with repeats; no line numbers."""
    found = _candidate.findall(_escape.sub(" ", text))
    numbers = {int(name) for name in found if len(name) < _MAX_LINE_NUMBER_DIGITS and name.isdecimal()}
    for name in found:
        if len(name) > _MAX_NAME_CHARS or not _is_name(name):
            continue
        if len(name) < _MAX_LINE_NUMBER_DIGITS and name.isdecimal():
            number = int(name)
            if number - 1 in numbers or number + 1 in numbers:
                continue
        yield name


def list_names(
    turns: Sequence[tuple[str, Iterable[str]]], visible: str, max_tokens: int, count_tokens: Callable[[str], int]
) -> str:
    """The best names that fit, best first, on one line; "" for none.

    Args:
        turns: role and names of each message, oldest first.
        visible: text that the reader has anyway.
        max_tokens: the bound.
        count_tokens: tokens of a text.
    """
    worth: defaultdict[str, float] = defaultdict(float)
    for age, (role, names) in enumerate(reversed(turns)):
        weight = (_CALL_WEIGHT if role == "assistant" else 1.0) * 0.5 ** (age / _HALF_AFTER)
        for name, times in Counter(names).items():
            worth[name] += weight * min(times, _MAX_TIMES)
    chosen: list[str] = []
    left = max_tokens
    for name in sorted(worth, key=lambda name: (-worth[name], name)):
        if left < 2:
            break
        if name in visible:
            continue
        cost = count_tokens(f" {name},")
        if cost <= left:
            chosen.append(name)
            left -= cost
    return ", ".join(chosen)
