"""A service that speaks `/v1/ocr`: what it indexes becomes pages of ours, and its regions are decoded by its ids."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.core.vision.document import Fidelity, Region
from gateway.ports_vision import VisionFault
from gateway.shell.upstream.client import HttpUpstream
from gateway.shell.vision import remote_service
from gateway.shell.vision.backend import BackendFault
from gateway.shell.vision.remote_service import RemoteDecoder, RemoteFetcher, RemoteReader, RemoteService
from tests.fakes.ocr_service import FakeOcrService, Trouble
from tests.shell.vision.decodings import exchange, wanted
from tests.shell.vision.test_model_decoder import route_to

URL = "http://documents.test/a.pdf"
REGIONS: list[dict[str, Any]] = [
    {"region_id": "s/1", "page": 1, "bbox": {"x": 10, "y": 10, "w": 50, "h": 9}, "type": "table", "text": "Tea | 4.50"},
    {"region_id": "s/2", "page": 2, "bbox": {"x": 10, "y": 10, "w": 50, "h": 9}, "text": "Milk"},
]


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakeOcrService]:
    async with FakeOcrService(documents={URL: REGIONS}) as server:
        yield server


@pytest_asyncio.fixture
async def service(fake: FakeOcrService) -> AsyncIterator[RemoteService]:
    async with HttpUpstream() as upstream:
        yield RemoteService(route_to(fake.base_url), upstream, 30.0)


def fetcher(service: RemoteService, timeout_s: float = 30.0) -> RemoteFetcher:
    return RemoteFetcher(service, lambda url: None, timeout_s)


async def ours(data: bytes) -> list[Region]:
    """The regions of a document, as they would be stored."""
    numbered = [(number, page) async for number, page in _numbered(data)]
    return [
        Region(f"{number}{place}" * 16, "d" * 32, number, laid, 1, page.size)
        for number, page in numbered
        for place, laid in enumerate(page.regions)
    ]


async def _numbered(data: bytes) -> AsyncIterator[tuple[int, Any]]:
    number = 0
    async for page in RemoteReader().pages(data, 1):
        number += 1
        yield number, page


async def test_from_a_url_to_a_reading(service: RemoteService, fake: FakeOcrService) -> None:
    data = await fetcher(service).fetch(URL)
    regions = await ours(data)
    decoder = RemoteDecoder(service)
    readings = [await decoder.decode(exchange(), wanted(data=data, region=region), Fidelity.FINE) for region in regions]

    assert (await RemoteReader().inspect(data)).pages == 2
    assert [region.laid.text for region in regions] == ["Tea | 4.50", "Milk"]
    assert [(reading.text, reading.confidence) for reading in readings] == [
        ("Tea | 4.50 at 5x", 0.8),
        ("Milk at 5x", 0.8),
    ]
    assert [body["region_ids"] for _, path, body in fake.calls if path.endswith("decode")] == [["s/1"], ["s/2"]]


async def test_the_same_document_is_the_same_bytes(service: RemoteService) -> None:
    """Whatever job told of it: so it is known again."""
    assert await fetcher(service).fetch(URL) == await fetcher(service).fetch(URL)


async def test_a_url_that_may_not_be_asked_for_never_reaches_the_service(
    service: RemoteService, fake: FakeOcrService
) -> None:
    def refuse(url: str) -> None:
        raise VisionFault("forbidden", "no")

    with pytest.raises(VisionFault) as failed:
        await RemoteFetcher(service, refuse, 30.0).fetch(URL)

    assert failed.value.kind == "forbidden"
    assert fake.calls == []


async def test_a_job_that_fails_says_why(service: RemoteService) -> None:
    with pytest.raises(VisionFault) as failed:
        await fetcher(service).fetch("http://documents.test/absent.pdf")

    assert failed.value.kind == "unreadable"
    assert "could not be fetched" in failed.value.message


async def test_polls_that_fail_are_made_again(service: RemoteService, fake: FakeOcrService) -> None:
    """A few times; then the job fails."""
    fake.polls = 0

    async def after(*troubles: Trouble) -> bytes:
        calls = len(fake.calls)
        order = await service.index(URL)
        assert len(fake.calls) == calls + 1
        fake.script.extend(troubles)
        job = await fetcher(service)._finished(order)
        return remote_service.render_kept(URL, job)

    with_trouble = await after(Trouble.BROKEN, Trouble.GARBAGE)
    with pytest.raises(BackendFault):
        await after(*[Trouble.BROKEN] * 5)

    assert with_trouble == await fetcher(service).fetch(URL)


@pytest.mark.parametrize(
    ("trouble", "kind"), [(Trouble.GARBAGE, "upstream"), (Trouble.BROKEN, "upstream"), (Trouble.ODD_STATUS, "upstream")]
)
async def test_an_order_that_is_not_taken(
    service: RemoteService, fake: FakeOcrService, trouble: Trouble, kind: str
) -> None:
    fake.script.append(trouble)
    with pytest.raises(VisionFault) as failed:
        await fetcher(service).fetch(URL)

    assert failed.value.kind == kind


async def test_a_service_that_hangs_is_given_up(service: RemoteService, fake: FakeOcrService) -> None:
    fake.script.append(Trouble.HANGS)
    with pytest.raises(VisionFault) as failed:
        await fetcher(service, 0.05).fetch(URL)

    assert failed.value.kind == "timeout"


@pytest.mark.parametrize("trouble", [Trouble.GARBAGE, Trouble.BROKEN])
async def test_a_decoding_that_fails(service: RemoteService, fake: FakeOcrService, trouble: Trouble) -> None:
    data = await fetcher(service).fetch(URL)
    (region, _) = await ours(data)
    fake.script.append(trouble)
    with pytest.raises(BackendFault) as failed:
        await RemoteDecoder(service).decode(exchange(), wanted(data=data, region=region), Fidelity.FINE)

    assert (failed.value.kind, failed.value.is_passing) == ("upstream", True)


async def test_a_region_that_the_service_has_forgotten(service: RemoteService, fake: FakeOcrService) -> None:
    data = await fetcher(service).fetch(URL)
    (region, _) = await ours(data)
    fake.documents.clear()
    with pytest.raises(BackendFault):
        await RemoteDecoder(service).decode(exchange(), wanted(data=data, region=region), Fidelity.FINE)


async def test_a_region_that_it_never_told_of(service: RemoteService) -> None:
    data = await fetcher(service).fetch(URL)
    with pytest.raises(VisionFault) as failed:
        await RemoteDecoder(service).decode(exchange(), wanted(data=data), Fidelity.FINE)

    assert failed.value.kind == "unreadable"


async def test_neither_files_nor_pictures() -> None:
    reader = RemoteReader()
    faults = []
    for asking in (reader.inspect(b"%PDF-1.7"), reader.render(b"{}", 1, None, 9), reader.decode(b"{}", 1, None, 9)):  # type: ignore[arg-type]
        with pytest.raises(VisionFault) as failed:
            await asking
        faults.append(failed.value.kind)
    await reader.close()

    assert faults == ["unreadable"] * 3
