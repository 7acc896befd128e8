"""What the fake OpenAI service says: a request in, a reply out. No socket, no clock, no randomness.

`Rules` holds the settings and answers chats and legacy completions; tests/fakes/openai_server.py adds the
other endpoints, a real port and faults. Shapes, messages and field order follow recorded answers of
api.openai.com.

Ids come from a digest of the request without `stream` and `stream_options`, and `created` is a constant. So
asking for usage changes nothing in a stream but the usage fields and the usage chunk; tests compare bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"
ROLES = ("system", "assistant", "user", "function", "tool", "developer")
INTEGERS = ("n", "max_tokens", "max_completion_tokens", "max_output_tokens")
RESPONSE: Json = json.loads(
    '{"instructions": null, "max_output_tokens": null, "metadata": {}, "parallel_tool_calls": true, '
    '"store": true, "previous_response_id": null, "temperature": 1.0, "tool_choice": "auto", '
    '"tools": [], "top_p": 1.0}'
)
TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "model": ("a string", (str,)),
    "messages": ("an array of objects", (list,)),
    "tools": ("an array of objects", (list,)),
    "stream": ("a boolean", (bool,)),
    "stream_options": ("an object", (dict,)),
    "temperature": ("a decimal", (int, float)),
    **dict.fromkeys(INTEGERS, ("an integer", (int,))),
}
JSON_NAMES = {str: "a string", bool: "a boolean", int: "an integer", float: "a decimal", list: "an array"}
EMPTY = "Expected an array with minimum length 1, but got an empty array instead."
ORPHAN = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
TOO_LONG = "Your input exceeds the context window of this model. Please adjust your input and try again."
UNANSWERED = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
    "'tool_call_id'. The following tool_call_ids did not have response messages: "
)


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> Json:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class ApiError(Exception):
    """A refusal."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(message, "invalid_request_error", param, code)


@dataclass(frozen=True, slots=True)
class Reply:
    """`pieces`: the SSE events of a stream, each with its blank line, or the one body of anything else."""

    pieces: list[bytes]
    status: int = 200
    content_type: str = "application/json"
    is_stream: bool = False


