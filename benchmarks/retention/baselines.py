"""What others do with a history that is too long: each `compact(messages, budget) -> messages`."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import time
from collections import Counter, defaultdict
from typing import ClassVar

from benchmarks.retention.words import message_tokens, ntok, stems, text_of


def split_text(text: str, limit: int = 160) -> list[str]:
    """A message as pieces of at most about `limit` tokens, cut at lines, then at sentences."""
    if ntok(text) <= limit:
        return [text]
    parts, cur, size = [], "", 0
    for piece in re.split(r"(?<=\n)|(?<=[.!?\u3002]) ", text):
        n = ntok(piece) + 1
        if cur and size + n > limit:
            parts.append(cur.strip())
            cur, size = "", 0
        cur, size = cur + piece + ("" if piece.endswith("\n") else " "), size + n
    return [p for p in [*parts, cur.strip()] if p]


class Memory:
    """The history as chunks with BM25 statistics; one per history, kept for later questions."""

    _cache: ClassVar[dict[bytes, Memory]] = {}

    @classmethod
    def of(cls, history: list[dict]) -> Memory:
        key = hashlib.blake2b(json.dumps(history, sort_keys=True).encode(), digest_size=16).digest()
        if key not in cls._cache:
            if len(cls._cache) > 64:
                cls._cache.clear()
            cls._cache[key] = cls(history)
        return cls._cache[key]

    def __init__(self, history: list[dict]):
        t0 = time.perf_counter()
        self.history = history
        self.chunks = [(i, p) for i, m in enumerate(history) if m["role"] != "system" for p in split_text(text_of(m))]
        self.size = [ntok(p) + 1 for _, p in self.chunks]
        self.bags = [Counter(stems(p)) for _, p in self.chunks]
        df = Counter(s for b in self.bags for s in b)
        n = max(1, len(self.bags))
        self.idf = {s: math.log(1 + (n - d + 0.5) / (d + 0.5)) for s, d in df.items()}
        self.len = [sum(b.values()) for b in self.bags]
        self.avg = sum(self.len) / n or 1
        self.post: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for j, b in enumerate(self.bags):
            for s, f in b.items():
                self.post[s].append((j, f))
        self.index_ms = 1e3 * (time.perf_counter() - t0)
        self._central: list[int] | None = None

    def bm25(self, query: str, k1: float = 1.5, b: float = 0.75) -> list[int]:
        score: dict[int, float] = defaultdict(float)
        for s in set(stems(query)):
            for j, f in self.post.get(s, ()):
                score[j] += self.idf[s] * f * (k1 + 1) / (f + k1 * (1 - b + b * self.len[j] / self.avg))
        return sorted(score, key=lambda j: (-score[j], -j))

    def central(self) -> list[int]:
        """Chunks by their closeness to the TF-IDF centroid: an extractive summary, question unseen."""
        if self._central is None:
            vecs = []
            for b in self.bags:
                v = {s: (1 + math.log(f)) * self.idf[s] for s, f in b.items()}
                norm = math.sqrt(sum(x * x for x in v.values())) or 1
                vecs.append({s: x / norm for s, x in v.items()})
            mean: dict[str, float] = defaultdict(float)
            for v in vecs:
                for s, x in v.items():
                    mean[s] += x
            score = [sum(x * mean[s] for s, x in v.items()) for v in vecs]
            self._central = sorted(range(len(vecs)), key=lambda j: (-score[j], j))
        return self._central

    def fill(self, ranking, room: int, skip_from: int = 10**9) -> list[int]:
        """Chunks of the ranking that fit in `room` tokens, in the conversation's order."""
        got = []
        for j in ranking:
            if self.chunks[j][0] < skip_from and self.size[j] <= room:
                got.append(j)
                room -= self.size[j]
                if room < 8:
                    break
        return sorted(got)


def blocks(messages: list[dict], start: int = 0) -> list[tuple[int, int]]:
    """Runs that must stay together: an assistant's tool calls with all their results."""
    out, i = [], start
    while i < len(messages):
        j = i + 1
        if messages[i].get("tool_calls"):
            while j < len(messages) and messages[j]["role"] == "tool":
                j += 1
        out.append((i, j))
        i = j
    return out


def head(messages):
    return 1 if messages and messages[0]["role"] == "system" else 0


