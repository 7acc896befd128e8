"""What one request is: its two ends, and what each stage learned about it.

An exchange walks the stages in order; a stage reads earlier slots and writes its own once. Everything that settle,
metrics and logs need is here when the walk ends, however it ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import msgspec

from gateway.core.access import ALL_GRANTS, Grants
from gateway.core.context.brief import Brief, Level
from gateway.core.context.budget import Budget
from gateway.core.context.economics import Cause
from gateway.core.context.facts import MessageFacts
from gateway.core.context.items import LearnedItem
from gateway.core.context.recall import Recalled
from gateway.core.errors import Refusal
from gateway.core.limits.decision import Limit, State
from gateway.core.limits.rules import Use
from gateway.core.routing.routes import Route
from gateway.core.tokens.calibration import NO_CORRECTION, Correction
from gateway.core.tokens.profiles import Profile
from gateway.core.wire.generated import Generated
from gateway.core.wire.headers import Headers, header_of
from gateway.core.wire.overrides import NO_OVERRIDES, Overrides
from gateway.core.wire.request import Endpoint, MeteredRequest
from gateway.core.wire.usage import Usage

_MAX_EXPLAINED_BYTES, _MAX_EXPLAINED_MEMORIES = 2048, 16
_MAX_EXPLAINED = (40, 32, 24, 16, 8, 0)
"""Recalled messages that a receipt names: the most that its bytes allow, since it is a header."""


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


class Receipt(msgspec.Struct, frozen=True):
    """What was done to make the prompt fit. Tokens are as counted, but where they are said to be as billed.

    Attributes:
        level: the lowest rung that was used.
        has_overflowed: the client's own prompt did not fit.
        client_tokens: the client's own prompt.
        prompt_tokens: what is forwarded.
        completion_tokens: what the answer may take, within the budget.
        budget: what was obeyed.
        correction: from tokens as counted to tokens as this upstream bills them, as far as that was learned.
        has_tools: tools are sent along, which providers add to.
        prompt_limit_tokens: what the prompt may count, so that what is billed for it fits the budget with the margin
            learned.
        client_billed_tokens: what the upstream would be expected to bill for the client's own prompt.
        billed_tokens: what it is expected to bill for the forwarded one.
        sections: tokens forwarded, by name; they sum up to `prompt_tokens`.
        folded_messages: how many messages the brief stands for and that are not forwarded.
        brief: the brief that is forwarded, or None.
        recalled: the folded passages that are forwarded word for word, or None.
        shortened_messages: how many long messages are forwarded shorter than they are.
        brief_id: what names it on the admin port, "" for none.
        is_new_brief: it was made for this request.
        is_fresh: a compaction was made for this request; else it is arranged as an earlier one decided.
        session_id: names the session, without its name; "" for none.
        kept_messages: messages of the session that the request does not contain.
        is_shadow: the plan was recorded, and the client's own bytes forwarded.
        cause: of a fresh compaction.
    """

    level: Level
    has_overflowed: bool
    client_tokens: int
    prompt_tokens: int
    completion_tokens: int
    budget: Budget
    correction: Correction = NO_CORRECTION
    has_tools: bool = False
    prompt_limit_tokens: int = 0
    client_billed_tokens: int = 0
    billed_tokens: int = 0
    sections: Mapping[str, int] = msgspec.field(default_factory=dict)
    folded_messages: int = 0
    brief: Brief | None = None
    recalled: Recalled | None = None
    shortened_messages: int = 0
    brief_id: str = ""
    is_new_brief: bool = False
    is_fresh: bool = False
    session_id: str = ""
    kept_messages: int = 0
    is_shadow: bool = False
    cause: Cause = Cause.FORCED

    @property
    def forwarded_tokens(self) -> int:
        """What the upstream really gets."""
        return self.client_tokens if self.is_shadow else self.prompt_tokens

    @property
    def forwarded_level(self) -> Level:
        """What was really done."""
        return Level.NONE if self.is_shadow else self.level

    @property
    def saved_tokens(self) -> int:
        """What compaction spared, or would have spared."""
        return self.client_tokens - self.prompt_tokens

    def explain(self) -> str:
        """All of this as one line of JSON, for the header that a request may ask for: numbers and ids, no content."""
        brief = self.brief
        told = {
            "level": self.level.value,
            "is_shadow": self.is_shadow,
            "has_overflowed": self.has_overflowed,
            "is_fresh": self.is_fresh,
            "cause": self.cause.value if self.is_fresh else None,
            "client_tokens": self.client_tokens,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "max_total_tokens": self.budget.max_total_tokens,
            "billed_tokens": self.billed_tokens,
            "sections": dict(self.sections),
            "folded_messages": self.folded_messages,
            "shortened_messages": self.shortened_messages,
            "session": {"id": self.session_id, "kept_messages": self.kept_messages} if self.session_id else None,
            "recalled": None,
            "brief": brief
            and {
                "id": self.brief_id,
                "is_new": self.is_new_brief,
                "covers": brief.covers,
                "segments": len(brief.segments),
                "tokens": brief.tokens,
                "quotes": len(brief.ledger),
                "lost_quotes": brief.lost_quotes,
                "coverage": brief.coverage,
            },
        }
        for most in _MAX_EXPLAINED:
            line = msgspec.json.encode(told | {"recalled": self.recalled and _explained(self.recalled, most)})
            if len(line) <= _MAX_EXPLAINED_BYTES:
                break
        return line.decode()

    def billed(self, counted_tokens: int) -> int:
        """What the upstream is expected to bill for a prompt."""
        if self.correction is NO_CORRECTION:
            return counted_tokens
        return self.correction.estimate(counted_tokens, self.has_tools)

    def billed_at_most(self, counted_tokens: int) -> int:
        """The same with the margin learned."""
        return self.billed(counted_tokens) + self.correction.margin(counted_tokens, self.has_tools)

    @property
    def remaining_tokens(self) -> int:
        """What the budget leaves beside the forwarded prompt as billed, never below 0."""
        return max(0, self.budget.max_total_tokens - self.billed_tokens)


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


def _explained(recalled: Recalled, most: int) -> dict[str, Any]:
    """Which messages and memories came back, best first, and for how many words of the question."""
    why = recalled.matching_words()
    shown = dict(islice(((str(number), words) for number, words in why.items() if number > 0), most))
    told: dict[str, Any] = {"tokens": recalled.tokens, "messages": sum(number > 0 for number in why)}
    told["matching_words"] = shown
    if recalled.memories:
        ids = {recalled.memories[number]: words for number, words in why.items() if number < 0}
        first = islice(ids.items(), min(most, _MAX_EXPLAINED_MEMORIES))
        told["memories"] = {"count": len(ids), "matching_words": dict(first)}
    return told


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
