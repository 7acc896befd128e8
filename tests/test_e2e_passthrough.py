"""What the gateway does not meter passes as it is: any method, path, query, body and answer, in bounded memory."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.fakes.openai_rules import Reply
from tests.fakes.openai_server import Behaviour, End, FakeOpenAI, fail
from tests.gateway_process import Answer, GatewayProcess, Wire, ask_raw, chunked, config_for, head

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
MEGABYTE = 2**20
BINARY = bytes(range(256)) * 4 + b"\r\n\r\n\x00\xff"
CHAT = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'


class RawUpstream:
    """A server that answers every request with the same bytes, and remembers what it received."""

    def __init__(self) -> None:
        self.answer = b""
        self.received: list[bytes] = []
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> RawUpstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", request)
            request += await reader.readexactly(int(length[1]) if length else 0)
            self.received.append(request)
            writer.write(self.answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plain_upstream() -> AsyncIterator[RawUpstream]:
    async with RawUpstream() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def keyed(plain_upstream: RawUpstream) -> AsyncIterator[GatewayProcess]:
    """A gateway whose upstream has a key of its own, and says exactly what a test wants it to say."""
    config = config_for()
    config["upstreams"] = [{"name": "plain", "base_url": plain_upstream.base_url, "api_key": "sk-upstream"}]
    async with GatewayProcess(config) as gateway:
        yield gateway


def echo(answer: Answer) -> Json:
    """What the upstream says it has received."""
    found: Json = json.loads(answer.body)
    found["headers"] = {name.lower(): value for name, value in found["headers"]}
    return found


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "QUERY"])
async def test_any_method(method: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    answer = await ask_raw(shared_gateway, head(method, "/v1/batches/b_1", "Content-Length: 3") + b"\x00\r\n")

    assert answer.status == 200
    assert echo(answer)["method"] == method
    assert echo(answer)["length"] == 3


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "POST"])
async def test_no_body_stays_no_body(method: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    lines = ["Content-Length: 0"] if method == "POST" else []
    answer = await ask_raw(shared_gateway, head(method, "/v1/responses/resp_1/cancel", *lines))
    headers = echo(answer)["headers"]

    assert headers.get("content-length", "0") == "0"
    assert "transfer-encoding" not in headers


async def test_head(keyed: GatewayProcess, plain_upstream: RawUpstream) -> None:
    """The answer's head is the upstream's, and the connection can be used again."""
    plain_upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nContent-Type: x/y\r\n\r\n"
    async with await Wire.open(keyed.port) as wire:
        for _ in range(2):
            await wire.send(head("HEAD", "/v1/models"))
            answer = await wire.answer(is_head=True)

            assert answer.status == 200
            assert answer.header("content-length") == "1234"
            assert answer.header("content-type") == "x/y"


TARGETS = [
    "/v1/files/a%2Fb%2fc/content",
    "/v1/files/a+b%20c",
    "/v1/vector_stores/vs_1/files?limit=10&after=",
    "/v1/files?purpose=fine-tune&purpose=&&x",
    "/v1/files?q=%2F+%25%zz%e6%bc%a2&%41=%41",
    '/v1/files?a=b;c=d&e[]=1&f={x}|y^`"<>',
    "/v1/files??=?",
    "/v1/files/",
    "/v1//files//x",
    "/v1/files?next=http://127.0.0.1/../..",
    "/v1/files/%E6%BC%A2%F0%9F%98%80",
    "/v1/assistants/a:b@c,d;e=f!$&'()*~",
    "/v1/" + "x" * 4000,
]


@pytest.mark.parametrize("target", TARGETS)
async def test_target_as_sent(target: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    answer = await ask_raw(shared_gateway, head("GET", target))

    assert answer.status in (200, 404)
    assert upstream.requests[0].raw_path == target


async def test_headers_of_a_request(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """End to end headers pass as they are; those of the hop, cookies and the gateway's own do not."""
    sent = {
        "Authorization": "Bearer sk-mine",
        "OpenAI-Beta": "assistants=v2",
        "OpenAI-Organization": "org-1",
        "X-Custom": 'a "quoted" \u00c3\u00a9 value;  with=blanks',
        "Accept-Encoding": "zstd, gzip;q=0.5",
        "User-Agent": "test/1",
        "Range": "bytes=0-3",
        "If-None-Match": '"abc"',
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x-request-id": "mine-1",
    }
    dropped = {
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
        "Keep-Alive": "timeout=5",
        "Proxy-Authorization": "Basic eDp5",
        "Proxy-Connection": "keep-alive",
        "TE": "trailers",
        "Cookie": "session=secret",
        "x-gateway-session": "s",
        "X-Gateway-Budget": "100",
    }
    lines = [f"{name}: {value}" for name, value in {**sent, **dropped}.items()]
    await ask_raw(shared_gateway, head("GET", "/v1/files", *lines, "X-Twice: 1", "X-Twice: 2"))
    seen = upstream.requests[0]
    received = {name.lower(): value for name, value in seen.headers}

    assert {name: received.get(name.lower()) for name in sent} == sent
    assert {name.lower() for name in dropped}.isdisjoint(received)
    assert [value for name, value in seen.headers if name == "X-Twice"] == ["1", "2"]
    assert received["host"] == upstream.base_url.removeprefix("http://").removesuffix("/v1")


