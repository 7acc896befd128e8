"""How others count the same requests: the recipe that OpenAI publishes, and litellm.

The recipe is the cookbook's "How to count tokens with tiktoken" (2024): messages with 3 tokens each and tools by a
sum over their properties. litellm is asked in its own environment, in one batch. Responses bodies are put to both as
the chat that they would be.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.eval_tokens_records import Record, has_remote_image

_SCRIPT = Path(__file__).with_name("eval_tokens_peers.py")
_TIMEOUT_S = 600
CountText = Callable[[str], int]


def as_chat(record: Record) -> dict[str, Any]:
    """A record's request as a chat, or as texts."""
    request = record["request"]
    model = record["model"] or request.get("model") or "unknown"
    if record["endpoint"] in ("completions", "embeddings"):
        return {"model": model, "text": _joined(request.get("prompt", request.get("input")))}
    tools = request.get("tools") or [{"type": "function", "function": each} for each in request.get("functions") or ()]
    if record["endpoint"] != "chat/completions":
        tools = [{"type": "function", "function": tool} for tool in tools if tool.get("type") == "function"]
    messages = request["messages"] if "messages" in request else _messages_of(request)
    choice = request.get("tool_choice")
    return {
        "model": model,
        "messages": messages,
        "tools": tools or None,
        "tool_choice": choice if isinstance(choice, str) or (choice or {}).get("function") else None,
        "is_remote": has_remote_image(record),
    }


def _joined(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [
            each if isinstance(each, str) else " x" * (len(each) if isinstance(each, list) else 1) for each in value
        ]
    return str(value)


def _messages_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The chat that a Responses body stands for."""
    messages: list[dict[str, Any]] = []
    if request.get("instructions"):
        messages.append({"role": "system", "content": request["instructions"]})
    given = request.get("input") or []
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        if item.get("type") == "function_call":
            function = {"name": item["name"], "arguments": item.get("arguments") or ""}
            call = {"id": item.get("call_id", ""), "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif item.get("type") == "function_call_output":
            output = item.get("output")
            text = output if isinstance(output, str) else json.dumps(output)
            messages.append({"role": "tool", "tool_call_id": item.get("call_id", ""), "content": text})
        elif "role" in item:
            messages.append({"role": item["role"], "content": _parts_of(item.get("content"))})
    return messages


def _parts_of(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    parts = []
    for part in content:
        if part.get("type") == "input_image":
            parts.append({"type": "image_url", "image_url": {"url": part.get("image_url") or ""}})
        else:
            parts.append({"type": "text", "text": part.get("text") or part.get("refusal") or ""})
    return parts


def by_recipe(request: dict[str, Any], count: CountText) -> int:
    """The published recipe, by a family's tokenizer."""
    if "text" in request:
        texts = request["text"]
        return count(texts) if isinstance(texts, str) else sum(map(count, texts))
    total = 3
    for message in request["messages"]:
        total += 3 + sum(count(_text(value)) for value in message.values()) + ("name" in message)
    tools = request["tools"] or []
    return total + sum(_tool_by_recipe(tool.get("function") or {}, count) for tool in tools) + (12 if tools else 0)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "".join(str(part.get("text") or "") if isinstance(part, dict) else str(part) for part in value)
    return value if isinstance(value, str) else ""


def _tool_by_recipe(function: dict[str, Any], count: CountText) -> int:
    description = str(function.get("description") or "").rstrip(".")
    total = 7 + count(f"{function.get('name')}:{description}")
    properties = (function.get("parameters") or {}).get("properties") or {}
    total += 3 if properties else 0
    for key, field in properties.items():
        options = field.get("enum") or []
        total += 3 + (-3 if options else 0) + sum(3 + count(str(option)) for option in options)
        total += count(f"{key}:{field.get('type')}:{str(field.get('description') or '').rstrip('.')}")
    return total


def by_litellm(python: Path, requests: Sequence[dict[str, Any]]) -> tuple[str, list[int | None]]:
    """litellm's version and its counts.

    Raises:
        RuntimeError: its environment cannot run it; the end of what it said is the message.
    """
    done = subprocess.run(
        [str(python), str(_SCRIPT)],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-1000:])
    answer = json.loads(done.stdout)
    return answer["version"], answer["counts"]
