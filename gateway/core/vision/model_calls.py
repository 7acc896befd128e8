"""A vision model on the wire, behind an OpenAI-compatible server: a picture of a region and a prompt, and the answer.

Confidence is what the server says of its own tokens: their mean probability. Where it says nothing, how far two
readings at two sizes agree may stand for it; nothing else does.
Source: platform.openai.com/docs/api-reference/chat (2026-01); vLLM's OpenAI-compatible server (2026-01).

Invariants, each with a test of its own:
  1. Any bytes are an answer or none; an answer's confidence is from 0 to 1, or None.
  2. What was cut off, at the limit of tokens or for repeating itself, is flagged, and a loop lowers the confidence by
     the share of the text that it took.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.core.context.terms import terms_of
from gateway.core.vision.document import Reading
from gateway.core.vision.grounding import plain_text


class _Token(msgspec.Struct):
    logprob: float | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Answer).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError)


def render_call(
    model: str, prompt: str, picture: bytes, max_tokens: int, options: Mapping[str, Any], *, asks_for_logprobs: bool
) -> bytes:
    """The body that asks for what stands on a picture.

    Args:
        model: as the server knows it.
        prompt: the model's own.
        picture: a PNG.
        max_tokens: of the answer.
        options: sent along; they may replace anything but the model and the messages.
        asks_for_logprobs: the server is not known to refuse that.
    """
    url = "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
    body: dict[str, Any] = {"temperature": 0, "max_tokens": max_tokens}
    if asks_for_logprobs:
        body["logprobs"] = True
    body |= options
    body |= {"model": model, "messages": [{"role": "user", "content": parts}], "stream": False}
    return msgspec.json.encode(body)


def read_answer(body: bytes) -> Reading | None:
    """What an answer says of the picture; None where it is none."""
    try:
        answer = _decode(body)
    except _UNREADABLE:
        return None
    if not answer.choices:
        return None
    choice = answer.choices[0]
    content = choice.message.content
    if content is None:
        return None
    written = content if isinstance(content, str) else "".join(part.text for part in content)
    has_ended = choice.finish_reason != "length"
    plain = plain_text(written, has_ended=has_ended)
    measured = _probability(choice.logprobs.content if choice.logprobs else None)
    confidence = None if measured is None else measured * plain.share
    is_cut = plain.share < 1 or not has_ended
    return Reading(plain.text, confidence, is_cut)


def _probability(tokens: Sequence[_Token] | None) -> float | None:
    """The mean of the tokens' probabilities; None where one has none that could be true."""
    values = [token.logprob for token in tokens or ()]
    known = [value for value in values if value is not None and not math.isnan(value) and value < 1e-3]
    if not values or len(known) < len(values):
        return None
    return sum(min(1.0, math.exp(value)) for value in known) / len(known)


def agreed(first: Reading, second: Reading) -> Reading:
    """The first of two readings, with how far both say the same as its confidence."""
    return replace(first, confidence=agreement(first.text, second.text))


def agreement(first: str, second: str) -> float:
    """The share of two texts' terms that both have, 0 to 1; two that have none are alike if they are the same."""
    ours, theirs = Counter(terms_of(first)), Counter(terms_of(second))
    total = ours.total() + theirs.total()
    if not total:
        return 1.0 if first.split() == second.split() else 0.0
    return 2 * (ours & theirs).total() / total
