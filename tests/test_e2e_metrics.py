"""After known traffic the metrics say what happened, no more, in names and labels that stay bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import forget
from tests.fakes.openai_server import FakeOpenAI, cut, fail, stall
from tests.gateway_process import GatewayProcess, Samples, ask_raw, config_for, head

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
SECRET_KEY = "sk-verysecretkey0123456789"
SECRET_WORD = "xylophonesecret"
SECRET_QUERY = "querysecret123"
MESSAGES = [{"role": "user", "content": f"one two {SECRET_WORD}"}]
CHAT: Json = {"model": "gpt-4o", "messages": MESSAGES}
BUDGET: Json = {"max_total": 600, "system_tokens": 50, "running_brief": 150, "recent_turns": 50}
BUDGET |= {"retrieved_context": 0, "completion": 100}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def fake(shared: FakeOpenAI) -> FakeOpenAI:
    forget(shared)
    return shared


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(shared: FakeOpenAI) -> AsyncIterator[GatewayProcess]:
    config = config_for(shared, token_budget=BUDGET, summarizer={"endpoint": ""}, compaction={"soft_ratio": 1.0})
    config["upstreams"][0]["timeouts"] = {"header_seconds": 0.8}
    async with GatewayProcess(config) as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(gateway: GatewayProcess) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=SECRET_KEY, max_retries=0) as made:
        yield made


class Change:
    """What metrics have grown by since they were looked at; waits until the gateway has settled so many requests."""

    def __init__(self, gateway: GatewayProcess, before: Samples) -> None:
        self._gateway = gateway
        self._before = before
        self._since = len(gateway.logs)
        self._after: Samples | None = None

    @classmethod
    async def start(cls, gateway: GatewayProcess) -> Change:
        return cls(gateway, await gateway.metrics())

    async def settle(self, requests: int) -> list[Json]:
        logs = await self._gateway.wait_logs(requests, since=self._since, logger="gateway.access")
        self._after = await self._gateway.metrics()
        assert len(logs) == requests
        return logs

    def __call__(self, name: str, **labels: str) -> float:
        assert self._after is not None
        return self._after.total(name, **labels) - self._before.total(name, **labels)


async def read(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


async def test_requests_and_tokens(client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """Each request once, by endpoint, model, upstream and status; tokens as the upstream billed them."""
    change = await Change.start(gateway)
    whole = await client.chat.completions.create(**CHAT)
    await read(await client.chat.completions.create(**CHAT, stream=True))
    await read(await client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    legacy = await client.completions.create(model="gpt-3.5-turbo-instruct", prompt="a b c")
    response = await client.responses.create(model="gpt-4o", input="a b c d")
    embeddings = await client.embeddings.create(model="text-embedding-3-small", input="a b c d e")
    await client.models.list()
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model="gpt-4o", messages=[])
    fake.script.append(fail(401))
    with pytest.raises(openai.AuthenticationError):
        await client.chat.completions.create(**CHAT)
    await change.settle(9)
    requests = "gateway_requests_total"

    assert change(requests, endpoint="chat_completions", model="gpt-4o", upstream="fake", status="200") == 3
    assert change(requests, endpoint="chat_completions", upstream="fake", status="401") == 1
    assert change(requests, endpoint="chat_completions", upstream="", status="400") == 1
    assert change(requests, endpoint="completions", model="gpt-3.5-turbo-instruct", status="200") == 1
    assert change(requests, endpoint="responses", status="200") == 1
    assert change(requests, endpoint="embeddings", status="200") == 1
    assert change(requests, endpoint="models", model="", status="200") == 1
    assert change(requests) == 9
    assert change("gateway_request_duration_seconds_count") == 9
    assert change("gateway_refusals_total") == change("gateway_refusals_total", code="empty_array") == 1
    tokens = "gateway_tokens_total"
    chat = whole.usage
    assert change(tokens, direction="prompt", model="gpt-4o", client_id="default") == (
        3 * chat.prompt_tokens + response.usage.input_tokens
    )
    assert change(tokens, direction="completion", model="gpt-4o") == (
        3 * chat.completion_tokens + response.usage.output_tokens
    )
    assert change(tokens, direction="prompt", model="gpt-3.5-turbo-instruct") == legacy.usage.prompt_tokens
    assert change(tokens, direction="prompt", model="text-embedding-3-small") == embeddings.usage.prompt_tokens
    assert change("gateway_estimated_bills_total") == 0
    assert change("gateway_time_to_first_token_seconds_count") == 2
    assert change("token_estimate_error_ratio_count") == 6
    assert change("token_budget_overflows_total") == 0
    assert change("gateway_faults_total") == 0
    assert change("upstream_retries_total") == 0


async def test_overflow_and_compaction(client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """Overflows are counted by request, new briefs once each, tokens saved as the headers say."""
    change = await Change.start(gateway)
    messages = [{"role": "user", "content": "Let us count words together."}]
    saved, forwarded, levels = 0, 0, []
    for turn in range(12):
        said = f"Turn {turn}: " + " ".join(f"word{turn}x{i}" for i in range(18))
        messages.append({"role": "user", "content": said})
        raw = await client.chat.completions.with_raw_response.create(model="gpt-4o", messages=messages, max_tokens=100)
        messages.append({"role": "assistant", "content": raw.parse().choices[0].message.content})
        saved += int(raw.headers["x-gateway-tokens-saved"])
        forwarded += int(raw.headers["x-gateway-tokens-prompt"])
        levels.append(raw.headers["x-gateway-compaction"])
    logs = await change.settle(12)
    folded = len([level for level in levels if level != "none"])
    texts = {json.dumps(seen.json()["messages"][0:2]) for seen in fake.requests if b"running_brief" in seen.body}

    assert folded > 3
    assert change("compactions_total", level="extractive", mode="active") == folded
    assert change("compactions_total", level="none") == 12 - folded
    assert change("token_budget_summarizations_total", level="extractive") == len(texts)
    assert change("token_budget_overflows_total") == len([log for log in logs if log["client_tokens"] > 500])
    assert change("compaction_tokens_saved_total") == saved > 0
    assert change("token_budget_used_sum") == forwarded
    assert change("token_budget_used_count") == change("token_budget_remaining_count") == 12
    assert change("context_storage_total", kind="brief") == len(texts)


async def test_faults(client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    change = await Change.start(gateway)
    fake.script.append(fail(503))
    await client.chat.completions.create(**CHAT)
    fake.script.append(cut(3))
    with pytest.raises(openai.APIError):
        await read(await client.chat.completions.create(**CHAT, stream=True))
    fake.script.append(stall())
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(**CHAT)
    refused = await ask_raw(gateway, head("GET", "/v1/models", host="evil.example"))
    await change.settle(4)
    requests, faults = "gateway_requests_total", "gateway_faults_total"

    assert refused.status == 403
    assert change(requests, status="200") == 2
    assert change(requests, status="504") == 1
    assert change(requests, status="403") == 1
    assert change(faults, kind="cut", upstream="fake") == 1
    assert change(faults, kind="header_timeout", upstream="fake") == 1
    assert change(faults) == 2
    assert change("upstream_retries_total", upstream="fake") == 1
    assert change("gateway_estimated_bills_total") == 1
    assert change("gateway_refusals_total", code="host_not_allowed") == 1


async def test_in_flight(client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """While requests are open they are seen, and afterwards the gauge is 0 however they ended."""
    behaviours = [stall(2) for _ in range(4)]
    fake.script.extend(behaviours)
    change = await Change.start(gateway)
    streams = [await client.chat.completions.create(**CHAT, stream=True) for _ in range(4)]
    during = await gateway.metrics()
    for stream in streams[:2]:
        await stream.close()
    for behaviour in behaviours:
        behaviour.release.set()
    for stream in streams[2:]:
        await read(stream)
    await change.settle(4)
    after = await gateway.metrics()

    assert during.total("gateway_requests_in_flight") == 4
    assert after.total("gateway_requests_in_flight") == 0
    assert after.total("gateway_buffered_bytes") == 0
    assert change("gateway_faults_total", kind="client_gone") == 2


async def test_own_time_excludes_the_upstream(client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """gateway_overhead_seconds is what the gateway itself took, however slow the upstream is."""
    change = await Change.start(gateway)
    behaviours = [stall(-1), stall(0), stall(1), stall(1)]
    for place, behaviour in enumerate(behaviours):
        fake.script.append(behaviour)
        is_stream = place in (1, 2)
        asked = len(fake.requests)
        asking = asyncio.create_task(ask(client, is_stream))
        await fake.wait_requests(asked + 1)
        await asyncio.sleep(0.2)  # the upstream's slowness is what is measured
        behaviour.release.set()
        await asking
    await change.settle(4)

    assert change("gateway_overhead_seconds_count") == 4
    assert change("gateway_overhead_seconds_sum") < 0.15
    assert change("gateway_request_duration_seconds_sum") > 0.8


async def ask(client: Any, is_stream: bool) -> None:
    answer = await client.chat.completions.create(**CHAT, stream=is_stream)
    if is_stream:
        await read(answer)


async def test_labels_are_bounded(client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """Two hundred made-up models and as many paths do not make two hundred series."""
    change = await Change.start(gateway)
    for start in range(0, 200, 20):
        models = [f"made-up-{i}" for i in range(start, start + 20)]
        await asyncio.gather(*(client.chat.completions.create(**{**CHAT, "model": model}) for model in models))
    fake.script.extend(fail(404) for _ in range(20))
    for i in range(20):
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(**{**CHAT, "model": f"refused-{i}"})
    for i in range(20):
        await ask_raw(gateway, head("PURGE", f"/v1/path{i}/x"))
        await ask_raw(gateway, head("GET", f"/path{i}"))
    await change.settle(260)
    metrics = await gateway.metrics()
    labels = metrics.labels("gateway_requests_total", "model")

    assert len(labels) <= 102
    assert "other" in labels
    assert not [model for model in labels if model.startswith("refused")]
    assert change("gateway_requests_total", endpoint="chat_completions") == 220
    assert len(metrics.labels("gateway_requests_total", "endpoint")) <= 6
    assert len(metrics.text) < 400_000


NAMES = (
    "token_budget_used token_budget_remaining token_budget_overflows token_budget_summarizations context_retrievals "
    "context_storage gateway_requests gateway_request_duration_seconds gateway_requests_in_flight "
    "gateway_overhead_seconds gateway_time_to_first_token_seconds gateway_tokens token_estimate_error_ratio "
    "compactions compaction_tokens_saved upstream_retries event_loop_lag_seconds gateway_config_reloads "
    "process_resident_memory_bytes"
)


async def test_exposition(client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """The official parser takes it; each family has a help text; the names are those of the documentation."""
    await client.chat.completions.create(**CHAT)
    metrics = await gateway.metrics()
    typed = {line.split()[2].removesuffix("_total") for line in metrics.text.splitlines() if line.startswith("# TYPE")}
    helps = [line.split(" ", 3) for line in metrics.text.splitlines() if line.startswith("# HELP")]

    assert sorted(set(NAMES.split()) - typed) == []
    assert all(len(line) == 4 and len(line[3]) > 10 for line in helps)
    assert not [name for name in metrics.by_name if name.endswith("_created")]


async def test_no_secret_is_told(client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """Neither metrics nor logs hold a key, a prompt, an answer or a query string, whatever went wrong."""
    fake.script.append(cut(3))
    with pytest.raises(openai.APIError):
        await read(await client.chat.completions.create(**CHAT, stream=True))
    broken = json.dumps({**CHAT, "messages": [{"role": SECRET_WORD, "content": 1}]}).encode()
    for target in (f"/v1/models?key={SECRET_QUERY}", f"/v1/chat/completions?key={SECRET_QUERY}"):
        lines = [f"Authorization: Bearer {SECRET_KEY}", f"api-key: {SECRET_KEY}", f"Content-Length: {len(broken)}"]
        await ask_raw(gateway, head("POST", target, *lines) + broken)
    await ask_raw(gateway, head("POST", "/v1/chat/completions", f"Bad Header {SECRET_KEY}"))
    metrics = await gateway.metrics()
    told = metrics.text + gateway.output

    assert SECRET_KEY not in told
    assert SECRET_WORD not in told
    assert SECRET_QUERY not in told


async def test_log_lines(client: Any, gateway: GatewayProcess, fake: FakeOpenAI) -> None:
    """Every line is JSON with the same first keys; an access line has both request ids' side of the story."""
    raw = await client.chat.completions.with_raw_response.create(**CHAT)
    settled = await gateway.settled(raw.headers)

    assert len(gateway.logs) == len(gateway.lines)
    assert {tuple(log)[:4] for log in gateway.logs} == {("time", "level", "logger", "message")}
    assert settled["model"] == "gpt-4o"
    assert settled["upstream"] == "fake"
    assert settled["attempts"] == 1
    assert settled["duration_ms"] > 0
    assert settled["billed_prompt_tokens"] == raw.parse().usage.prompt_tokens
