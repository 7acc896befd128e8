"""The clients of the soak: what each asks, how it may leave, and whether what it was told is the truth.

What request number n is follows from the seed and n. A whole answer must be the text that follows from the request's
mark; a stream must end with `[DONE]` or by saying how it finished, with an error event, or with a broken connection;
an error must have OpenAI's form. Everything else is a lie, and kept.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.soak_answers import FILLER, text_of

APPS = ("app-1", "app-2", "app-3", "app-4")
TIGHT = "tight"
"""A client whose limit is too low for what it asks."""
HANG_S = 20.0
MAX_TURNS = 24
SYSTEM = {"role": "system", "content": "You are terse."}
PASSED = "/v1/audio/speech"
"""A path that is passed through: what comes back is as its upstream said it, whatever that is."""
_STORY = (
    "On day {0} crate K-{0} left on the ferry with A{0}, B{0}, C{0} and D{0}, and R-{0} took {1} s. "
    "Never open crate K-{0}. "
)
"""Full of words that come once, so that what is remembered of words is soon full."""


def key_of(client: str) -> str:
    """The API key of a client."""
    return f"sk-soak-{client}"


@dataclass(frozen=True, slots=True)
class Leave:
    """How a client leaves: after so many pieces of the answer (0: before its head), at the earliest after `after_s`;
    or before the whole of its request is sent."""

    pieces: int = 0
    after_s: float = 0.0
    is_mid_request: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    mark: str
    client: str
    body: bytes
    path: str = "/v1/chat/completions"
    is_stream: bool = False
    is_chunked: bool = False
    leave: Leave | None = None
    pause_s: float = 0.0
    headers: tuple[str, ...] = ()

    def pieces(self) -> list[bytes]:
        """The bytes of the request, in two pieces."""
        lines = [f"POST {self.path} HTTP/1.1", "host: localhost", "content-type: application/json"]
        lines += [f"authorization: Bearer {key_of(self.client)}", *self.headers]
        lines.append("transfer-encoding: chunked" if self.is_chunked else f"content-length: {len(self.body)}")
        head = "\r\n".join([*lines, "", ""]).encode()
        half = len(self.body) // 2
        parts = [self.body[:half], self.body[half:]]
        if self.is_chunked:
            parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
            parts[1] += b"0\r\n\r\n"
        return [head + parts[0], parts[1]]


@dataclass(slots=True)
class Talk:
    """A chat that grows, and has some turns to begin with; one that names a session sends its newest messages only."""

    number: int
    client: str
    is_named: bool
    messages: list[dict[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.messages = [SYSTEM]
        for turn in range(self.number * 7 % (MAX_TURNS - 4)):
            story = _STORY.format(self.number * 100 + turn, turn)
            self.messages.append({"role": "user", "content": story})
            self.messages.append({"role": "assistant", "content": "That is noted."})

    def ask(self, mark: str, draw: random.Random) -> tuple[list[dict[str, str]], tuple[str, ...]]:
        """One turn more: messages and headers."""
        story = _long(draw, 2)
        self.messages.append({"role": "user", "content": f"{story}What do you say? [n={mark}]"})
        if not self.is_named:
            return self.messages, ()
        return [SYSTEM, *self.messages[1:][-3:]], (f"x-gateway-session: talk-{self.number}",)


class Asks:
    """Makes requests by number.

    Args:
        seed: for all of them.
        requests: answered whole.
        streams: answered as streams.
    """

    def __init__(self, seed: int, requests: int, streams: int) -> None:
        self.seed = seed
        self.total = requests + streams
        self.streams = streams

    def is_stream(self, number: int) -> bool:
        """Streams are spread evenly."""
        return (number + 1) * self.streams // self.total != number * self.streams // self.total

    def make(self, number: int, talk: Talk) -> Ask:
        """Request number so and so, for a caller that has a talk."""
        draw = random.Random(f"{self.seed}/{number}")
        mark, is_stream, drawn = f"{self.seed}-{number}", self.is_stream(number), draw.random()
        client = TIGHT if draw.random() < 0.05 else draw.choice(APPS)
        options: dict[str, Any] = {"model": draw.choice(("alone-1", "two-1", "two-2", "two-3"))}
        headers: tuple[str, ...] = ()
        if is_stream:
            options["stream"] = True
            if draw.random() < 0.5:
                options["stream_options"] = {"include_usage": True}
        leave = _leave(draw) if draw.random() < 0.08 else None
        pause_s = 0.1 if draw.random() < 0.005 else 0.0
        if drawn < 0.12:
            client = talk.client
            messages, headers = talk.ask(mark, draw)
        elif drawn < 0.30:
            mark = f"{self.seed}-again-{draw.randrange(draw.choice((3, 400)))}" if draw.random() < 0.7 else mark
            options |= {"temperature": 0, "model": "two-1"}
            messages = [{"role": "user", "content": f"Say it again. [n={mark}]"}]
        elif drawn < 0.31:
            options["model"] = "big-1"
            messages = [{"role": "user", "content": f"{_long(draw, 300)} [n={mark}]"}]
        elif drawn < 0.32:
            messages = [{"role": "user", "content": f"{_long(draw, 60)} [n={mark}]"}]
        elif drawn < 0.35:
            return Ask(mark, client, _odd(draw, mark), is_stream=is_stream, leave=leave)
        elif drawn < 0.38:
            body = _encode({"model": "m", "stream": is_stream, "input": f"[n={mark}]"})
            return Ask(mark, client, body, PASSED, is_stream, draw.random() < 0.5, leave, pause_s)
        else:
            messages = [SYSTEM, {"role": "user", "content": f"{_STORY.format(number, number % 97)}[n={mark}]"}]
        body = _encode({**options, "max_tokens": 100, "messages": messages})
        return Ask(mark, client, body, is_stream=is_stream, leave=leave, pause_s=pause_s, headers=headers)


def _leave(draw: random.Random) -> Leave:
    drawn = draw.random()
    if drawn < 0.2:
        return Leave(is_mid_request=True, after_s=draw.random() * 0.02)
    if drawn < 0.6:
        return Leave(after_s=draw.random() * 0.03)
    return Leave(pieces=draw.randrange(1, 8))


def _long(draw: random.Random, times: int) -> str:
    return "".join(_STORY.format(draw.randrange(1_000_000), place) for place in range(times))


def _odd(draw: random.Random, mark: str) -> bytes:
    """A request that is refused: for a model that nobody has, or one that is no JSON."""
    if draw.random() < 0.5:
        return _encode({"model": f"none-{mark}", "messages": [{"role": "user", "content": "hello"}]})
    return b'{"model": "two-1", "messages": [' + b"[" * draw.randrange(1, 50)


def _encode(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


class LeftError(Exception):
    """The client has left, as it meant to."""


class Line:
    """One connection to the gateway, opened when it is needed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.reader is None or self.writer is None or self.writer.is_closing() or self.reader.at_eof():
            self.close()
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**23)
        return self.reader, self.writer

    def close(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None


@dataclass(slots=True)
class Got:
    """What came back: pieces of the body, whether the message is whole, and whether it took longer than `HANG_S`."""

    status: int = 0
    kind: str = ""
    pieces: list[bytes] = field(default_factory=list)
    is_whole: bool = False
    has_hung: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


async def call(line: Line, ask: Ask) -> Got | None:
    """Ask; None where the client left before it was answered."""
    got = Got()
    try:
        async with asyncio.timeout(HANG_S):
            await _exchange(line, ask, got)
    except LeftError:
        line.close()
        return None
    except TimeoutError:
        line.close()
        got.has_hung = True
    except (asyncio.IncompleteReadError, ConnectionError):
        line.close()
    return got


async def _exchange(line: Line, ask: Ask, got: Got) -> None:
    reader, writer = await line.open()
    first, second = ask.pieces()
    leave = ask.leave
    if leave and leave.is_mid_request:
        writer.write(first)
        await asyncio.sleep(leave.after_s)
        raise LeftError
    writer.write(first)
    writer.write(second)
    if leave and not leave.pieces:
        await asyncio.sleep(leave.after_s)
        raise LeftError
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    got.status = int(head.split(" ", 2)[1])
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    got.kind = fields.get("content-type", "")
    if ask.pause_s:
        await asyncio.sleep(ask.pause_s)
    if "content-length" in fields:
        got.pieces.append(await reader.readexactly(int(fields["content-length"])))
    else:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            got.pieces.append((await reader.readexactly(size + 2))[:-2])
            if leave and len(got.pieces) >= leave.pieces:
                raise LeftError
        await reader.readexactly(2)
    got.is_whole = True
    if fields.get("connection") == "close":
        line.close()


def judge(ask: Ask, got: Got | None) -> tuple[str, bool]:
    """What became of a request, and whether it was told the truth."""
    if got is None:
        return "left", True
    if got.has_hung or not got.status:
        return "hang" if got.has_hung else "no answer", False
    if got.status != 200:
        return str(got.status), got.is_whole and _is_error(got.body)
    if ask.path == PASSED:
        return "200 passed through", not got.is_whole or ask.mark.encode() in got.body or b'"error"' in got.body
    if not ask.is_stream:
        if not got.is_whole:
            return "200 broken", True
        return "200", _text_of(got.body) in wanted(ask.mark)
    return _judge_stream(got, ask.mark)


def wanted(mark: str) -> tuple[str, str]:
    """What a whole answer may say."""
    text = text_of(mark)
    return text, text + FILLER


def _is_error(body: bytes) -> bool:
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(error["message"]) and "type" in error


def _text_of(body: bytes) -> str | None:
    try:
        choice = json.loads(body)["choices"][0]
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    return choice["message"]["content"] if choice["finish_reason"] == "stop" else None


def _judge_stream(got: Got, mark: str) -> tuple[str, bool]:
    """A stream's end must say whether its text is whole."""
    text, finish, is_done, has_failed = "", None, False, False
    events = got.body.split(b"\n\n")
    for raw in events[:-1]:
        if not raw.startswith(b"data: "):
            has_failed = has_failed or raw.startswith(b"event: error")
            if not has_failed:
                continue
        data = raw.partition(b"data: ")[2]
        if data == b"[DONE]":
            is_done = True
            continue
        try:
            said = json.loads(data)
        except ValueError:
            return "stream with no JSON", False
        has_failed = has_failed or "error" in said
        for choice in said.get("choices", ()):
            text += choice["delta"].get("content") or ""
            finish = choice["finish_reason"] or finish
    if has_failed:
        return "200 stream, error event", not is_done
    if is_done or (got.is_whole and finish):
        label = "200 stream" if is_done else "200 stream, no [DONE]"
        return label, text in wanted(mark) and finish == "stop" and not events[-1]
    return "200 stream, broken", not got.is_whole


@dataclass(slots=True)
class Tally:
    """What became of all requests so far."""

    done: int = 0
    streams: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    lies: list[str] = field(default_factory=list)

    def add(self, ask: Ask, got: Got | None) -> None:
        """Count one, and keep a lie."""
        label, is_true = judge(ask, got)
        self.done += 1
        self.streams += ask.is_stream
        self.seen[label] += 1
        if not is_true:
            told = got.body[-300:] if got else b""
            self.lies.append(f"{label} to {ask.mark} {ask.path} stream={ask.is_stream}: ...{told!r}")
