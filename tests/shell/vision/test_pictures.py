"""Pictures of chats, read behind the requests: once each, by client, within bounds, and kept."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from gateway.core.context.elide_parts import picture_key
from gateway.core.routing.routes import Roles
from gateway.core.vision.document import Box, LaidPage, LaidRegion, PageSize, Reading, RegionType
from gateway.core.wire.message import text_of
from gateway.exchange import Exchange
from gateway.ports_vision import Inspected, ReadPictures, VisionFault
from gateway.shell.state.key_value import MemoryStateStore
from gateway.shell.vision.pictures import PictureTexts
from gateway.tasks import TaskGroup
from tests.histories import body_of, exchange_of

ALICE, BOB = b"a" * 32, b"b" * 32
Message = dict[str, Any]


class FakeReader:
    """Reads as text what the picture's bytes are, and notes how often."""

    def __init__(self, confidence: float = 1.0) -> None:
        self.read: list[bytes] = []
        self.fault: VisionFault | None = None
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self._confidence = confidence

    async def inspect(self, data: bytes) -> Inspected:
        raise NotImplementedError

    async def pages(self, data: bytes, first: int) -> AsyncGenerator[LaidPage, None]:
        assert first == 1
        self.read.append(data)
        await self.may_go_on.wait()
        if self.fault is not None:
            raise self.fault
        region = LaidRegion(Box(0, 0, 9, 9), RegionType.TEXT, data.decode(), "", False, self._confidence)
        yield LaidPage(PageSize(9, 9), [region])
        yield LaidPage(PageSize(9, 9), [LaidRegion(Box(0, 0, 9, 9), RegionType.TEXT, "a second page")])

    async def render(self, data: bytes, page: int, box: Box | None, max_side_px: int) -> bytes:
        raise NotImplementedError

    async def decode(self, data: bytes, page: int, box: Box, dpi: int) -> Reading:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


def url_of(text: str) -> str:
    return "data:image/png;base64," + base64.b64encode(text.encode()).decode()


def showing(*urls: str) -> Message:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [{"type": "text", "text": "Look."}, *parts]}


def exchange_for(client: bytes) -> Exchange:
    return exchange_of(body_of([{"role": "user", "content": "hi"}]), client, Roles.OPEN)


class Desk:
    """Pictures, and chats that show them."""

    def __init__(self, reader: FakeReader, state: MemoryStateStore | None = None, **bounds: int) -> None:
        self.tasks = TaskGroup()
        self.state = state or MemoryStateStore(10**6)
        self.pictures = PictureTexts(reader, self.state, self.tasks, 60.0, **bounds)
        self.reads = 0
        self.looked = ReadPictures()

    async def ask(self, *messages: Message, client: bytes = ALICE) -> Mapping[str, str]:
        """What is known now."""
        raws = [json.dumps(message).encode() for message in messages]

        def read(at: int) -> bytes:
            self.reads += 1
            return raws[at]

        digests = {at: json.dumps(message).encode() for at, message in enumerate(messages)}
        self.looked = await self.pictures.look(exchange_for(client), digests, read)
        return {key: text for key, text in self.looked.texts.items() if text}

    async def known(self, *messages: Message, client: bytes = ALICE) -> Mapping[str, str]:
        """What is known once all was read."""
        await self.ask(*messages, client=client)
        await self.tasks.drain(10)
        return await self.ask(*messages, client=client)


async def test_a_picture_is_read_once() -> None:
    """Nothing waits for it; then its first page is told, each time, without looking at the message again."""
    reader = FakeReader()
    reader.may_go_on.clear()
    desk = Desk(reader)
    first = await desk.ask(showing(url_of("one")), showing(url_of("two"), url_of("one")))
    reader.may_go_on.set()
    told = await desk.known(showing(url_of("one")), showing(url_of("two"), url_of("one")))
    reads = desk.reads
    again = await desk.known(showing(url_of("one")), showing(url_of("two"), url_of("one")))

    assert first == {}
    assert told == again == {picture_key(url_of(text)): text for text in ("one", "two")}
    assert sorted(reader.read) == [b"one", b"two"]
    assert desk.reads == reads
    assert [text_of(json.loads(raw)).count("the text in it") for raw in desk.looked.told.values()] == [1, 2]
    assert desk.pictures.tally == {"read": 2}


