"""What is to be recalled for a chat, from which messages, and what it may take.

For a client that resends its history the messages are its own folded ones, and what is forwarded is never larger than
what it sent. One that names its session may not resend it: then what the session has kept joins them, within what the
budget leaves free, and so does what was found in the memory that it names. That is chosen once for a user message, and
replayed through the tool loop that follows it, whatever else happens in the session or the memory meanwhile, as long as
it fits.
"""

from __future__ import annotations

import hashlib

import msgspec

from gateway.core.context.recall import Question, Recalled
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.fitting.draft import Chat, Draft

_MIN_RECALL_TOKENS = 96
_CHOSEN_BYTES, _CHOSEN_ENTRY_BYTES = 8 * 1024 * 1024, 400


def question_of(chat: Chat, draft: Draft) -> tuple[Question, int] | None:
    """What is looked for among the messages that are not forwarded, and the place in the prompt for what is found."""
    outline, plan, arrangement = chat.outline, draft.plan, draft.arrangement
    latest = outline.last_user
    if latest is None or not (plan.covers or chat.has_more) or not chat.limits.retrieved:
        return None
    names: tuple[str, ...] = ()
    if arrangement is not None and arrangement.asked == latest:
        names, room, before = arrangement.names, arrangement.recall_tokens, plan.brief_before
    elif latest > plan.covers:
        room = _room_before(chat, draft, latest)
        before = plan.kept.index(outline.places[latest - 1])
    else:
        return None
    if room < _MIN_RECALL_TOKENS:
        return None
    pool = hashlib.sha256(chat.keys[plan.covers] + repr(plan.pinned).encode())
    last = outline.places[plan.covers - 1] if plan.covers else -1
    for at, told in chat.pictures.told.items():
        if at <= last:
            pool.update(at.to_bytes(8) + hashlib.sha256(told).digest())
    for each in chat.kept:
        pool.update(each.number.to_bytes(8) + each.canonical)
    for reminder in chat.reminders:
        pool.update(reminder.key)
    named = (pool.digest(), chat.keys[max(latest, plan.covers)], latest, names, room)
    key = hashlib.sha256(msgspec.msgpack.encode(named)).digest()
    found = Question(key, pool.digest(), plan.covers, plan.pinned, latest, names, room, chat.kept, chat.reminders)
    return found, before


def _room_before(chat: Chat, draft: Draft, latest: int) -> int:
    """What was left when this user message came, whatever has been said since: what is recalled for it stays."""
    stable = draft.stable_tokens - draft.tokens_after(chat.outline, latest)
    room = chat.limits.prompt - stable
    if not chat.has_more:
        sent = chat.receipt.client_tokens - chat.outline.tokens_after(latest)
        room = min(room, sent - 1 - stable)
    may_fill = chat.limits.fills and not chat.receipt.has_tools  # a tool loop needs room too
    is_own = draft.plan.covers or not chat.has_more  # what fits is not made as large as can be
    return room if may_fill and is_own else min(room, chat.limits.retrieved)


class ChosenRecall:
    """What was recalled for the user messages of named sessions, and of those that name a memory."""

    def __init__(self) -> None:
        self._chosen = TwoGenerationCache[Recalled](
            _CHOSEN_BYTES, _CHOSEN_ENTRY_BYTES, lambda recalled: 4 * len(recalled.text)
        )

    def find(self, chat: Chat, draft: Draft, question: Question) -> Recalled | None:
        """What was chosen when the latest user message came, in the middle of its tool loop and where it fits."""
        if not chat.has_more or chat.is_asking or question.names:
            return None
        found = self._chosen.get(_key_of(chat, question))
        return found if found is not None and draft.stable_tokens + found.tokens <= chat.limits.prompt else None

    def put(self, chat: Chat, question: Question, recalled: Recalled | None) -> None:
        """Keep what was chosen now, if it is to be replayed."""
        if recalled is not None and chat.has_more and not question.names:
            self._chosen.put(_key_of(chat, question), recalled)


def _key_of(chat: Chat, question: Question) -> bytes:
    """The session, by its scope, the memory, and the user message that asks.

    A session is one conversation, of which a client may send any part. Without one, the message is known by all that
    stands before it: others that ask in the same words are other conversations, whose messages are not this one's.
    """
    overrides, latest = chat.exchange.overrides, question.latest
    is_session = overrides.session is not None
    asked = chat.count.facts[chat.outline.places[latest - 1]].canonical if is_session else chat.keys[latest]
    return chat.scope + asked + (overrides.memory or "").encode()
