"""The example application's pod, as the chart renders it, played on real processes: nothing is cut.

The gateway and the application are real processes; kubelet is tests/pod_runner.py. The application asks all the time,
goes on for a second after SIGTERM, and says of each answer whether it came whole.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from tests.charts import container_of, gateway_config, pod_of, render
from tests.fakes.openai_server import Behaviour, FakeOpenAI
from tests.pod_runner import POD_ADDRESS, PodFailedError, PodRunner, may_unshare
from tests.test_pod_runner import free_port

pytest.importorskip("helm_python", reason="helm-python-sdk (the Helm engine) is not installed")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="a pod's own address is one of 127/8, as Linux has them"
)

Json = dict[str, Any]
PROGRAMS = {"llm-gateway:0.1.0": [sys.executable, "-m", "gateway"], "python:3.11-slim-bookworm": []}
SECRETS = {"openai": {"OPENAI_API_KEY": "sk-of-the-secret"}}
SAID = "You said: Say something about rivers."
CONFIG_MAP = "example-llm-gateway"


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakeOpenAI]:
    """An upstream that takes its time, so that streams are open at every moment."""
    async with FakeOpenAI() as server:
        server.script.extend(Behaviour(gap_s=0.03) for _ in range(1000))
        yield server


def example(
    fake: FakeOpenAI,
    mode: str,
    linger_seconds: float = 1,
    grace_seconds: int = 10,
    data: Json | None = None,
    config: Json | None = None,
    **server: Any,
) -> list[Json]:
    """The manifest of the example, on free ports and in front of the fake."""
    upstream = {"name": "fake", "base_url": fake.base_url, "api_key": "${OPENAI_API_KEY}"}
    ports = {"port": free_port(), "admin_port": free_port()}
    beside = {
        "mode": mode,
        "appGraceSeconds": grace_seconds,
        "existingSecret": "openai",
        "config": {"server": {**ports, **server}, "upstreams": [upstream], **(config or {})},
        "data": data or {},
    }
    return render("example-app", {"lingerSeconds": linger_seconds, "llm-gateway-sidecar": beside}, "example")


def answers(pod: PodRunner) -> list[Json]:
    """What the application says of its answers."""
    said = [json.loads(line) for line in pod.containers["app"].lines]
    return [line for line in said if line["event"] == "answer"]


def is_answer(line: str) -> bool:
    return json.loads(line)["event"] == "answer"


def faults(pod: PodRunner) -> list[str]:
    """What the gateway logged as an error."""
    logs = [json.loads(line) for line in pod.containers["llm-gateway"].lines if line.startswith("{")]
    return [log["message"] for log in logs if log["level"] not in ("info", "warning")]


async def test_native_sidecar_serves_to_the_last_breath(fake: FakeOpenAI) -> None:
    """The application starts once the gateway answers, and streams through it until it ends; only then it is told.

    The provider's key is in the gateway's environment alone.
    """
    documents = example(fake, "native")
    async with PodRunner(documents, PROGRAMS, SECRETS) as pod:
        await pod.wait_line("app", is_answer)
        codes = await pod.stop()
    said = answers(pod)
    key = {entry["name"]: entry for entry in container_of(pod.pod, "app")["env"]}["OPENAI_API_KEY"]

    assert pod.events == [
        *("llm-gateway started", "llm-gateway started up", "app started"),
        *("app SIGTERM", "app ended", "llm-gateway SIGTERM", "llm-gateway ended"),
    ]
    assert codes == {"llm-gateway": 0, "app": 0}
    assert {(line["text"], line["error"]) for line in said} == {(SAID, "")}
    assert {line["told"] for line in said} == {False, True}
    assert (fake.cancelled, faults(pod)) == ([], [])
    assert key["value"] == "the-gateway-has-it"
    assert {request.header("authorization") for request in fake.requests} == {"Bearer sk-of-the-secret"}


async def test_classic_sidecar_serves_through_its_lame_duck(fake: FakeOpenAI) -> None:
    """Both hear SIGTERM at once; the gateway takes new requests for as long as the application may need."""
    async with PodRunner(example(fake, "classic", grace_seconds=3), PROGRAMS, SECRETS) as pod:
        await pod.wait_line("app", lambda line: is_answer(line) and not json.loads(line)["error"])
        since = len(answers(pod))
        codes = await pod.stop()
    said = answers(pod)[since:]

    assert pod.events[-4:] == ["llm-gateway SIGTERM", "app SIGTERM", "app ended", "llm-gateway ended"]
    assert codes["llm-gateway"] == 0
    assert {(line["text"], line["error"]) for line in said} == {(SAID, "")}
    assert any(line["told"] for line in said)
    assert (fake.cancelled, faults(pod)) == ([], [])


async def test_without_its_lame_duck_the_classic_sidecar_would_fail(fake: FakeOpenAI) -> None:
    """The same pod with lame_duck_seconds 0: or the test above would prove nothing."""
    documents = example(fake, "classic", grace_seconds=3)
    (config_map,) = [document for document in documents if document["metadata"]["name"] == CONFIG_MAP]
    config = yaml.safe_load(config_map["data"]["gateway.yaml"])
    assert config["server"]["lame_duck_seconds"] == 3
    config["server"]["lame_duck_seconds"] = 0
    config_map["data"]["gateway.yaml"] = yaml.safe_dump(config)
    async with PodRunner(documents, PROGRAMS, SECRETS) as pod:
        await pod.wait_line("app", lambda line: is_answer(line) and not json.loads(line)["error"])
        codes = await pod.stop()

    assert codes["app"] == 1
    assert any(line["error"] and line["told"] for line in answers(pod))


async def test_an_application_that_takes_too_long_is_killed_before_its_sidecar(fake: FakeOpenAI) -> None:
    """The one grace period is the application's; the gateway still ends by itself, in what is left, with 0."""
    documents = example(fake, "native", linger_seconds=60, grace_seconds=0, drain_seconds=0)
    async with PodRunner(documents, PROGRAMS, SECRETS) as pod:
        await pod.wait_line("app", is_answer)
        codes = await pod.stop()

    assert pod.events[-5:] == ["app SIGTERM", "app SIGKILL", "app ended", "llm-gateway SIGTERM", "llm-gateway ended"]
    assert codes == {"llm-gateway": 0, "app": -9}


