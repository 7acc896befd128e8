"""Documents over the wire: uploaded, fetched, searched, decoded, shown, deleted, each client for itself."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web as server
from PIL import Image

from gateway.core.access import key_digest
from tests.api_client import Told
from tests.conftest import KEY
from tests.fakes.deepseek_ocr import Failing, FakeDeepSeekOCR, Trouble
from tests.fakes.ocr_service import FakeOcrService
from tests.fakes.ocr_service import Trouble as Stall
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, config_for
from tests.made_documents import pdf_of, picture_of
from tests.memory_client import MemoryClient
from tests.vision_client import VisionClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
ANN, BOB, FACTS_ONLY = "sk-ann-0123456789abcdef", "sk-bob-0123456789abcdef", "sk-facts-0123456789abcdef"
INVOICE = pdf_of(
    ["Invoice 2024-00917 of the harbour office", "", "The berth fee for pier seven is due in March."],
    ["", "", "Crane rental is billed by the hour, and ends with the shift."],
)
UNKNOWN = "0" * 32
PNG = b"\x89PNG\r\n\x1a\n"


@pytest_asyncio.fixture(loop_scope="session")
async def vision(shared_gateway: GatewayProcess, web: aiohttp.ClientSession) -> AsyncIterator[VisionClient]:
    """One without documents."""
    own = VisionClient(web, shared_gateway, KEY)
    await own.forget()
    yield own


async def test_a_document_from_beginning_to_end(vision: VisionClient) -> None:
    """Uploaded, found with its reason, read at each fidelity, shown, listed, and gone."""
    job = await vision.index(INVOICE, "invoice.pdf", metadata=json.dumps({"shelf": "k3"}))
    (best, *_) = await vision.search("invoice 2024-00917")
    readings = {
        fidelity: (await vision.decode(best["region_id"], fidelity=fidelity))[0]
        for fidelity in ("20x", "10x", "5x", "1x")
    }
    shown = await vision.call("GET", f"/regions/{best['region_id']}/image")
    small = await vision.call("GET", f"/regions/{best['region_id']}/image?max_side_px=64")
    document = await vision.call("GET", f"/documents/{job['doc_id']}")
    listed = await vision.call("GET", "/documents")
    gone = await vision.call("DELETE", f"/documents/{job['doc_id']}")
    absent = [
        await vision.call("DELETE", f"/documents/{job['doc_id']}"),
        await vision.call("GET", f"/regions/{best['region_id']}/image"),
        await vision.call("POST", "/decode", {"region_ids": [best["region_id"]]}),
    ]

    assert (job["progress"], job["pages"], job["source"]) == (1.0, 2, "invoice.pdf")
    assert (best["page"], best["doc_id"], best["has_vt"], best["type"]) == (1, job["doc_id"], False, "text")
    assert best["page_size"] == {"width": 1224, "height": 1584}
    assert "2024-00917" in best["why_relevant"]
    assert 0 < best["score"] <= 1
    assert best["token_estimate"] > 0
    for fidelity, reading in readings.items():
        assert (reading["fidelity"], reading["confidence"]) == (fidelity, 1.0)
        assert "Invoice 2024-00917 of the harbour office" in reading["text"]
    assert (shown.status, shown.headers["content-type"]) == (200, "image/png")
    natural = Image.open(io.BytesIO(shown.body)).size
    assert abs(natural[0] - best["bbox"]["w"]) <= 2
    assert abs(natural[1] - best["bbox"]["h"]) <= 2
    assert 62 <= max(Image.open(io.BytesIO(small.body)).size) <= 64
    assert document.json["metadata"] == {"shelf": "k3"}
    assert document.json["media_type"] == "application/pdf"
    assert listed.json == {"documents": [document.json], "total": 1, "next_cursor": None}
    assert (gone.status, gone.body) == (204, b"")
    assert [(told.status, told.json["code"]) for told in absent] == [(404, "NOT_FOUND")] * 3
    assert absent[2].json["details"]["unknown"] == [best["region_id"]]
    assert await vision.search("invoice") == []


async def test_a_document_is_indexed_once(vision: VisionClient) -> None:
    """Unless that is forced."""
    first = await vision.index(INVOICE)
    again = await vision.index(INVOICE, "other name.pdf")
    forced = await vision.index(INVOICE, force_reindex="true")

    assert (again.get("duplicate"), again["doc_id"]) == (True, first["doc_id"])
    assert (forced.get("duplicate"), forced["doc_id"]) == (None, first["doc_id"])
    assert (await vision.call("GET", "/documents")).json["total"] == 1


async def test_filters(vision: VisionClient) -> None:
    job = await vision.index(INVOICE, metadata='{"shelf": "k3"}')
    question = "invoice and crane rental"

    assert {region["page"] for region in await vision.search(question)} == {1, 2}
    assert {region["page"] for region in await vision.search(question, page=2)} == {2}
    assert {region["page"] for region in await vision.search(question, pages={"to": 1})} == {1}
    assert await vision.search(question, type="code") == []
    assert await vision.search(question, doc_ids=[job["doc_id"]], metadata={"shelf": "k3"}) != []
    assert await vision.search(question, metadata={"shelf": "k4"}) == []
    assert len(await vision.search(question, top_k=1)) == 1


async def test_a_picture_of_text_is_read(vision: VisionClient) -> None:
    """What was read from a picture says so, and how sure the reading is."""
    job = await vision.index(picture_of("Warehouse ledger", "Total 4711 EUR"), "scan.png")
    (best, *_) = await vision.search("ledger total 4711")
    (reading,) = await vision.decode(best["region_id"], fidelity="1x")

    assert job["pages"] == 1
    assert best["has_vt"]
    assert "4711" in reading["text"]
    assert 0 < reading["confidence"] < 1


async def test_a_memory_takes_its_documents_along(shared_gateway: GatewayProcess, web: aiohttp.ClientSession) -> None:
    memories = MemoryClient(web, shared_gateway, KEY)
    trip, usual = (VisionClient(web, shared_gateway, KEY, memory) for memory in ("trip", None))
    await usual.forget()
    await trip.index(INVOICE)
    apart = await usual.search("invoice")
    deleted = await memories.call("DELETE", "/memories/trip")

    assert apart == []
    assert deleted.json == {"deleted": 0, "documents": 1}
    assert await trip.search("invoice") == []


@pytest.mark.parametrize(
    "data", [b"", b"plain text", b"%PDF-1.7\nbroken", INVOICE[: len(INVOICE) // 2], PNG + b"\0" * 100]
)
async def test_what_cannot_be_read_says_why(vision: VisionClient, data: bytes) -> None:
    """In its job, and nothing of it is kept."""
    ordered = await vision.upload(data)
    if not data:
        assert (ordered.status, ordered.json["details"]["field"]) == (400, "file")
        return
    job = await vision.ended(ordered)

    assert (job["status"], job["error"]["code"]) == ("failed", "VALIDATION_ERROR")
    assert job["error"]["message"]
    assert (await vision.call("GET", "/documents")).json["total"] == 0


WRONG: list[tuple[str, str, Any, str]] = [
    ("POST", "/search", {}, "query"),
    ("POST", "/search", {"query": 5}, "query"),
    ("POST", "/search", {"query": "x", "top_k": 51}, "top_k"),
    ("POST", "/search", {"query": "x", "filters": {"type": "picture"}}, "filters.type"),
    ("POST", "/search", {"query": "x", "filters": {"pages": {"from": "1"}}}, "filters.pages.from"),
    ("POST", "/search", {"query": "x", "more": 1}, "more"),
    ("POST", "/search", b'{"query": "x", "query": "y"}', "query"),
    ("POST", "/decode", {}, "region_ids"),
    ("POST", "/decode", {"region_ids": [UNKNOWN] * 17}, "region_ids"),
    ("POST", "/decode", {"region_ids": []}, "region_ids"),
    ("POST", "/decode", {"region_ids": [UNKNOWN], "fidelity": "3x"}, "fidelity"),
    ("POST", "/decode", {"region_ids": [7]}, "region_ids[0]"),
    ("POST", "/index", {}, "doc_url"),
    ("POST", "/index", {"doc_url": "http://example.com/a.pdf", "metadata": []}, "metadata"),
    ("POST", "/index", {"doc_url": "http://example.com/a.pdf", "force_reindex": 1}, "force_reindex"),
    ("GET", "/documents?limit=0", None, "limit"),
    ("GET", "/documents?cursor=x", None, "cursor"),
    ("GET", f"/regions/{UNKNOWN}/image?max_side_px=5000", None, "max_side_px"),
]


@pytest.mark.parametrize(("method", "path", "value", "field"), WRONG)
async def test_wrong_calls_name_their_field(
    vision: VisionClient, method: str, path: str, value: Any, field: str
) -> None:
    told = await vision.call(method, path, value)

    assert (told.status, told.json["code"], told.json["details"]["field"]) == (400, "VALIDATION_ERROR", field)


SOURCES = [
    "http://127.0.0.1/a.pdf",
    "http://localhost/a.pdf",
    "http://[::1]/a.pdf",
    "http://0x7f000001/a.pdf",
    "http://2130706433/a.pdf",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/a.pdf",
    "http://[::ffff:127.0.0.1]/a.pdf",
    "http://user:pass@example.com/a.pdf",
    "http://example.com/../a.pdf",
    "file:///etc/passwd",
    "/etc/passwd",
    "ftp://example.com/a.pdf",
    "data:application/pdf;base64,JVBERi0=",
]


@pytest.mark.parametrize("url", SOURCES)
async def test_no_private_address_is_ever_asked(vision: VisionClient, url: str) -> None:
    """At once where the URL says it, else in the job, once its host has been looked up."""
    told = await vision.call("POST", "/index", {"doc_url": url})
    if told.status == 202:
        job = await vision.ended(told)
        assert url == "http://localhost/a.pdf"
        assert (job["status"], job["error"]["code"]) == ("failed", "VALIDATION_ERROR")
        return

    assert (told.status, told.json["code"], told.json["details"]["field"]) == (400, "VALIDATION_ERROR", "doc_url")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/documents/..%2f..%2fetc"),
        ("GET", f"/documents/{UNKNOWN}"),
        ("DELETE", f"/documents/{UNKNOWN}"),
        ("GET", "/index/jobs/%00"),
        ("DELETE", f"/index/jobs/{UNKNOWN}"),
        ("GET", f"/regions/{UNKNOWN}/image"),
        ("GET", f"/regions/{UNKNOWN}"),
        ("GET", "/nothing"),
        ("POST", "/"),
    ],
)
async def test_what_is_not_there(vision: VisionClient, method: str, path: str) -> None:
    told = await vision.call(method, path)

    assert (told.status, told.json["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(("method", "path"), [("GET", "/search"), ("PUT", "/index"), ("POST", "/documents")])
async def test_a_path_takes_its_methods_only(vision: VisionClient, method: str, path: str) -> None:
    told = await vision.call(method, path)

    assert (told.status, told.json["code"]) == (405, "VALIDATION_ERROR")


@pytest.mark.parametrize("path", ["/search", "/decode", "/index"])
async def test_who_wants_no_ocr_gets_none(vision: VisionClient, path: str) -> None:
    told = await vision.call("POST", path, {"query": "x"}, **{"X-Use-OCR": "false"})

    assert (told.status, told.json["code"]) == (503, "UPSTREAM_DISABLED")


# Clients


def client(name: str, key: str, **options: Any) -> Json:
    return {"name": name, "key_sha256": key_digest(key).hex(), **options}


async def test_two_clients_share_nothing(shared_fake: FakeOpenAI, web: aiohttp.ClientSession) -> None:
    """Another's ids are unknown, in the same words; who may not use vision is told so."""
    clients = [client("ann", ANN), client("bob", BOB), client("facts", FACTS_ONLY, may=["facts"])]
    async with GatewayProcess(config_for(shared_fake, clients=clients)) as gateway:
        ann, bob, other = (VisionClient(web, gateway, key) for key in (ANN, BOB, FACTS_ONLY))
        job = await ann.index(INVOICE)
        (region, *_) = await ann.search("invoice")
        own = await bob.index(INVOICE)
        calls: list[tuple[str, str, Any]] = [
            ("GET", f"/documents/{job['doc_id']}", None),
            ("DELETE", f"/documents/{job['doc_id']}", None),
            ("GET", f"/index/jobs/{job['job_id']}", None),
            ("DELETE", f"/index/jobs/{job['job_id']}", None),
            ("GET", f"/regions/{region['region_id']}/image", None),
            ("POST", "/decode", {"region_ids": [region["region_id"]]}),
        ]
        foreign = [await bob.call(*call) for call in calls]
        denied = await other.call("POST", "/search", {"query": "invoice"})
        nobody = await VisionClient(web, gateway, "sk-nobody-0123456789").call("GET", "/documents")
        kept = await ann.call("GET", f"/documents/{job['doc_id']}")

    assert [told.status for told in foreign] == [404] * 6
    assert own["doc_id"] != job["doc_id"]
    assert "duplicate" not in own
    assert (denied.status, denied.json["code"]) == (403, "FORBIDDEN")
    assert (nobody.status, nobody.json["code"]) == (401, "UNAUTHORIZED")
    assert kept.status == 200