def render(value: object, status: int = 200) -> Reply:
    """A whole JSON answer, indented as the real service sends it."""
    return Reply([json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"], status)


def render_event(data: object, event: str = "") -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()


def render_stream(events: list[bytes]) -> Reply:
    return Reply(events, content_type="text/event-stream; charset=utf-8", is_stream=True)


def count_words(text: str) -> int:
    """The default tokenizer: whitespace words."""
    return len(text.split())


def text_of(content: object) -> str:
    """The text of a message's content: a string, parts, or nothing."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def digest_of(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# What is refused


def named(value: object) -> str:
    return "null" if value is None else JSON_NAMES.get(type(value), "an object")


def check_types(body: Json) -> None:
    for name in [name for name in TYPES if name in body and (body[name] is not None or name == "messages")]:
        expected, types = TYPES[name]
        if type(body[name]) not in types:
            message = f"Invalid type for '{name}': expected {expected}, but got {named(body[name])} instead."
            raise ApiError(400, message, name, "invalid_type")


def check_messages(messages: list[Any]) -> None:
    if not messages:
        raise ApiError(400, f"Invalid 'messages': empty array. {EMPTY}", "messages", "empty_array")
    for i, one in enumerate(messages):
        if not isinstance(one, dict):
            message = f"Invalid type for 'messages[{i}]': expected an object, but got {named(one)} instead."
            raise ApiError(400, message, f"messages[{i}]", "invalid_type")
        if one.get("role") not in ROLES:
            known = ", ".join(f"'{role}'" for role in ROLES[:-1]) + f", and '{ROLES[-1]}'"
            message = f"Invalid value: '{one.get('role')}'. Supported values are: {known}."
            raise ApiError(400, message, f"messages[{i}].role", "invalid_value")
        if one.get("content") is None and not (one["role"] == "assistant" and one.get("tool_calls")):
            message = "Invalid value for 'content': expected a string, got null."
            raise ApiError(400, message, f"messages.[{i}].content")
    check_pairs(messages)


def check_pairs(messages: list[Json]) -> None:
    """Every tool message answers a call just before it; calls are answered before anything else is said."""
    calls: list[str] = []
    waiting: list[str] = []
    for i, one in enumerate([*messages, {"role": "end"}]):
        if one["role"] == "tool":
            if one.get("tool_call_id") not in calls:
                raise ApiError(400, f"Invalid parameter: {ORPHAN}", f"messages.[{i}].role")
            waiting = [call for call in waiting if call != one["tool_call_id"]]
            continue
        if waiting:
            param = f"messages.[{i}].role" if i < len(messages) else "messages"
            raise ApiError(400, UNANSWERED + ", ".join(waiting), param)
        waiting = calls = [call["id"] for call in one.get("tool_calls") or ()]


def check_items(items: list[Json]) -> None:
    """The same pairing for the items of the Responses API."""
    calls = {item.get("call_id"): i for i, item in enumerate(items) if item.get("type") == "function_call"}
    outputs = {item.get("call_id"): i for i, item in enumerate(items) if item.get("type") == "function_call_output"}
    for call in outputs:
        if calls.get(call, len(items)) > outputs[call]:
            raise ApiError(400, f"No tool call found for function call output with call_id {call}.", "input")
    for call in calls:
        if call not in outputs:
            raise ApiError(400, f"No tool output found for function call {call}.", "input")
    for item, after in zip(items, [*items[1:], {}], strict=False):  # of none there are none
        if item.get("type") == "reasoning" and not (after.get("role") == "assistant" or after.get("name")):
            message = f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item."
            raise ApiError(400, message, "input")


def check_window(window: float, prompt: int, completion: int) -> None:
    start = f"This model's maximum context length is {window} tokens. However, "
    if prompt > window:
        start += f"your messages resulted in {prompt} tokens. Please reduce the length of the messages."
        raise ApiError(400, start, "messages", "context_length_exceeded")
    if prompt + completion > window:
        start += f"you requested {prompt + completion} tokens ({prompt} in the messages, {completion} in the "
        start += "completion). Please reduce the length of the messages or completion."
        raise ApiError(400, start, "messages", "context_length_exceeded")


# What is answered


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer: the pieces that a stream sends, or calls as (id, name, arguments)."""

    words: list[str]
    calls: list[tuple[str, str, str]]
    finish: str


def plan_calls(body: Json, messages: list[Json]) -> list[tuple[str, str, str]]:
    """A call of the first tool, if the user has just asked about the weather; one per city."""
    tools = [tool.get("function", tool) for tool in body.get("tools") or ()]
    text = text_of(messages[-1].get("content")) if messages and messages[-1]["role"] == "user" else ""
    if not tools or "weather" not in text.lower() or body.get("tool_choice") == "none":
        return []
    cities = [*re.findall(r"\b(?:in|and) ([A-Z]\w+)", text), "Oslo", "Lima"]
    is_parallel = re.search(r"\band\b", text) and body.get("parallel_tool_calls") is not False
    return [
        (f"call_{digest_of(i, len(messages), text)[:24]}", tools[0]["name"], json.dumps({"city": city}))
        for i, city in enumerate(cities[: 2 if is_parallel else 1])
    ]


def deltas_of(choice: Choice) -> list[Json]:
    """What a chat stream says of one choice, before its finish reason."""
    first: Json = {"role": "assistant", "content": None if choice.calls else "", "refusal": None}
    deltas = [first, *({"content": word} for word in choice.words)]
    for i, (call, name, arguments) in enumerate(choice.calls):
        head = {"index": i, "id": call, "type": "function", "function": {"name": name, "arguments": ""}}
        parts = [{"index": i, "function": {"arguments": part}} for part in re.findall(r"(?s).{1,5}", arguments)]
        deltas += [{"tool_calls": [part]} for part in [head, *parts]]
    if len(choice.calls) == 1:  # a single call comes with the role, parallel ones after it
        deltas[:2] = [{**first, **deltas[1]}]
    return deltas


def message_of(choice: Choice) -> Json:
    text = None if choice.calls else "".join(choice.words)
    message: Json = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    if choice.calls:
        message["tool_calls"] = [
            {"id": call, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call, name, arguments in choice.calls
        ]
    return message


def usage_of(prompt: int, completion: int) -> Json:
    details = ("reasoning_tokens", "audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": dict.fromkeys(details, 0),
    }


def messages_of(body: Json) -> list[Json]:
    """The items of a Responses request as chat messages."""
    given = body.get("input") or []
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    check_items(items if not body.get("previous_response_id") else [])
    roles = {"function_call": "assistant", "function_call_output": "tool"}
    messages = [
        {"role": item.get("role") or roles[item["type"]], "content": item.get("content", item.get("output"))}
        for item in items
        if item.get("role") or item.get("type") in roles
    ]
    system = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    return system + messages


def output_of(choice: Choice, ident: str, status: str) -> list[Json]:
    """The output items of a Responses answer."""
    text = {"type": "output_text", "annotations": [], "logprobs": [], "text": "".join(choice.words)}
    message = {
        "id": ident.replace("resp_", "msg_"),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [text],
    }
    calls = [
        {"id": f"fc_{call}", "type": "function_call", "status": status, "arguments": arguments}
        | {"call_id": call, "name": name}
        for call, name, arguments in choice.calls
    ]
    return calls or [message]


def item_events(i: int, item: Json, words: list[str], padding: Json) -> list[tuple[str, Json]]:
    """The typed events that build one output item."""
    at: Json = {"item_id": item["id"], "output_index": i}
    if item["type"] == "function_call":
        start = {**item, "status": "in_progress", "arguments": ""}
        parts = re.findall(r"(?s).{1,5}", item["arguments"])
        middle = [("response.function_call_arguments.delta", {**at, "delta": part, **padding}) for part in parts]
        middle += [("response.function_call_arguments.done", {**at, "arguments": item["arguments"]})]
    else:
        part = item["content"][0]
        at["content_index"] = 0
        start = {**item, "status": "in_progress", "content": []}
        deltas = [{**at, "delta": word, "logprobs": [], **padding} for word in words]
        middle = [("response.content_part.added", {**at, "part": {**part, "text": ""}})]
        middle += [("response.output_text.delta", delta) for delta in deltas]
        middle += [("response.output_text.done", {**at, "text": part["text"], "logprobs": []})]
        middle += [("response.content_part.done", {**at, "part": part})]
    added = ("response.output_item.added", {"output_index": i, "item": start})
    return [added, *middle, ("response.output_item.done", {"output_index": i, "item": item})]


@dataclass(kw_only=True)
class Rules:
    """How the fake answers; the fields are FakeOpenAI's constructor arguments and may be changed at any time.

    Args:
        tokenizer: Counts the tokens of a text.
        answer: The assistant's words for a request body; default: what the last user message said.
        summary: Used instead of `answer` when the first system or the last user message asks for a running brief.
        models: What GET /v1/models lists. Any other name is served too, except "missing-model".
        window: Tokens of the context window, for all models or by model name; None: no limit.
        required_key: Refuse any other bearer token (or `api-key` header) with 401.
        reject_stream_options: Answer 400 to stream_options, as older compatible servers do.
        obfuscation: Pad streamed chunks, as the real service does unless a request's options say no.
        name: Tells two fakes apart: in ids and in openai-organization.
        created: Unix seconds in every `created`.
        vector: The embedding of a text; default: one that depends on the text alone.
    """

    tokenizer: Callable[[str], int] = count_words
    answer: Callable[[Json], str] | None = None
    summary: Callable[[list[Json]], str] | None = None
    models: Sequence[str] = ("gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small")
    window: int | Mapping[str, int] | None = None
    required_key: str | None = None
    reject_stream_options: bool = False
    obfuscation: bool = True
    name: str = "fake"
    created: int = 1_760_000_000
    vector: Callable[[str], Sequence[float]] | None = None

    def check(self, body: Json) -> None:
        """What all metered endpoints refuse alike."""
        if not body.get("model"):
            raise ApiError(400, "you must provide a model parameter")
        check_types(body)
        if body["model"] == "missing-model":
            message = "The model `missing-model` does not exist or you do not have access to it."
            raise ApiError(404, message, None, "model_not_found")
        if body.get("stream_options") is not None and self.reject_stream_options:
            raise ApiError(400, "Unknown parameter: 'stream_options'.", "stream_options", "unknown_parameter")
        if body.get("stream_options") is not None and not body.get("stream"):
            message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise ApiError(400, message, "stream_options")

    def window_of(self, model: str) -> float:
        window = self.window.get(model) if isinstance(self.window, Mapping) else self.window
        return float("inf") if window is None else window

    def prompt_tokens(self, messages: list[Json]) -> int:
        """3 + sum(3 + T(role) + T(content)); tools and calls are free here."""
        texts = [(m["role"], text_of(m.get("content"))) for m in messages]
        return 3 + sum(3 + self.tokenizer(role) + self.tokenizer(text) for role, text in texts)

    def completion_tokens(self, choices: list[Choice]) -> int:
        called = [f"{name} {arguments}" for choice in choices for _, name, arguments in choice.calls]
        return sum(map(self.tokenizer, called + ["".join(choice.words) for choice in choices]))

    def plan_choices(self, body: Json, messages: list[Json], limit: int | None) -> list[Choice]:
        """`n` answers of at most `limit` tokens each."""
        if calls := plan_calls(body, messages):
            return [Choice([], calls, "tool_calls")] * (body.get("n") or 1)
        choices = []
        for i in range(body.get("n") or 1):
            text = self.say(body, messages) + (f" (choice {i})" if i else "")
            words = re.findall(r"\s*\S+(?:\s+$)?|^\s+$", text)
            kept = len(words) if limit is None else self.count_fitting(words, limit)
            choices.append(Choice(words[:kept], [], "stop" if kept == len(words) else "length"))
        return choices

    def count_fitting(self, words: list[str], limit: int) -> int:
        """How many leading words are at most `limit` tokens."""
        sizes = range(1, len(words) + 1)
        return bisect_right(sizes, limit, key=lambda size: self.tokenizer("".join(words[:size])))

    def say(self, body: Json, messages: list[Json]) -> str:
        texts = [(m["role"], text_of(m.get("content"))) for m in messages]
        system = next((text for role, text in texts if role in ("system", "developer")), "")
        asked = next((text for role, text in reversed(texts) if role == "user"), "nothing")
        if self.summary and ("running brief" in system or "be replaced by a running brief" in asked):
            return self.summary(messages)
        if self.answer:
            return self.answer(body)
        return "You said: " + " ".join(asked.split()[:40])

    def id_of(self, prefix: str, body: Json) -> str:
        bare = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
        return prefix + digest_of(self.name, bare)[:29]

    def padding(self, body: Json, *seed: object) -> Json:
        """The `obfuscation` field: 1 to 16 characters."""
        if not self.obfuscation or (body.get("stream_options") or {}).get("include_obfuscation") is False:
            return {}
        digest = digest_of(seed)
        return {"obfuscation": digest[1 : 2 + int(digest[0], 16)]}

    def render_chunks(self, base: Json, rows: list[list[Json]], usage: Json, body: Json) -> Reply:
        """One chunk a row, the choices taking turns. With include_usage: null in each, and one chunk more."""
        turns = [[row] for row in chain.from_iterable(zip_longest(*rows)) if row is not None]
        chunks = [{**base, "choices": turn} for turn in turns]
        if (body.get("stream_options") or {}).get("include_usage"):
            chunks = [{**chunk, "usage": None} for chunk in chunks]
            chunks.append({**base, "choices": [], "usage": usage})
        padded = [{**chunk, **self.padding(body, i, chunk["choices"])} for i, chunk in enumerate(chunks)]
        return render_stream([*map(render_event, padded), DONE])

    def chat(self, body: Json) -> Reply:
        """POST /v1/chat/completions."""
        if "messages" not in body:
            message = "Missing required parameter: 'messages'."
            raise ApiError(400, message, "messages", "missing_required_parameter")
        check_messages(body["messages"])
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        prompt = self.prompt_tokens(body["messages"])
        check_window(self.window_of(body["model"]), prompt, limit or 0)
        choices = self.plan_choices(body, body["messages"], limit)
        usage = usage_of(prompt, self.completion_tokens(choices))
        kind = "chat.completion.chunk" if body.get("stream") else "chat.completion"
        base = {"id": self.id_of("chatcmpl-", body), "object": kind, "created": self.created}
        base |= {"model": body["model"], "service_tier": "default", "system_fingerprint": "fp_fake0000"}

        def row(i: int, finish: str | None, **said: Json) -> Json:
            return {"index": i, **said, "logprobs": None, "finish_reason": finish}

        if body.get("stream"):
            each = [(i, choice, deltas_of(choice)) for i, choice in enumerate(choices)]
            rows = [[*(row(i, None, delta=d) for d in ds), row(i, c.finish, delta={})] for i, c, ds in each]
            return self.render_chunks(base, rows, usage, body)
        whole = [row(i, c.finish, message=message_of(c)) for i, c in enumerate(choices)]
        return render({**base, "choices": whole, "usage": usage})

    def completions(self, body: Json) -> Reply:
        """POST /v1/completions, with one prompt or several."""
        given = body.get("prompt") or ""
        prompts = given if isinstance(given, list) else [given]
        prompt, limit = sum(map(self.tokenizer, prompts)), body.get("max_tokens") or 16
        check_window(self.window_of(body["model"]), prompt, limit)
        asked = [[{"role": "user", "content": one}] for one in prompts]
        choices = [choice for messages in asked for choice in self.plan_choices(body, messages, limit)]
        usage = usage_of(prompt, self.completion_tokens(choices))
        base = {"id": self.id_of("cmpl-", body), "object": "text_completion", "created": self.created}
        base["model"] = body["model"]

        def row(i: int, text: str, finish: str | None) -> Json:
            return {"text": text, "index": i, "logprobs": None, "finish_reason": finish}

        if body.get("stream"):
            rows = [[*(row(i, w, None) for w in c.words), row(i, "", c.finish)] for i, c in enumerate(choices)]
            return self.render_chunks(base, rows, usage, body)
        whole = [row(i, "".join(c.words), c.finish) for i, c in enumerate(choices)]
        return render({**base, "choices": whole, "usage": usage})

    def respond(self, body: Json) -> Reply:
        """POST /v1/responses."""
        if body.get("input") is None and not body.get("previous_response_id"):
            raise ApiError(400, "Missing required parameter: 'input'.", "input", "missing_required_parameter")
        messages = messages_of(body)
        prompt = self.prompt_tokens(messages)
        if prompt > self.window_of(body["model"]):
            raise ApiError(400, TOO_LONG, "input", "context_length_exceeded")
        choice = self.plan_choices({**body, "n": 1}, messages, body.get("max_output_tokens"))[0]
        answered = self.completion_tokens([choice])
        ident = self.id_of("resp_", body)
        status = "incomplete" if choice.finish == "length" else "completed"
        whole: Json = {"id": ident, "object": "response", "created_at": self.created, "status": status}
        whole["incomplete_details"] = {"reason": "max_output_tokens"} if status == "incomplete" else None
        whole |= {"error": None, "model": body["model"], "output": output_of(choice, ident, status)}
        whole |= {name: body.get(name, default) for name, default in RESPONSE.items()}
        usage: Json = {"input_tokens": prompt, "output_tokens": answered, "total_tokens": prompt + answered}
        usage |= {
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        if not body.get("stream"):
            return render({**whole, "usage": usage})
        started = {**whole, "status": "in_progress", "output": [], "incomplete_details": None, "usage": None}
        events = [(f"response.{name}", {"response": started}) for name in ("created", "in_progress")]
        for i, item in enumerate(whole["output"]):
            events += item_events(i, item, choice.words, self.padding(body, i))
        events.append((f"response.{status}", {"response": {**whole, "usage": usage}}))
        numbered = [({"type": kind, "sequence_number": i, **said}, kind) for i, (kind, said) in enumerate(events)]
        return render_stream([render_event(data, kind) for data, kind in numbered])
