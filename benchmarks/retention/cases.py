"""What is asked of a compactor, and the table of how it did."""

from __future__ import annotations

import gzip
import json
import random
import re
import time
from collections import Counter

from benchmarks.retention.scoring import Context, cut_points, score_cut, score_question, shape_errors
from benchmarks.retention.words import ntok, prompt_tokens, text_of


def load(paths: list[str]) -> list[dict]:
    """The records of these files, gzipped or not."""
    out = []
    for p in paths:
        with (gzip.open if p.endswith(".gz") else open)(p, "rt", encoding="utf-8") as f:
            out += [json.loads(line) for line in f if line.strip()]
    return out


def half_of(records, half):
    """Every second record of each set, so that what was tuned on one half can be tried on the other."""
    seen = Counter()
    for r in records:
        name = set_of(r["id"])
        if half is None or seen[name] % 2 == (half == "odd"):
            yield r
        seen[name] += 1


def set_of(ident):
    """The data set that a record is from."""
    return re.split(r"[-_]", ident)[0]


def cases(records, budget, args):
    """(record, messages to send, scorer) for every question and every cut."""
    rng = random.Random(7)
    for r in half_of(records, getattr(args, "half", None)):
        if args.only and not re.search(args.only, r["id"]):
            continue
        qs = [
            q
            for q in r.get("questions") or []
            if q.get("category") not in args.skip_category
            and (q.get("evidence") or q.get("answer") or q.get("category") == "no-gold")
        ]
        if args.max_questions and len(qs) > args.max_questions:
            qs = [qs[i] for i in sorted(rng.sample(range(len(qs)), args.max_questions))]
        for q in qs:
            sent = r["messages"] + [{"role": "user", "content": q["question"]}]
            yield r, sent, q, lambda out, r=r, q=q: score_question(r, q, out)
        if not r.get("questions"):
            for cut in cut_points(r, budget, args.cuts):
                yield (
                    r,
                    r["messages"][:cut],
                    {"category": "next-step"},
                    lambda out, r=r, cut=cut: score_cut(r, cut, out),
                )


def row(record, q, sent, out, tools, budget, score, ms):
    """One case's scores."""
    n = prompt_tokens(out, tools)
    errors = shape_errors(out, sent)
    if tools != record.get("tools"):
        errors.append("tools changed")
    return {
        "id": record["id"],
        "set": set_of(record["id"]),
        "category": q.get("category"),
        "question": q.get("question"),
        "tokens_sent": prompt_tokens(sent, record.get("tools")),
        "tokens": n,
        "fits": float(n <= budget),
        "valid": float(not errors),
        "errors": sorted(set(errors)),
        "ms": ms,
        "last_kept": Context(out[-1:], keep_last=True).word_share(text_of(sent[-1])),
        **score(out),
    }


SHOWN = (
    "tokens",
    "fits",
    "valid",
    "evidence",
    "evidence_all",
    "answer",
    "answer_literal",
    "answer_words",
    "next_ids",
    "next_ids_far",
    "task_words",
    "last_user",
    "ms",
)

HTTP_ONLY = (
    "last_kept",
    "upstream_calls",
    "side_tokens",
    "prefix_share",
    "stable_share",
    "compactions",
    "stable",
    "unchanged",
)


def summary(rows: list[dict]) -> dict:
    """Means by data set and category."""
    groups = {"all": rows}
    for r in rows:
        groups.setdefault(r["set"], []).append(r)
        groups.setdefault(f"{r['set']}/{r['category']}", []).append(r)
    out = {}
    for g, rs in groups.items():
        s = {"n": len(rs)}
        for k in (*SHOWN, *HTTP_ONLY):
            v = sorted(r[k] for r in rs if r.get(k) is not None)
            if v:
                s[k] = round(sum(v) / len(v), 3)
                if len(v) < len(rs):
                    s[k + "_n"] = len(v)
                if k in ("tokens", "ms"):
                    s[k + "_max"], s[k + "_p95"] = round(v[-1], 1), round(v[int(0.95 * (len(v) - 1))], 1)
        s["errors"] = dict(Counter(e for r in rs for e in r["errors"]))
        if any(r.get("compaction") for r in rs):
            s["compaction"] = dict(Counter(r.get("compaction") for r in rs))
        out[g] = s
    return out


def show(title: str, s: dict, every: bool):
    """Print a summary as a table."""
    print(f"\n{title}")
    print(f"{'group':34}{'n':>6}" + "".join(f"{k[:13]:>14}" for k in SHOWN))
    for g, v in s.items():
        if every or "/" not in g:
            print(
                f"{g[:33]:34}{v['n']:>6}"
                + "".join(f"{v.get(k, ''):>14}" for k in SHOWN)
                + (f"  {v['errors']}" if v["errors"] else "")
            )


def finish(title, rows, args):
    """Summarise, print, and write what was asked for."""
    s = summary(rows) if rows else {}
    show(title, s, args.every)
    if args.out:
        with open(args.out, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({"title": title, "budget": args.budget, "groups": s}, f, indent=1)
    return s


def evaluate(compact, records, args):
    """Score a function compact(messages, budget) -> messages. The rows can be summarised by summary()."""
    rows = []
    for r, sent, q, score in cases(records, args.budget, args):
        tools = r.get("tools")
        room = args.budget - (ntok(json.dumps(tools)) if tools else 0)
        t0 = time.perf_counter()
        out = compact(sent, room, r, q) if getattr(compact, "needs_gold", False) else compact(sent, room)
        ms = 1e3 * (time.perf_counter() - t0)
        rows.append(row(r, q, sent, out, tools, args.budget, score, ms))
    return rows
