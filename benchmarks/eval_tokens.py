"""How exactly prompts are counted, on recorded requests with the usage that the provider billed.

    python3 dev.py eval-tokens [--data FILE] [--today] [--json FILE] [--misses N]

Prints, by feature and by provider, the share of requests that are counted exactly and the mean and largest error, for
the gateway (its own code path: parse, count stage, real tokenizer), for the recipe that OpenAI publishes, and for
litellm.token_counter. A request belongs to every feature that it has. "all" leaves out what no reader of the body can
know: hosted tools, server-side state, sound, files, pictures by URL; these have rows of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.eval_tokens_records import (
    DATA,
    Judge,
    Record,
    billed_tokens,
    has_remote_image,
    is_scored,
    read_records,
    with_prior,
)
from benchmarks.eval_tokens_rivals import as_chat, by_litellm, by_recipe
from gateway.core.tokens.profiles import profile_of

_CHAT, _RESPONSES = ("chat/completions",), ("responses", "count_tokens")
_TOOLS = {"tools", "functions"}
_HISTORY = {"tool_call_history", "tool_result"}
_SPECIAL = _TOOLS | _HISTORY | {"json_schema", "image"}


@dataclass(frozen=True, slots=True)
class Judged:
    """A record with what each counter says; None where it gave no answer."""

    record: Record
    billed: int
    gateway: int | None
    with_prior: int | None
    recipe: int | None
    litellm: int | None

    @property
    def features(self) -> set[str]:
        return set(self.record["features"])


@dataclass(frozen=True, slots=True)
class Score:
    """How well one counter did on one class; shares and errors in per cent."""

    records: int
    exact: float
    mean: float
    worst: float


def _row(endpoints: Sequence[str], test: Callable[[Judged], bool]) -> Callable[[Judged], bool]:
    return lambda judged: judged.record["endpoint"] in endpoints and is_scored(judged.record) and test(judged)


def _any_of(*features: str) -> Callable[[Judged], bool]:
    return lambda judged: bool(judged.features & set(features))


CLASSES: dict[str, Callable[[Judged], bool]] = {
    "chat: all": _row(_CHAT, lambda _: True),
    "  text only": _row(_CHAT, lambda judged: not judged.features & _SPECIAL),
    "  plain": _row(_CHAT, lambda judged: "plain" in judged.features),
    "  multi-turn": _row(_CHAT, lambda judged: "multi_turn" in judged.features and not judged.features & _SPECIAL),
    "  name": _row(_CHAT, _any_of("name")),
    "  tools": _row(_CHAT, lambda judged: bool(judged.features & _TOOLS) and not judged.features & _HISTORY),
    "  tool results": _row(_CHAT, _any_of(*_HISTORY)),
    "  json_schema": _row(_CHAT, _any_of("json_schema")),
    "  image": _row(_CHAT, _any_of("image")),
    "  reasoning": _row(_CHAT, _any_of("reasoning")),
    "responses: all": _row(_RESPONSES, lambda _: True),
    "  text only ": _row(_RESPONSES, lambda judged: not judged.features & _SPECIAL),
    "  tools ": _row(_RESPONSES, lambda judged: bool(judged.features & _TOOLS) and not judged.features & _HISTORY),
    "  tool results ": _row(_RESPONSES, _any_of(*_HISTORY)),
    "  json_schema ": _row(_RESPONSES, _any_of("json_schema")),
    "  image ": _row(_RESPONSES, _any_of("image")),
    "embeddings": _row(("embeddings",), lambda _: True),
    "completions": _row(("completions",), lambda _: True),
    "audio": lambda judged: "audio" in judged.features,
    "file": lambda judged: "file" in judged.features,
    "image by URL": lambda judged: has_remote_image(judged.record) and not judged.record.get("opaque"),
    "hosted tools": lambda judged: "builtin_tools" in judged.features,
    "reasoning sent back": lambda judged: "reasoning_items" in judged.features,
}


def score(judged: Sequence[Judged], counter: str) -> Score:
    """The score of one counter; no answer is wholly wrong."""
    errors = [
        1.0 if (found := getattr(one, counter)) is None else abs(found - one.billed) / one.billed for one in judged
    ]
    exact = sum(getattr(one, counter) == one.billed for one in judged)
    total = max(1, len(judged))
    return Score(len(judged), 100 * exact / total, 100 * sum(errors) / total, 100 * max(errors, default=0.0))


async def judge_all(records: Iterable[Record], judge: Judge, peers: Path | None) -> tuple[list[Judged], str]:
    """Every record by every counter, and litellm's version; "" where it is not asked."""
    kept = list(records)
    chats = [as_chat(record) for record in kept]
    version, answers = by_litellm(peers, chats) if peers else ("", [None] * len(kept))
    judged = []
    for record, chat, answer in zip(kept, chats, answers, strict=True):
        count = await judge.count(record)
        plain = partial(judge.counter.count_here, profile_of(chat["model"], {}))
        found = (count.prompt_tokens, with_prior(count, chat["model"])) if count else (None, None)
        judged.append(Judged(record, billed_tokens(record), *found, by_recipe(chat, plain), answer))
    return judged, version


