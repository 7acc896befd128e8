"""A conversation on its way into its budget, and what is to be forwarded in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import msgspec

from gateway.core.context.brief import Brief, FoldJob, Level, render_brief
from gateway.core.context.economics import Cause
from gateway.core.context.journal import Kept
from gateway.core.context.plan import FoldLimits, FoldPlan, plan_around, plan_with_brief
from gateway.core.context.recall import Recalled
from gateway.core.context.receipt import Receipt
from gateway.core.context.render import Insert, array_of, join_texts, place_texts, turn_of
from gateway.core.context.shorten import Arrangement, Shorter
from gateway.core.context.units import Outline
from gateway.core.facts.reminders import Reminder
from gateway.core.routing.routes import Roles
from gateway.core.wire.body import Edit, splice
from gateway.core.wire.message import reread_message
from gateway.core.wire.request import MeteredRequest
from gateway.exchange import Count, Exchange
from gateway.fitting.forms import Form, Raws
from gateway.ports_vision import ReadPictures
from gateway.receipts import sections_of


class PrefixKeys(Sequence[bytes]):
    """Names of prefixes, each looked up when it is asked for: what is looked for is mostly found among the last.

    Args:
        keys: of all prefixes, by how many foldable messages they cover.
        boundaries: which of them.
    """

    __slots__ = ("_boundaries", "_keys")

    def __init__(self, keys: Sequence[bytes], boundaries: Sequence[int]) -> None:
        self._keys = keys
        self._boundaries = boundaries

    def __len__(self) -> int:
        return len(self._boundaries)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self._keys[covers] for covers in self._boundaries[index]]
        return self._keys[self._boundaries[index]]

    def __reversed__(self) -> Iterator[bytes]:
        return map(self._keys.__getitem__, reversed(self._boundaries))


class ToldMessages(Sequence[msgspec.Raw | bytes]):
    """Messages of which some are told otherwise.

    Args:
        raws: all of them.
        told: some, by their place.
    """

    __slots__ = ("_raws", "_told")

    def __init__(self, raws: Raws, told: Mapping[int, bytes]) -> None:
        self._raws = raws
        self._told = told

    def __len__(self) -> int:
        return len(self._raws)

    @overload
    def __getitem__(self, index: int) -> msgspec.Raw | bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[msgspec.Raw | bytes]: ...

    def __getitem__(self, index: int | slice) -> msgspec.Raw | bytes | list[msgspec.Raw | bytes]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self._raws)))]
        told = self._told.get(index)
        return told if told is not None else self._raws[index]


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat that is to fit.

    `keys` name what a brief covers, by how many foldable messages it does. `kept` are messages of its named session
    that it does not contain, `reminders` what was found for it in the memory that it names, `pictures` what was read in
    its pictures.
    """

    exchange: Exchange
    request: MeteredRequest
    count: Count
    outline: Outline
    limits: FoldLimits
    receipt: Receipt
    scope: bytes
    keys: Sequence[bytes]
    form: Form
    kept: Sequence[Kept] = ()
    reminders: Sequence[Reminder] = ()
    pictures: ReadPictures = field(default_factory=ReadPictures)

    @property
    def has_more(self) -> bool:
        """Whether more may be recalled than what it contains."""
        return bool(self.kept or self.reminders)

    @property
    def raws(self) -> Raws:
        """Its messages, as a chat's."""
        return self.form.shown

    @property
    def words(self) -> Raws:
        """The same, where words are looked for: with what was read in pictures in place of them."""
        return ToldMessages(self.raws, self.pictures.told) if self.pictures.told else self.raws

    @property
    def is_asking(self) -> bool:
        """Whether it ends with a user's message, which waits for its answer."""
        return self.outline.last_user == len(self.outline.places)

    def keys_of(self, boundaries: Sequence[int]) -> Sequence[bytes]:
        """The names of these prefixes."""
        return PrefixKeys(self.keys, boundaries)

    def plan_with(self, brief: Brief | None) -> FoldPlan:
        """How it looks with a brief that exists already, or none; that may or may not fit."""
        if brief is None:
            return plan_with_brief(self.outline, self.count.fixed_tokens, 0, (), 0)
        return plan_with_brief(self.outline, self.count.fixed_tokens, brief.covers, brief.pinned, brief.tokens)

    def plan_around(self, brief: Brief | None) -> FoldPlan:
        """The same as a compaction, which shortens what is long."""
        fixed = self.count.fixed_tokens
        if brief is None:
            return plan_around(self.outline, fixed, self.limits, 0, (), 0)
        return plan_around(self.outline, fixed, self.limits, brief.covers, brief.pinned, brief.tokens)

    def job_of(self, plan: FoldPlan, earlier: Brief | None, sent: Draft | None = None) -> FoldJob:
        """What is to be told: what the earlier brief does not tell, less what is forwarded beside the new one.

        Args:
            plan: what is to be folded.
            earlier: the brief before.
            sent: how the chat was forwarded so far, where the brief may be written from that.
        """
        covered = earlier.covers if earlier else 0
        numbers = {*range(covered + 1, plan.covers + 1), *(earlier.pinned if earlier else ())} - set(plan.pinned)
        turns, words = [], self.words
        for number in sorted(numbers):
            index = self.outline.places[number - 1]
            turns.append(turn_of(number, reread_message(words[index])))
        staying = [turn_of(0, reread_message(words[index])).text for index in plan.kept]
        job = FoldJob(plan.covers, plan.pinned, earlier, tuple(turns), plan.brief_tokens, "\n".join(staying))
        return job if sent is None else replace(job, **_sent_up_to(self, sent, plan.covers))


