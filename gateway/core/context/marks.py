"""Marks of the gateway's own in text that is not its own: what could end a brief, or pass for a line of it, is defused.

Folded text is data. In it may stand the end of the brief, in any spelling that a model might take for it, or lines in
the form of a rule, a heading or an anchor. Texts keep their words; only what makes the mark is taken from them.

Invariants, each with a test of its own:
  1. No defused text holds a mark in any case, width or spacing, or with look-alike letters.
  2. Text without marks comes back as it was; defusing twice changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_MARKS = ("runningbrief", "recalled", "conversation")
_OPENING = "<＜﹤‹〈⟨《«˂ᐸ"
_TAG = r"([{}])(?=[^\w\n<>]{{0,12}}\w[^\n<>＜＞]{{6,40}})"
_MAX_TAG_CHARS = 56
_LOOK_ALIKES = str.maketrans("аеорсухіѕјгпԁոսυνιορɡցьвбғſɩıŋк", "aeopcyxisjrndnuuviopggbbbfsiink")
_own_line = re.compile(
    r"^(\W{0,6})\[\s{0,2}(?:(?:turn|messages?)\s{0,2}\d+[^\]\n]{0,40}|\d+\s{1,2}\w{1,20})\s{0,2}\]\s?", re.IGNORECASE
)
_heading = re.compile(
    r"^\W{0,6}(?:the user['’]?s rules, quoted[^\n]{0,60}|what was said and done"
    r"|\[?(?:the brief so far|messages since)\]?)\W{0,3}$",
    re.IGNORECASE,
)


def defuse_tags(text: str) -> str:
    """The text with a backslash in whatever might be taken for one of our tags."""
    opening = "".join(mark for mark in ("<" if text.isascii() else _OPENING) if mark in text)
    return _tag_of(opening).sub(_defused, text) if opening else text


@lru_cache(maxsize=64)
def _tag_of(opening: str) -> re.Pattern[str]:
    """What may be a tag that opens with one of these; one character is found many times as fast as one of a class."""
    return re.compile(_TAG.format(opening))


def _defused(found: re.Match[str]) -> str:
    start = found.end()
    after = found.string[start : start + _MAX_TAG_CHARS]
    return f"{found[1]}\\" if _letters_of(after).startswith(_MARKS) and after[0] != "\\" else found[1]


def _letters_of(text: str) -> str:
    """A text's letters as they look: width, case, accents, and letters of other scripts that look Latin."""
    if text.isascii():
        return "".join(filter(str.isalpha, text.lower()))
    spread = unicodedata.normalize("NFKD", text).lower().translate(_LOOK_ALIKES)
    return "".join(letter for letter in spread if letter.isalpha())


def defuse_lines(text: str) -> str:
    """Lines of a summary without what makes them look like a rule, an anchor or a heading of the brief itself."""
    lines = []
    for line in text.splitlines(keepends=True):
        while found := _own_line.match(line):
            line = found[1] + line[found.end() :]
        if not _heading.match(line):
            lines.append(line)
    return "".join(lines)


def escape_lines(text: str) -> str:
    """The text with a backslash before each line that looks like one of ours."""
    return "".join(f"\\{line}" if is_own_line(line) else line for line in text.splitlines(keepends=True))


def is_own_line(line: str) -> bool:
    """Whether a line has the form of a rule, an anchor or a heading of a brief."""
    return bool(_own_line.match(line) or _heading.match(line))
