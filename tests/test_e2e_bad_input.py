"""Whatever bytes arrive, the answer is an error in OpenAI's form with the right status, and the gateway serves on."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, Wire, ask_raw, chunked, config_for, head

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
PATH = "/v1/chat/completions"
CHAT: Json = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi there"}]}
GOOD = json.dumps(CHAT).encode()
JSON_TYPE = "Content-Type: application/json"
MEGABYTE = 2**20
DEEP = 2000


def message(raw: str) -> bytes:
    """A chat of one message, written as it stands."""
    return b'{"model":"gpt-4o","messages":[' + raw.encode("utf-8", "surrogatepass") + b"]}"


def post(body: bytes, *lines: str, path: str = PATH) -> bytes:
    return head("POST", path, JSON_TYPE, f"Content-Length: {len(body)}", *lines) + body


async def assert_serves(gateway: GatewayProcess) -> None:
    """An ordinary request is answered, on a connection of its own."""
    answer = await ask_raw(gateway, post(GOOD))

    assert answer.status == 200
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "You said: hi there"


# name: (body, code, param)
BODIES: dict[str, tuple[bytes, str, str | None]] = {
    "nothing": (b"", "invalid_json", None),
    "white space": (b" \n", "invalid_json", None),
    "not JSON": (b"model=gpt-4o&messages=hi", "invalid_json", None),
    "JSON cut off": (GOOD[:-10], "invalid_json", None),
    "JSON and more": (GOOD + b"}", "invalid_json", None),
    "an array": (b"[" + GOOD + b"]", "invalid_json", None),
    "a string": (b'"hello"', "invalid_json", None),
    "null": (b"null", "invalid_json", None),
    "UTF-16": (GOOD.decode().encode("utf-16"), "invalid_json", None),
    "Latin-1": (
        message('{"role":"user","content":"caf\u00e9"}').decode().encode("latin-1"),
        "invalid_json",
        "messages[0]",
    ),
    "single quotes": (b"{'model': 'gpt-4o', 'messages': []}", "invalid_json", None),
    "NaN": (GOOD[:-1] + b', "temperature": NaN}', "invalid_json", None),
    "Infinity": (GOOD[:-1] + b', "temperature": -Infinity}', "invalid_json", None),
    "NaN in a message": (message('{"role":"user","content":"x","n":NaN}'), "invalid_json", None),
    "a comment": (b"/* hi */" + GOOD, "invalid_json", None),
    "control character in a string": (message('{"role":"user","content":"a\nb"}'), "invalid_json", None),
    "raw surrogate": (message('{"role":"user","content":"\ud800"}'), "invalid_json", "messages[0]"),
    "escaped surrogate": (message('{"role":"user","content":"\\ud83d"}'), "invalid_json", None),
    "no model": (b'{"messages":[{"role":"user","content":"x"}]}', "missing_required_parameter", "model"),
    "model null": (b'{"model":null,"messages":[{"role":"user","content":"x"}]}', "invalid_type", "model"),
    "model empty": (b'{"model":"","messages":[{"role":"user","content":"x"}]}', "invalid_value", "model"),
    "model endless": (json.dumps({**CHAT, "model": "m" * 5000}).encode(), "invalid_value", "model"),
    "no messages": (b'{"model":"gpt-4o"}', "missing_required_parameter", "messages"),
    "messages empty": (b'{"model":"gpt-4o","messages":[]}', "empty_array", "messages"),
    "messages null": (b'{"model":"gpt-4o","messages":null}', "invalid_type", "messages"),
    "messages an object": (b'{"model":"gpt-4o","messages":{}}', "invalid_type", "messages"),
    "message a string": (message('"hi"'), "invalid_type", "messages[0]"),
    "message null": (message("null"), "invalid_type", "messages[0]"),
    "message without role": (message('{"content":"x"}'), "missing_required_parameter", "messages[0].role"),
    "unknown role": (message('{"role":"wizard","content":"x"}'), "invalid_value", "messages[0].role"),
    "role a number": (message('{"role":1,"content":"x"}'), "invalid_type", "messages[0].role"),
    "content a number": (message('{"role":"user","content":1}'), "invalid_type", "messages[0].content"),
    "content parts of strings": (
        message('{"role":"user","content":["x"]}'),
        "invalid_type",
        "messages[0].content[0]",
    ),
    "tool_calls an object": (
        message('{"role":"assistant","tool_calls":{}}'),
        "invalid_type",
        "messages[0].tool_calls",
    ),
    "stream a string": (GOOD[:-1] + b',"stream":"true"}', "invalid_type", "stream"),
    "max_tokens a fraction": (GOOD[:-1] + b',"max_tokens":1.5}', "invalid_type", "max_tokens"),
    "max_tokens below 0": (GOOD[:-1] + b',"max_tokens":-1}', "integer_below_min_value", "max_tokens"),
    "max_tokens above all": (GOOD[:-1] + b',"max_tokens":99999999}', "context_length_exceeded", "messages"),
    "max_tokens of 40 digits": (
        GOOD[:-1] + b',"max_tokens":' + b"9" * 40 + b"}",
        "integer_above_max_value",
        "max_tokens",
    ),
    "max_tokens of 5000 digits": (GOOD[:-1] + b',"max_tokens":' + b"9" * 5000 + b"}", "invalid_type", "max_tokens"),
    "n zero": (GOOD[:-1] + b',"n":0}', "integer_below_min_value", "n"),
    "stream_options a list": (GOOD[:-1] + b',"stream_options":[]}', "invalid_type", "stream_options"),
    "model twice": (b'{"model":"a",' + GOOD[1:], "duplicate_key", "model"),
    "messages twice": (GOOD[:-1] + b',"messages":[]}', "duplicate_key", "messages"),
    "role twice": (message('{"role":"user","role":"system","content":"x"}'), "duplicate_key", "messages[0]"),
    "escaped key": (GOOD[:-1] + b',"mod\\u0065l":"x"}', "duplicate_key", "model"),
    "nested objects": (GOOD[:-1] + b',"x":' + b'{"a":' * DEEP + b"1" + b"}" * (DEEP + 1), "invalid_json", None),
    "nested arrays": (b"[" * 100_000, "invalid_json", None),
    "nested in a message": (
        message('{"role":"user","content":[' + '{"a":[' * DEEP + "]}" * DEEP + "]}"),
        "invalid_json",
        None,
    ),
}


@pytest.mark.parametrize("name", BODIES)
async def test_body(name: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    body, code, param = BODIES[name]
    answer = await ask_raw(shared_gateway, post(body))
    error = answer.error()

    assert answer.status == 400, error
    assert error["type"] == "invalid_request_error"
    assert (error["code"], error["param"]) == (code, param), error
    assert len(error["message"]) > 20
    assert "\n" not in error["message"]
    assert "msgspec" not in error["message"]
    assert answer.header("content-type") == "application/json"
    assert upstream.requests == []
    await assert_serves(shared_gateway)


ODD_BUT_VALID: dict[str, bytes] = {
    "escaped pair": message('{"role":"user","content":"\\ud83d\\ude00"}'),
    "NUL in a string": message('{"role":"user","content":"a\\u0000b"}'),
    "big numbers": GOOD[:-1] + b',"seed":1' + b"0" * 400 + b',"temperature":1e-400}',
    "white space around": b"\r\n\t " + GOOD + b" \n\n",
    "unknown keys": GOOD[:-1] + b',"x":{"a":[1,{}]},"":0}',
    "empty content": message('{"role":"user","content":""}'),
    "twice the same key below": GOOD[:-1] + b',"metadata":{"a":"1","a":"2"}}',
}


@pytest.mark.parametrize("name", ODD_BUT_VALID)
async def test_odd_bodies_pass_unchanged(name: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """What is none of the gateway's business reaches the upstream byte for byte."""
    answer = await ask_raw(shared_gateway, post(ODD_BUT_VALID[name]))

    assert [seen.body for seen in upstream.requests] == [ODD_BUT_VALID[name]]
    assert answer.header("x-gateway-upstream") == "fake"


