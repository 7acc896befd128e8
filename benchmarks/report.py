"""Renders what bench.py measured as plain tables: medians over rounds, "-" for what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

Rounds = dict[str, list[dict[str, Any]]]  # target -> one record a round: {"memory": {...}, "steps": {step: {...}}}
Cell = Callable[[str], float | None]
LIMIT = "bare"
FLOOR = "upstream"


def render_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, the first to the left, the others to the right."""
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    texts = []
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        texts.append("  ".join(cells).rstrip())
    return "\n".join([title, "-" * len(texts[0]), *texts, ""])


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands apart; zero means that nothing was read."""
    return f"{value:,.{digits}f}" if value else "-"


class Medians:
    """Looks numbers up in what all rounds measured."""

    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds

    def of(self, target: str, step: str, key: str) -> float | None:
        """The median of one number of a step."""
        found = [record["steps"][step][key] for record in self.rounds[target]]
        return median(found) if found else None

    def memory(self, target: str, key: str) -> float | None:
        """The median of a number that belongs to the whole run of a target."""
        found = [record["memory"][key] for record in self.rounds[target] if key in record["memory"]]
        return median(found) if found else None

    def added(self, target: str, step: str, key: str) -> float | None:
        """The median difference to the upstream alone, round by round."""
        if target == FLOOR:
            return None
        floors = {record["round"]: record["steps"][step][key] for record in self.rounds[FLOOR]}
        found = [
            record["steps"][step][key] - floors[record["round"]]
            for record in self.rounds[target]
            if record["round"] in floors
        ]
        return median(found) if found else None

    def ratio(self, target: str, step: str, key: str) -> float | None:
        """This target's median as a share of the bare proxy's."""
        mine, limit = self.of(target, step, key), self.of(LIMIT, step, key)
        return mine / limit if mine and limit and target != FLOOR else None

    def ratio_by_cpu(self, target: str, step: str, key: str) -> float | None:
        """The bare proxy's CPU time as a share of this target's, each from its best round.

        Other work on the machine only ever adds to it, so this ratio moves least.
        """
        mine, limit = (
            min((record["steps"][step][key] for record in self.rounds[name]), default=0.0) for name in (target, LIMIT)
        )
        return limit / mine if mine and limit and target != FLOOR else None

    def spread(self, target: str, step: str, key: str) -> str:
        """Least and most over the rounds."""
        found = [record["steps"][step][key] for record in self.rounds[target]]
        return f"{min(found):,.0f}-{max(found):,.0f}" if found else "-"


def render_chat(medians: Medians, title: str, body: str) -> str:
    """One body's table: saturated on the left, one connection on the right."""
    full, alone = f"{body} saturated", f"{body} alone"
    heads = ["", "req/s", "min-max", "of bare", "by CPU", "CPU us/req", "core busy", "p50 ms", "p99 ms"]
    heads += ["| 1 conn p50 us", "p99 us", "added p50", "added p99"]
    rows = [
        [
            name,
            number(medians.of(name, full, "per_second")),
            medians.spread(name, full, "per_second"),
            number(medians.ratio(name, full, "per_second"), 2),
            number(medians.ratio_by_cpu(name, full, "cpu_us_per_request"), 2),
            number(medians.of(name, full, "cpu_us_per_request")),
            number(medians.of(name, full, "target_busy"), 2),
            number((medians.of(name, full, "p50_us") or 0) / 1000, 1),
            number((medians.of(name, full, "p99_us") or 0) / 1000, 1),
            number(medians.of(name, alone, "p50_us")),
            number(medians.of(name, alone, "p99_us")),
            number(medians.added(name, alone, "p50_us")),
            number(medians.added(name, alone, "p99_us")),
        ]
        for name in medians.rounds
    ]
    return render_table(title, heads, rows)


def render_streams(medians: Medians, title: str, body: str) -> str:
    """Streams, unpaced: saturated on the left, one connection on the right."""
    full, alone = f"{body} saturated", f"{body} alone"
    heads = [
        "",
        "events/s",
        "min-max",
        "of bare",
        "by CPU",
        "CPU us/event",
        "core busy",
        "first event p50 ms",
        "p99 ms",
    ]
    heads += ["| 1 conn first p50 us", "p99 us", "added p50", "whole p50 us"]
    rows = [
        [
            name,
            number(medians.of(name, full, "events_per_second")),
            medians.spread(name, full, "events_per_second"),
            number(medians.ratio(name, full, "events_per_second"), 2),
            number(medians.ratio_by_cpu(name, full, "cpu_us_per_event"), 2),
            number(medians.of(name, full, "cpu_us_per_event"), 1),
            number(medians.of(name, full, "target_busy"), 2),
            number((medians.of(name, full, "first_p50_us") or 0) / 1000, 1),
            number((medians.of(name, full, "first_p99_us") or 0) / 1000, 1),
            number(medians.of(name, alone, "first_p50_us")),
            number(medians.of(name, alone, "first_p99_us")),
            number(medians.added(name, alone, "first_p50_us")),
            number(medians.of(name, alone, "p50_us")),
        ]
        for name in medians.rounds
    ]
    return render_table(title, heads, rows)


def render_memory(medians: Medians) -> str:
    """Start and size of each process, and how quiet the machine was."""
    heads = ["", "cold start s", "RSS idle MiB", "RSS after MiB", "| other work, cores", "stolen, cores"]
    rows = [
        [
            name,
            number(medians.memory(name, "cold_start_s"), 2),
            number(medians.memory(name, "rss_idle_mib"), 1),
            number(medians.memory(name, "rss_after_mib"), 1),
            number(medians.memory(name, "other_work_cores"), 2),
            number(medians.memory(name, "stolen_cores"), 2),
        ]
        for name in medians.rounds
    ]
    title = "process start to its first 200 on a chat request; resident memory | disturbance while saturated"
    return render_table(title, heads, rows)


def render_failures(rounds: Rounds) -> str:
    """Requests that did not get a whole 200, and the first reason; empty when there were none."""
    lines = [
        f"FAILED: {name}, round {record['round'] + 1}, {step}: {numbers['failed']} ({numbers['failure']})"
        for name, records in rounds.items()
        for record in records
        for step, numbers in record["steps"].items()
        if numbers["failed"]
    ]
    return "\n".join(lines)
