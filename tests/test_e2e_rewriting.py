"""A client that writes its history anew every turn keeps its brief, and its upstream keeps its cached prefix.

Two clients have one conversation with tools, images and many turns: one resends it as it was, the other rewrites it in
the ways that client libraries do, at random. What is made of the two must not differ where a brief stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.core.context.canonical import canonical_digest
from gateway.demo import read_passages
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, config_for, upstream_for
from tests.histories import raw_messages
from tests.rewritings import SAME_SIZE, Message, Rewriting, rewritten
from tests.small_window import BUDGET, count, is_summary_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
SYSTEM: Message = {"role": "system", "content": "You are a patient reading companion."}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
TURNS = 24


def turn_of(number: int, passage: str) -> list[Message]:
    """A question, often with a picture or two calls and their results, and what came of it."""
    ask = f"Passage {number}: {passage} Never skip page {number}."
    user: Message = {"role": "user", "content": ask, **({"name": "margit"} if number % 4 == 0 else {})}
    if number % 5 == 2:
        user["content"] = [{"type": "text", "text": ask}, PICTURE]
    answer: Message = {"role": "assistant", "content": f"I see, page {number}."}
    if number % 3:
        return [user, answer]
    names = [f"call_{number}_{i}" for i in range(2)]
    arguments = f'{{"page": {number},  "rate": 2.50, "words": ["rabbit", "hole"]}}'
    function = {"name": "look_up", "arguments": arguments}
    calls = [{"id": name, "type": "function", "function": function} for name in names]
    results: list[Message] = [
        {"role": "tool", "tool_call_id": name, "content": f"{name}: {passage[:200]}"} for name in names
    ]
    return [user, {"role": "assistant", "content": None, "tool_calls": calls}, *results, answer]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI(tokenizer=count) as server:
        server.summary = lambda _: json.dumps({"facts": ["They read a book together, page by page."]})
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(fake: FakeOpenAI) -> AsyncIterator[GatewayProcess]:
    """No brief is made ahead of need: when one is made is then the same in every run."""
    summarizer, compaction = {"max_retries": 0}, {"soft_ratio": 1}
    config = config_for(fake, token_budget=BUDGET, summarizer=summarizer, compaction=compaction)
    config["upstreams"] = [
        upstream_for(fake, name="open", models=["gpt-*"], retries={"max": 0}),
        upstream_for(fake, name="strict", models=["strict-*"], roles="strict", retries={"max": 0}),
    ]
    async with GatewayProcess(config) as process:
        yield process


class Reader:
    """A client that sends what it is given, and remembers what became of it."""

    def __init__(self, web: aiohttp.ClientSession, gateway: GatewayProcess, fake: FakeOpenAI, key: str) -> None:
        self.briefs: list[tuple[str, int]] = []
        self.bodies: list[bytes] = []
        self._web, self._fake = web, fake
        self._url = f"{gateway.base_url}/chat/completions"
        self._headers = {"Authorization": f"Bearer {key}", "x-gateway-explain": "1", "Content-Type": "application/json"}

    async def send(self, messages: Sequence[Message], model: str) -> None:
        body = json.dumps({"model": model, "messages": messages, "max_tokens": 200}, ensure_ascii=False)
        async with self._web.post(self._url, data=body.encode(), headers=self._headers) as response:
            assert response.status == 200, await response.text()
            await response.read()
        brief = json.loads(response.headers["x-gateway-receipt"]).get("brief") or {}
        self.briefs.append((brief.get("id", ""), brief.get("covers", 0)))
        self.bodies.append([seen.body for seen in self._fake.requests if not is_summary_request(seen)][-1])

    @property
    def summaries(self) -> int:
        """How often the upstream was asked for one so far."""
        return sum(map(is_summary_request, self._fake.requests))


def some_of_them(message: Message, chance: Random) -> Message:
    """Several rewritings at once."""
    return rewritten(message, chance, SAME_SIZE)


WAYS: dict[str, Rewriting] = {way.__name__: way for way in (*SAME_SIZE, some_of_them)}


def brief_at(raws: Sequence[bytes]) -> int:
    return next(place for place, raw in enumerate(raws) if b"<running_brief>" in raw)


@pytest.mark.parametrize("model", ["gpt-4o", "strict-1"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_rewritten_history_keeps_its_brief(
    way: str, model: str, gateway: GatewayProcess, fake: FakeOpenAI, web: aiohttp.ClientSession
) -> None:
    """The same brief by id and in every byte, made once, as for the client that rewrites nothing."""
    fake.requests.clear()
    chance, rewrite = Random(f"{way} {model}"), WAYS[way]
    key = f"sk-{way}-{model}"
    plain, other = (Reader(web, gateway, fake, key) for _ in range(2))
    history: list[Message] = [SYSTEM]
    made = 0
    for number, passage in zip(range(1, TURNS + 1), read_passages(), strict=False):
        *asked, answer = turn_of(number, passage)
        history += asked
        await plain.send(history, model)
        made = plain.summaries
        await other.send([SYSTEM, *(rewrite(message, chance) for message in history[1:])], model)
        history.append(answer)

        assert other.summaries == made  # nothing was folded a second time
    raws = [(raw_messages(one), raw_messages(two)) for one, two in zip(plain.bodies, other.bodies, strict=True)]
    told = [(one[brief_at(one)], two[brief_at(two)]) for one, two in raws[-10:]]

    assert other.briefs == plain.briefs
    assert len({ident for ident, _ in plain.briefs} - {""}) >= 2
    assert all(brief_text(one) == brief_text(two) for one, two in told)
    assert model != "gpt-4o" or all(one == two for one, two in told)


def brief_text(raw: bytes) -> str:
    found = re.search(r"(?s)<running_brief>.*</running_brief>", raw.decode())
    assert found is not None
    return found[0]


async def test_the_forwarded_prefix_is_the_same_up_to_the_brief(
    gateway: GatewayProcess, fake: FakeOpenAI, web: aiohttp.ClientSession
) -> None:
    """From one turn to the next, all bytes up to the brief's end stay, though what follows was written anew."""
    fake.requests.clear()
    chance, reader = Random("prefix"), Reader(web, gateway, fake, "sk-prefix")
    history: list[Message] = [SYSTEM]
    for number, passage in zip(range(1, TURNS + 1), read_passages(), strict=False):
        *asked, answer = turn_of(number, passage)
        history += asked
        first = [SYSTEM, history[1]]  # stays beside the brief, as it is
        await reader.send([*first, *(rewritten(message, chance) for message in history[2:])], "gpt-4o")
        history.append(answer)
    compared = 0
    for (earlier, later), (one, two) in zip(pairwise(reader.bodies), pairwise(reader.briefs), strict=True):
        if one == two and one[0]:
            raws = raw_messages(earlier)
            end = brief_at(raws) + 1
            assert raw_messages(later)[:end] == raws[:end]
            compared += 1

    assert compared >= 8


