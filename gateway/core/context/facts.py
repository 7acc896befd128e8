"""What compaction needs to know of a message, learned once and kept by the digest of its bytes.

The chain of canonical digests is what a brief is keyed by: `chain[i]` names exactly the first i foldable messages, in
a scope, however the client writes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.core.context.canonical import canonical_digest
from gateway.core.tokens.weight import PINNED_ROLES, Weight

_TEXTS = frozenset({"text", "input_text"})
_FRAME_TOKENS, _STUB_TOKENS = 10, 60
"""What stands around a message, and what the line takes that stands for one part, at most in either case."""


class MessageFacts(msgspec.Struct, frozen=True, gc=False):
    """One message, without its text.

    Attributes:
        role: as sent.
        tokens: what it adds to the prompt.
        canonical: 32-byte digest of its canonical form.
        calls: ids of the tool calls it makes, in order.
        answers: the id of the tool call whose result it is, or None.
        stands_out: a system message, or one with several calls: the few that a count has to look at.
        company: what it costs in company, in the order of `weight.Company`; None where that was not asked yet, or is
            no different.
    """

    role: str
    tokens: int
    canonical: bytes
    calls: tuple[str, ...] = ()
    answers: str | None = None
    company: tuple[int, ...] | None = None
    stands_out: bool = False
    spare_tokens: int = 0

    @property
    def is_foldable(self) -> bool:
        """System and developer messages never are."""
        return self.role not in PINNED_ROLES

    @property
    def is_tool_result(self) -> bool:
        """A tool's or legacy function's answer."""
        return self.answers is not None


def learn_facts(message: Mapping[str, Any], weight: Weight, text_tokens: int) -> MessageFacts:
    """The facts of a parsed message whose texts were counted.

    Args:
        message: as `parse_message` returned it.
        weight: as `weigh_message` returned it.
        text_tokens: tokens of the weight's texts, summed.
    """
    calls = tuple(str(call.get("id", "")) for call in message.get("tool_calls") or ())
    legacy = message.get("function_call")
    if isinstance(legacy, Mapping):
        calls += (f"function:{legacy.get('name', '')}",)
    answers = None
    if message["role"] == "tool":
        answers = str(message.get("tool_call_id", ""))
    elif message["role"] == "function":
        answers = f"function:{message.get('name', '')}"
    return MessageFacts(
        message["role"],
        weight.fixed_tokens + text_tokens,
        canonical_digest(message),
        calls,
        answers,
        stands_out=message["role"] in PINNED_ROLES or len(calls) > 1,
        spare_tokens=spare_tokens_of(message, weight.fixed_tokens),
    )


def spare_tokens_of(message: Mapping[str, Any], fixed_tokens: int) -> int:
    """What a user's message takes less, about and rather too little, once lines stand for what is no text in it.

    Args:
        message: as parsed.
        fixed_tokens: what it takes beside its texts.
    """
    content = message.get("content")
    if message["role"] != "user" or not isinstance(content, list):
        return 0
    others = sum(not isinstance(part, Mapping) or part.get("type") not in _TEXTS for part in content)
    return max(0, fixed_tokens - _FRAME_TOKENS - _STUB_TOKENS * others) if others else 0


BETWEEN, FIRST, LAST = range(3)
"""Places of a result among those of one turn; indices into `MessageFacts.company`."""


def places_together(facts: Sequence[MessageFacts]) -> dict[int, int]:
    """The place among its neighbours of each result of a message with several calls, by its index."""
    places: dict[int, int] = {}
    for caller, fact in enumerate(facts):
        if len(fact.calls) < 2:
            continue
        end = caller + 1
        while end < len(facts) and facts[end].is_tool_result:
            places[end] = BETWEEN
            end += 1
        if end > caller + 1:
            places[end - 1] = LAST
            places[caller + 1] = FIRST
    return places


def chain_digests(scope: bytes, facts: Iterable[MessageFacts]) -> list[bytes]:
    """Digest i stands for exactly the first i foldable messages; digest 0 for none.

    Args:
        scope: what briefs may be shared within: the client and the settings that shape a brief.
        facts: all messages of the chat; those that are not foldable are passed over.
    """
    return extend_chain([hashlib.sha256(scope).digest()], facts)


def extend_chain(chain: Sequence[bytes], facts: Iterable[MessageFacts]) -> list[bytes]:
    """The chain of a chat that goes on with these messages."""
    longer, digest = [*chain], chain[-1]
    for fact in facts:
        if fact.is_foldable:
            digest = hashlib.sha256(digest + fact.canonical).digest()
            longer.append(digest)
    return longer