def tail_start(messages: list[dict], room: int) -> int:
    """Where the longest suffix of whole blocks that fits begins; the last block always stays."""
    bl = blocks(messages, head(messages))
    start = bl[-1][0]
    used = 0
    for i, j in reversed(bl):
        used += sum(map(message_tokens, messages[i:j]))
        if used > room and i < start:
            break
        start = i
    return start


def full(messages, budget):
    return messages


def keep_last(messages, budget):
    h = head(messages)
    return messages[:h] + messages[tail_start(messages, budget - 3 - sum(map(message_tokens, messages[:h]))) :]


def head_tail(messages, budget):
    h, bl = head(messages), blocks(messages, head(messages))
    room = budget - 3 - sum(map(message_tokens, messages[:h]))
    size = [sum(map(message_tokens, messages[i:j])) for i, j in bl]
    keep, used = {len(bl) - 1}, size[-1]
    for order, limit in ((range(len(bl)), room / 2), (range(len(bl) - 1, -1, -1), room)):
        for k in order:
            if k not in keep:
                if used + size[k] > limit:
                    break
                keep.add(k)
                used += size[k]
    return messages[:h] + [m for k in sorted(keep) for m in messages[bl[k][0] : bl[k][1]]]


def random_turns(messages, budget):
    h, bl = head(messages), blocks(messages, head(messages))
    room = budget - 3 - sum(map(message_tokens, messages[:h]))
    order = list(range(len(bl) - 1))
    random.Random(len(messages)).shuffle(order)
    keep = {len(bl) - 1}
    room -= sum(map(message_tokens, messages[bl[-1][0] :]))
    for k in order:
        n = sum(map(message_tokens, messages[bl[k][0] : bl[k][1]]))
        if n <= room:
            keep.add(k)
            room -= n
    return messages[:h] + [m for k in sorted(keep) for m in messages[bl[k][0] : bl[k][1]]]


def assemble(messages, start, notes: list[tuple[str, str]]):
    """System prompt, the notes as a second system message, then messages[start:]."""
    body = "\n\n".join(f"{title}\n{text}" for title, text in notes if text)
    extra = [{"role": "system", "content": body}] if body else []
    return messages[: head(messages)] + extra + messages[start:]


def retrieve(messages, budget, rank, recent=450, brief=0, retrieved=None):
    """Recent turns, an optional extractive brief, and chunks ranked for the last message."""
    h = head(messages)
    last = message_tokens(messages[-1])
    start = tail_start(messages, last + recent)
    fixed = 3 + sum(map(message_tokens, messages[:h])) + sum(map(message_tokens, messages[start:]))
    room = max(0, budget - fixed - 30)
    mem = Memory.of(messages[:-1])
    b = mem.fill(mem.central(), min(brief, room), start) if brief else []
    room -= sum(mem.size[j] for j in b)
    room = max(0, room if retrieved is None else min(retrieved, room))
    got = mem.fill([j for j in rank(mem, text_of(messages[-1])) if j not in set(b)], room, start)

    def join(js):
        return "\n".join(mem.chunks[j][1] for j in js)

    return assemble(
        messages,
        start,
        [("Summary of the earlier conversation:", join(b)), ("Earlier messages that may matter:", join(got))],
    )


def by_bm25(mem, query):
    """BM25 first, then the newest chunks for what room is left."""
    got = mem.bm25(query)
    seen = set(got)
    return got + [j for j in range(len(mem.chunks) - 1, -1, -1) if j not in seen]


def bm25(messages, budget):
    return retrieve(messages, budget, by_bm25)


def brief_only(messages, budget):
    return retrieve(messages, budget, lambda mem, q: mem.central())


def shares_bm25(messages, budget):
    return retrieve(messages, budget, by_bm25, recent=450, brief=1200, retrieved=3750)


def shares_no_retrieval(messages, budget):
    return retrieve(messages, budget, lambda mem, q: [], recent=450, brief=1200, retrieved=0)


def oracle(messages, budget, record, question):
    want = sorted(question.get("evidence") or [])
    out, used = [], 3 + message_tokens(messages[0]) + message_tokens(messages[-1])
    for i in want:
        n = message_tokens(messages[i])
        if used + n <= budget:
            out.append(
                {
                    "role": "system" if messages[i]["role"] == "tool" else messages[i]["role"],
                    "content": text_of(messages[i]),
                }
            )
            used += n
    return messages[: head(messages)] + out + messages[-1:]


oracle.needs_gold = True
METHODS = {
    f.__name__: f
    for f in (full, keep_last, head_tail, random_turns, bm25, brief_only, shares_bm25, shares_no_retrieval, oracle)
}
