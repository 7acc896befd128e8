"""What one request is: its two ends, and what each stage learned about it.

An exchange walks the stages in order; a stage reads earlier slots and writes its own once. Everything that settle,
metrics and logs need is here when the walk ends, however it ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.core.access import ALL_GRANTS, Grants
from gateway.core.context.facts import MessageFacts
from gateway.core.context.items import LearnedItem
from gateway.core.context.receipt import Receipt
from gateway.core.errors import Refusal
from gateway.core.limits.decision import Limit, State
from gateway.core.limits.rules import Use
from gateway.core.routing.routes import Route
from gateway.core.tokens.profiles import Profile
from gateway.core.wire.generated import Generated
from gateway.core.wire.headers import Headers, header_of
from gateway.core.wire.overrides import NO_OVERRIDES, Overrides
from gateway.core.wire.request import Endpoint, MeteredRequest
from gateway.core.wire.usage import Usage


class Inbound(Protocol):
    """The client's request body."""

    @property
    def has_body(self) -> bool:
        """Whether the request carries one at all."""

    async def read(self) -> bytes:
        """The whole body, decoded and bounded.

        Raises:
            Refusal: too large, too slow, cut short, undecodable, or the process holds too much already.
        """

    def stream(self) -> AsyncIterator[bytes]:
        """The body as it arrives, untouched, for a request that is passed through."""

    def decoded(self, *, holds: bool = False) -> AsyncIterator[bytes]:
        """The body as it arrives, decoded, in pieces of bounded size; refuses as `read` does, but for its length.
        `holds`: whoever reads it keeps them all until the answer is there."""


