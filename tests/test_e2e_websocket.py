"""Websockets through a real gateway process: what passes, what is told when an end breaks off, what holds."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType
from yarl import URL

from tests.fakes.openai_server import Behaviour, FakeOpenAI, fail, rate_limited, reset, stall
from tests.fakes.realtime import USAGE
from tests.gateway_process import GatewayProcess, Wire, ask_raw, config_for, head, upstream_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
TARGET = "/v1/realtime?model=gpt-realtime"
KEY = "sk-test-0123456789abcdef"
PROVIDER_KEY = "sk-provider-fedcba9876543210"
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
PROTOCOL, INSECURE = "Sec-WebSocket-Protocol", "openai-insecure-api-key."
Socket = aiohttp.ClientWebSocketResponse


def url_of(gateway: GatewayProcess, target: str = TARGET) -> URL:
    return URL(f"http://127.0.0.1:{gateway.port}{target}", encoded=True)


@asynccontextmanager
async def opened(
    web: aiohttp.ClientSession, gateway: GatewayProcess, target: str = TARGET, key: str | None = KEY, **options: Any
) -> AsyncIterator[Socket]:
    """A session whose first event has come."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    headers |= options.pop("headers", {})
    options = {"max_msg_size": 0, "timeout": aiohttp.ClientWSTimeout(ws_close=5), **options}
    async with web.ws_connect(url_of(gateway, target), headers=headers, **options) as websocket:
        assert (await websocket.receive_json(timeout=5))["type"] == "session.created"
        yield websocket


async def refused(web: aiohttp.ClientSession, gateway: GatewayProcess, target: str = TARGET, **options: Any) -> Json:
    """A handshake that is refused: status, headers and error."""
    headers = {name: value for name, _, value in (line.partition(": ") for line in HANDSHAKE)}
    headers |= {"Authorization": f"Bearer {KEY}"} | options.pop("headers", {})
    async with web.get(url_of(gateway, target), headers=headers, **options) as answer:
        error = json.loads(await answer.read())["error"]

        assert set(error) == {"message", "type", "param", "code"}
        return {"status": answer.status, "headers": answer.headers, **error}


async def command(websocket: Socket, kind: str, **fields: Any) -> None:
    await websocket.send_json({"type": kind, **fields})


async def closed(websocket: Socket) -> tuple[int | None, str]:
    """Code and reason of the close frame that comes next; text and binary before it are passed over."""
    async with asyncio.timeout(8):
        while True:
            message = await websocket.receive()
            if message.type is WSMsgType.CLOSE:
                return message.data, message.extra or ""
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return websocket.close_code, ""


async def logged(gateway: GatewayProcess, answered: Socket | bytes) -> Json:
    """The access-log line of a session, by its socket or by the bytes of its answer."""
    if isinstance(answered, bytes):
        found = re.search(rb"x-gateway-request-id: (\w+)", answered)
        assert found is not None
        request_id = found[1].decode()
    else:
        request_id = answered._response.headers["x-gateway-request-id"]
    return await gateway.wait_log(logger="gateway.access", endpoint="realtime", request_id=request_id)


