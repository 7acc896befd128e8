"""Embeddings from a real server: each text once, in batches, in time, on the right account, and what faults cost."""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.routing.routes import Roles, Route
from gateway.exchange import Client, Exchange
from gateway.shell.facts.embedder import Embedder, EmbeddingOptions
from gateway.shell.upstream.client import HttpUpstream
from gateway.tasks import TaskGroup
from tests.fakes.openai_server import Behaviour, FakeOpenAI, cut, fail, rate_limited, reset, stall
from tests.histories import body_of, exchange_of, route_of
from tests.shell.facts.vectors import cosine, packed

ONE_SHORT = b'{"data": [{"index": 0, "embedding": [1, 2]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}'
SOON_S, NEVER_S = 0.01, 30.0
_numbers = itertools.count()


class Clock:
    """Seconds that a test sets."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class World:
    """An embedder in front of a server."""

    def __init__(self, server: FakeOpenAI, upstream: HttpUpstream, **options: Any) -> None:
        self.server = server
        self.tasks = TaskGroup()
        self.clock = Clock()
        self.charged: list[tuple[str, int, int]] = []
        own: Route = route_of(base_url=server.base_url, api_key="sk-embeddings")
        max_bytes = options.pop("max_bytes", 10**7)
        told = EmbeddingOptions(
            **{"route": own, "home": None, "model": "m", "batch_size": 4, "deadline_s": NEVER_S} | options
        )
        self.embedder = Embedder(told, upstream, self.tasks, max_bytes, self.clock)
        self.embedder.charge = lambda exchange, prompt, completion: self.charged.append(
            (exchange.header("authorization") or "", prompt, completion)
        )

    def exchange(self, key: str = "Bearer sk-ann", scope: bytes = b"a" * 32, api_key: str = "") -> Exchange:
        made = exchange_of(body_of([{"role": "user", "content": "hi"}]), scope, Roles.OPEN)
        made.request_id = f"request {next(_numbers)}"
        made.headers = [("authorization", key)]
        made.client = Client("c", scope)
        made.routes = [route_of(base_url=self.server.base_url, api_key=api_key)]
        return made

    @property
    def asked(self) -> list[list[str]]:
        """The texts of each call."""
        return [request.json()["input"] for request in self.server.requests]

    async def settled(self) -> None:
        """All calls have ended."""
        await self.tasks.drain(10)


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
async def upstream() -> AsyncIterator[HttpUpstream]:
    async with HttpUpstream() as client:
        yield client


def by_letter(text: str) -> Sequence[float]:
    """A vector that says which text it is of."""
    return [1.0, ord(text[-1]) / 100]


async def test_vectors_are_of_their_texts(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """In the order of the texts, in calls of at most so many, of length 1."""
    server.vector = by_letter
    world = World(server, upstream)
    texts = [f"text {letter}" for letter in "abcdefghij"]
    vectors = await world.embedder.embed(None, texts)
    again = await world.embedder.embed(None, texts[::-1])

    assert sorted(map(len, world.asked)) == [2, 4, 4]
    assert sorted(text for call in world.asked for text in call) == texts
    for text, vector in zip(texts, vectors, strict=True):
        assert vector is not None
        assert cosine(vector, packed(by_letter(text))) == pytest.approx(1, abs=1e-2)
    assert again == vectors[::-1]
    assert world.embedder.tally == {"calls": 3, "texts": 10, "prompt_tokens": 20}
    assert all(request.json()["model"] == "m" for request in server.requests)
    assert {request.raw_path for request in server.requests} == {"/v1/embeddings"}


async def test_1_a_text_is_asked_for_once_however_many_want_it(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """At the same time, within one call, and later."""
    world = World(server, upstream)
    stalled = stall()
    server.script.append(stalled)
    waiting = [asyncio.create_task(world.embedder.embed(None, ["a", "b", "a"])) for _ in range(20)]
    await server.wait_requests()
    waiting += [asyncio.create_task(world.embedder.embed(None, ["b", "c"])) for _ in range(20)]
    await server.wait_requests(2)
    stalled.release.set()
    answers = await asyncio.gather(*waiting)
    later = await world.embedder.embed(None, ["c", "b", "a"])

    assert world.asked == [["a", "b"], ["c"]]
    assert all(None not in answer for answer in answers)
    assert len({tuple(answer) for answer in answers[:20]}) == 1
    assert later == [*answers[-1][::-1], answers[0][0]]


async def test_2_what_does_not_come_in_time_comes_for_the_next(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """The request goes on without; nobody asks twice; it is there once the endpoint has answered."""
    world = World(server, upstream, deadline_s=SOON_S)
    stalled = stall()
    server.script.append(stalled)
    first = await world.embedder.embed(None, ["a"])
    second = await world.embedder.embed(None, ["a"])
    known = await world.embedder.embed(None, ["b"], NEVER_S)
    stalled.release.set()
    await world.settled()
    third = await world.embedder.embed(None, ["a"])

    assert [first, second] == [[None], [None]]
    assert known[0] is not None
    assert third[0] is not None
    assert world.asked == [["a"], ["b"]]


async def test_2_a_request_waits_once(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """For its question, say, and then not for its passages; what is there already it gets."""
    world = World(server, upstream, deadline_s=0.05)
    await world.embedder.embed(None, ["known"], NEVER_S)
    stalled = [stall() for _ in range(40)]
    server.script += stalled
    exchange = world.exchange()
    started_s = time.monotonic()
    vectors = [await world.embedder.embed(exchange, [f"text {number}", "known"]) for number in range(20)]
    took_s = time.monotonic() - started_s
    for each in stalled:
        each.release.set()
    print(f"twenty times in one request: {took_s * 1e3:.0f} ms")

    assert [[vector is None for vector in each] for each in vectors] == [[True, False]] * 20
    assert took_s < 0.05 * 20  # which is what waiting each time takes at least


async def test_2_a_request_that_leaves_takes_nothing_along(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """Whoever else waits for the same text gets it."""
    world = World(server, upstream)
    stalled = stall()
    server.script.append(stalled)
    leaving = asyncio.create_task(world.embedder.embed(None, ["a"]))
    staying = asyncio.create_task(world.embedder.embed(None, ["a"]))
    await server.wait_requests()
    leaving.cancel()
    stalled.release.set()

    assert (await staying)[0] is not None
    assert world.asked == [["a"]]


FAULTS = {
    "500": fail(500),
    "429": rate_limited(0),
    "401": fail(401),
    "reset": reset(),
    "cut": cut(1),
    "html": fail(200, b"<html>busy</html>"),
    "one vector for two": fail(200, ONE_SHORT),
    "empty": fail(200, b""),
    "a zero vector": fail(200, {"data": [{"index": at, "embedding": [0, 0]} for at in range(2)]}),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_2_a_fault_costs_the_vectors_and_nothing_else(
    server: FakeOpenAI, upstream: HttpUpstream, fault: Behaviour
) -> None:
    """Nothing raises, and the next one asks again."""
    world = World(server, upstream)
    server.script.append(replace(fault))
    first = await world.embedder.embed(None, ["a", "b"])
    second = await world.embedder.embed(None, ["a", "b"])

    assert first == [None, None]
    assert None not in second
    assert world.asked == [["a", "b"]] * 2
    assert (world.embedder.tally["calls"], world.embedder.tally["failures"]) == (2, 1)


async def test_2_a_call_that_hangs_ends(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """By its own time, though nobody waits for it any longer."""
    world = World(server, upstream, timeout_s=0.05)
    server.script.append(stall())
    first = await world.embedder.embed(None, ["a"])
    await world.settled()

    assert first == [None]
    assert world.embedder.tally["failures"] == 1
    assert (await world.embedder.embed(None, ["a"]))[0] is not None


async def test_an_endpoint_that_fails_again_and_again_is_left_alone(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """For half a minute; then it is asked again. One success in between and the count begins anew."""
    world = World(server, upstream)
    server.script += [fail(500), fail(500)]
    for text in ("a", "b", "c"):  # the third succeeds
        await world.embedder.embed(None, [text])
    server.script += [fail(500)] * 3
    for text in ("d", "e", "f"):
        await world.embedder.embed(None, [text])
    calls = len(server.requests)
    resting = [await world.embedder.embed(None, [f"text {number}"]) for number in range(5)]
    known = await world.embedder.embed(None, ["c", "g"])
    asked_meanwhile = len(server.requests) - calls
    world.clock.now_s += 30.0
    after = await world.embedder.embed(None, ["d"])

    assert calls == 6
    assert asked_meanwhile == 0
    assert resting == [[None]] * 5
    assert (known[0] is None, known[1]) == (False, None)
    assert after[0] is not None


async def test_4_a_text_that_is_refused_costs_no_other_its_vector(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """The endpoint refuses whatever holds it; it is alone in the end, and the endpoint is not to blame."""
    server.vector = by_letter
    refuses = Behaviour(reply=fail(400).reply, when=lambda seen: b"bad" in seen.body)
    server.script += [replace(refuses) for _ in range(20)]
    world = World(server, upstream, batch_size=16)
    texts = [f"good {letter}" for letter in "abcdefg"]
    vectors = await world.embedder.embed(None, [*texts[:5], "bad z", *texts[5:]])
    later = await world.embedder.embed(None, ["more h"])

    assert [vector is None for vector in vectors] == [False] * 5 + [True] + [False] * 2
    assert later[0] is not None
    for text, vector in zip([*texts[:5], "", *texts[5:]], vectors, strict=True):
        assert vector is None or cosine(vector, packed(by_letter(text))) == pytest.approx(1, abs=1e-2)


async def test_4_an_endpoint_that_refuses_everything_is_not_asked_for_each(
    server: FakeOpenAI, upstream: HttpUpstream
) -> None:
    """A model that it does not know, say: a few calls for a batch of 64, and then it rests."""
    server.script += [fail(400) for _ in range(200)]
    world = World(server, upstream, batch_size=64)
    vectors = await world.embedder.embed(None, [f"text {number}" for number in range(64)])
    calls = len(server.requests)
    await world.embedder.embed(None, ["another"])

    assert vectors == [None] * 64
    assert calls < 16
    assert len(server.requests) == calls


async def test_4_a_blank_text_is_not_asked_for(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """OpenAI refuses a call for the sake of one: a question that is a picture has no words."""
    world = World(server, upstream)
    vectors = await world.embedder.embed(None, ["", "a", " \n"])

    assert [vector is None for vector in vectors] == [True, False, True]
    assert world.asked == [["a"]]
    assert await world.embedder.embed(None, [""]) == [None]


async def test_any_text_can_be_asked_for(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """Halves of surrogate pairs, NUL, and what is far too long."""
    world = World(server, upstream)

    assert None not in await world.embedder.embed(None, ["\ud800 half", "a\x00b", "字" * 10_000, "word " * 40_000])
    assert max(len(text.encode()) for text in world.asked[0]) <= 8_000


async def test_3_what_is_held_is_bounded(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """And what was let go is asked for again."""
    world = World(server, upstream, max_bytes=20_000, batch_size=64)
    for start in range(0, 640, 64):
        await world.embedder.embed(None, [f"text {number}" for number in range(start, start + 64)])
    calls = len(server.requests)
    again = await world.embedder.embed(None, ["text 0"])

    assert world.embedder.held_bytes <= 20_000
    assert again[0] is not None
    assert len(server.requests) == calls + 1


async def test_so_many_calls_at_once(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """And no more; the others wait for their turn."""
    stalled = [stall() for _ in range(2)]
    server.script += stalled
    world = World(server, upstream, batch_size=1, max_calls=2)
    waiting = asyncio.create_task(world.embedder.embed(None, list("abcdef")))
    await server.wait_requests(2)
    for _ in range(20):
        await asyncio.sleep(0)
    at_once = len(server.requests)
    for each in stalled:
        each.release.set()
    vectors = await waiting

    assert at_once == 2
    assert None not in vectors
    assert len(server.requests) == 6


# On whose account


async def test_an_endpoint_of_its_own_never_sees_a_clients_key(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """It gets its own key or none; what it made is everybody's, and charged to whoever asked first."""
    world = World(server, upstream)
    keyless = World(server, upstream, route=route_of(base_url=server.base_url))
    await world.embedder.embed(world.exchange(), ["one two"])
    await world.embedder.embed(world.exchange("Bearer sk-bob", b"b" * 32), ["one two"])
    await keyless.embedder.embed(keyless.exchange(), ["one two"])
    sent = [request.header("authorization") for request in server.requests]

    assert sent == ["Bearer sk-embeddings", None]
    assert not any("sk-ann" in value for request in server.requests for _, value in request.headers)
    assert world.charged == [("Bearer sk-ann", 2, 0)]