# Other configurations


def vision_config(fake: FakeOpenAI, **options: Any) -> Json:
    return config_for(fake, vision=options)


@pytest.mark.parametrize(
    ("sections", "calls"),
    [({"vision": {"enabled": False}}, ["/search", "/index"]), ({"server": {"workers": 2}}, ["/search"])],
)
async def test_where_vision_is_off(
    shared_fake: FakeOpenAI, web: aiohttp.ClientSession, sections: Json, calls: list[str]
) -> None:
    async with GatewayProcess(config_for(shared_fake, **sections)) as gateway:
        told = [await VisionClient(web, gateway, KEY).call("POST", path, {"query": "x"}) for path in calls]

    assert {(each.status, each.json["code"]) for each in told} == {(503, "UPSTREAM_DISABLED")}


async def test_without_the_extra_it_says_which_one(
    shared_fake: FakeOpenAI, web: aiohttp.ClientSession, tmp_path: Any
) -> None:
    """Where it is needed: lists and jobs are told all the same."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pypdfium2'] = None\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    async with GatewayProcess(config_for(shared_fake), {"PYTHONPATH": path}) as gateway:
        vision = VisionClient(web, gateway, KEY)
        told = await vision.upload(INVOICE)
        listed = await vision.call("GET", "/documents")
        absent = await vision.call("GET", f"/index/jobs/{UNKNOWN}")

    assert (told.status, told.json["code"]) == (503, "UPSTREAM_DISABLED")
    assert "pip install 'llm-gateway[vision]'" in told.json["message"]
    assert (listed.status, absent.status) == (200, 404)


async def test_documents_outlive_a_restart(shared_fake: FakeOpenAI, web: aiohttp.ClientSession, tmp_path: Any) -> None:
    config = vision_config(shared_fake, url=f"sqlite://{tmp_path}/documents.db")
    async with GatewayProcess(config) as gateway:
        job = await VisionClient(web, gateway, KEY).index(INVOICE)
    async with GatewayProcess(config) as gateway:
        vision = VisionClient(web, gateway, KEY)
        (region, *_) = await vision.search("invoice")
        again = await vision.index(INVOICE)

    assert region["doc_id"] == job["doc_id"]
    assert again["duplicate"]


async def test_workers_share_a_file(shared_fake: FakeOpenAI, web: aiohttp.ClientSession, tmp_path: Any) -> None:
    """Whichever takes an order, whichever carries it out, and whichever is asked."""
    options = {"url": f"sqlite://{tmp_path}/documents.db"}
    async with GatewayProcess(config_for(shared_fake, server={"workers": 2}, vision=options)) as gateway:
        # A connection each: the system deals them to the workers.
        clients = [VisionClient(aiohttp.ClientSession(), gateway, KEY) for _ in range(4)]
        documents = [pdf_of([f"Ledger {number} of the harbour"]) for number in range(4)]
        jobs = await asyncio.gather(*(each.index(data) for each, data in zip(clients, documents, strict=True)))
        found = [{region["doc_id"] for region in await each.search("ledger")} for each in clients]
        async with asyncio.timeout(30):
            while (samples := await gateway.metrics()).total("vision_documents") < 4:
                await asyncio.sleep(0.1)
        for each in clients:
            await each.close()

    assert found == [{job["doc_id"] for job in jobs}] * 4
    assert samples.total("vision_documents") == 4


async def test_a_store_without_room_says_so(shared_fake: FakeOpenAI, web: aiohttp.ClientSession) -> None:
    async with GatewayProcess(vision_config(shared_fake, max_bytes=65_536)) as gateway:
        told = await VisionClient(web, gateway, KEY).upload(b"x" * 100_000)

    assert (told.status, told.json["code"]) == (507, "UPSTREAM_ERROR")


async def test_an_upload_has_a_bound_of_its_own(shared_fake: FakeOpenAI, web: aiohttp.ClientSession) -> None:
    """Not that of other bodies, and all that are held at once are bounded together."""
    server_options = {"max_body_bytes": 20_000, "max_buffered_bytes": 150_000}
    config = config_for(shared_fake, server=server_options, vision={"max_document_bytes": 300_000})
    async with GatewayProcess(config) as gateway:
        vision = VisionClient(web, gateway, KEY)
        large = await vision.upload(b"x" * 100_000)
        too_large = await vision.upload(b"x" * 300_001)
        body = await vision.call("POST", "/search", {"query": "x" * 30_000})
        samples = await gateway.metrics()

    assert large.status == 202
    assert too_large.status in (413, 503)
    assert body.status == 413
    assert samples.total("gateway_buffered_bytes") == 0


async def test_uploads_come_in_any_way(vision: VisionClient) -> None:
    """In pieces of unknown length, or compressed; what is no form any more is refused."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n'
    form = head + INVOICE + b"\r\n--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}

    async def pieces(body: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(body), 333):
            yield body[at : at + 333]

    chunked = await vision.send_body(pieces(form), kind)
    packed = await vision.send_body(gzip.compress(form), kind | {"Content-Encoding": "gzip"})
    cut = await vision.send_body(gzip.compress(form)[:-20], kind | {"Content-Encoding": "gzip"})
    bomb = await vision.send_body(gzip.compress(head + b"\0" * 40_000_000), kind | {"Content-Encoding": "gzip"})
    ended = [await vision.ended(each) for each in (chunked, packed)]

    assert ended[0]["doc_id"] == ended[1]["doc_id"]
    assert [job["status"] for job in ended] == ["succeeded", "succeeded"]
    assert (cut.status, bomb.status) == (400, 413)


