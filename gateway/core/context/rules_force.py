"""How much a sentence binds, and the forms by which that is seen."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import NamedTuple


class Force(enum.IntEnum):
    """How much a sentence binds: what has less goes first where there is no room."""

    NONE = 0
    WISH = 1
    ORDER = 2
    REVISION = 3
    """It takes back or changes what was said before."""


class Form(NamedTuple):
    """One way of saying it.

    Attributes:
        force: what it has.
        cues: words, or letters, one of which a sentence of this form holds: looking for them is quick.
        is_in: whether a sentence has the form.
    """

    force: Force
    cues: frozenset[str]
    is_in: Callable[[str], object]


def forms_of(*table: tuple[Force, str, str]) -> tuple[Form, ...]:
    """Forms from a table: force, cues (words, or letters where there is no space among them), pattern."""
    return tuple(
        Form(force, frozenset(cues.split() if cues.isascii() or " " in cues else cues), re.compile(pattern).search)
        for force, cues, pattern in table
    )
