"""The gateway's context planning as one function, `compact(messages, budget) -> messages`, without server or store.

It puts together what the assemble stage can be made of: pinned messages, the extractive brief with names and values,
recalled passages, shortened tool results, and the newest units. No language model, no embeddings. What is learned of a
message, and a brief of the same messages, is kept between calls, as a running gateway keeps it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache, partial

from benchmarks.retention.baselines import blocks, head
from benchmarks.retention.words import message_tokens, ntok, text_of
from gateway.core.context.brief import FoldJob, Segment, render_brief
from gateway.core.context.elide import elide_arguments, elide_text
from gateway.core.context.elide_names import list_names, names_in
from gateway.core.context.elide_plan import Result, note_of_repeat, plan_elisions
from gateway.core.context.extractive import Turn
from gateway.core.context.fold import fold_extractive, frame_brief
from gateway.core.context.recall import fit_recalled, recall
from gateway.core.context.recall_index import learn_terms
from gateway.core.context.recall_pool import Pool, Remembered
from gateway.core.context.recall_rank import query_of

FIRST_USER_SHARE = 0.25
"""Of the prompt: a first user message above this is folded like any other."""
BRIEF_TOKENS = 1200
BRIEF_SHARE = 0.25
"""Of what pinned messages leave, at most; the brief's own share is the other bound."""
NAMES_SHARE = 0.5
"""Of the brief, where tool results were folded or shortened."""
RECENT_TOKENS = 450
"""The newest units, where a user's message is to be answered: the rest goes to what that message asks for."""
LOOP_SHARE = 0.75
"""Of what pinned messages leave, for the newest units, where an agent is in the middle of a task."""
GATHERED_TOKENS = 1000
"""What a result is taken to need when units are gathered: fewer units that say something, not many stubs."""
MIN_PART_TOKENS = 200
"""Arguments and answers up to this are not shortened."""
WANTED_STEPS = 6
"""How many of the newest units tell which names are in use."""
FRAME_TOKENS = 3

learned = lru_cache(50_000)(learn_terms)


@lru_cache(50_000)
def named(text):
    """The names in a text."""
    return tuple(names_in(text))


@lru_cache(5_000)
def folded_brief(turns, max_tokens):
    """The extractive brief of these turns."""
    job = FoldJob(len(turns), (), None, turns, max_tokens)
    return fold_extractive(job, frame_brief(job, ntok, cost_of), ntok, cost_of)


def cost_of(text):
    """Tokens of a message that holds this text."""
    return FRAME_TOKENS + ntok(text)


def compact(messages, budget):
    """The messages within `budget` tokens, or as near as pinned content allows."""
    return messages if 3 + sum(map(message_tokens, messages)) <= budget else Plan(messages, budget).messages()