async def test_documents_are_fetched_from_where_they_may_be(
    shared_fake: FakeOpenAI, web: aiohttp.ClientSession, tmp_path: Any
) -> None:
    """Of a server whose address is allowed, and below a folder."""

    async def send(request: server.Request) -> server.Response:
        return server.Response(body=INVOICE, content_type="application/pdf")

    app = server.Application()
    app.router.add_get("/invoice.pdf", send)
    runner = server.AppRunner(app)
    await runner.setup()
    await server.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    (tmp_path / "crane.pdf").write_bytes(pdf_of(["Crane seven was greased in May."]))
    fetch = {"allow": ["127.0.0.1"], "allow_addresses": ["127.0.0.0/8"], "file_root": str(tmp_path)}
    async with GatewayProcess(vision_config(shared_fake, fetch=fetch)) as gateway:
        vision = VisionClient(web, gateway, KEY)
        urls = [f"http://127.0.0.1:{port}/invoice.pdf", f"file://{tmp_path}/crane.pdf"]
        jobs = [await vision.ended(await vision.call("POST", "/index", {"doc_url": url})) for url in urls]
        missing = await vision.ended(await vision.call("POST", "/index", {"doc_url": urls[0].replace("invoice", "no")}))
        outside = await vision.call("POST", "/index", {"doc_url": "http://127.0.0.2/a.pdf"})
        found = await vision.search("greased invoice")
    await runner.cleanup()

    assert [job["status"] for job in jobs] == ["succeeded", "succeeded"], jobs
    assert len({region["doc_id"] for region in found}) == 2
    assert (missing["status"], missing["error"]["code"]) == ("failed", "UPSTREAM_ERROR")
    assert outside.status == 400


