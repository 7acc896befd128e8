"""What an upstream says it billed, wherever vendors put it.

Chat and legacy completions say `prompt_tokens` / `completion_tokens`; Responses says `input_tokens` /
`output_tokens` inside its `response` object; Groq also writes `x_groq.usage`, Moonshot `choices[0].usage`. Cached
prompt tokens stand in `prompt_tokens_details`, `input_tokens_details` or, in realtime events, `input_token_details`.
Anthropic's `input_tokens` leaves out what was read from its cache or written to it, which stands beside it and is part
of the prompt.
Source: recorded answers of these providers (2025 to 2026).

Invariants, each with a test of its own:
  1. Unknown or odd fields are ignored, never an error.
  2. Counts are never negative.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the upstream billed them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")


def read_usage(wire: object) -> Usage | None:
    """The one form that the rest of the gateway knows.

    Args:
        wire: a decoded `usage` value in any vendor's names, or anything else.

    Returns:
        None where there is no count of prompt tokens.
    """
    if not isinstance(wire, dict):
        return None
    prompt = _count(wire, "prompt_tokens", "input_tokens")
    if prompt is None:
        return None
    details = next((wire[key] for key in _DETAILS if wire.get(key)), None)
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else None
    if "prompt_tokens" not in wire and cached is None:
        cached = _count(wire, "cache_read_input_tokens")
        prompt += (cached or 0) + (_count(wire, "cache_creation_input_tokens") or 0)
    return Usage(prompt, _count(wire, "completion_tokens", "output_tokens") or 0, cached or 0)


def read_usage_below(wire: object) -> Usage | None:
    """`read_usage` of the `usage` field of a decoded object, or None for anything else."""
    return read_usage(wire.get("usage")) if isinstance(wire, dict) else None


def _count(wire: dict[str, Any], *names: str) -> int | None:
    """The first of these fields that holds a number; some gateways write whole numbers as 12.0."""
    for name in names:
        value = wire.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return max(int(value), 0)
    return None


class _Details(msgspec.Struct):
    cached_tokens: int = 0


class _Billed(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _UsualAnswer(msgspec.Struct):
    """What OpenAI writes; read without a detour through dictionaries."""

    usage: _Billed


class _Answer(msgspec.Struct):
    usage: Any = None
    x_groq: Any = None


_decode_usual = msgspec.json.Decoder(_UsualAnswer).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def usage_of_answer(body: bytes) -> Usage | None:
    """The usage of a whole JSON answer, or None if it holds none that can be read."""
    try:
        billed = _decode_usual(body).usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _odd_usage(body)
    cached = billed.prompt_tokens_details.cached_tokens if billed.prompt_tokens_details else 0
    return Usage(max(billed.prompt_tokens, 0), max(billed.completion_tokens, 0), max(cached, 0))


def _odd_usage(body: bytes) -> Usage | None:
    try:
        answer = _decode_answer(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return read_usage(answer.usage) or read_usage_below(answer.x_groq)
