"""The realtime endpoint of the fake upstream: a websocket that does as it is told, and misbehaves when told to.

A message that is no command comes back as it came, of its own kind. A command is a JSON object whose `type` is

    response.create     answers with events as OpenAI does, the last with a `usage`, which the command may give
    fake.send           `count` messages of `size` bytes, text or, with `binary`, binary
    fake.close          closes with `code` and `reason`
    fake.die            the connection is reset; with `within_frame`, in the middle of a message
    fake.raw            writes the bytes `hex`, whatever they are
    fake.deaf           reads nothing more until `released` is set
    fake.vanish         closes the connection without a close frame
    fake.rude           does that from now on when the other side closes, in place of an answer

What each session was is in `sessions`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

Json = dict[str, Any]
USAGE: Json = {
    "total_tokens": 30,
    "input_tokens": 20,
    "output_tokens": 10,
    "input_token_details": {"text_tokens": 20, "audio_tokens": 0, "cached_tokens": 5},
    "output_token_details": {"text_tokens": 10, "audio_tokens": 0},
}


@dataclass(slots=True, eq=False)
class Session:
    """One websocket: the headers and target that opened it, what came, and how the other side closed."""

    headers: list[tuple[str, str]]
    target: str
    messages: list[str | bytes] = field(default_factory=list)
    close_code: int | None = None
    close_reason: str = ""
    is_rude: bool = False
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def command_of(text: str) -> Json | None:
    """The command that a message is, if it is one."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    is_command = isinstance(found, dict) and str(found.get("type", "")).startswith(("fake.", "response.create"))
    return found if is_command else None


async def converse(request: web.BaseRequest, session: Session) -> web.StreamResponse:
    """Serves one websocket to its end."""
    websocket = web.WebSocketResponse(protocols=("realtime",), max_msg_size=0, timeout=1.0, autoclose=False)
    await websocket.prepare(request)
    try:
        await websocket.send_json({"type": "session.created", "session": {"object": "realtime.session"}})
        while True:
            message = await websocket.receive()
            if message.type is WSMsgType.TEXT:
                session.messages.append(message.data)
                command = command_of(message.data)
                await (obey(websocket, request, session, command) if command else websocket.send_str(message.data))
            elif message.type is WSMsgType.BINARY:
                session.messages.append(message.data)
                await websocket.send_bytes(message.data)
            else:
                if message.type is WSMsgType.CLOSE:
                    session.close_code, session.close_reason = message.data, message.extra or ""
                    await leave(websocket, request, session)
                break
    finally:
        if session.close_code is None:
            session.close_code = websocket.close_code
        session.is_over.set()
    return websocket


async def leave(websocket: web.WebSocketResponse, request: web.BaseRequest, session: Session) -> None:
    """The answer to a close, if there is to be one."""
    if session.is_rude and request.transport is not None:
        request.transport.close()
    else:
        await websocket.close(code=session.close_code or 1000)


async def obey(websocket: web.WebSocketResponse, request: web.BaseRequest, session: Session, command: Json) -> None:
    kind = command["type"]
    if kind == "response.create":
        await answer(websocket, command.get("usage", USAGE))
    elif kind == "fake.send":
        for number in range(command.get("count", 1)):
            body = f"{number}:".encode().ljust(command["size"], b"x")
            await (websocket.send_bytes(body) if command.get("binary") else websocket.send_str(body.decode()))
    elif kind == "fake.close":
        session.released.set()
        await websocket.close(code=command["code"], message=command.get("reason", "").encode())
    elif kind == "fake.deaf":
        await session.released.wait()
    elif kind == "fake.rude":
        session.is_rude = True
    else:
        break_off(request, command)


def break_off(request: web.BaseRequest, command: Json) -> None:
    """What no library would send."""
    transport = request.transport
    assert transport is not None
    if command["type"] == "fake.raw":
        transport.write(bytes.fromhex(command["hex"]))
    elif command["type"] == "fake.vanish":
        transport.close()
    elif command["type"] == "fake.die":
        if command.get("within_frame"):
            transport.write(b"\x81\x7e\xff\xff" + b"begun")
        with socket.fromfd(transport.get_extra_info("socket").fileno(), socket.AF_INET, socket.SOCK_STREAM) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


async def answer(websocket: web.WebSocketResponse, usage: Json | None) -> None:
    """The events of one answer."""
    await websocket.send_json({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}})
    for word in ("one ", "two"):
        await websocket.send_json({"type": "response.output_text.delta", "response_id": "resp_1", "delta": word})
    done = {"id": "resp_1", "object": "realtime.response", "status": "completed", "usage": usage, "output": []}
    await websocket.send_json({"type": "response.done", "event_id": "event_1", "response": done})