async def test_nothing_is_added_but_a_request_id(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    answer = await ask_raw(shared_gateway, head("GET", "/v1/files"))
    received = {name.lower() for name, _ in upstream.requests[0].headers}

    assert received == {"host", "x-request-id"}
    assert upstream.requests[0].header("x-request-id") == answer.header("x-gateway-request-id")


async def test_headers_of_an_answer(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    extra = (
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("x-gateway-upstream", "forged"),
        ("x-gateway-evil", "1"),
        ("etag", '"abc"'),
        ("cache-control", "no-store"),
        ("content-disposition", 'attachment; filename="\u00e9.bin"'),
        ("x-request-id", "theirs"),
        ("access-control-allow-origin", "*"),
    )
    upstream.script.append(Behaviour(headers=extra))
    answer = await ask_raw(shared_gateway, head("GET", "/v1/files"))

    assert answer.header("etag") == '"abc"'
    assert answer.header("cache-control") == "no-store"
    assert answer.header("content-disposition") == 'attachment; filename="\u00c3\u00a9.bin"'  # UTF-8, seen as bytes
    assert answer.header("x-request-id") == "theirs"
    assert answer.header("access-control-allow-origin") == "*"
    assert answer.header("x-gateway-upstream") == "fake"
    for name in ("x-hop", "keep-alive", "proxy-authenticate", "x-gateway-evil", "set-cookie"):
        assert answer.header(name) is None, name
    assert answer.header("connection") in (None, "keep-alive")


BODY_SIZES = [0, 1, 65_535, 65_536, 300_000]


@pytest.mark.parametrize("size", BODY_SIZES)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_binary_body(size: int, is_chunked: bool, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """A body of known length is sent on with its length, another in chunks."""
    body = (BINARY * (size // len(BINARY) + 1))[:size]
    lines = ["Transfer-Encoding: chunked"] if is_chunked else [f"Content-Length: {size}"]
    sent = chunked([body[:1000], body[1000:]] if size > 1000 else [body] * bool(size)) if is_chunked else [body]
    answer = await ask_raw(shared_gateway, head("POST", "/v1/audio/speech", *lines), *sent)

    assert upstream.requests[0].body == body
    assert echo(answer)["headers"].get("content-length") == (None if is_chunked else str(size))


async def test_trailers_are_ignored(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    lines = ["Transfer-Encoding: chunked", "Trailer: X-Sum"]
    async with await Wire.open(shared_gateway.port) as wire:
        await wire.send(head("POST", "/v1/files", *lines) + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n" + head("GET", "/v1/x"))
        first, second = await wire.answer(), await wire.answer()

    assert first.status == 400
    assert upstream.requests[0].body == b"abc"
    assert upstream.requests[0].header("x-sum") is None
    assert second.status == 200


async def test_expect_continue(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """The client is asked for its body once, and not before there is somebody to send it to."""
    for path in ("/v1/files/x", "/v1/chat/completions"):
        body = CHAT if "chat" in path else BINARY
        async with await Wire.open(shared_gateway.port) as wire:
            await wire.send(head("POST", path, f"Content-Length: {len(body)}", "Expect: 100-continue"))
            async with asyncio.timeout(5):
                first = await wire._reader.readuntil(b"\r\n\r\n")
            await wire.send(body)
            answer = await wire.answer()

        assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert answer.interim == 0, path
        assert upstream.requests[-1].body == body
        assert upstream.requests[-1].header("expect") is None


async def test_encoding_passes_untouched(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """Both ways: neither a compressed body nor a compressed answer is opened."""
    packed = gzip.compress(BINARY, mtime=0)
    behaviour = Behaviour(reply=Reply([packed]), headers=(("content-encoding", "gzip"),))
    upstream.script.append(behaviour)
    lines = [f"Content-Length: {len(packed)}", "Content-Encoding: gzip", "Accept-Encoding: gzip"]
    answer = await ask_raw(shared_gateway, head("POST", "/v1/x", *lines) + packed)

    assert upstream.requests[0].body == packed
    assert upstream.requests[0].header("content-encoding") == "gzip"
    assert answer.body == packed
    assert answer.header("content-encoding") == "gzip"
    assert answer.header("content-length") == str(len(packed))


# Answers in all forms

RAW_ANSWERS: dict[str, tuple[bytes, int, bytes]] = {
    "204": (b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", 204, b""),
    "304": (b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nX-A: b\r\n\r\n', 304, b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nX-A: b\r\n\r\n", 304, b""),
    "no content type": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nok", 200, b"ok"),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: b\r\n\r\n", 200, b""),
    "ended by closing": (b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nuntil the end", 200, b"until the end"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nold", 200, b"old"),
    "chunks and trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\nX-A: b\r\n\r\n"
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n",
        200,
        b"abcde",
    ),
    "redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0\r\nX-A: b\r\n\r\n",
        302,
        b"",
    ),
    "permanent redirect": (b"HTTP/1.1 308 X\r\nLocation: /y\r\nContent-Length: 0\r\nX-A: b\r\n\r\n", 308, b""),
    "unusual status": (b"HTTP/1.1 299 Odd\r\nContent-Length: 1\r\nX-A: b\r\n\r\n!", 299, b"!"),
    "early hints first": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-A: b\r\n\r\n1",
        200,
        b"1",
    ),
    "teapot": (b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\nX-A: b\r\n\r\n", 418, b""),
}


@pytest.mark.parametrize("name", RAW_ANSWERS)
async def test_answer(name: str, keyed: GatewayProcess, plain_upstream: RawUpstream) -> None:
    """Status, body and headers are the upstream's; nothing is made up, and no redirect is followed."""
    plain_upstream.answer, status, body = RAW_ANSWERS[name]
    plain_upstream.received.clear()
    async with await Wire.open(keyed.port) as wire:
        for _ in range(2):
            await wire.send(head("GET", "/v1/x"))
            answer = await wire.answer()

            assert (answer.status, answer.body) == (status, body)
            assert answer.header("x-a") == "b"
            assert answer.header("content-type") is None
            assert answer.header("trailer") is None
            assert answer.header("x-t") is None
    location = re.search(rb"Location: (\S+)", plain_upstream.answer)
    assert answer.header("location") == (location[1].decode() if location else None)
    assert len(plain_upstream.received) == 2


@pytest.mark.parametrize("name", ["Authorization", "api-key", "x-api-key"])
@pytest.mark.parametrize("path", ["/v1/files", "/v1/chat/completions"])
async def test_key_of_the_upstream_replaces_the_client_own(
    name: str, path: str, keyed: GatewayProcess, plain_upstream: RawUpstream
) -> None:
    """Whatever the client sends as a credential never reaches an upstream that has a key."""
    plain_upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    plain_upstream.received.clear()
    await ask_raw(keyed, head("POST", path, f"{name}: sk-client-secret", f"Content-Length: {len(CHAT)}") + CHAT)
    (request,) = plain_upstream.received

    assert b"sk-client-secret" not in request
    assert re.findall(rb"(?i)\r\nauthorization: ([^\r]*)", request) == [b"Bearer sk-upstream"]


async def test_key_of_the_client_passes_where_the_upstream_has_none(
    shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    for path in ("/v1/files/x", "/v1/chat/completions"):
        lines = ["Authorization: Bearer sk-own", "api-key: own-too", f"Content-Length: {len(CHAT)}"]
        await ask_raw(shared_gateway, head("POST", path, *lines) + CHAT)

        assert upstream.requests[-1].header("authorization") == "Bearer sk-own"
        assert upstream.requests[-1].header("api-key") == "own-too"


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_errors_pass_with_their_bodies(status: int, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """A request with a body is not sent again: its bytes are gone."""
    upstream.script.append(fail(status, b"<h1>no</h1>", retry_after="3", content_type="text/html"))
    answer = await ask_raw(shared_gateway, head("POST", "/v1/files", "Content-Length: 3") + b"abc")

    assert (answer.status, answer.body) == (status, b"<h1>no</h1>")
    assert answer.header("content-type") == "text/html"
    assert answer.header("retry-after") == "3"
    assert len(upstream.requests) == 1


# Large bodies


async def test_large_upload_in_bounded_memory(
    shared_gateway: GatewayProcess, upstream: FakeOpenAI, web: aiohttp.ClientSession
) -> None:
    """60 MB as a multipart form, as the client library sends a file."""
    size, digest = 60 * MEGABYTE, hashlib.sha256()

    async def content() -> AsyncIterator[bytes]:
        for i in range(60):
            piece = i.to_bytes(4, "big") * (MEGABYTE // 4)
            digest.update(piece)
            yield piece

    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", content(), filename="big.jsonl", content_type="application/octet-stream")
    shared_gateway.reset_peak()
    before = shared_gateway.memory_bytes()
    async with web.post(shared_gateway.base_url + "/files", data=form) as response:
        made = await response.json()
    peak, after = shared_gateway.memory_bytes("VmHWM"), shared_gateway.memory_bytes()
    print(f"upload: resident {before / MEGABYTE:.1f} MB, peak {peak / MEGABYTE:.1f}, after {after / MEGABYTE:.1f}")

    assert (response.status, made["bytes"]) == (200, size)
    assert hashlib.sha256(upstream.files[made["id"]][1]).digest() == digest.digest()
    assert peak - before < 40 * MEGABYTE


async def test_large_download_in_bounded_memory(
    shared_gateway: GatewayProcess, upstream: FakeOpenAI, web: aiohttp.ClientSession
) -> None:
    """60 MB to a client that reads slowly at first."""
    content = hashlib.shake_256(b"x").digest(MEGABYTE) * 60
    upstream.script.append(Behaviour(reply=Reply([content], content_type="application/octet-stream")))
    shared_gateway.reset_peak()
    before = shared_gateway.memory_bytes()
    digest, size = hashlib.sha256(), 0
    async with web.get(shared_gateway.base_url + "/files/f/content") as response:
        await asyncio.sleep(0.2)  # the client's slowness is what is tested
        async for chunk in response.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
    peak = shared_gateway.memory_bytes("VmHWM")
    print(f"download: resident {before / MEGABYTE:.1f} MB, peak {peak / MEGABYTE:.1f}")

    assert size == len(content)
    assert response.headers["content-length"] == str(size)
    assert digest.digest() == hashlib.sha256(content).digest()
    assert peak - before < 40 * MEGABYTE


async def test_broken_download_is_not_whole(
    shared_gateway: GatewayProcess, upstream: FakeOpenAI, web: aiohttp.ClientSession
) -> None:
    """An answer that breaks off in the middle breaks off for the client too."""
    upstream.script.append(Behaviour(reply=Reply([b"x" * MEGABYTE]), end_after=1))
    with pytest.raises(aiohttp.ClientPayloadError):
        async with web.get(shared_gateway.base_url + "/files/f/content") as response:
            await response.read()


async def test_download_that_never_begins_is_an_honest_error(
    shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """A head without its body is not passed on."""
    upstream.script.append(Behaviour(reply=Reply([b"x" * 1000]), end_after=0, end=End.RESET))
    answer = await ask_raw(shared_gateway, head("GET", "/v1/files/f/content"))

    assert answer.status == 502
    assert answer.error()["code"] == "upstream_error"


async def test_answer_before_the_upload_is_whole(keyed: GatewayProcess, plain_upstream: RawUpstream) -> None:
    """An upstream that refuses a large upload at its head is heard."""
    plain_upstream.answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig!"
    lines = ["Transfer-Encoding: chunked"]
    answer = await ask_raw(keyed, head("POST", "/v1/files", *lines), *chunked([b"x" * MEGABYTE] * 20))

    assert answer.status in (413, 502)