async def test_what_shows_nothing_is_told_apart_from_what_is_not_read_yet() -> None:
    """The one has an empty text, the other none."""
    reader = FakeReader()
    desk = Desk(reader)
    blank, later = url_of(" "), url_of("later")
    await desk.known(showing(blank))
    reader.may_go_on.clear()
    await desk.ask(showing(blank, later))
    texts = desk.looked.texts
    reader.may_go_on.set()
    await desk.tasks.drain(10)

    assert texts == {picture_key(blank): ""}


async def test_no_client_gets_what_was_read_for_another() -> None:
    """The same picture is read for each."""
    reader = FakeReader()
    desk = Desk(reader)
    await desk.known(showing(url_of("one")))
    told = await desk.ask(showing(url_of("one")), client=BOB)

    assert told == {}
    assert reader.read.count(b"one") == 1


async def test_another_process_knows_it_too() -> None:
    """From the store of state, secrets masked; nothing is read again."""
    reader, secret = FakeReader(), "sk-proj-4f9Qx7LmZ2vT8kWc1Yb6Rd3H"
    desk = Desk(reader)
    message = showing(url_of(f"the key is {secret}"), url_of(" "))
    await desk.known(message)
    told = await Desk(reader, desk.state).known(message)
    values = [value async for _, value in desk.state.scan("picture_texts")]

    assert [*told.values()] == ["the key is [secret]"]
    assert len(reader.read) == 2
    assert not any(secret.encode() in value for value in values)


@pytest.mark.parametrize(
    ("url", "result"),
    [
        ("data:image/png,plain", "empty"),
        ("data:image/png;base64,A", "empty"),
        (url_of("   "), "empty"),
    ],
)
async def test_what_shows_no_text_is_not_read_again(url: str, result: str) -> None:
    """It is known that there is none."""
    reader = FakeReader()
    desk = Desk(reader)
    message = {**showing(url), "content": [*showing(url)["content"], {"type": "text", "text": ";base64,"}]}
    told = [await desk.known(message) for _ in range(3)]

    assert told == [{}, {}, {}]
    assert len(reader.read) <= 1
    assert desk.pictures.tally == {result: 1}


async def test_a_guess_is_not_told() -> None:
    """What may be no writing at all."""
    desk = Desk(FakeReader(confidence=0.3))

    assert await desk.known(showing(url_of("|l|I"))) == {}


@pytest.mark.parametrize(("kind", "is_kept"), [("unreadable", True), ("timeout", False), ("disabled", False)])
async def test_what_cannot_be_read_is_not_asked_for_again(kind: str, is_kept: bool) -> None:
    """Not by this process; by another one where it may be otherwise there."""
    reader = FakeReader()
    reader.fault = VisionFault(kind, "no")
    desk = Desk(reader)
    told = [await desk.known(showing(url_of("one"))) for _ in range(3)]
    reader.fault = None
    other = await Desk(reader, desk.state).known(showing(url_of("one")))

    assert told == [{}, {}, {}]
    assert desk.pictures.tally == {"failed": 1}
    assert (other == {}) is is_kept


@pytest.mark.parametrize("bounds", [{"max_waiting": 2}, {"max_waiting_bytes": 2 * len(url_of("1"))}])
async def test_what_waits_is_bounded(bounds: dict[str, int]) -> None:
    """What finds no room is read when it comes again."""
    reader = FakeReader()
    reader.may_go_on.clear()
    desk = Desk(reader, **bounds)
    messages = [showing(url_of(text)) for text in "123"]
    await desk.ask(*messages)
    dropped = desk.pictures.tally["dropped"]
    reader.may_go_on.set()
    await desk.tasks.drain(10)
    told = await desk.known(*messages)

    assert dropped == 1
    assert sorted(told.values()) == ["1", "2", "3"]


async def test_messages_without_pictures_cost_one_look() -> None:
    """And a picture by its address is not fetched."""
    desk = Desk(FakeReader())
    message = showing("https://example.com/a.png")
    told = [await desk.known(message, {"role": "user", "content": "words"}) for _ in range(3)]

    assert told == [{}, {}, {}]
    assert desk.reads == 2
