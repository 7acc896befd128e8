"""The stages of vision over a real store: whose documents they see, what they refuse, and that faults stay apart."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from gateway.core.errors import Refusal
from gateway.core.facts.memory import Vector
from gateway.core.vision.document import Box, Fidelity
from gateway.core.wire.headers import Headers
from gateway.core.wire.overrides import read_overrides
from gateway.core.wire.paths import endpoint_of
from gateway.core.wire.request import Endpoint
from gateway.exchange import Client, Exchange
from gateway.pipeline import Stage
from gateway.ports_vision import DocumentStore, VisionFault
from gateway.seeing import Seeing, VisionRules, refuse_switched_off, refuse_unwanted
from gateway.settings_vision import Vision
from gateway.shell.vision.local_decoder import LocalDecoder
from gateway.shell.vision.sqlite import SqliteDocumentStore
from gateway.stages.answer_document import AnswerDocumentStage
from gateway.stages.answer_job import AnswerJobStage
from gateway.stages.decode_regions import DecodeRegionsStage
from gateway.stages.index_document import IndexDocumentStage
from gateway.stages.list_documents import ListDocumentsStage
from gateway.stages.search_regions import SearchRegionsStage
from gateway.stages.show_region import ShowRegionStage
from gateway.tasks import TaskGroup
from tests.fakes.documents import LinesReader
from tests.fakes.jobs import ImmediateJobs
from tests.stages.test_memory_stages import Reading, Sending, seen

Json = dict[str, Any]
ANN, BOB = b"a" * 32, b"b" * 32
ROOT = "/api/v1/vision"
TEXT = b"Invoice 2024-00917\nTea | 4.50\n!timeout\n!unreadable\n!timeout\fMilk and invoice"
UNKNOWN = "0" * 32


class Api:
    """Calls of the stages, as a client makes them."""

    def __init__(self, store: SqliteDocumentStore, rules: VisionRules) -> None:
        reader = LinesReader()
        self.jobs = ImmediateJobs(store, reader, queue_max=2)
        decoder = LocalDecoder(reader, TaskGroup(), reads_pictures=True)
        self.seeing = Seeing(store, reader, decoder, self.jobs, rules, Counter(), self._check)
        self.stages: dict[Endpoint, Stage] = {
            Endpoint.VISION_SEARCH: SearchRegionsStage(self.seeing),
            Endpoint.VISION_DECODE: DecodeRegionsStage(self.seeing),
            Endpoint.VISION_INDEX: IndexDocumentStage(self.seeing),
            Endpoint.VISION_JOB: AnswerJobStage(self.seeing),
            Endpoint.VISION_DOCUMENTS: ListDocumentsStage(self.seeing),
            Endpoint.VISION_DOCUMENT: AnswerDocumentStage(self.seeing),
            Endpoint.VISION_IMAGE: ShowRegionStage(self.seeing, TaskGroup()),
        }

    def _check(self, url: str) -> None:
        if url not in self.jobs.web:
            raise VisionFault("forbidden", "that host may not be asked")

    async def call(
        self,
        method: str,
        path: str,
        body: Any = b"",
        owner: bytes = ANN,
        memory: str | None = None,
        kind: str = "application/json",
        headers: Headers = (),  # type: ignore[assignment]
    ) -> Reading:
        pieces: Sequence[bytes] = [body if isinstance(body, bytes) else json.dumps(body).encode()]
        return await self.send(method, path, pieces, owner, memory, kind, headers)

    async def send(
        self,
        method: str,
        path: str,
        pieces: Sequence[bytes],
        owner: bytes,
        memory: str | None,
        kind: str,
        headers: Headers,
    ) -> Reading:
        target = ROOT + path
        outbound = Reading(_set())
        sent = [("Content-Type", kind), *headers, *([("x-gateway-memory", memory)] if memory else [])]
        plain = target.partition("?")[0]
        exchange = Exchange(
            "r", method, plain, target, sent, endpoint_of(method, plain), Sending(pieces), outbound, 0.0
        )
        exchange.client = Client("c", owner)
        exchange.overrides = read_overrides(sent)
        await refuse_unwanted(exchange)
        await self.stages[exchange.endpoint](exchange)
        return seen(exchange)

    async def index(self, data: bytes = TEXT, owner: bytes = ANN, memory: str | None = None, **fields: str) -> Json:
        body, kind = form({"file": data, **{name: value.encode() for name, value in fields.items()}})
        told = await self.call("POST", "/index", body, owner, memory, kind)
        assert told.status == 202
        job = json.loads(
            (await self.call("GET", f"/index/jobs/{json.loads(told.written)['job_id']}", owner=owner)).written
        )
        return dict(job)

    async def found(
        self, query: str = "invoice", owner: bytes = ANN, memory: str | None = None, **filters: Any
    ) -> list[Json]:
        told = await self.call("POST", "/search", {"query": query, "filters": filters}, owner, memory)
        regions: list[Json] = json.loads(told.written)["regions"]
        return regions

    async def ids(self) -> list[str]:
        """Of the regions of `TEXT`, by their places."""
        lines = TEXT.decode().replace("\f", "\n").splitlines()
        regions = {
            region["text"]: region["region_id"] for word in lines for region in await self.found(word.strip("!"))
        }
        return [regions[line] for line in dict.fromkeys(lines)]


class WaitingReader(LinesReader):
    """Renders once it may."""

    def __init__(self) -> None:
        self.begun, self.may_go_on = asyncio.Event(), asyncio.Event()
        self.made = 0

    async def render(self, data: bytes, page: int, box: Box | None, max_side_px: int) -> bytes:
        self.begun.set()
        await self.may_go_on.wait()
        self.made += 1
        return await super().render(data, page, box, max_side_px)


class CountedStore:
    """Counts how often the bytes of a document are fetched."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self.fetched = 0

    async def regions(self, owner: bytes, region_ids: Sequence[str]) -> Any:
        return await self._store.regions(owner, region_ids)

    async def data_of(self, owner: bytes, doc_id: str) -> bytes | None:
        self.fetched += 1
        return await self._store.data_of(owner, doc_id)


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def form(parts: dict[str, bytes], name: str = "a.txt") -> tuple[bytes, str]:
    body = b""
    for part, data in parts.items():
        named = f'; filename="{name}"' if part == "file" else ""
        body += f'--b0\r\nContent-Disposition: form-data; name="{part}"{named}\r\n\r\n'.encode() + data + b"\r\n"
    return body + b"--b0--\r\n", "multipart/form-data; boundary=b0"


