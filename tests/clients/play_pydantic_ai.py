"""Plays the conversation with pydantic-ai, whose history goes through its own JSON between turns."""

from __future__ import annotations

from typing import Any

from conversation import KEY, MODEL, SYSTEM, TURNS, base_url, result_of
from pydantic_ai import Agent, ImageUrl
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


def get_weather(city: str, days: float = 1, unit: str = "") -> str:
    """The weather of the next days."""
    return result_of("get_weather", {"city": city})


def list_notes() -> str:
    """All notes."""
    return result_of("list_notes", {})


def main() -> None:
    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=base_url(), api_key=KEY))
    agent = Agent(model, system_prompt=SYSTEM, tools=[get_weather, list_notes])
    history: Any = None
    for number, turn in enumerate(TURNS):
        said: Any = [turn["text"], ImageUrl(turn["image"])] if "image" in turn else turn["text"]
        if number % 2:
            with agent.run_stream_sync(said, message_history=history) as run:
                run.get_output()
                history = run.all_messages()
        else:
            history = agent.run_sync(said, message_history=history).all_messages()
        history = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(history))


main()
