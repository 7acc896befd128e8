"""Facts that a summariser states along with a brief: read from its answer, and held against what was folded.

A summary may invent. So a statement counts only where its words are the conversation's: every number, path and
identifier in it stands in the folded messages, most words of its object stand together in one of them, and its subject
is spoken of, or speaks, there. What is left has an origin, as what rules find has.

Invariants, each with a test of its own:
  1. Any answer gives statements or none; nothing raises.
  2. A statement whose subject, object or numbers do not stand in the span is dropped.
  3. A brief holds at most `MAX_STATEMENTS`; the newest stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from gateway.core.context.brief import Stated
from gateway.core.context.extractive import Turn
from gateway.core.context.recall_index import learn_terms
from gateway.core.context.secrets import mask_secrets
from gateway.core.context.summary import read_object
from gateway.core.context.terms import name_terms, terms_of
from gateway.core.facts.mine import ATTRIBUTES

MAX_STATEMENTS = 64
_MAX_NAME_CHARS, _MAX_OBJECT_CHARS = 200, 1_000
_OBJECT_SHARE = 0.8
"""Of the object's words, what must stand in one passage."""
_ROLES = frozenset({"user", "assistant", "tool"})
_SINGLE_PREDICATES = frozenset(
    (
        "lives in",
        "works at",
        "works for",
        "works as",
        "is married to",
        "is located in",
        "is due on",
        "costs",
        "wohnt in",
    )
)
_number = re.compile(r"\d[\d.,:/-]*\d|\d").findall


class Statement(msgspec.Struct, frozen=True):
    """What a summariser states."""

    subject: str
    predicate: str
    object: str


def read_statements(body: bytes) -> tuple[Statement, ...]:
    """The statements in a summariser's answer; those that are none are passed over.

    Args:
        body: of the chat completion.
    """
    told = read_object(body).get("statements")
    each = told[: 2 * MAX_STATEMENTS] if isinstance(told, list) else ()
    return tuple(statement for value in each if (statement := _statement(value)))


def _statement(value: object) -> Statement | None:
    try:
        said = msgspec.convert(value, Statement)
    except msgspec.ValidationError:
        return None
    subject, predicate, object_ = map(_in_one_line, (said.subject, said.predicate, said.object))
    is_whole = subject and predicate and object_
    is_short = max(len(subject), len(predicate)) <= _MAX_NAME_CHARS and len(object_) <= _MAX_OBJECT_CHARS
    return Statement(*map(mask_secrets, (subject, predicate, object_))) if is_whole and is_short else None


def _in_one_line(text: str) -> str:
    """With no NUL, which PostgreSQL does not take."""
    return " ".join(text.replace("\0", " ").split())


def hold_to_span(statements: Sequence[Statement], turns: Sequence[Turn]) -> tuple[Stated, ...]:
    """The statements that the folded messages support, each with the passage that does, in the order of passages.

    Args:
        statements: as read.
        turns: what was folded, secrets masked.
    """
    passages = [
        (turn, passage, frozenset(passage.terms)) for turn in turns for passage in learn_terms(turn.text).passages
    ]
    spoken = {term for _, _, terms in passages for term in terms}
    numbers = {number for turn in turns for number in _number(turn.text)}
    stated = []
    for each in statements:
        whole = f"{each.subject} {each.predicate} {each.object}"
        if not numbers.issuperset(_number(whole)) or not spoken.issuperset(name_terms(whole).hard):
            continue
        about, told = set(terms_of(each.subject)), set(terms_of(each.object))
        if not (about <= spoken or each.subject.lower() in _ROLES) or not told:
            continue
        best = max(passages, key=lambda found: (len(told & found[2]), len(about & found[2])), default=None)
        if best is not None and len(told & best[2]) >= _OBJECT_SHARE * len(told):
            turn, passage, _ = best
            stated.append(
                Stated(each.subject, each.predicate, each.object, turn.number, turn.role, passage.start, passage.end)
            )
    return tuple(sorted(stated, key=lambda each: (each.number, each.start)))


def with_newest(earlier: Sequence[Stated], newer: Sequence[Stated]) -> tuple[Stated, ...]:
    """What two briefs state, each once."""
    return tuple(dict.fromkeys([*earlier, *newer]))[-MAX_STATEMENTS:]


def is_single(predicate: str) -> bool:
    """Whether of such a predicate one object holds at a time: a later statement takes an earlier one's place."""
    plain = " ".join(predicate.lower().split())
    return plain.removeprefix("has ").removesuffix(" is") in ATTRIBUTES or plain in _SINGLE_PREDICATES
