"""Documents by meaning: an endpoint's vectors fill the store behind everybody's back, for searches and for chats."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from reportlab.pdfgen.canvas import Canvas

from tests.conftest import KEY
from tests.fakes.openai_server import Behaviour, FakeOpenAI, Recorded
from tests.gateway_process import GatewayProcess
from tests.test_e2e_chat_memory import Chat
from tests.test_e2e_memory_faults import by_sense, embedding_config
from tests.vision_client import VisionClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
SAID = "The cellist sleeps until ten in the west wing of the guest house."
QUESTION = "When does that musician get up?"


def a_document(said: str) -> bytes:
    """A page that says it, among twelve that do not."""
    kept = io.BytesIO()
    canvas = Canvas(kept)
    for page in (said, *(f"Bay {number} holds {number * 7} crates of paper." for number in range(12))):
        canvas.setFont("Helvetica", 12)
        canvas.drawString(72, 700, page)
        canvas.showPage()
    canvas.save()
    return kept.getvalue()


def is_question(seen: Recorded) -> bool:
    return seen.raw_path.startswith("/v1/embeddings") and b"musician" in seen.body


@pytest_asyncio.fixture(loop_scope="session")
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def filled(vision: VisionClient) -> list[Json]:
    """What is found by meaning, once all of it is there."""
    async with asyncio.timeout(30):
        while len(found := await vision.search(QUESTION, 50)) < 13:
            await asyncio.sleep(0.05)
        return found


async def test_what_shares_no_word_is_found(web: aiohttp.ClientSession) -> None:
    """By a search, which says why, and for a chat; of its own memory alone, and no more once it is deleted."""
    async with FakeOpenAI() as fake:
        fake.vector = by_sense
        async with GatewayProcess(embedding_config(fake, deadline_seconds=2)) as gateway:
            vision = VisionClient(web, gateway, KEY, "band")
            job = await vision.index(a_document(SAID), "house.pdf")
            found = await filled(vision)
            other = await VisionClient(web, gateway, KEY, "another").search(QUESTION)
            prompt, receipt = await Chat(web, gateway, fake).ask(QUESTION, "band")
            by_words = await vision.search("crates of paper")
            await vision.call("DELETE", f"/documents/{job['doc_id']}")
            gone = await vision.search(QUESTION)
            keys = {seen.header("authorization") for seen in fake.requests if "/embeddings" in seen.raw_path}

    assert found[0]["text"] == SAID
    assert found[0]["why_relevant"].startswith("near in meaning (similarity 1.00)")
    assert found[0]["score"] > 0.99
    assert found[1]["score"] < 0.1
    assert other == gone == []
    assert SAID in prompt[0]["content"]
    assert receipt["recalled"]["regions"]["shown"]
    assert "crates" in by_words[0]["text"]
    assert "`crates`" in by_words[0]["why_relevant"]
    assert keys == {"Bearer sk-provider-0123456789abcdef"}


async def test_an_endpoint_that_hangs_costs_its_deadline(web: aiohttp.ClientSession) -> None:
    """The search goes by words."""
    async with FakeOpenAI() as fake:
        release = asyncio.Event()
        fake.vector = by_sense
        fake.script += [Behaviour(stall_after=-1, release=release, when=is_question) for _ in range(9)]
        async with GatewayProcess(embedding_config(fake, deadline_seconds=0.3)) as gateway:
            vision = VisionClient(web, gateway, KEY, "band")
            await vision.index(a_document(SAID), "house.pdf")
            found = await vision.search("musician or cellist")
            release.set()

    assert [region["text"] for region in found] == [SAID]
    assert "`cellist`" in found[0]["why_relevant"]
