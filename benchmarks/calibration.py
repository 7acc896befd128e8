"""How fast does calibration find an unknown tokenizer, and what is its margin worth? `python -m benchmarks.calibration`

Sequences of requests go to providers whose tokenizers differ from ours (`strange_tokenizers`), and the recorded
requests of ../shared/data/usage_dev.jsonl are replayed in the order in which they were answered. Each request is
estimated with the correction in force before its own report is learned. Printed are median errors by how many answers
came before, and how many reports stayed below estimate + margin.

Recorded requests are of many projects, a few each, and of many models: harder than one application's traffic.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.report import render_table
from benchmarks.strange_tokenizers import DATA, growing, interleaved, providers, samples_of, short
from gateway.core.context.count_caches import CountCaches
from gateway.core.errors import Refusal
from gateway.core.tokens.calibration import EXACT, Calibration, learn, new_calibration
from gateway.core.tokens.robust_fit import Sample
from gateway.core.wire.request import Endpoint, parse_metered
from gateway.exchange import Exchange
from gateway.offline import FileInbound, NoOutbound
from gateway.shell.tokens.counter import TiktokenCounter
from gateway.shell.tokens.digest import message_digests
from gateway.stages.count import CountStage

SPANS = ((0, 10), (10, 25), (25, 50), (50, 100), (100, 200))
REQUESTS = 200
KINDS = ("prose", "agents", "mixed")
SETTLED_AFTER = 50
_ENDPOINTS = {
    "chat/completions": Endpoint.CHAT,
    "responses": Endpoint.RESPONSES,
    "messages": Endpoint.CHAT,
    "embeddings": Endpoint.EMBEDDINGS,
    "completions": Endpoint.COMPLETIONS,
}


@dataclass
class Seen:
    """Errors of one sequence: relative, before and after correction, and whether the margin held."""

    raw: list[float] = field(default_factory=list)
    corrected: list[float] = field(default_factory=list)
    is_covered: list[bool] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    changes: int = 0

    def add(self, state: Calibration, sample: Sample) -> Calibration:
        """Judge the correction in force, then learn."""
        raw, has_tools, reported, _ = sample
        estimate, margin = state.applied.estimate(raw, has_tools), state.applied.margin(raw, has_tools)
        self.raw.append(abs(raw - reported) / reported)
        self.corrected.append(abs(estimate - reported) / reported)
        self.is_covered.append(reported <= estimate + margin)
        self.margins.append(margin / max(estimate, 1))
        after, _ = learn(state, sample)
        self.changes += after.applied != state.applied
        return after


def replay(samples: Iterable[Sample]) -> Seen:
    """One (upstream, model) from its first answer on."""
    seen, state = Seen(), new_calibration(EXACT)
    for sample in samples:
        state = seen.add(state, sample)
    return seen


def show_strange(seeds: int) -> None:
    """Providers built on the spot."""
    rows = []
    for provider in providers():
        for name, sequence in (("growing", growing), ("interleaved", interleaved), ("short", short)):
            for kind in KINDS:
                rngs = map(random.Random, range(seeds))
                runs = [replay(samples_of(provider, sequence(REQUESTS, rng, kind))) for rng in rngs]
                rows.append([provider.name, kind, name, *_figures(runs)])
    heads = [
        "provider",
        "texts",
        "requests",
        "uncorrected",
        *(f"{a + 1}-{b}" for a, b in SPANS),
        "covered",
        "margin",
        "changes",
    ]
    print(
        render_table(
            f"median error by number of answers before; {seeds} sequences of {REQUESTS}; covered after {SETTLED_AFTER}",
            heads,
            rows,
        )
    )


def _figures(runs: list[Seen]) -> list[str]:
    spans = [[error for run in runs for error in run.corrected[a:b]] for a, b in SPANS]
    late = [is_covered for run in runs for is_covered in run.is_covered[SETTLED_AFTER:]]
    return [
        _percent(statistics.median(error for run in runs for error in run.raw)),
        *(_percent(statistics.median(span)) for span in spans),
        _percent(sum(late) / len(late)),
        _percent(statistics.median(margin for run in runs for margin in run.margins[SETTLED_AFTER:])),
        f"{statistics.mean(run.changes for run in runs):.1f}",
    ]


def show_recorded() -> None:
    """Real requests with the usage that came back, by provider, in order of time."""
    by_key = asyncio.run(_recorded())
    by_provider: dict[str, list[tuple[int, Seen]]] = defaultdict(list)
    for (provider, _), samples in by_key.items():
        by_provider[provider].append((len(samples), replay(samples)))
    rows = []
    for provider, runs in sorted(by_provider.items(), key=lambda item: -sum(count for count, _ in item[1])):
        seens = [seen for _, seen in runs]
        later = [seen.corrected[4:] for seen in seens], [seen.raw[4:] for seen in seens]
        after, before = ([error for errors in lists for error in errors] for lists in later)
        covered = [held for seen in seens for held in seen.is_covered[16:]]
        rows.append(
            [
                provider,
                str(len(runs)),
                str(sum(count for count, _ in runs)),
                _percent(statistics.median(error for seen in seens for error in seen.raw)),
                _percent(statistics.median(error for seen in seens for error in seen.corrected)),
                f"{len(after)}",
                _percent(statistics.median(before)) if before else "-",
                _percent(statistics.median(after)) if after else "-",
                _percent(statistics.mean(before)) if before else "-",
                _percent(statistics.mean(after)) if after else "-",
                f"{_percent(sum(covered) / len(covered))} of {len(covered)}" if covered else "-",
            ]
        )
    heads = ["provider", "models", "requests", "median before", "after", "n > 4", "median before", "after"]
    heads += ["mean before", "after", "covered, n > 16"]
    print(render_table("recorded requests; n > 4: those with four answers of the same model before them", heads, rows))


async def _recorded() -> dict[tuple[str, str], list[Sample]]:
    counter = TiktokenCounter(1.3)
    stage = CountStage(counter, CountCaches(2**26, message_digests), {})
    found: dict[tuple[str, str], list[tuple[float, Sample]]] = defaultdict(list)
    with (DATA / "usage_dev.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record.get("opaque") or record["endpoint"] not in _ENDPOINTS:
                continue
            sample = await _sample_of(record, stage)
            if sample is not None:
                key = record["provider"], record["request"].get("model") or record["model"]
                found[key].append((record["created"] or 0, sample))
    counter.close()
    return {key: [sample for _, sample in sorted(timed, key=lambda one: one[0])] for key, timed in found.items()}


async def _sample_of(record: dict[str, Any], stage: CountStage) -> Sample | None:
    body = dict(record["request"])
    body.setdefault("model", record["model"] or "unknown")
    if record["endpoint"] == "messages" and isinstance(body.get("system"), str | list):
        body["messages"] = [{"role": "system", "content": body.pop("system")}, *body["messages"]]
    usage = record["usage"]
    reported = usage.get("prompt_tokens") or usage.get("input_tokens") or 0
    reported += (usage.get("cache_read_input_tokens") or 0) + (usage.get("cache_creation_input_tokens") or 0)
    raw = json.dumps(body).encode()
    endpoint = _ENDPOINTS[record["endpoint"]]
    exchange = Exchange("r", "POST", "", "", (), endpoint, FileInbound(raw), NoOutbound(), time.perf_counter())
    try:
        exchange.request = parse_metered(endpoint, raw)
        await stage(exchange)
    except Refusal:
        return None
    if exchange.count is None or reported <= 0:
        return None
    return Sample(exchange.count.prompt_tokens, "tools" in exchange.request.sections, reported)


def show_cost() -> None:
    """What one report costs."""
    rng, state = random.Random(1), new_calibration(EXACT)
    samples = [Sample(raw, False, round(raw * 1.2 + 40)) for raw in (rng.randint(20, 8000) for _ in range(2000))]
    took = []
    for sample in samples:
        began = time.perf_counter()
        state, _ = learn(state, sample)
        took.append(time.perf_counter() - began)
    took.sort()
    print(
        f"learn: mean {statistics.mean(took) * 1e6:.0f} us, p50 {took[1000] * 1e6:.1f} us, max {took[-1] * 1e6:.0f} us"
    )


def _percent(share: float) -> str:
    return f"{share * 100:.1f}%" if share >= 0.0005 or share == 0 else f"{share * 100:.2f}%"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="sequences of each kind")
    chosen = parser.parse_args()
    shows: list[Callable[[], None]] = [lambda: show_strange(chosen.seeds), show_cost]
    if (DATA / "usage_dev.jsonl").is_file():
        shows.append(show_recorded)
    for show in shows:
        show()
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
