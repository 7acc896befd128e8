"""A fake OpenAI that says what it is told, in order, whoever asks: for clients that play a known conversation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.openai_rules import Choice, Json, text_of
from tests.fakes.openai_server import FakeOpenAI


@dataclass(kw_only=True)
class ScriptedOpenAI(FakeOpenAI):
    """`say_next` sets what is said: each answer has `text`, or `calls` of (id, name, arguments).

    Who asks for a summary gets one by `Rules`, and takes none of the answers.
    """

    _answers: Iterator[Json] = field(default_factory=lambda: iter(()), init=False)

    def say_next(self, answers: list[Json]) -> None:
        """From now on these; what was received before is forgotten."""
        self.requests.clear()
        self._answers = iter(answers)

    def plan_choices(self, body: Json, messages: list[Json], limit: int | None) -> list[Choice]:
        if "running brief" in text_of(messages[0].get("content")):
            return super().plan_choices(body, messages, limit)
        said = next(self._answers)
        calls: list[Any] = [tuple(call) for call in said.get("calls", ())]
        words = re.findall(r"\s*\S+(?:\s+$)?", said.get("text", ""))
        return [Choice(words, calls, "tool_calls" if calls else "stop")]
