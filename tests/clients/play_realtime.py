"""Opens a realtime session with openai's own client, asynchronous and synchronous, and prints the events' types."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import websockets
from conversation import KEY, base_url

ENDS = "response.done"


async def asynchronous() -> list[str]:
    client: Any = openai.AsyncOpenAI(base_url=base_url(), api_key=KEY)
    seen: list[str] = []
    async with client.realtime.connect(model="gpt-realtime") as session:
        seen.append((await session.recv()).type)
        await session.response.create()
        while seen[-1] != ENDS:
            seen.append((await session.recv()).type)
        await session.send({"type": "fake.close", "code": 4000, "reason": "enough"})
        try:
            await session.recv()
        except websockets.ConnectionClosed as closed:
            seen.append(f"{closed.rcvd.code} {closed.rcvd.reason}" if closed.rcvd else "no close frame")
    return seen


def synchronous() -> list[str]:
    client: Any = openai.OpenAI(base_url=base_url(), api_key=KEY)
    with client.realtime.connect(model="gpt-realtime") as session:
        seen = [session.recv().type]
        session.response.create()
        while seen[-1] != ENDS:
            seen.append(session.recv().type)
    return seen


async def refused() -> int:
    client = openai.AsyncOpenAI(base_url=base_url(), api_key=KEY)
    try:
        async with client.realtime.connect(model="") as session:
            await session.recv()
    except websockets.InvalidStatus as error:
        return error.response.status_code
    return 0


print(json.dumps([asyncio.run(asynchronous()), synchronous(), asyncio.run(refused())]))
