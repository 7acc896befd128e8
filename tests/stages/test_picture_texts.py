"""Old pictures in chats: their text takes their place once they have to go, and stays as it is from then on."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.core.context.elide_parts import pictures_of, tell_pictures
from gateway.core.wire.message import encode_message, reread_message
from gateway.exchange import Exchange
from gateway.ports_vision import ReadPictures
from tests.histories import Message, Sent, World, budget_of
from tests.stages.test_recall_and_shortening import ask, run, say

READ = "INVOICE 2024-00917, total EUR 12,400.50"
HEADER = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (1024).to_bytes(4) * 2 + b"\x08\x02\x00\x00\x00"
URL = f"data:image/png;base64,{base64.b64encode(HEADER).decode()}"
PICTURE = {"type": "image_url", "image_url": {"url": URL}}
SHOW: Message = {"role": "user", "content": [{"type": "text", "text": "This is the invoice."}, PICTURE, PICTURE]}


class FakePictures:
    """Knows a text for every picture, once it may."""

    def __init__(self, knows: bool = True) -> None:
        self.knows = knows
        self.asked: list[list[int]] = []

    async def look(
        self, exchange: Exchange, messages: Mapping[int, bytes], read: Callable[[int], msgspec.Raw | bytes]
    ) -> ReadPictures:
        self.asked.append(sorted(messages))
        shown = {at: reread_message(read(at)) for at in messages}
        texts = {key: READ for message in shown.values() for key in pictures_of(message)} if self.knows else {}
        told = {at: encode_message(tell_pictures(message, texts)) for at, message in shown.items() if texts}
        return ReadPictures(texts, told)


def history(words: int) -> list[Message]:
    return [SHOW, say("I see it. " * 20), ask("Now something else. " * words), say("Yes."), ask("And now?")]


def world_of(pictures: FakePictures, **options: Any) -> World:
    return World(budget_of(2000, brief=200, recent=200, retrieved=300), pictures=pictures, **options)


def first_shown(sent: Sent) -> str:
    """The first message as it is forwarded, as text."""
    return "".join(part.get("text", "") for part in sent.shown[0]["content"])


def test_an_old_picture_is_forwarded_as_its_text() -> None:
    """The level says elided, and the receipt that it was read; the prompt then only grows."""
    pictures = FakePictures()
    world = world_of(pictures)
    chat = history(90)
    first = run(world.send(chat))
    pictures.knows = False
    second = run(world.send([*chat, say("Fine."), ask("Go on.")]))

    assert first.receipt.has_overflowed
    assert READ in first_shown(first)
    assert "This is the invoice." in first_shown(first)
    assert (first.receipt.level.value, first.receipt.read_messages) == ("elided", 1)
    assert second.raws[: len(first.raws)] == first.raws
    assert pictures.asked[0] == [0]


def test_one_that_is_not_read_yet_is_left_out() -> None:
    """Its text comes with the next compaction, not between two: the prompt only grows."""
    pictures = FakePictures(knows=False)
    world = world_of(pictures)
    chat = history(90)
    first = run(world.send(chat))
    pictures.knows = True
    second = run(world.send([*chat, say("Fine."), ask("Go on.")]))

    assert "[left out: picture" in first_shown(first)
    assert first.receipt.read_messages == 0
    assert second.raws[: len(first.raws)] == first.raws


def test_a_chat_far_from_its_budget_is_not_looked_at() -> None:
    """Near it, the pictures are read ahead of need, and forwarded as they are."""
    pictures = FakePictures()
    far = run(world_of(pictures, soft_ratio=0.8).send([SHOW]))
    asked_far = list(pictures.asked)
    near = run(world_of(pictures, soft_ratio=0.8).send(history(30)))

    assert asked_far == []
    assert pictures.asked == [[0]]
    assert far.forwarded == far.body
    assert near.forwarded == near.body


def test_a_folded_picture_is_found_by_what_stands_in_it() -> None:
    """Where its message is folded, its text is in what is recalled for a question, and the brief knows its values."""
    pictures = FakePictures()
    chat = [SHOW, say("I see it."), *[turn for n in range(40) for turn in (ask(f"Day {n}. " * 20), say("Fine. " * 20))]]
    sent = run(world_of(pictures).send([*chat, ask("What was the total of the invoice?")]))
    without = run(world_of(FakePictures(knows=False)).send([*chat, ask("What was the total of the invoice?")]))

    assert sent.receipt.folded_messages > 40
    assert READ in sent.forwarded.decode()
    assert READ not in without.forwarded.decode()
    assert sent.receipt.prompt_tokens <= sent.limit