# Backends


async def test_a_vision_model_reads_regions(shared_fake: FakeOpenAI, web: aiohttp.ClientSession) -> None:
    """What it says is remembered; its key and its words stay here."""
    async with FakeDeepSeekOCR(key="sk-vision", text="Invoice 2024-00917 read by a model") as model:
        config = vision_config(
            shared_fake, backend="openai", service_url=model.base_url, api_key="sk-vision", retry_backoff_ms=1
        )
        async with GatewayProcess(config) as gateway:
            vision = VisionClient(web, gateway, KEY)
            await vision.index(INVOICE)
            (region, *_) = await vision.search("invoice")
            model.script.extend([Failing(500), Failing(503)])
            first = await vision.decode(region["region_id"])
            again = await vision.decode(region["region_id"], region["region_id"])
            finer = await vision.decode(region["region_id"], fidelity="1x")
            samples = await gateway.metrics()

    assert first[0]["text"] == "Invoice 2024-00917 read by a model"
    assert first[0]["confidence"] == pytest.approx(0.9)
    assert again == [first[0], first[0]]
    assert finer[0]["fidelity"] == "1x"
    assert len(model.requests) == 4
    assert samples.total("vision_decode_cache_total", result="hit") == 1
    assert samples.total("vision_decode_cache_total", result="miss") == 2
    assert samples.total("vision_decode_tries_total", what="retries") == 2
    assert samples.total("vision_decode_requests_total", status="200") == 3
    assert samples.total("vision_decode_duration_seconds_count") == 3
    assert not any("read by a model" in line or "sk-vision" in line for line in gateway.lines)


