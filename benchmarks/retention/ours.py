"""The gateway's context planning as one function, `compact(messages, budget) -> messages`, without server or store.

It puts together what the assemble stage is made of: pinned messages, the extractive brief, names and values, recalled
passages, shortened tool results, and as many recent units as the rest has room for. No language model, no embeddings.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from benchmarks.retention.baselines import blocks, head
from benchmarks.retention.words import message_tokens, ntok, text_of
from gateway.core.context.brief import FoldJob, fold_extractive, frame_brief, render_brief
from gateway.core.context.elide import elide_arguments, elide_text
from gateway.core.context.elide_names import list_names, names_in
from gateway.core.context.elide_plan import Result, plan_elisions
from gateway.core.context.extractive import Turn
from gateway.core.context.recall import fit_recalled, recall
from gateway.core.context.recall_index import learn_terms
from gateway.core.context.recall_rank import Remembered, query_of

FIRST_USER_SHARE = 0.25
BRIEF_TOKENS = 1200
RECENT_TOKENS = 450
RETRIEVED_TOKENS = 3750
NAMES_SHARE = 0.3
LOOP_RECENT_SHARE = 0.6
WANTED_STEPS = 6

learned = lru_cache(50_000)(learn_terms)
named = lru_cache(50_000)(lambda text: tuple(names_in(text)))
BRIEFS = {}
MIN_PART_TOKENS = 200
P = dict(least=1000,brief=1200, recent=450, names=0.5, loop=0.75, steps=6, max_result=0.35)


def compact(messages, budget):
    """The messages within `budget` tokens, or as near as pinned content allows."""
    return Plan(messages, budget).messages() if 3 + sum(map(message_tokens, messages)) > budget else messages


class Plan:
    """One compaction."""

    def __init__(self, messages, budget):
        self.all = messages
        self.tokens = [message_tokens(m) for m in messages]
        self.texts = [text_of(m) for m in messages]
        users = [i for i, m in enumerate(messages) if m["role"] == "user"]
        units = blocks(messages, head(messages))
        self.pinned = set(range(head(messages)))
        self.pinned |= {i for i in users[:1] if self.tokens[i] <= budget * FIRST_USER_SHARE}
        self.pinned |= set(users[-1:])
        self.units = units
        self.ages = {i: age for age, (start, end) in enumerate(reversed(units)) for i in range(start, end)}
        self.last_user = users[-1] if users else None
        self.room = budget - 3 - sum(self.tokens[i] for i in self.pinned)
        self.in_loop = messages[-1]["role"] == "tool"

    def messages(self):
        wanted = self._wanted()
        brief_room = min(P["brief"], self.room // 4)
        recent_room = int(self.room * P["loop"]) if self.in_loop else P["recent"]
        kept, shorter, used = self._recent(recent_room, wanted)
        first_kept = min(kept, default=len(self.all))
        folded = [i for i in range(first_kept) if i not in self.pinned]
        left = self.room - used
        names_room = int(brief_room * P["names"]) if any(self.all[i]["role"] == "tool" for i in {*folded, *shorter}) else 0
        brief, cost = self._brief(folded, min(brief_room, left) - names_room, names_room, kept, shorter)
        left -= cost
        recalled = self._recall(folded, left, brief)
        out = []
        for i in range(len(self.all)):
            if i == first_kept and brief:
                out.append({"role": "user", "content": brief})
            if i == self.last_user and recalled and not self.in_loop:
                out.append({"role": "user", "content": recalled.text})
            if i == first_kept and recalled and self.in_loop:
                out.append({"role": "user", "content": recalled.text})
            if i in kept or i in self.pinned:
                out.append(shorter.get(i, self.all[i]))
        return out

    def _wanted(self):
        start = self.units[-P["steps"]][0] if len(self.units) >= P["steps"] else 0
        said = [self.texts[i] for i in range(start, len(self.all)) if self.all[i]["role"] != "tool"]
        return frozenset(names_in("\n".join(said)))

    def _recent(self, room, wanted):
        """The newest units whose messages, shortened, fit the room; {index}, {index: shortened}, tokens."""
        kept, least = set(), 0
        for start, end in reversed(self.units):
            own = [i for i in range(start, end) if i not in self.pinned]
            cost = sum(self.tokens[i] - self._spare(i) for i in own)
            if kept and least + cost > room:
                break
            kept |= set(own)
            least += cost
        items = [
            Result(
                i,
                self._elidable(i),
                self.ages[i],
                hashlib.sha256(self.texts[i].encode()).digest(),
                not wanted.isdisjoint(named(self.texts[i])),
            )
            for i in sorted(kept)
            if self._elidable(i)
        ]
        others = sum(self.tokens[i] for i in kept) - sum(item.tokens for item in items)
        is_all = kept | self.pinned >= set(range(len(self.all)))
        is_newest = kept <= set(range(*self.units[-1]))
        own_room = self.room if is_all or is_newest else room
        plan = plan_elisions(items, max(0, own_room - others))
        shorter = {i: self._shorter(i, n, wanted) for i, n in plan.items()}
        return kept, shorter, sum(message_tokens(shorter.get(i, self.all[i])) for i in kept)

    def _elidable(self, i):
        """Tokens of a message that may be shortened: a result, or long arguments."""
        m = self.all[i]
        if m["role"] == "tool":
            return self.tokens[i] - 3
        if m["role"] != "assistant":
            return 0
        return sum(n for n in self._parts(m) if n > MIN_PART_TOKENS)

    @staticmethod
    def _parts(m):
        """Tokens of what an assistant said and of the arguments of each call."""
        content = m.get("content")
        calls = [ntok(call["function"]["arguments"]) for call in m.get("tool_calls") or ()]
        return [ntok(content) if isinstance(content, str) else 0, *calls]

    def _spare(self, i):
        """What shortening can take off when units are gathered: down to a size that still says something."""
        return max(0, self._elidable(i) - P["least"])

    def _shorter(self, i, n, wanted):
        m = self.all[i]
        if m["role"] == "tool":
            return {**m, "content": elide_text(self.texts[i], n, ntok, wanted)}
        parts = self._parts(m)
        share = n / self._elidable(i)
        content, *calls = [int(part * share) if part > MIN_PART_TOKENS else part for part in parts]
        out = {**m}
        if isinstance(m.get("content"), str):
            out["content"] = elide_text(m["content"], content, ntok, wanted)
        if m.get("tool_calls"):
            out["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": elide_arguments(call["function"]["arguments"], room, ntok, wanted)}}
                for call, room in zip(m["tool_calls"], calls, strict=True)
            ]
        return out

    def _brief(self, folded, room, names_room, kept, shorter):
        if not folded or room < 96:
            return "", 0

        def count_brief(text):
            return 3 + ntok(text)

        key = (tuple(self.texts[i] for i in folded), room)
        if key in BRIEFS:
            brief = BRIEFS[key]
        else:
            brief = BRIEFS[key] = self._fold(folded, room, count_brief)
        text = render_brief(brief.covers, brief.ledger, brief.body)
        if names_room > 20:
            visible = "\n".join([text, *(text_of(shorter.get(i, self.all[i])) for i in sorted(kept | self.pinned))])
            names = list_names([(self.all[i]["role"], named(self.texts[i])) for i in sorted({*folded, *shorter})], visible, names_room - 8, ntok)
            if names:
                text = render_brief(brief.covers, brief.ledger, f"{brief.body}\nNames and values seen: {names}")
        return text, count_brief(text)

    def _fold(self, folded, room, count_brief):
        turns = tuple(Turn(i, self.all[i]["role"], self.texts[i]) for i in folded)
        job = FoldJob(len(folded), (), None, turns, room)
        return fold_extractive(job, frame_brief(job, ntok, count_brief), ntok, count_brief)

    def _recall(self, folded, room, brief):
        if self.last_user is None or not folded:
            return None
        pool = [Remembered(i, self.all[i]["role"], self.tokens[i] - 3, learned(self.texts[i])) for i in folded]
        before = self.texts[self.last_user - 1] if self.last_user else ""
        names = sorted(self._wanted()) if self.in_loop else ()
        picks = recall(query_of(self.texts[self.last_user], before, names), pool, room)
        return fit_recalled(picks, pool, self.texts.__getitem__, room, lambda text: 3 + ntok(text))
