"""A client of the gateway's vision, for tests: files are uploaded, jobs are waited for, answers come as they are."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from tests.api_client import ApiClient, Json, Told


class VisionClient(ApiClient):
    """Calls of vision with one key."""

    below = "/api/v1/vision"

    async def close(self) -> None:
        """End the connections that it was given."""
        await self._web.close()

    async def upload(self, data: bytes, name: str = "a.pdf", **fields: str) -> Told:
        """Order a file to be indexed."""
        form = aiohttp.FormData()
        form.add_field("file", data, filename=name, content_type="application/octet-stream")
        for field, value in fields.items():
            form.add_field(field, value)
        return await self._send("POST", "/index", form, {})

    async def send_body(self, body: Any, headers: dict[str, str]) -> Told:
        """Order what is in a body of any kind."""
        return await self._send("POST", "/index", body, headers)

    async def job(self, job_id: str) -> Json:
        """How far a job is."""
        told = await self.call("GET", f"/index/jobs/{job_id}")
        assert told.status == 200, told.body
        found: Json = told.json
        return found

    async def ended(self, ordered: Told) -> Json:
        """A job once it has ended."""
        assert ordered.status == 202, ordered.body
        async with asyncio.timeout(60):
            while True:
                job = await self.job(ordered.json["job_id"])
                if job["status"] in ("succeeded", "failed"):
                    return job
                await asyncio.sleep(0.02)

    async def index(self, data: bytes, name: str = "a.pdf", **fields: str) -> Json:
        """Upload a file and wait until it can be searched."""
        job = await self.ended(await self.upload(data, name, **fields))
        assert job["status"] == "succeeded", job
        return job

    async def search(self, query: str, top_k: int = 12, **filters: Any) -> list[Json]:
        """Regions that answer a question."""
        told = await self.call("POST", "/search", {"query": query, "top_k": top_k, "filters": filters})
        assert told.status == 200, told.body
        found: list[Json] = told.json["regions"]
        return found

    async def decode(self, *region_ids: str, fidelity: str | None = None) -> list[Json]:
        """What regions say."""
        value = {"region_ids": list(region_ids)} | ({"fidelity": fidelity} if fidelity else {})
        told = await self.call("POST", "/decode", value)
        assert told.status == 200, told.body
        results: list[Json] = told.json["results"]
        return results

    async def forget(self) -> None:
        """Delete all documents of this memory."""
        while documents := (await self.call("GET", "/documents")).json["documents"]:
            for document in documents:
                await self.call("DELETE", f"/documents/{document['doc_id']}")
