"""What stages need from the world, as Protocols; `shell` has one implementation of each, tests have others.

Nothing here knows aiohttp, tiktoken or Prometheus.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from gateway.core.cache.answer import Record
from gateway.core.context.brief import Brief, FoldJob
from gateway.core.context.facts import MessageFacts
from gateway.core.context.journal import Kept
from gateway.core.context.shorten import Arrangement
from gateway.core.limits.decision import Limit, Verdict
from gateway.core.routing.breaker import Event
from gateway.core.routing.routes import Route, Timeouts
from gateway.core.tokens.calibration import Correction
from gateway.core.tokens.profiles import Profile
from gateway.core.wire.headers import Headers
from gateway.core.wire.usage import Usage
from gateway.exchange import Duplex, Exchange, SentMark, Session


class UpstreamFault(Exception):  # noqa: N818 - named for what it is in logs and metrics
    """An upstream could not be asked, or stopped answering.

    Args:
        kind: a stable word: `connect`, `header_timeout`, `first_token_timeout`, `idle_timeout`, `total_timeout`, `cut`.
        message: what happened, for logs.
        is_retryable: whether nothing was executed yet, as far as can be known.
    """

    def __init__(self, kind: str, message: str, *, is_retryable: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.is_retryable = is_retryable


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One HTTP request to an upstream; `target` is the path below its base URL, with its query.

    `deadlines` are those of the model that it is for; None for the upstream's own.
    """

    route: Route
    method: str
    target: str
    headers: Headers
    body: bytes | AsyncIterator[bytes] | None
    deadlines: Timeouts | None = None

    @property
    def timeouts(self) -> Timeouts:
        """The deadlines that hold."""
        return self.deadlines or self.route.timeouts


class UpstreamAnswer(Protocol):
    """An upstream's answer whose head has arrived."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    async def begin(self, min_bytes: int) -> bytes:
        """Wait until so many bytes of the body are here, or all of it; `chunks` yields them all the same.

        Raises:
            UpstreamFault: it stalled or was cut.
        """

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives.

        Raises:
            UpstreamFault: it stalled or was cut.
        """

    def close(self) -> None:
        """Give the connection back, or cut it if the body was not read to its end."""


class Upstream(Protocol):
    """The way to upstreams."""

    async def send(self, call: UpstreamCall) -> UpstreamAnswer:
        """Ask, and wait for the head of the answer.

        Raises:
            UpstreamFault: no head came.
        """


class SocketUpstream(Protocol):
    async def open(self, call: UpstreamCall) -> tuple[UpstreamAnswer, Duplex | None]:
        """As `Upstream.send`; with 101 comes the connection, which is then the caller's to close."""


class Health(Protocol):
    """How upstreams have answered lately, by model."""

    def is_willing(self, route: Route, model: str) -> bool:
        """Whether a request may be sent there, by what is known now."""

    def may_ask(self, route: Route, model: str) -> bool:
        """The same when one is about to be sent; who is told yes says what became of it, or gives its place back."""

    def report(self, route: Route, model: str, event: Event, cooldown_s: float = 0.0) -> None:
        """What became of a call."""

    def give_back(self, route: Route, model: str) -> None:
        """Nothing is known of a call that was begun."""

    def note_call(self, route: Route) -> None:
        """A request is sent there for the first time."""

    def may_retry(self, route: Route) -> bool:
        """Whether it may be sent there once more; it is taken to be."""


class Windows(Protocol):
    """How large a prompt upstreams have said that they take."""

    def window_of(self, upstream: str, model: str) -> int | None:
        """Tokens of prompt and answer together, or None where nothing was said."""

    def learn(self, upstream: str, model: str, window_tokens: int) -> None:
        """An upstream has refused a prompt and named its window."""


class IdMemory(Protocol):
    """Which upstream knows the thing that an id names."""

    async def upstream_of(self, ids: Sequence[str]) -> str | None:
        """The upstream where the first known of these lives; None where none is known."""

    def remember(self, ids: Sequence[str], upstream: str) -> None:
        """These live there; for other processes in the background."""


