"""What was read and counted for earlier questions of the same folded messages: most of it is recalled again.

Two threads may read or count the same thing at once; both have it right.

Invariants, each with a test of its own:
  1. What comes back is what would be read and counted afresh.
  2. No kind holds more than `MAX_CHARS` characters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec

MAX_CHARS = 65_536
"""A few times what fits a prompt."""
_MAX_FACTORS = 4
P = ParamSpec("P")
Asked = tuple[frozenset[str], bool]
Factors = tuple[list[float], list[float]]


class RecallMemo:
    """Texts of messages, what was made of them, and what lines cost; starts with nothing."""

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}
        self._text_chars = 0
        self._lines: dict[tuple[int, ...], str] = {}
        self._line_chars = 0
        self._tokens: dict[str, dict[str, int]] = {}
        self._counted_chars = 0
        self._factors: dict[Asked, Factors] = {}

    def text_of(self, number: int, read: Callable[[int], str]) -> str:
        """The text of a message.

        Args:
            number: of the message.
            read: reads it, where that was not done before.
        """
        text = self._texts.get(number)
        if text is None:
            text = read(number)
            if self._text_chars + len(text) <= MAX_CHARS:
                self._text_chars += len(text)
                self._texts[number] = text
        return text

    def factors_of(self, asked: Asked, make: Callable[[], Factors]) -> Factors:
        """What passages count beside what they say.

        Args:
            asked: which speakers a question names, and whether it asks what the assistant said.
            make: works it out, where that was not done before.
        """
        factors = self._factors.get(asked)
        if factors is None:
            if len(self._factors) >= _MAX_FACTORS:
                self._factors.clear()
            factors = self._factors[asked] = make()
        return factors

    def line_of(self, key: tuple[int, ...], make: Callable[P, str], *args: P.args, **kwargs: P.kwargs) -> str:
        """A message's line.

        Args:
            key: its number, and where each of the passages begins that are in it.
            make: makes it of the other arguments, where that was not done before.
        """
        line = self._lines.get(key)
        if line is None:
            line = make(*args, **kwargs)
            if self._line_chars + len(line) > MAX_CHARS:
                self._lines, self._line_chars = {}, 0
            self._line_chars += len(line)
            self._lines[key] = line
        return line

    def tokens_of(self, lines: Sequence[str], encoding: str, count: Callable[[str], int]) -> int:
        """Tokens of these lines together, each of which is counted once.

        Args:
            lines: any texts.
            encoding: names how they are counted.
            count: counts one.
        """
        known = self._tokens.setdefault(encoding, {})
        for line in lines:
            if line not in known:
                if self._counted_chars + len(line) > MAX_CHARS:
                    self._tokens, self._counted_chars = {}, 0
                    return sum(map(count, lines))
                self._counted_chars += len(line)
                known[line] = count(line)
        return sum([known[line] for line in lines])
