"""The conversation that the real clients play, as conversation.json has it; for interpreters of their own.

Nothing here imports the project: the drivers beside this file run where the client libraries are installed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CONVERSATION: dict[str, Any] = json.loads(Path(__file__).with_name("conversation.json").read_text("utf-8"))
MODEL: str = CONVERSATION["model"]
SYSTEM: str = CONVERSATION["system"]
TURNS: list[dict[str, str]] = CONVERSATION["turns"]
TOOLS: list[dict[str, Any]] = CONVERSATION["tools"]
KEY = "sk-real-clients"


def base_url() -> str:
    """Where to play it: the driver's first argument."""
    return sys.argv[1]


def named() -> dict[str, str]:
    """The user's name, as a field: the driver's second argument, where there is one."""
    return {"name": sys.argv[2]} if len(sys.argv) > 2 else {}


def content_of(turn: dict[str, str]) -> Any:
    """What the user says, as Chat Completions takes it."""
    if "image" not in turn:
        return turn["text"]
    return [{"type": "text", "text": turn["text"]}, {"type": "image_url", "image_url": {"url": turn["image"]}}]


def result_of(name: str, arguments: dict[str, Any]) -> str:
    """What a tool says, at some length."""
    result: str = CONVERSATION["results"][" ".join([name, *filter(None, [arguments.get("city")])])]
    more, times = CONVERSATION["details"]
    return result + more * times
