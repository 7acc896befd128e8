"""What `bench_tokens` counts: growing chats of prose, and a megabyte of each text that is worst for a tokenizer."""

from __future__ import annotations

import base64
import itertools
import json
import random
from collections.abc import Iterator

from benchmarks.bodies import SYSTEM, prose, text_of

MODEL = "gpt-4o"
MESSAGE_BYTES = 850
MILLION = 1_000_000
_numbers = itertools.count(1)


def chat(length: int) -> list[dict[str, str]]:
    """A conversation of so many messages, none of which was ever made before."""
    paragraphs = itertools.cycle(prose())
    messages = [{"role": "system", "content": f"{next(_numbers)} {SYSTEM}"}]
    for place in range(length - 1):
        text = f"{next(_numbers)} {text_of(MESSAGE_BYTES - 50, paragraphs)}"
        messages.append({"role": "assistant" if place % 2 else "user", "content": text})
    return messages


def render(messages: list[dict[str, str]]) -> bytes:
    """The body as the usual client libraries write it."""
    body = {"model": MODEL, "temperature": 0.2, "max_tokens": 256, "messages": messages}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def growing(messages: list[dict[str, str]]) -> Iterator[bytes]:
    """The same chat again and again, each time with another last message."""
    before = render(messages[:-1]).removesuffix(b"]}")
    text = messages[-1]["content"]
    for number in _numbers:
        last = json.dumps({"role": "user", "content": f"{number} {text}"}, separators=(",", ":"), ensure_ascii=False)
        yield before + b"," + last.encode() + b"]}"


def worst_texts() -> dict[str, str]:
    """A megabyte each, as UTF-8."""
    chance = random.Random(7)
    any_letters = "abcdefghijklmnopqrstuvwxyz"
    return {
        "one letter": "a" * MILLION,
        "one capital": "A" * MILLION,
        "random letters": "".join(chance.choices(any_letters, k=MILLION)),
        "spaces": " " * MILLION,
        "spaces around a word": " " * (MILLION // 2) + "x" + " " * (MILLION // 2),
        "tabs": "\t" * MILLION,
        "line ends": "\n" * MILLION,
        "mixed white space": " \n\t" * (MILLION // 3),
        "one digit": "7" * MILLION,
        "dashes": "-" * MILLION,
        "random punctuation": "".join(chance.choices("!?-_=+*&^%$#@~", k=MILLION)),
        "base64": base64.b64encode(chance.randbytes(MILLION * 3 // 4)).decode(),
        "camel case": "aB" * (MILLION // 2),
        "one CJK character": "漢" * (MILLION // 3),
        "random Chinese": "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(MILLION // 3)),
        "one emoji": "😀" * (MILLION // 4),
        "combining marks": "a\u0301\u0323" * (MILLION // 5),
        "any unicode": "".join(_any_characters(chance, MILLION // 4)),
        "zero bytes": "\0" * MILLION,
    }


def _any_characters(chance: random.Random, count: int) -> Iterator[str]:
    for _ in range(count):
        code = chance.randrange(0x20, 0x10FFFF)
        if not 0xD800 <= code < 0xE000:
            yield chr(code)