async def test_a_model_that_fails_is_left_alone(shared_fake: FakeOpenAI, web: aiohttp.ClientSession) -> None:
    """502 while it fails, 503 while its breaker is open, 504 where it hangs; it is tried again after a while."""
    async with FakeDeepSeekOCR() as model:
        config = vision_config(
            shared_fake,
            backend="openai",
            service_url=model.base_url,
            retry_attempts=0,
            timeout_ms=300,
            circuit_breaker_failures=2,
            circuit_breaker_reset_secs=0.2,
        )
        async with GatewayProcess(config) as gateway:
            vision = VisionClient(web, gateway, KEY)
            await vision.index(INVOICE)
            (region, *_) = await vision.search("invoice")

            async def decode() -> Told:
                return await vision.call("POST", "/decode", {"region_ids": [region["region_id"]]})

            model.script.extend([Trouble.NO_JSON, Trouble.HANGS])
            told = [await decode() for _ in range(3)]
            asked = len(model.requests)
            async with asyncio.timeout(10):
                while (closed := await decode()).status != 200:
                    await asyncio.sleep(0.05)
            samples = await gateway.metrics()

    assert [(each.status, each.json["code"]) for each in told] == [
        (502, "UPSTREAM_ERROR"),
        (504, "TIMEOUT"),
        (503, "UPSTREAM_DISABLED"),
    ]
    assert asked == 2
    assert closed.json["results"][0]["text"] == "Hello from the picture."
    assert samples.total("vision_decode_errors_total", code="TIMEOUT") == 1
    assert samples.total("vision_breaker_state") == 0


