"""A fake OpenAI on a real loopback port, that also fails, stalls and breaks off when told to.

    async with FakeOpenAI(window=100) as fake:
        fake.script.append(cut(after=3, end=End.RESET))
        client = openai.AsyncOpenAI(base_url=fake.base_url, api_key="any")

The next request takes the first entry of `script` whose `when` accepts it; without one the answer is the
regular one. An event is one SSE event of a stream ([DONE] is one too); a whole JSON body counts as two, its
halves, so that it can be cut and stalled as well. What was received is in `requests`, what was sent in
`requests[i].sent`, and who left before the end in `cancelled`. A websocket's handshake below /v1/realtime that no entry
is for is taken, and what it became is in `sessions` (tests/fakes/realtime.py).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self, TypeVar
from urllib.parse import unquote

from aiohttp import hdrs, web

from tests.fakes.openai_rules import (
    DONE,
    ApiError,
    Json,
    Reply,
    Rules,
    check_window,
    error_body,
    render,
    render_event,
)
from tests.fakes.realtime import Session, converse

T = TypeVar("T")

SERVER_ERROR = error_body("The server had an error processing your request. Sorry about that!", "server_error")
BAD_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
    "library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
)


class End(Enum):
    """How an answer that is cut ends."""

    CLEAN = "the stream's regular end, as if it were complete"
    CLOSED = "the connection is closed without the last chunk"
    RESET = "the connection is reset"


@dataclass(slots=True)
class Recorded:
    """A request as it came, and what has been sent for it so far; `at_s` is of time.monotonic()."""

    method: str
    raw_path: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    sent: bytearray = field(default_factory=bytearray)
    at_s: float = field(default_factory=time.monotonic)

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first value of that name, in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A request whose client left before the answer was complete; `at_s` is of time.monotonic()."""

    request: Recorded
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Behaviour:
    """What one request meets. The functions below make the usual ones; fields combine.

    Args:
        reply: Sent instead of the regular answer.
        headers: Added to the answer's; they replace those of the same name.
        stall_after: Waits for `release` after so many events; -1: before the head.
        end_after: Ends after so many events, in the way of `end`; -1: before the head.
        tail: Sent before that end.
        gap_s: Waits so long before each event.
        when: Which requests it is for.
    """

    reply: Reply | None = None
    headers: tuple[tuple[str, str], ...] = ()
    stall_after: int | None = None
    release: asyncio.Event = field(default_factory=asyncio.Event)
    end_after: int | None = None
    end: End = End.CLEAN
    tail: bytes = b""
    is_done_sent: bool = True
    gap_s: float = 0
    when: Callable[[Recorded], bool] = lambda _: True


def fail(status: int, body: Json | bytes | None = None, **headers: str) -> Behaviour:
    """An answer of that status; headers by name with _ for -: fail(429, retry_after="2")."""
    raw = body if isinstance(body, bytes) else json.dumps(body or SERVER_ERROR).encode()
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Behaviour(reply=Reply([raw], status), headers=named)


def rate_limited(retry_after_s: float = 1) -> Behaviour:
    message = f"Rate limit reached for requests per min (RPM). Please try again in {retry_after_s:g}s."
    body = error_body(message, "requests", None, "rate_limit_exceeded")
    return fail(429, body, retry_after=f"{retry_after_s:g}")


def reset() -> Behaviour:
    """The connection is reset before the head."""
    return Behaviour(end_after=-1, end=End.RESET)


def cut(after: int, end: End = End.CLEAN) -> Behaviour:
    """The answer ends after so many events, without [DONE]."""
    return Behaviour(end_after=after, end=end)


def stall(after: int = -1) -> Behaviour:
    """Nothing more comes after so many events (-1: not even the head) until `.release.set()`."""
    return Behaviour(stall_after=after)


def slow(gap_s: float) -> Behaviour:
    return Behaviour(gap_s=gap_s)


def error_event(after: int, body: Json | None = None, event: str = "") -> Behaviour:
    """An error within a 200 stream after so many events, and then its regular end without [DONE]."""
    return Behaviour(end_after=after, tail=render_event(body or SERVER_ERROR, event))