class Plan:
    """One compaction of a chat that does not fit."""

    def __init__(self, messages, budget):
        self.all = messages
        self.tokens = [message_tokens(m) for m in messages]
        self.texts = [text_of(m) for m in messages]
        users = [i for i, m in enumerate(messages) if m["role"] == "user"]
        self.last_user = users[-1] if users else None
        self.pinned = {*range(head(messages)), *users[-1:]}
        self.pinned |= {i for i in users[:1] if self.tokens[i] <= budget * FIRST_USER_SHARE}
        self.units = blocks(messages, head(messages))
        self.ages = {i: age for age, (start, end) in enumerate(reversed(self.units)) for i in range(start, end)}
        self.room = budget - 3 - sum(self.tokens[i] for i in self.pinned)
        self.in_loop = messages[-1]["role"] == "tool"
        self.wanted = self._wanted()

    def messages(self):
        """The compacted chat."""
        kept = self._newest(int(self.room * LOOP_SHARE) if self.in_loop else RECENT_TOKENS)
        shorter = self._elide(kept)
        first_kept = min(kept, default=len(self.all))
        folded = [i for i in range(first_kept) if i not in self.pinned]
        left = self.room - sum(message_tokens(shorter.get(i, self.all[i])) for i in kept)
        brief = self._brief(folded, kept, shorter, left)
        recalled = self._recall(folded, left - (cost_of(brief) if brief else 0))
        recall_at = first_kept if self.in_loop else self.last_user
        out = []
        for i, message in enumerate(self.all):
            if i == first_kept and brief:
                out.append({"role": "user", "content": brief})
            if i == recall_at and recalled:
                out.append({"role": "user", "content": recalled.text})
            if i in kept or i in self.pinned:
                out.append(shorter.get(i, message))
        return out

    def _wanted(self):
        """The names that the newest steps use."""
        start = self.units[-min(WANTED_STEPS, len(self.units))][0]
        said = [self.texts[i] for i in range(start, len(self.all)) if self.all[i]["role"] != "tool"]
        return frozenset(names_in("\n".join(said)))

    def _newest(self, room):
        """The newest units that fit the room once long results are shortened; always the newest one."""
        kept, used = set(), 0
        for start, end in reversed(self.units):
            own = [i for i in range(start, end) if i not in self.pinned]
            used += sum(self.tokens[i] - max(0, self._elidable(i) - GATHERED_TOKENS) for i in own)
            if kept and used > room:
                break
            kept |= set(own)
        return kept

    def _elide(self, kept):
        """Messages that must be shortened for those that are kept to fit, by index."""
        items = [
            Result(
                i,
                self._elidable(i),
                self.ages[i],
                hashlib.sha256(self.texts[i].encode()).digest(),
                not self.wanted.isdisjoint(named(self.texts[i])),
            )
            for i in sorted(kept)
            if self._elidable(i)
        ]
        others = sum(self.tokens[i] for i in kept) - sum(item.tokens for item in items)
        is_all = len(kept | self.pinned) == len(self.all)
        is_newest = kept <= set(range(*self.units[-1]))
        room = self.room if is_all or is_newest else int(self.room * LOOP_SHARE)
        return {i: self._shorter(i, how) for i, how in plan_elisions(items, max(0, room - others)).items()}

    def _elidable(self, i):
        """Tokens of a message that may be shortened: a result, or long arguments and answers."""
        message = self.all[i]
        if message["role"] == "tool":
            return self.tokens[i] - FRAME_TOKENS
        return sum(n for n in self._parts(message) if n > MIN_PART_TOKENS) if message["role"] == "assistant" else 0

    @staticmethod
    def _parts(message):
        """Tokens of what an assistant said, and of the arguments of each call."""
        content = message.get("content")
        calls = [ntok(call["function"]["arguments"]) for call in message.get("tool_calls") or ()]
        return [ntok(content) if isinstance(content, str) else 0, *calls]

    def _shorter(self, i, how):
        message = self.all[i]
        if message["role"] == "tool":
            text = (
                note_of_repeat(how.same_as) if how.same_as else elide_text(self.texts[i], how.tokens, ntok, self.wanted)
            )
            return {**message, "content": text}
        share = how.tokens / self._elidable(i)
        rooms = [int(part * share) if part > MIN_PART_TOKENS else part for part in self._parts(message)]
        out = {**message}
        if isinstance(message.get("content"), str):
            out["content"] = elide_text(message["content"], rooms[0], ntok, self.wanted)
        if message.get("tool_calls"):
            pairs = zip(message["tool_calls"], rooms[1:], strict=True)
            out["tool_calls"] = [self._shorter_call(call, room) for call, room in pairs]
        return out

    def _shorter_call(self, call, room):
        arguments = elide_arguments(call["function"]["arguments"], room, ntok, self.wanted)
        return {**call, "function": {**call["function"], "arguments": arguments}}

    def _brief(self, folded, kept, shorter, room):
        """The brief's text, "" for none."""
        told = sorted({*folded, *shorter})
        room = min(BRIEF_TOKENS, int(self.room * BRIEF_SHARE), room)
        names_room = int(room * NAMES_SHARE) if any(self.all[i]["role"] == "tool" for i in told) else 0
        if room < 96 or not told:
            return ""
        turns = tuple(Turn(i, self.all[i]["role"], self.texts[i]) for i in folded)
        brief = folded_brief(turns, room - names_room)
        text = render_brief(brief.segments)
        if names_room:
            seen = "\n".join([text, *(text_of(shorter.get(i, self.all[i])) for i in sorted(kept | self.pinned))])
            turns = [(self.all[i]["role"], named(self.texts[i])) for i in told]
            names = list_names(turns, seen, room - cost_of(text) - 8, ntok)
            while names:
                body = f"{brief.body}\nNames and values seen: {names}"
                if cost_of(longer := render_brief([Segment(1, brief.covers, brief.ledger, body)])) <= room:
                    return longer
                names = names.rpartition(", ")[0]
        return text

    def _recall(self, folded, room):
        if self.last_user is None or not folded:
            return None
        pool = Pool(
            [Remembered(i, self.all[i]["role"], self.tokens[i] - FRAME_TOKENS, learned(self.texts[i])) for i in folded]
        )
        before = partial(self.texts.__getitem__, self.last_user - 1) if self.last_user else None
        query = query_of(self.texts[self.last_user], before, sorted(self.wanted) if self.in_loop else ())
        return fit_recalled(
            recall(query, pool, room), pool, self.texts.__getitem__, room, lambda lines: cost_of("".join(lines))
        )
