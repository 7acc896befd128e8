"""How close is a bill without usage? `python -m benchmarks.completions`

Recorded answers of ../shared/data/usage_dev.jsonl are settled as if the upstream had not reported usage: as a stream of
small pieces, cut at its end. Compared is what the provider billed for what was visible (hidden reasoning aside), by
provider, endpoint and kind of answer. Short answers make shares hard: one token more on a three-token answer is 33 %,
so `sum` (all of our tokens against all of theirs) stands beside them.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections import defaultdict
from typing import Any

from benchmarks.report import render_table
from benchmarks.strange_tokenizers import DATA
from gateway.core.tokens.profiles import profile_of
from gateway.core.wire.generated import Generated
from gateway.core.wire.pieces import Delta, gather_delta
from gateway.shell.tokens.counter import TiktokenCounter
from gateway.stages.settle import count_generated

_LEAST = 5
_PIECE_CHARS = 7


def generated_of(completion: dict[str, Any]) -> Generated:
    """The answer, as a stream would bring it."""
    generated = Generated()
    text = completion.get("text") or ""
    for at in range(0, len(text), _PIECE_CHARS):
        gather_delta(generated, 0, Delta(content=text[at : at + _PIECE_CHARS]))
    gather_delta(generated, 0, Delta(refusal=completion.get("refusal")))
    calls = [*(completion.get("tool_calls") or ())]
    if completion.get("function_call"):
        calls.append(completion["function_call"])
    for number, call in enumerate(calls):
        arguments = call.get("arguments")
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, separators=(",", ":"), ensure_ascii=False)
        function = {"name": call.get("name"), "arguments": arguments}
        gather_delta(generated, 0, Delta(tool_calls=[{"index": number, "id": str(number), "function": function}]))
    return generated


async def measure() -> dict[tuple[str, str, str], list[tuple[int, int]]]:
    """Our tokens and theirs, by provider, endpoint and kind."""
    counter = TiktokenCounter(1.3)
    found: dict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
    with (DATA / "usage_dev.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            usage, completion = record["usage"], record.get("completion") or {}
            theirs = usage.get("completion_tokens", usage.get("output_tokens"))
            details = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
            is_odd = record.get("opaque") or completion.get("audio_out") or completion.get("n_choices", 1) > 1
            generated = generated_of(completion)
            if not theirs or is_odd or generated.is_empty or record["endpoint"] == "embeddings":
                continue
            theirs -= details.get("reasoning_tokens") or 0
            is_responses = record["endpoint"] == "responses"
            profile = profile_of(record["model"] or "unknown", {})
            model = record["model"] or ""
            ours = await count_generated(counter, profile, generated, model=model, is_responses=is_responses)
            provider = record["provider"] if record["provider"] in ("openai", "azure", "anthropic") else "others"
            calls = sum(generated.calls.values())
            kind = (
                f"{min(calls, 2)} calls".replace("1 calls", "1 call").replace("2 calls", "2+ calls")
                if calls
                else "text"
            )
            is_reasoning = bool(profile.assistant_tokens)
            found[provider + (", reasoning" if is_reasoning else ""), record["endpoint"], kind].append((ours, theirs))
    counter.close()
    return found


def main() -> int:
    """Command line."""
    rows = []
    for key, pairs in sorted(asyncio.run(measure()).items(), key=lambda item: -len(item[1])):
        if len(pairs) < _LEAST:
            continue
        errors = [abs(ours - theirs) / theirs for ours, theirs in pairs if theirs > 0]
        total = sum(ours for ours, _ in pairs) / sum(theirs for _, theirs in pairs) - 1
        long = [abs(ours - theirs) / theirs for ours, theirs in pairs if theirs >= 100]
        exact = sum(ours == theirs for ours, theirs in pairs) / len(pairs)
        within = sum(abs(ours - theirs) <= max(1, 0.02 * theirs) for ours, theirs in pairs) / len(pairs)
        rows.append(
            [
                *key,
                str(len(pairs)),
                f"{exact:.1%}",
                f"{within:.1%}",
                f"{statistics.mean(errors):.1%}",
                f"{total:+.1%}",
                f"{statistics.mean(long):.1%} of {len(long)}" if long else "-",
            ]
        )
    heads = ["provider", "endpoint", "answer", "n", "exact", "within 2% or 1", "mean error", "sum", "mean from 100"]
    print(render_table("visible completion tokens, counted against billed; hidden reasoning left out", heads, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