@pytest_asyncio.fixture
async def store() -> AsyncIterator[SqliteDocumentStore]:
    made = SqliteDocumentStore()
    yield made
    await made.close()


@pytest.fixture
def api(store: SqliteDocumentStore) -> Api:
    return Api(store, VisionRules(max_document_bytes=4096))


async def refusal_of(calling: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        await calling
    return refused.value


async def test_a_document_from_beginning_to_end(api: Api) -> None:
    job = await api.index(metadata='{"shelf": 7}')
    again = await api.index()
    regions = await api.found("Invoice 2024-00917")
    document = json.loads((await api.call("GET", f"/documents/{job['doc_id']}")).written)
    listed = json.loads((await api.call("GET", "/documents")).written)
    gone = await api.call("DELETE", f"/documents/{job['doc_id']}")
    absent = await refusal_of(api.call("DELETE", f"/documents/{job['doc_id']}"))

    assert (job["status"], job["progress"], job["pages"], job["source"]) == ("succeeded", 1.0, 2, "a.txt")
    assert (again["duplicate"], again["doc_id"]) == (True, job["doc_id"])
    assert [(region["page"], region["text"]) for region in regions] == [
        (1, "Invoice 2024-00917"),
        (2, "Milk and invoice"),
    ]
    assert regions[0]["why_relevant"].startswith("holds `")
    assert regions[0]["score"] > regions[1]["score"]
    assert (document["pages"], document["metadata"], document["size_bytes"]) == (2, {"shelf": 7}, len(TEXT))
    assert listed == {"documents": [document], "total": 1, "next_cursor": None}
    assert (gone.status, absent.status) == (204, 404)
    assert await api.found() == []


async def test_filters(api: Api) -> None:
    job = await api.index(metadata='{"year": 2024}')

    assert [region["page"] for region in await api.found(page=2)] == [2]
    assert [region["type"] for region in await api.found("tea invoice", type="table")] == ["table"]
    assert len(await api.found(doc_id=job["doc_id"])) == 2
    assert await api.found(doc_id="other") == []
    assert len(await api.found(metadata={"year": 2024})) == 2
    assert await api.found(metadata={"year": 2025}) == []


async def test_another_client_and_another_memory_see_nothing(api: Api) -> None:
    """Another client's ids are as unknown as any; one's own are known in each of one's memories."""
    job = await api.index()
    ids = await api.ids()
    calls: list[tuple[str, str, Any]] = [
        ("GET", f"/documents/{job['doc_id']}", b""),
        ("DELETE", f"/documents/{job['doc_id']}", b""),
        ("GET", f"/regions/{ids[0]}/image", b""),
        ("GET", f"/index/jobs/{job['job_id']}", b""),
        ("DELETE", f"/index/jobs/{job['job_id']}", b""),
        ("POST", "/decode", {"region_ids": [ids[0]]}),
    ]
    foreign = [await refusal_of(api.call(method, path, body, BOB)) for method, path, body in calls]
    known = {job["doc_id"], ids[0], job["job_id"]}
    unknown = [
        await refusal_of(api.call(method, _without(path, known), {"region_ids": [UNKNOWN]} if body else b"", BOB))
        for method, path, body in calls
    ]

    assert [refusal.status for refusal in foreign] == [404] * 6
    assert [_without(refusal.message, known) for refusal in foreign] == [refusal.message for refusal in unknown]
    assert await api.found(owner=BOB) == await api.found(memory="other") == []
    assert json.loads((await api.call("GET", "/documents", owner=BOB)).written)["total"] == 0
    assert len(await api.found()) == 2


def _without(text: str, known: set[str]) -> str:
    for each in known:
        text = text.replace(each, UNKNOWN)
    return text


@pytest.mark.parametrize("wrong", ["x", "..%2f..", "0" * 31, "G" * 32, "%00"])
async def test_what_is_no_id_is_unknown(api: Api, wrong: str) -> None:
    for method, path in (
        ("GET", f"/documents/{wrong}"),
        ("GET", f"/regions/{wrong}/image"),
        ("DELETE", f"/index/jobs/{wrong}"),
    ):
        assert (await refusal_of(api.call(method, path))).status == 404


async def test_decoding_keeps_faults_apart(api: Api) -> None:
    """In the order that was asked for; one that fails fails no other."""
    await api.index()
    ids = await api.ids()
    told = await api.call("POST", "/decode", {"region_ids": [ids[1], ids[2], ids[0], ids[3], ids[1]], "fidelity": "1x"})
    results = json.loads(told.written)["results"]

    assert [result["region_id"] for result in results] == [ids[1], ids[2], ids[0], ids[3], ids[1]]
    assert [result.get("error", {}).get("code") for result in results] == [
        None,
        "TIMEOUT",
        None,
        "VALIDATION_ERROR",
        None,
    ]
    assert results[0] == results[4]
    assert results[0]["text"].startswith("Tea | 4.50 at")
    assert (results[0]["fidelity"], results[0]["confidence"]) == ("1x", 1.0)


async def test_a_documents_bytes_are_fetched_once(api: Api, store: SqliteDocumentStore) -> None:
    """For all regions of a request; and not before one of them is read."""
    await api.index()
    ids = await api.ids()
    fetched: list[str] = []
    usual = store.data_of

    async def counted(owner: bytes, doc_id: str) -> bytes | None:
        fetched.append(doc_id)
        return await usual(owner, doc_id)

    store.data_of = counted  # type: ignore[method-assign]
    await api.call("POST", "/decode", {"region_ids": [ids[0], ids[1], ids[4]]})

    assert len(fetched) == 1


@pytest.mark.parametrize(("line", "status"), [(2, 504), (3, 422)])
async def test_where_all_fail_alike_the_request_does(api: Api, line: int, status: int) -> None:
    await api.index()
    ids = await api.ids()

    assert (await refusal_of(api.call("POST", "/decode", {"region_ids": [ids[line]]}))).status == status


async def test_where_all_fail_each_in_its_way_each_is_told(api: Api) -> None:
    await api.index()
    ids = await api.ids()
    told = json.loads((await api.call("POST", "/decode", {"region_ids": ids[2:4]})).written)

    assert [result["error"]["code"] for result in told["results"]] == ["TIMEOUT", "VALIDATION_ERROR"]


async def test_unknown_regions_are_named(api: Api) -> None:
    await api.index()
    ids = await api.ids()
    refusal = await refusal_of(api.call("POST", "/decode", {"region_ids": [ids[0], UNKNOWN, "odd"]}))

    assert refusal.status == 404
    assert refusal.details is not None
    assert refusal.details["unknown"] == [UNKNOWN, "odd"]


async def test_a_region_as_a_picture(api: Api) -> None:
    await api.index()
    ids = await api.ids()
    natural = await api.call("GET", f"/regions/{ids[0]}/image")
    small = await api.call("GET", f"/regions/{ids[0]}/image?max_side_px=80")

    assert Image.open(io.BytesIO(natural.written)).size == (800, 40)
    assert Image.open(io.BytesIO(small.written)).size == (80, 4)
    assert (await refusal_of(api.call("GET", f"/regions/{ids[0]}/image?max_side_px=0"))).status == 400


async def test_pictures_that_wait_hold_no_documents(api: Api) -> None:
    """However many ask at once, the bytes of few documents are held; who waits for too long is told so."""
    await api.index()
    region_id = (await api.ids())[0]
    reader = WaitingReader()
    rules = VisionRules(wait_s=0.05)
    fetched = CountedStore(api.seeing.store)
    seeing = Seeing(fetched, reader, api.seeing.decoder, api.jobs, rules, Counter(), api._check)  # type: ignore[arg-type]
    api.stages[Endpoint.VISION_IMAGE] = ShowRegionStage(seeing, TaskGroup())
    asked = [asyncio.create_task(api.call("GET", f"/regions/{region_id}/image")) for _ in range(20)]
    late = await asyncio.gather(*asked[4:], return_exceptions=True)
    reader.may_go_on.set()
    first = await asyncio.gather(*asked[:4], return_exceptions=True)
    after = await api.call("GET", f"/regions/{region_id}/image")

    assert {(each.status, each.code) for each in late if isinstance(each, Refusal)} == {(504, "vision_timeout")}
    assert [each for each in late if not isinstance(each, Refusal)] == []
    assert [each for each in first if isinstance(each, BaseException)] == []
    assert after.status == 200
    assert fetched.fetched == 5


async def test_a_picture_that_nobody_waits_for_is_made_all_the_same(api: Api) -> None:
    """To end it would be to end the process that makes it, and others' readings with its models."""
    await api.index()
    region_id = (await api.ids())[0]
    reader, tasks = WaitingReader(), TaskGroup()
    seeing = Seeing(api.seeing.store, reader, api.seeing.decoder, api.jobs, VisionRules(), Counter(), api._check)
    api.stages[Endpoint.VISION_IMAGE] = ShowRegionStage(seeing, tasks)
    asked = asyncio.create_task(api.call("GET", f"/regions/{region_id}/image"))
    await asyncio.wait_for(reader.begun.wait(), 10)
    asked.cancel()
    await asyncio.wait([asked])
    reader.may_go_on.set()
    await tasks.drain(10)

    assert asked.cancelled()
    assert reader.made == 1


async def test_lists_come_in_pages(api: Api) -> None:
    for number in range(5):
        await api.index(f"document {number}".encode())
    names: list[str] = []
    path = "/documents?limit=2"
    cursor = None
    while True:
        page = json.loads((await api.call("GET", path + (f"&cursor={cursor}" if cursor else ""))).written)
        names += [document["doc_id"] for document in page["documents"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    first = json.loads((await api.call("GET", path)).written)["next_cursor"]
    foreign = await refusal_of(api.call("GET", f"{path}&cursor={first}", owner=BOB))

    assert len(set(names)) == len(names) == 5
    assert (foreign.status, foreign.param) == (400, "cursor")


# Orders


async def test_an_order_by_url(api: Api) -> None:
    api.jobs.web["https://h/a.txt"] = TEXT
    told = await api.call("POST", "/index", {"doc_url": "https://h/a.txt", "metadata": {"a": 1}, "force_reindex": True})

    assert (told.status, json.loads(told.written)["status"]) == (202, "queued")
    assert json.loads((await api.call("GET", "/documents")).written)["documents"][0]["source"] == "https://h/a.txt"


async def test_a_url_that_may_not_be_fetched_is_refused_at_once(api: Api) -> None:
    refusal = await refusal_of(api.call("POST", "/index", {"doc_url": "http://169.254.169.254/"}))

    assert (refusal.status, refusal.param) == (400, "doc_url")


async def test_a_full_queue_is_told_apart_from_a_full_store(api: Api, store: SqliteDocumentStore) -> None:
    api.jobs.holds = True
    body, kind = form({"file": b"text"})
    for _ in range(2):
        await api.call("POST", "/index", body, kind=kind)
    queue = await refusal_of(api.call("POST", "/index", body, kind=kind))
    full = Api(SqliteDocumentStore(max_bytes=70_000), VisionRules(max_document_bytes=1 << 20))
    body, _ = form({"file": b"x" * 100_000})
    room = await refusal_of(full.call("POST", "/index", body, kind=kind))
    await full.seeing.store.close()  # type: ignore[attr-defined]

    assert (queue.status, queue.code, queue.retry_after_s) == (503, "vision_queue_full", 5)
    assert room.status == 507


async def test_a_job_that_is_cancelled(api: Api) -> None:
    """It ends once; cancelled again it is as it was."""
    api.jobs.holds = True
    body, kind = form({"file": b"text"})
    job_id = json.loads((await api.call("POST", "/index", body, kind=kind)).written)["job_id"]
    cancelled = [json.loads((await api.call("DELETE", f"/index/jobs/{job_id}")).written) for _ in range(2)]

    assert cancelled[0] == cancelled[1]
    assert (cancelled[0]["status"], cancelled[0]["error"]["code"]) == ("failed", "CONFLICT")


async def test_a_document_that_cannot_be_read_fails_its_job(api: Api) -> None:
    job = await api.index(b"\xff\xfe")

    assert (job["status"], job["error"]["code"]) == ("failed", "VALIDATION_ERROR")


WRONG_FORMS: list[tuple[bytes, str, int]] = [
    (*form({"metadata": b"{}"}), 400),
    (*form({"file": b""}), 400),
    (*form({"file": b"x", "metadata": b"[]"}), 400),
    (*form({"file": b"x", "metadata": b"{"}), 400),
    (*form({"file": b"x", "force_reindex": b"maybe"}), 400),
    (*form({"file": b"x", "doc_url": b"http://h/"}), 400),
    (*form({"file": b"x" * 4097}), 413),
    (*form({"file": b"x", "metadata": b" " * 70_000}), 413),
    (b" " * (1 << 21) + b"\r\n" + form({"file": b"x"})[0], "multipart/form-data; boundary=b0", 413),
    (form({"file": b"x"})[0] + b" " * (1 << 21), "multipart/form-data; boundary=b0", 413),
    (form({"file": b"x"})[0] + form({"file": b"y"})[0], "multipart/form-data; boundary=none", 400),
    (form({"file": b"x"})[0], "multipart/form-data", 400),
    (form({"file": b"x"})[0][:-9], "multipart/form-data; boundary=b0", 400),
    (
        form({"file": b"x"})[0].replace(b"--b0--\r\n", b"") + form({"file": b"y"})[0],
        "multipart/form-data; boundary=b0",
        400,
    ),
    (b"", "application/json", 400),
    (b"{}", "application/json", 400),
    (b'{"doc_url": 5}', "application/json", 400),
    (b'{"doc_url": "http://h/", "force_reindex": "yes"}', "application/json", 400),
]


@pytest.mark.parametrize(("body", "kind", "status"), WRONG_FORMS)
async def test_wrong_orders(api: Api, store: SqliteDocumentStore, body: bytes, kind: str, status: int) -> None:
    """Nothing is stored of them, however they arrive."""
    for pieces in ([body], [body[at : at + 100] for at in range(0, len(body), 100)] or [b""]):
        refusal = await refusal_of(api.send("POST", "/index", pieces, ANN, None, kind, []))

        assert refusal.status == status
    assert await store.waiting_jobs() == 0


async def test_a_files_name_is_told_without_folders(api: Api) -> None:
    body, kind = form({"file": b"text"}, name="..\\\\..\\\\etc/pass\x07wd.txt")
    told = await api.call("POST", "/index", body, kind=kind)

    assert json.loads(told.written)["source"] == "passwd.txt"


async def test_where_a_service_fetches_no_file_is_taken(store: SqliteDocumentStore) -> None:
    body, kind = form({"file": b"text"})
    refusal = await refusal_of(Api(store, VisionRules(takes_files=False)).call("POST", "/index", body, kind=kind))

    assert (refusal.status, refusal.param) == (400, "file")


# Switched off


@pytest.mark.parametrize(("value", "status"), [("false", 503), ("0", 503), (" False ", 503), ("perhaps", 400)])
async def test_who_wants_no_ocr_gets_none(api: Api, value: str, status: int) -> None:
    refusal = await refusal_of(api.call("POST", "/search", {"query": "x"}, headers=[("X-Use-OCR", value)]))

    assert refusal.status == status


async def test_who_wants_it_gets_it(api: Api) -> None:
    assert (await api.call("POST", "/search", {"query": "x"}, headers=[("X-Use-OCR", "true")])).status == 200
    assert (await api.call("GET", "/documents", headers=[("X-Use-OCR", "false")])).status == 200


async def test_where_vision_is_off_it_says_so(api: Api) -> None:
    refusal = await refusal_of(refuse_switched_off(None))  # type: ignore[arg-type]

    assert (refusal.status, refusal.code) == (503, "feature_disabled")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("disabled", 503),
        ("timeout", 504),
        ("upstream", 502),
        ("unreadable", 422),
        ("full", 507),
        ("busy", 503),
        ("down", 503),
        ("odd", 502),
    ],
)
async def test_each_kind_of_fault_is_a_status(api: Api, kind: str, status: int) -> None:
    class Failing:
        async def search(self, *_: Any) -> Any:
            raise VisionFault(kind, "as told")

    stage = SearchRegionsStage(Seeing(Failing(), None, None, None, VisionRules(), api.seeing.tally, api._check))  # type: ignore[arg-type]
    api.stages[Endpoint.VISION_SEARCH] = stage

    assert (await refusal_of(api.call("POST", "/search", {"query": "tea"}))).status == status
    assert api.seeing.tally["fault", kind] == 1


def test_the_usual_rules_are_those_of_the_options() -> None:
    options, rules = Vision(), VisionRules()

    assert (options.max_regions_per_request, Fidelity(options.default_fidelity)) == (rules.max_regions, rules.fidelity)
    assert options.max_document_bytes == rules.max_document_bytes


class Embeds:
    """Makes one vector of everything."""

    model = "embedder"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.vector: bytes | None = b"\x00<\x00\x00"

    async def embed(
        self, exchange: Exchange | None, texts: Sequence[str], patience_s: float | None = None
    ) -> list[bytes | None]:
        assert exchange is not None
        self.asked += texts
        return [self.vector] * len(texts)


async def test_a_search_goes_by_meaning_where_there_are_vectors(api: Api, store: SqliteDocumentStore) -> None:
    """What shares no word is told with how near it is; without a vector in time it goes by words."""
    await api.index()
    lacking = await store.lacking_vectors("embedder", 9)
    await store.put_vectors([Vector(region.id, "embedder", b"\x00<\x00\x00") for region in lacking])
    endpoint = Embeds()
    api.stages[Endpoint.VISION_SEARCH] = SearchRegionsStage(replace(api.seeing, embedder=endpoint))
    near, nothing_but = await api.found("beverage"), await api.found("!?")
    endpoint.vector = None
    late, words = await api.found("beverage"), await api.found("tea")

    assert len(near) == len(nothing_but) == len(lacking)
    assert {region["why_relevant"] for region in near} == {"near in meaning (similarity 1.00)"}
    assert {region["score"] for region in near} == {1.0}
    assert late == []
    assert [region["text"] for region in words] == ["Tea | 4.50"]
    assert endpoint.asked == ["beverage", "!?", "beverage", "tea"]
