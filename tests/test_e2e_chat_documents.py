"""Chats and documents: what an indexed document says is found for its memory's chats, and old pictures become text."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from PIL import Image, ImageDraw, ImageFont
from reportlab.pdfgen.canvas import Canvas

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, config_for
from tests.test_e2e_chat_memory import BUDGET, Chat
from tests.vision_client import VisionClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
TOTAL = "The total of invoice INV-2024-00917 is EUR 12,400.50, due on 17 April."
QUESTION = "What is the total of invoice INV-2024-00917?"
WORDS = ("BILL OF LADING 7T-4093", "Consignee Margit Oyelaran", "Bergen depot gate 4")


def a_document() -> bytes:
    """Two pages of which the second tells the total."""
    kept = io.BytesIO()
    canvas = Canvas(kept)
    for page in ("Terms of delivery apply to all goods that leave the depot.", TOTAL):
        canvas.setFont("Helvetica", 12)
        for line in range(6):
            canvas.drawString(72, 760 - 20 * line, page if line == 2 else f"Line {line} says nothing of importance.")
        canvas.showPage()
    canvas.save()
    return kept.getvalue()


def a_picture() -> str:
    """A photograph of a label, as a data URL."""
    picture = Image.new("RGB", (900, 300), "white")
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(WORDS):
        draw.text((30, 30 + 80 * number), line, fill="black", font=ImageFont.load_default(40))
    kept = io.BytesIO()
    picture.save(kept, "PNG")
    return "data:image/png;base64," + base64.b64encode(kept.getvalue()).decode()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(fake: FakeOpenAI) -> AsyncIterator[GatewayProcess]:
    config = config_for(fake, token_budget=BUDGET, summarizer={"endpoint": ""})
    async with GatewayProcess(config) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_document_is_found_for_the_chats_of_its_memory(
    web: aiohttp.ClientSession, gateway: GatewayProcess, fake: FakeOpenAI
) -> None:
    """Under its name and page, with its place in the receipt; and for no other memory or client."""
    job = await VisionClient(web, gateway, KEY, "accounts").index(a_document(), "invoice.pdf")
    chat = Chat(web, gateway, fake)
    prompt, receipt = await chat.ask(QUESTION, "accounts")
    others = [
        (await chat.ask(QUESTION, memory, key))[0]
        for memory, key in (("other", KEY), (None, KEY), ("accounts", f"{KEY}-other"))
    ]

    assert (job["status"], job["pages"]) == ("succeeded", 2)
    assert len(prompt) == 2
    assert "lines that begin with d are from documents" in prompt[0]["content"]
    assert "[invoice.pdf, page 2]\nd" in prompt[0]["content"]
    assert TOTAL in prompt[0]["content"]
    assert prompt[1] == {"role": "user", "content": QUESTION}
    (shown, *_) = receipt["recalled"]["regions"]["shown"].values()
    assert (shown["doc_id"], shown["page"]) == (job["doc_id"], 2)
    assert shown["fidelity"] in ("1x", "5x", "10x", "20x")
    assert shown["matching_words"] >= 3
    assert "12,400" not in json.dumps(receipt)
    assert others == [[{"role": "user", "content": QUESTION}]] * 3


async def test_an_old_picture_becomes_what_stands_in_it(
    web: aiohttp.ClientSession, gateway: GatewayProcess, fake: FakeOpenAI
) -> None:
    """Read behind the requests while the chat nears its budget; told once its message is folded or elided."""
    chat = Chat(web, gateway, fake)
    picture = {"type": "image_url", "image_url": {"url": a_picture(), "detail": "high"}}
    messages: list[Json] = [
        {"role": "user", "content": [{"type": "text", "text": "This is the label."}, picture, picture]},
        {"role": "assistant", "content": "Thank you. " * 120},
        {"role": "user", "content": "Let us speak of the weather. " * 190},
    ]
    near, before = await chat.ask(messages)
    for _ in range(600):
        if (await gateway.metrics()).total("vision_chat_pictures_total", result="read"):
            break
        await asyncio.sleep(0.05)
    messages += [{"role": "assistant", "content": "It is fine. " * 120}, {"role": "user", "content": "And the label?"}]
    prompt, after = await chat.ask(messages)
    shown = json.dumps(prompt)

    assert near == messages[:3]
    assert (before["level"], after["level"]) == ("none", "extractive")
    assert all(words in shown for words in WORDS)
    assert "base64" not in shown