class Outbound(Protocol):
    """The answer to the client. Nothing reaches the client before the first `write` or `send`."""

    @property
    def has_started(self) -> bool:
        """Whether the client has seen the head."""

    @property
    def is_open(self) -> bool:
        """Whether the client is still there, as far as can be known."""

    async def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Fix the head; it is sent with the first bytes. `length` is None for a body of unknown size."""

    async def write(self, chunk: bytes) -> None:
        """Bytes of the body; waits while the client reads slowly."""

    async def end(self, chunk: bytes = b"") -> None:
        """The last bytes; the body is complete with them."""

    async def refuse(self, refusal: Refusal, headers: Headers) -> None:
        """The gateway's own answer, in OpenAI's error form."""

    async def abort(self) -> None:
        """The body cannot be completed: cut the connection, so that no client takes it for whole."""


class Duplex(Protocol):
    """A connection that no longer speaks HTTP: bytes as they are, both ways."""

    async def read(self) -> bytes:
        """The next bytes; none once the other side has gone, however it went."""

    async def write(self, data: bytes) -> None:
        """Bytes for the other side; waits while that reads slowly.

        Raises:
            ConnectionError: it has gone.
        """

    def say(self, data: bytes) -> None:
        """The same without waiting, for a few last bytes; nothing happens where the other side has gone."""

    def close(self) -> None:
        """Close once what was written has been sent, or could not be for a while."""


Switch = Callable[[Headers], Awaitable[Duplex]]
"""Answers a handshake with 101 and these headers."""


class Client(msgspec.Struct, frozen=True):
    """Who asks.

    `scope` separates what must never cross between clients; `name` is the label in metrics, one of those configured,
    `default` or `other`; `grants` is what the client may use.
    """

    name: str
    scope: bytes
    grants: Grants = ALL_GRANTS


class Session(msgspec.Struct, frozen=True):
    """A named conversation: what its journal is known by, and what the briefs that are made under it are."""

    key: bytes
    brief_scope: bytes


class Count(msgspec.Struct, frozen=True):
    """The prompt's tokens before anything was done to it.

    `facts` are the chat's messages, or the items of a Responses input if all are known, and `items` more of those;
    empty elsewhere. `sections` are tokens by name and sum up to `prompt_tokens`.
    """

    profile: Profile
    prompt_tokens: int
    fixed_tokens: int
    facts: Sequence[MessageFacts] = ()
    sections: Mapping[str, int] = msgspec.field(default_factory=dict)
    items: Sequence[LearnedItem] = ()


class Hold(msgspec.Struct, frozen=True):
    """What was taken of a client's limits for a request, until it is known what it used.

    Attributes:
        limits: that were taken from.
        taken: of them.
        tokens: of these, what was reserved in all.
        day: on which (days since 1970).
        states: of the limits right after, for the client to see.
        leases: under which each was taken, as the limiter knows them.
    """

    limits: Sequence[Limit]
    taken: Use
    tokens: int
    day: int
    states: Sequence[State]
    leases: Sequence[str]


class SentMark(msgspec.Struct, frozen=True):
    """By what a conversation that was forwarded is recognised when it comes again.

    Attributes:
        keys: names of its longest prefixes, that of the whole first.
        tokens: of the forwarded prompt.
        lasting_tokens: of its beginning that the next user's message will not change.
    """

    keys: tuple[bytes, ...]
    tokens: int
    lasting_tokens: int


class Outcome(msgspec.Struct):
    """What happened on the way to the upstream and back.

    Attributes:
        status: the HTTP status that the client saw; 499 if it left before it saw one.
        upstream: the name of the upstream that answered last, "" if none was asked.
        fallback_model: the model that stood in for the one that was asked for, "" if none did.
        attempts: calls to upstreams.
        refusal: the gateway's own answer, if it gave one.
        fault: a stable word for what broke: a kind of `UpstreamFault`, `client_gone`, `internal`; "" if nothing did.
        is_stream: the answer was streamed.
        first_byte_s: from arrival to the first byte of the answer's body, or None.
        upstream_s: time spent waiting for upstreams.
        usage: as the upstream billed it, or None.
        charged: of that, what was taken of limits while a session was open.
        generated: what the client could see of it; kept only where usage is missing.
        cache: `hit`, `miss` or `bypass` of the response cache; "" where there is none.
    """

    status: int = 0
    upstream: str = ""
    fallback_model: str = ""
    attempts: int = 0
    refusal: Refusal | None = None
    fault: str = ""
    is_stream: bool = False
    first_byte_s: float | None = None
    upstream_s: float = 0.0
    usage: Usage | None = None
    charged: Usage | None = None
    generated: Generated | None = None
    cache: str = ""
    repairs: int = 0
    """How often another answer went on where a stream had broken off."""


class Bill(msgspec.Struct, frozen=True):
    """What was used. `is_estimated`: the upstream did not say, or could not be heard to the end."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    is_estimated: bool


class Exchange(msgspec.Struct, eq=False):
    """One request on its way through the stages."""

    request_id: str
    method: str
    path: str
    target: str
    headers: Sequence[tuple[str, str]]
    endpoint: Endpoint
    inbound: Inbound
    outbound: Outbound
    started_s: float
    peer: str = ""
    """The address at the other end of the connection."""
    small_body: bytes | None = None
    """Of a call that is passed through, the body, where it had to be read to know where it goes."""
    deployment: str = ""
    """The model that its path named, as Azure's clients do; the body's says no more then."""
    switch: Switch | None = None
    """Of a websocket's handshake."""

    overrides: Overrides = NO_OVERRIDES
    request: MeteredRequest | None = None
    client: Client | None = None
    routes: Sequence[Route] = ()
    count: Count | None = None
    session: Session | None = None
    receipt: Receipt | None = None
    prompt: bytes | None = None
    sent_mark: SentMark | None = None
    hold: Hold | None = None
    limit_hits: Sequence[tuple[str, str]] = ()
    """Limits that refused it, or in shadow would have: kind and mode."""
    outcome: Outcome = msgspec.field(default_factory=Outcome)
    bill: Bill | None = None
    duration_s: float = 0.0

    def header(self, name: str) -> str | None:
        """The first header of this name (lower case), or None."""
        return header_of(self.headers, name)
