"""`count` and `compact`: what the gateway would do to a chat file, with no network and no summariser.

The same stages as in the running gateway, over a request that comes from a file.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from gateway.compose import make_budget_table, make_compaction, make_encodings, make_prior, make_route, make_templates
from gateway.core.context.brief import render_brief
from gateway.core.context.count_caches import CountCaches
from gateway.core.context.receipt import Receipt
from gateway.core.errors import Refusal
from gateway.core.tokens.frames import TOOLS_KEYS
from gateway.core.tokens.priors import EXACT, prior_of
from gateway.core.wire.headers import Headers
from gateway.core.wire.request import kind_of_body
from gateway.exchange import Count, Exchange
from gateway.explain import WatchedFitter, explain
from gateway.pipeline import Stage
from gateway.settings import Settings
from gateway.shell.brief_maker import StoredBriefMaker
from gateway.shell.recaller import RememberingRecaller
from gateway.shell.state.calibrations import StoredCalibrations
from gateway.shell.state.key_value import MemoryStateStore
from gateway.shell.state.memory import MemoryBriefStore
from gateway.shell.tokens.counter import TiktokenCounter
from gateway.shell.tokens.digest import message_digests
from gateway.stages.assemble import AssembleStage
from gateway.stages.count import CountStage
from gateway.stages.identify import IdentifyStage
from gateway.stages.route import RouteStage
from gateway.tasks import TaskGroup

_BAR_CHARS = 40
_CACHE_BYTES = 64 * 1024 * 1024


class FileInbound:
    """`exchange.Inbound` over bytes that are here already."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    @property
    def has_body(self) -> bool:
        return True

    async def read(self) -> bytes:
        return self._body

    async def stream(self) -> AsyncIterator[bytes]:
        yield self._body

    def decoded(self, *, holds: bool = False) -> AsyncIterator[bytes]:
        return self.stream()


class NoOutbound:
    """`exchange.Outbound` of a request that nobody waits for; the stages up to assemble never answer."""

    has_started = False
    is_open = True

    async def start(self, status: int, headers: Headers, length: int | None) -> None: ...

    async def write(self, chunk: bytes) -> None: ...

    async def end(self, chunk: bytes = b"") -> None: ...

    async def refuse(self, refusal: Refusal, headers: Headers) -> None: ...

    async def abort(self) -> None: ...


def count_file(path: Path, settings: Settings, model: str | None, *, as_json: bool) -> int:
    """Print a file's tokens by section; returns an exit code."""
    exchange = _read(path, model)
    if exchange is None:
        return 2
    counter = TiktokenCounter(settings.token_estimator.tokens_per_word)
    refusal = asyncio.run(_run(exchange, settings, counter, fitter=None))
    if refusal is not None or exchange.count is None or exchange.request is None:
        return _say_refusal(refusal)
    count, model = exchange.count, exchange.request.model
    if as_json:
        fields = {"model": model, "encoding": count.profile.encoding, "family": count.profile.family.value}
        messages = [{"role": fact.role, "tokens": fact.tokens} for fact in count.facts]
        tokens = {"total": count.prompt_tokens, "sections": dict(count.sections), "messages": messages}
        print(json.dumps({**fields, **tokens}))
        return 0
    counted = f", {len(count.facts)} messages" if count.facts else ""
    print(f"{model}, {count.profile.encoding}{counted}: {count.prompt_tokens} tokens")
    _print_sections(dict(count.sections), count.prompt_tokens)
    if (prior := prior_of(model)) != EXACT:
        tools = sum(count.sections.get(key, 0) for key in TOOLS_KEYS)
        bill = prior.bill(count.prompt_tokens, tools)
        print(f"  counted as {count.profile.family.value}; bills for models like this one suggest {bill}")
    return 0


