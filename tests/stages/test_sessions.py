"""Named sessions: what a request does not contain is recalled from what the session has said, case by case."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.context.brief import Level
from gateway.core.context.facts import canonical_digest
from gateway.core.context.journal import Kept, session_key
from gateway.core.context.marks import defuse_tags
from gateway.core.errors import Refusal
from gateway.core.routing.routes import Roles
from gateway.core.wire.headers import Headers
from gateway.core.wire.request import Endpoint
from gateway.exchange import Client, Exchange
from gateway.ports import Journal
from gateway.shell.state.journal import StoredJournal
from gateway.shell.state.key_value import MemoryStateStore
from gateway.stages.forget_session import ForgetSessionStage
from gateway.stages.settle import Settle
from gateway.tasks import TaskGroup
from tests.histories import Message, Sent, World, budget_of, lumpy, per_four_chars, sessions
from tests.stages.test_settle import Silent

SYSTEM: Message = {"role": "system", "content": "You are terse."}
FACT = "The locker of Margit Oyelaran has the code 7T-4093."
QUESTION = "What was the code of the locker again?"
BUDGET = replace(budget_of(1200), retrieved_tokens=400)


def ask(text: str) -> Message:
    return {"role": "user", "content": text}


def say(text: str) -> Message:
    return {"role": "assistant", "content": text}


class Sessions:
    """A world with a journal, in which an exchange is settled as in the gateway."""

    def __init__(self, **options: Any) -> None:
        self.kept_before: Sequence[Kept] = ()
        self.tasks = TaskGroup()
        self.state = MemoryStateStore(10**7)
        self.journal = StoredJournal(self.state, self.tasks, 1000, 1000, 10**6, 10**6)
        self.world = World(**{"budget": BUDGET, "journal": self.journal, **options})
        self._settle = Settle(self.world.counter, self.world.calibrations, Silent(), self.journal)

    async def send(self, *messages: Message, status: int = 200, session: str | None = "trip", **others: Any) -> Sent:
        self.kept_before = await self._missing(messages, session, others.get("client", b"someone"))
        sent = await self.world.send([SYSTEM, *messages], session=session, **others)
        if sent.refusal is None:
            sent.exchange.outcome.attempts, sent.exchange.outcome.status = 1, status
        self._settle.finish(sent.exchange)
        await self.tasks.drain(5)
        return sent

    async def _missing(self, messages: Sequence[Message], session: str | None, client: bytes) -> list[Kept]:
        """What the session has kept beyond these messages."""
        own = {canonical_digest(message) for message in messages}
        kept = await self.journal.read(session_key(client, session or ""))
        return [each for each in kept if each.canonical not in own]

    async def forget(self, name: str, client: bytes = b"someone", journal: Journal | None = None) -> Any:
        path = f"/api/v1/sessions/{name}"
        outbound = Answer()
        exchange = Exchange("r", "DELETE", path, path, (), Endpoint.SESSIONS, outbound, outbound, 0.0)  # type: ignore[arg-type]
        exchange.client = Client("c", client)
        try:
            await ForgetSessionStage(journal or self.journal, self.world.store)(exchange)
        except Refusal as refusal:
            return refusal.status, refusal.code
        return outbound.status


class Answer:
    """`exchange.Outbound` that remembers its status."""

    status = 0

    async def start(self, status: int, headers: Headers, length: int | None) -> None:
        self.status = status

    async def end(self, chunk: bytes = b"") -> None: ...


def recalled_in(sent: Sent) -> str:
    """What was recalled, or "": it stands just before the last user message."""
    texts = [str(message["content"]) for message in sent.shown]
    places = [at for at, text in enumerate(texts) if text.startswith("<recalled>")]
    if not places:
        return ""
    last_user = max(at for at, message in enumerate(sent.messages) if message["role"] == "user")
    assert places == [len(texts) - len(sent.messages) + last_user - 1]
    return texts[places[0]]


async def test_what_a_request_lacks_is_recalled() -> None:
    """A client that sends only what is new is reminded of what it said; all it sent is forwarded as it was."""
    sessions = Sessions()
    first = await sessions.send(ask(FACT))
    await sessions.send(say("Noted."), ask("We leave on Tuesday."))
    sent = await sessions.send(say("Fine."), ask(QUESTION))

    assert first.forwarded == first.body
    assert f"1 user: {FACT}" in recalled_in(sent)
    assert [message for message in sent.shown if not str(message["content"]).startswith("<recalled>")] == sent.messages
    assert (sent.receipt.level, sent.receipt.kept_messages, sent.receipt.folded_messages) == (Level.NONE, 3, 0)
    assert sum(sent.receipt.sections.values()) == sent.receipt.prompt_tokens == sessions.world.recount(sent.forwarded)
    assert json.loads(sent.receipt.explain())["session"]["kept_messages"] == 3


async def test_without_a_session_nothing_changes() -> None:
    """Neither for a request without a name in a client that has sessions, nor for one that resends everything."""
    sessions = Sessions()
    history = [ask(FACT), say("Noted."), ask(QUESTION)]
    await sessions.send(*history[:1])
    unnamed = await sessions.send(ask(QUESTION), session=None)
    whole = await sessions.send(*history[:2], say("Right."), ask(QUESTION))

    assert unnamed.forwarded == unnamed.body
    assert whole.forwarded == whole.body


@pytest.mark.parametrize(
    ("client", "session"), [(b"somebody else", "trip"), (b"someone", "other"), (b"someone", "Trip")]
)
async def test_scopes_never_mix(client: bytes, session: str) -> None:
    """Another client that uses the same name, and the same client under another, see nothing of it."""
    sessions = Sessions()
    await sessions.send(ask(FACT))
    sent = await sessions.send(ask(QUESTION), client=client, session=session)

    assert sent.forwarded == sent.body


async def test_only_free_budget_is_used() -> None:
    """Never more than the share of what is retrieved, never above the limit, and nothing where there is no room."""
    sessions = Sessions()
    for number in range(60):
        await sessions.send(ask(f"{FACT} It was said for the {number}th time, and the locker is in hall {number}."))
    small = await sessions.send(ask(QUESTION))
    large = await sessions.send(ask(QUESTION + " Think well." * 340))
    full = await sessions.send(ask(QUESTION + " Think well." * 380))

    assert small.receipt.recalled is not None
    assert small.receipt.recalled.tokens <= 400
    assert small.receipt.recalled.tokens > 300
    assert large.receipt.recalled is not None
    assert large.receipt.prompt_tokens <= large.limit
    assert full.receipt.client_tokens <= full.limit
    assert full.forwarded == full.body


async def test_a_compacted_chat_recalls_from_both() -> None:
    """What the request has folded and what only the session holds come back as one text, in order."""
    sessions = Sessions()
    await sessions.send(ask(FACT))
    filler = [each for n in range(20) for each in (ask(f"Chapter {n}? " + "So it went. " * 20), say("Fine. " * 20))]
    opening = [ask("Hello."), say("Hi."), ask("The locker is in hall 12."), say("Noted.")]
    sent = await sessions.send(*opening, *filler, ask(QUESTION))
    text = recalled_in(sent)

    assert sent.receipt.has_overflowed
    assert text.index(f"1 user: {FACT}") < text.index("4 user: The locker is in hall 12.")
    assert sent.receipt.prompt_tokens <= sent.limit


async def test_what_was_chosen_stays_through_the_tool_loop() -> None:
    """Byte for byte, though the window slides and the session learns more meanwhile; the next message chooses anew."""
    sessions = Sessions()
    await sessions.send(ask(FACT), say("Noted."))
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    loop: list[Message] = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "the locker is shut"},
    ]
    asked = await sessions.send(say("What else?"), ask(QUESTION))
    await sessions.send(ask("The locker has a second code, 9Z-1111."))
    looped = await sessions.send(say("What else?"), ask(QUESTION), *loop)
    slid = await sessions.send(ask(QUESTION), *loop)
    again = await sessions.send(ask(QUESTION))

    assert FACT in recalled_in(asked)
    assert recalled_in(asked) == recalled_in(looped) == recalled_in(slid)
    assert looped.raws[: len(asked.raws)] == asked.raws
    assert "9Z-1111" in recalled_in(again)


async def test_strict_templates_get_no_second_user_message() -> None:
    """There what is recalled is joined to the user's message, whose own text stays whole."""
    sessions = Sessions(roles=Roles.STRICT)
    await sessions.send(ask(FACT))
    sent = await sessions.send(ask(QUESTION))

    assert [message["role"] for message in sent.shown] == ["system", "user"]
    assert FACT in sent.shown[1]["content"]
    assert sent.shown[1]["content"].endswith("\n\n" + QUESTION)