def print_table(title: str, rows: dict[str, Sequence[Judged]], counters: dict[str, str]) -> dict[str, dict[str, Score]]:
    """One line a class: records, then share exact, mean and worst error of each counter."""
    print(f"\n{title:22} {'n':>5}" + "".join(f"   {name:^26}" for name in counters))
    print(" " * 28 + "".join(f"   {'exact':>7} {'mean':>8} {'worst':>9}" for _ in counters))
    scores: dict[str, dict[str, Score]] = {}
    for name, judged in rows.items():
        if not judged:
            continue
        scores[name] = {label: score(judged, counter) for label, counter in counters.items()}
        cells = (f"   {each.exact:6.1f}% {each.mean:7.2f}% {each.worst:8.1f}%" for each in scores[name].values())
        print(f"{name:22} {len(judged):>5}" + "".join(cells))
    return scores


def print_misses(judged: Sequence[Judged], most: int) -> None:
    """OpenAI's scored records that are not exact, the largest share first."""
    missed = [one for one in judged if is_scored(one.record) and one.gateway not in (None, one.billed)]
    missed.sort(key=lambda one: -abs((one.gateway or 0) - one.billed) / one.billed)
    print(f"\n{len(missed)} not exact; the worst:")
    for one in missed[:most]:
        record = one.record
        print(f"  {one.gateway:>7} for {one.billed:>7}  {record['endpoint']:16} {record['model']:28} {record['id']}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py eval-tokens", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="records, JSON lines")
    parser.add_argument("--today", action="store_true", help="bill all by today's prices, not by those of their day")
    parser.add_argument("--peers", type=Path, help="the Python that has litellm")
    parser.add_argument("--json", type=Path, help="write the scores there")
    parser.add_argument("--misses", type=int, default=0, metavar="N", help="show the N worst of OpenAI's")
    parser.add_argument("--check", action="store_true", help="only say whether the records are there")
    options = parser.parse_args()
    if not options.data.is_file():
        print(f"eval-tokens: no records at {options.data}; name a file with --data.", file=sys.stderr)
        return 2
    if options.check:
        return 0
    judge = Judge(by_day=not options.today)
    try:
        judged, version = asyncio.run(judge_all(read_records(options.data), judge, options.peers))
    except (RuntimeError, OSError) as error:
        print(f"eval-tokens: litellm could not be asked: {error}", file=sys.stderr)
        return 1
    finally:
        judge.close()
    print(f"tiktoken {importlib.metadata.version('tiktoken')}, litellm {version or 'not asked'}, {options.data.name}")
    openai = [one for one in judged if one.record["provider"] == "openai"]
    peer = {"litellm": "litellm"} if version else {}
    counters = {"gateway": "gateway", "published recipe": "recipe", **peer}
    rows = {name: [one for one in openai if test(one)] for name, test in CLASSES.items()}
    scores = print_table("OpenAI", rows, counters)
    others: dict[str, list[Judged]] = {}
    for one in judged:
        if is_scored(one.record):
            others.setdefault(one.record["provider"], []).append(one)
    by_size = dict(sorted(others.items(), key=lambda row: -len(row[1])))
    scores |= print_table("by provider", by_size, {"gateway": "gateway", "with prior": "with_prior", **peer})
    if options.misses:
        print_misses(openai, options.misses)
    if options.json:
        tree = {row: {name: asdict(each) for name, each in cells.items()} for row, cells in scores.items()}
        options.json.write_text(json.dumps({"litellm": version, "scores": tree}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
