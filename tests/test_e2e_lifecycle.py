"""Starting, reloading and stopping, as an operator and a Kubernetes node do them."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI, stall
from tests.gateway_process import Command, GatewayProcess, Wire, config_for, head, run_command

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
MESSAGES = [{"role": "user", "content": "one two three"}]
CHAT: Json = {"model": "gpt-4o", "messages": MESSAGES}
SAID = "You said: one two three"
OPEN = 200
"""Streams that are open when the gateway is told to stop."""


@pytest_asyncio.fixture(loop_scope="session")
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


def client_of(gateway: GatewayProcess) -> Any:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0)


async def read(stream: Any) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def wait_unready(gateway: GatewayProcess) -> None:
    async with asyncio.timeout(2):
        while (await gateway.admin("/health/ready"))[0] != 503:
            await asyncio.sleep(0.01)


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_open_streams_finish(number: signal.Signals, fake: FakeOpenAI) -> None:
    """Not ready at once, nobody new is let in, all that runs ends whole, and the process exits with 0."""
    behaviours = [stall(3) for _ in range(OPEN)]
    fake.script.extend(behaviours)
    async with GatewayProcess(config_for(fake)) as gateway, client_of(gateway) as client:
        streams = [await client.chat.completions.create(**CHAT, stream=True) for _ in range(OPEN)]
        gateway.signal(number)
        await wait_unready(gateway)
        ready, live = await gateway.admin("/health/ready"), await gateway.admin("/health/live")
        with pytest.raises(openai.APIConnectionError):
            await client.chat.completions.create(**CHAT)
        for behaviour in behaviours:
            behaviour.release.set()
        texts = await asyncio.gather(*map(read, streams))
        code = await gateway.wait_exit(20)

    assert ready == (503, "draining\n")
    assert live[0] == 200
    assert texts == [SAID] * OPEN
    assert code == 0
    assert gateway.logs[-1]["message"] == "stopped"
    assert len([log for log in gateway.logs if log.get("status") == 200]) == OPEN


async def test_body_that_arrives_while_stopping_is_answered(fake: FakeOpenAI) -> None:
    """A request that had begun is served, its connection closed after it; one that idles is closed at once."""
    body = json.dumps(CHAT).encode()
    async with (
        GatewayProcess(config_for(fake)) as gateway,
        await Wire.open(gateway.port) as slow,
        await Wire.open(gateway.port) as idle,
    ):
        await idle.send(head("GET", "/v1/models"))
        await idle.answer()
        await slow.send(head("POST", "/v1/chat/completions", f"Content-Length: {len(body)}") + body[:10])
        await gateway_holds(gateway)
        gateway.signal(signal.SIGTERM)
        await wait_unready(gateway)
        assert await idle.rest() == b""
        await slow.send(body[10:])
        answer = await slow.answer()
        rest = await slow.rest()
        code = await gateway.wait_exit(3)

    assert answer.status == 200
    assert answer.header("connection") == "close"
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == SAID
    assert (rest, code) == (b"", 0)


async def gateway_holds(gateway: GatewayProcess, requests: int = 1) -> None:
    """Waits until so many requests are being handled."""
    async with asyncio.timeout(3):
        while (await gateway.metrics()).total("gateway_requests_in_flight") < requests:
            await asyncio.sleep(0.01)


async def test_what_takes_too_long_is_ended(fake: FakeOpenAI) -> None:
    """After drain_seconds a stream ends in an error event, anything else in a 503; none of them silently."""
    fake.script.extend([stall(3), stall(), stall(3)])
    config = config_for(fake, server={"drain_seconds": 0.5})
    async with GatewayProcess(config) as gateway, client_of(gateway) as client:
        stream = await client.chat.completions.create(**CHAT, stream=True)
        whole = asyncio.create_task(client.chat.completions.create(**CHAT))
        await fake.wait_requests(2)
        gone = await client.chat.completions.create(**CHAT, stream=True)
        began = time.monotonic()
        gateway.signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="gateway is stopping"):
            await read(stream)
        with pytest.raises(openai.InternalServerError, match="gateway is stopping") as refused:
            await whole
        await gone.close()
        code = await gateway.wait_exit(4)
        took = time.monotonic() - began
    faults = [log.get("fault") for log in gateway.logs if log["logger"] == "gateway.access"]

    assert refused.value.status_code == 503
    assert refused.value.code == "gateway_stopping"
    assert code == 0
    assert 0.5 <= took < 2.5
    assert faults == ["shutdown"] * 3
    assert len(fake.cancelled) == 3


async def test_second_signal_stops_at_once(fake: FakeOpenAI) -> None:
    fake.script.append(stall(3))
    async with GatewayProcess(config_for(fake)) as gateway, client_of(gateway) as client:
        await client.chat.completions.create(**CHAT, stream=True)
        gateway.signal(signal.SIGTERM)
        await gateway.wait_log(message="draining")
        gateway.signal(signal.SIGTERM)
        code = await gateway.wait_exit(2)

    assert code != 0


async def test_lame_duck_still_serves(fake: FakeOpenAI) -> None:
    """Not ready, so that nobody new is sent here, but those who come nevertheless are served for a while."""
    config = config_for(fake, server={"lame_duck_seconds": 1})
    async with GatewayProcess(config) as gateway, client_of(gateway) as client:
        gateway.signal(signal.SIGTERM)
        await wait_unready(gateway)
        served = await client.chat.completions.create(**CHAT)
        code = await gateway.wait_exit(4)

    assert served.choices[0].message.content == SAID
    assert code == 0


# Reloading


def budget(max_total: int) -> Json:
    return {"token_budget": {"max_total": max_total, "running_brief": 200, "retrieved_context": 0, "completion": 100}}


async def test_reload(fake: FakeOpenAI) -> None:
    """A new file counts from the next request on; a running one keeps its own; what cannot change is named."""
    behaviour = stall()
    fake.script.append(behaviour)
    async with GatewayProcess(config_for(fake, **budget(3000))) as gateway, client_of(gateway) as client:
        create = client.chat.completions.with_raw_response.create
        running = asyncio.create_task(create(**CHAT))
        await fake.wait_requests(1)
        gateway.write_config(config_for(fake, server={"drain_seconds": 7}, **budget(5000)))
        gateway.signal(signal.SIGHUP)
        applied = await gateway.wait_log(message="configuration applied")
        after = await create(**CHAT)
        behaviour.release.set()
        before = await running
        metrics = await gateway.metrics()

    assert totals(before) == 3000
    assert totals(after) == 5000
    assert applied["needs_restart"] == ["server"]
    assert metrics.total("gateway_config_reloads_total", result="applied") == 1
    assert metrics.total("gateway_config_last_reload_successful") == 1


def totals(raw: Any) -> int:
    """The max_total that a request was measured by."""
    return int(raw.headers["x-gateway-tokens-prompt"]) + int(raw.headers["x-gateway-tokens-remaining"])


BROKEN: dict[str, Any] = {
    "no YAML": "upstreams: [",
    "unknown key": {"token_budgets": {}},
    "unknown upstream key": {"upstreams": [{"name": "x", "base_url": "http://127.0.0.1:1/v1", "typo": 1}]},
    "shares too large": {"token_budget": {"max_total": 100}},
    "not a mapping": "- 1\n",
}


async def test_broken_reload_is_refused(fake: FakeOpenAI) -> None:
    """Whatever is wrong with the new file, the old configuration serves on, and both log and metrics say so."""
    config = config_for(fake, **budget(3000))
    async with GatewayProcess(config) as gateway, client_of(gateway) as client:
        create = client.chat.completions.with_raw_response.create
        for count, broken in enumerate(BROKEN.values(), 1):
            gateway.write_config(broken)
            gateway.signal(signal.SIGHUP)
            refused = await gateway.wait_logs(count, message="configuration refused, the present one stays")
            assert refused[-1]["faults"], broken
            assert totals(await create(**CHAT)) == 3000
        gateway.config_file.unlink()
        gateway.signal(signal.SIGHUP)
        await gateway.wait_logs(len(BROKEN) + 1, message="configuration refused, the present one stays")
        broken_metrics, ready = await gateway.metrics(), await gateway.admin("/health/ready")
        gateway.write_config(config_for(fake, **budget(4000)))
        gateway.signal(signal.SIGHUP)
        await gateway.wait_log(message="configuration applied")
        mended = await create(**CHAT)
        metrics = await gateway.metrics()

    assert broken_metrics.total("gateway_config_reloads_total", result="refused") == len(BROKEN) + 1
    assert broken_metrics.total("gateway_config_last_reload_successful") == 0
    assert ready[0] == 200
    assert totals(mended) == 4000
    assert metrics.total("gateway_config_last_reload_successful") == 1


# Starting


@pytest.mark.parametrize("key", ["port", "admin_port"])
async def test_port_in_use(key: str, fake: FakeOpenAI) -> None:
    """Exit code 1, and the message names the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = GatewayProcess(config_for(fake, server={key: port}))
        await Command.start(gateway)
        code = await gateway.wait_exit()
        await gateway.stop()

    assert code == 1
    assert str(port) in gateway.lines[-1]
    assert "in use" in gateway.lines[-1]
    assert "Traceback" not in gateway.output


