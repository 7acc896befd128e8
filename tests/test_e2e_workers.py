"""Several workers behind one port: one gateway to those who call it, whoever of them dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from tests.conftest import KEY
from tests.fakes.openai_server import FakeOpenAI, stall
from tests.gateway_process import GatewayProcess, Json, config_for
from tests.small_window import BUDGET, WINDOW

pytestmark = pytest.mark.asyncio(loop_scope="session")
WORKERS = {"workers": 2, "watch_seconds": 0.1}
SAID = "You said: one two three"
CHAT: Json = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}


@pytest_asyncio.fixture(loop_scope="session")
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as server:
        yield server


def client_of(gateway: GatewayProcess, retries: int = 0) -> Any:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=retries)


async def ask(gateway: GatewayProcess, body: Json = CHAT) -> tuple[int, Json]:
    """One request on a connection of its own, as many different clients make them."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session,
        session.post(f"{gateway.base_url}/chat/completions", json=body) as response,
    ):
        return response.status, await response.json()


def text_of(answer: tuple[int, Json]) -> str:
    assert answer[0] == 200, answer
    content: str = answer[1]["choices"][0]["message"]["content"]
    return content


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that live."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in text.split()]


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until(condition: Any, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_workers_are_one_gateway(fake: FakeOpenAI) -> None:
    """Both serve; one scrape has everything; what is needed for a request that either may get is shared."""
    async with GatewayProcess(config_for(fake, server=WORKERS)) as gateway:
        said = [text_of(await ask(gateway)) for _ in range(40)]
        served = await gateway.wait_logs(40, logger="gateway.access")
        samples = await gateway.metrics()

    assert said == [SAID] * 40
    assert set(Counter(log["worker"] for log in served)) <= {1, 2}
    assert samples.total("gateway_requests_total") == 40
    assert samples.total("gateway_request_duration_seconds_count") == 40
    assert samples.total("gateway_workers") == 2
    assert samples.total("gateway_requests_in_flight") == 0


async def test_briefs_are_shared() -> None:
    """A chat that overflows is forwarded in the same bytes whichever worker gets it, and folded once."""
    async with FakeOpenAI(window=WINDOW) as fake:
        config = config_for(fake, server=WORKERS, token_budget=BUDGET, summarizer={"endpoint": ""})
        messages = [
            {"role": "user" if i % 2 == 0 else "assistant", "content": f"turn {i} " + "word " * 12} for i in range(31)
        ]
        async with GatewayProcess(config) as gateway:
            served: list[Json] = []
            while (
                len({log["worker"] for log in served}) < 2 and len(served) < 600
            ):  # who accepts is the kernel's choice
                await asyncio.gather(*(ask(gateway, {**CHAT, "messages": messages}) for _ in range(12)))
                served = await gateway.wait_logs(len(served) + 12, logger="gateway.access")

    assert {log["worker"] for log in served} == {1, 2}
    assert len({request.body for request in fake.requests}) == 1
    assert {log["status"] for log in served} == {200}


async def test_a_killed_worker(fake: FakeOpenAI) -> None:
    """The others serve, connections that wait are not reset, another takes its place, no counter falls."""
    async with GatewayProcess(config_for(fake, server=WORKERS)) as gateway:
        before = [await ask(gateway) for _ in range(20)]
        counted = (await gateway.metrics()).total("gateway_requests_total")
        victim = children_of(gateway.pid)[0]
        os.kill(victim, signal.SIGSTOP)
        waiting = [asyncio.create_task(ask(gateway)) for _ in range(40)]
        await asyncio.sleep(0.2)
        os.kill(victim, signal.SIGKILL)
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        await gateway.wait_log(message="a worker took its place", timeout_s=30)
        after = [await ask(gateway) for _ in range(20)]
        samples = await gateway.metrics()

    broken = [answer for answer in answers if isinstance(answer, BaseException)]
    whole = [answer for answer in answers if not isinstance(answer, BaseException)]
    print(f"killed with {len(broken)} of 40 connections accepted; {len(whole)} served by the other")
    assert all(text_of(answer) == SAID for answer in [*before, *whole, *after])
    assert all(isinstance(error, aiohttp.ClientConnectionError) for error in broken)
    assert len(whole) >= 1
    assert counted == 20
    assert samples.total("gateway_requests_total") == 40 + len(whole)
    assert samples.total("gateway_workers") == 2
    assert samples.total("gateway_worker_exits_total", reason="crash") == 1


async def read_all(stream: Any) -> None:
    async for _ in stream:
        pass


async def test_limits_are_those_of_all_workers_whoever_dies(fake: FakeOpenAI) -> None:
    """No more at once than the limit, on whichever worker; kill -9 of one that holds some brings them back, once."""
    limits = [{"client": "*", "concurrent_requests": 4, "requests_per_minute": 1000}]
    fake.script.extend(stall(3) for _ in range(4))
    async with GatewayProcess({**config_for(fake, server=WORKERS), "rate_limits": limits}) as gateway:
        before = children_of(gateway.pid)
        clients = [client_of(gateway) for _ in range(4)]
        streams = [await client.chat.completions.create(**CHAT, stream=True) for client in clients]
        refused = {(await ask(gateway))[0] for _ in range(20)}
        os.kill(before[0], signal.SIGKILL)
        await gateway.wait_log(message="a worker took its place", timeout_s=30)
        reading = [asyncio.create_task(read_all(stream)) for stream in streams]
        broken, _ = await asyncio.wait(reading, timeout=1)
        lost = sum(task.exception() is not None for task in broken)
        fake.script.extend(stall(3) for _ in range(4))
        held = []
        for _ in range(20):
            body = {**CHAT, "stream": True}
            session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"})
            response = await session.post(f"{gateway.base_url}/chat/completions", json=body)
            held.append((session, response))
        let_through = sum(response.status == 200 for _, response in held)
        for session, response in held:
            response.close()
            await session.close()
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, *(client.close() for client in clients), return_exceptions=True)
        print(f"{lost} of 4 streams were the killed worker's; {let_through} places were free after it")

    assert refused == {429}
    assert let_through == lost


