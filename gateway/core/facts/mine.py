"""What is worth remembering of a folded message, by rules alone: no model, no network, the same each time.

Three rules. What a user or an assistant said is remembered as said, passage by passage; a line of the form "key: value"
whose key is an identifier or an attribute (`db_host`, delivery address) as a fact of its own, of which one holds at a
time; of what a tool answered, each name with the line that it first stands in. What the gateway itself
once put into a prompt is passed over, wherever a client has copied it to, and secrets are masked before anything else.

Invariants, each with a test of its own:
  1. Every object stands, letter for letter, at its origin in the message's text.
  2. Nothing is mined from injected text, and no secret that `secrets` knows is mined.
  3. One message gives at most `MAX_A_TURN` facts, whatever it holds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set

import msgspec

from gateway.core.context.elide_names import names_in
from gateway.core.context.recall_index import learn_label, learn_terms
from gateway.core.context.secrets import MASK, mask_secrets
from gateway.core.facts.memory import Origin

MAX_A_TURN = 96
SAID, IS, STANDS_IN = "said", "is", "stands in"
"""The predicates of the three rules."""
_SAID_MAX, _PAIRS_MAX, _LINES_MAX = 64, 16, 16
_LEAST_TERMS = 2
_LEAST_TIMES = 2
_PAIR_CONFIDENCE, _LINE_CONFIDENCE = 0.9, 0.8
_TOOL_ROLES = frozenset({"tool", "function"})
_MAX_LINE_CHARS, _MAX_NAME_CHARS = 300, 200
_pair = re.compile(
    r"^[ \t]{0,8}(?:[-*•][ \t]+)?(?:\*\*)?([^\W\d_][\w .()/'’-]{1,38}[\w)])(?:\*\*)?[ \t]{0,2}"
    r"(?::[ \t]+|=[ \t]*|：[ \t]*)"
    r"(?:\*\*)?([^\s:=|][^\n|]{0,118}[^\s|;,*])(?:\*\*)?[;,]?[ \t]*$",
    re.MULTILINE,
)
_unstorable = re.compile("[\x00\ud800-\udfff]").sub
"""What is no text: halves of surrogate pairs, and NUL, which PostgreSQL does not take."""
_injected = re.compile(r"<(running_brief|recalled)>.*?(?:</\1>|\Z)", re.DOTALL).sub
_fence = re.compile(r"^```.*?(?:^```|\Z)", re.DOTALL | re.MULTILINE)
_is_key = re.compile(r"[a-z\d]+[_.-][\w.-]+|[A-Z][A-Z\d]*_[A-Z\d_]+|[a-z]+[A-Z]\w*").fullmatch
ATTRIBUTES = frozenset(
    """
    name email e-mail phone address birthday birthdate age city country employer company job title status owner budget
    deadline price total version port host url hostname username language timezone database branch environment model
    size color telefon adresse geburtstag stadt land frist preis sprache nombre correo teléfono dirección ciudad país
    fecha precio idioma 名前 住所 電話 姓名 地址 电话 生日 城市 国家 预算 截止日期 状态 版本
    """.split()  # noqa: SIM905 - a list of sixty lines reads worse
)
"""What a key must end with, if it is no identifier: most of what stands before a colon is the beginning of a list."""
_MAX_KEY_WORDS = 4


class Mined(msgspec.Struct, frozen=True):
    """A fact that was found in a message.

    Attributes:
        subject: of it.
        predicate: of it.
        object: of it.
        origin: where it stands.
        confidence: 0 to 1.
        is_single: a later one of the same subject and predicate takes its place.
    """

    subject: str
    predicate: str
    object: str
    origin: Origin
    confidence: float = 1.0
    is_single: bool = False


class MinedTurn(msgspec.Struct, frozen=True):
    """A message that is folded: the digest it is known by, its role, its `name` or "", and its text."""

    digest: bytes
    role: str
    name: str
    text: str


def mine_turns(turns: Sequence[MinedTurn]) -> list[list[Mined]]:
    """The facts of each message, in the order in which they stand there.

    Args:
        turns: that are folded together, oldest first: a label ("Ann: ...") is a speaker's if it comes again and again.
    """
    labels = Counter(learn_label(turn.text) for turn in turns if turn.role not in _TOOL_ROLES)
    speakers = {label for label, times in labels.items() if label and times >= _LEAST_TIMES}
    return [_mine_turn(turn, speakers) for turn in turns]


def _mine_turn(turn: MinedTurn, speakers: Set[str]) -> list[Mined]:
    text = _unstorable("\ufffd", mask_secrets(turn.text))
    text = _injected(lambda found: "\n" * len(found[0]), text)
    turn = MinedTurn(turn.digest, _short_name(turn.role), _short_name(turn.name), "")
    if turn.role in _TOOL_ROLES:
        found = list(_lines_with_names(turn, text))
    else:
        found = [*_passages(turn, text, speakers), *_pairs(turn, text)]
    return sorted(found, key=lambda each: each.origin.start)[:MAX_A_TURN]


def _short_name(name: str) -> str:
    return " ".join(_unstorable("\ufffd", mask_secrets(name[:_MAX_NAME_CHARS])).split())


def _passages(turn: MinedTurn, text: str, speakers: Set[str]) -> Iterator[Mined]:
    """What was said, but for greetings and the like."""
    learned = learn_terms(text, turn.name)
    label = learn_label(text)
    speaker = label if label in speakers else turn.name or turn.role
    passages = learned.passages
    if len(passages) > _SAID_MAX:
        passages = passages[: _SAID_MAX // 2] + passages[-_SAID_MAX // 2 :]
    for each in passages:
        said = text[each.start : each.end]
        if len(each.terms) < _LEAST_TERMS and not any(letter.isdigit() for letter in said):
            continue
        yield Mined(speaker, SAID, said, _origin(turn, each.start, each.end, learned.heading))


def _pairs(turn: MinedTurn, text: str) -> Iterator[Mined]:
    fences = [found.span() for found in _fence.finditer(text)]
    pairs = [found for found in _pair.finditer(text) if not _is_inside(found.start(1), fences)]
    for found in pairs[:_PAIRS_MAX]:
        key, value = found[1], found[2]
        words = key.lower().split()
        is_attribute = words[-1] in ATTRIBUTES and len(words) <= _MAX_KEY_WORDS
        if MASK in value or value.endswith("?") or not (is_attribute or _is_key(key)):
            continue
        is_users = turn.role == "user"  # a model's tables and examples take the place of nothing
        yield Mined(key, IS, value, _origin(turn, *found.span(2)), _PAIR_CONFIDENCE, is_users)


def _lines_with_names(turn: MinedTurn, text: str) -> Iterator[Mined]:
    """Each name of a tool's answer with the line that it first stands in."""
    seen: set[str] = set()
    at = 0
    for line in text.splitlines(keepends=True):
        start, at = at, at + len(line)
        fresh = [name for name in names_in(line) if name not in seen]
        if not fresh:
            continue
        seen.update(fresh)
        begin, end = _around(line, line.find(fresh[0]))
        if line[begin:end].strip() != fresh[0]:
            origin = _origin(turn, start + begin, start + end)
            yield Mined(fresh[0], STANDS_IN, line[begin:end], origin, _LINE_CONFIDENCE)
        if len(seen) >= _LINES_MAX:
            return


def _around(line: str, place: int) -> tuple[int, int]:
    """Where the part of a line around a place begins and ends, without white space at its ends."""
    begin = max(0, place - _MAX_LINE_CHARS // 2)
    end = min(len(line), begin + _MAX_LINE_CHARS)
    part = line[begin:end]
    return begin + len(part) - len(part.lstrip()), begin + len(part.rstrip())


def _origin(turn: MinedTurn, start: int, end: int, heading: str = "") -> Origin:
    return Origin(turn.digest.hex(), start, end, turn.role, heading)


def _is_inside(place: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start <= place < end for start, end in spans)
