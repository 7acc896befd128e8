"""What an upstream says when a prompt does not fit its model, in its vendor's words, and how large the window is.

Read are statuses that refuse a request, and of their bodies the error's own message. A limit of tokens a minute, or one
of an answer alone, is no window. Where a vendor says what a prompt may take without its answer, that is taken for the
window: too small is safe.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

_STATUSES = frozenset({400, 413, 422})
_MAX_MESSAGE_CHARS = 2000
_MIN_TOKENS, _MAX_TOKENS = 64, 100_000_000
_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_WORDINGS = tuple(
    re.compile(wording, re.IGNORECASE | re.DOTALL)
    for wording in (
        r"maximum context length (?:is|of) ([\d,]+)",  # OpenAI, Azure, vLLM, DeepSeek, OpenRouter, SGLang
        r"input tokens exceed the configured limit of ([\d,]+)",  # OpenAI's newer models
        r"prompt is too long: [\d,]+ tokens > ([\d,]+) maximum",  # Anthropic
        r"exceed context limit: [\d,]+ \+ [\d,]+ > ([\d,]+)",  # Anthropic, with max_tokens
        r"exceeds the maximum number of tokens allowed \(?([\d,]+)",  # Gemini
        r"too large for model with ([\d,]+) maximum context length",  # Mistral
        r"longer than the maximum model length of ([\d,]+)",  # vLLM, of a prompt alone
        r"exceeds the available context size \(([\d,]+) tokens\)",  # llama.cpp
        r"`inputs` tokens \+ `max_new_tokens` must be <= ([\d,]+)",  # TGI, Together
        r"longer than the model's context length \(([\d,]+) tokens\)",  # SGLang
        r"maximum prompt length is ([\d,]+)",  # xAI
        r"too many tokens: .{0,80}cannot exceed ([\d,]+) tokens",  # Cohere
        r"model maximum context length: ([\d,]+)",  # Fireworks
    )
)
_WITHOUT_NUMBER = re.compile(
    r"exceeds the available context size|input is too long for requested model|input length exceeds the context length"
    r"|reduce the length of the messages or completion",
    re.IGNORECASE,
)
"""llama.cpp's older versions, Bedrock, Ollama, Groq."""


class Exceeded(NamedTuple):
    """A prompt did not fit; `window_tokens` is None where the upstream does not say into what."""

    window_tokens: int | None


def read_exceeded(status: int, body: bytes) -> Exceeded | None:
    """Whether an answer says that the prompt does not fit, and into what; None for every other answer."""
    if status not in _STATUSES:
        return None
    message, codes, fields = _error_of(body)
    for wording in _WORDINGS:
        if found := wording.search(message):
            return Exceeded(_tokens(found[1]))
    if codes & _CODES or _WITHOUT_NUMBER.search(message):
        return Exceeded(_tokens(str(fields.get("n_ctx", ""))))
    return None


def _error_of(body: bytes) -> tuple[str, set[str], dict[str, Any]]:
    """The error's message, its codes, and its other fields; of what is no JSON, the text."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body[:_MAX_MESSAGE_CHARS].decode("utf-8", "replace"), set(), {}
    if isinstance(found, list) and found:
        found = found[0]
    error = found.get("error", found) if isinstance(found, dict) else {}
    if isinstance(error, str):
        return error[:_MAX_MESSAGE_CHARS], set(), {}
    if not isinstance(error, dict):
        return "", set(), {}
    message = next((error[key] for key in ("message", "detail", "error") if isinstance(error.get(key), str)), "")
    codes = {error[key] for key in ("code", "type") if isinstance(error.get(key), str)}
    return message[:_MAX_MESSAGE_CHARS], codes, error


def _tokens(digits: str) -> int | None:
    number = digits.replace(",", "")
    tokens = int(number) if number.isdigit() and len(number) < 10 else 0
    return tokens if _MIN_TOKENS <= tokens <= _MAX_TOKENS else None