async def test_who_leaves_ends_the_call_of_the_model(shared_fake: FakeOpenAI, web: aiohttp.ClientSession) -> None:
    """But not while another waits for the same region."""
    async with FakeDeepSeekOCR() as model:
        config = vision_config(shared_fake, backend="openai", service_url=model.base_url, timeout_ms=60_000)
        async with GatewayProcess(config) as gateway:
            vision = VisionClient(web, gateway, KEY)
            await vision.index(INVOICE)
            first, second = [region["region_id"] for region in await vision.search("invoice and crane rental")][:2]
            model.script.extend([Trouble.HANGS, Trouble.HANGS])
            callers = [asyncio.create_task(vision.decode(each)) for each in (first, second, second)]
            async with asyncio.timeout(30):
                while len(model.requests) < 2:
                    await asyncio.sleep(0.02)
                for caller in callers[:2]:
                    caller.cancel()
                while not model.left:
                    await asyncio.sleep(0.02)
            model.release.set()
            (kept,) = await callers[2]

    assert model.left == 1
    assert kept["text"] == "Hello from the picture."
    assert len(model.requests) == 2


async def test_a_service_indexes_and_reads(shared_fake: FakeOpenAI, web: aiohttp.ClientSession) -> None:
    """By URL; its ids are never seen."""
    url = "http://93.184.216.34/a.pdf"
    box = {"x": 10, "y": 20, "w": 300, "h": 40}
    regions = [
        {"region_id": "service-1", "page": 2, "bbox": box, "type": "table", "text": "Tea | 4.50", "caption": "Prices"}
    ]
    async with FakeOcrService(documents={url: regions}) as service:
        config = vision_config(shared_fake, backend="remote", service_url=service.base_url)
        async with GatewayProcess(config) as gateway:
            vision = VisionClient(web, gateway, KEY)
            job = await vision.ended(await vision.call("POST", "/index", {"doc_url": url}))
            (region,) = await vision.search("tea prices")
            (reading,) = await vision.decode(region["region_id"], fidelity="5x")
            picture = await vision.call("GET", f"/regions/{region['region_id']}/image")
            file = await vision.upload(INVOICE)
            private = await vision.call("POST", "/index", {"doc_url": "http://10.0.0.1/a.pdf"})
            absent = await vision.ended(await vision.call("POST", "/index", {"doc_url": "http://93.184.216.34/b.pdf"}))

    assert (job["status"], job["pages"]) == ("succeeded", 2)
    assert (region["page"], region["bbox"], region["type"], region["has_vt"]) == (2, box, "table", True)
    assert (reading["text"], reading["confidence"]) == ("Tea | 4.50 at 5x", 0.8)
    assert "service-1" not in json.dumps([region, reading, job])
    assert (picture.status, picture.json["code"]) == (422, "VALIDATION_ERROR")
    assert (file.status, file.json["details"]["field"]) == (400, "file")
    assert (private.status, private.json["details"]["field"]) == (400, "doc_url")
    assert (absent["status"], "could not be fetched" in absent["error"]["message"]) == ("failed", True)


