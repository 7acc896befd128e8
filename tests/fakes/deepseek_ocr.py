"""A fake DeepSeek-OCR as vLLM serves it: chat completions with a picture, on a real loopback port.

    async with FakeDeepSeekOCR(text="Invoice 2024-00917") as fake:
        fake.script.append(Failing(503))

Pictures are really decoded (a part that is no PNG is a 400, as vLLM's), and are answered by their digest in `texts`, or
with `text`. With the grounding prompt the answer has marks of places and tables are HTML. The next request takes the
first entry of `script`. What was received is in `requests`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self

from aiohttp import web
from PIL import Image

Json = dict[str, Any]
GROUNDING = "<|grounding|>"
_MAX_BODY_BYTES = 64 << 20


class Trouble(Enum):
    """How an answer goes wrong."""

    HANGS = "no answer before `release` is set"
    CUT = "the connection is closed in the middle of the body"
    NO_JSON = "a page of HTML with status 200"
    NO_CHOICES = "a completion without any choice"
    MALFORMED = "marks of places that are broken off, and something to evaluate"
    LOOPS = "a text that repeats itself up to the limit of tokens"
    CUT_OFF = "finish_reason is length"


@dataclass(frozen=True, slots=True)
class Failing:
    """An error of the server's."""

    status: int
    retry_after: str | None = None
    message: str = "The engine is overloaded."


@dataclass(frozen=True, slots=True)
class Seen:
    """A request: its body, and the picture's size."""

    body: Json
    key: str
    size: tuple[int, int]

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][0]["content"][1]["text"])


@dataclass(kw_only=True)
class FakeDeepSeekOCR:
    """The server; `base_url` ends in /v1."""

    model: str = "deepseek-ai/DeepSeek-OCR"
    text: str = "Hello from the picture."
    texts: dict[str, str] = field(default_factory=dict)
    probability: float = 0.9
    tells_logprobs: bool = True
    refuses_logprobs: bool = False
    key: str | None = None
    script: deque[Trouble | Failing] = field(default_factory=deque)
    requests: list[Seen] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    base_url: str = ""
    running: int = 0
    most_running: int = 0
    left: int = 0
    """Requests whose clients left before the answer."""
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._answer(request)
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self.running -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.key is not None and key != self.key:
            return _error(401, "Unauthorized")
        body = json.loads(await request.read())
        if body.get("model") != self.model:
            return _error(404, f"The model `{body.get('model')}` does not exist.")
        if self.refuses_logprobs and body.get("logprobs"):
            return _error(400, "logprobs are not supported by this engine")
        try:
            picture, digest = _picture_of(body)
        except (ValueError, KeyError, OSError, TypeError, IndexError) as error:
            return _error(400, f"cannot identify image: {error}")
        self.requests.append(Seen(body, key, picture.size))
        trouble = self.script.popleft() if self.script else None
        if isinstance(trouble, Failing):
            return _error(trouble.status, trouble.message, trouble.retry_after)
        if trouble is Trouble.HANGS:
            await self.release.wait()
        if trouble is Trouble.NO_JSON:
            return web.Response(text="<html>504 Gateway Time-out</html>", content_type="text/html")
        if trouble is Trouble.NO_CHOICES:
            return web.json_response({"id": "x", "object": "chat.completion", "choices": []})
        return await self._tell(request, body, self.texts.get(digest, self.text), trouble)

    async def _tell(self, request: web.Request, body: Json, text: str, trouble: Trouble | None) -> web.StreamResponse:
        if GROUNDING in body["messages"][0]["content"][1]["text"]:
            text = _grounded(text)
        if trouble is Trouble.MALFORMED:
            text = f"<|ref|>text<|/ref|><|det|>[[1, __import__('os').abort()]]\n{text}<|/det|><|ref|>"
        limit = body.get("max_tokens", 8192)
        if trouble is Trouble.LOOPS:
            text = " ".join([text, *["and so on"] * limit])
        words = text.split()
        is_cut = trouble is Trouble.CUT_OFF or len(words) > limit
        choice: Json = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "length" if is_cut else "stop",
            "logprobs": None,
        }
        if body.get("logprobs") and self.tells_logprobs:
            logprob = math.log(self.probability)
            choice["logprobs"] = {"content": [{"token": word, "logprob": logprob} for word in words]}
        usage = {"prompt_tokens": 273, "completion_tokens": len(words), "total_tokens": 273 + len(words)}
        told = {"id": "chatcmpl-1", "object": "chat.completion", "model": self.model, "choices": [choice]}
        data = json.dumps(told | {"usage": usage}).encode()
        if trouble is Trouble.CUT:
            return await _cut(request, data)
        return web.Response(body=data, content_type="application/json")


def digest_of(picture: Image.Image) -> str:
    """By what a picture is known: its pixels, not its file."""
    return hashlib.sha256(f"{picture.size}".encode() + picture.convert("RGB").tobytes()).hexdigest()


def _picture_of(body: Json) -> tuple[Image.Image, str]:
    part = body["messages"][0]["content"][0]
    url = part["image_url"]["url"]
    kind, _, data = url.partition(";base64,")
    if kind != "data:image/png":
        raise ValueError(f"a picture of kind {kind[:40]!r}")
    picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    picture.load()
    if picture.format != "PNG":
        raise ValueError("no PNG")
    return picture, digest_of(picture)


def _grounded(text: str) -> str:
    lines = text.splitlines()
    if any(" | " in line for line in lines):
        rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line.split(" | ")) + "</tr>" for line in lines)
        return f"<|ref|>table<|/ref|><|det|>[[12, 34, 980, 560]]<|/det|>\n<table>{rows}</table>\n"
    return "\n\n".join(
        f"<|ref|>text<|/ref|><|det|>[[12, {at * 40}, 980, {at * 40 + 30}]]<|/det|>\n{line}"
        for at, line in enumerate(lines)
    )


def _error(status: int, message: str, retry_after: str | None = None) -> web.Response:
    headers = {"Retry-After": retry_after} if retry_after is not None else None
    told = {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}
    return web.json_response(told, status=status, headers=headers)


async def _cut(request: web.Request, data: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(data))})
    await response.prepare(request)
    await response.write(data[: len(data) // 2])
    assert request.transport is not None
    request.transport.abort()
    return response
