"""The request bodies, the same on every machine with the same Python.

small: one user message, about 300 bytes. large: 40 messages, about 34 kB of prose (some 6,500 tokens), as an
application sends that resends its history. The prose is the interpreter's own documentation (pydoc topics).
What real conversations hold besides prose (tool calls, images, code) is not in here.
"""

from __future__ import annotations

import functools
import itertools
import json
import pydoc_data.topics
import re
from collections.abc import Callable, Iterator

MESSAGES = 40
MESSAGE_BYTES = 820
SYSTEM = "You are a careful assistant who explains the Python language to new programmers."
TAIL = b"]}"
_numbers = itertools.count(1)


@functools.cache
def prose() -> tuple[str, ...]:
    """Paragraphs of plain English, in a fixed order."""
    topics = pydoc_data.topics.topics
    text = "\n\n".join(topics[name] for name in sorted(topics))
    joined = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return tuple(part for part in joined if len(part) > 160 and "::=" not in part and ">>>" not in part)


def text_of(size: int, paragraphs: Iterator[str]) -> str:
    """Whole words, at most `size` characters of them."""
    text = ""
    while len(text) <= size:
        text += next(paragraphs) + " "
    return text[:size].rsplit(" ", 1)[0]


def render_body(messages: list[dict[str, str]], **options: object) -> bytes:
    """A chat request as the usual client libraries write it: compact, the messages last."""
    body = {"model": "mock", "temperature": 0.2, "max_tokens": 256, **options, "messages": messages}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def small(**options: object) -> bytes:
    """One short question."""
    question = text_of(180, iter(prose())) + ". Say this again in one short sentence."
    return render_body([{"role": "user", "content": question}], **options)


def large(**options: object) -> bytes:
    """A long conversation."""
    paragraphs = iter(prose())
    messages = [{"role": "system", "content": SYSTEM}]
    for number in range(MESSAGES - 1):
        role = "assistant" if number % 2 else "user"
        messages.append({"role": role, "content": text_of(MESSAGE_BYTES, paragraphs)})
    return render_body(messages, **options)


def render_request(port: int, body: bytes) -> bytes:
    """The bytes of a whole HTTP request."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"accept: */*\r\nauthorization: Bearer sk-bench-client\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def same_request(port: int, body: bytes) -> Callable[[], bytes]:
    """A source of equal requests."""
    whole = render_request(port, body)
    return lambda: whole


def growing_request(port: int, body: bytes) -> Callable[[], bytes]:
    """A source of requests that all differ: the body's messages, then a short one never sent before."""
    first = b',{"role":"user","content":"Now explain point '
    last = b' of the text above in one sentence."}' + TAIL
    whole = render_request(port, body.removesuffix(TAIL) + first + b"%09d" % 0 + last)
    before = whole[: -len(last) - 9]
    return lambda: b"%b%09d%b" % (before, next(_numbers), last)
