"""How well a document was read: letters that are right, and regions that were found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.core.vision.document import Box

_FOUND_AT = 0.5
"""A region is found where its place and the labelled one share half of what they cover together."""


def plain(text: str) -> str:
    """A text without what reading is free in: bars between cells, and how much white space there is."""
    return " ".join(re.sub(r"\s\|(?=\s)|^\|", " ", text).split())


def distance(one: str, two: str) -> int:
    """How many letters must be put in, taken out or changed (Levenshtein), row by row with numpy."""
    if not one or not two:
        return len(one) + len(two)
    target = np.frombuffer(two.encode("utf-32-le"), dtype=np.uint32)
    steps = np.arange(len(two) + 1)
    row = steps.copy()
    for count, letter in enumerate(one, 1):
        changed = row[:-1] + (target != ord(letter))
        following = np.empty_like(row)
        following[0] = count
        following[1:] = np.minimum(changed, row[1:] + 1)
        row = np.minimum.accumulate(following - steps) + steps
    return int(row[-1])


def accuracy(read: str, truth: str) -> float:
    """The share of letters that are right: 1 less the distance by the length of what stands there, at least 0."""
    truth = plain(truth)
    if not truth:
        return 1.0 if not plain(read) else 0.0
    return max(0.0, 1.0 - distance(plain(read), truth) / len(truth))


def overlap(one: Box, two: Box) -> float:
    """What two places share, by what they cover together."""
    wide = min(one.x + one.w, two.x + two.w) - max(one.x, two.x)
    high = min(one.y + one.h, two.y + two.h) - max(one.y, two.y)
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / (one.w * one.h + two.w * two.h - wide * high)


@dataclass(slots=True)
class Found:
    """How many regions of a type are labelled, told, and both."""

    labelled: int = 0
    told: int = 0
    both: int = 0

    def add(self, labelled: Sequence[Box], told: Sequence[Box]) -> None:
        """Count a page; each labelled place is found once."""
        self.labelled += len(labelled)
        self.told += len(told)
        left = list(told)
        for place in labelled:
            best = max(left, key=lambda other: overlap(place, other), default=None)
            if best is not None and overlap(place, best) >= _FOUND_AT:
                self.both += 1
                left.remove(best)

    @property
    def precision(self) -> float:
        """Of those told, how many are labelled."""
        return self.both / self.told if self.told else 1.0

    @property
    def recall(self) -> float:
        """Of those labelled, how many are told."""
        return self.both / self.labelled if self.labelled else 1.0
