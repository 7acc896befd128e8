"""Cosines of passages and a question, by vectors that a real server makes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from gateway.core.context.recall import Question
from gateway.core.context.recall_index import learn_terms
from gateway.core.context.recall_pool import Pool, Remembered
from gateway.core.facts.reminders import Reminder
from gateway.core.routing.routes import Roles
from gateway.exchange import Exchange
from gateway.shell.facts.embedder import Embedder, EmbeddingOptions
from gateway.shell.upstream.client import HttpUpstream
from gateway.tasks import TaskGroup
from tests.fakes.openai_server import Behaviour, FakeOpenAI, fail, stall
from tests.histories import body_of, exchange_of, route_of

pytest.importorskip("numpy", "2", reason="numpy is not installed")
from gateway.shell.facts.nearness import CONTEXT_CHARS, Nearness, with_context

MESSAGES = ["alpha one", "beta two", "gamma three", "alpha four"]
DIRECTIONS = {"alpha": (1.0, 0.0), "beta": (0.0, 1.0), "gamma": (-1.0, 0.0), "asks": (1.0, 0.0)}
LONG = "\n\n".join(f"Part {number} of a long message. " + "It goes on and on. " * 20 for number in range(4))


def by_last_line(text: str) -> Sequence[float]:
    """Its direction is that of the first word of its last line: a passage comes with what stands before it."""
    return DIRECTIONS.get(text.splitlines()[-1].split()[0], (1.0, 1.0))


class World:
    """Nearness in front of a server."""

    def __init__(self, server: FakeOpenAI, upstream: HttpUpstream, deadline_s: float = 30.0) -> None:
        self.server = server
        self.tasks = TaskGroup()
        options = EmbeddingOptions(route_of(base_url=server.base_url), None, "m", 2, deadline_s)
        self.embedder = Embedder(options, upstream, self.tasks, 10**7)
        self.near = Nearness(self.embedder, 10**7)
        self.exchange: Exchange = exchange_of(body_of([{"role": "user", "content": "hi"}]), b"a" * 32, Roles.OPEN)
        self.read_numbers: list[int] = []

    async def to(
        self,
        asked: str = "asks",
        messages: Sequence[str] = MESSAGES,
        reminders: Sequence[Reminder] = (),
        pool: str | None = None,
    ) -> list[float | None] | None:
        texts = dict(enumerate(messages, 1))
        texts |= {each.number: each.text for each in reminders}
        beside = [Remembered(each.number, each.role, 9, learn_terms(each.text), each.label) for each in reminders]
        own = [Remembered(number, "user", 9, learn_terms(text)) for number, text in enumerate(messages, 1)]
        name = (pool if pool is not None else repr((texts,))).encode()
        question = Question(asked.encode(), name, len(messages), (), len(messages) + 1, (), 400, (), reminders)
        return await self.near.to(self.exchange, question, Pool([*beside, *own]), self._reader(texts), asked)

    def _reader(self, texts: dict[int, str]) -> Callable[[int], str]:
        def read(number: int) -> str:
            self.read_numbers.append(number)
            return texts[number]

        return read

    @property
    def asked(self) -> list[str]:
        return [text for request in self.server.requests for text in request.json()["input"]]


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as fake:
        fake.vector = by_last_line
        yield fake


@pytest.fixture
async def upstream() -> AsyncIterator[HttpUpstream]:
    async with HttpUpstream() as client:
        yield client


def reminder(number: int, similarity: float | None, text: str = "[8 May 2023]\nbeta memory") -> Reminder:
    return Reminder(number, f"{-number:032x}", "memory", "", text, 9, f"m{-number}", similarity)


async def test_1_the_cosine_of_each_passage(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """With the end of what stands before it, as it was embedded."""
    world = World(server, upstream)

    assert await world.to() == pytest.approx([1, 0, -1, 1], abs=1e-3)
    assert world.asked[0] == "asks"
    assert sorted(world.asked[1:]) == sorted(
        ["alpha one", "alpha one\nbeta two", "beta two\ngamma three", "gamma three\nalpha four"]
    )


def test_what_stands_before_is_cut() -> None:
    assert with_context("", "x") == "x"
    assert with_context("b" * 1000, "x") == "b" * CONTEXT_CHARS + "\nx"


async def test_1_passages_of_one_message_are_apart(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """Each has its cosine, one beside the other."""
    world = World(server, upstream)
    near = await world.to(messages=["alpha one", LONG])
    count = 1 + len(learn_terms(LONG).passages)

    assert count > 3
    assert near is not None
    assert len(near) == count
    assert None not in near


async def test_1_what_has_no_vector_is_neither_near_nor_far(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """None until it comes, and nothing is kept of what is not whole."""
    refuses = [Behaviour(reply=fail(500).reply, when=lambda seen: b"gamma three\\nalpha four" in seen.body)]
    server.script += refuses
    world = World(server, upstream)
    partly = await world.to()
    whole = await world.to()
    calls = len(server.requests)
    again = await world.to("beta asks")

    assert partly is not None
    assert None in partly
    assert partly[:2] == pytest.approx([1, 0], abs=1e-3)
    assert whole == pytest.approx([1, 0, -1, 1], abs=1e-3)
    assert again == pytest.approx([0, 1, 0, 0], abs=1e-3)
    assert len(server.requests) == calls + 1


async def test_a_pool_that_is_whole_is_put_together_once(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """Its texts are not read again; of another pool they are."""
    world = World(server, upstream)
    first = await world.to()
    world.read_numbers.clear()
    second = await world.to()
    read = len(world.read_numbers)
    await world.to(messages=MESSAGES[:2])

    assert first == second
    assert read == 0
    assert world.read_numbers == [1, 2]


async def test_2_without_the_questions_vector_there_is_nothing(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """In time. Once it is there, there is all of it."""
    stalled = stall()
    server.script.append(Behaviour(stall_after=-1, release=stalled.release, when=lambda seen: b"asks" in seen.body))
    world = World(server, upstream, deadline_s=0.02)
    first = await world.to()
    stalled.release.set()
    await world.tasks.drain(10)
    second = await world.to()

    assert first is None
    assert second is not None


async def test_2_without_any_passages_vector_there_is_nothing(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    world = World(server, upstream)

    assert await world.to(messages=[]) is None
    assert await world.to(asked=" ") is None


async def test_reminders_come_with_their_similarity(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """They are not embedded anew, and stand in their places before the messages, also beside a pool put together."""
    world = World(server, upstream)
    reminders = [reminder(-2, 0.5), reminder(-1, None)]
    first = await world.to(reminders=reminders, pool="one")
    second = await world.to(reminders=[reminder(-2, 0.25), reminder(-1, 0.75)], pool="one")
    alone = await world.to(messages=[], reminders=reminders)

    assert first is not None
    assert second is not None
    assert alone is not None
    assert first[:2] == [0.5, None]
    assert first[2:] == pytest.approx([1, 0, -1, 1], abs=1e-3)
    assert second[:2] == [0.25, 0.75]
    assert second[2:] == first[2:]
    assert alone == [0.5, None]
    assert not any("memory" in text for text in world.asked)


async def test_vectors_of_another_length_are_none(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """An endpoint that was given another model under the same name costs no request: what is longer is not near."""
    world = World(server, upstream)
    await world.to()
    server.vector = lambda text: [*by_last_line(text), 1.0]
    after = await world.to("asks otherwise")
    mixed = await world.to("asks otherwise", messages=[*MESSAGES, "beta five"])

    assert after is None
    assert mixed is not None
    assert [each is None for each in mixed] == [True] * 4 + [False]
