"""What an upstream says it billed, wherever vendors put it.

Chat and legacy completions say `prompt_tokens` / `completion_tokens`; Responses says `input_tokens` /
`output_tokens` inside its `response` object; Groq also writes `x_groq.usage`. Cached prompt tokens stand in
`prompt_tokens_details` or `input_tokens_details`. Unknown or odd fields are ignored, never an error.
Source: recorded answers of these providers (2025 to 2026).
"""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the upstream billed them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """A `usage` object in any vendor's names."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None

    def normalised(self) -> Usage | None:
        """The one form that the rest of the gateway knows, or None if there are no numbers."""
        prompt = self.prompt_tokens if self.prompt_tokens is not None else self.input_tokens
        if prompt is None:
            return None
        completion = self.completion_tokens if self.completion_tokens is not None else self.output_tokens
        details = self.prompt_tokens_details or self.input_tokens_details
        return Usage(max(prompt, 0), max(completion or 0, 0), max((details and details.cached_tokens) or 0, 0))


class _Groq(msgspec.Struct):
    usage: WireUsage | None = None


class _Answer(msgspec.Struct):
    usage: WireUsage | None = None
    x_groq: _Groq | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


def usage_of_answer(body: bytes) -> Usage | None:
    """The usage of a whole JSON answer, or None if it holds none that can be read."""
    try:
        answer = _decode_answer(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    found = answer.usage or (answer.x_groq and answer.x_groq.usage)
    return found.normalised() if found else None
