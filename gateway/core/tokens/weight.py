"""What of a request costs prompt tokens, as texts to be tokenised plus a fixed number.

The seam between reading a request and tokenising it: rules say *what* is billed, a tokenizer says how much a text is.
The rules here are the ones for messages and plain texts, confirmed on recorded usage; tools and schemas are counted
as their JSON, images at a stated flat rate, until their own rules stand here.
Source: OpenAI's cookbook "How to count tokens with tiktoken" (2024) and overheads fitted to recorded usage (2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.core.tokens.profiles import Profile

IMAGE_TOKENS = 765
"""A 1024 x 1024 picture by the tile rule of gpt-4o; sizes are not read yet."""
AUDIO_TOKENS_PER_BASE64_CHAR = 0.001
FILE_TOKENS = 1000
TOOL_CALL_TOKENS = 4
"""Framing of one call beside its name and arguments."""
_BILLED_ITEM_FIELDS = (
    "role",
    "content",
    "text",
    "name",
    "arguments",
    "output",
    "summary",
    "input",
    "refusal",
)


class Weight(NamedTuple):
    """Tokens = fixed_tokens + the tokens of each text."""

    texts: tuple[str, ...]
    fixed_tokens: int


def weigh_message(message: Mapping[str, Any], profile: Profile) -> Weight:
    """A chat message's weight; the shapes were checked when it was parsed."""
    role = message["role"]
    texts = [role]
    fixed = profile.message_tokens + (profile.assistant_tokens if role == "assistant" else 0)
    for key in ("content", "refusal", "reasoning_content"):
        part_texts, part_fixed = _weigh_content(message.get(key))
        texts += part_texts
        fixed += part_fixed
    if isinstance(name := message.get("name"), str):
        texts.append(name)
        fixed += profile.name_tokens
    calls = list(message.get("tool_calls") or ())
    if legacy := message.get("function_call"):
        calls.append({"function": legacy})
    for call in calls:
        fixed += TOOL_CALL_TOKENS
        texts += _call_texts(call)
    return Weight(tuple(text for text in texts if text), fixed)


def _call_texts(call: Mapping[str, Any]) -> list[str]:
    function = call.get("function") or call.get("custom")
    if not isinstance(function, Mapping):
        return [_as_json(call)]
    return [value for key in ("name", "arguments", "input") if isinstance(value := function.get(key), str)]


def _weigh_content(content: Any) -> tuple[list[str], int]:
    if content is None:
        return [], 0
    if isinstance(content, str):
        return [content], 0
    if not isinstance(content, list):
        return [_as_json(content)], 0
    texts: list[str] = []
    fixed = 0
    for part in content:
        part_text, part_fixed = _weigh_part(part)
        texts.append(part_text)
        fixed += part_fixed
    return texts, fixed


def _weigh_part(part: Any) -> tuple[str, int]:
    if not isinstance(part, Mapping):
        return _as_json(part), 0
    kind = part.get("type", "")
    if kind in ("image_url", "input_image", "image"):
        return "", IMAGE_TOKENS
    if kind == "input_audio":
        audio = part.get("input_audio")
        data = audio.get("data") if isinstance(audio, Mapping) else None
        return "", int(len(data) * AUDIO_TOKENS_PER_BASE64_CHAR) + 1 if isinstance(data, str) else FILE_TOKENS
    if kind in ("file", "input_file"):
        return "", FILE_TOKENS
    for key in ("text", "refusal", "thinking"):
        if isinstance(text := part.get(key), str):
            return text, 0
    return _as_json(part), 0


def _as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def weigh_value(value: Any) -> Weight:
    """The weight of a prompt, an embeddings input or a Responses input: strings, token ids, items, or lists of them."""
    texts: list[str] = []
    fixed = _gather(value, texts)
    return Weight(tuple(texts), fixed)


def _gather(value: Any, texts: list[str]) -> int:
    if isinstance(value, str):
        texts.append(value)
        return 0
    if value is None or isinstance(value, bool | float):
        return 0
    if isinstance(value, int):
        return 1  # a token id
    if isinstance(value, Mapping):
        return _gather_item(value, texts)
    return sum(_gather(item, texts) for item in value)


def _gather_item(item: Mapping[str, Any], texts: list[str]) -> int:
    kind = str(item.get("type", "message"))
    if "image" in kind or "file" in kind:
        _, fixed = _weigh_part(item)
        return fixed
    frame = 3 if "role" in item or kind.endswith(("_call", "_output")) else 0
    return frame + sum(_gather(item[key], texts) for key in _BILLED_ITEM_FIELDS if key in item)