def compact_file(
    path: Path, settings: Settings, model: str | None, *, as_json: bool, is_explained: bool = False
) -> int:
    """Print what compaction makes of a file; returns an exit code."""
    exchange = _read(path, model)
    if exchange is None:
        return 2
    counter = TiktokenCounter(settings.token_estimator.tokens_per_word)
    fitter = _fitter_of(settings, counter)
    refusal = asyncio.run(_run(exchange, settings, counter, fitter))
    receipt, count = exchange.receipt, exchange.count
    if refusal is not None or receipt is None or count is None or exchange.request is None:
        return _say_refusal(refusal)
    body = exchange.prompt if exchange.prompt is not None else exchange.request.body
    if as_json:
        sys.stdout.buffer.write(body + b"\n")
        return 0
    forwarded = json.loads(body)
    messages = forwarded.get("messages", forwarded.get("input"))
    _print_receipt(receipt, count, len(messages) if isinstance(messages, list) else 0)
    if is_explained and fitter.chat is not None and fitter.draft is not None:
        print("\n" + explain(fitter.chat, fitter.draft, receipt, shutil.get_terminal_size().columns))
        return 0
    _print_sections(dict(receipt.sections), receipt.prompt_tokens)
    if receipt.brief is not None:
        print("\nthe running brief:\n")
        print(render_brief(receipt.brief.segments))
    if is_explained:
        print("\nNothing is changed: every message is forwarded as it came.")
    return 0


def _read(path: Path, model: str | None) -> Exchange | None:
    """An exchange from a chat body, an object with messages, or a list of messages; None if the file is unusable."""
    try:
        body = path.read_bytes()
        tree = msgspec.json.decode(body)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        print(f"llm-gateway: {path}: {error}", file=sys.stderr)
        return None
    if isinstance(tree, list):
        tree = {"messages": tree}
    if not isinstance(tree, dict):
        print(f"llm-gateway: {path}: expected a JSON object or a list of messages", file=sys.stderr)
        return None
    tree["model"] = model or tree.get("model") or "gpt-4o"
    body = msgspec.json.encode(tree)
    endpoint = kind_of_body(body)
    inbound = FileInbound(body)
    return Exchange("offline", "POST", "", "", (), endpoint, inbound, NoOutbound(), time.perf_counter())


async def _run(
    exchange: Exchange, settings: Settings, counter: TiktokenCounter, fitter: WatchedFitter | None
) -> Refusal | None:
    encodings = make_encodings(settings.token_estimator)
    caches = CountCaches(_CACHE_BYTES, message_digests)
    identify = IdentifyStage(caches.prefixes)
    templates = make_templates(settings.token_estimator)
    count = CountStage(counter, caches, encodings, templates=templates)
    route = RouteStage([make_route(upstream) for upstream in settings.upstreams])
    budgets = make_budget_table(settings.token_budget)
    calibrations = StoredCalibrations(MemoryStateStore(settings.state.max_bytes), make_prior)
    stages: list[Stage] = [identify, count]
    if fitter is not None:
        assemble = AssembleStage(budgets, make_compaction(settings), fitter, calibrations)
        stages = [identify, route, count, assemble]
    try:
        for stage in stages:
            await stage(exchange)
    except Refusal as refusal:
        return refusal
    finally:
        counter.close()
    return None


def _fitter_of(settings: Settings, counter: TiktokenCounter) -> WatchedFitter:
    """A fitter that extracts its briefs and begins with none."""
    store = MemoryBriefStore(settings.state.max_bytes)
    maker = StoredBriefMaker(store, counter, None, 0.0, TaskGroup())
    recaller = RememberingRecaller(counter, message_digests, _CACHE_BYTES)
    return WatchedFitter(store, maker, recaller, counter, soft_ratio=1.0)


def _say_refusal(refusal: Refusal | None) -> int:
    message = refusal.message if refusal else "nothing to count"
    print(f"refused: {message}", file=sys.stderr)
    return 1


def _print_sections(sections: dict[str, int], total: int) -> None:
    width = max(map(len, sections), default=0)
    for name, tokens in sorted(sections.items(), key=lambda item: -item[1]):
        share = max(0.0, tokens / max(1, total))
        print(f"  {name:{width}}  {tokens:>9}  {share:>6.1%}  {'█' * round(_BAR_CHARS * share)}")


def _print_receipt(receipt: Receipt, count: Count, messages: int) -> None:
    limit = receipt.budget.prompt_limit_tokens(receipt.completion_tokens)
    print(f"before  {receipt.client_tokens:>9} tokens in {len(count.facts)} messages")
    print(f"after   {receipt.prompt_tokens:>9} tokens in {messages} messages; the prompt may take {limit}")
    print(f"level   {receipt.level.value:>9}   saved {receipt.saved_tokens}, folded {receipt.folded_messages} messages")