BAD: Json = {
    "server": {"port": 99999, "hots": "x"},
    "upstreams": [
        {"name": "a", "base_url": "ftp://x"},
        {"name": "a", "base_url": "http://x/v1", "api_key": "sk-secret"},
    ],
    "token_budget": {"max_total": 500},
    "summarizer": {"timeout_secs": "soon"},
}
EXPECTED = ("server.port", "server.hots", "upstreams[0].base_url", "upstreams[1].name", "token_budget", "timeout_secs")


@pytest.mark.parametrize("command", ["serve", "check"])
async def test_bad_configuration(command: str, tmp_path: Path) -> None:
    """Exit code 2, with every fault at once, each with what was found and expected, and no secret."""
    file = tmp_path / "bad.yaml"
    file.write_text(json.dumps(BAD))
    code, output = await run_command(command, "--config", str(file))

    assert code == 2
    assert [path for path in EXPECTED if path not in output] == []
    assert re.search(r"\b6 faults\b", output)
    assert "did you mean 'host'" in output
    assert "sk-secret" not in output
    assert "Traceback" not in output


async def test_missing_file(tmp_path: Path) -> None:
    code, output = await run_command("serve", "--config", str(tmp_path / "none.yaml"))

    assert code == 2
    assert "none.yaml" in output
    assert "Traceback" not in output


