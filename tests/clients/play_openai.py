"""Plays the conversation with openai's own client; the application writes its history in another of its ways each turn.

The ways are those that applications use: the answer's object itself, all its fields, those that are set, those that
are not null, and what the helper for streams has put together.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
from conversation import KEY, MODEL, SYSTEM, TOOLS, TURNS, base_url, content_of, named, result_of

WRITINGS: list[Callable[[Any], Any]] = [
    lambda said: said,
    lambda said: said.model_dump(),
    lambda said: said.to_dict(),
    lambda said: said.model_dump(exclude_none=True),
    lambda said: json.loads(said.model_dump_json()),
]


def main() -> None:
    client = openai.OpenAI(base_url=base_url(), api_key=KEY, max_retries=0)
    tools: Any = [{"type": "function", "function": tool} for tool in TOOLS]
    kept: list[Any] = [{"role": "system", "content": SYSTEM}]
    requests = 0

    def ask() -> Any:
        nonlocal requests
        write = WRITINGS[requests % len(WRITINGS)]
        messages = [message if isinstance(message, dict) else write(message) for message in kept]
        requests += 1
        asked: Any = {"model": MODEL, "messages": messages, "tools": tools}
        if requests % 3 == 0:
            with client.chat.completions.stream(**asked) as stream:
                return stream.get_final_completion().choices[0].message
        return client.chat.completions.create(**asked).choices[0].message

    for turn in TURNS:
        kept.append({"role": "user", "content": content_of(turn), **named()})
        while (said := ask()).tool_calls:
            kept.append(said)
            for call in said.tool_calls:
                result = result_of(call.function.name, json.loads(call.function.arguments))
                kept.append({"role": "tool", "tool_call_id": call.id, "content": result})
        kept.append(said)


main()
