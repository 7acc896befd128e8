"""The demo upstream's wire shapes: OpenAI's requests read, replies and event streams rendered.

Plain data in, plain data out. It accepts what OpenAI accepts and refuses with OpenAI's messages, params and
codes (platform.openai.com/docs/api-reference, 2025): a client library raises its own usual exception.
"""

import json
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]
ROLES = ("system", "assistant", "user", "function", "tool", "developer")
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


class ApiError(Exception):
    """A refusal in OpenAI's form."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400):
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


@dataclass(frozen=True, slots=True)
class Reply:
    """What is to be said, before it takes one endpoint's form."""

    model: str
    texts: Sequence[str]
    prompt_tokens: int
    completion_tokens: int
    is_cut: bool

    @property
    def finish(self) -> str:
        return "length" if self.is_cut else "stop"


def option(body: Body, key: str, kind: type, default: Any) -> Any:
    value = body.get(key)
    if value is not None and type(value) is not kind:
        found = type(value).__name__
        message = f"Invalid type for '{key}': expected {kind.__name__}, but got {found} instead."
        raise ApiError(message, key, "invalid_type")
    return default if value is None else value


def integer(body: Body, key: str, minimum: int) -> int | None:
    value: int | None = option(body, key, int, None)
    if value is not None and value < minimum:
        expected = f"Expected a value >= {minimum}, but got {value} instead."
        message = f"Invalid '{key}': integer below minimum value. {expected}"
        raise ApiError(message, key, "integer_below_min_value")
    return value


def read_model(body: Body) -> str:
    model: str = option(body, "model", str, "")
    if not model:
        raise ApiError("you must provide a model parameter")
    return model


def wants_usage(body: Body) -> bool:
    return bool(option(body, "stream_options", dict, {}).get("include_usage"))


def read_messages(body: Body) -> list[Body]:
    """The chat's messages; every tool result must follow its call, as with OpenAI."""
    messages: list[Body] = option(body, "messages", list, [])
    if body.get("messages") is None:
        raise ApiError("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    if not messages:
        raise ApiError("Invalid 'messages': empty array. Expected at least 1 message.", "messages", "empty_array")
    if body.get("stream_options") and not body.get("stream"):
        raise ApiError("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    open_calls: set[str] = set()
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        where = f"messages[{at}].role"
        if role not in ROLES:
            raise ApiError(f"Invalid value: '{role}'. Supported values are: {ROLES}.", where, "invalid_value")
        if role == "tool":
            if message.get("tool_call_id") not in open_calls:
                orphan = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                raise ApiError(f"Invalid parameter: {orphan}", where)
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            break
        open_calls = {str(call.get("id")) for call in message.get("tool_calls") or []}
    if open_calls:
        raise ApiError(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. These had no response: {', '.join(sorted(open_calls))}", "messages",
        )  # fmt: skip
    return messages


def too_long(window: int, prompt_tokens: int, limit: int | None) -> str:
    """OpenAI's own words for a chat that exceeds the window, with and without a limit on the answer."""
    start = f"This model's maximum context length is {window} tokens. However,"
    please = "Please reduce the length of the messages"
    if limit is None:
        return f"{start} your messages resulted in {prompt_tokens} tokens. {please}."
    parts = f"{prompt_tokens} in the messages, {limit} in the completion"
    return f"{start} you requested {prompt_tokens + limit} tokens ({parts}). {please} or completion."


def text_of(content: Any) -> str:
    """The text of a message's content, parts joined; what is not text counts and says nothing here."""
    if isinstance(content, list):
        parts = [p for p in content if isinstance(p, dict) and p.get("type") in TEXT_PARTS]
        return "".join(str(p.get("text") or p.get("refusal") or "") for p in parts)
    return content if isinstance(content, str) else ""


def usage_of(reply: Reply) -> Body:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def model_card(name: str, window: int) -> Body:
    return {"id": name, "object": "model", "created": 0, "owned_by": "llm-gateway", "max_model_len": window}


def head(reply: Reply, prefix: str, kind: str) -> Body:
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": reply.model,
    }


def render_chat(reply: Reply) -> Body:
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": reply.finish,
        }
        for i, text in enumerate(reply.texts)
    ]
    return {**head(reply, "chatcmpl", "chat.completion"), "choices": choices, "usage": usage_of(reply)}