class TextCounter(Protocol):
    """Tokenizers, on and off the event loop."""

    async def count(self, profile: Profile, texts: Sequence[str]) -> list[int]:
        """Tokens of each text; more than a few kB are counted off the event loop."""

    def count_here(self, profile: Profile, text: str) -> int:
        """Tokens of one text, in the calling thread."""

    def counts_lines_apart(self, profile: Profile) -> bool:
        """Whether a text costs what its lines do, cut behind line ends that neither white space nor a slash follows."""


class Calibrations(Protocol):
    """What was learned of how each upstream counts, by (upstream, model)."""

    def correction_of(self, upstream: str, model: str) -> Correction:
        """The correction in force; it changes in steps, between requests."""

    def learn(self, upstream: str, model: str, raw_tokens: int, has_tools: bool, reported: Usage) -> None:
        """Take in a complete answer's report of a prompt that was counted.

        Args:
            upstream: its name.
            model: as the request names it.
            raw_tokens: our own count of what was forwarded, uncorrected.
            has_tools: whether tools or functions were sent along.
            reported: by the upstream.
        """


class StateStore(Protocol):
    """Bytes by space and key, which may outlive the process; bounded, so what is not used for long may go.

    Trouble of the store never raises: a look-up then finds nothing, a write is lost, and the store counts both.
    """

    async def get(self, space: str, key: bytes) -> bytes | None:
        """The value, unless there is none or it has expired."""

    async def get_many(self, space: str, keys: Sequence[bytes]) -> list[bytes | None] | None:
        """The values in the order of the keys, in one round trip; None where the store cannot be asked now."""

    async def put(self, space: str, key: bytes, value: bytes, ttl_s: float | None = None) -> None:
        """Store a value over any other, for so many seconds or as long as there is room."""

    async def put_if_absent(self, space: str, key: bytes, value: bytes, ttl_s: float | None = None) -> bytes:
        """Store a value unless one is there; returns the one that stands."""

    async def prolong(self, space: str, keys: Sequence[bytes], ttl_s: float) -> None:
        """Let values live for so many seconds from now."""

    async def delete(self, space: str, key: bytes) -> None:
        """Let a value go."""

    async def delete_prefix(self, space: str, prefix: bytes) -> int:
        """Let all values go whose keys begin so; returns how many."""

    def scan(self, space: str, prefix: bytes = b"") -> AsyncGenerator[tuple[bytes, bytes], None]:
        """Keys and values whose keys begin so, in the order of keys."""


class BriefStore(Protocol):
    """Briefs by the digest of what they cover, within a scope. Trouble with what keeps them never raises."""

    def is_empty(self, scope: bytes) -> bool:
        """Whether a look-up cannot find anything; False where that is not known."""

    async def find(self, scope: bytes, chain: Sequence[bytes]) -> Brief | None:
        """The applied brief that covers the most of this chain."""

    async def put_if_absent(self, scope: bytes, key: bytes, brief: Brief) -> Brief:
        """Apply a brief, unless one is applied already; returns the one that is."""

    async def find_waiting(self, scope: bytes, chain: Sequence[bytes]) -> Brief | None:
        """The brief that covers the most of this chain among those that wait: made ahead of need, or too late.

        One for a key whose brief is applied already is the ground of the next compaction; it is never applied itself.
        """

    async def put_waiting(self, scope: bytes, key: bytes, brief: Brief) -> None:
        """Keep a brief for the next compaction, unless one waits there already."""

    async def find_arrangement(self, scope: bytes, chain: Sequence[bytes]) -> Arrangement | None:
        """What was decided at the latest compaction of this chain, beside its brief."""

    async def put_arrangement(self, scope: bytes, key: bytes, arrangement: Arrangement) -> None:
        """Keep what a compaction has decided, in place of an earlier decision for this key."""

    async def forget(self, scope: bytes) -> int:
        """Let everything of a scope go; returns how many records went."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What is gone with a session.

    Attributes:
        was_there: anything had been kept of it.
        brief_scopes: the scopes of the briefs that were made under it.
    """

    was_there: bool
    brief_scopes: Sequence[bytes]


