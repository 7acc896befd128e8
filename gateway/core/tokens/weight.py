"""What of a chat message costs prompt tokens, as texts to be tokenised plus a fixed number.

The seam between reading a request and tokenising it: rules say *what* is billed, a tokenizer says how much a text is.
A message's weight depends on its own bytes and the model's family, never on other messages, so what was counted once
is known by the digest of those bytes. What a message costs more, or less, in company is a weight of its own
(`weigh_company`), asked for only where there is company.

Invariants, each with a test of its own:
  1. Any message that was parsed has a weight; its fixed tokens are never negative.
  2. More text never weighs less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.core.tokens.calls import call_rule, calls_of, weigh_calls, weigh_together
from gateway.core.tokens.content import as_json, content_text, weigh_content
from gateway.core.tokens.profiles import Family, Profile

PARAGRAPH: Final = "\n\n"
_TAIL_CHARS: Final = 64
_RESULT_ROLES: Final = frozenset({"tool", "function"})
PINNED_ROLES: Final = frozenset({"system", "developer"})


class Weight(NamedTuple):
    """Tokens = fixed_tokens + the tokens of each text - the tokens of each text in `less`."""

    texts: tuple[str, ...]
    fixed_tokens: int
    less: tuple[str, ...] = ()

    @property
    def all_texts(self) -> tuple[str, ...]:
        """Every text that has to be tokenised."""
        return self.texts + self.less if self.less else self.texts

    def total(self, tokens: Sequence[int]) -> int:
        """The tokens of the whole, from those of `all_texts`."""
        kept = len(self.texts)
        return self.fixed_tokens + sum(tokens[:kept]) - sum(tokens[kept:])


def weigh_message(message: Mapping[str, Any], profile: Profile) -> Weight:
    """A chat message's weight; the shapes were checked when it was parsed."""
    role = message["role"]
    content = message.get("content")
    if isinstance(content, str) and len(message) == 2:  # most messages: a role and a text
        return Weight((content,) if content else (), _frame_tokens(role, profile))
    calls = calls_of(message)
    parts = weigh_content(content, profile.images)
    texts, fixed = list(parts.texts), parts.fixed_tokens
    if isinstance(refusal := message.get("refusal"), str):
        texts.append(refusal)
    if (thoughts := message.get("reasoning_content")) is not None:
        texts.append(thoughts if isinstance(thoughts, str) else as_json(thoughts))
    if texts or fixed or not calls:
        fixed += _frame_tokens(role, profile)
    if calls:
        call_texts, call_tokens = weigh_calls(calls, profile)
        texts += call_texts
        fixed += call_tokens
    if role not in _RESULT_ROLES and isinstance(name := message.get("name"), str):
        texts.append(name)
        fixed += profile.name_tokens
    return Weight(tuple(text for text in texts if text), fixed)


def _frame_tokens(role: str, profile: Profile) -> int:
    if role in _RESULT_ROLES:
        return call_rule(profile).result_tokens
    return profile.message_tokens + (profile.assistant_tokens if role == "assistant" else 0)


class Company(NamedTuple):
    """What a message costs in company: a system message that texts are joined to, a result among several.

    A system message has one weight, of the joint; a result has three, by its place: in between, first, last.
    """

    weights: tuple[Weight, ...]


def weigh_company(message: Mapping[str, Any], profile: Profile) -> Company | None:
    """What joining costs at a system message's end, or all that a result costs among several.

    White space at a system message's end is cut for gpt-5 (3 records of one prompt, 2026-05) and kept for gpt-4o
    (2 records, 2026-02).

    Returns:
        None for messages that cost the same in company.
    """
    role = message["role"]
    if role in PINNED_ROLES:
        tail = content_text(message.get("content"))[-_TAIL_CHARS:]
        joined = (tail.rstrip() if profile.family is Family.GPT_5 else tail) + PARAGRAPH
        return Company((Weight((joined,), 0, (tail,)),))
    if role not in _RESULT_ROLES:
        return None
    together = weigh_together(content_text(message.get("content")), profile)
    if together is None:
        return None
    fixed = weigh_content(message.get("content"), profile.images).fixed_tokens
    return Company(tuple(Weight(texts, fixed, less) for texts, less in together))


def weigh_placed(message: Mapping[str, Any], profile: Profile, place: int | None) -> Weight:
    """A message's weight where it stands.

    Args:
        message: parsed.
        profile: of the model.
        place: among results of one turn, as an index into `Company.weights`; None for any other message.
    """
    company = weigh_company(message, profile) if place is not None else None
    return company.weights[place or 0] if company else weigh_message(message, profile)
