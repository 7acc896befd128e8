"""Chat templates that refuse, as rules: what the Jinja templates and validators of open models raise for.

Each takes a history and raises `TemplateError` with the template's own words, or returns. They look at roles, calls and
results only, as the templates do before they render anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Message = dict[str, Any]
Template = Callable[[Sequence[Message]], None]


class TemplateError(ValueError):
    """The template does not render this history."""


def _after_system(messages: Sequence[Message]) -> Sequence[Message]:
    return messages[1:] if messages and messages[0]["role"] == "system" else messages


def _check_alternation(roles: Sequence[str], complaint: str) -> None:
    """User first, then assistant and user by turns."""
    for place, role in enumerate(roles):
        if (role == "user") != (place % 2 == 0):
            raise TemplateError(complaint)


def mistral(messages: Sequence[Message]) -> None:
    """Mistral 7B v0.3 and later: one system message, first; alternation beside calls and results; calls answered."""
    rest = _after_system(messages)
    for message in rest:
        if message["role"] not in ("user", "assistant", "tool"):
            raise TemplateError("Only user and assistant roles are supported, with the exception of an initial system")
    turns = [message["role"] for message in rest if message["role"] != "tool" and not message.get("tool_calls")]
    _check_alternation(turns, "After the optional system message, conversation roles must alternate user/assistant")
    waiting: list[str] = []
    before = ""
    for message in rest:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                raise TemplateError("Unexpected tool call id in tool results")
            waiting.remove(message["tool_call_id"])
        elif waiting:
            raise TemplateError("Not the same number of function calls and responses")
        elif before == "tool" and message["role"] == "user":
            raise TemplateError("Unexpected role 'user' after role 'tool'")
        waiting += [call["id"] for call in message.get("tool_calls") or ()]
        before = message["role"]
    if waiting:
        raise TemplateError("Not the same number of function calls and responses")


def llama_2(messages: Sequence[Message]) -> None:
    """Llama 2: one system message, first, joined to the first user message; strict alternation and nothing else."""
    roles = [message["role"] for message in _after_system(messages)]
    _check_alternation(roles, "Conversation roles must alternate user/assistant/user/assistant/...")
    if any(role not in ("user", "assistant") for role in roles):
        raise TemplateError("Only user and assistant roles are supported!")
    if not roles:
        raise TemplateError("list index out of range")


def gemma_3(messages: Sequence[Message]) -> None:
    """Gemma 3: as Llama 2; texts and images only."""
    llama_2(messages)
    for message in messages:
        if not isinstance(message.get("content"), str | list):
            raise TemplateError("Invalid content type")


def qwen_3(messages: Sequence[Message]) -> None:
    """Qwen 3.5: the system message first; somewhere a question."""
    if any(message["role"] == "system" for message in messages[1:]):
        raise TemplateError("System message must be at the beginning.")
    if not any(message["role"] == "user" for message in messages):
        raise TemplateError("No user query found in messages.")


TEMPLATES: dict[str, Template] = {each.__name__: each for each in (mistral, llama_2, gemma_3, qwen_3)}


def is_taken(template: Template, messages: Sequence[Message]) -> bool:
    """Whether a template renders this history."""
    try:
        template(messages)
    except TemplateError:
        return False
    return True