@pytest.mark.parametrize("path", ["completions", "responses", "embeddings"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"model":1}', b'{"model":"m","input":1e999,"prompt":NaN}'])
async def test_other_endpoints(path: str, body: bytes, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    answer = await ask_raw(shared_gateway, post(body, path=f"/v1/{path}"))

    assert answer.status == 400
    assert answer.error()["type"] == "invalid_request_error"


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_too_large(is_chunked: bool, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """40 MB: refused with numbers, without reading it all into memory."""
    pieces = [b" " * MEGABYTE] * 40
    lines = ["Transfer-Encoding: chunked"] if is_chunked else [f"Content-Length: {40 * MEGABYTE}"]
    body = chunked(pieces) if is_chunked else iter(pieces)
    before = shared_gateway.memory_bytes()
    answer = await ask_raw(shared_gateway, head("POST", PATH, JSON_TYPE, *lines), *body)
    grown = shared_gateway.memory_bytes() - before
    print(f"memory grew by {grown / MEGABYTE:.1f} MB")

    assert answer.status == 413
    assert answer.error()["code"] == "request_too_large"
    assert "33554432" in answer.error()["message"]
    assert grown < 60 * MEGABYTE
    assert (await shared_gateway.metrics()).total("gateway_buffered_bytes") == 0
    await assert_serves(shared_gateway)


async def test_too_large_is_said_before_the_body_is_sent(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """A client that waits for leave to send is told no at once."""
    lines = (JSON_TYPE, f"Content-Length: {40 * MEGABYTE}", "Expect: 100-continue")
    answer = await ask_raw(shared_gateway, head("POST", PATH, *lines))

    assert (answer.status, answer.interim) == (413, 0)


async def test_a_large_body_within_the_bound(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """12 MB of one message is counted and refused by the budget; others are served meanwhile."""
    body = message('{"role":"user","content":"' + "word " * (12 * MEGABYTE // 5) + '"}')
    asking = asyncio.create_task(ask_raw(shared_gateway, post(body), timeout_s=60))
    latest = 0.0
    while not asking.done():
        began = time.monotonic()
        status, _ = await shared_gateway.admin("/health/live")
        latest = max(latest, time.monotonic() - began)
        assert status == 200
    answer = await asking
    print(f"health answered within {latest * 1000:.0f} ms")

    assert answer.status == 400
    assert answer.error()["code"] == "context_length_exceeded"
    assert latest < 2
    assert (await shared_gateway.metrics()).total("gateway_buffered_bytes") == 0


def bomb() -> bytes:
    """A kilobyte of gzip for a megabyte of blanks, 60 times."""
    packed = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return b"".join(packed.compress(b" " * MEGABYTE) for _ in range(60)) + packed.flush()


ENCODED: dict[str, tuple[str, bytes, int, str]] = {
    "gzip bomb": ("gzip", bomb(), 413, "request_too_large"),
    "gzip cut off": ("gzip", gzip.compress(GOOD)[:-12], 400, "invalid_encoding"),
    "gzip and more": ("gzip", gzip.compress(GOOD) + b"more", 400, "invalid_encoding"),
    "not gzip": ("gzip", GOOD, 400, "invalid_encoding"),
    "gzip of no JSON": ("gzip", gzip.compress(b"{"), 400, "invalid_json"),
    "brotli": ("br", GOOD, 415, "unsupported_encoding"),
    "two encodings": ("gzip, gzip", gzip.compress(gzip.compress(GOOD)), 415, "unsupported_encoding"),
    "no encoding at all": ("x" * 500, GOOD, 415, "unsupported_encoding"),
}


@pytest.mark.parametrize("name", ENCODED)
async def test_bad_encoding(name: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    encoding, body, status, code = ENCODED[name]
    answer = await ask_raw(shared_gateway, post(body, f"Content-Encoding: {encoding}"))

    assert (answer.status, answer.error()["code"]) == (status, code)
    assert upstream.requests == []
    await assert_serves(shared_gateway)


@pytest.mark.parametrize("name", ["gzip", "GZIP", "x-gzip", "deflate", "identity"])
async def test_good_encoding(name: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """A compressed body is counted like a plain one, and forwarded plain."""
    packed = {"deflate": zlib.compress(GOOD), "identity": GOOD}.get(name, gzip.compress(GOOD))
    answer = await ask_raw(shared_gateway, post(packed, f"Content-Encoding: {name}"))

    assert answer.status == 200
    assert upstream.requests[0].body == GOOD
    assert upstream.requests[0].header("content-encoding") is None


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_content_type_does_not_matter(kind: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """curl -d sends a form's type; what the type should be is the upstream's to judge, and it sees the client's."""
    line = [f"Content-Type: {kind}"] if kind else []
    request = head("POST", PATH, *line, f"Content-Length: {len(GOOD)}") + GOOD
    answer = await ask_raw(shared_gateway, request)

    assert answer.status == 200
    assert upstream.requests[0].header("content-type") == (kind or None)


MALFORMED: dict[str, tuple[bytes, int]] = {
    "no HTTP": (b"hello gateway\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "blank in a header's name": (head("GET", "/v1/models", "Bad Name: x"), 400),
    "line feed in a header": (head("GET", "/v1/models", "X-A: b\n c\r\n d"), 400),
    "two lengths": (head("POST", PATH, "Content-Length: 5", "Content-Length: 6") + b"12345", 400),
    "length and chunks": (head("POST", PATH, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "length no number": (head("POST", PATH, "Content-Length: many"), 400),
    "length below 0": (head("POST", PATH, "Content-Length: -1"), 400),
    "unknown transfer encoding": (head("POST", PATH, "Transfer-Encoding: gzip") + b"x", 400),
    "chunk size no number": (head("POST", PATH, "Transfer-Encoding: chunked") + b"zz\r\nhello\r\n0\r\n\r\n", 400),
    "header too large": (head("GET", "/v1/models", "X-Large: " + "x" * 100_000), 431),
    "too many headers": (head("GET", "/v1/models", *[f"X-{i}: y" for i in range(1000)]), 400),
    "target too long": (head("GET", "/v1/models?" + "x" * 100_000), 431),
    "NUL in a header": (head("GET", "/v1/models", "X-A: a\x00b"), 400),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_http(name: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """The answer is JSON, and the connection is closed: what follows cannot be trusted."""
    request, status = MALFORMED[name]
    async with await Wire.open(shared_gateway.port) as wire:
        await wire.send(request)
        answer = await wire.answer()
        rest = await wire.rest()

    assert answer.status == status
    assert answer.error()["type"] == "invalid_request_error"
    assert len(str(answer.header("x-gateway-request-id"))) == 32
    assert rest == b""
    assert upstream.requests == []
    await assert_serves(shared_gateway)


async def test_body_cut_off(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """A client that announces more than it sends, and leaves, is nobody's trouble."""
    async with await Wire.open(shared_gateway.port) as wire:
        await wire.send(head("POST", PATH, JSON_TYPE, f"Content-Length: {len(GOOD) + 100}") + GOOD)
        await wire.send_eof()
        await wire.rest()

    await assert_serves(shared_gateway)
    metrics = await shared_gateway.metrics()
    assert metrics.total("gateway_buffered_bytes") == 0
    assert metrics.total("gateway_requests_in_flight") == 0
    assert len(upstream.requests) == 1


PATHS: dict[str, tuple[str, int, str]] = {
    "root": ("/", 404, "unknown_path"),
    "no version": ("/chat/completions", 404, "unknown_path"),
    "other version": ("/v2/models", 404, "unknown_path"),
    "metrics on the data port": ("/metrics", 404, "unknown_path"),
    "absolute": ("http://evil.example/v1/models", 404, "unknown_path"),
    "up and away": ("/v1/../admin", 400, "invalid_path"),
    "up, escaped": ("/v1/%2e%2e/admin", 400, "invalid_path"),
    "up, half escaped": ("/v1/.%2E/admin", 400, "invalid_path"),
    "up, slash escaped": ("/v1/x%2f..%2f..%2fadmin", 400, "invalid_path"),
    "backslash": ("/v1/..\\admin", 400, "invalid_path"),
    "backslash escaped": ("/v1/%5c..%5cadmin", 400, "invalid_path"),
    "dot segment": ("/v1/./chat/completions", 400, "invalid_path"),
    "fragment": ("/v1/chat/completions#x", 400, "invalid_path"),
    "up in the middle": ("/v1/files/../chat/completions", 400, "invalid_path"),
}


@pytest.mark.parametrize("name", PATHS)
async def test_path_tricks(name: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """No spelling leads past what was checked, or out of the upstream's API."""
    target, status, code = PATHS[name]
    answer = await ask_raw(shared_gateway, post(GOOD, path=target))

    assert (answer.status, answer.error()["code"]) == (status, code)
    assert upstream.requests == []


@pytest.mark.parametrize(
    "target", ["/v1//chat/completions", "/v1/chat/completions/", "/v1/chat/%63ompletions", "/v1/Chat/Completions"]
)
async def test_other_spellings_are_metered(target: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """A lenient upstream would serve them, so they are counted, and forwarded as they are spelled."""
    answer = await ask_raw(shared_gateway, post(GOOD, path=target))

    assert answer.header("x-gateway-tokens-prompt")
    assert upstream.requests[0].raw_path == target


async def test_upgrade_is_not_followed(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """curl --http2 offers h2c with an ordinary request; it is answered in HTTP/1.1."""
    answer = await ask_raw(shared_gateway, post(GOOD, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"))

    assert answer.status == 200
    assert upstream.requests[0].header("upgrade") is None


async def test_pipelined_requests_are_answered_in_order(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    async with await Wire.open(shared_gateway.port) as wire:
        await wire.send(post(b"{") + post(GOOD) + head("GET", "/v1/models"))
        found = [(await wire.answer()).status for _ in range(3)]

    assert found == [400, 200, 200]


async def test_http_1_0(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """A stream to a client that knows no chunks ends with the connection."""
    body = GOOD[:-1] + b',"stream":true}'
    request = post(body, "Connection: close").replace(b"HTTP/1.1", b"HTTP/1.0")
    answer = await ask_raw(shared_gateway, request)

    assert answer.status == 200
    assert answer.header("transfer-encoding") is None
    assert answer.body.endswith(b"data: [DONE]\n\n")


# Web pages

ORIGINS: dict[str, tuple[list[str], str, int, str]] = {
    "foreign page": (["Origin: https://evil.example"], "localhost", 403, "origin_not_allowed"),
    "foreign page, null": (["Origin: null"], "localhost", 403, "origin_not_allowed"),
    "foreign host": ([], "evil.example", 403, "host_not_allowed"),
    "foreign host with port": ([], "evil.example:8080", 403, "host_not_allowed"),
    "host that looks local": ([], "localhost.evil.example", 403, "host_not_allowed"),
    "host empty": ([], "", 403, "host_not_allowed"),
}
LOCAL_HOSTS = ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "app.localhost", "LOCALHOST"]


@pytest.mark.parametrize("name", ORIGINS)
async def test_web_pages_are_refused(name: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """And the refusal is on record."""
    lines, host, status, code = ORIGINS[name]
    request = head("POST", PATH, JSON_TYPE, f"Content-Length: {len(GOOD)}", *lines, host=host) + GOOD
    answer = await ask_raw(shared_gateway, request)
    settled = await shared_gateway.settled({"x-gateway-request-id": str(answer.header("x-gateway-request-id"))})

    assert (answer.status, answer.error()["code"]) == (status, code)
    assert answer.error()["type"] == "permission_error"
    assert answer.header("access-control-allow-origin") is None
    assert settled["refusal"] == code
    assert upstream.requests == []


@pytest.mark.parametrize("host", LOCAL_HOSTS)
async def test_local_hosts_are_served(host: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    answer = await ask_raw(shared_gateway, head("GET", "/v1/models", host=host))

    assert answer.status == 200


PREFLIGHT = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type")


async def test_preflight_of_a_foreign_page(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    answer = await ask_raw(shared_gateway, head("OPTIONS", PATH, "Origin: https://evil.example", *PREFLIGHT))

    assert answer.status == 403
    assert answer.header("access-control-allow-origin") is None
    assert upstream.requests == []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict(shared_fake: FakeOpenAI) -> AsyncIterator[GatewayProcess]:
    """A gateway with short patience, one page that may call, and little room."""
    server: Json = {"body_idle_seconds": 0.4, "keepalive_seconds": 0.8, "allowed_origins": ["https://app.example"]}
    server |= {"max_buffered_bytes": 3 * MEGABYTE}
    async with GatewayProcess(config_for(shared_fake, server=server)) as gateway:
        yield gateway


async def test_page_that_may_call(strict: GatewayProcess, upstream: FakeOpenAI) -> None:
    """Its preflight is answered here, and it may read answers and refusals with all their headers."""
    origin = "Origin: https://app.example"
    preflight = await ask_raw(strict, head("OPTIONS", PATH, origin, *PREFLIGHT))
    served = await ask_raw(strict, post(GOOD, origin))
    refused = await ask_raw(strict, post(b"{", origin))

    assert preflight.status == 204
    assert preflight.header("access-control-allow-methods") == "POST"
    assert preflight.header("access-control-allow-headers") == "authorization,content-type"
    assert (served.status, refused.status) == (200, 400)
    for answer in (preflight, served, refused):
        assert answer.header("access-control-allow-origin") == "https://app.example"
        assert answer.header("vary") == "Origin"
        assert answer.header("access-control-allow-credentials") is None
    assert len(upstream.requests) == 1


# Slow clients


async def test_slow_body(strict: GatewayProcess, upstream: FakeOpenAI) -> None:
    """A body that stops arriving is given up, whether it is metered or passed through."""
    for path in (PATH, "/v1/files"):
        async with await Wire.open(strict.port) as wire:
            await wire.send(head("POST", path, JSON_TYPE, "Content-Length: 1000") + b'{"model"')
            answer = await wire.answer()

        assert answer.status == 408, path
        assert answer.error()["code"] == "request_timeout"
        assert "0.4" in answer.error()["message"]
    assert upstream.requests == []
    assert (await strict.metrics()).total("gateway_requests_in_flight") == 0
    await assert_serves(strict)


async def test_slow_head(strict: GatewayProcess, upstream: FakeOpenAI) -> None:
    """A head that never ends is answered and closed, however busily it drips."""
    async with await Wire.open(strict.port) as wire:
        await wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n")

        async def drip() -> None:
            while True:
                await wire.send(b"X-Drip: x\r\n")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        answer = await wire.answer()
        rest = await wire.rest()
        dripping.cancel()

    assert answer.status == 408
    assert answer.error()["code"] == "request_timeout"
    assert rest == b""
    await assert_serves(strict)


async def test_silent_connections_are_closed(strict: GatewayProcess, upstream: FakeOpenAI) -> None:
    """Without a byte, and without a byte after an answer; nothing is sent that nobody asked for."""
    async with await Wire.open(strict.port) as silent, await Wire.open(strict.port) as used:
        await used.send(post(GOOD))
        assert (await used.answer()).status == 200

        assert await silent.rest() == b""
        assert await used.rest() == b""


async def test_many_slow_clients_do_not_keep_others_waiting(strict: GatewayProcess, upstream: FakeOpenAI) -> None:
    wires = [await Wire.open(strict.port) for _ in range(200)]
    for wire in wires:
        await wire.send(head("POST", PATH, JSON_TYPE, "Content-Length: 1000") + b"{")
    began = time.monotonic()
    await assert_serves(strict)
    waited = time.monotonic() - began
    statuses = {(await wire.answer()).status for wire in wires}
    for wire in wires:
        wire.abort()

    assert waited < 1
    assert statuses == {408}


async def test_held_bodies_are_bounded(strict: GatewayProcess, upstream: FakeOpenAI) -> None:
    """Above max_buffered_bytes a request is told to come again; the room is free again when others have ended."""
    async with await Wire.open(strict.port) as first:
        await first.send(head("POST", PATH, JSON_TYPE, f"Content-Length: {3 * MEGABYTE}") + b" " * 2 * MEGABYTE)
        while (await strict.metrics()).total("gateway_buffered_bytes") < 2 * MEGABYTE:
            await asyncio.sleep(0.01)
        second = await ask_raw(strict, head("POST", PATH, JSON_TYPE, f"Content-Length: {2 * MEGABYTE}"))
        await first.answer()
    third = await ask_raw(strict, post(b"{" + b" " * 2 * MEGABYTE))

    assert second.status == 503
    assert second.error()["code"] == "gateway_overloaded"
    assert second.header("retry-after") == "1"
    assert third.status == 400


async def test_announced_bodies_take_no_room(strict: GatewayProcess, upstream: FakeOpenAI) -> None:
    """Connections that only announce large bodies do not keep others out."""
    wires = [await Wire.open(strict.port) for _ in range(20)]
    for wire in wires:
        await wire.send(head("POST", PATH, JSON_TYPE, f"Content-Length: {2 * MEGABYTE}") + b"{")
    while (await strict.metrics()).total("gateway_requests_in_flight") < 20:
        await asyncio.sleep(0.01)
    await assert_serves(strict)
    for wire in wires:
        wire.abort()


async def test_client_library_sees_413(shared_gateway: GatewayProcess, web: aiohttp.ClientSession) -> None:
    """A client that sends its whole body before it reads gets the answer, not a broken pipe."""
    url = shared_gateway.base_url + "/chat/completions"
    async with web.post(url, data=aiohttp.BytesPayload(b" " * 40 * MEGABYTE)) as response:
        found = await response.json(content_type=None)

    assert response.status == 413
    assert found["error"]["code"] == "request_too_large"
