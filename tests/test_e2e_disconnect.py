"""A client that leaves cancels the upstream call at once, in every phase, and pays for what was visible."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
import tiktoken

from gateway.shell.tokens.rank_files import load_encoding
from tests.fakes.openai_rules import Reply
from tests.fakes.openai_server import Behaviour, FakeOpenAI, fail, stall
from tests.gateway_process import GatewayProcess, Samples, Wire, head

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
MESSAGES = [{"role": "user", "content": "Once upon a time there was " + "a very long story about tokens " * 5}]
CHAT: Json = {"model": "gpt-4o", "messages": MESSAGES, "max_tokens": 300}
AT_ONCE_S = 1.0


@pytest.fixture(scope="module")
def encoding() -> tiktoken.Encoding:
    return load_encoding("o200k_base")


def request_of(path: str, body: Json) -> bytes:
    raw = json.dumps(body).encode()
    return head("POST", path, "Content-Type: application/json", f"Content-Length: {len(raw)}") + raw


async def leave(wire: Wire, how: str) -> None:
    if how == "reset":
        wire.abort()
    else:
        await wire.send_eof()


async def bills(gateway: GatewayProcess) -> tuple[float, float]:
    """Estimated bills and completion tokens so far."""
    metrics: Samples = await gateway.metrics()
    return (
        metrics.total("gateway_estimated_bills_total"),
        metrics.total("gateway_tokens_total", direction="completion"),
    )


# phase: (path, is_stream, events before the upstream falls silent, bytes of the answer that the client waits for)
PHASES: dict[str, tuple[str, bool, int, bytes]] = {
    "before the head": ("/v1/chat/completions", False, -1, b""),
    "before the head of a stream": ("/v1/chat/completions", True, -1, b""),
    "before the first token": ("/v1/chat/completions", True, 0, b""),
    "in the stream": ("/v1/chat/completions", True, 5, b"upon"),
    "in a legacy stream": ("/v1/completions", True, 5, b"data:"),
    "in a responses stream": ("/v1/responses", True, 8, b"output_text.delta"),
    "in a whole answer": ("/v1/chat/completions", False, 1, b""),
    "in a download": ("/v1/batches/b", False, 1, b"HTTP/1.1"),
}


@pytest.mark.parametrize("how", ["reset", "closed"])
@pytest.mark.parametrize("phase", PHASES)
async def test_upstream_is_left_at_once(
    phase: str, how: str, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    path, is_stream, silent_after, awaited = PHASES[phase]
    behaviour = stall(silent_after)
    upstream.script.append(behaviour)
    body = {"stream": is_stream, "model": "gpt-4o", "prompt": "x y", "input": "x y", "messages": MESSAGES}
    since = len(shared_gateway.logs)
    wire = await Wire.open(shared_gateway.port)
    await wire.send(request_of(path, body))
    await upstream.wait_requests(1)
    found = b""
    async with asyncio.timeout(5):
        while awaited not in found:
            found += await wire._reader.read(4096)
    left_s = time.monotonic()
    await leave(wire, how)
    (cancelled,) = await upstream.wait_cancelled(1)
    wire.abort()
    waited_s = cancelled.at_s - left_s
    print(f"\n{phase}, {how}: the upstream knew after {waited_s * 1000:.1f} ms")
    settled = await shared_gateway.wait_log(since=since, logger="gateway.access")

    assert waited_s < AT_ONCE_S
    assert len(upstream.requests) == 1
    assert (settled["fault"], settled["status"]) == ("client_gone", 200 if awaited else 499)
    assert (await shared_gateway.metrics()).total("gateway_requests_in_flight") == 0


async def test_cancelled_stream_is_billed_as_seen(
    shared_gateway: GatewayProcess, upstream: FakeOpenAI, via: Any, encoding: tiktoken.Encoding
) -> None:
    """Within 2 % of what the client could read, marked as an estimate, though the upstream never said its usage."""
    upstream.script.append(stall(30))
    estimated, completion = await bills(shared_gateway)
    raw = await via.chat.completions.with_raw_response.create(**CHAT, stream=True)
    seen = ""
    async for chunk in raw.parse():
        seen += chunk.choices[0].delta.content or ""
        if seen.count(" ") >= 20:
            break
    await raw.http_response.aclose()
    await upstream.wait_cancelled(1)
    settled = await shared_gateway.settled(raw.headers)
    shown = upstream.requests[0].sent.decode()
    sent = "".join(json.loads(line[6:])["choices"][0]["delta"]["content"] or "" for line in shown.split("\n\n") if line)
    estimated_now, completion_now = await bills(shared_gateway)

    assert settled["is_estimated"] is True
    assert settled["billed_prompt_tokens"] == int(raw.headers["x-gateway-tokens-prompt"])
    assert abs(settled["billed_completion_tokens"] - len(encoding.encode_ordinary(sent))) <= 1
    assert sent.startswith(seen)
    assert estimated_now - estimated == 1
    assert completion_now - completion == settled["billed_completion_tokens"]


async def test_cancelled_calls_of_two_choices_are_billed_as_seen(
    shared_gateway: GatewayProcess, upstream: FakeOpenAI, encoding: tiktoken.Encoding
) -> None:
    """What two choices say in turns is counted apart, and a tool call with its framing."""
    events = [
        {"choices": [{"index": place % 2, "delta": {"content": piece}}]}
        for place, piece in enumerate(
            ["Inter", "Not", "leaved", " inter", " text", "leaved", " of", " at", " one", " all"]
        )
    ]
    named = {"index": 0, "id": "c", "function": {"name": "find_order", "arguments": ""}}
    events += [{"choices": [{"index": 0, "delta": {"tool_calls": [named]}}]}]
    events += [
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}}]}
        for piece in ('{"num', 'ber": 44', '71, "open": true}')
    ]
    pieces = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
    reply = Reply([*pieces, b"data: [DONE]\n\n"], content_type="text/event-stream", is_stream=True)
    upstream.script.append(Behaviour(reply=reply, stall_after=len(pieces)))
    since = len(shared_gateway.logs)
    wire = await Wire.open(shared_gateway.port)
    await wire.send(request_of("/v1/chat/completions", {**CHAT, "n": 2, "stream": True}))
    found = b""
    async with asyncio.timeout(5):
        while b"true}" not in found:
            found += await wire._reader.read(4096)
    wire.abort()
    settled = await shared_gateway.wait_log(since=since, logger="gateway.access")
    texts = ["Interleaved text of one", "Not interleaved at all", "find_order", '{"number": 4471, "open": true}']

    assert settled["billed_completion_tokens"] == sum(len(encoding.encode_ordinary(text)) for text in texts) + 7
    assert settled["is_estimated"] is True


@pytest.mark.parametrize("silent_after", [-1, 0], ids=["before the head", "before the first token"])
async def test_cancelled_reasoning_is_billed_as_reserved(
    silent_after: int, shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """A model that thinks unseen has used nobody knows how much: the request's limit, else the budget's share."""
    for fields, tokens in (({"max_completion_tokens": 300}, 300), ({}, 1000)):
        upstream.script.append(stall(silent_after))
        body = {"model": "o3-mini", "messages": MESSAGES, "stream": True, **fields}
        since = len(shared_gateway.logs)
        wire = await Wire.open(shared_gateway.port)
        await wire.send(request_of("/v1/chat/completions", body))
        await upstream.wait_requests(1)
        wire.abort()
        settled = await shared_gateway.wait_log(since=since, logger="gateway.access")
        upstream.requests.clear()

        assert (settled["billed_completion_tokens"], settled["is_estimated"]) == (tokens, True)


async def test_an_answer_without_usage_is_counted(
    shared_gateway: GatewayProcess, upstream: FakeOpenAI, encoding: tiktoken.Encoding
) -> None:
    """A vendor that never says what it used: the whole answer's text is the estimate."""
    said = "An answer of a vendor that does not report any usage."
    body = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": said}}]}).encode()
    upstream.script.append(Behaviour(reply=Reply([body])))
    since = len(shared_gateway.logs)
    async with await Wire.open(shared_gateway.port) as wire:
        await wire.send(request_of("/v1/chat/completions", CHAT))
        answer = await wire.answer()
    settled = await shared_gateway.wait_log(since=since, logger="gateway.access")

    assert answer.body == body
    assert settled["billed_completion_tokens"] == len(encoding.encode_ordinary(said))
    assert settled["is_estimated"] is True


