"""Every fault of a misbehaving upstream, met by a real gateway and the real client library, as a table.

    python3 dev.py faults            # prints the matrix that stands in docs/faults.md

For each fault, streamed and not, with the faulty upstream alone and with a good one behind it: what the caller sees,
what the upstreams saw, the bill, and a verdict. Good is a complete answer, or an error of OpenAI's form, in time. Bad
is anything else: a truncated answer that looks whole, an exception that is not the library's own, a hang.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai

from tests.fakes.misbehaving import FAULTS, GIANT, TEXT, Misbehaving
from tests.gateway_process import GatewayProcess, config_for

HANG_S = 20.0
"""Far beyond the deadlines below: who is not back by then hangs."""
TIMES = {"connect_seconds": 2, "header_seconds": 2, "first_token_seconds": 2, "idle_seconds": 1.5, "total_seconds": 4}
NAMES = [*FAULTS, "TLS failure", "DNS failure"]
MESSAGES = [{"role": "user", "content": "Count to six."}]


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one request; `gaps_s` lie between the attempts at the faulty upstream."""

    fault: str
    is_stream: bool
    is_alone: bool
    seen: str
    is_good: bool
    attempts: tuple[int, int]
    gaps_s: tuple[float, ...]
    took_s: float
    bill: str

    def render(self) -> str:
        cells = [
            self.fault,
            "stream" if self.is_stream else "whole",
            "alone" if self.is_alone else "two",
            self.seen,
            "+".join(map(str, self.attempts)),
            " ".join(f"{gap:.1f}" for gap in self.gaps_s),
            f"{self.took_s:.1f}",
            self.bill,
            "good" if self.is_good else "BAD",
        ]
        return "| " + " | ".join(cells) + " |"


HEAD = (
    "| fault | asked | upstreams | the caller sees | attempts | gaps, s | took, s | bill | verdict |\n"
    + "|---" * 9 + "|"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bench:
    """A running gateway between the client and two upstreams."""

    gateway: GatewayProcess
    client: openai.AsyncOpenAI
    faulty: Misbehaving
    good: Misbehaving

    async def meet(self, fault: str, *, is_stream: bool, is_alone: bool) -> Row:
        """One request that meets a fault."""
        prefix = {"TLS failure": "tls", "DNS failure": "dns"}.get(fault, "raw")
        model = f"{prefix}-{'alone' if is_alone else 'two'}-{'stream' if is_stream else 'whole'}/{fault}"
        since, began_s = len(self.gateway.logs), time.monotonic()
        try:
            async with asyncio.timeout(HANG_S):
                seen, is_good = await self._ask(model, is_stream)
        except TimeoutError:
            seen, is_good = "HANG", False
        took_s = time.monotonic() - began_s
        log = await self.gateway.wait_log(20, since=since, logger="gateway.access", model=model)
        times = self.faulty.asked.get(model, [])
        return Row(
            fault,
            is_stream,
            is_alone,
            seen,
            is_good,
            (len(times), len(self.good.asked.get(model, []))),
            tuple(b - a for a, b in itertools.pairwise(times)),
            took_s,
            bill_of(log),
        )

    async def _ask(self, model: str, is_stream: bool) -> tuple[str, bool]:
        """What the caller sees, and whether that is honest."""
        text, finish = "", None
        try:
            asking: Any = self.client.chat.completions.create
            answer = await asking(model=model, messages=MESSAGES, stream=is_stream)
            if is_stream:
                async for chunk in answer:
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
                        finish = choice.finish_reason or finish
            else:
                text, finish = answer.choices[0].message.content, answer.choices[0].finish_reason
        except openai.APIError as error:
            status = getattr(error, "status_code", "in-band" if text else "-")
            return f"{type(error).__name__} {status} {error.code or ''}".strip(), True
        except Exception as error:  # noqa: BLE001 - what the caller must never see is what is looked for
            return f"{type(error).__name__}: {str(error)[:40]}", False
        is_whole = text in (TEXT, GIANT) and finish is not None
        return (f"complete, {finish}" if is_whole else f"TRUNCATED {text[:30]!r}, {finish}"), is_whole


def bill_of(log: dict[str, Any]) -> str:
    if "billed_prompt_tokens" not in log:
        return "none"
    mark = " est." if log.get("is_estimated") else ""
    return f"{log['billed_prompt_tokens']}/{log.get('billed_completion_tokens', 0)}{mark}"


@asynccontextmanager
async def running_bench() -> AsyncIterator[Bench]:
    async with Misbehaving() as faulty, Misbehaving(is_good=True) as good:
        urls = {
            "raw": faulty.base_url,
            "tls": faulty.base_url.replace("http:", "https:"),
            "dns": "http://no-such-host.invalid/v1",
        }
        config = config_for()
        config["upstreams"] = [
            {"name": f"faulty-{kind}", "base_url": url, "models": [f"{kind}-*"], "priority": 0, "timeouts": TIMES}
            for kind, url in urls.items()
        ]
        behind = {"name": "good", "base_url": good.base_url, "models": ["*-two-*"], "priority": 1, "timeouts": TIMES}
        config["upstreams"].append(behind)
        async with (
            GatewayProcess(config) as gateway,
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key="sk-any", max_retries=0) as client,
        ):
            yield Bench(gateway, client, faulty, good)


async def measure_all(bench: Bench) -> list[Row]:
    """All cases, a few at a time."""
    places = asyncio.Semaphore(12)

    async def one(fault: str, is_stream: bool, is_alone: bool) -> Row:
        async with places:
            return await bench.meet(fault, is_stream=is_stream, is_alone=is_alone)

    cases = [
        (fault, is_stream, is_alone) for fault in NAMES for is_stream in (False, True) for is_alone in (True, False)
    ]
    return list(await asyncio.gather(*(one(*case) for case in cases)))


async def _main() -> int:
    async with running_bench() as bench:
        rows = await measure_all(bench)
    print(HEAD)
    for row in rows:
        print(row.render())
    bad = sum(not row.is_good for row in rows)
    print(f"\n{len(rows) - bad} of {len(rows)} good")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
