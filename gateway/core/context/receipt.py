"""What was done to a prompt to make it fit, and how that is told in a header: numbers and ids, no content."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec

from gateway.core.context.brief import Brief, Level
from gateway.core.context.budget import Budget
from gateway.core.context.economics import Cause
from gateway.core.context.recall import Recalled
from gateway.core.tokens.calibration import NO_CORRECTION, Correction

_MAX_EXPLAINED_BYTES, _MAX_EXPLAINED_MEMORIES, _MAX_EXPLAINED_REGIONS = 2048, 16, 8
_MAX_EXPLAINED = (40, 32, 24, 16, 8, 0)
"""Recalled messages that a receipt names: the most that its bytes allow, since it is a header."""


class Receipt(msgspec.Struct, frozen=True):
    """What was done to make the prompt fit. Tokens are as counted, but where they are said to be as billed.

    Attributes:
        level: the lowest rung that was used.
        has_overflowed: the client's own prompt did not fit.
        client_tokens: the client's own prompt.
        prompt_tokens: what is forwarded.
        completion_tokens: what the answer may take, within the budget.
        budget: what was obeyed.
        correction: from tokens as counted to tokens as this upstream bills them, as far as that was learned.
        has_tools: tools are sent along, which providers add to.
        prompt_limit_tokens: what the prompt may count, so that what is billed for it fits the budget with the margin
            learned.
        client_billed_tokens: what the upstream would be expected to bill for the client's own prompt.
        billed_tokens: what it is expected to bill for the forwarded one.
        sections: tokens forwarded, by name; they sum up to `prompt_tokens`.
        folded_messages: how many messages the brief stands for and that are not forwarded.
        brief: the brief that is forwarded, or None.
        recalled: the folded passages that are forwarded word for word, or None.
        shortened_messages: how many long messages are forwarded shorter than they are.
        read_messages: of these, how many with the text that was read in their pictures in place of them.
        brief_id: what names it on the admin port, "" for none.
        is_new_brief: it was made for this request.
        is_fresh: a compaction was made for this request; else it is arranged as an earlier one decided.
        session_id: names the session, without its name; "" for none.
        kept_messages: messages of the session that the request does not contain.
        is_shadow: the plan was recorded, and the client's own bytes forwarded.
        cause: of a fresh compaction.
    """

    level: Level
    has_overflowed: bool
    client_tokens: int
    prompt_tokens: int
    completion_tokens: int
    budget: Budget
    correction: Correction = NO_CORRECTION
    has_tools: bool = False
    prompt_limit_tokens: int = 0
    client_billed_tokens: int = 0
    billed_tokens: int = 0
    sections: Mapping[str, int] = msgspec.field(default_factory=dict)
    folded_messages: int = 0
    brief: Brief | None = None
    recalled: Recalled | None = None
    shortened_messages: int = 0
    read_messages: int = 0
    brief_id: str = ""
    is_new_brief: bool = False
    is_fresh: bool = False
    session_id: str = ""
    kept_messages: int = 0
    is_shadow: bool = False
    cause: Cause = Cause.FORCED

    @property
    def forwarded_tokens(self) -> int:
        """What the upstream really gets."""
        return self.client_tokens if self.is_shadow else self.prompt_tokens

    @property
    def forwarded_level(self) -> Level:
        """What was really done."""
        return Level.NONE if self.is_shadow else self.level

    @property
    def saved_tokens(self) -> int:
        """What compaction spared, or would have spared."""
        return self.client_tokens - self.prompt_tokens

    def explain(self) -> str:
        """All of this as one line of JSON, for the header that a request may ask for: numbers and ids, no content."""
        brief = self.brief
        told = {
            "level": self.level.value,
            "is_shadow": self.is_shadow,
            "has_overflowed": self.has_overflowed,
            "is_fresh": self.is_fresh,
            "cause": self.cause.value if self.is_fresh else None,
            "client_tokens": self.client_tokens,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "max_total_tokens": self.budget.max_total_tokens,
            "billed_tokens": self.billed_tokens,
            "sections": dict(self.sections),
            "folded_messages": self.folded_messages,
            "shortened_messages": self.shortened_messages,
            "read_messages": self.read_messages,
            "session": {"id": self.session_id, "kept_messages": self.kept_messages} if self.session_id else None,
            "recalled": None,
            "brief": brief
            and {
                "id": self.brief_id,
                "is_new": self.is_new_brief,
                "covers": brief.covers,
                "segments": len(brief.segments),
                "tokens": brief.tokens,
                "quotes": len(brief.ledger),
                "lost_quotes": brief.lost_quotes,
                "coverage": brief.coverage,
            },
        }
        for most in _MAX_EXPLAINED:
            line = msgspec.json.encode(told | {"recalled": self.recalled and _explained(self.recalled, most)})
            if len(line) <= _MAX_EXPLAINED_BYTES:
                break
        return line.decode()

    def billed(self, counted_tokens: int) -> int:
        """What the upstream is expected to bill for a prompt."""
        if self.correction is NO_CORRECTION:
            return counted_tokens
        return self.correction.estimate(counted_tokens, self.has_tools)

    def billed_at_most(self, counted_tokens: int) -> int:
        """The same with the margin learned."""
        return self.billed(counted_tokens) + self.correction.margin(counted_tokens, self.has_tools)

    @property
    def remaining_tokens(self) -> int:
        """What the budget leaves beside the forwarded prompt as billed, never below 0."""
        return max(0, self.budget.max_total_tokens - self.billed_tokens)


def _explained(recalled: Recalled, most: int) -> dict[str, Any]:
    """Which messages and memories came back, best first, and for how many words of the question."""
    why = recalled.matching_words()
    shown = dict(islice(((str(number), words) for number, words in why.items() if number > 0), most))
    told: dict[str, Any] = {"tokens": recalled.tokens, "messages": sum(number > 0 for number in why)}
    told["matching_words"] = shown
    if recalled.memories:
        ids = {recalled.memories[number]: words for number, words in why.items() if number in recalled.memories}
        first = islice(ids.items(), min(most, _MAX_EXPLAINED_MEMORIES))
        told["memories"] = {"count": len(ids), "matching_words": dict(first)}
    if recalled.regions:
        by_worth = sorted(recalled.regions.items(), key=lambda each: -why[each[0]])
        regions: dict[str, dict[str, Any]] = {
            region.id: {
                "doc_id": region.doc_id,
                "page": region.page,
                "fidelity": region.fidelity,
                "matching_words": why[number],
            }
            for number, region in by_worth[: min(most, _MAX_EXPLAINED_REGIONS)]
        }
        told["regions"] = {"count": len(by_worth), "shown": regions}
    return told