def no_done() -> Behaviour:
    return Behaviour(is_done_sent=False)


def raw(pieces: Sequence[bytes], content_type: str = "text/event-stream; charset=utf-8") -> Behaviour:
    """Exactly these bytes, each piece in a write and chunk of its own."""
    return Behaviour(reply=Reply(list(pieces), content_type=content_type, is_stream=True))


def embed(text: str, dimensions: int) -> list[float]:
    """A vector that depends on the text alone."""
    digest = hashlib.shake_256(text.encode()).digest(2 * dimensions)
    return [value or 1 for value in struct.unpack(f"<{dimensions}h", digest)]


def render_vector(values: Sequence[float], as_base64: bool) -> list[float] | str:
    """A vector of length 1, as the service sends it."""
    length = sum(value * value for value in values) ** 0.5
    packed = struct.pack(f"<{len(values)}f", *(value / length for value in values))
    return base64.b64encode(packed).decode() if as_base64 else list(struct.unpack(f"<{len(values)}f", packed))


def parse_form(seen: Recorded) -> dict[str, tuple[str, bytes]]:
    """The parts of a multipart body: name -> (file name, content)."""
    boundary = re.search(r'boundary="?([^";]+)', seen.header("content-type") or "")
    if boundary is None:
        raise ApiError(400, "We could not parse your multipart form: no boundary.")
    parts = {}
    for part in (b"\r\n" + seen.body).split(b"\r\n--" + boundary[1].encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        named = dict(re.findall(r'\b(name|filename)="([^"]*)"', head.decode()))
        parts[named["name"]] = (named.get("filename", ""), content)
    return parts


def break_off(transport: asyncio.Transport | None, end: End) -> None:
    if transport and end is End.RESET:  # closing a socket that must not linger sends RST
        number = transport.get_extra_info("socket").fileno()
        with socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    elif transport:
        transport.close()


@dataclass(kw_only=True)
class FakeOpenAI(Rules):
    """The server. Settings are those of `Rules`; `port` 0 takes a free one, kept over close() and start()."""

    port: int = 0
    requests: list[Recorded] = field(default_factory=list, init=False)
    cancelled: list[Cancelled] = field(default_factory=list, init=False)
    script: deque[Behaviour] = field(default_factory=deque, init=False)
    files: dict[str, tuple[Json, bytes]] = field(default_factory=dict, init=False)
    sessions: list[Session] = field(default_factory=list, init=False)
    _runner: web.ServerRunner | None = field(default=None, init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> Self:
        settings: Json = {"max_line_size": 1 << 16, "max_field_size": 1 << 16, "auto_decompress": False}
        server = web.Server(self._handle, handler_cancellation=True, access_log=None, **settings)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.05)
        await self._runner.setup()
        listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.port = listener.getsockname()[1]
        await web.SockSite(self._runner, listener).start()
        return self

    async def close(self) -> None:
        """Stops listening and breaks off what runs; that is not recorded as cancelled."""
        runner, self._runner = self._runner, None
        if runner:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def wait_requests(self, count: int = 1, timeout_s: float = 5) -> list[Recorded]:
        """Waits until so many requests have come whole."""
        return await self._wait(self.requests, count, timeout_s)

    async def wait_cancelled(self, count: int = 1, timeout_s: float = 5) -> list[Cancelled]:
        """Waits until so many clients have left."""
        return await self._wait(self.cancelled, count, timeout_s)

    async def wait_sessions(self, count: int = 1, timeout_s: float = 5) -> list[Session]:
        """Waits until so many websockets were opened."""
        return await self._wait(self.sessions, count, timeout_s)

    async def _wait(self, what: list[T], count: int, timeout_s: float) -> list[T]:
        async with asyncio.timeout(timeout_s):
            while len(what) < count:
                self._changed.clear()
                await self._changed.wait()
        return what

    # The exchange

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        seen = Recorded(request.method, request.raw_path, pairs)
        try:
            if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.transport:
                request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            seen.body = await request.content.read()
            self.requests.append(seen)
            self._changed.set()
            behaviour = next((one for one in self.script if one.when(seen)), None)
            if behaviour is not None:
                self.script.remove(behaviour)
            elif self._is_session(seen):
                return await self._converse(request, seen)
            response = await self._play(request, seen, behaviour or Behaviour())
        except (asyncio.CancelledError, ConnectionError):
            if self._runner:
                self.cancelled.append(Cancelled(seen, time.monotonic()))
                self._changed.set()
            raise
        while response is None:
            await asyncio.sleep(60)  # broken off: aiohttp cancels this task when the connection is gone
        return response

    def _is_session(self, seen: Recorded) -> bool:
        """Whether this opens a websocket; with a key that is not the required one, it does not."""
        if (seen.header("upgrade") or "").lower() != "websocket" or not seen.raw_path.startswith("/v1/realtime"):
            return False
        try:
            self._check_key(seen)
        except ApiError:
            return False
        return True

    async def _converse(self, request: web.BaseRequest, seen: Recorded) -> web.StreamResponse:
        session = Session(seen.headers, seen.raw_path)
        self.sessions.append(session)
        self._changed.set()
        return await converse(request, session)

    async def _play(self, request: web.BaseRequest, seen: Recorded, how: Behaviour) -> web.StreamResponse | None:
        """Sends what `how` leaves of the answer; None: the connection has been broken off."""
        if how.stall_after == -1:
            await how.release.wait()
        if how.end_after == -1:
            break_off(request.transport, how.end)
            return None
        reply = how.reply or self.reply_to(seen)
        response = web.StreamResponse(status=reply.status)
        response.headers.extend(self._headers_of(reply, how.headers))
        pieces = [piece for piece in reply.pieces if how.is_done_sent or piece != DONE]
        if reply.is_stream:
            response.enable_chunked_encoding()
        else:
            body = b"".join(pieces)
            response.content_length = len(body)
            pieces = [body[: len(body) // 2], body[len(body) // 2 :]] if request.method != "HEAD" else []
        if how.end_after is not None:
            pieces = [*pieces[: how.end_after], how.tail]
        await response.prepare(request)
        for i, piece in enumerate([*pieces, b""]):
            if how.stall_after == i:
                await how.release.wait()
            if how.gap_s:
                await asyncio.sleep(how.gap_s)
            if piece:
                await response.write(piece)
                seen.sent += piece
        if how.end_after is not None and (how.end is not End.CLEAN or not reply.is_stream):
            break_off(request.transport, how.end)
            return None
        await response.write_eof()
        return response

    def _headers_of(self, reply: Reply, own: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
        ident = f"{self.name}{len(self.requests):012x}"
        usual = [
            ("content-type", reply.content_type),
            ("openai-organization", f"org-{self.name}"),
            ("openai-processing-ms", "12"),
            ("openai-version", "2020-10-01"),
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-limit-tokens", "2000000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("x-ratelimit-remaining-tokens", "1999900"),
            ("x-ratelimit-reset-requests", "6ms"),
            ("x-ratelimit-reset-tokens", "3ms"),
            ("x-request-id", f"req_{ident}"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
            ("x-content-type-options", "nosniff"),
            ("server", "cloudflare"),
            ("cf-ray", f"{ident}-OSL"),
            ("set-cookie", f"__cf_bm={ident}; path=/; HttpOnly; Secure; SameSite=None"),
            ("set-cookie", f"_cfuvid={ident}; path=/; HttpOnly; Secure; SameSite=None"),
        ]
        replaced = {name.lower() for name, _ in own}
        return [pair for pair in usual if pair[0] not in replaced] + list(own)

    # The answers

    def reply_to(self, seen: Recorded) -> Reply:
        """The regular answer."""
        try:
            return self._route(seen)
        except ApiError as error:
            return render(error.body, error.status)

    def _route(self, seen: Recorded) -> Reply:
        path = seen.raw_path.partition("?")[0]
        if not path.startswith("/v1/"):
            raise ApiError(404, f"Invalid URL ({seen.method} {path})")
        self._check_key(seen)
        metered = {
            "/v1/chat/completions": self.chat,
            "/v1/completions": self.completions,
            "/v1/responses": self.respond,
            "/v1/embeddings": self.embeddings,
        }
        if seen.method == "POST" and path in metered:
            try:
                body = seen.json()
            except ValueError:
                body = None
            if not isinstance(body, dict):
                raise ApiError(400, BAD_JSON)
            self.check(body)
            return metered[path](body)
        if seen.method == "GET" and path.startswith("/v1/models"):
            return self._models(unquote(path.removeprefix("/v1/models").lstrip("/")))
        if (seen.method, path) == ("POST", "/v1/files"):
            return self._upload(seen)
        if found := re.fullmatch(r"/v1/files/([^/]+)(/content)?", path):
            return self._file(seen.method, found[1], is_content=bool(found[2]))
        digest = hashlib.sha256(seen.body).hexdigest()
        echo = {"method": seen.method, "target": seen.raw_path, "sha256": digest, "length": len(seen.body)}
        return render({**echo, "headers": seen.headers})

    def _check_key(self, seen: Recorded) -> None:
        bearer = (seen.header("authorization") or "").removeprefix("Bearer ")
        key = bearer or seen.header("api-key") or ""
        if self.required_key is None or key == self.required_key:
            return
        if not key:
            raise ApiError(401, "You didn't provide an API key.")
        masked = f"{key[:8]}{'*' * 8}{key[-4:]}"
        message = f"Incorrect API key provided: {masked}. You can find your API key at "
        message += "https://platform.openai.com/account/api-keys."
        raise ApiError(401, message, None, "invalid_api_key")

    def embeddings(self, body: Json) -> Reply:
        """POST /v1/embeddings."""
        if body.get("input") is None:
            raise ApiError(400, "Missing required parameter: 'input'.", "input", "missing_required_parameter")
        given = body["input"] if isinstance(body["input"], list) else [body["input"]]
        inputs = [given] if given and isinstance(given[0], int) else given
        if not inputs or "" in inputs:  # one text that is none spoils the whole call
            raise ApiError(400, "Invalid 'input': input cannot be an empty string.", "input", "invalid_request_error")
        as_base64, size = body.get("encoding_format") == "base64", body.get("dimensions") or 8
        made = [self.vector(str(one)) if self.vector else embed(str(one), size) for one in inputs]
        vectors = [render_vector(each, as_base64) for each in made]
        tokens = sum(self.tokenizer(one) if isinstance(one, str) else len(one) for one in inputs)
        check_window(self.window_of(body["model"]), tokens, 0)
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return render({"object": "list", "data": data, "model": body["model"], "usage": usage})

    def _models(self, name: str) -> Reply:
        listed = [{"id": i, "object": "model", "created": self.created, "owned_by": "system"} for i in self.models]
        if not name:
            return render({"object": "list", "data": listed})
        if name not in self.models:
            raise ApiError(404, f"The model '{name}' does not exist", "model", "model_not_found")
        return render(listed[list(self.models).index(name)])

    def _upload(self, seen: Recorded) -> Reply:
        form = parse_form(seen)
        for name in ("file", "purpose"):
            if name not in form:
                raise ApiError(400, f"'{name}' is a required property")
        filename, content = form["file"]
        ident = f"file-{hashlib.sha256(f'{self.name}{len(self.requests)}'.encode()).hexdigest()[:22]}"
        about: Json = {
            "object": "file",
            "id": ident,
            "purpose": form["purpose"][1].decode(),
            "filename": filename,
        }
        about |= {
            "bytes": len(content),
            "created_at": self.created,
            "expires_at": None,
            "status": "processed",
        }
        self.files[ident] = ({**about, "status_details": None}, content)
        return render(self.files[ident][0])

    def _file(self, method: str, ident: str, is_content: bool) -> Reply:
        if ident not in self.files:
            raise ApiError(404, f"No such File object: {ident}", "id")
        about, content = self.files[ident]
        if method == "DELETE":
            del self.files[ident]
            return render({"object": "file", "deleted": True, "id": ident})
        return Reply([content], content_type="application/octet-stream") if is_content else render(about)
