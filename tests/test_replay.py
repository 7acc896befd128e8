"""Recorded conversations and agent traces, replayed as growing chats through count and assemble.

Each prefix that waits for an answer is sent as the client would send it, with the real tokenizer and no summariser.
Of long chats only some prefixes are sent: `every` names the step.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.core.context.brief import Level
from gateway.shell.tokens.counter import TiktokenCounter
from tests.histories import (
    PROFILE,
    Message,
    Sent,
    World,
    budget_of,
    cost_of,
    is_valid,
    least_tokens,
    newest_start,
    recount,
)
from tests.shared_data import shared_data

COUNTER = TiktokenCounter(1.3)
BUDGET = budget_of(8000, completion=1000, brief=1200, recent=450, retrieved=3750)
LIMIT = 7000
known: dict[str, int] = {}


def count(text: str) -> int:
    """The real tokenizer, each text once: histories repeat themselves."""
    if text not in known:
        known[text] = COUNTER.count_here(PROFILE, text)
    return known[text]


@dataclass
class Tally:
    """What happened to the requests of one file."""

    requests: int = 0
    overflows: int = 0
    folds: int = 0
    trimmed: int = 0
    refused: int = 0
    client_tokens: int = 0
    forwarded_tokens: int = 0
    largest: int = 0
    grown: int = 0
    seconds: float = 0.0
    chats: set[str] = field(default_factory=set)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, sent: Sent) -> None:
        self.chats.add(name)
        self.requests += 1
        self.overflows += sent.receipt.has_overflowed
        self.folds += sent.receipt.is_new_brief
        self.trimmed += sent.receipt.level is Level.TRIMMED
        if sent.refusal is not None:
            self.refused += 1
            self.reasons[reason_of(sent)] += 1
        self.client_tokens += sent.receipt.client_tokens
        if sent.refusal is None:
            self.forwarded_tokens += sent.receipt.prompt_tokens
            self.largest = max(self.largest, sent.receipt.prompt_tokens)

    def __str__(self) -> str:
        saved = 1 - self.forwarded_tokens / max(1, self.client_tokens)
        return (
            f"{len(self.chats)} chats, {self.requests} requests, {self.overflows} overflowed, {self.folds} new briefs,"
            f" {self.grown} only grew,"
            f" {self.trimmed} trimmed, {self.refused} refused {dict(self.reasons) or ''};"
            f" mean {self.client_tokens // self.requests} tokens sent, {self.forwarded_tokens // self.requests}"
            f" forwarded (largest {self.largest}), {saved:.0%} saved;"
            f" {self.seconds / self.requests * 1e3:.1f} ms a request in both stages"
        )


def reason_of(sent: Sent) -> str:
    """Which of the messages that cannot be folded is the largest once results are cut."""
    start = newest_start(sent.messages)
    last_user = max(index for index, message in enumerate(sent.messages) if message["role"] == "user")
    pinned = {index for index, message in enumerate(sent.messages) if message["role"] == "system" or index >= start}
    largest = max(pinned | {last_user}, key=lambda index: cost_of(sent.messages[index], count))
    return "the newest tool call" if sent.messages[largest].get("tool_calls") else sent.messages[largest]["role"]


def records(path: Path, prefix: str) -> Iterator[tuple[str, list[Message]]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record["id"].startswith(prefix):
                yield record["id"], record["messages"]


def prefixes(messages: Sequence[Message], every: int) -> Iterator[int]:
    """Ends of the prefixes that wait for an answer, and always the last one."""
    ends = [
        end
        for end in range(1, len(messages) + 1)
        if messages[end - 1]["role"] in ("user", "tool")
        and (end == len(messages) or messages[end]["role"] not in ("tool",))
    ]
    yield from sorted({*ends[::every], *ends[-1:]})


async def replay(name: str, messages: Sequence[Message], every: int, tally: Tally) -> None:
    """One chat as its client lives through it."""
    world = World(BUDGET).use(COUNTER)
    before: Sent | None = None
    raws = [json.dumps(message, ensure_ascii=False).encode() for message in messages]
    for end in prefixes(messages, every):
        body = b'{"model": "gpt-4o", "messages": [' + b", ".join(raws[:end]) + b'], "temperature": 0.5}'
        started = time.perf_counter()
        sent = await world.send_body(body, messages[:end])
        tally.seconds += time.perf_counter() - started
        tally.add(name, sent)
        judge(sent, raws[:end])
        if before is not None and is_between_compactions(before, sent):
            lasting = before.raws[: lasting_messages(before, sent)]
            assert sent.raws[: len(lasting)] == lasting
            tally.grown += 1
        before = sent


def is_between_compactions(before: Sent, sent: Sent) -> bool:
    """Whether the provider's cache should find all of the prompt before: nothing was decided anew."""
    return not (sent.receipt.is_fresh or before.refusal or sent.refusal)


def lasting_messages(before: Sent, sent: Sent) -> int:
    """How many of its messages the next request begins with: all, or up to what was recalled for another question."""
    asks_anew = any(message["role"] == "user" for message in sent.messages[len(before.messages) :])
    recalled = [place for place, raw in enumerate(before.raws) if b"<recalled>" in raw]
    return recalled[-1] if asks_anew and recalled and before.receipt.recalled else len(before.raws)


def judge(sent: Sent, raws: Sequence[bytes]) -> None:
    """Within the budget, pairs whole, the last user message verbatim; or refused because nothing else was possible."""
    if sent.refusal is not None:
        assert least_tokens(sent.messages, count) > LIMIT
        return
    forwarded = sent.raws
    last_user = [raw for raw, message in zip(raws, sent.messages, strict=True) if message["role"] == "user"][-1:]
    system = [raw for raw, message in zip(raws, sent.messages, strict=True) if message["role"] == "system"]

    assert recount(sent.forwarded, count) == sent.receipt.prompt_tokens <= LIMIT
    assert sent.receipt.prompt_tokens <= sent.receipt.client_tokens
    assert not is_valid(sent.messages) or is_valid(sent.shown)
    assert last_user[0] in forwarded
    assert forwarded[: len(system)] == system
    assert forwarded[-1] == raws[-1] or sent.receipt.level is Level.TRIMMED


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "prefix", "every"),
    [
        ("traces_dev", "tau-bench", 1),
        ("traces_dev", "swe-agent", 1),
        ("traces_dev", "mini-swe-agent", 1),
        ("conversations_dev", "locomo", 1),
        ("conversations_dev", "beam-100k", 3),
        ("chats_dev", "specstory", 2),
        ("chats_dev", "memorybank", 1),
    ],
)
def test_recorded_chats_fit_and_stay_whole(name: str, prefix: str, every: int) -> None:
    """No request over budget, no broken pair, last user message verbatim, none refused that could be made to fit.

    Between compactions each prompt begins with the whole prompt before it, up to what was recalled for a question.
    """
    tally = Tally()

    async def replay_all() -> None:
        for chat, messages in records(shared_data(f"{name}.jsonl.gz"), prefix):
            await replay(chat, messages, every, tally)

    asyncio.run(replay_all())
    print(f"\n{prefix}, every {every}: {tally}")

    assert tally.requests > 10
    assert prefix != "memorybank" or tally.overflows == 0