async def test_secrets_are_masked() -> None:
    """In what is stored and in what comes back."""
    sessions = Sessions()
    await sessions.send(ask("The locker's code is sk-proj-" + "a1B2" * 8))
    sent = await sessions.send(ask(QUESTION))
    stored = b"".join([value async for _, value in sessions.state.scan("journal")])

    assert "The locker's code is [secret]" in recalled_in(sent)
    assert b"a1B2" not in stored
    assert b"You are terse" not in stored


@pytest.mark.parametrize("status", [401, 429, 500, 0])
async def test_what_no_upstream_accepted_is_not_kept(status: int) -> None:
    """Nobody fills a store with requests that are turned away."""
    sessions = Sessions()
    await sessions.send(ask(FACT), status=status)

    assert [entry async for entry in sessions.state.scan("journal")] == []


async def test_shadow_forwards_the_client_s_own() -> None:
    """What would have been recalled is on the receipt."""
    sessions = Sessions(is_shadow=True)
    await sessions.send(ask(FACT))
    sent = await sessions.send(ask(QUESTION))

    assert sent.forwarded == sent.body
    assert sent.receipt.recalled is not None


async def test_a_store_that_fails_costs_no_request() -> None:
    """Without it nothing is recalled."""
    sessions = Sessions()
    await sessions.send(ask(FACT))

    async def down(space: str, keys: Sequence[bytes]) -> None: ...

    sessions.state.get_many = down  # type: ignore[method-assign, assignment]
    sent = await sessions.send(ask(QUESTION))

    assert sent.refusal is None
    assert sent.forwarded == sent.body