def stream_chat(reply: Reply, with_usage: bool) -> Iterator[bytes]:
    shared = head(reply, "chatcmpl", "chat.completion.chunk")
    for at, text in enumerate(reply.texts):
        deltas = [
            {"role": "assistant", "content": "", "refusal": None},
            *({"content": p} for p in pieces(text)),
            {},
        ]
        for delta in deltas:
            choice = {
                "index": at,
                "delta": delta,
                "logprobs": None,
                "finish_reason": None if delta else reply.finish,
            }
            yield event({**shared, "choices": [choice], **({"usage": None} if with_usage else {})})
    if with_usage:
        yield event({**shared, "choices": [], "usage": usage_of(reply)})
    yield b"data: [DONE]\n\n"


def render_completion(reply: Reply) -> Body:
    choices = [
        {"index": i, "text": text, "logprobs": None, "finish_reason": reply.finish}
        for i, text in enumerate(reply.texts)
    ]
    return {**head(reply, "cmpl", "text_completion"), "choices": choices, "usage": usage_of(reply)}


def stream_completion(reply: Reply, with_usage: bool) -> Iterator[bytes]:
    shared = head(reply, "cmpl", "text_completion")
    quiet = {"usage": None} if with_usage else {}
    for at, text in enumerate(reply.texts):
        for piece in [*pieces(text), ""]:
            finish = None if piece else reply.finish
            choice = {"index": at, "text": piece, "logprobs": None, "finish_reason": finish}
            yield event({**shared, "choices": [choice], **quiet})
    if with_usage:
        yield event({**shared, "choices": [], "usage": usage_of(reply)})
    yield b"data: [DONE]\n\n"


def render_response(reply: Reply) -> Body:
    """A finished response object; a cut one is `incomplete`, as in OpenAI's reference."""
    state = "incomplete" if reply.is_cut else "completed"
    message_id, content = f"msg_{uuid.uuid4().hex}", output_text(reply.texts[0])
    output = {"id": message_id, "type": "message", "status": state, "role": "assistant", "content": [content]}
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": state,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if reply.is_cut else None,
        "model": reply.model,
        "output": [output],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": reply.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": reply.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        },
    }


def stream_response(reply: Reply, with_usage: bool) -> Iterator[bytes]:
    """The typed events of one text response, numbered from 0; usage always comes with the last one."""
    done = render_response(reply)
    item, part = done["output"][0], done["output"][0]["content"][0]
    began = {**done, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    at = {"output_index": 0}
    inside = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    text = "response.output_text"
    events: list[tuple[str, Body]] = [
        ("response.created", {"response": began}),
        ("response.in_progress", {"response": began}),
        ("response.output_item.added", {**at, "item": {**item, "status": "in_progress", "content": []}}),
        ("response.content_part.added", {**inside, "part": output_text("")}),
        *((f"{text}.delta", {**inside, "delta": p, "logprobs": []}) for p in pieces(reply.texts[0])),
        (f"{text}.done", {**inside, "text": reply.texts[0], "logprobs": []}),
        ("response.content_part.done", {**inside, "part": part}),
        ("response.output_item.done", {**at, "item": item}),
        (f"response.{done['status']}", {"response": done}),
    ]
    for number, (kind, data) in enumerate(events):
        yield f"event: {kind}\n".encode() + event({"type": kind, "sequence_number": number, **data})


def output_text(text: str) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def pieces(text: str) -> list[str]:
    """A text in the pieces that a stream sends: a word and the space after it."""
    return re.findall(r"\S+\s*|\s+", text)


def event(data: Body) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
