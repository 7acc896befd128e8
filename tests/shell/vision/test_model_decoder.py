"""A vision model behind an OpenAI-compatible server: what it is shown and asked, and every way that it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from gateway.core.routing.breaker import Event
from gateway.core.routing.routes import Roles, Route, StreamUsage, Timeouts
from gateway.core.vision.document import Box, Fidelity, Reading
from gateway.core.vision.fidelity import LOCAL_DPI
from gateway.ports_vision import VisionFault
from gateway.shell.upstream.client import HttpUpstream
from gateway.shell.vision.backend import BackendFault
from gateway.shell.vision.local_decoder import LocalDecoder
from gateway.shell.vision.model_decoder import ModelDecoder, ModelOptions
from gateway.tasks import TaskGroup
from tests.fakes.deepseek_ocr import Failing, FakeDeepSeekOCR, Trouble
from tests.fakes.documents import LinesReader
from tests.shell.vision.decodings import exchange, wanted

TABLE = "Tea | 4.50\nMilk | 1.20"
Make = Callable[..., ModelDecoder]


def route_to(base_url: str, key: str = "sk-vision", wait_s: float = 30.0) -> Route:
    timeouts = Timeouts(5.0, wait_s, wait_s, wait_s, wait_s)
    return Route("vision", base_url, key, ("*",), 0, Roles.OPEN, StreamUsage.NEVER, timeouts, max_retries=0)


def options_for(base_url: str, **changes: Any) -> ModelOptions:
    prompts = ("Free OCR.", "<|grounding|>Convert the document to markdown.")
    made = ModelOptions(route_to(base_url), "deepseek-ai/DeepSeek-OCR", *prompts, 8192, {}, 30.0)
    return replace(made, **changes)


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakeDeepSeekOCR]:
    async with FakeDeepSeekOCR(key="sk-vision") as server:
        yield server


@pytest_asyncio.fixture
async def make(fake: FakeDeepSeekOCR) -> AsyncIterator[Make]:
    async with HttpUpstream() as upstream:
        yield lambda **changes: ModelDecoder(options_for(fake.base_url, **changes), upstream, LinesReader())


async def decode(decoder: ModelDecoder, line: int = 0, fidelity: Fidelity = Fidelity.DEFAULT) -> Reading:
    return await decoder.decode(exchange(), wanted(line), fidelity)


async def test_a_region_is_shown_and_read(make: Make, fake: FakeDeepSeekOCR) -> None:
    """With the model's own prompt, the served options, and how sure the server is."""
    fake.text = "Invoice 2024-00917"
    reading = await decode(make(options={"skip_special_tokens": False, "vllm_xargs": {"ngram_size": 30}}))
    seen = fake.requests[0]

    assert reading == Reading("Invoice 2024-00917", pytest.approx(0.9), False)
    assert (seen.prompt, seen.key) == ("Free OCR.", "sk-vision")
    assert (seen.body["temperature"], seen.body["max_tokens"], seen.body["logprobs"]) == (0, 8192, True)
    assert (seen.body["skip_special_tokens"], seen.body["vllm_xargs"]) == (False, {"ngram_size": 30})


async def test_a_table_is_asked_for_as_markdown(make: Make, fake: FakeDeepSeekOCR) -> None:
    """Its marks of places go, and its cells come as those of other tables."""
    fake.text = TABLE
    reading = await decode(make(), line=1)

    assert reading.text == TABLE
    assert fake.requests[0].prompt == "<|grounding|>Convert the document to markdown."


async def test_a_finer_fidelity_shows_a_larger_picture(make: Make, fake: FakeDeepSeekOCR) -> None:
    for fidelity in Fidelity:
        await decode(make(), fidelity=fidelity)
    sides = [max(seen.size) for seen in fake.requests]

    assert sides == sorted(sides)
    assert sides[0] < sides[-1]


async def test_confidence_is_never_invented(make: Make, fake: FakeDeepSeekOCR) -> None:
    """Without probabilities it is null; with two readings, how far they agree."""
    fake.tells_logprobs = False
    once = await decode(make())
    twice = await decode(make(reads_twice=True))
    fake.tells_logprobs = True
    told = await decode(make(reads_twice=True))

    assert (once.confidence, twice.confidence, told.confidence) == (None, 1.0, pytest.approx(0.9))
    assert len(fake.requests) == 4
    assert fake.requests[1].size != fake.requests[2].size


