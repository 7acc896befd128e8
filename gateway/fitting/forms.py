"""The two forms in which a conversation comes: a chat's messages, and the items of a Responses input.

Whatever makes a conversation fit reads and shortens chat messages. A form shows it as such, says what one of them
costs where it stands, and writes what was shortened in the client's own form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, overload

import msgspec

from gateway.core.context.facts import MessageFacts, places_together
from gateway.core.context.items import LearnedItem, restore_item, show_item
from gateway.core.tokens.items import weigh_item
from gateway.core.tokens.profiles import Profile
from gateway.core.tokens.weight import Weight, weigh_placed
from gateway.core.wire.message import encode_message
from gateway.core.wire.prefix import KnownMessages

Raws = Sequence[msgspec.Raw | bytes]


class Form(Protocol):
    """A conversation in its form; places are indices of its messages.

    Attributes:
        key: of the body, where it stands.
        section: of the count, its tokens but for system messages.
        text_kind: the type of a user's text part.
        shown: each of it as a chat message.
    """

    key: str
    section: str
    text_kind: str
    shown: Raws

    def raws(self, places: Sequence[int]) -> list[bytes]:
        """What the client sent in these places."""

    def restored(self, at: int, shorter: bytes) -> bytes:
        """What is forwarded where the message shown was shortened to this."""

    def weigh(self, at: int, message: Mapping[str, Any]) -> Weight:
        """What a message costs in that place, less `extra_tokens`."""

    def extra_tokens(self, at: int) -> int:
        """What the one in that place costs by its neighbours in this very request; it may change with the next."""


class MessagesForm:
    """A chat's messages.

    Args:
        messages: as they came.
        facts: of each.
        profile: of the model.
    """

    key, section, text_kind = "messages", "turns", "text"

    def __init__(self, messages: Raws, facts: Sequence[MessageFacts], profile: Profile) -> None:
        self.shown = messages
        self._facts = facts
        self._profile = profile
        self._places: dict[int, int] | None = None

    def raws(self, places: Sequence[int]) -> list[bytes]:
        shown = self.shown
        return shown.at(places) if isinstance(shown, KnownMessages) else [bytes(shown[place]) for place in places]

    def restored(self, at: int, shorter: bytes) -> bytes:
        return shorter

    def weigh(self, at: int, message: Mapping[str, Any]) -> Weight:
        if self._places is None:
            self._places = places_together(self._facts)
        return weigh_placed(message, self._profile, self._places.get(at))

    def extra_tokens(self, at: int) -> int:
        return 0


class ItemsForm:
    """The items of a Responses input, all of which are known.

    Args:
        raws: as they came.
        items: what was learned of each.
        facts: of each where it stands.
        profile: of the model.
    """

    key, section, text_kind = "input", "input", "input_text"

    def __init__(
        self, raws: Raws, items: Sequence[LearnedItem], facts: Sequence[MessageFacts], profile: Profile
    ) -> None:
        self.shown: Raws = ShownItems(raws)
        self._raws = raws
        self._items = items
        self._facts = facts
        self._profile = profile

    def raws(self, places: Sequence[int]) -> list[bytes]:
        return [bytes(self._raws[place]) for place in places]

    def restored(self, at: int, shorter: bytes) -> bytes:
        return encode_message(restore_item(msgspec.json.decode(shorter), msgspec.json.decode(self._raws[at])))

    def weigh(self, at: int, message: Mapping[str, Any]) -> Weight:
        return weigh_item(restore_item(message, msgspec.json.decode(self._raws[at])), self._profile).weight

    def extra_tokens(self, at: int) -> int:
        return self._facts[at].tokens - self._items[at].counted.tokens


class ShownItems(Sequence[bytes]):
    """Items as chat messages, each made when it is asked for, once.

    Args:
        raws: the items, all of them known.
    """

    def __init__(self, raws: Raws) -> None:
        self._raws = raws
        self._made: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._raws)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self._raws)))]
        found = self._made.get(index)
        if found is None:
            found = self._made[index] = encode_message(show_item(msgspec.json.decode(self._raws[index])) or {})
        return found

    def __iter__(self) -> Iterator[bytes]:
        return (self[place] for place in range(len(self._raws)))
