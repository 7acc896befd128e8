"""The tokens of one long run that the split pattern leaves whole: exactly, window by window, in linear time.

tiktoken's own time and memory grow faster than such a run (a megabyte of one letter, of dashes, of Chinese), and
nothing can stop it midway. Windows that overlap bound both. They are joined exactly by a property of byte pair
encoding: the lowest rank is merged first, the leftmost of equals, so what happens inside two neighbouring tokens
depends on nothing outside them until a merge crosses their edges. If every two neighbours of a sequence are neighbours
in the encoding of some window, then no merge ever crosses an edge in the whole either, and the sequence is the
encoding of the whole. So where two windows have one token in common, at the same place, one may change over.

Where they have none (never seen: each window begins at the edge of a token of the one before), longer overlaps are
tried; then the windows are joined as they are, which can cost a few tokens and is told.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from itertools import accumulate

Encode = Callable[[bytes], Sequence[int]]
WINDOW_BYTES = 2_048
OVERLAPS_BYTES = (256, 512, 768)
"""Longer than two of the longest tokens (128 bytes), so that the last window cannot be a token itself."""


def count_run(encode: Encode, lengths: bytes, data: bytes) -> Generator[int, None, int]:
    """Tokens of `data`, yielded in parts.

    Args:
        encode: tokens of a piece, not split any further.
        lengths: bytes of each token, by rank.
        data: what the split pattern leaves whole.

    Returns:
        How many windows could not be joined exactly.
    """
    at = counted = inexact = 0
    window = data[:WINDOW_BYTES]
    tokens = encode(window)
    while at + WINDOW_BYTES < len(data):
        ends = list(accumulate([lengths[token] for token in tokens]))
        for overlap in OVERLAPS_BYTES:
            kept = bisect_right(ends, WINDOW_BYTES - overlap)
            start = at + ends[kept - 1]
            following = data[start : start + WINDOW_BYTES]
            # A run of one letter has the same window again and again.
            theirs = tokens if following == window else encode(following)
            place = _common_token(tokens[kept:], theirs, lengths)
            if place is not None:
                break
        else:
            inexact += 1
            place = (0, 0)
        yield kept + place[0] - counted
        at, window, tokens, counted = start, following, theirs, place[1]
    yield len(tokens) - counted
    return inexact


def _common_token(left: Sequence[int], right: Sequence[int], lengths: bytes) -> tuple[int, int] | None:
    """The first token that both hold at the same place, as its two indices; both begin at the same byte."""
    i = j = lead = 0
    while i < len(left) and j < len(right):
        if lead == 0 and left[i] == right[j]:
            return i, j
        if lead <= 0:  # the left has come less far
            lead += lengths[left[i]]
            i += 1
        else:
            lead -= lengths[right[j]]
            j += 1
    return None