class Journal(Protocol):
    """What named sessions have said. Trouble with what keeps it never raises."""

    async def read(self, session: bytes) -> Sequence[Kept]:
        """What is kept of a session, oldest first; nothing where that cannot be known now."""

    def keep(self, session: Session, raws: Sequence[msgspec.Raw | bytes], facts: Sequence[MessageFacts]) -> None:
        """Keep what is new of a request's messages, in the background."""

    async def forget(self, session: bytes) -> Forgotten | None:
        """Let a session go; None where the store could not be asked, and it may still be there."""


class BriefMaker(Protocol):
    """Makes briefs: a language model within its deadline, else extraction."""

    @property
    def takes_time(self) -> bool:
        """Whether a language model is asked, so that it is worth asking ahead of need."""

    @property
    def reuses_prompts(self) -> bool:
        """Whether jobs are to hold what was sent so far, since that may be cached where the brief is written."""

    async def make(
        self, exchange: Exchange, scope: bytes, key: bytes, job: FoldJob, *, may_wait: bool = True
    ) -> tuple[Brief, bool]:
        """The brief to apply for this job, and whether this call made it; concurrent calls for one key share one fold.

        It may have been made for another request's limits. `may_wait` is False for a request that has spent its
        deadline already: it takes an extract at once.
        """

    async def refold(self, profile: Profile, job: FoldJob) -> Brief:
        """An extractive brief for one request that the applied one does not suit; it is not stored."""

    def prepare(
        self, exchange: Exchange, scope: bytes, base: bytes, key: bytes, make_job: Callable[[], FoldJob]
    ) -> None:
        """Make the next brief in the background, and let it wait; nothing is done while one is made for this base.

        Args:
            exchange: the request that foresees the need.
            scope: the brief's.
            base: what names the prefix that is covered now.
            key: what names the one that will be.
            make_job: called in a thread.
        """

    async def prepared(self, base: bytes) -> bool:
        """Wait for what is being made for this base, if anything is, and no longer than the deadline.

        Returns:
            False if it is still being made: the deadline was spent on it.
        """


@dataclass(frozen=True, slots=True)
class SentPrompt:
    """The latest request of a conversation that an upstream has accepted.

    Attributes:
        place: of its name among the keys that were asked for.
        idle_s: how long ago that was.
        tokens: of its prompt.
        lasting_tokens: of its beginning that another user's message does not change.
    """

    place: int
    idle_s: float
    tokens: int
    lasting_tokens: int


class SentPrompts(Protocol):
    """When each conversation was last forwarded to each upstream: whether that should still have it cached."""

    def put(self, upstream: str, mark: SentMark) -> None:
        """An upstream has accepted this now."""

    def find(self, upstream: str, keys: Sequence[bytes]) -> SentPrompt | None:
        """The latest that is known of a chain whose newest key comes first; None where nothing is."""


class Limiter(Protocol):
    """What is left of every client's limits."""

    def peek(self, limits: Sequence[Limit], units: Sequence[int]) -> Verdict:
        """What would be decided, from what this process knows; nothing is taken, and states come with refusals only."""

    async def take(self, limits: Sequence[Limit], units: Sequence[int]) -> Verdict:
        """Take these units from these limits, all of them or none, in one step.

        A caller that is cancelled while it waits has taken nothing.
        """

    def settle(
        self, limits: Sequence[Limit], reserved: Sequence[int], used: Sequence[int], day: int, lease: str = ""
    ) -> None:
        """Put right what was taken on a day, once it is known what was used; in the background if that takes time.

        `lease` is as the verdict had it, or "" for what nobody had taken.
        """


class AnswerStore(Protocol):
    """Answers by key, for as long as they may be used; bounded. Trouble with what keeps them never raises."""

    async def get(self, key: bytes) -> Record | None:
        """The answer; None where there is none, or where that cannot be known now."""

    async def put(self, key: bytes, record: Record) -> None:
        """Keep an answer over any other."""


class Telemetry(Protocol):
    """Metrics and logs; called once an exchange is settled."""

    def started(self, exchange: Exchange) -> None:
        """An exchange begins."""

    def settled(self, exchange: Exchange) -> None:
        """An exchange has ended, one way or another."""
