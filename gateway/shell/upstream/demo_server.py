"""The demo upstream (`builtin://demo`): an OpenAI-compatible server inside the gateway's own process.

A real HTTP server on a free loopback port, so that everything between gateway and provider is tried for true:
connections, event streams, usage, refusals in OpenAI's words. It needs no key and no network and accepts
every model name. What it says comes from demo_answers.py, in the shapes of demo_wire.py.

Serves POST /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings and GET /v1/models. It keeps
no state: no stored responses, no files, no tool calls of its own. What it bills is exact by its own counter:
prompt = 3 + for each message (3 + role + text + name) + the tools as compact JSON; completion = the answer.
"""

import asyncio
import base64
import json
import re
import struct
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from aiohttp import web

from gateway.shell.upstream.demo_answers import Said, answer, cut, embed
from gateway.shell.upstream.demo_wire import (
    ApiError,
    Body,
    Reply,
    integer,
    model_card,
    option,
    read_messages,
    read_model,
    render_chat,
    render_completion,
    render_response,
    stream_chat,
    stream_completion,
    stream_response,
    text_of,
    too_long,
    wants_usage,
)

MAX_BODY_BYTES = 64 * 1024 * 1024
INLINE_BYTES = 4096  # a longer request is counted and answered in a thread
DIMENSIONS = 256
T = TypeVar("T")


