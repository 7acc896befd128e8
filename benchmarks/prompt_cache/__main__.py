"""The command line of the prompt-cache simulator.

    python3 dev.py bench-cache                                  every policy and our gateway, at 8,000 and 32,000 tokens
    python3 dev.py bench-cache --planner --no-gateway           other targets, and compacting early, by the planner here
    python3 dev.py bench-cache --budgets 8000 --prices 1 0.5 1  another provider's prices: input, cached, written

Recorded chats are replayed request by request, as an application resends them, and each policy's prompts are billed by
a prompt cache of the provider's rules. The gateway is a process; what its upstream received is billed. Costs are in
input tokens: a cost of 1,000 is what 1,000 tokens cost without a cache. docs/prompt-cache.md tells what came out.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT
from benchmarks.prompt_cache.cache import CacheRules
from benchmarks.prompt_cache.chats import Chat
from benchmarks.prompt_cache.gateway_prompts import Prompts, gateway_prompts
from benchmarks.prompt_cache.policies import Compact, Policy, SendAll, Truncate
from benchmarks.prompt_cache.replay import Bill, Clock, bill_of
from benchmarks.prompt_cache.timed_prompts import timed_prompts
from benchmarks.retention.cases import load, set_of
from gateway.core.context.economics import Prices

RECORDED = ROOT.parent / "shared" / "data"
FILES = ("traces_dev.jsonl.gz", "conversations_dev.jsonl.gz")
SUMS = ("requests", "refused", "tokens", "read", "cost", "compactions", "summariser_tokens")
TARGETS = (0.25, 0.5, 0.75)
KEEP_VALUES = (0.0, 0.1, 0.2, 0.3, 0.4)


def parser() -> argparse.ArgumentParser:
    """The options."""
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", nargs="+", help="files of records; default: the recorded traces and conversations")
    ap.add_argument("--only", help="regex on record ids")
    ap.add_argument("--every", action="store_true", help="a table for each kind of record too")
    ap.add_argument("--budgets", nargs="+", type=int, default=[8000, 32000], help="max_total")
    ap.add_argument("--completion", type=int, default=1000)
    ap.add_argument("--prices", nargs=3, type=float, default=[1, 0.1, 1.25], metavar=("INPUT", "CACHED", "WRITTEN"))
    ap.add_argument("--lifetime", type=float, default=300, help="seconds that a prefix stays cached after its last use")
    ap.add_argument("--pause", type=float, default=20, help="seconds between requests")
    breaks = "one request in so many comes after a break, 0 for none; several give a table each"
    ap.add_argument("--break-every", nargs="+", type=int, default=[0], help=breaks)
    ap.add_argument("--break-seconds", type=float, default=900)
    ap.add_argument("--target", type=float, default=0.5, help="of the limit, where `compact on overflow` compacts to")
    ap.add_argument("--planner", action="store_true", help="other targets and early compaction too, simulated")
    early = "our gateway's stages in this process, compacting early with these worths, beside the same without"
    ap.add_argument("--early", nargs="+", type=float, metavar="WORTH", help=early)
    ap.add_argument("--no-gateway", action="store_true", help="leave the real gateway out")
    ap.add_argument("--summarizer", action="store_true", help="let the recording upstream write the gateway's briefs")
    ap.add_argument("--json", help="write the sums there")
    return ap


def policies(args: argparse.Namespace, limit: int) -> dict[str, Callable[[Chat], Policy]]:
    """By name; each makes the policy of one conversation."""
    out: dict[str, Callable[[Chat], Policy]] = {
        "no gateway": SendAll,
        "truncation": partial(Truncate, limit=limit),
        "re-summarise each turn": partial(Truncate, limit=limit, is_told=True),
        "compact on overflow": partial(Compact, limit=limit, target=int(args.target * limit)),
    }
    if args.planner:
        out |= {
            f"planner, target {target}": partial(Compact, limit=limit, target=int(target * limit), is_appended=True)
            for target in TARGETS
        }
        planner = partial(Compact, limit=limit, is_appended=True, prices=Prices(*args.prices))
        best = partial(planner, target=0)
        out |= {f"  best target, worth {value}": partial(best, keep_value=value) for value in KEEP_VALUES[2:]}
        early = partial(planner, target=int(args.target * limit), is_early=True)
        out |= {f"  early, worth {value}": partial(early, keep_value=value) for value in KEEP_VALUES}
        both = partial(best, is_early=True)
        out |= {f"  both, worth {value}": partial(both, keep_value=value) for value in KEEP_VALUES[2:]}
    return out


def groups_of(paths: Sequence[str], args: argparse.Namespace) -> dict[str, list[Chat]]:
    """The chats of each file, and of each kind of record if asked for."""
    groups: dict[str, list[Chat]] = {}
    for path in paths:
        for record in load([path]):
            if args.only and not re.search(args.only, record["id"]):
                continue
            chat = Chat(record["id"], record["messages"], record.get("tools"))
            name = Path(path).name.split(".")[0].removesuffix("_dev")
            groups.setdefault(name, []).append(chat)
            if args.every:
                groups.setdefault(f"{name}/{set_of(record['id'])}", []).append(chat)
    return groups


def show(title: str, bills: dict[str, Bill]) -> None:
    """One table; a policy that costs less than another may have forgotten more."""
    print(f"\n{title}")
    print(
        f"{'':24}{'requests':>9}{'tokens':>13}{'cached':>8}{'cost':>13}{'relative':>9}{'a request':>10}"
        f"{'mean len':>9}{'compactions':>12}{'prefix':>8}{'summariser':>12}"
    )
    whole = bills["no gateway"].cost
    for name, bill in bills.items():
        if not bill.requests:
            continue
        shares = bill.kept_shares
        notes = [f"{bill.refused} refused"] if bill.refused else []
        notes += [f"{bill.too_long} too long, up to {bill.longest:,}"] if bill.too_long else []
        print(
            f"{name:24}{bill.requests:>9}{bill.tokens:>13,}{bill.read / bill.tokens:>8.3f}{bill.cost:>13,.0f}"
            f"{bill.cost / whole:>9.3f}{bill.cost / bill.requests:>10,.0f}{bill.tokens // bill.requests:>9,}"
            f"{bill.compactions:>12}{sum(shares) / len(shares) if shares else 0:>8.3f}{bill.summariser_tokens:>12,}"
            + (f"  {', '.join(notes)}" if notes else ""),
            flush=True,
        )


def _timed(chat: Chat, budget: int, clock: Clock, worth: float | None, args: argparse.Namespace) -> Prompts:
    """What our stages make of a chat under this clock, with these prices."""
    price, read, write = args.prices
    options: dict[str, Any] = {
        "upstream": {"cache_seconds": args.lifetime},
        "prices": {"*": {"input": price, "cached_input": read, "cache_write": write}},
        "compaction": {"early": worth is not None, "keep_value": worth or 0.0},
    }
    return timed_prompts(chat, budget, args.completion, clock, options)


def bill_prompts(chats: Sequence[Chat], sent: dict[str, Prompts], rules: CacheRules, clock: Clock, limit: int) -> Bill:
    """What the gateway's prompts cost."""
    bill = Bill()
    for chat in chats:
        bill.add(sent[chat.ident], rules, clock, limit)
    return bill


