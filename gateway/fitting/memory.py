"""What the memory that a request names gives to its chat, and gets from it.

What is found for a user message is found once, and taken again through the tool loop that follows, so that the prompt
stays as it is. What a chat folds goes to that memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

from gateway.core.context.recall_rank import SHORT_QUERY_TERMS
from gateway.core.context.render import turn_of
from gateway.core.context.terms import name_terms
from gateway.core.facts.memory import Scope
from gateway.core.facts.mine import MinedTurn
from gateway.core.facts.reminders import Reminder
from gateway.core.tokens.cache import TwoGenerationCache
from gateway.core.wire.message import reread_message, text_of
from gateway.fitting.draft import Chat, Draft
from gateway.ports_memory import Folded, Miner, Reminding

_BEFORE_CHARS = 400
_MAX_SHORT_CHARS = 400
_FOUND_BYTES, _ENTRY_BYTES, _REMINDER_BYTES = 8 << 20, 400, 300


class ChatMemory:
    """The memories that chats name.

    Args:
        reminding: looks things up.
        miner: takes what is folded; None where nothing is mined.
        mines_all: it takes what is not folded, too.
    """

    def __init__(self, reminding: Reminding, miner: Miner | None, *, mines_all: bool = False) -> None:
        self._reminding = reminding
        self._miner = miner
        self._mines_all = mines_all
        self._found = TwoGenerationCache[Sequence[Reminder]](_FOUND_BYTES, _ENTRY_BYTES, _size_of)

    async def remind(self, chat: Chat) -> Sequence[Reminder]:
        """What the memory holds for the latest user message."""
        latest, scope = chat.outline.last_user, _scope_of(chat)
        if latest is None or scope is None or not chat.limits.retrieved:
            return ()
        key = hashlib.sha256(scope.owner + scope.name.encode() + b"\0" + chat.keys[latest]).digest()
        found = None if chat.is_asking else self._found.get(key)
        if found is None:
            asked = self._asked(chat, latest)
            contained = {fact.canonical.hex() for fact in chat.count.facts}
            found = await self._reminding.find(chat.exchange, scope, asked, contained)
            self._found.put(key, found)
        return found

    @staticmethod
    def _asked(chat: Chat, latest: int) -> str:
        """What the latest user message asks; with the end of what stands before it where it says little by itself."""
        asked = text_of(reread_message(chat.raws[chat.outline.places[latest - 1]]))
        if latest == 1 or len(name_terms(asked[:_MAX_SHORT_CHARS]).words) >= SHORT_QUERY_TERMS:
            return asked
        before = text_of(reread_message(chat.raws[chat.outline.places[latest - 2]]))
        return f"{before[-_BEFORE_CHARS:]}\n{asked}"

    def note_folded(self, chat: Chat, draft: Draft | None) -> None:
        """Let what is folded be remembered, or all of it."""
        scope = _scope_of(chat)
        covers, pinned = (draft.plan.covers, draft.plan.pinned) if draft is not None else (0, ())
        if self._mines_all:
            covers, pinned = len(chat.outline.places), ()
        if self._miner is None or scope is None or not covers:
            return
        session = chat.exchange.session
        numbers = [number for number in range(1, covers + 1) if number not in pinned]
        facts, places = chat.count.facts, chat.outline.places
        folded = Folded(
            scope=scope,
            session=session.key if session is not None else b"",
            key=chat.keys[covers],
            digests=[facts[places[number - 1]].canonical for number in numbers],
            read=partial(_turn, chat, numbers),
            statements=draft.brief.statements if draft is not None and draft.brief else (),
            numbers=numbers,
        )
        self._miner.note(chat.exchange, folded)


def _scope_of(chat: Chat) -> Scope | None:
    client, name = chat.exchange.client, chat.exchange.overrides.memory
    return None if client is None or name is None else Scope(client.scope, name)


def _turn(chat: Chat, numbers: Sequence[int], place: int) -> MinedTurn:
    number = numbers[place]
    index = chat.outline.places[number - 1]
    message = reread_message(chat.raws[index])
    turn = turn_of(number, message)
    return MinedTurn(chat.count.facts[index].canonical, turn.role, str(message.get("name") or ""), turn.text)


def _size_of(reminders: Sequence[Reminder]) -> int:
    return sum(_REMINDER_BYTES + 2 * len(each.text) for each in reminders)