async def test_streams_end_whole(fake: FakeOpenAI) -> None:
    """SIGTERM: nothing that runs is cut, on either worker."""
    fake.script.extend(stall(3) for _ in range(16))
    behaviours = list(fake.script)
    async with GatewayProcess(config_for(fake, server=WORKERS)) as gateway:
        clients = [client_of(gateway) for _ in range(16)]
        streams = [await client.chat.completions.create(**CHAT, stream=True) for client in clients]
        gateway.signal(signal.SIGTERM)
        await until(lambda: unready(gateway))
        for behaviour in behaviours:
            behaviour.release.set()
        texts = [
            "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
            for stream in streams
        ]
        code = await gateway.wait_exit(20)
        for client in clients:
            await client.close()

    assert texts == [SAID] * 16
    assert code == 0


async def unready(gateway: GatewayProcess) -> bool:
    return (await gateway.admin("/health/ready"))[0] == 503


async def test_all_take_up_a_change(fake: FakeOpenAI) -> None:
    """A changed file is noticed, checked once, and taken up by every worker; a broken one by none."""
    async with FakeOpenAI(name="second") as second, GatewayProcess(config_for(fake, server=WORKERS)) as gateway:
        gateway.write_config("upstreams: nonsense")
        await gateway.wait_log(message="configuration refused, the present one stays")
        still = await ask(gateway)
        gateway.write_config(config_for(second, server=WORKERS))
        await gateway.wait_log(message="configuration applied")
        await asyncio.gather(*(ask(gateway) for _ in range(30)))
        served = await gateway.wait_logs(31, logger="gateway.access")
        samples = await gateway.metrics()

    assert text_of(still) == SAID
    assert {log["upstream"] for log in served[1:]} <= {"second", "fake"}
    assert len(second.requests) >= 28  # a worker may hear of it a moment after it is logged
    assert samples.total("gateway_config_reloads_total", result="refused") >= 1
    assert samples.total("gateway_config_last_reload_successful") == 1


async def test_workers_are_replaced_without_a_failure(fake: FakeOpenAI) -> None:
    """One after the other, under load: every request is answered."""
    async with GatewayProcess(config_for(fake, server=WORKERS)) as gateway:
        old = set(children_of(gateway.pid))
        replaced = asyncio.create_task(gateway.wait_log(message="workers replaced", timeout_s=60))
        gateway.signal(signal.SIGUSR2)
        answers = []
        while not replaced.done() and len(answers) < 5000:
            answers += await asyncio.gather(*(ask(gateway) for _ in range(4)), return_exceptions=True)
        await replaced
        samples = await gateway.metrics()
        new = set(children_of(gateway.pid))

    assert [answer for answer in answers if isinstance(answer, BaseException) or answer[0] != 200] == []
    assert samples.total("gateway_requests_total") == len(answers)
    assert not old & new
    assert len(new) == 2


async def test_no_worker_outlives_its_supervisor(fake: FakeOpenAI) -> None:
    """Whatever ends the supervisor, nothing goes on behind its port."""
    gateway = await GatewayProcess(config_for(fake, server=WORKERS)).start()
    workers = children_of(gateway.pid)
    gateway.signal(signal.SIGKILL)
    code = await gateway.wait_exit()

    async def are_gone() -> bool:
        return not any(map(lives, workers))

    await until(are_gone)

    assert code == -signal.SIGKILL
    assert len(workers) == 2
    await gateway.stop()


async def test_a_taken_port_is_said(fake: FakeOpenAI) -> None:
    """In one line, with exit code 1, and with no process left."""
    async with GatewayProcess(config_for(fake, server=WORKERS)) as first:
        config = config_for(fake, server={**WORKERS, "port": first.port})
        second = GatewayProcess(config)
        with pytest.raises(TimeoutError):
            await second.start()

    assert "cannot listen" in second.output
