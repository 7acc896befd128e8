"""An upstream that speaks as Azure OpenAI does: deployments in the path, a version in the query, the key apart."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from tests.fakes.openai_rules import ApiError
from tests.fakes.openai_server import FakeOpenAI, Recorded, Reply, render

KEY = "azure-0123456789abcdef0123456789abcdef"
_deployed = re.compile(r"/openai/deployments/([^/?]+)(/[^?]*)").fullmatch
_BY_DEPLOYMENT = ("/chat/completions", "/completions", "/embeddings")


class FakeAzure(FakeOpenAI):
    """The server; any name is a deployment of it."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/openai"

    def reply_to(self, seen: Recorded) -> Reply:
        path, _, query = seen.raw_path.partition("?")
        try:
            if seen.header("api-key") != KEY or seen.header("authorization") is not None:
                raise ApiError(401, "Access denied due to invalid subscription key or wrong API endpoint.")
            if not re.search(r"(?:^|&)api-version=\d{4}-\d{2}-\d{2}(?:&|$)", query):
                raise ApiError(404, "Resource not found")
            plain = path.removeprefix("/openai")
            if found := _deployed(path):
                plain = found[2]
            if bool(found) != (plain in _BY_DEPLOYMENT):
                raise ApiError(404, "Resource not found")
        except ApiError as error:
            return render(error.body, error.status)
        body = seen.body
        if found and body:
            body = json.dumps({**json.loads(body), "model": "gpt-4o"}).encode()
        headers = [*seen.headers, ("Authorization", "Bearer sk-inside-0123456789abcdefghij")]
        return super().reply_to(replace(seen, raw_path="/v1" + plain, body=body, headers=headers))
