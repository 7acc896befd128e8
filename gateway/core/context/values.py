"""Hard values: what a brief must not lose, because nobody can guess it again.

Identifiers, numbers with units, paths, URLs, dates, e-mail addresses, versions, names, things said not to be so, and
open items. Found by shape alone, in any language; a brief is held against them, and what it lacks is added to it.

Invariants, each with a test of its own:
  1. Every value stands, letter for letter, in the text.
  2. A text covers its own values whole; an empty one covers none.
  3. Same input, same values in the same order, in time that grows with the text alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from gateway.core.context.extractive import Turn
from gateway.core.context.sentences import split_sentences, words_of

_UNITS = (
    r"%|°[CF]|(?:[kKMGT]i?[Bb]|[mµun]?s|[kcm]?m|kg|min(?:utes?)?|seconds?|hours?|days?|weeks?|months?|years?|tokens?)\b"
)
_SHAPES: tuple[tuple[str, float, str], ...] = (
    ("url", 3.0, r"https?://[^\s<>\"'`)\]}]{3,200}"),
    ("email", 3.0, r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
    ("path", 2.0, r"(?<![\w/])(?:~|\.{1,2})?(?:/[\w.@+-]{1,80}){2,12}|[\w-]{1,60}(?:/[\w.@+-]{1,80}){1,12}\.\w{1,8}"),
    ("host", 2.0, r"\b[\w-]{2,60}(?:\.[A-Za-z][\w-]{1,40}){1,5}(?::\d{2,5})?\b"),
    ("uuid", 3.0, r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"),
    ("date", 2.5, r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b"),
    ("date", 2.5, r"\b\d{1,2}:\d\d(?::\d\d)?(?: ?[ap]m)?\b|\d{1,4}年\d{1,2}月(?:\d{1,2}日)?|\d{1,2}月\d{1,2}日"),
    ("version", 2.5, r"\bv?\d{1,4}(?:\.\d{1,6}){2,4}(?:-[\w.]{1,20})?\b"),
    ("identifier", 2.5, r"\b(?=[\w-]{0,40}\d)[A-Za-z][\w]{0,40}(?:-\w{1,40}){1,6}\b|\b[A-Z]{2,10}[-_]?\d{2,12}\b"),
    ("identifier", 2.5, r"#\d{2,12}\b"),
    ("identifier", 2.0, r"\b[A-Za-z]\w{0,60}_\w{1,60}\b|\b[a-z]{2,40}[A-Z]\w{1,60}\b|`[^`\n]{2,80}`"),
    ("number", 2.0, r"[$€£¥][ \u00a0]?\d[\d,.]{0,15}\d?(?:[ \u00a0]?(?:million|billion|[kKmMbB])\b)?"),
    ("number", 1.5, rf"\b\d[\d,]{{0,15}}(?:\.\d{{1,10}})?[ \u00a0]?(?:{_UNITS})"),
    ("number", 1.0, r"\b\d[\d,]{2,15}(?:\.\d{1,10})?\b|\b\d+\.\d{1,10}\b"),
    ("name", 1.5, r"(?<=[a-zà-ÿ,;:] )[A-ZÀ-Þ][a-zà-ÿ]{2,30}(?: [A-ZÀ-Þ][a-zà-ÿ]{1,30}){0,3}"),
)  # fmt: skip
_WEIGHTS = {f"{kind}{place}": weight for place, (kind, weight, _) in enumerate(_SHAPES)}
_PLAIN_RUN = (
    r"(?:[\s()=\[\]{}<>'\",;:!?*|&^%\\@’“”…]++|\.(?=\s|\Z)"
    r"|(?:(?<![a-zà-ÿ,;:] )[A-ZÀ-Þ][a-zà-ÿ]*+|[a-zà-ÿ]++)(?:['’][a-zà-ÿ]++)?+"
    r"(?=[\s()=\[\]{}<>'\",;!?*|&^%’“”…]|[.:](?:\s|\Z)|\Z))++"
)
"""Plain words and what stands between them, as most of a text is: no shape begins in it, but for a name."""
_PLAIN_WORD = r"[^\W\d]{1,40}+(?![\w.+\-@/:~])"
"""What no shape begins with at its first letter, where none can begin at a later one either."""
_find = re.compile(
    "|".join(
        [
            _PLAIN_RUN,
            *(f"(?P<{kind}{place}>{shape})" for place, (kind, _, shape) in enumerate(_SHAPES)),
            _PLAIN_WORD,
        ]
    )
).finditer
_NAMES = f"name{len(_SHAPES) - 1}"
_lower_words = re.compile(r"\b[a-zà-ÿ]{3,31}\b").findall
_NEGATION = (
    r"\b(?:not|no longer|never|without|cannot|(?:ca|wo|is|does|did|has)n?['’]t|instead of|nicht|kein\w*|nunca|jamais"
    r"|нельзя)\b|不|没|ません|ない"
)
_OPEN_ITEM = (
    r"\b(?:todo|fixme|to do|still (?:need|open|missing|has|have)|next steps?|remaining|pending|follow[- ]up|not yet"
    r"|needs? to be|noch offen|pendiente|reste à)\b|待办|尚未|还没|未完|まだ"
)
_is_telling = re.compile(f"{_NEGATION}|{_OPEN_ITEM}").search
"""In lower case: a search that ignores case is twice as slow."""
_SENTENCE_WEIGHT = 1.2
_MAX_SENTENCE_CHARS = 160
_ROLE_WEIGHT = {"user": 1.5, "assistant": 1.0, "tool": 0.5, "function": 0.5}
_TOLD_WORDS = 0.8
"""A sentence is told where so many of its words are."""
MAX_VALUES = 512
"""Of one span; the most salient are kept."""
_MAX_MISFITS = 12
_MAX_TURN_CHARS = 20_000
"""Of a longer turn, the head and the tail are looked at."""


class HardValue(NamedTuple):
    """A value: `words` is None where it must stand as it is, else the words that tell a sentence."""

    text: str
    salience: float
    words: frozenset[str] | None = None


def hard_values(turns: Sequence[Turn]) -> list[HardValue]:
    """The hard values of a span, the most salient first.

    A value weighs more for its kind, when the user said it, when it was said often, and when it was said late.
    """
    weights: dict[str, float] = {}
    sentences: dict[str, float] = {}
    told: Counter[str] = Counter()
    common = {word for turn in turns for word in _lower_words(turn.text)}
    last = turns[-1].number if turns else 1
    for turn in turns:
        text = _looked_at(turn.text)
        factor = _ROLE_WEIGHT.get(turn.role, 1.0) * (1 + 0.5 * turn.number / max(last, 1))
        for found in _find(text):
            if found.lastgroup is None:
                continue  # plain words
            value = found[0].strip("`").rstrip(".,:;")
            if found.lastgroup == _NAMES and value.lower() in common:
                continue  # the first word of a sentence, not a name
            told[value] += 1
            weights[value] = max(weights.get(value, 0.0), _WEIGHTS[found.lastgroup] * factor)
        if turn.role in ("user", "assistant"):
            for sentence in _telling_sentences(text):
                sentences[sentence] = _SENTENCE_WEIGHT * factor
    values = [HardValue(value, weight * min(told[value], 4) ** 0.5) for value, weight in weights.items() if value]
    values += [HardValue(text, weight, frozenset(words_of(text))) for text, weight in sentences.items()]
    return sorted(values, key=_by_salience)[:MAX_VALUES]


def _by_salience(value: HardValue) -> tuple[float, str]:
    return -value.salience, value.text


def _looked_at(text: str) -> str:
    half = _MAX_TURN_CHARS // 2
    return text if len(text) <= _MAX_TURN_CHARS else f"{text[:half]}\n{text[-half:]}"


def _telling_sentences(text: str) -> Iterable[str]:
    for sentence in split_sentences(text):
        is_short = sentence.is_own and len(sentence.text) <= _MAX_SENTENCE_CHARS
        if is_short and _is_telling(sentence.text.lower()):
            yield sentence.text


class Coverage(NamedTuple):
    """How a text holds against values: the covered share by salience, 1 where there were none, and what it lacks."""

    ratio: float
    missing: list[HardValue]


def cover(values: Sequence[HardValue], text: str) -> Coverage:
    """Hold a text against values.

    Args:
        values: of the span that the text stands for.
        text: a brief.
    """
    words, lowered = frozenset(words_of(text)), text.lower()
    missing = [value for value in values if not _is_told(value, lowered, words)]
    total = sum(value.salience for value in values)
    lacking = sum(value.salience for value in missing)
    return Coverage(1.0 if not total else 1.0 - lacking / total, missing)


def _is_told(value: HardValue, lowered: str, words: frozenset[str]) -> bool:
    if value.text.lower() in lowered:
        return True
    return value.words is not None and len(value.words & words) >= _TOLD_WORDS * max(1, len(value.words))


def render_missing(missing: Iterable[HardValue], max_tokens: int, count_tokens: Callable[[str], int]) -> str:
    """One line with as many of the missing values as fit, the most salient first; "" for none."""
    line = ""
    misfits = 0
    for value in missing:
        longer = f"{line}; {value.text}" if line else f"Also mentioned: {value.text}"
        if count_tokens(longer) <= max_tokens:
            line = longer
        elif (misfits := misfits + 1) > _MAX_MISFITS:
            break
    return line