async def test_check(fake: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(json.dumps(config_for(fake)))
    code, output = await run_command("check", "--config", str(file))

    assert code == 0
    assert output.splitlines()[-1].startswith("OK")
    assert fake.base_url in output


FREE_PORTS = {"GATEWAY__SERVER__PORT": "0", "GATEWAY__SERVER__ADMIN_PORT": "0"}


async def test_environment_alone(fake: FakeOpenAI) -> None:
    """OPENAI_BASE_URL and OPENAI_API_KEY are a whole configuration; the client's key is not used."""
    fake.required_key = "sk-provider"
    environment = {**FREE_PORTS, "OPENAI_BASE_URL": fake.base_url + "/", "OPENAI_API_KEY": "sk-provider"}
    async with GatewayProcess(None, environment) as gateway, client_of(gateway) as client:
        answer = await client.chat.completions.create(**CHAT)
        gateway.signal(signal.SIGHUP)
        await gateway.wait_log(level="warning", logger="gateway")
        again = await client.chat.completions.create(**CHAT)

    assert answer.choices[0].message.content == again.choices[0].message.content == SAID
    assert [seen.raw_path for seen in fake.requests] == ["/v1/chat/completions"] * 2
    assert "sk-provider" not in gateway.output


async def test_no_configuration_at_all() -> None:
    """The built-in demo answers, and it is said loudly that it does."""
    async with GatewayProcess(None, FREE_PORTS) as gateway, client_of(gateway) as client:
        answer = await client.chat.completions.create(**CHAT)
        stream = await read(await client.chat.completions.create(**CHAT, stream=True))
        models = [model.id async for model in client.models.list()]
    warned = [log for log in gateway.logs if log["level"] == "warning"]

    assert answer.choices[0].message.content
    assert stream
    assert models
    assert "builtin://demo" in warned[0]["message"]
    assert "no language model" in warned[0]["message"]


async def test_variables_of_kubernetes_are_no_options(fake: FakeOpenAI) -> None:
    """Kubernetes injects GATEWAY_PORT and the like for a Service of that name."""
    environment = {"GATEWAY_PORT": "tcp://10.0.0.1:80", "GATEWAY_SERVICE_HOST": "10.0.0.1"}
    async with GatewayProcess(config_for(fake), environment) as gateway:
        assert (await gateway.admin("/health"))[0] == 200


async def test_admin_port(shared_gateway: GatewayProcess) -> None:
    """Health and metrics by GET, and nothing else."""
    found = {
        path: (await shared_gateway.admin(path))[0]
        for path in ("/health", "/health/live", "/metrics", "/", "/v1/models")
    }

    assert found == {"/health": 200, "/health/live": 200, "/metrics": 200, "/": 404, "/v1/models": 404}
