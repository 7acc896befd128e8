"""The real client libraries, each with its own way of keeping and resending a history, play one conversation.

Whatever they make of it between turns, the same message is recognised: in the next turn, and in another library's
writing. `python3 dev.py test-clients` installs them apart from the project's environment; where they are not, these
tests are skipped. What they were seen to write is a table in tests/core/test_canonical.py, which always runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.core.context.canonical import canonical_digest
from tests.clients.conversation import CONVERSATION, SYSTEM, TURNS, content_of, result_of
from tests.fakes.openai_server import FakeOpenAI, Recorded
from tests.fakes.scripted import ScriptedOpenAI
from tests.gateway_process import ROOT, GatewayProcess, clean_environment, config_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

Json = dict[str, Any]
FOLDER = ROOT / "tests" / "clients"
INSTALLED = Path(os.environ.get("DEV_CLIENTS_VENV", ROOT / ".venv-clients"))
CLIENTS = ["openai", "langchain", "llama_index", "pydantic_ai", "ai_sdk"]
KNOW_NAMES = ["openai", "langchain"]
"""The others do not send a user's name."""
ANSWERS: list[Json] = CONVERSATION["answers"]
SUMMARY = "Margit asked about Oslo and Rome."
BUDGET: Json = {"max_total": 2000, "completion": 200, "running_brief": 400, "recent_turns": 100, "retrieved_context": 0}


def command_of(client: str) -> list[str]:
    """How this client's driver is started; skips the calling test where the client is not installed."""
    if client == "ai_sdk":
        node, script = shutil.which("node"), INSTALLED / "node" / "play_ai_sdk.mjs"
        if node is None or not (script.parent / "node_modules").is_dir():
            pytest.skip("no AI SDK here: `python3 dev.py test-clients` installs it where there is Node")
        shutil.copy(FOLDER / script.name, script)  # Node looks for packages beside the script
        return [node, str(script)]
    python = INSTALLED / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        pytest.skip("no client libraries here: `python3 dev.py test-clients` installs them")
    return [str(python), str(FOLDER / f"play_{client}.py")]


async def play(client: str, upstream: ScriptedOpenAI, base_url: str, *arguments: str) -> list[Recorded]:
    """What the upstream receives while this client plays the conversation."""
    command = command_of(client)
    upstream.say_next(ANSWERS)
    last = [str(FOLDER / "conversation.json")] if client == "ai_sdk" else []
    process = await asyncio.create_subprocess_exec(
        *command,
        base_url,
        *last,
        *arguments,
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 90)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, output.decode()[-3000:]
    return [seen for seen in upstream.requests if b"running brief of a conversation" not in seen.body]


def plain_history(**named: str) -> list[Json]:
    """The conversation as plainly as it can be written, up to the last question."""
    history: list[Json] = []
    answers = iter(ANSWERS)
    for turn in TURNS:
        history.append({"role": "user", "content": content_of(turn), **named})
        while calls := (said := next(answers)).get("calls", []):
            written = [
                {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}
                for ident, name, arguments in calls
            ]
            history.append({"role": "assistant", "tool_calls": written})
            results = [(ident, result_of(name, json.loads(arguments))) for ident, name, arguments in calls]
            history += [{"role": "tool", "tool_call_id": ident, "content": result} for ident, result in results]
        history.append({"role": "assistant", "content": said["text"]})
    return history[:-1]


def digests_of(messages: Sequence[Json]) -> list[bytes]:
    return [canonical_digest(message) for message in messages if message["role"] != "system"]


def assert_recognised(requests: Sequence[Recorded], history: Sequence[Json]) -> None:
    """Each request holds the messages of the one before, and all are those of the plain history."""
    sent = [digests_of(seen.json()["messages"]) for seen in requests]
    assert len(sent) == len(ANSWERS)
    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(sent))
    assert sent[-1] == digests_of(history)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scripted() -> AsyncIterator[ScriptedOpenAI]:
    async with ScriptedOpenAI(summary=lambda _: json.dumps({"facts": [SUMMARY]})) as upstream:
        yield upstream


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_s_history_is_recognised(client: str, scripted: ScriptedOpenAI) -> None:
    """From turn to turn, though it went through the client's store, and beside the same history plainly written."""
    requests = await play(client, scripted, scripted.base_url)

    assert requests[0].json()["messages"][0]["content"] == SYSTEM
    assert_recognised(requests, plain_history())


@pytest.mark.parametrize("client", KNOW_NAMES)
async def test_a_named_user_s_history_is_recognised(client: str, scripted: ScriptedOpenAI) -> None:
    """The name is part of the message."""
    requests = await play(client, scripted, scripted.base_url, "margit")

    assert_recognised(requests, plain_history(name="margit"))
    assert digests_of(plain_history(name="margit"))[0] != digests_of(plain_history())[0]


def briefs_of(requests: Sequence[Recorded]) -> list[str]:
    """The brief of each request; empty where there is none."""
    found = [
        re.search(r"(?s)<running_brief>.*</running_brief>", json.dumps(seen.json()["messages"])) for seen in requests
    ]
    return [match[0] if match else "" for match in found]


async def test_all_clients_share_one_brief(scripted: ScriptedOpenAI) -> None:
    """A conversation that one library has had folded is known, with its brief, when another one writes it."""
    for client in CLIENTS:
        command_of(client)
    config = config_for(scripted, token_budget=BUDGET, summarizer={"max_retries": 0})
    async with GatewayProcess(config) as gateway:
        briefs, made = {}, {}
        for client in CLIENTS:
            briefs[client] = briefs_of(await play(client, scripted, gateway.base_url))
            made[client] = (await gateway.metrics()).total("token_budget_summarizations_total")

    print(made, [[len(each) for each in briefs[client]] for client in CLIENTS])
    assert SUMMARY in briefs["openai"][-1]
    assert len(set(made.values())) == 1
    assert len({each[-1] for each in briefs.values()}) == 1


async def test_openai_s_realtime_client_holds_a_session() -> None:
    """Asynchronous and synchronous; it sees the other end's close, and the status of a handshake that is refused."""
    events = ["session.created", "response.created", *["response.output_text.delta"] * 2, "response.done"]
    command = command_of("realtime")
    async with FakeOpenAI() as upstream, GatewayProcess(config_for(upstream)) as gateway:
        process = await asyncio.create_subprocess_exec(
            *command,
            gateway.base_url,
            env=clean_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, errors.decode()[-3000:]
        first, second = await gateway.wait_logs(2, logger="gateway.access", status=101)

        assert json.loads(output) == [[*events, "4000 enough"], events, 400]
        assert [log.get("billed_prompt_tokens") for log in (first, second)] == [20, 20]
