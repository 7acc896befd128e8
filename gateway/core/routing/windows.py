"""Does an upstream refuse a prompt because its model's window is too small, and how large is that window?

Vendors say it in some forty wordings, mostly with numbers. A message counts only where it begins with one of them: text
that an error quotes from a request proves nothing. An answer that alone is allowed too much (`max_tokens` above what a
model may generate) is another matter, and so are limits per minute, whatever their status.

The wordings were collected from vendors' sources and from reports of their users (2023 to 2026);
tests/core/test_windows.py has each with its source.

Invariants, each with a test of its own:
  1. A message that only quotes such a wording is not one.
  2. Numbers are what was said, or None; a window that no model has is not said.
"""

from __future__ import annotations

import re

import msgspec

from gateway.core.routing.content_filters import is_filtered
from gateway.core.routing.error_texts import ErrorText, read_error

_STATUSES = frozenset({400, 413, 422, 500})
"""Ollama says 500 of it, TGI 422, some gateways 413; 429 is a limit of another kind."""
_CODES = frozenset(
    {
        *("context_length_exceeded", "context_window_exceeded", "contextwindowexceedederror"),
        *("exceed_context_size_error", "model_context_window_exceeded", "model_max_prompt_tokens_exceeded"),
    }
)
_RATE_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error", "tokens", "insufficient_quota"})
_MAX_TOKENS = 2**31 - 1
_MIN_WINDOW_TOKENS, _MAX_WINDOW_TOKENS = 64, 100_000_000
"""No model's window is smaller or larger: what says so is not believed, since it would be remembered."""


class Exceeded(msgspec.Struct, frozen=True):
    """A refusal for want of room; each number only if it was said.

    Attributes:
        window_tokens: what prompt and answer may take together, or the prompt alone (`is_prompt_limit`).
        prompt_tokens: what the upstream counted; some stop counting at the first token too many.
        completion_tokens: what was asked for the answer.
        is_prompt_limit: the window is the prompt's own, whatever the answer may take.
    """

    window_tokens: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    is_prompt_limit: bool = False


def read_exceeded(status: int, body: bytes) -> Exceeded | None:
    """What an upstream's refusal says of its model's window; None if it is another refusal.

    Args:
        status: of the answer.
        body: of the answer, not compressed.
    """
    if status not in _STATUSES:
        return None
    error = read_error(body)
    if error.codes & _RATE_CODES or is_filtered(status, body):
        return None
    for head in error.heads:
        if found := _read(head):
            return _completed(found, error)
    return _completed(Exceeded(), error) if error.codes & _CODES else None


def _completed(found: Exceeded, error: ErrorText) -> Exceeded:
    """With what llama.cpp says beside its message."""
    window, prompt = error.numbers.get("n_ctx"), error.numbers.get("n_prompt_tokens")
    return msgspec.structs.replace(
        found,
        window_tokens=found.window_tokens or _window(window),
        prompt_tokens=found.prompt_tokens or _bounded(prompt),
    )


def _window(value: int | None) -> int | None:
    return value if value is not None and _MIN_WINDOW_TOKENS <= value <= _MAX_WINDOW_TOKENS else None


def _bounded(value: int | None) -> int | None:
    return value if value is not None and 0 < value <= _MAX_TOKENS else None


def _read(head: str) -> Exceeded | None:
    for pattern, is_prompt_limit in _WORDINGS:
        found = pattern.match(head)
        if found is not None:
            said = {name: _number(text) for name, text in found.groupdict().items()}
            for detail in _DETAILS:
                if more := detail.search(head, found.end()):
                    said |= {name: _number(text) for name, text in more.groupdict().items() if not said.get(name)}
            return _exceeded(said, is_prompt_limit)
    return None


def _exceeded(said: dict[str, int | None], is_prompt_limit: bool) -> Exceeded:
    window, prompt, completion = said.get("window"), said.get("prompt"), said.get("completion")
    total, over = said.get("total"), said.get("over")
    if total is not None and completion is not None and total > completion:
        prompt = total - completion  # with functions and other parts that are said one by one
    if prompt is None and completion is None:
        prompt = total
    if prompt is None and window is not None and over is not None:
        prompt = window + over
    return Exceeded(_window(window), _bounded(prompt), _bounded(completion), is_prompt_limit)


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    digits = text.replace(",", "").partition(".")[0]
    return int(digits) if len(digits) <= 10 else None


def _wording(text: str) -> re.Pattern[str]:
    """`{window}` and the like stand for numbers."""
    named = re.sub(r"\{([a-z]+)\}", r"(?P<\1>\\d[\\d,]*(?:\\.\\d+)?)", text)
    return re.compile(named, re.IGNORECASE)


