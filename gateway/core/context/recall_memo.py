"""What was read and counted for earlier questions of the same folded messages: most of it is recalled again.

Two threads may read or count the same thing at once; both have it right.

Invariants, each with a test of its own:
  1. What comes back is what would be read and counted afresh.
  2. No kind holds more than `MAX_CHARS` characters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

MAX_CHARS = 65_536
"""A few times what fits a prompt."""
_MAX_FACTORS = 4
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

    def take_over(self, earlier: RecallMemo, is_same: Callable[[int], bool]) -> None:
        """Go on with the lines, and what they cost, of another memo, which may be in use; asked of an empty one.

        Args:
            earlier: of a part of the same messages, say.
            is_same: whether the message of a number has the same line here.
        """
        self._lines = {key: line for key, line in list(earlier._lines.items()) if is_same(key[0])}
        self._line_chars = sum(map(len, self._lines.values()))
        for encoding, known in list(earlier._tokens.items()):
            counted = {line: known[line] for line in self._lines.values() if line in known}
            self._tokens[encoding] = counted
            self._counted_chars += sum(map(len, counted))

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

    def lines_of(self, keys: Sequence[tuple[int, ...]], make: Callable[[int], str]) -> list[str]:
        """Messages' lines.

        Args:
            keys: of each, its number, and where each of the passages begins that are in it.
            make: makes the one in a place of `keys`, where that was not done before.
        """
        known = self._lines
        return [known.get(key) or self._kept(key, make(at)) for at, key in enumerate(keys)]

    def _kept(self, key: tuple[int, ...], line: str) -> str:
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
        if not all(map(known.__contains__, lines)):
            for line in lines:
                if line not in known:
                    if self._counted_chars + len(line) > MAX_CHARS:
                        self._tokens, self._counted_chars = {}, 0
                        return sum(map(count, lines))
                    self._counted_chars += len(line)
                    known[line] = count(line)
        return sum([known[line] for line in lines])
