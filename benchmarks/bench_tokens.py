"""What counting costs: `python dev.py bench-tokens`.

Every time is a median, of calls in one process that does nothing beside, so without the HTTP around them. `cold` and
`one new` go through `parse_metered` and the count stage as a request does: cold with nothing seen before, `one new`
where all messages but the last were. `tiktoken` reads the body and encodes every text from scratch; litellm is asked
in an environment of its own. Each request differs from all before it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import tiktoken

from benchmarks import bench_tokens_texts as texts
from benchmarks.bench_tokens_memory import memory_rows
from benchmarks.bodies import prose
from benchmarks.measurement import percentile
from benchmarks.report import render_table
from benchmarks.upstream import loop_factory
from gateway.core.context.count_caches import CountCaches
from gateway.core.tokens.profiles import O200K, Profile
from gateway.core.wire.request import Endpoint, parse_after, parse_metered
from gateway.exchange import Exchange
from gateway.shell.tokens.counter import TiktokenCounter
from gateway.shell.tokens.digest import message_digests
from gateway.shell.tokens.rank_files import load_encoding
from gateway.stages.count import CountStage

LENGTHS = (4, 40, 400, 4000)
CACHE_BYTES = 64 * 2**20
ENOUGH_S = 1.0
PERIOD_S = 0.001
HUGE_CHARS = 4_600_000  # some 1,000,000 tokens
_PROFILE = Profile(O200K)


def median_us(work: Callable[[], object]) -> float:
    """Microseconds of one call."""
    times: list[float] = []
    ends_at = time.perf_counter() + ENOUGH_S
    while len(times) < 3 or time.perf_counter() < ends_at:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


async def median_stage_us(stage: Callable[[], CountStage], bodies: Iterator[bytes]) -> float:
    """Microseconds of reading and counting one request."""
    times: list[float] = []
    ends_at = time.perf_counter() + ENOUGH_S
    while len(times) < 3 or time.perf_counter() < ends_at:
        body, counting = next(bodies), stage()
        began = time.perf_counter()
        await count(counting, body)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


async def count(stage: CountStage, body: bytes) -> int:
    """Tokens of a body, as the gateway counts them."""
    nobody = cast(Any, None)
    exchange = Exchange("bench", "POST", "", "", (), Endpoint.CHAT, nobody, nobody, 0.0)
    beginning = stage.caches.prefixes.find(body)
    exchange.request = parse_after(body, beginning) if beginning else parse_metered(Endpoint.CHAT, body)
    await stage(exchange)
    assert exchange.count is not None
    return exchange.count.prompt_tokens


def from_scratch(encoding: tiktoken.Encoding, body: bytes) -> int:
    """OpenAI's cookbook: every text anew."""
    messages = json.loads(body)["messages"]
    values = (value for message in messages for value in message.values())
    return 3 + 3 * len(messages) + sum(len(encoding.encode_ordinary(value)) for value in values)


async def chat_row(counter: TiktokenCounter, encoding: tiktoken.Encoding, length: int, peer: Peer | None) -> list[str]:
    """All that one length of chat costs."""
    cold = await median_stage_us(lambda: new_stage(counter), new_chats(length))
    warm, bodies = new_stage(counter), texts.growing(texts.chat(length))
    tokens = await count(warm, body := next(bodies))
    one_new = await median_stage_us(lambda: warm, bodies)
    request = parse_metered(Endpoint.CHAT, body)
    numbers = [
        cold,
        one_new,
        median_us(lambda: parse_metered(Endpoint.CHAT, body)),
        median_us(lambda: message_digests(request.messages, 0)),
        median_us(lambda: from_scratch(encoding, body)),
    ]
    litellm = peer.ask(body) if peer else "-"
    return [f"{length}", f"{len(body):,}", f"{tokens:,}", *(f"{number:,.0f}" for number in numbers), litellm]