async def test_what_a_clients_key_paid_for_is_that_clients(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """At the request's own upstream, with the request's own key; another client asks for itself."""
    world = World(server, upstream, route=None)
    ann, bob = world.exchange(), world.exchange("Bearer sk-bob", b"b" * 32)
    for exchange in (ann, bob, ann, bob):
        assert (await world.embedder.embed(exchange, ["one two three"]))[0] is not None
    sent = [request.header("authorization") for request in server.requests]

    assert sent == ["Bearer sk-ann", "Bearer sk-bob"]
    assert world.charged == [("Bearer sk-ann", 3, 0), ("Bearer sk-bob", 3, 0)]


async def test_an_upstreams_own_key_is_used_there(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """And the client's is not."""
    world = World(server, upstream, route=None)
    await world.embedder.embed(world.exchange(api_key="sk-upstream"), ["a"])

    assert server.requests[0].header("authorization") == "Bearer sk-upstream"


async def test_on_nobodys_account(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """What fills the store asks at home; without a home it does not ask, and nobody is charged."""
    home = route_of(base_url=server.base_url, api_key="sk-home")
    world, homeless = World(server, upstream, route=None, home=home), World(server, upstream, route=None)
    made = await world.embedder.embed(None, ["a"])
    none = await homeless.embedder.embed(None, ["a"])

    assert made[0] is not None
    assert none == [None]
    assert (world.embedder.is_own, homeless.embedder.is_own) == (True, False)
    assert [request.header("authorization") for request in server.requests] == ["Bearer sk-home"]
    assert world.charged == []


async def test_no_text_stands_for_anothers(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """One that begins like a client's scope is not that client's."""
    scope = b"abcdefghijklmnopqrstuvwxyz012345"
    home = route_of(base_url=server.base_url, api_key="sk-home")
    world = World(server, upstream, route=None, home=home)
    at_home = await world.embedder.embed(None, [scope.decode() + "rest"])
    own = await world.embedder.embed(world.exchange(scope=scope), ["rest"])

    assert at_home != own
    assert len(server.requests) == 2


async def test_usage_is_told_as_it_is(server: FakeOpenAI, upstream: HttpUpstream) -> None:
    """An answer without usage costs nobody anything, and is an answer."""
    body = {"data": [{"index": 0, "embedding": [3, 4]}]}
    server.script.append(fail(200, body))
    world = World(server, upstream)
    vectors = await world.embedder.embed(world.exchange(), ["a"])

    assert vectors == [struct.pack("<2e", 0.6, 0.8)]
    assert world.embedder.tally == {"calls": 1, "texts": 1}
    assert world.charged == []
    assert json.loads(server.requests[0].body)["encoding_format"] == "float"
