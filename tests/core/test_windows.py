"""Refusals of prompts that are too long, in the words of those who write them; and what only looks like one.

OpenAI's are those of its documentation and of recorded answers; the others are from vendors' sources and error reports,
as remembered in 2026-01, none of them checked against a live server.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.routing.windows import Exceeded, read_exceeded
from gateway.shell.routing.windows import MAX_WINDOWS, LearnedWindows


def openai(message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": "messages", "code": code}}


TOO_LONG: dict[str, tuple[Any, int | None]] = {
    "OpenAI": (
        openai(
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8000 in the"
            " messages, 1000 in the completion). Please reduce the length of the messages or completion.",
            "context_length_exceeded",
        ),
        8192,
    ),
    "OpenAI, newer": (
        openai(
            "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.",
            "context_length_exceeded",
        ),
        272_000,
    ),
    "vLLM": (
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
            "type": "BadRequestError",
            "code": 400,
        },
        4096,
    ),
    "vLLM, of a prompt": (
        openai("The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that"),
        4096,
    ),
    "Anthropic": (
        {"type": "error", "error": {"type": "x", "message": "prompt is too long: 215000 tokens > 200000 maximum"}},
        200_000,
    ),
    "Anthropic, with its answer": (
        openai("input length and `max_tokens` exceed context limit: 190000 + 21333 > 200000, decrease input length"),
        200_000,
    ),
    "Gemini": (
        [openai("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).")],
        1_048_576,
    ),
    "Mistral": (
        {
            "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context"
            " length",
            "type": "invalid_request_error",
        },
        32_768,
    ),
    "llama.cpp": (
        {
            "error": {
                "code": 400,
                "message": "request (5000 tokens) exceeds the available context size (4096 tokens)",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 5000,
                "n_ctx": 4096,
            }
        },
        4096,
    ),
    "llama.cpp, by its field": (
        {"error": {"message": "the request exceeds the available context size", "n_ctx": 2048}},
        2048,
    ),
    "TGI": (
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 and 20",
            "error_type": "validation",
        },
        4096,
    ),
    "SGLang": (openai("The input (5000 tokens) is longer than the model's context length (4096 tokens)."), 4096),
    "xAI": (
        {
            "code": "Client specified an invalid argument",
            "error": "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
        },
        131_072,
    ),
    "Cohere": (
        {"message": "too many tokens: total number of tokens in the request cannot exceed 4081 tokens"},
        4081,
    ),
    "Fireworks": (openai("The prompt is too long: 9000, model maximum context length: 8192"), 8192),
    "Bedrock": ({"message": "Input is too long for requested model."}, None),
    "Groq": (openai("Please reduce the length of the messages or completion.", "context_length_exceeded"), None),
    "plain text": (b"This model's maximum context length is 2,048 tokens.", 2048),
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_a_prompt_that_is_too_long_is_recognised(name: str) -> None:
    """With the window that is named, if one is."""
    said, window = TOO_LONG[name]
    body = said if isinstance(said, bytes) else json.dumps(said).encode()

    assert read_exceeded(400, body) == Exceeded(window)
    assert read_exceeded(200, body) is None
    assert read_exceeded(429, body) is None


OTHERS: list[Any] = [
    openai("max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you"),
    openai("Invalid value for 'messages[0].content': expected a string, got null."),
    openai("The response was filtered due to the prompt triggering our content management policy.", "content_filter"),
    openai("Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000."),
    {"error": {"message": 5}},
    {"error": None},
    "maximum context length is 8192",
    [],
    [[]],
    5,
    {"choices": [{"message": {"content": "This model's maximum context length is 8192 tokens"}}]},
]


@pytest.mark.parametrize("said", OTHERS)
def test_other_refusals_are_not(said: Any) -> None:
    assert read_exceeded(400, json.dumps(said).encode()) is None


@given(status=st.sampled_from([200, 400, 413, 422, 500]), body=st.binary(max_size=80))
def test_no_bytes_break_it(status: int, body: bytes) -> None:
    found = read_exceeded(status, body)

    assert found is None or status in (400, 413, 422)


def test_windows_are_bounded_and_only_shrink() -> None:
    """Whatever upstreams and clients make up."""
    windows = LearnedWindows()
    windows.learn("a", "m", 8000)
    windows.learn("a", "m", 9000)

    assert windows.window_of("a", "m") == 8000
    assert windows.window_of("b", "m") is None
    for number in range(2 * MAX_WINDOWS):
        windows.learn("a", str(number), 1000)
    assert len(list(windows.all())) == MAX_WINDOWS