@dataclass(frozen=True, slots=True)
class Draft:
    """What is forwarded in place of the client's messages.

    Attributes:
        plan: which messages.
        brief: in place of those that are folded, or None.
        shorter: messages that are forwarded shorter than they are, by index.
        spared_tokens: what they have lost.
        arrangement: what the latest compaction decided beside the brief, if anything.
        recalled: what of the folded messages stands word for word, or None.
        recall_before: the place in `plan.kept` that it stands before.
        is_new_brief: the brief was made for this request.
        is_fresh: a compaction was made for it.
        cause: of that compaction.
    """

    plan: FoldPlan
    brief: Brief | None
    shorter: Mapping[int, Shorter] = field(default_factory=dict)
    spared_tokens: int = 0
    arrangement: Arrangement | None = None
    recalled: Recalled | None = None
    recall_before: int = 0
    is_new_brief: bool = False
    is_fresh: bool = False
    cause: Cause = Cause.FORCED

    @property
    def stable_tokens(self) -> int:
        """Tokens of all but what is recalled."""
        return self.plan.kept_tokens - self.spared_tokens + (self.brief.tokens if self.brief else 0)

    @property
    def tokens(self) -> int:
        """Tokens of the whole prompt."""
        return self.stable_tokens + (self.recalled.tokens if self.recalled else 0)

    def with_shorter(self, outline: Outline, shorter: Mapping[int, Shorter]) -> Draft:
        """The same with these messages shortened."""
        spared = sum(outline.facts[index].tokens - found.how.tokens for index, found in shorter.items())
        return replace(self, shorter=shorter, spared_tokens=spared)

    def tokens_after(self, outline: Outline, number: int) -> int:
        """Tokens of the messages after a foldable one, as they are forwarded; none of them is folded."""
        start = outline.places[number - 1]
        facts = outline.facts
        spared = sum(facts[index].tokens - found.how.tokens for index, found in self.shorter.items() if index > start)
        return outline.tokens_after(number) - spared

    def level(self, outline: Outline) -> Level:
        """How far down the ladder that is."""
        if not self.shorter and not self.plan.covers:
            return Level.NONE
        is_newest_cut = any(found.how.number > outline.boundaries[-1] for found in self.shorter.values())
        if is_newest_cut or (self.plan.covers and self.brief is None):
            return Level.TRIMMED
        return self.brief.level if self.brief else Level.ELIDED


def _sent_up_to(chat: Chat, draft: Draft, covers: int) -> dict[str, Any]:
    """The messages of a draft up to a foldable one, as fields of a job; none where they end as no prompt may go on."""
    last = chat.outline.places[covers - 1]
    facts, brief = chat.count.facts, draft.brief
    kept = tuple(at for at in draft.plan.kept if at <= last)
    is_strict = chat.exchange.routes[0].roles is Roles.STRICT
    if draft.plan.covers > covers or (is_strict and facts[last].role == "user"):
        return {}
    shorter = {at: draft.shorter[at] for at in kept if at in draft.shorter}
    tokens = sum(shorter[at].how.tokens if at in shorter else facts[at].tokens for at in kept)
    part = replace(draft, plan=replace(draft.plan, kept=kept), shorter=shorter, recalled=None)
    tokens += chat.count.fixed_tokens + (brief.tokens if brief else 0)
    return {"sent": array_of(_messages_of(chat, part)), "sent_tokens": tokens}


def body_of(chat: Chat, draft: Draft) -> bytes:
    """The request's body with these messages in place of its own."""
    place = chat.request.spans[chat.form.key]
    return splice(chat.request.body, [Edit(place.start, place.end, array_of(_messages_of(chat, draft)))])


def _messages_of(chat: Chat, draft: Draft) -> list[bytes]:
    kept, brief, form = draft.plan.kept, draft.brief, chat.form
    messages = form.raws(kept)
    if shorter := draft.shorter:
        for place, at in enumerate(kept):
            if at in shorter:
                messages[place] = form.restored(at, shorter[at].raw)
    inserts = []
    if draft.plan.covers:
        inserts.append(Insert(draft.plan.brief_before, render_brief(brief.segments) if brief else None))
    if draft.recalled is not None:
        inserts.append(Insert(draft.recall_before, draft.recalled.text))
    is_strict = chat.exchange.routes[0].roles is Roles.STRICT
    return join_texts(messages, inserts, form.text_kind) if is_strict else place_texts(messages, inserts)


def receipt_of(chat: Chat, draft: Draft) -> Receipt:
    """The receipt of a chat that is forwarded so."""
    brief, recalled, total = draft.brief, draft.recalled, draft.tokens
    return msgspec.structs.replace(
        chat.receipt,
        level=draft.level(chat.outline),
        prompt_tokens=total,
        billed_tokens=chat.receipt.billed_tokens if chat.receipt.is_shadow else chat.receipt.billed(total),
        sections=sections_of(
            chat.count.sections,
            chat.form.section,
            brief.tokens if brief else 0,
            recalled.tokens if recalled else 0,
            total,
        ),
        folded_messages=len(chat.count.facts) - len(draft.plan.kept),
        brief=brief,
        recalled=recalled,
        shortened_messages=len(draft.shorter),
        read_messages=sum(
            found.how.bound > 0 and chat.count.facts[index].role == "user" for index, found in draft.shorter.items()
        ),
        brief_id=(chat.scope + chat.keys[brief.covers]).hex() if brief else "",
        is_new_brief=draft.is_new_brief and brief is not None,
        is_fresh=draft.is_fresh,
        cause=draft.cause,
    )
