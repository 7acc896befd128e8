"""A metered request, read as far as the gateway needs to and no further.

The body's bytes stay what is forwarded; this module finds the model, the messages as raw slices, and the few options
that counting and streaming depend on. What a provider would refuse anyway is left to the provider, except where the
gateway could not keep its own promises about it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence

import msgspec

from gateway.core.errors import Refusal, invalid_request
from gateway.core.wire.body import AmbiguousObject, Span, not_json, object_spans, request_spans
from gateway.core.wire.prefix import Beginning, KnownMessages, places_of


class Endpoint(enum.Enum):
    """Which kind of call this is; the value is the label in metrics and logs."""

    CHAT = "chat_completions"
    RESPONSES = "responses"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    PASSTHROUGH = "passthrough"
    TOKENS_COUNT = "tokens_count"
    INPUT_TOKENS = "responses_input_tokens"
    SESSIONS = "sessions"
    MODELS = "models"
    REALTIME = "realtime"
    FACTS = "facts"
    FACTS_QUERY = "facts_query"
    FACT = "fact"
    CONTEXTS = "contexts"
    CONTEXTS_SEARCH = "contexts_search"
    CONTEXTS_DELETE = "contexts_delete"
    CONTEXTS_CLEAR = "contexts_clear"
    CONTEXT = "context"
    MEMORIES = "memories"
    MEMORIES_EXPORT = "memories_export"
    MEMORIES_IMPORT = "memories_import"
    VISION_SEARCH = "vision_search"
    VISION_DECODE = "vision_decode"
    VISION_INDEX = "vision_index"
    VISION_JOB = "vision_job"
    VISION_DOCUMENTS = "vision_documents"
    VISION_DOCUMENT = "vision_document"
    VISION_IMAGE = "vision_image"


ASK_FOR_COUNTS = frozenset({Endpoint.TOKENS_COUNT, Endpoint.INPUT_TOKENS})
"""Calls that only ask what another would cost: their bodies are read, and nobody bills them."""
OF_MEMORY = frozenset(
    {
        Endpoint.FACTS,
        Endpoint.FACTS_QUERY,
        Endpoint.FACT,
        Endpoint.CONTEXTS,
        Endpoint.CONTEXTS_SEARCH,
        Endpoint.CONTEXTS_DELETE,
        Endpoint.CONTEXTS_CLEAR,
        Endpoint.CONTEXT,
        Endpoint.MEMORIES,
        Endpoint.MEMORIES_EXPORT,
        Endpoint.MEMORIES_IMPORT,
    }
)
"""Calls about what is remembered, which no upstream sees."""
OF_VISION = frozenset(
    {
        Endpoint.VISION_SEARCH,
        Endpoint.VISION_DECODE,
        Endpoint.VISION_INDEX,
        Endpoint.VISION_JOB,
        Endpoint.VISION_DOCUMENTS,
        Endpoint.VISION_DOCUMENT,
        Endpoint.VISION_IMAGE,
    }
)
"""Calls about documents and their regions."""
READ_BY_STAGES = OF_MEMORY | OF_VISION
"""Calls whose bodies nobody reads but the stages that answer them; none of them can be a websocket."""


class MeteredRequest(msgspec.Struct, frozen=True):
    """What the gateway knows of a metered request's body.

    `messages` are the raw slices of a chat's messages, or of the items of a Responses `input` (empty elsewhere, also
    where that is a text); of a chat's the first `known` of them were read before, in
    the body whose `beginning` this one shares. `completion_tokens` is the most that one
    choice may generate, as the request says it, or None. `sections` are raw values that cost prompt tokens beside the
    messages, by key; `options` are raw values that change what those cost.
    """

    endpoint: Endpoint
    model: str
    body: bytes
    spans: Mapping[str, Span]
    messages: Sequence[msgspec.Raw | bytes] = ()
    known: int = 0
    beginning: Beginning | None = None
    is_stream: bool = False
    asks_for_usage: bool = False
    completion_tokens: int | None = None
    choices: int = 1
    sections: Mapping[str, bytes] = msgspec.field(default_factory=dict)
    options: Mapping[str, bytes] = msgspec.field(default_factory=dict)


def has_tools(request: MeteredRequest) -> bool:
    """Whether tools or legacy functions are sent along."""
    return "tools" in request.sections or "functions" in request.sections


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Common(msgspec.Struct, kw_only=True):
    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None


class _Chat(_Common, kw_only=True):
    messages: list[msgspec.Raw]


class _Prompted(_Common, kw_only=True):
    prompt: msgspec.Raw


class _Embeddings(_Common, kw_only=True):
    input: msgspec.Raw


class _Responses(_Common, kw_only=True):
    model: str = ""  # a stored prompt may name it instead


_DECODERS: dict[Endpoint, msgspec.json.Decoder[_Common]] = {
    Endpoint.CHAT: msgspec.json.Decoder(_Chat),
    Endpoint.RESPONSES: msgspec.json.Decoder(_Responses),
    Endpoint.COMPLETIONS: msgspec.json.Decoder(_Prompted),
    Endpoint.EMBEDDINGS: msgspec.json.Decoder(_Embeddings),
}
_COUNTED_KEYS = {
    Endpoint.CHAT: ("tools", "functions", "response_format"),
    Endpoint.RESPONSES: ("instructions", "input", "tools", "text"),
    Endpoint.COMPLETIONS: ("prompt",),
    Endpoint.EMBEDDINGS: ("input",),
}
_OPTION_KEYS = {
    Endpoint.CHAT: ("tool_choice", "function_call", "parallel_tool_calls"),
    Endpoint.RESPONSES: ("tool_choice", "parallel_tool_calls", "reasoning"),
}
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_MODEL_CHARS_MAX = 256
_INTEGER_MAX = 2**31 - 1
"""Of token limits and `n`: what stores and counters downstream can multiply safely."""
_OPTION_BRACKETS_MAX = 64
_SCAN_TWICE_BYTES = 4_096
"""Up to this size a second scan costs less than what avoids it."""
_DIGITS_SHOWN = 20


def kind_of_body(body: bytes) -> Endpoint:
    """Which call a body is made for, by its keys: `messages`, `prompt` or `input`.

    An `input` of plain texts may be one for embeddings; for those that the model's name says.

    Raises:
        Refusal: no JSON object.
    """
    spans = request_spans(body)
    if "messages" in spans:
        return Endpoint.CHAT
    if "prompt" in spans and "input" not in spans and "instructions" not in spans:
        return Endpoint.COMPLETIONS
    model = spans.get("model")
    is_embedding = model is not None and b"embed" in body[model.start : model.end].lower()
    return Endpoint.EMBEDDINGS if is_embedding and "input" in spans else Endpoint.RESPONSES


def parse_metered(endpoint: Endpoint, body: bytes) -> MeteredRequest:
    """Read a metered request's body.

    Args:
        endpoint: a metered one.
        body: decoded bytes as the client sent them.

    Raises:
        Refusal: 400 in OpenAI's form, naming the field at fault.
    """
    try:
        found = _DECODERS[endpoint].decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        request_spans(body)  # what is no JSON object at all is refused as that
        raise (_wrong_field(error) if isinstance(error, msgspec.ValidationError) else not_json(error, body)) from None
    spans = None
    if isinstance(found, _Chat) and len(body) > _SCAN_TWICE_BYTES:
        spans = _spans_around(body, found.messages)
    spans = spans or request_spans(body)
    if len(found.model) > _MODEL_CHARS_MAX or not (found.model or endpoint is Endpoint.RESPONSES):
        message = f"`model` must be 1 to {_MODEL_CHARS_MAX} characters long, found {len(found.model)}."
        raise invalid_request(message, param="model", code="invalid_value")
    if found.stream_options:
        _check_options(body, spans["stream_options"])
    messages: Sequence[msgspec.Raw] = found.messages if isinstance(found, _Chat) else ()
    if endpoint is Endpoint.RESPONSES and (span := spans.get("input")) and body.startswith(b"[", span.start):
        messages = _decode_items(body[span.start : span.end])
    if isinstance(found, _Chat) and not messages:
        raise invalid_request(
            "`messages` is empty; at least one message was expected.", param="messages", code="empty_array"
        )
    return MeteredRequest(
        endpoint=endpoint,
        model=found.model,
        body=body,
        spans=spans,
        messages=messages,
        is_stream=bool(found.stream),
        asks_for_usage=bool(found.stream_options and found.stream_options.include_usage),
        completion_tokens=_completion_tokens(found),
        choices=1 if found.n is None else _within(1, found.n, "n"),
        sections=_values(body, spans, _COUNTED_KEYS[endpoint]),
        options=_values(body, spans, _OPTION_KEYS.get(endpoint, ())),
    )


def parse_after(body: bytes, beginning: Beginning) -> MeteredRequest | None:
    """Read a chat's body whose beginning is known, without reading that again.

    The known messages are cut out; what is left is read as a body of its own.

    Returns:
        What `parse_metered` would return; None where that is not sure, and where it would refuse.
    """
    start, known = beginning.start, len(beginning.ends)
    cut = beginning.ends[-1] + 1 - start
    try:
        rest = parse_metered(Endpoint.CHAT, body[:start] + body[start + cut :])
    except Refusal:
        return None  # the whole is read again, so that what is said of it names its own places
    place = rest.spans["messages"]
    fresh = places_of(start + cut, place.end - 1 + cut, [memoryview(raw).nbytes for raw in rest.messages])
    if fresh is None or place.start + 1 != start:
        return None
    spans = {key: span if span.end <= start else _moved(span, place.key_start, cut) for key, span in rest.spans.items()}
    messages = KnownMessages(body, start, beginning.ends + fresh)
    return msgspec.structs.replace(rest, body=body, spans=spans, messages=messages, known=known, beginning=beginning)


def _values(body: bytes, spans: Mapping[str, Span], keys: Sequence[str]) -> dict[str, bytes]:
    return {key: body[spans[key].start : spans[key].end] for key in keys if key in spans}


def _spans_around(body: bytes, messages: Sequence[msgspec.Raw]) -> dict[str, Span] | None:
    """The spans of a chat's body without a second scan of its messages; None where that is not possible.

    The messages' text must stand in the body, compact. With a 0 in its place the rest is scanned: if that is an
    object in which `messages` is the 0, once, then in the body it is that text, once.
    """
    text = b"[%b]" % b",".join(messages)
    key_start = body.find(b'"messages":[')
    start = key_start + len(b'"messages":')
    if key_start < 0 or not body.startswith(text, start):
        return None
    end = start + len(text)
    try:
        spans = object_spans(body[:start] + b"0" + body[end:])
    except (AmbiguousObject, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if spans.get("messages") != Span(key_start, start, start + 1):
        return None
    grown = len(text) - 1
    return {key: span if span.end <= start else _moved(span, key_start, grown) for key, span in spans.items()}


def _moved(span: Span, key_start: int, grown: int) -> Span:
    if span.key_start == key_start:
        return Span(key_start, span.start, span.end + grown)
    return Span(span.key_start + grown, span.start + grown, span.end + grown)


def _check_options(body: bytes, span: Span) -> None:
    """What asking for usage later relies on: a key may stand in `stream_options` only once."""
    options = body[span.start : span.end]
    try:
        object_spans(options)
    except AmbiguousObject as ambiguous:
        raise invalid_request(
            f"`stream_options` holds a duplicate or escaped key near {str(ambiguous)!r}; send every key once.",
            param="stream_options",
            code="duplicate_key",
        ) from None
    brackets = options.count(b"{") + options.count(b"[")
    if brackets > _OPTION_BRACKETS_MAX:
        message = f"`stream_options` may hold {_OPTION_BRACKETS_MAX} brackets at most, found {brackets}."
        raise invalid_request(message, param="stream_options", code="invalid_value")


def _completion_tokens(found: _Common) -> int | None:
    limits = {key: getattr(found, key) for key in ("max_completion_tokens", "max_tokens", "max_output_tokens")}
    for key, value in limits.items():
        if value is not None:
            return _within(0, value, key)
    return None


def _within(least: int, value: int, key: str) -> int:
    if value < least:
        message = f"`{key}` must be at least {least}, found {_shortened(value)}."
        raise invalid_request(message, param=key, code="integer_below_min_value")
    if value > _INTEGER_MAX:
        message = f"`{key}` must be at most {_INTEGER_MAX}, found {_shortened(value)}."
        raise invalid_request(message, param=key, code="integer_above_max_value")
    return value


def _shortened(value: int) -> str:
    digits = str(value)
    return digits if len(digits) <= _DIGITS_SHOWN else f"{digits[:_DIGITS_SHOWN]}... ({len(digits)} digits)"


_field_path = re.compile(r"`\$\.?([^`]*)`$").search
_missing_field = re.compile(r"missing required field `([^`]+)`").search


def _wrong_field(error: msgspec.ValidationError) -> Refusal:
    text = str(error)
    if missing := _missing_field(text):
        name = missing[1]
        return invalid_request(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    path = _field_path(text)
    name = path[1] if path else None
    return invalid_request(f"Invalid request: {text}.", param=name, code="invalid_type")
