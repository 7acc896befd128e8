"""An upstream that counts otherwise is learned from its answers, shown in metrics, and remembered across restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, config_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHANGED = "a token correction changed"
LOADED = "token corrections loaded"


@pytest_asyncio.fixture(loop_scope="session")
async def fake() -> AsyncIterator[FakeOpenAI]:
    """It counts words, so a prompt with long words costs less there than by our count."""
    async with FakeOpenAI() as server:
        yield server


async def chat(gateway: GatewayProcess, count: int) -> None:
    """So many requests of growing length."""
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client:
        for number in range(count):
            content = "antidisestablishmentarianism is a word " * 5 * (number + 1)
            messages: list[Any] = [{"role": "user", "content": content}]
            await client.chat.completions.create(model="strange", messages=messages)


def kept_in(path: Path, fake: FakeOpenAI) -> dict[str, Any]:
    return config_for(fake, token_estimator={"calibrate": True}, state={"url": f"sqlite://{path}"})


async def test_what_was_learned_survives_a_restart(fake: FakeOpenAI, tmp_path: Path) -> None:
    """Logged when it changes, exported by upstream and model, and in force again from the first request on."""
    labels = {"upstream": fake.name, "model": "strange"}
    async with GatewayProcess(kept_in(tmp_path / "state.db", fake)) as gateway:
        await chat(gateway, 8)
        changed = await gateway.wait_log(message=CHANGED)
        before = await gateway.metrics()
        await gateway.stop()
    async with GatewayProcess(kept_in(tmp_path / "state.db", fake)) as gateway:
        loaded = await gateway.wait_log(message=LOADED)
        after = await gateway.metrics()

    assert (changed["upstream"], changed["model"], changed["answers"]) == (fake.name, "strange", 4)
    assert before.total("token_correction_samples_total", result="learned") == 8
    assert 0 < before.total("token_correction_ratio", **labels) < 0.7
    assert loaded["loaded"] == 1
    for name in ("token_correction_ratio", "token_correction_margin_ratio"):
        assert after.total(name, **labels) == before.total(name, **labels)


@pytest.mark.parametrize("content", [b"no database at all " * 500, b""], ids=["damaged", "empty"])
async def test_a_bad_state_file_stops_nothing(fake: FakeOpenAI, tmp_path: Path, content: bytes) -> None:
    """The gateway starts, answers and learns anew; what was damaged is kept aside."""
    path = tmp_path / "state.db"
    path.write_bytes(content)
    async with GatewayProcess(kept_in(path, fake)) as gateway:
        await chat(gateway, 5)
        await gateway.wait_log(message=CHANGED)
        metrics = await gateway.metrics()

    assert metrics.total("state_store_faults_total", reason="set_aside") == bool(content)
    assert path.with_name("state.db.damaged").exists() == bool(content)


async def test_a_folder_that_is_missing_stops_nothing(fake: FakeOpenAI, tmp_path: Path) -> None:
    """It is said, and nothing is kept."""
    async with GatewayProcess(kept_in(tmp_path / "no" / "state.db", fake)) as gateway:
        await chat(gateway, 5)
        said = await gateway.wait_log(logger="gateway.state")
        await gateway.stop()

    assert "cannot be used" in said["message"]
    assert not (tmp_path / "no").exists()
