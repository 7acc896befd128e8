"""What remembering needs of the world, as Protocols: where memories are kept, who fills them, who looks things up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import msgspec

from gateway.core.context.brief import Stated
from gateway.core.context.recall import Question, Recalled
from gateway.core.context.units import Outline
from gateway.core.facts.memory import Found, Kind, Level, Memory, Page, Position, Scope, Sought, Stored, Vector, Wanted
from gateway.core.facts.mine import MinedTurn
from gateway.core.facts.reminders import Reminder
from gateway.core.tokens.profiles import Profile
from gateway.exchange import Exchange


class MemoryFault(Exception):  # noqa: N818 - named for what it is in logs and metrics
    """The store could not be asked, or did not answer in time; `kind` is a stable word: `down`, `timeout`, `full`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class MemoryStore(Protocol):
    """Facts and texts by scope. What was acknowledged stays; what has expired is never returned.

    Every call may raise `MemoryFault`; then nothing is known of what it did, and the same call may be made again.
    """

    async def put(self, scope: Scope, memories: Sequence[Memory]) -> Sequence[Stored]:
        """Store these, all or none.

        One whose key is there already adds its sources to that one, raises its confidence to the higher of both, its
        expiry to the later, and is a duplicate; if that one had ended before this was observed, it holds again. One
        with a topic ends those of the same topic that hold and were observed before it, and has ended itself where
        one that was observed later holds.
        """

    async def get(self, owner: bytes, memory_id: str, kind: Kind) -> Memory | None:
        """The memory of this id, if it is this owner's."""

    async def page(self, scope: Scope, wanted: Wanted, after: Position | None, limit: int) -> Page:
        """Memories in the order (`observed_us`, `id`)."""

    async def search(self, scope: Scope, sought: Sought, limit: int) -> Sequence[Found]:
        """At most so many by words, and so many by vector, of those that hold; what is in both comes once."""

    async def delete(self, owner: bytes, memory_ids: Sequence[str], kind: Kind) -> int:
        """Let these go, as far as they are this owner's; returns how many went."""

    async def delete_all(
        self,
        owner: bytes,
        name: str | None = None,
        session: bytes | None = None,
        kind: Kind | None = None,
        level: Level | None = None,
    ) -> int:
        """Let all go that are this owner's and are all of what is given; returns how many went."""

    def scan(self, scope: Scope) -> AsyncGenerator[Memory, None]:
        """All memories of a scope, ended ones included, in the order (`observed_us`, `id`), without holding them."""

    async def names(self, owner: bytes) -> Mapping[str, int]:
        """The owner's scopes, by name, and how many memories each holds."""

    async def put_vectors(self, vectors: Sequence[Vector]) -> None:
        """Keep what a model made of these memories' texts; those that are gone are passed over."""

    async def lacking_vectors(self, model: str, limit: int) -> Sequence[Memory]:
        """Memories without a vector of this model, newest first."""

    async def sweep(self) -> int:
        """Let what has expired go; returns how many went."""

    async def totals(self) -> Mapping[Kind, int]:
        """How many memories there are, by kind."""


@dataclass(frozen=True, slots=True)
class Folded:
    """Messages of a chat that are no longer forwarded as they are.

    Attributes:
        scope: the memory that the request names.
        session: key of its session, or b"".
        key: names the prefix that they are, in its scope; equal keys, equal messages.
        digests: of each message, oldest first.
        read: reads one, by its place among the digests; called in a thread.
        statements: facts that the brief's writer stated about them.
        numbers: of each message, as statements name them.
    """

    scope: Scope
    session: bytes
    key: bytes
    digests: Sequence[bytes]
    read: Callable[[int], MinedTurn]
    statements: Sequence[Stated]
    numbers: Sequence[int]


class Embedding(Protocol):
    """Makes vectors of texts. Trouble of the endpoint never raises."""

    @property
    def model(self) -> str:
        """That makes them: those of others are not comparable."""

    async def embed(
        self, exchange: Exchange | None, texts: Sequence[str], patience_s: float | None = None
    ) -> list[bytes | None]:
        """The vectors of these texts, as far as they are there in time.

        Args:
            exchange: on whose account; None for the gateway's own.
            texts: any.
            patience_s: how long to wait; None for as long as a request does.
        """


class Miner(Protocol):
    """Fills memories."""

    def note(self, exchange: Exchange, folded: Folded) -> None:
        """Remember what these messages say, in the background; what was mined before is passed over."""


class Reminding(Protocol):
    """Looks up what a memory holds for a user's message. Trouble of the store never raises."""

    async def find(self, exchange: Exchange, scope: Scope, asked: str, contained: Set[str]) -> Sequence[Reminder]:
        """The memories that may matter, in the order in which they were observed.

        Args:
            exchange: on whose account.
            scope: the memory that the request names.
            asked: the latest user message.
            contained: digests, in hex, of the messages that the chat contains.
        """


class Recaller(Protocol):
    """Finds what the latest user message needs among messages that are not forwarded."""

    async def recall(
        self,
        exchange: Exchange,
        profile: Profile,
        raws: Sequence[msgspec.Raw | bytes],
        outline: Outline,
        question: Question,
    ) -> Recalled | None:
        """Passages that answer it, as one text within the room; None where there are none.

        Args:
            exchange: on whose account.
            profile: how the request is counted.
            raws: all messages of the chat.
            outline: the chat.
            question: what is looked for, and where.
        """
