"""What the assemble stage takes of a long chat, in milliseconds: one that fits, and one that has its brief ready.

    python3 dev.py bench-assemble [--messages 400]

The recorded conversations (people who talk) and traces (agents that work; several in a row, where one is too short) are
replayed message by message, with the real tokenizer and what is recalled. Timed are the requests with about so many
messages. `fits`: the budget is larger than the chat. `user`: older messages are folded, a user's message waits for its
answer, and what it needs of them is recalled for it. `step`: folded, in the middle of an agent's work. `ready`: all of
these. `compacts`: those at which more is folded, without a summariser. `plan`: the planning alone of such a one, a
thousand messages long.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.retention.cases import load
from gateway.core.context.facts import learn_facts
from gateway.core.context.plan import FoldLimits, plan_fold
from gateway.core.context.units import outline_of
from gateway.core.tokens.weight import Weight
from gateway.shell.tokens.counter import TiktokenCounter
from tests.histories import World, body_of, budget_of, exchange_of

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = ("conversations_dev.jsonl.gz", "traces_dev.jsonl.gz")
MAX_BYTES = 64 * 1024 * 1024
"""As configured by default."""
AROUND = 40
"""Prefixes from so much below to so much above the number of messages are timed."""
SMALL = budget_of(8000, completion=1000, brief=1200, recent=2500, retrieved=1875)
LARGE = budget_of(1_000_000, completion=1000)
PLANNED = 1_000
Messages = list[dict[str, Any]]


def chats(path: Path, messages: int, only: str) -> Iterator[Messages]:
    """Chats of at least so many messages, under the system message of the first of those that make one up."""
    chat: Messages = []
    for record in load([str(path)]):
        if not re.search(only, record["id"]):
            continue
        told = [each for each in record["messages"] if each["role"] not in ("system", "developer")]
        chat += told if chat else [*record["messages"]]
        if len(chat) >= messages:
            yield chat
            chat = []


async def replay(chat: Messages, world: World, messages: int) -> list[tuple[str, float]]:
    """What each request was, and how long assembling took."""
    count, assemble = world.stages
    timed = []
    for size in range(1, min(len(chat), messages + AROUND) + 1):
        if chat[size - 1]["role"] == "assistant":
            continue
        body = body_of(chat[:size])
        exchange = exchange_of(body, b"someone", world.roles, count.caches.prefixes)
        await count(exchange)
        began_s = time.perf_counter()
        await assemble(exchange)
        taken_ms = (time.perf_counter() - began_s) * 1000
        receipt = exchange.receipt
        if size >= messages - AROUND and receipt is not None:
            kind = "user" if chat[size - 1]["role"] == "user" else "step"
            kind = "compacts" if receipt.is_fresh else kind if receipt.brief else "fits"
            timed.append((kind, taken_ms))
    return timed


def planning_ms(chat: Messages) -> float:
    """A fresh plan for a thousand messages of the length that this chat has."""
    many = (chat * (PLANNED // len(chat) + 1))[:PLANNED]
    facts = [learn_facts(message, Weight((), 0), len(str(message)) // 4) for message in many]
    limits = FoldLimits(7000, 1200, 2500, 1200, 0.5, 1875)
    taken = []
    for _ in range(5):
        began_s = time.perf_counter()
        plan_fold(outline_of(facts), 0, limits, 0)
        taken.append(time.perf_counter() - began_s)
    return min(taken) * 1000


def show(name: str, taken: Sequence[float]) -> None:
    """One line."""
    if taken:
        tenth = statistics.quantiles(taken, n=10)[-1] if len(taken) > 1 else taken[0]
        print(f"  {name:9} {len(taken):5} requests   median {statistics.median(taken):7.2f}   90th {tenth:7.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=400)
    parser.add_argument("--only", default="", help="regex on record ids")
    options = parser.parse_args()
    counter = TiktokenCounter(1.4)
    for name in FILES:
        path = DATA / name
        if not path.is_file():
            print(f"no recorded data here: ../shared/data/{name}")
            continue
        taken: dict[str, list[float]] = {}
        for chat in chats(path, options.messages, options.only):
            for budget in (LARGE, SMALL):
                world = World(budget, max_bytes=MAX_BYTES).use(counter)
                for kind, one_ms in asyncio.run(replay(chat, world, options.messages)):
                    taken.setdefault(kind, []).append(one_ms)
            taken.setdefault("plan", []).append(planning_ms(chat))
        print(f"\n{name}: chats of about {options.messages} messages, ms")
        show("ready", [one_ms for kind in ("fits", "user", "step") for one_ms in taken.get(kind, ())])
        for kind in ("fits", "user", "step", "compacts", "plan"):
            show(kind, taken.get(kind, ()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
