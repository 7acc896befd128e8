"""Recorded requests are counted as the provider billed them: by the gateway's own code path, with the real tokenizer.

The bounds are a little below what was reached when they were written, so that a rule that is broken shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from benchmarks.eval_tokens import CLASSES, Judged, score
from benchmarks.eval_tokens_records import Judge, billed_tokens, is_scored, read_records, with_prior
from tests.shared_data import shared_data

BOUNDS = {
    # class: at least so many exact, at most such a mean error, in per cent
    "chat: all": (98.0, 0.10),
    "  text only": (99.5, 0.08),
    "  multi-turn": (98.0, 0.10),
    "  name": (100.0, 0.0),
    "  tools": (98.0, 0.10),
    "  tool results": (92.0, 0.15),
    "  json_schema": (100.0, 0.0),
    "  image": (85.0, 0.10),
    "responses: all": (91.5, 1.20),
    "  tools ": (92.0, 2.50),
    "  tool results ": (81.0, 0.90),
    "  json_schema ": (94.0, 0.10),
    "embeddings": (98.0, 1.50),
    "completions": (94.0, 5.50),
}


@pytest.fixture(scope="module")
def judged() -> Iterator[list[Judged]]:
    """Every record, counted once."""
    records = list(read_records(shared_data("usage_dev.jsonl")))
    judge = Judge()

    async def count_all() -> list[Judged]:
        found = []
        for record in records:
            count = await judge.count(record)
            model = record["model"] or "unknown"
            tokens = (count.prompt_tokens, with_prior(count, model)) if count else (None, None)
            found.append(Judged(record, billed_tokens(record), *tokens, None, None))
        return found

    yield asyncio.run(count_all())
    judge.close()


@pytest.mark.parametrize("name", BOUNDS)
def test_openai_is_counted_exactly(judged: list[Judged], name: str) -> None:
    """By class: the share that is exact, and the mean error."""
    test: Callable[[Judged], bool] = CLASSES[name]
    found = score([one for one in judged if one.record["provider"] == "openai" and test(one)], "gateway")
    print(f"{name.strip()}: {found.exact:.1f}% of {found.records} exact, mean error {found.mean:.2f}%")
    least_exact, most_error = BOUNDS[name]

    assert found.exact >= least_exact
    assert found.mean <= most_error


def test_azure_is_counted_as_openai(judged: list[Judged]) -> None:
    """The same rules hold there."""
    found = score([one for one in judged if one.record["provider"] == "azure" and is_scored(one.record)], "gateway")

    assert found.exact >= 93


def test_priors_bring_others_near(judged: list[Judged]) -> None:
    """For half of all requests to other providers, a prior is within a tenth of the bill."""
    others = [one for one in judged if one.record["provider"] not in ("openai", "azure") and is_scored(one.record)]
    errors = {
        counter: sorted(abs((getattr(one, counter) or 0) - one.billed) / one.billed for one in others)
        for counter in ("gateway", "with_prior")
    }
    middle = len(others) // 2

    assert errors["with_prior"][middle] < 0.1 < 0.3 < errors["gateway"][middle]