async def test_a_server_that_refuses_logprobs_is_asked_without(make: Make, fake: FakeDeepSeekOCR) -> None:
    """Once refused, it is not asked for them again."""
    fake.refuses_logprobs = True
    decoder = make()
    readings = [await decode(decoder), await decode(decoder)]

    assert [reading.confidence for reading in readings] == [None, None]
    assert ["logprobs" in seen.body for seen in fake.requests] == [False, False]


@pytest.mark.parametrize(
    ("trouble", "is_cut"), [(Trouble.MALFORMED, False), (Trouble.LOOPS, True), (Trouble.CUT_OFF, True)]
)
async def test_odd_answers_keep_their_text(make: Make, fake: FakeDeepSeekOCR, trouble: Trouble, is_cut: bool) -> None:
    """Nothing in them is evaluated; what was cut off says so, and a loop is not worth the probability of its tokens."""
    fake.script.append(trouble)
    reading = await decode(make(max_tokens=600))

    assert "Hello from the picture." in reading.text
    assert reading.is_cut is is_cut
    assert reading.confidence is not None
    assert reading.confidence < 0.2 if trouble is Trouble.LOOPS else reading.confidence > 0.8


@pytest.mark.parametrize(
    ("trouble", "passes", "event"),
    [
        (Failing(400), False, Event.SUCCESS),
        (Failing(401), False, Event.SUCCESS),
        (Failing(429), True, Event.SUCCESS),
        (Failing(429, "7"), True, Event.COOLDOWN),
        (Failing(500), True, Event.FAILURE),
        (Failing(503), True, Event.FAILURE),
        (Failing(503, "7"), True, Event.COOLDOWN),
        (Trouble.NO_JSON, True, Event.FAILURE),
        (Trouble.NO_CHOICES, True, Event.FAILURE),
        (Trouble.CUT, True, Event.FAILURE),
    ],
)
async def test_what_fails_says_what_to_do_about_it(
    make: Make, fake: FakeDeepSeekOCR, trouble: Failing | Trouble, passes: bool, event: Event
) -> None:
    """And never in the server's own words, which may hold the text that it read."""
    fake.script.append(trouble if isinstance(trouble, Trouble) else replace(trouble, message="SECRET TEXT"))
    with pytest.raises(BackendFault) as failed:
        await decode(make())
    fault = failed.value

    assert (fault.kind, fault.is_passing, fault.event) == ("upstream", passes, event)
    assert fault.cooldown_s == (7.0 if event is Event.COOLDOWN else 0.0)
    assert "SECRET" not in fault.message
    assert (await decode(make())).text == "Hello from the picture."


async def test_a_server_that_hangs_is_late(make: Make, fake: FakeDeepSeekOCR) -> None:
    fake.script.append(Trouble.HANGS)
    with pytest.raises(BackendFault) as failed:
        await decode(make(timeout_s=0.05))

    assert (failed.value.kind, failed.value.is_passing) == ("timeout", True)


async def test_a_server_that_is_not_there(fake: FakeDeepSeekOCR) -> None:
    async with HttpUpstream() as upstream:
        decoder = ModelDecoder(options_for("http://127.0.0.1:1/v1"), upstream, LinesReader())
        with pytest.raises(BackendFault) as failed:
            await decode(decoder)

    assert (failed.value.kind, failed.value.is_passing, failed.value.event) == ("upstream", True, Event.FAILURE)


async def test_who_leaves_ends_the_call(make: Make, fake: FakeDeepSeekOCR) -> None:
    fake.script.append(Trouble.HANGS)
    decoding = asyncio.create_task(decode(make()))
    async with asyncio.timeout(10):
        while not fake.requests:
            await asyncio.sleep(0.01)
        decoding.cancel()
        while not fake.left:
            await asyncio.sleep(0.01)

    assert fake.left == 1


