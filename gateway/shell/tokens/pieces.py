"""Where a long text may be cut so that the parts cost exactly what the whole does.

Tokens never cross the pieces that an encoding's split pattern makes of a text, so a cut between two of those is free,
as long as the left part is split alone as it was in the whole. Both hold at the places below for the patterns of
o200k_base and cl100k_base; the test of this module tries to find one where they do not:
  - between a character that is no white space, and a space or tab;
  - between a letter or number, and a line end or punctuation other than an apostrophe (`'s` belongs to its word);
  - between an ASCII letter and a digit, in either order, and after every third digit from a cut on;
  - between a line end, and a character that is neither white space nor a slash.
"""

from __future__ import annotations

import re

PIECE_CHARS = 8_192
"""At most so much is counted in one call: about .3 ms of English."""
_NEAR_CHARS = 256
_FAR_CHARS = 1_024
_DIGITS_TOGETHER = 3
_ASCII_PUNCTUATION = r"\n\r!-&(-/:-@\[-`{-~"
_WIDE_PUNCTUATION = r"\u2010-\u2018\u201a-\u2027\u3001-\u3003\u3008-\u3011\uff01-\uff06\uff08-\uff0f\uff1a-\uff1f"
_cut = re.compile(
    rf"(?<=\S)[ \t]|(?<=[^\W_])[{_ASCII_PUNCTUATION}{_WIDE_PUNCTUATION}]"
    r"|(?<=[A-Za-z])[0-9]|(?<=[0-9])[A-Za-z]|(?<=\n)[^\s/]"
)


def find_cut(text: str, start: int) -> int | None:
    """The end of the piece that begins at `start`, at most `PIECE_CHARS` on; None if no place is known to be free.

    Args:
        text: the whole.
        start: 0 or a cut.
    """
    end = start + PIECE_CHARS
    if end >= len(text):
        return len(text)
    for nearest in (end - _NEAR_CHARS, end - _FAR_CHARS):
        space = text.rfind(" ", nearest, end)
        if space > 0 and not text[space - 1].isspace():
            return space
        cuts = [found.start() for found in _cut.finditer(text, nearest, end)]
        if cuts:
            return cuts[-1]
    digits = end - PIECE_CHARS % _DIGITS_TOGETHER
    if text[start:digits].isdecimal():
        return digits
    space = text.rfind(" ", start + 1, end)
    return space if space > start and not text[space - 1].isspace() else None
