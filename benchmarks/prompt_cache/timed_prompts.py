"""Our gateway's stages in this process, under the simulated clock: what it forwards where it may compact early.

A process of its own has a clock of its own, in which nobody can wait out every break. Counting and assembling are the
gateway's; nothing is sent, and every prompt counts as accepted. Briefs are extractive.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from benchmarks.prompt_cache.chats import Chat
from benchmarks.prompt_cache.gateway_prompts import Prompts, prompt_of
from benchmarks.prompt_cache.replay import Clock
from gateway.compose import make_budget_table, make_compaction, make_early_rule, make_route
from gateway.core.context.count_caches import CountCaches
from gateway.core.errors import Refusal
from gateway.core.tokens.profiles import O200K
from gateway.core.wire.request import Endpoint, parse_metered
from gateway.exchange import Client, Exchange
from gateway.fitting.fitter import ChatFitter
from gateway.settings import Settings
from gateway.shell.brief_maker import StoredBriefMaker
from gateway.shell.recaller import RememberingRecaller
from gateway.shell.state.calibrations import NoCalibrations
from gateway.shell.state.memory import MemoryBriefStore
from gateway.shell.state.sent_prompts import RememberedPrompts
from gateway.shell.tokens.counter import TiktokenCounter
from gateway.shell.tokens.digest import message_digests
from gateway.stages.assemble import AssembleStage
from gateway.stages.count import CountStage
from gateway.tasks import TaskGroup

MODEL = "gpt-4o"
_BYTES = 2**26


@dataclass
class _Now:
    """The simulated time."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def timed_prompts(chat: Chat, budget: int, completion: int, clock: Clock, options: dict[str, Any]) -> Prompts:
    """What would be forwarded for each request of a chat; None where the gateway refuses.

    Args:
        chat: a recorded one.
        budget: `max_total`.
        completion: of it, for the answer.
        clock: when the requests come.
        options: sections of a configuration, such as {"compaction": {"early": True}}.
    """
    upstream = {"name": "upstream", "base_url": "http://nowhere/v1", **options.get("upstream", {})}
    sections = {"compaction": options.get("compaction", {}), "prices": options.get("prices", {})}
    shares = {"max_total": budget, "completion": completion}
    settings = msgspec.convert({"upstreams": [upstream], "token_budget": shares, **sections}, Settings)
    return asyncio.run(_play(chat, clock, settings))


async def _play(chat: Chat, clock: Clock, settings: Settings) -> Prompts:
    counter, store, now = TiktokenCounter(1.3), MemoryBriefStore(_BYTES), _Now()
    counter.load(O200K)
    sent = RememberedPrompts(clock=now)
    maker = StoredBriefMaker(store, counter, None, 0.0, TaskGroup())
    recaller = RememberingRecaller(counter, message_digests, _BYTES)
    fitter = ChatFitter(store, maker, recaller, counter, 1.0, make_early_rule(settings, sent))
    count = CountStage(counter, CountCaches(_BYTES, message_digests), {})
    compaction = make_compaction(settings)
    assemble = AssembleStage(make_budget_table(settings.token_budget), compaction, fitter, NoCalibrations())
    route = make_route(settings.upstreams[0])
    prompts: list[Any] = []
    for number, end in enumerate(chat.requests):
        now.seconds += clock.gap_s(number)
        exchange = _exchange_of(chat.messages[:end], chat.tools)
        exchange.routes = [route]
        try:
            await count(exchange)
            await assemble(exchange)
        except Refusal:
            prompts.append(None)
            continue
        if exchange.sent_mark is not None:
            sent.put(route.name, exchange.sent_mark)
        assert exchange.request is not None
        prompts.append(prompt_of(json.loads(exchange.prompt or exchange.request.body), 0))
    counter.close()
    return prompts


def _exchange_of(messages: Sequence[Any], tools: Sequence[Any] | None) -> Exchange:
    body = json.dumps({"model": MODEL, "messages": list(messages), **({"tools": tools} if tools else {})}).encode()
    nobody: Any = None
    exchange = Exchange("timed", "POST", "", "", (), Endpoint.CHAT, nobody, nobody, 0.0)
    exchange.request = parse_metered(Endpoint.CHAT, body)
    exchange.client = Client("", b"")
    return exchange
