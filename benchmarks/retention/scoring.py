"""Is what a later answer rests on still in a prompt? And is the prompt one that an upstream would take?"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict

from benchmarks.retention.words import message_tokens, prompt_tokens, stems, text_of, words


class Context:
    """The compacted prompt without its last message (the question or the newest tool result)."""

    def __init__(self, messages: list[dict], keep_last: bool = False):
        body = messages if keep_last else messages[:-1]
        self.raw = "\n".join(text_of(m) for m in body)
        self.flat = " " + " ".join(words(self.raw)) + " "
        self.at: dict[str, list[int]] = defaultdict(list)
        for i, s in enumerate(stems(self.raw)):
            self.at[s].append(i)

    def holds(self, text: str, share: float = 0.8) -> bool:
        """Verbatim, or >= 80% of the content words close together (a window of 3x their number)."""
        text = re.sub(r"\A\[[^\]\n]*\]\n", "", text)  # a session's date line is not evidence
        if f" {' '.join(words(text))} " in self.flat:
            return True
        want = set(stems(text))
        if not want:
            return False
        need = max(math.ceil(share * len(want)), min(2, len(want)))
        if sum(s in self.at for s in want) < need:
            return False
        hits = sorted((i, s) for s in want for i in self.at.get(s, ()))
        width, left, seen = max(3 * len(want), 30), 0, Counter()
        for i, s in hits:
            seen[s] += 1
            while hits[left][0] < i - width:
                old = hits[left][1]
                seen[old] -= 1
                if not seen[old]:
                    del seen[old]
                left += 1
            if len(seen) >= need:
                return True
        return False

    def word_share(self, text: str) -> float | None:
        """Share of the text's content words that are in the prompt; None if it has none."""
        want = set(stems(text))
        return sum(s in self.at for s in want) / len(want) if want else None


def shape_errors(out: list[dict], sent: list[dict]) -> list[str]:
    """What an OpenAI-compatible upstream would refuse, or a caller would notice."""
    errors, open_ids = [], set()
    for m in out:
        role = m.get("role")
        if role == "tool":
            if m.get("tool_call_id") not in open_ids:
                errors.append("tool result without its call")
            open_ids.discard(m.get("tool_call_id"))
            continue
        if open_ids:
            errors.append("tool call without its result")
            open_ids = set()
        if role not in ("system", "developer", "user", "assistant", "function"):
            errors.append(f"role {role!r}")
        open_ids = {t.get("id") for t in m.get("tool_calls") or []}
    if open_ids:
        errors.append("tool call without its result")
    if not out or out[-1].get("role") != sent[-1].get("role"):
        errors.append("last message has another role")
    elif sent[-1]["role"] == "tool":  # may be shortened (see last_kept), not replaced
        if out[-1].get("tool_call_id") != sent[-1].get("tool_call_id"):
            errors.append("newest tool result missing")
    elif text_of(sent[-1]).strip() not in text_of(out[-1]):
        errors.append("last message changed")
    if sent[0]["role"] == "system":
        kept = "\n".join(text_of(m) for m in out if m.get("role") in ("system", "developer"))
        if text_of(sent[0]).strip() not in kept:
            errors.append("system prompt changed")
    if prompt_tokens(out) > prompt_tokens(sent):
        errors.append("larger than what the client sent")
    return errors


def score_question(record: dict, q: dict, out: list[dict]) -> dict:
    """How much of a question's evidence and answer stands in the prompt."""
    ctx = Context(out)
    ev = [ctx.holds(text_of(record["messages"][i])) for i in q.get("evidence") or []]
    share = ctx.word_share(q.get("answer") or "")
    ev_text = " ".join(text_of(record["messages"][i]) for i in q.get("evidence") or [])
    gold = set(stems(q.get("answer") or ""))
    return {
        "evidence": sum(ev) / len(ev) if ev else None,
        "evidence_all": float(all(ev)) if ev else None,
        "answer": float(share == 1) if share is not None else None,
        "answer_words": share,
        # the same, only where the evidence turns themselves spell the answer out
        "answer_literal": float(share == 1) if gold and gold <= set(stems(ev_text)) else None,
    }


_IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]{3,}[A-Za-z0-9_]|\b\d{3,}\b|#[A-Za-z0-9]{4,}")


def identifiers(text: str) -> set[str]:
    """Paths, dotted and snake names, CamelCase, ids, numbers: what a next step cannot guess."""
    return {w for w in _IDENT.findall(text) if re.search(r"[_./\d]", w) or re.search(r"[a-z][A-Z]", w)}


def cut_points(record: dict, budget: int, k: int) -> list[int]:
    """Up to k indices of assistant messages whose history is over 1.1 x the budget, evenly spread."""
    total, ok = 3, []
    for i, m in enumerate(record["messages"]):
        if m["role"] == "assistant" and total > 1.1 * budget:
            ok.append(i)
        total += message_tokens(m)
    return ok if len(ok) <= k else [ok[round(j * (len(ok) - 1) / (k - 1))] for j in range(k)] if k > 1 else ok[-1:]


def score_cut(record: dict, cut: int, out: list[dict]) -> dict:
    """How much of what the recorded next step uses stands in the prompt."""
    past, nxt = record["messages"][:cut], text_of(record["messages"][cut])
    ctx = Context(out, keep_last=True)
    said = "\n".join(text_of(m) for m in past)
    calls = [i for i, m in enumerate(past) if m["role"] == "assistant"]
    near = "\n".join(text_of(m) for m in past[(calls[-2] if len(calls) > 1 else 0) :])
    need = {w for w in identifiers(nxt) if w in said}
    far = {w for w in need if w not in near}
    users = [text_of(m) for m in past if m["role"] == "user"]
    return {
        "next_ids": sum(w in ctx.raw for w in need) / len(need) if need else None,
        "next_ids_far": sum(w in ctx.raw for w in far) / len(far) if far else None,
        "task_words": ctx.word_share(users[0]) if users else None,
        "last_user": float(ctx.holds(users[-1])) if users else None,
    }