async def test_cancelled_whole_answer_is_billed_as_reserved(
    shared_gateway: GatewayProcess, upstream: FakeOpenAI
) -> None:
    """Nobody can see what was generated: the bill is what might have been, n times the completion, as an estimate."""
    upstream.script.append(stall())
    wire = await Wire.open(shared_gateway.port)
    await wire.send(request_of("/v1/chat/completions", {**CHAT, "n": 2}))
    await upstream.wait_requests(1)
    since = len(shared_gateway.logs)
    wire.abort()
    settled = await shared_gateway.wait_log(since=since, logger="gateway.access")

    assert settled["billed_completion_tokens"] == 600
    assert settled["is_estimated"] is True
    assert settled["fault"] == "client_gone"


async def test_leaving_while_a_body_is_uploaded(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """Passed through: the upstream's upload breaks off. Metered: the upstream is never asked."""
    for path, is_asked in (("/v1/files", True), ("/v1/chat/completions", False)):
        wire = await Wire.open(shared_gateway.port)
        await wire.send(head("POST", path, "Content-Length: 10000000") + b"x" * 100_000)
        async with asyncio.timeout(5):
            while (await shared_gateway.metrics()).total("gateway_requests_in_flight") == 0:
                await asyncio.sleep(0.01)
        since, left_s = len(shared_gateway.logs), time.monotonic()
        wire.abort()
        if is_asked:
            (cancelled,) = await upstream.wait_cancelled(1)
            assert cancelled.at_s - left_s < AT_ONCE_S
        await shared_gateway.wait_log(since=since, path=path, status=499)

        assert upstream.requests == []
        metrics = await shared_gateway.metrics()
        assert metrics.total("gateway_requests_in_flight") == 0
        assert metrics.total("gateway_buffered_bytes") == 0


async def test_leaving_between_retries(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """Nothing is tried again for a client that has gone."""
    upstream.script.append(fail(503, retry_after="2"))
    wire = await Wire.open(shared_gateway.port)
    await wire.send(request_of("/v1/chat/completions", CHAT))
    await upstream.wait_requests(1)
    since = len(shared_gateway.logs)
    wire.abort()
    settled = await shared_gateway.wait_log(1, since, logger="gateway.access")

    assert settled["status"] == 499
    assert len(upstream.requests) == 1


async def test_a_client_that_stops_reading_holds_little(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """A stream that nobody reads stops flowing: the gateway does not pile it up, and ends it when the client leaves."""
    piece = b"data: " + json.dumps({"choices": [{"delta": {"content": "x" * 60_000}}]}).encode() + b"\n\n"
    reply = Reply([piece] * 1000, content_type="text/event-stream", is_stream=True)
    upstream.script.append(Behaviour(reply=reply))
    shared_gateway.reset_peak()
    before, since = shared_gateway.memory_bytes(), len(shared_gateway.logs)
    wire = await Wire.open(shared_gateway.port)
    wire._writer.transport.pause_reading()  # type: ignore[attr-defined]
    await wire.send(request_of("/v1/chat/completions", {**CHAT, "stream": True}))
    (seen,) = await upstream.wait_requests(1)
    held, last = -1, 0
    async with asyncio.timeout(10):
        while held != len(seen.sent) or not held:
            held, last = len(seen.sent), last + 1
            await asyncio.sleep(0.2)  # the flow has stopped when nothing moves for this long
    peak = shared_gateway.memory_bytes("VmHWM")
    wire.abort()
    await upstream.wait_cancelled(1)
    print(
        f"sent {held / 2**20:.1f} MB of {len(piece) * 1000 / 2**20:.0f}, memory grew by {(peak - before) / 2**20:.1f}"
    )

    assert not [log for log in shared_gateway.logs[since:] if log["logger"] != "gateway.access"]
    assert held < 30 * 2**20
    assert peak - before < 40 * 2**20


def open_files(gateway: GatewayProcess) -> int:
    return len(list(Path(f"/proc/{gateway.pid}/fd").iterdir()))


async def test_hundred_leave_together(shared_gateway: GatewayProcess, upstream: FakeOpenAI) -> None:
    """Nothing of them is left: no request, no buffer, no socket."""
    files = open_files(shared_gateway)
    upstream.script.extend(stall(3) for _ in range(100))
    wires = await asyncio.gather(*(Wire.open(shared_gateway.port) for _ in range(100)))
    await asyncio.gather(*(wire.send(request_of("/v1/chat/completions", {**CHAT, "stream": True})) for wire in wires))
    await upstream.wait_requests(100)
    left_s = time.monotonic()
    for wire in wires:
        wire.abort()
    cancelled = await upstream.wait_cancelled(100)

    assert max(one.at_s for one in cancelled) - left_s < 2
    async with asyncio.timeout(5):
        while (await shared_gateway.metrics()).total("gateway_requests_in_flight") or (
            open_files(shared_gateway) > files + 5
        ):
            await asyncio.sleep(0.02)