def new_chats(length: int) -> Iterator[bytes]:
    """Bodies that have no message in common."""
    while True:
        yield texts.render(texts.chat(length))


def new_stage(counter: TiktokenCounter) -> CountStage:
    """A stage that has seen nothing."""
    return CountStage(counter, CountCaches(CACHE_BYTES, message_digests), {})


class Peer:
    """litellm, in a process of the peers' environment."""

    def __init__(self, python: str) -> None:
        script = str(Path(__file__).with_name("bench_tokens_peer.py"))
        self._process = subprocess.Popen(
            [python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, body: bytes) -> str:
        """Microseconds for a body."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            Path(file.name).write_bytes(body)
            self._process.stdin.write(f"{file.name}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        return f"{json.loads(answer)['us']:,.0f}" if answer else "failed"

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()


async def speed_rows(counter: TiktokenCounter) -> list[list[str]]:
    """Megabytes a second."""
    messages = parse_metered(Endpoint.CHAT, texts.render(texts.chat(400))).messages
    size = sum(memoryview(message).nbytes for message in messages)
    book = ("\n\n".join(prose()) * 20)[: 2 * texts.MILLION]
    code = Path(argparse.__file__).read_text("utf-8") * 20
    encoding = load_encoding(O200K)
    rows = [["digests of 400 messages", rate(size, lambda: message_digests(messages, 0))]]
    for name, text in (("prose", book), ("Python", code[: 2 * texts.MILLION])):
        parts = [text[start : start + 100_000] for start in range(0, len(text), 100_000)]
        rows.append([f"{name}, tiktoken", rate(len(text), lambda text=text: encoding.encode_ordinary(text))])
        rows.append([f"{name}, one thread", rate(len(text), lambda text=text: counter.count_here(_PROFILE, text))])
        times = [await timed(counter.count(_PROFILE, parts)) for _ in range(5)]
        rows.append([f"{name}, all threads", f"{len(text) / statistics.median(times) / 1e6:,.0f}"])
    return rows


def rate(size: int, work: Callable[[], object]) -> str:
    """Megabytes a second."""
    return f"{size / median_us(work):,.0f}"


async def timed(work: Awaitable[object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def worst_rows(counter: TiktokenCounter) -> list[list[str]]:
    """A row a text: our time and longest step, tiktoken's, and whether both agree."""
    encoding = load_encoding(O200K)
    rows = []
    for name, text in texts.worst_texts().items():
        began = time.perf_counter()
        mine = counter.count_here(_PROFILE, text)
        mine_s, began = time.perf_counter() - began, time.perf_counter()
        try:
            own: int | str = len(encoding.encode_ordinary(text))
        except BaseException as error:  # noqa: BLE001 - a Rust panic is no Exception
            own = type(error).__name__
        own_s = time.perf_counter() - began
        verdict = "equal" if mine == own else str(own) if isinstance(own, str) else f"{mine - own:+}"
        rows.append([name, f"{mine:,}", f"{mine_s * 1e3:,.0f}", longest_step(counter, text)])
        rows[-1] += [f"{own_s * 1e3:,.0f}", verdict]
    return rows


def longest_step(counter: TiktokenCounter, text: str) -> str:
    """Milliseconds that a thread is held at most, of three runs the least."""
    longest = []
    for _ in range(3):
        began = time.perf_counter()
        ticks = [began, *(time.perf_counter() for _ in counter._tokenizers[O200K].steps(text))]
        longest.append(max(later - earlier for earlier, later in pairwise(ticks)))
    return f"{min(longest) * 1e3:.1f}"


async def lag_rows(counter: TiktokenCounter, times: int) -> list[list[str]]:
    """How late the loop wakes beside requests of a million tokens."""
    book = (" ".join(prose()) * 10)[:HUGE_CHARS]
    part = HUGE_CHARS // 400

    def one(number: int) -> bytes:
        return texts.render([{"role": "user", "content": f"{number} {book}"}])

    def many(number: int) -> bytes:
        pieces = (book[start : start + part] for start in range(0, HUGE_CHARS, part))
        return texts.render([{"role": "user", "content": f"{number} {piece}"} for piece in pieces])

    rows = [["nothing", *await lags(asyncio.sleep(2.0)), "-"]]
    began = time.perf_counter()
    cells = await lags(count_texts(counter, [book], times))
    rows.append(["a text of a million tokens, not read from JSON", *cells, per_request_ms(began, times)])
    for name, make in (("one message of a million tokens", one), ("400 messages, a million tokens", many)):
        stage = new_stage(counter)
        requests = [await asyncio.to_thread(parse_metered, Endpoint.CHAT, make(number)) for number in range(times)]
        began = time.perf_counter()
        cells = await lags(count_all(stage, requests))
        rows.append([name, *cells, per_request_ms(began, times)])
    return rows


def per_request_ms(began_s: float, times: int) -> str:
    """Milliseconds of one."""
    return f"{(time.perf_counter() - began_s) / times * 1e3:,.0f}"


async def count_texts(counter: TiktokenCounter, parts: list[str], times: int) -> None:
    """The counter alone."""
    for _ in range(times):
        await counter.count(_PROFILE, parts)


async def count_all(stage: CountStage, requests: list[Any]) -> None:
    """One request after another; they were read before, since reading has a thread of its own in the gateway."""
    nobody = cast(Any, None)
    for request in requests:
        exchange = Exchange("bench", "POST", "", "", (), Endpoint.CHAT, nobody, nobody, 0.0)
        exchange.request = request
        await stage(exchange)


async def lags(work: Awaitable[object]) -> list[str]:
    """p50, p99 and maximum of how late a timer of one millisecond rings while that is done, in milliseconds."""
    late: list[float] = []

    async def ring() -> None:
        while True:
            due = time.perf_counter() + PERIOD_S
            await asyncio.sleep(PERIOD_S)
            late.append(time.perf_counter() - due)

    ringing = asyncio.create_task(ring())
    await work
    ringing.cancel()
    return [f"{percentile(late, share) * 1e3:.2f}" for share in (0.5, 0.99, 1.0)]


async def measure(peer: Peer | None, parts: list[str], times: int) -> None:
    """Print the tables."""
    counter = TiktokenCounter(tokens_per_word=1.3)
    counter.load(O200K)
    sys.setswitchinterval(0.0005)  # as the gateway has it
    if "chats" in parts:
        heads = [
            "messages",
            "bytes",
            "tokens",
            "| cold",
            "one new",
            "| of it reading",
            "digests",
            "| tiktoken",
            "litellm",
        ]
        encoding = load_encoding(O200K)
        rows = [await chat_row(counter, encoding, length, peer) for length in LENGTHS]
        print(render_table("microseconds to count one chat request", heads, rows))
    if "speed" in parts:
        print(render_table("megabytes a second", ["", "MB/s"], await speed_rows(counter)))
    if "worst" in parts:
        heads = ["1 MB of", "tokens", "ms", "longest step", "| tiktoken ms", "counts"]
        print(render_table("worst cases, one thread", heads, worst_rows(counter)))
    if "lag" in parts:
        heads = ["while counting", "p50", "p99", "max", "| ms a request"]
        print(render_table("how late the event loop wakes, ms", heads, await lag_rows(counter, times)))
    if "memory" in parts:
        print(render_table("memory", ["", "MB"], memory_rows()))
    counter.close()


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", metavar="PYTHON", help="the interpreter of an environment with litellm")
    parser.add_argument("--times", type=int, default=10, help="requests of a million tokens")
    parts = ["chats", "speed", "worst", "lag", "memory"]
    parser.add_argument("--only", choices=parts, action="append", help="a part of it; may be given again")
    chosen = parser.parse_args()
    peer = Peer(chosen.peers) if chosen.peers else None
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(measure(peer, chosen.only or parts, chosen.times))
    if peer:
        peer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