# What passes


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 65_537, 300_000, 9_000_000])
async def test_messages_pass_both_ways(
    size: int, web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """Text stays text, binary stays binary, of any size, whole and in order."""
    text, binary = "ü€😀"[: size and 3].ljust(size // 2, "t"), bytes(range(256)) * (size // 256) + b"b" * (size % 256)
    async with opened(web, shared_gateway) as websocket:
        await websocket.send_str(text)
        await websocket.send_bytes(binary)
        first, second = await websocket.receive(timeout=8), await websocket.receive(timeout=8)
    session = (await upstream.wait_sessions())[0]

    assert (first.type, first.data) == (WSMsgType.TEXT, text)
    assert (second.type, second.data) == (WSMsgType.BINARY, binary)
    assert session.messages == [text, binary]
    assert session.target == TARGET


async def test_many_messages_keep_their_order(
    web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    async with opened(web, shared_gateway) as websocket:
        await command(websocket, "fake.send", count=5_000, size=64)
        found = [(await websocket.receive_str(timeout=8)).partition(":")[0] for _ in range(5_000)]

    assert found == [str(number) for number in range(5_000)]


async def test_what_comes_with_the_handshake_is_not_lost(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """A frame right behind the handshake's head waits until the upstream has taken that."""
    async with await Wire.open(shared_gateway.port) as wire:
        text = b"\x81\x85" + bytes(4) + b"early"
        close = b"\x88\x82" + bytes(4) + (1000).to_bytes(2, "big")
        await wire.send(head("GET", TARGET, *HANDSHAKE) + text + close)
        rest = await wire.rest()
    log = await logged(shared_gateway, rest)

    assert rest.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\x81\x05early" in rest
    assert rest.endswith(b"\x88\x02" + (1000).to_bytes(2, "big"))
    assert "fault" not in log


async def test_what_comes_before_the_answer_is_bounded(web: aiohttp.ClientSession, upstream: FakeOpenAI) -> None:
    """While no upstream has answered, a client can make the gateway hold no more than a few buffers."""
    waiting = stall()
    upstream.script.append(waiting)
    async with GatewayProcess(config_for(upstream)) as gateway, await Wire.open(gateway.port) as wire:
        before = gateway.memory_bytes()
        gateway.reset_peak()
        flood = asyncio.create_task(wire.send(head("GET", TARGET, *HANDSHAKE), *[b"x" * 1_000_000] * 60))
        await upstream.wait_requests()
        await still(gateway)

        assert not flood.done()
        assert gateway.memory_bytes("VmHWM") - before < 20_000_000
        waiting.release.set()
        flood.cancel()


async def test_without_a_model_it_goes_to_the_first_upstream(
    web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    async with opened(web, shared_gateway, "/v1/realtime?call_id=rtc_1") as websocket:
        await websocket.send_str("hello")

        assert await websocket.receive_str(timeout=5) == "hello"


async def test_pings_are_answered_and_passed_on(
    web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    async with opened(web, shared_gateway, autoping=False) as websocket:
        await websocket.ping(b"are you there")
        answer = await websocket.receive(timeout=5)

    assert (answer.type, bytes(answer.data)) == (WSMsgType.PONG, b"are you there")


async def test_compression_is_not_agreed_on(
    web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """A client that offers an extension gets along without it."""
    async with opened(web, shared_gateway, compress=15) as websocket:
        await websocket.send_str("z" * 1000)

        assert await websocket.receive_str(timeout=5) == "z" * 1000
        assert websocket.compress == 0
    assert upstream.sessions[0].header("sec-websocket-extensions") is None


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1000, "bye"), (3001, "ünüsual"), (4999, "r" * 123)])
async def test_closes_pass_both_ways(
    code: int, reason: str, web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    async with opened(web, shared_gateway) as first:
        await command(first, "fake.close", code=code, reason=reason)

        assert await closed(first) == (code, reason)
    async with opened(web, shared_gateway) as websocket:
        await websocket.close(code=code, message=reason.encode())
        assert websocket.close_code == code
    session = upstream.sessions[1]
    await asyncio.wait_for(session.is_over.wait(), 5)
    logs = [await logged(shared_gateway, each) for each in (first, websocket)]

    assert (session.close_code, session.close_reason) == (code, reason)
    assert [(log["status"], log.get("fault")) for log in logs] == [(101, None), (101, None)]


# An end that breaks off


@pytest.mark.parametrize(
    ("kind", "fields"), [("fake.vanish", {}), ("fake.die", {}), ("fake.die", {"within_frame": True})]
)
async def test_client_is_told_that_the_upstream_broke_off(
    kind: str, fields: Json, web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    async with opened(web, shared_gateway) as websocket:
        await command(websocket, kind, **fields)
        code, reason = await closed(websocket)
    log = await logged(shared_gateway, websocket)

    assert (code, reason) == (1011, "the upstream broke off")
    assert (log["status"], log["fault"]) == (101, "cut")


async def test_client_is_told_in_the_middle_of_a_large_message(
    web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """What was passed on of a message that is cut is no whole message, and the close frame is a frame."""
    async with opened(web, shared_gateway) as websocket:
        await command(websocket, "fake.raw", hex=(b"\x82\x7f" + (10**6).to_bytes(8, "big") + b"x" * 200_000).hex())
        await command(websocket, "fake.die")
        message = await websocket.receive(timeout=5)

    assert (message.type, message.data) == (WSMsgType.CLOSE, 1011)


async def test_upstream_is_told_that_the_client_has_gone(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", shared_gateway.port)
    writer.write(head("GET", TARGET, *HANDSHAKE))
    answered = await asyncio.wait_for(reader.readuntil(b"session.created"), 5)
    writer.transport.abort()
    session = upstream.sessions[0]
    await asyncio.wait_for(session.is_over.wait(), 5)
    log = await logged(shared_gateway, answered)

    assert (session.close_code, session.close_reason) == (1001, "the client has gone")
    assert (log["status"], log["fault"]) == (101, "client_gone")


async def test_a_close_that_is_not_answered_is_answered_here(
    shared_gateway: GatewayProcess, web: aiohttp.ClientSession, upstream: FakeOpenAI
) -> None:
    """An upstream that goes in place of answering a close leaves the client with its own code."""
    async with opened(web, shared_gateway) as websocket:
        await command(websocket, "fake.rude")
        await websocket.close(code=4321)
    log = await logged(shared_gateway, websocket)

    assert websocket.close_code == 4321
    assert upstream.sessions[0].close_code == 4321
    assert "fault" not in log


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\xc1\x01x", 1002),
        (b"\x83\x01x", 1002),
        (b"\x81\x81abcdx", 1002),
        (b"\x80\x01x", 1002),
        (b"\x89\x7e\x00\x7e" + b"x" * 126, 1002),
        (b"\x82\x7f" + (2**40).to_bytes(8, "big"), 1009),
    ],
    ids=["reserved bit", "unknown kind", "masked", "continues nothing", "long ping", "too large"],
)
async def test_an_upstream_that_breaks_the_protocol_is_cut_off(
    frame: bytes, code: int, web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    async with opened(web, shared_gateway) as websocket:
        await command(websocket, "fake.raw", hex=frame.hex())

        assert (await closed(websocket))[0] == 1011
    session = upstream.sessions[0]
    await asyncio.wait_for(session.is_over.wait(), 5)
    log = await logged(shared_gateway, websocket)

    assert session.close_code == code
    assert log["fault"] == ("malformed" if code == 1002 else "message_too_large")


async def test_a_message_of_a_client_that_is_too_large_closes(web: aiohttp.ClientSession, upstream: FakeOpenAI) -> None:
    """The bound holds for a message, in how many frames it may come, and up to it everything passes."""
    async with GatewayProcess(config_for(upstream, websockets={"max_message_bytes": 100_000})) as gateway:
        async with opened(web, gateway) as websocket:
            await websocket.send_bytes(b"x" * 100_000)

            assert len(await websocket.receive_bytes(timeout=5)) == 100_000
            await websocket.send_bytes(b"x" * 100_001)

            assert (await closed(websocket))[0] == 1009
        async with await Wire.open(gateway.port) as wire:
            await wire.send(head("GET", TARGET, *HANDSHAKE))
            await upstream.wait_sessions(2)
            part = b"\xfe" + (60_000).to_bytes(2, "big") + bytes(4) + b"x" * 60_000
            await wire.send(b"\x02" + part, b"\x00" + part)
            rest = await wire.rest()
        sessions = await upstream.wait_sessions(2)
        await asyncio.wait_for(sessions[1].is_over.wait(), 5)

        assert (1009).to_bytes(2, "big") in rest
        assert [(each.close_code, len(each.messages)) for each in sessions] == [(1001, 1), (1001, 0)]


# The handshake


@pytest.mark.parametrize("status", [401, 403, 404, 400])
async def test_a_refused_handshake_is_passed_on(
    status: int, web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    upstream.script.append(fail(status, {"error": {"message": "no", "type": "t", "param": "p", "code": "c"}}))
    found = await refused(web, shared_gateway)

    assert (found["status"], found["message"], found["code"]) == (status, "no", "c")
    assert found["headers"]["x-gateway-upstream"] == upstream.name


@pytest.mark.parametrize("body", [b"", b"<html>Not here</html>", b'{"detail": "no"}', b"x" * 200_000])
async def test_a_refusal_in_other_words_is_put_into_ours(
    body: bytes, web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    upstream.script.append(fail(403, body))
    found = await refused(web, shared_gateway)

    assert (found["status"], found["code"]) == (403, "websocket_refused")
    assert body[:20].decode() in found["message"]
    assert len(found["message"]) < 1000


async def test_an_answer_that_is_no_handshake_is_an_error(
    web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """A 200 in place of 101 is no success."""
    upstream.script.append(Behaviour())
    found = await refused(web, shared_gateway)

    assert (found["status"], found["code"]) == (502, "upstream_error")


BAD_FIRST = {
    "429": lambda: rate_limited(9),
    "503": lambda: fail(503, retry_after="9"),
    "500": lambda: fail(500),
    "200": Behaviour,
    "reset": reset,
    "silent": stall,
}


@pytest.mark.parametrize("name", BAD_FIRST)
async def test_the_next_upstream_is_asked(name: str, web: aiohttp.ClientSession) -> None:
    async with FakeOpenAI(name="first") as first, FakeOpenAI(name="second") as second:
        for _ in range(3):
            first.script.append(BAD_FIRST[name]())
        config = config_for(upstreams=[])
        config["upstreams"] = [
            upstream_for(first, timeouts={"header_seconds": 0.3}, retries={"max": 0}),
            upstream_for(second, priority=1),
        ]
        async with GatewayProcess(config) as gateway:
            async with opened(web, gateway) as websocket:
                await websocket.send_str("hello")

                assert await websocket.receive_str(timeout=5) == "hello"
            log = await logged(gateway, websocket)

            assert (log["upstream"], log["attempts"], log["status"]) == ("second", 2, 101)
            assert len(second.sessions) == 1
            assert first.sessions == []


async def test_the_last_refusal_is_passed_on(web: aiohttp.ClientSession) -> None:
    async with FakeOpenAI(name="only") as only:
        only.script.extend([fail(503, retry_after="9")])
        async with GatewayProcess(config_for(only)) as gateway:
            found = await refused(web, gateway)

            assert (found["status"], found["type"]) == (503, "server_error")


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        (("Upgrade: websocket", *HANDSHAKE[2:]), 400, "invalid_handshake"),
        (HANDSHAKE[:3], 400, "invalid_handshake"),
        ((*HANDSHAKE[:3], "Sec-WebSocket-Key: AAAA"), 400, "invalid_handshake"),
        ((*HANDSHAKE, HANDSHAKE[3]), 400, "invalid_handshake"),
        ((*HANDSHAKE[:2], "Sec-WebSocket-Version: 8", HANDSHAKE[3]), 426, "websocket_version"),
        ((*HANDSHAKE, "Origin: https://evil.example"), 403, "origin_not_allowed"),
        ((*HANDSHAKE, f"{PROTOCOL}: {INSECURE}a", "Authorization: Bearer b"), 401, "invalid_api_key"),
        ((*HANDSHAKE, f"{PROTOCOL}: {INSECURE}a, {INSECURE}b"), 401, "invalid_api_key"),
    ],
    ids=[
        "no upgrade",
        "no key",
        "short key",
        "two keys",
        "old version",
        "origin",
        "another key",
        "two keys of clients",
    ],
)
async def test_what_is_no_handshake_is_refused(
    lines: tuple[str, ...], status: int, code: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    answer = await ask_raw(shared_gateway, head("GET", TARGET, *lines))

    assert (answer.status, answer.error()["code"]) == (status, code)
    assert upstream.requests == []


async def test_a_foreign_host_is_refused(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    answer = await ask_raw(shared_gateway, head("GET", TARGET, *HANDSHAKE, host="rebound.example"))

    assert (answer.status, answer.error()["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize(
    "query", ["model=a&model=b", "model=a&mod%65l=b", "model=a;model=b", "model=", "MODEL=a&model=b", "model=%0a"]
)
async def test_a_query_that_servers_would_read_differently_is_refused(
    query: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    answer = await ask_raw(shared_gateway, head("GET", f"/v1/realtime?{query}", *HANDSHAKE))

    assert answer.status == 400
    assert answer.error()["param"] == "model"
    assert upstream.requests == []


# Clients, keys, models


def keyed(*fakes: FakeOpenAI, upstream: Json | None = None, **sections: Any) -> Json:
    clients = [
        {
            "name": "app",
            "key_sha256": hashlib.sha256(KEY.encode()).hexdigest(),
            "models": ["gpt-*"],
            "may": ["passthrough"],
        },
        {
            "name": "shut",
            "key_sha256": hashlib.sha256(b"sk-shut-0123456789").hexdigest(),
            "may": ["overrides"],
        },
    ]
    config = config_for(clients=clients, **sections)
    config["upstreams"] = [upstream_for(fake, api_key=PROVIDER_KEY, **(upstream or {})) for fake in fakes]
    return config


@pytest.mark.parametrize("way", ["header", "api-key", "subprotocol"])
async def test_the_clients_key_ends_here(way: str, web: aiohttp.ClientSession) -> None:
    """However it came, the upstream sees its own key and nothing of the client's."""
    async with FakeOpenAI(required_key=PROVIDER_KEY) as fake, GatewayProcess(keyed(fake)) as gateway:
        headers = {"header": {"Authorization": f"Bearer {KEY}"}, "api-key": {"api-key": KEY}}.get(way, {})
        protocols = ["realtime", "openai-beta.realtime-v1"]
        if way == "subprotocol":
            protocols[1:1] = [f"openai-insecure-api-key.{KEY}", "openai-organization.org-1"]
        async with opened(web, gateway, key=None, headers=headers, protocols=protocols) as websocket:
            assert websocket.protocol == "realtime"
        log = await logged(gateway, websocket)
        session = fake.sessions[0]
        seen = json.dumps(session.headers) + session.target

        assert session.header("authorization") == f"Bearer {PROVIDER_KEY}"
        assert (session.header("sec-websocket-protocol") or "").replace(" ", "") == "realtime,openai-beta.realtime-v1"
        assert KEY not in seen
        assert "org-1" not in seen
        assert log["client"] == "app"
        assert KEY not in gateway.output
        assert PROVIDER_KEY not in gateway.output


async def test_a_clients_own_key_passes_as_a_header(
    web: aiohttp.ClientSession, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    protocols = ["realtime", f"openai-insecure-api-key.{KEY}"]
    async with opened(web, shared_gateway, key=None, protocols=protocols):
        session = upstream.sessions[0]

        assert session.header("authorization") == f"Bearer {KEY}"
        assert session.header("sec-websocket-protocol") == "realtime"


async def test_the_providers_key_is_not_quoted(web: aiohttp.ClientSession) -> None:
    async with FakeOpenAI() as fake, GatewayProcess(keyed(fake)) as gateway:
        fake.script.append(fail(401, b"bad key " + PROVIDER_KEY.encode()))
        found = await refused(web, gateway)

        assert found["status"] == 401
        assert PROVIDER_KEY not in json.dumps(found["message"])


MAY_NOT = [
    (TARGET, "sk-nobodys-key", 401, "invalid_api_key"),
    (TARGET, "sk-shut-0123456789", 403, "permission_denied"),
    ("/v1/realtime?model=o3", KEY, 404, "model_not_found"),
    ("/v1/realtime", KEY, 403, "permission_denied"),
    ("/v1/responses?model=gpt-4o", KEY, 403, "permission_denied"),
    ("/v1//responses/?model=gpt-4o", KEY, 403, "permission_denied"),
]


async def test_what_a_client_may_not_is_refused(web: aiohttp.ClientSession) -> None:
    async with FakeOpenAI() as fake, GatewayProcess(keyed(fake)) as gateway:
        for target, key, status, code in MAY_NOT:
            found = await refused(web, gateway, target, headers={"Authorization": f"Bearer {key}"})

            assert (found["status"], found["code"]) == (status, code), target
        assert fake.requests == []


async def test_a_model_goes_by_the_upstreams_name(web: aiohttp.ClientSession) -> None:
    options = {"models": ["x"], "model_aliases": {"gpt-live": "prod/live 1"}}
    async with FakeOpenAI() as fake, GatewayProcess(keyed(fake, upstream=options)) as gateway:
        async with opened(web, gateway, "/v1/realtime?a=%41&model=gpt-live&b"):
            pass
        found = await refused(web, gateway, "/v1/realtime?model=gpt-other")

        assert fake.sessions[0].target == "/v1/realtime?a=%41&model=prod%2Flive%201&b"
        assert (found["status"], found["code"]) == (404, "model_not_found")


# Limits, usage, figures


async def test_limits_are_held_while_it_is_open_and_given_back(web: aiohttp.ClientSession) -> None:
    limits = [{"client": "*", "model": "gpt-*", "concurrent_requests": 1, "requests_per_minute": 4}]
    async with FakeOpenAI() as fake, GatewayProcess(config_for(fake, rate_limits=limits)) as gateway:
        for number in (1, 2):
            async with opened(web, gateway):
                found = await refused(web, gateway)

                assert (found["status"], found["code"]) == (429, "rate_limit_exceeded")
                assert "concurrent" in found["message"]
            await gateway.wait_logs(number, logger="gateway.access", status=101)
            since = len(gateway.logs)
        async with opened(web, gateway) as websocket:
            await command(websocket, "fake.die")
            await closed(websocket)
        await gateway.wait_log(logger="gateway.access", fault="cut", since=since)
        fake.script.append(fail(401))
        first = await refused(web, gateway)
        second = await refused(web, gateway)

        assert first["status"] == 401
        assert second["status"] == 429
        assert "requests per min" in second["message"]


async def test_usage_is_billed(web: aiohttp.ClientSession) -> None:
    """Each answer is taken off the limits at once, and all of them are one bill at the end."""
    limits = [{"client": "*", "model": "*", "tokens_per_minute": 70}]
    prices = {"gpt-*": {"input": 1000000, "output": 1000000}}
    async with FakeOpenAI() as fake, GatewayProcess(config_for(fake, rate_limits=limits, prices=prices)) as gateway:
        async with opened(web, gateway) as websocket:
            async with opened(web, gateway):
                pass
            for _ in range(3):
                await command(websocket, "response.create")
                async with asyncio.timeout(5):
                    while (await websocket.receive_json())["type"] != "response.done":
                        pass
            found = await refused(web, gateway)

            assert found["status"] == 429
            assert "tokens per min" in found["message"]
        log = (await gateway.wait_logs(1, logger="gateway.access", billed_prompt_tokens=60))[0]
        later = await refused(web, gateway)
        metrics = await gateway.metrics()

        assert later["status"] == 429
        assert float(later["headers"]["retry-after"]) <= 30  # 90 tokens are owed once, not twice
        assert (log["billed_completion_tokens"], log["is_estimated"], log["model"]) == (30, False, "gpt-realtime")
        assert metrics.total("gateway_tokens_total", direction="prompt", model="gpt-realtime") == 60
        assert metrics.total("gateway_tokens_total", direction="completion", model="gpt-realtime") == 30
        assert metrics.total("prompt_cache_tokens_total") == 3 * USAGE["input_token_details"]["cached_tokens"]


async def test_it_is_one_exchange_in_metrics_and_log(web: aiohttp.ClientSession) -> None:
    async with FakeOpenAI() as fake, GatewayProcess(config_for(fake)) as gateway:
        async with opened(web, gateway) as websocket:
            during = await gateway.metrics()
        log = await logged(gateway, websocket)
        after = await gateway.metrics()
        labels = {"endpoint": "realtime", "model": "gpt-realtime", "upstream": fake.name, "status": "101"}

        assert during.total("gateway_requests_in_flight") == 1
        assert after.total("gateway_requests_in_flight") == 0
        assert after.total("gateway_requests_total", **labels) == 1
        assert (log["status"], log["path"], log["method"]) == (101, "/v1/realtime", "GET")


# Deadlines, memory, the end


@pytest.mark.parametrize("option", ["idle_seconds", "total_seconds"])
async def test_a_deadline_closes_both_ends(option: str, web: aiohttp.ClientSession, upstream: FakeOpenAI) -> None:
    async with GatewayProcess(config_for(upstream, websockets={option: 0.4})) as gateway:
        async with opened(web, gateway) as websocket:
            code, reason = await closed(websocket)
        session = upstream.sessions[0]
        await asyncio.wait_for(session.is_over.wait(), 5)
        log = await logged(gateway, websocket)

        assert (code, session.close_code) == (1001, 1001)
        assert f"websockets.{option}" in reason
        assert log["fault"] == option.replace("seconds", "timeout")


@pytest.mark.parametrize("reader", ["client", "upstream"])
async def test_a_slow_reader_slows_the_writer(reader: str, web: aiohttp.ClientSession, upstream: FakeOpenAI) -> None:
    """While one end reads nothing, the other can write no more than a few buffers, and nothing is lost."""
    size, count = 1_000_000, 60
    async with GatewayProcess(config_for(upstream)) as gateway, opened(web, gateway) as websocket:
        before = gateway.memory_bytes()
        gateway.reset_peak()
        session = upstream.sessions[0]
        if reader == "client":
            await command(websocket, "fake.send", size=size, count=count, binary=True)
            await still(gateway)
            found = [len(await websocket.receive_bytes(timeout=8)) for _ in range(count)]
        else:
            await command(websocket, "fake.deaf")
            sending = asyncio.create_task(send_many(websocket, size, count))
            await still(gateway)
            held = sending.done()
            session.released.set()
            found = [len(await websocket.receive_bytes(timeout=8)) for _ in range(count)]
            await sending

            assert not held
        peak = gateway.memory_bytes("VmHWM")

        assert found == [size] * count
        assert peak - before < 20_000_000


async def send_many(websocket: Socket, size: int, count: int) -> None:
    for _ in range(count):
        await websocket.send_bytes(b"x" * size)


async def still(gateway: GatewayProcess) -> None:
    """Waits until the gateway uses no more time: nothing moves."""

    def spent() -> int:
        fields = Path(f"/proc/{gateway.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    async with asyncio.timeout(10):
        before, now = -1, spent()
        while before != now:
            await asyncio.sleep(0.3)
            before, now = now, spent()


async def test_drain_closes_what_is_still_open(web: aiohttp.ClientSession, upstream: FakeOpenAI) -> None:
    """An open websocket has the time of every request; then both ends are told, and the process ends as always."""
    async with GatewayProcess(config_for(upstream, server={"drain_seconds": 0.5})) as gateway:
        async with opened(web, gateway) as websocket:
            gateway.signal(signal.SIGTERM)
            await gateway.wait_log(message="draining")
            await websocket.send_str("still here")

            assert await websocket.receive_str(timeout=5) == "still here"
            assert await closed(websocket) == (1001, "the gateway is stopping")
        code = await gateway.wait_exit()
        session = upstream.sessions[0]
        log = await logged(gateway, websocket)

        assert code == 0
        assert (session.close_code, session.close_reason) == (1001, "the gateway is stopping")
        assert (log["status"], log["fault"]) == (101, "shutdown")