async def test_an_order_that_a_gateway_was_at_when_it_stopped_is_the_next_ones(
    shared_fake: FakeOpenAI, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """It is given back before the ways to others are closed, and so has not failed by that."""
    url = "http://93.184.216.34/a.pdf"
    async with FakeOcrService(documents={url: [{"region_id": "s1", "text": "Tea"}]}) as service:
        service.script.append(Stall.HANGS)
        kept = f"sqlite://{tmp_path / 'documents.db'}"
        config = vision_config(
            shared_fake, backend="remote", service_url=service.base_url, url=kept, timeout_ms=600_000
        )
        async with GatewayProcess(config) as first:
            told = await VisionClient(web, first, KEY).call("POST", "/index", {"doc_url": url})
            await asyncio.wait_for(service.asked.wait(), 10)
        async with GatewayProcess(config) as second:
            job = await VisionClient(web, second, KEY).ended(told)

    assert job["status"] == "succeeded"


async def test_metrics_of_what_is_kept(shared_fake: FakeOpenAI, web: aiohttp.ClientSession) -> None:
    async with GatewayProcess(vision_config(shared_fake)) as gateway:
        vision = VisionClient(web, gateway, KEY)
        await vision.index(INVOICE)
        await vision.search("invoice")
        await vision.call("POST", "/search", {})
        async with asyncio.timeout(30):
            while (samples := await gateway.metrics()).total("vision_documents") < 1:
                await asyncio.sleep(0.1)

    assert samples.total("vision_regions") >= 2
    assert samples.total("vision_store_bytes") > 0
    assert samples.total("vision_index_queue_depth") == 0
    assert samples.total("vision_search_requests_total", status="200") == 1
    assert samples.total("vision_search_errors_total", code="VALIDATION_ERROR") == 1
    assert samples.total("vision_index_requests_total", status="202") == 1
    assert samples.total("vision_index_pages_total", source="document") == 2
    assert samples.total("vision_index_jobs_total", result="succeeded") == 1
    assert samples.total("vision_readers_total", what="started") >= 1
    assert samples.total("vision_index_page_seconds_count") == 2