class DemoUpstream:
    """The demo server, from start() to close().

    Args:
        count_text: the tokens of a text; may be slow on long ones, which are counted in a thread.
        window_tokens: the model's context window; a longer request is refused as OpenAI refuses it.
    """

    def __init__(self, count_text: Callable[[str], int], window_tokens: int = 16384) -> None:
        self._count = count_text
        self._window = window_tokens
        self._runner: web.ServerRunner | None = None
        self._posts = {
            "/v1/chat/completions": (self._chat, render_chat, stream_chat),
            "/v1/completions": (self._complete, render_completion, stream_completion),
            "/v1/responses": (self._respond, render_response, stream_response),
        }

    async def start(self) -> str:
        """Listen on a free loopback port; returns the base_url, `http://127.0.0.1:PORT/v1`."""
        server = web.Server(self._serve, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def close(self) -> None:
        """Stop listening and drop what is open."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {"x-request-id": f"req_{uuid.uuid4().hex}"}
        try:
            return await self._route(request, headers)
        except ApiError as error:
            return web.json_response(error.body, status=error.status, headers=headers)

    async def _route(self, request: web.BaseRequest, headers: dict[str, str]) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if path == "/v1/models" or re.fullmatch("/v1/models/.+", path):
            model = model_card(path.removeprefix("/v1/models").strip("/") or "demo", self._window)
            listed = {"object": "list", "data": [model]} if path == "/v1/models" else model
            return web.json_response(listed, headers=headers)
        if path not in self._posts and path != "/v1/embeddings":
            raise ApiError(f"Invalid URL ({request.method} {request.path})", status=404)
        if request.method != "POST":
            raise ApiError("Only POST requests are accepted.", None, "method_not_supported", 405)
        body, size = await read_body(request)
        if path == "/v1/embeddings":
            return web.json_response(await run(size, self._embed, body), headers=headers)
        make, render, stream = self._posts[path]
        reply = await run(size, make, body)
        if option(body, "stream", bool, False):
            return await send_events(request, stream(reply, wants_usage(body)), headers)
        return web.json_response(render(reply), headers=headers)

    def _chat(self, body: Body) -> Reply:
        messages = read_messages(body)
        if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
            both = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
            raise ApiError(both, "max_tokens", "invalid_parameter_combination")
        limit = integer(body, "max_tokens", 1) or integer(body, "max_completion_tokens", 1)
        said = [Said(m["role"], text_of(m.get("content"))) for m in messages]
        prompt = 3 + sum(self._message_tokens(m, s.text) for m, s in zip(messages, said, strict=True))
        if body.get("tools"):
            prompt += self._count(json.dumps(body["tools"], ensure_ascii=False, separators=(",", ":")))
        if prompt >= self._window or (limit and prompt + limit > self._window):
            raise ApiError(too_long(self._window, prompt, limit), "messages", "context_length_exceeded")
        return self._reply(body, said, prompt, limit, integer(body, "n", 1) or 1)

    def _message_tokens(self, message: Mapping[str, Any], text: str) -> int:
        name = message.get("name")
        return 3 + sum(map(self._count, [message["role"], text, *([str(name)] if name else [])]))

    def _complete(self, body: Body) -> Reply:
        prompt = body.get("prompt", "")
        text = prompt if isinstance(prompt, str) else "\n".join(map(str, prompt))
        limit = integer(body, "max_tokens", 1) or 16
        tokens = self._count(text)
        if tokens + limit > self._window:
            raise ApiError(
                f"This model's maximum context length is {self._window} tokens, however you requested "
                f"{tokens + limit} tokens ({tokens} in your prompt; {limit} for the completion). "
                "Please reduce your prompt; or completion length.", None, "context_length_exceeded",
            )  # fmt: skip
        before, _, last = text.rstrip().rpartition("\n")
        said = [Said("system", before), Said("user", last)]
        return self._reply(body, said, tokens, limit, integer(body, "n", 1) or 1)

    def _respond(self, body: Body) -> Reply:
        limit = integer(body, "max_output_tokens", 1)
        if body.get("previous_response_id"):
            missing = f"Previous response with id '{body['previous_response_id']}' not found."
            raise ApiError(missing, "previous_response_id", "previous_response_not_found")
        items = body.get("input")
        items = [{"role": "user", "content": items}] if isinstance(items, str) else items
        if not isinstance(items, list) or not items:
            raise ApiError("Missing required parameter: 'input'.", "input", "missing_required_parameter")
        said = [Said("system", str(body["instructions"]))] if body.get("instructions") else []
        for item in items:
            content = item.get("content", item.get("output")) if isinstance(item, dict) else None
            said.append(Said(item.get("role", "tool"), text_of(content)) if content else Said("tool", ""))
        prompt = 3 + sum(self._message_tokens({"role": s.role}, s.text) for s in said)
        if prompt + (limit or 1) > self._window:
            too_long = "Your input exceeds the context window of this model. Please adjust your input and try again."
            raise ApiError(too_long, "input", "context_length_exceeded")
        return self._reply(body, said, prompt, limit, 1)

    def _reply(self, body: Body, said: Sequence[Said], prompt: int, limit: int | None, n: int) -> Reply:
        whole = answer(said, self._count, limit)
        stops = body.get("stop") or []
        for stop in [stops] if isinstance(stops, str) else stops:
            whole = whole.split(stop)[0]
        text = cut(whole, self._count, min(limit or self._window, self._window - prompt))
        return Reply(read_model(body), [text] * n, prompt, self._count(text) * n, len(text) < len(whole))

    def _embed(self, body: Body) -> Body:
        given = body.get("input")
        if given is None or given in ("", []):
            raise ApiError("Missing required parameter: 'input'.", "input", "missing_required_parameter")
        inputs = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
        texts = [text if isinstance(text, str) else " ".join(map(str, text)) for text in inputs]
        tokens = sum(self._count(t) if isinstance(i, str) else len(i) for i, t in zip(inputs, texts, strict=True))
        dimensions = integer(body, "dimensions", 1) or DIMENSIONS
        data: list[Body] = []
        for index, text in enumerate(texts):
            vector: Any = embed(text, dimensions)
            if body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": read_model(body), "data": data, "usage": usage}


async def run(size: int, work: Callable[[Body], T], body: Body) -> T:
    return work(body) if size <= INLINE_BYTES else await asyncio.to_thread(work, body)


async def read_body(request: web.BaseRequest) -> tuple[Body, int]:
    """The JSON object that was sent, and its size in bytes."""
    raw = bytearray()
    async for chunk in request.content.iter_any():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise ApiError(f"The request is larger than {MAX_BODY_BYTES} bytes.", status=413)
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ApiError("We could not parse the JSON body of your request. Expected a JSON object.")
    read_model(body)
    return body, len(raw)


async def send_events(
    request: web.BaseRequest, events: Iterable[bytes], headers: Mapping[str, str]
) -> web.StreamResponse:
    """Stream events one by one, giving way to other tasks between them as a network would."""
    response = web.StreamResponse(headers={**headers, "Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    for data in events:
        await response.write(data)
        await asyncio.sleep(0)
    await response.write_eof()
    return response
