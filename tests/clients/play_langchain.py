"""Plays the conversation with LangChain, whose history goes through its own store between turns."""

from __future__ import annotations

from typing import Any

from conversation import KEY, MODEL, SYSTEM, TOOLS, TURNS, base_url, content_of, named, result_of
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage, messages_from_dict, messages_to_dict
from langchain_openai import ChatOpenAI


def main() -> None:
    model = ChatOpenAI(model=MODEL, base_url=base_url(), api_key=KEY, max_retries=0)
    bound = model.bind_tools([{"type": "function", "function": tool} for tool in TOOLS])
    history: list[Any] = [SystemMessage(SYSTEM)]
    for number, turn in enumerate(TURNS):
        history.append(HumanMessage(content_of(turn), **named()))
        while True:
            if number % 2:
                said: Any = None
                for chunk in bound.stream(history):
                    said = chunk if said is None else said + chunk
            else:
                said = bound.invoke(history)
            history.append(said)
            if not said.tool_calls:
                break
            for call in said.tool_calls:
                result = result_of(call["name"], call["args"])
                history.append(ToolMessage(result, tool_call_id=call["id"], name=call["name"]))
        if number != 1:
            history = messages_from_dict(messages_to_dict(history))


main()
