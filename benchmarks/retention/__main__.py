"""The command line of the judge.

    python3 dev.py eval-retention [...]                     our gateway, started for it: `gateway` below
    python -m benchmarks.retention gateway --feed replay    the same
    python -m benchmarks.retention http --base-url URL      any gateway that runs, by what it forwards
    python -m benchmarks.retention run --method ours        a function compact(messages, budget) -> messages
    python -m benchmarks.retention upstream --port 9100     only the recording upstream

A record is {"id", "messages": [OpenAI chat messages], "questions": [{"question", "answer", "evidence": [message
indices], "category"}], "tools"?}; files are .jsonl or .jsonl.gz. Questions are scored by evidence and answer recall;
records without questions (agent traces, real chats) are cut at several points and scored by what the recorded next
step uses. docs/retention.md explains the scores.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import threading

from benchmarks.processes import ROOT, free_port
from benchmarks.retention.baselines import METHODS
from benchmarks.retention.cases import evaluate, finish, load
from benchmarks.retention.ours import compact
from benchmarks.retention.over_http import run_http
from benchmarks.retention.serve import gateway_config
from benchmarks.retention.upstream import Upstream

RECORDED = ROOT.parent / "shared" / "data"
FILES = ("conversations_dev.jsonl.gz", "traces_dev.jsonl.gz", "chats_dev.jsonl.gz")
SHOWN_OVER_HTTP = (
    "ms_p95",
    "last_kept",
    "upstream_calls",
    "side_tokens",
    "unchanged",
    "prefix_share",
    "stable_share",
    "compactions",
    "stable",
    "compaction",
)


def parser():
    """The options."""
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="cmd", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data", nargs="+", help="default: the recorded files, where they are")
    common.add_argument(
        "--budget", type=int, default=8000, help="tokens the prompt may have; over HTTP, it and --completion together"
    )
    common.add_argument("--only", help="regex on record ids")
    common.add_argument("--half", choices=("even", "odd"), help="every second record of each set")
    common.add_argument("--skip-category", nargs="*", default=["adversarial", "abstention"])
    common.add_argument("--max-questions", type=int, default=0, help="a record, sampled; 0 = all")
    common.add_argument("--cuts", type=int, default=12, help="cut points in a record without questions")
    common.add_argument("--out", help="one JSON line a case")
    common.add_argument("--json", help="the summary as JSON")
    common.add_argument("--every", action="store_true", help="show categories too")
    run = sub.add_parser("run", parents=[common], help="score a function")
    run.add_argument("--method", required=True, help=f"ours, {', '.join(METHODS)} or module:function")
    http = argparse.ArgumentParser(add_help=False)
    add_http_options(http)
    any_gateway = sub.add_parser("http", parents=[common, http], help="score a gateway that runs, or a command")
    any_gateway.add_argument("--base-url", required=True, help="the gateway's, ending in /v1")
    any_gateway.add_argument("--upstream-port", type=int, default=9100, help="what the gateway has as its upstream")
    any_gateway.add_argument("--gateway-cmd", help="start it with this; {upstream} is the recording upstream's URL")
    ours = sub.add_parser("gateway", parents=[common, http], help="score our gateway, started for it")
    ours.add_argument("--mine", choices=("folded", "all", "none"), default="folded", help="what goes to a memory")
    ours.add_argument("--summarizer", action="store_true", help="let the recording upstream write briefs too")
    ours.add_argument(
        "--embeddings", action="store_true", help="find by meaning, too, with --model-folder's embeddings"
    )
    up = sub.add_parser("upstream", help="only run the recording upstream")
    up.add_argument("--host", default="127.0.0.1")
    up.add_argument("--port", type=int, default=9100)
    return ap


def add_http_options(h):
    """What is asked of a gateway and how."""
    h.add_argument("--upstream-host", default="127.0.0.1")
    h.add_argument("--wait", type=float, default=20, help="seconds to wait for the gateway")
    h.add_argument("--model", default="mock")
    h.add_argument("--api-key", default="sk-test")
    h.add_argument("--header", action="append", default=[], help="'Name: value' to send along")
    sessions = ("record", "case", "none")
    h.add_argument("--session", choices=sessions, default="record", help="what shares a session header, if anything")
    h.add_argument("--session-header", default="x-gateway-session")
    h.add_argument("--level-header", default="x-gateway-compaction", help="reply header to tally")
    h.add_argument("--brief-mark", default="<running_brief>", help="what stands in the message that holds a brief")
    h.add_argument("--recall-mark", default="<recalled>", help="what stands in the message that holds retrieved text")
    h.add_argument("--twice", action="store_true", help="ask again: is the same prompt forwarded?")
    feeds = ("oneshot", "replay", "delta", "memory")
    how = "all at once; grown first; only what is new; grown into a memory, of which a new chat asks the question alone"
    h.add_argument("--feed", choices=feeds, default="oneshot", help=how)
    h.add_argument("--step", type=int, default=20, help="messages a step for replay, delta and memory")
    h.add_argument("--memory-header", default="x-gateway-memory")
    h.add_argument("--remember", type=float, default=2, help="seconds from the last message to the first question")
    h.add_argument("--vectors", help="a file that keeps embeddings from run to run")
    h.add_argument("--model-folder", help="of all-MiniLM-L6-v2, which then makes the embeddings")
    h.add_argument("--completion", type=int, default=1000, help="max_tokens asked for")
    h.add_argument("--stream", action="store_true")
    h.add_argument("--settle", type=float, default=0, help="seconds after each reply for background work")
    h.add_argument("--timeout", type=float, default=120)
    h.add_argument("--keep-prompts", action="store_true", help="put the forwarded prompts in --out")
    h.add_argument("--verbose", action="store_true")


def method_of(name):
    """The function of that name."""
    if name == "ours":
        return compact
    if ":" not in name:
        return METHODS[name]
    sys.path.insert(0, os.getcwd())
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)


def judge(records, args):
    """Score a gateway and print what only HTTP shows."""
    rows = run_http(records, args)
    s = finish(f"gateway {args.base_url}, budget {args.budget}, feed {args.feed}", rows, args)
    for group, values in s.items():
        if "/" not in group:
            print(group, {key: values[key] for key in SHOWN_OVER_HTTP if key in values})


def main(argv=None):
    """Do as the command line says."""
    args = parser().parse_args(argv)
    if args.cmd == "upstream":
        print(Upstream(args.host, args.port, True).url, flush=True)
        threading.Event().wait()
        return
    records = load(args.data or [str(RECORDED / name) for name in FILES])
    if args.cmd == "run":
        finish(f"{args.method}, budget {args.budget}", evaluate(method_of(args.method), records, args), args)
        return
    with contextlib.ExitStack() as stack:
        if args.cmd == "gateway":
            args.upstream_port, port = free_port(), free_port()
            args.base_url = f"http://127.0.0.1:{port}/v1"
            args.gateway_cmd = stack.enter_context(gateway_config(args, port))
        judge(records, args)


if __name__ == "__main__":
    main()
