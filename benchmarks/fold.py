"""What an extractive brief of 30,000 folded tokens costs, part by part: what a request without a summariser waits for.

    python3 dev.py bench-fold [--rounds 5]

Spans of about 120,000 characters are cut from the recorded conversations and traces, and each is folded whole, with
tokens guessed by length. Printed: milliseconds, the median of all spans, each the best of so many rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.retention.cases import load
from benchmarks.retention.words import text_of
from gateway.core.context.brief import FoldJob
from gateway.core.context.extractive import Turn, extract_brief
from gateway.core.context.fold import fold_extractive, frame_brief
from gateway.core.context.ledger import quote_rules
from gateway.core.context.secrets import mask_secrets
from gateway.core.context.values import hard_values

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = ("conversations_dev.jsonl.gz", "traces_dev.jsonl.gz")
SPAN_CHARS = 120_000
BRIEF_TOKENS = 1200


def count(text: str) -> int:
    """About one token for four characters."""
    return len(text) // 4 + 1


def turns_of(record: dict[str, Any]) -> list[Turn]:
    """A recorded chat without its system message."""
    told = [message for message in record["messages"] if message["role"] not in ("system", "developer")]
    return [Turn(number, message["role"], text_of(message)) for number, message in enumerate(told, 1)]


def spans_of(turns: Sequence[Turn]) -> Iterator[list[Turn]]:
    """Consecutive turns of that many characters; what is left at the end is too short to count."""
    span: list[Turn] = []
    chars = 0
    for turn in turns:
        span.append(turn)
        chars += len(turn.text)
        if chars >= SPAN_CHARS:
            yield span
            span, chars = [], 0


def fold(span: list[Turn]) -> object:
    """The whole brief."""
    job = FoldJob(span[-1].number, (), None, tuple(span), BRIEF_TOKENS)
    return fold_extractive(job, frame_brief(job, count, count), count, count)


PARTS: dict[str, Callable[[list[Turn]], object]] = {
    "mask secrets": lambda span: [mask_secrets(turn.text) for turn in span],
    "quote rules": lambda span: [quote_rules(turn.number, turn.text) for turn in span if turn.role == "user"],
    "hard values": hard_values,
    "rank sentences": lambda span: extract_brief("", span, BRIEF_TOKENS // 2, count),
    "the whole brief": fold,
}


def best_ms(work: Callable[[list[Turn]], object], span: list[Turn], rounds: int) -> float:
    """Milliseconds of the quickest round."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work(span)
        taken.append(time.perf_counter() - began)
    return min(taken) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name in FILES:
        path = DATA / name
        if not path.is_file():
            print(f"no recorded data here: ../shared/data/{name}")
            continue
        spans = [span for record in load([str(path)]) for span in spans_of(turns_of(record))]
        print(f"\n{name}: {len(spans)} spans of {SPAN_CHARS:,} characters, ms")
        for part, work in PARTS.items():
            taken = [best_ms(work, span, options.rounds) for span in spans]
            print(f"  {part:16} median {statistics.median(taken):6.1f}   worst {max(taken):6.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
