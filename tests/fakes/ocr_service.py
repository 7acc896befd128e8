"""A fake of a service that speaks `/v1/ocr`, on a real loopback port: jobs that go on with each poll, and trouble.

    async with FakeOcrService() as fake:
        fake.documents["http://h/a.pdf"] = [{"region_id": "s1", "page": 1, "text": "Hello"}]

An order for a URL that is not in `documents` fails, as one that cannot be fetched. The next call takes the first entry
of `script`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self

from aiohttp import web

Json = dict[str, Any]


class Trouble(Enum):
    """How a call goes wrong."""

    HANGS = "no answer before `release` is set"
    GARBAGE = "bytes that are no JSON, with status 200"
    BROKEN = "status 500"
    ODD_STATUS = "a job whose status is no word of the contract"


@dataclass(kw_only=True)
class FakeOcrService:
    """The service; `base_url` is what /v1/ocr stands below."""

    documents: dict[str, list[Json]] = field(default_factory=dict)
    polls: int = 2
    """How often a job says that it is running."""
    script: deque[Trouble] = field(default_factory=deque)
    calls: list[tuple[str, str, Json]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    base_url: str = ""
    _jobs: dict[str, tuple[str, int]] = field(default_factory=dict)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/ocr/index", self._index)
        app.router.add_get("/v1/ocr/jobs/{id}", self._job)
        app.router.add_post("/v1/ocr/decode", self._decode)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _trouble(self, request: web.Request, body: Json) -> web.Response | None:
        self.calls.append((request.method, request.path, body))
        self.asked.set()
        trouble = self.script.popleft() if self.script else None
        if trouble is Trouble.HANGS:
            await self.release.wait()
        if trouble is Trouble.GARBAGE:
            return web.Response(body=b"\x00\xffnot json", content_type="application/json")
        if trouble is Trouble.BROKEN:
            return web.json_response({"error": "internal"}, status=500)
        if trouble is Trouble.ODD_STATUS:
            return web.json_response({"job_id": "j1", "status": "dreaming"})
        return None

    async def _index(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        if (trouble := await self._trouble(request, body)) is not None:
            return trouble
        job_id = f"job/{len(self._jobs) + 1}"
        self._jobs[job_id] = (body["doc_url"], 0)
        return web.json_response({"job_id": job_id, "status": "queued"}, status=202)

    async def _job(self, request: web.Request) -> web.Response:
        if (trouble := await self._trouble(request, {})) is not None:
            return trouble
        job_id = request.match_info["id"]
        if job_id not in self._jobs:
            return web.json_response({"error": "no such job"}, status=404)
        doc_url, polled = self._jobs[job_id]
        self._jobs[job_id] = (doc_url, polled + 1)
        if polled < self.polls:
            told = {"job_id": job_id, "status": "running", "progress": polled / self.polls}
            return web.json_response(told)
        regions = self.documents.get(doc_url)
        if regions is None:
            error = {"code": "FETCH", "message": "the document could not be fetched"}
            return web.json_response({"job_id": job_id, "status": "failed", "error": error})
        pages = max((region.get("page", 1) for region in regions), default=1)
        told = {"job_id": job_id, "status": "succeeded", "progress": 1.0, "pages": pages, "regions": regions}
        return web.json_response(told)

    async def _decode(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        if (trouble := await self._trouble(request, body)) is not None:
            return trouble
        known = {region["region_id"]: region for regions in self.documents.values() for region in regions}
        results = [
            {"region_id": each, "text": f"{known[each].get('text', '')} at {body['fidelity']}", "confidence": 0.8}
            for each in body["region_ids"]
            if each in known
        ]
        return web.json_response({"results": results})