def test_another_model_or_prompt_is_another_version() -> None:
    made = options_for("http://h/v1")
    others = [
        replace(made, model="other"),
        replace(made, prompt="Read."),
        replace(made, table_prompt="Read."),
        replace(made, options={"a": 1}),
        replace(made, reads_twice=True),
        options_for("http://other/v1"),
    ]

    assert len({made.version, *(other.version for other in others)}) == 1 + len(others)
    assert made.version == options_for("http://h/v1", timeout_s=1.0).version


# On this machine


async def test_the_local_decoder_reads_at_the_size_of_the_fidelity() -> None:
    decoder = LocalDecoder(LinesReader(), TaskGroup(), reads_pictures=True)
    readings = {fidelity: await decoder.decode(exchange(), wanted(), fidelity) for fidelity in Fidelity}

    assert {fidelity: reading.text for fidelity, reading in readings.items()} == {
        fidelity: f"Invoice 2024-00917 at {LOCAL_DPI[fidelity]}" for fidelity in Fidelity
    }


@pytest.mark.parametrize(("line", "kind", "event"), [(2, "timeout", Event.FAILURE), (3, "unreadable", None)])
async def test_a_local_fault_is_final(line: int, kind: str, event: Event | None) -> None:
    """The same page would take as long again; what cannot be read is no fault of the machine's."""
    with pytest.raises(BackendFault) as failed:
        await LocalDecoder(LinesReader(), TaskGroup(), reads_pictures=True).decode(
            exchange(), wanted(line), Fidelity.DEFAULT
        )

    assert (failed.value.kind, failed.value.is_passing, failed.value.event) == (kind, False, event)


async def test_without_pictures_it_is_another_version() -> None:
    versions = {LocalDecoder(LinesReader(), TaskGroup(), reads_pictures=reads).version for reads in (True, False)}

    assert len(versions) == 2


async def test_a_document_that_has_gone_is_a_fault() -> None:
    async def gone() -> bytes:
        raise VisionFault("unreadable", "gone")

    with pytest.raises(VisionFault):
        await LocalDecoder(LinesReader(), TaskGroup(), reads_pictures=True).decode(
            exchange(), replace(wanted(), fetch_data=gone), Fidelity.DEFAULT
        )


async def test_a_local_reading_that_is_given_up_goes_on() -> None:
    """Its process has loaded its models, and is not ended for it."""

    class Slow(LinesReader):
        begun, release, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def decode(self, data: bytes, page: int, box: Box, dpi: int) -> Reading:
            self.begun.set()
            await self.release.wait()
            self.ended.set()
            return Reading("late", 1.0)

    reader = Slow()
    decoder = LocalDecoder(reader, TaskGroup(), reads_pictures=True)
    decoding = asyncio.create_task(decoder.decode(exchange(), wanted(), Fidelity.DEFAULT))
    await reader.begun.wait()
    decoding.cancel()
    await asyncio.wait([decoding])
    reader.release.set()
    async with asyncio.timeout(10):
        await reader.ended.wait()

    assert decoding.cancelled()


async def test_while_a_reading_goes_on_that_was_given_up_no_document_is_held() -> None:
    """The next waits for it before its bytes are fetched: those of many would wait in memory otherwise."""

    class Slow(LinesReader):
        begun, release = asyncio.Event(), asyncio.Event()

        async def decode(self, data: bytes, page: int, box: Box, dpi: int) -> Reading:
            self.begun.set()
            await self.release.wait()
            return Reading("late", 1.0)

    fetched = 0

    async def fetch() -> bytes:
        nonlocal fetched
        fetched += 1
        return b"text"

    reader, tasks = Slow(), TaskGroup()
    decoder = LocalDecoder(reader, tasks, reads_pictures=True)
    counted = replace(wanted(), fetch_data=fetch)
    first = asyncio.create_task(decoder.decode(exchange(), counted, Fidelity.DEFAULT))
    await reader.begun.wait()
    first.cancel()
    others = [asyncio.create_task(decoder.decode(exchange(), counted, Fidelity.DEFAULT)) for _ in range(5)]
    await asyncio.wait([first, *others], timeout=0.01)
    while_it_reads = fetched
    for given_up in others[1:]:
        given_up.cancel()
    reader.release.set()
    last = await asyncio.wait_for(others[0], 10)

    assert while_it_reads == 1
    assert (last.text, fetched) == ("late", 2)