def main(argv: Sequence[str] | None = None) -> None:
    """Do as the command line says."""
    args = parser().parse_args(argv)
    rules = CacheRules(
        lifetime_s=args.lifetime,
        input_price=args.prices[0],
        cached_price=args.prices[1],
        write_price=args.prices[2],
    )
    clocks = [Clock(args.pause, every, args.break_seconds) for every in args.break_every]
    groups = groups_of(args.data or [str(RECORDED / name) for name in FILES], args)
    chats = list({chat.ident: chat for group in groups.values() for chat in group}.values())
    print(rules)
    sums = {}
    for budget in args.budgets:
        limit = budget - args.completion
        sent = {}
        if not args.no_gateway:
            sent = gateway_prompts(chats, budget, args.completion, has_summarizer=args.summarizer)
        for clock, (name, group) in product(clocks, groups.items()):
            bills = {each: bill_of(make, group, rules, clock, limit) for each, make in policies(args, limit).items()}
            if sent:
                bills["our gateway"] = bill_prompts(group, sent, rules, clock, limit)
            for worth in [None, *args.early] if args.early else []:
                title = "our stages" if worth is None else f"  early, worth {worth}"
                timed = {each.ident: _timed(each, budget, clock, worth, args) for each in group}
                bills[title] = bill_prompts(group, timed, rules, clock, limit)
            title = f"{name}: {len(group)} chats, max_total {budget}, prompts up to {limit} tokens, {clock}"
            show(title, bills)
            sums[title] = {each: {name: getattr(bill, name) for name in SUMS} for each, bill in bills.items()}
    if args.json:
        Path(args.json).write_text(json.dumps(sums, indent=1))


if __name__ == "__main__":
    main()
