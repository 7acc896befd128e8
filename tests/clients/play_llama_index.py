"""Plays the conversation with LlamaIndex, whose history goes through its own JSON between turns."""

from __future__ import annotations

from typing import Any

from conversation import KEY, MODEL, SYSTEM, TOOLS, TURNS, base_url, result_of
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.tools import FunctionTool, ToolMetadata
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel


class Weather(BaseModel):
    city: str
    days: float = 1
    unit: str = ""


class Nothing(BaseModel):
    pass


SCHEMAS: dict[str, type[BaseModel]] = {"get_weather": Weather, "list_notes": Nothing}


def main() -> None:
    model = OpenAI(model=MODEL, api_base=base_url(), api_key=KEY, max_retries=0)
    tools = [
        FunctionTool(
            lambda **_: "",
            metadata=ToolMetadata(name=tool["name"], description=tool["description"], fn_schema=SCHEMAS[tool["name"]]),
        )
        for tool in TOOLS
    ]
    history = [ChatMessage(role=MessageRole.SYSTEM, content=SYSTEM)]
    for turn in TURNS:
        blocks: list[Any] = [TextBlock(text=turn["text"])]
        if "image" in turn:
            blocks.append(ImageBlock(url=turn["image"]))
        history.append(ChatMessage(role=MessageRole.USER, blocks=blocks))
        while True:
            response = model.chat_with_tools(tools, chat_history=history, allow_parallel_tool_calls=True)
            history.append(response.message)
            calls = model.get_tool_calls_from_response(response, error_on_no_tool_call=False)
            for call in calls:
                result = result_of(call.tool_name, call.tool_kwargs)
                kwargs = {"tool_call_id": call.tool_id, "name": call.tool_name}
                history.append(ChatMessage(role=MessageRole.TOOL, content=result, additional_kwargs=kwargs))
            if not calls:
                break
        history = [ChatMessage.model_validate_json(message.model_dump_json()) for message in history]


main()