async def test_thinking_left_out_later_leaves_the_brief(
    gateway: GatewayProcess, fake: FakeOpenAI, web: aiohttp.ClientSession
) -> None:
    """Answers are folded with their thinking and resent without it: that is still what the brief tells of."""
    fake.requests.clear()
    reader = Reader(web, gateway, fake, "sk-thinking")
    history: list[Message] = [SYSTEM]
    for number, passage in zip(range(1, TURNS + 1), read_passages(), strict=False):
        history += turn_of(number, passage)
    ask: Message = {"role": "user", "content": "Go on."}
    thought = [
        {**message, "reasoning_content": f"Hm, {place}."} if message["role"] == "assistant" else message
        for place, message in enumerate(history)
    ]
    await reader.send([*thought, ask], "gpt-4o")
    await reader.send([*history, ask], "gpt-4o")

    assert reader.briefs[0] == reader.briefs[1]
    assert reader.briefs[0][1] > TURNS
    assert reader.summaries >= 1


async def test_an_edit_among_rewritings_is_noticed(
    gateway: GatewayProcess, fake: FakeOpenAI, web: aiohttp.ClientSession
) -> None:
    """A client that rewrites everything, and one value in a call's arguments too, does not get the old brief."""
    fake.requests.clear()
    chance, reader = Random("edit"), Reader(web, gateway, fake, "sk-edit")
    history: list[Message] = [SYSTEM]
    for number, passage in zip(range(1, TURNS + 1), read_passages(), strict=False):
        history += turn_of(number, passage)
    history.append({"role": "user", "content": "Go on."})
    await reader.send(history, "gpt-4o")
    again = [SYSTEM, *(rewritten(message, chance) for message in history[1:])]
    await reader.send(again, "gpt-4o")
    at = next(place for place, message in enumerate(history) if message.get("tool_calls"))
    edited = json.loads(json.dumps(history[at]).replace('\\"page\\": 3', '\\"page\\": 4'))
    await reader.send([*again[:at], rewritten(edited, chance), *again[at + 1 :]], "gpt-4o")
    first, second, third = reader.briefs

    assert canonical_digest(edited) != canonical_digest(history[at])
    assert first == second != third
    assert first[1] >= at