async def test_a_changed_config_map_is_applied_without_a_restart(fake: FakeOpenAI) -> None:
    """The link is swapped as kubelet does; the next requests go to the other upstream, and no stream is cut."""
    async with FakeOpenAI() as other:
        documents = example(fake, "native", watch_seconds=0.1)
        async with PodRunner(documents, PROGRAMS, SECRETS) as pod:
            await pod.wait_line("app", is_answer)
            config = yaml.safe_load(gateway_config(documents))
            config["upstreams"][0] |= {"name": "other", "base_url": other.base_url}
            pod.change_config_map(CONFIG_MAP, {"gateway.yaml": yaml.safe_dump(config)})
            await pod.wait_line("llm-gateway", lambda line: '"upstream":"other"' in line.replace(" ", ""))
            codes = await pod.stop()

    assert codes == {"llm-gateway": 0, "app": 0}
    assert {line["error"] for line in answers(pod)} == {""}
    assert pod.events.count("llm-gateway started") == 1
    assert other.requests[0].header("authorization") == "Bearer sk-of-the-secret"


async def test_a_gateway_that_cannot_start_keeps_the_application_from_starting(fake: FakeOpenAI) -> None:
    """A configuration that is refused is seen in the pod's events, not in the application's errors."""
    documents = example(fake, "native")
    (config_map,) = [document for document in documents if document["metadata"]["name"] == CONFIG_MAP]
    config_map["data"]["gateway.yaml"] = "server: {prot: 1}"
    pod = PodRunner(documents, PROGRAMS, SECRETS)
    with pytest.raises(PodFailedError, match="prot"):
        await pod.__aenter__()

    assert pod.events == ["llm-gateway started"]


@pytest.mark.skipif(not may_unshare(), reason="this machine lets us make no mount namespaces")
@pytest.mark.parametrize("lacking", ["", "/tmp"])
async def test_what_needs_files_has_them_on_a_read_only_root(fake: FakeOpenAI, lacking: str) -> None:
    """Workers share files, and state is kept in one: rendered volumes are their place; without, there is none."""
    url = "sqlite:///var/lib/llm-gateway/state.db"
    documents = example(fake, "native", data={"enabled": True}, config={"state": {"url": url}}, workers=2)
    gateway = container_of(pod_of(documents), "llm-gateway")
    gateway["volumeMounts"] = [mount for mount in gateway["volumeMounts"] if mount["mountPath"] != lacking]
    pod = PodRunner(documents, PROGRAMS, SECRETS)
    if lacking:
        with pytest.raises(PodFailedError, match="No usable temporary directory"):
            await pod.__aenter__()
        return
    async with pod:
        await pod.wait_line("app", is_answer)
        codes = await pod.stop()

    assert codes == {"llm-gateway": 0, "app": 0}
    assert {line["error"] for line in answers(pod)} == {""}


async def test_only_the_pod_itself_reaches_the_data_port(fake: FakeOpenAI) -> None:
    """The pod's address has metrics and health, and neither the provider's key to spend nor what chats say."""
    documents = example(fake, "native")
    server = yaml.safe_load(gateway_config(documents))["server"]
    admin = f"http://{POD_ADDRESS}:{server['admin_port']}"
    async with PodRunner(documents, PROGRAMS, SECRETS), aiohttp.ClientSession() as web:
        statuses = {}
        for path in ("/health/ready", "/metrics", "/briefs/none"):
            async with web.get(admin + path) as response:
                statuses[path] = response.status
        with pytest.raises(aiohttp.ClientConnectorError):
            await web.get(f"http://{POD_ADDRESS}:{server['port']}/v1/models")

    assert statuses["/health/ready"] == statuses["/metrics"] == 200
    assert statuses["/briefs/none"] in (401, 403, 404)