_MODEL = r"(?:this|the) (?:model|endpoint)(?:'s)?"
_WORDINGS = tuple(
    (_wording(text), is_prompt_limit)
    for text, is_prompt_limit in (
        # OpenAI, Azure, DeepSeek, vLLM, OpenRouter, Mistral behind vLLM
        (_MODEL + r" maximum context length is (?:only )?{window} tokens", False),
        # vLLM: what is left for the answer
        (
            r"'?max_(?:completion_)?tokens'?(?: or 'max_completion_tokens')? is too large: {completion}\. "
            + _MODEL
            + r" maximum context length is {window} tokens and your request has {prompt} input tokens",
            False,
        ),
        # vLLM, newer
        (
            r"you passed {prompt} input (?:tokens|characters) and requested {completion} output tokens\. however, "
            r"the model's context length is only {window} tokens",
            False,
        ),
        (r"the (?:decoder |encoder )?prompt \((?:total )?length {prompt}\) is longer than the maximum model length of "
         r"{window}", False),
        # OpenAI
        (r"input tokens exceed the configured limit of {window} tokens", True),
        (r"your input exceeds the context window of this model", False),
        (r"invalid 'input(?:\[\d+\])?': maximum (?:context|input) length is {window} tokens", True),
        # Anthropic
        (r"prompt is too long: {prompt} tokens > {window} maximum", False),
        (r"input length and max_tokens exceed context limit: {prompt} \+ {completion} > {window}", False),
        # Gemini, Vertex
        (r"the input token count (?:\({prompt}\) )?exceeds the maximum number of tokens allowed \({window}\)", True),
        (r"unable to submit request because the input token count is {prompt} but model only supports up to {window}",
         True),
        # Mistral
        (r"prompt contains {prompt} tokens.{0,200}?too large for model with {window} maximum context length", False),
        # llama.cpp, llama-cpp-python
        (r"(?:the )?request \({prompt} tokens\) exceeds the available context size \({window} tokens\)", False),
        (r"(?:the )?request exceeds the available context size", False),
        (r"requested tokens \({prompt}\) exceed context window of {window}", False),
        (r"requested tokens exceed context window of {window}", False),
        # Ollama
        (r"prompt too long; exceeded (?:max )?context length by {over} tokens", False),
        (r"the input length exceeds the context length", False),
        # TGI, TEI, Hugging Face, Together
        (r"inputs tokens \+ max_new_tokens must be <= {window}", False),
        (r"inputs must have less than {window} tokens\. given: {prompt}", True),
        # SGLang, DeepInfra, Together
        (r"requested token count exceeds the model's maximum context length of {window} tokens", False),
        (r"the input \({prompt} tokens\) is longer than the model's context length \({window} tokens\)", False),
        (r"input length \(?{prompt}(?: tokens)?\)? exceeds (?:the )?maximum allowed (?:input )?length(?: of)? "
         r"\(?{window}", True),
        (r"input length \(?{prompt}(?: tokens)?\)? exceeds (?:the )?model's maximum context length(?: of)? "
         r"\(?{window}", False),
        # Groq, Cerebras
        (r"please reduce the length of the messages or completion", False),
        # Fireworks
        (r"the prompt is too long: {prompt}, model maximum context length: {window}", False),
        # xAI
        (_MODEL + r" maximum prompt length is {window} but (?:the )?request contains {prompt} tokens", True),
        # Cohere
        (r"too many tokens: total number of tokens \(prompt and prediction\) cannot exceed {window} - received {total}",
         False),
        (r"too many tokens: total number of tokens in the request cannot exceed {window} tokens", False),
        (r"too many tokens: size limit exceeded by {over} tokens", True),
        # Bedrock
        (r"input is too long for requested model", False),
        (r"too many input tokens\. max input tokens: {window}, request input token count: {prompt}", True),
        # GitHub Copilot
        (r"prompt token count of {prompt} exceeds the limit of {window}", True),
        # Kimi
        (r"your request exceeded model token limit: {window}(?: \(requested: {total}\))?", False),
        # MiniMax
        (r"context window exceeds limit", False),
        # DashScope
        (r"range of input length should be \[1, {window}\]", True),
        # LM Studio
        (r"trying to keep the first {prompt} tokens when context the overflows\. however, the model is loaded with "
         r"context length of only {window} tokens", False),
        (r"the number of tokens to keep from the initial prompt is greater than the context length", False),
        # Perplexity
        (r"the total length of all messages is too long", False),
        # TensorRT-LLM
        (r"the sum of prompt length \({prompt}\), query length \(\d+\) should not exceed max_num_tokens \({window}\)",
         True),
        (r"prompt length \({prompt}\) exceeds maximum input length \({window}\)", True),
        (r"prompt length \({prompt}\) exceeds maximum sequence length \({window}\)", False),
        # Replicate and others
        (r"your input is too long\. max input length is {window} tokens, but you supplied {prompt} tokens", True),
        (r"prompt has {prompt} tokens, but the configured context size is {window} tokens", False),
        (r"prompt is {prompt} tokens but the model context window is {window} tokens", False),
        (r"prompt exceeds maximum context length", False),
        # another gateway of this kind
        (r"this request needs {total} tokens \({prompt} in the prompt, {completion} for the completion\), and the "
         r"token budget's max_total is {window}\.", False),
    )
)  # fmt: skip
_DETAILS = tuple(
    _wording(text)
    for text in (
        r"you requested (?:about )?(?:a total of )?{total} tokens",
        r"you requested a total of {total} tokens: {prompt} tokens from the input messages and {completion} tokens",
        r"your messages resulted in {prompt} tokens",
        r"your request has {prompt} input tokens",
        r"\({prompt} in the messages",
        r"\({prompt} in your prompt[;,] {completion} for the completion",
        r"{completion} in the (?:completion|output)",
        r"you requested {completion} output tokens and your prompt contains (?:at least )?{prompt} input tokens",
        r"the limit for this model is {window} tokens",
        r"given: {prompt} inputs tokens and {completion} max_new_tokens",
    )
)