async def test_forgetting() -> None:
    """A session goes with its briefs, its own client's alone; what is not there is a 404, a bad name a 400."""
    sessions = Sessions()
    filler = [each for n in range(20) for each in (ask(f"Chapter {n}? " + "So it went. " * 20), say("Fine. " * 20))]
    await sessions.send(ask(FACT), say("Noted."), *filler, ask("And now?"))
    others = await sessions.send(ask(FACT), say("Noted."), *filler, ask("And now?"), client=b"somebody else")
    briefs = len(sessions.world.store)
    answers = [await sessions.forget("trip"), await sessions.forget("trip"), await sessions.forget("%20")]
    sent = await sessions.send(ask(QUESTION))
    theirs = await sessions.send(ask(QUESTION), client=b"somebody else")

    assert answers == [204, (404, "session_not_found"), (400, "invalid_value")]
    assert (briefs, len(sessions.world.store)) == (2, 1)
    assert others.receipt.brief is not None
    assert sent.forwarded == sent.body
    assert FACT in recalled_in(theirs)


async def test_nobody_is_told_that_something_was_forgotten_which_was_not() -> None:
    """Where the store cannot be asked, the answer is a 503."""
    sessions = Sessions()
    await sessions.send(ask(FACT))

    async def down(space: str, keys: Sequence[bytes]) -> None: ...

    sessions.state.get_many = down  # type: ignore[method-assign, assignment]

    assert await sessions.forget("trip") == (503, "state_unavailable")


async def test_sessions_share_no_briefs() -> None:
    """A brief of one session is not found by another, nor by a request without a name."""
    sessions = Sessions()
    filler = [each for n in range(20) for each in (ask(f"Chapter {n}? " + "So it went. " * 20), say("Fine. " * 20))]
    sent = [await sessions.send(*filler, ask("And now?"), session=name) for name in ("one", "two", None, "one")]

    assert [each.receipt.is_new_brief for each in sent] == [True, True, True, False]
    assert len({each.receipt.brief_id for each in sent}) == 3


WINDOWS = st.lists(st.integers(1, 4), min_size=3, max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(history=sessions(), windows=WINDOWS, limit=st.integers(300, 4000), rule=st.sampled_from([per_four_chars, lumpy]))
def test_whatever_slice_of_its_history_a_client_sends(
    history: list[list[Message]], windows: list[int], limit: int, rule: Callable[[str], int]
) -> None:
    """What is forwarded fits; beside a brief, only text that this session has kept and the request lacks is added.

    The same requests without a name are forwarded as in a gateway that keeps nothing, and a session fails no request.
    """
    budget = replace(budget_of(limit), retrieved_tokens=limit // 2)
    named, plain = Sessions(budget=budget, rule=rule), Sessions(budget=budget, rule=rule)
    bare = Sessions(budget=budget, rule=rule, journal=None)

    async def play() -> None:
        for messages, window in zip(history, windows, strict=False):
            part = messages[-window:]
            sent = await named.send(*part, client=b"one")
            other = await plain.send(*part, client=b"one", session=None)
            assert other.forwarded == (await bare.send(*part, client=b"one", session=None)).forwarded
            assert (sent.refusal is None) == (other.refusal is None)
            if sent.refusal is None:
                assert sent.receipt.prompt_tokens <= sent.limit
                assert_adds_only_what_was_kept(sent, named)

    asyncio.run(play())


def assert_adds_only_what_was_kept(sent: Sent, sessions: Sessions) -> None:
    recalled = sent.receipt.recalled
    if recalled is None:
        assert sent.receipt.brief is not None or sent.receipt.level is not Level.NONE or sent.forwarded == sent.body
        return
    kept = sessions.kept_before
    base = kept[-1].number if kept else 0
    own = [each.canonical for each in sent.exchange.count.facts] if sent.exchange.count else []
    for pick in recalled.picks:
        if pick.number <= base:
            found = next(each for each in kept if each.number == pick.number)
            assert found.canonical not in own
            assert defuse_tags(found.text[pick.start : pick.end]) in recalled.text
