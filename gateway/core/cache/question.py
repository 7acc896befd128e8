"""May this request be answered by an earlier answer, and under which key?

The key is a digest of everything that shapes an answer: the client's scope, the configuration that shapes prompts, the
call and its query, the body, the headers that upstreams see, and what the request asks of the gateway. What is not
known to be irrelevant is part of it: a header that nobody knows costs hits, never a wrong answer.

The body's own keys may stand in any order, and those of messages too. Within tools and schemas their order is kept,
because models write their output in the order of the schema's properties (OpenAI, structured outputs, 2025).
A streamed answer is another answer than a whole one: neither is ever made from the other.

Invariants, each with a test of its own:
  1. Requests of two clients never have the same key.
  2. Bodies that differ in a value that an upstream reads have different keys; in key order or white space alone, equal.
  3. What a server's memory, the web or a file decides besides the request has no key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from gateway.core.wire.headers import GATEWAY_PREFIX, header_of
from gateway.core.wire.overrides import Overrides
from gateway.core.wire.request import Endpoint, MeteredRequest

_FORM = b"1"
"""Part of every key; another one whenever what is kept, or what is hashed, changes its form."""
_ENDPOINTS = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.EMBEDDINGS})
_LABELS = frozenset({"user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "metadata"})
"""Fields that name the asker and shape no answer; Responses repeats them in its answer, so there they count."""
_SORTED = frozenset({"messages", "input"})
_ELSEWHERE = ("background", "conversation", "previous_response_id", "web_search_options", "search_parameters")
"""Fields with which something other than the request has a say, if they hold anything but null or false."""
_ELSEWHERE_MORE = ("plugins", "audio", "web_search", "enable_search", "use_search")
_OWN_TOOLS = frozenset({"function", "custom"})
"""Tools that the client runs; all others are run by the server, and what they find changes."""
_SEARCHING = ("*:online", "*-search-*", "*-search", "sonar*", "*/sonar*", "*deep-research*", "*compound*")
"""Models that look things up (OpenAI, Perplexity, OpenRouter, Groq; 2026-01)."""
_UNSEEN = frozenset(
    {
        *("accept-encoding", "api-key", "authorization", "cache-control", "connection", "content-encoding"),
        *("content-length", "content-type", "cookie", "date", "expect", "forwarded", "host", "idempotency-key"),
        *("keep-alive", "origin", "pragma", "priority", "proxy-authorization", "proxy-connection", "referer", "te"),
        *("trailer", "transfer-encoding", "upgrade", "user-agent", "via", "b3", "baggage", "traceparent", "tracestate"),
        *("x-amzn-trace-id", "x-client-request-id", "x-cloud-trace-context", "x-correlation-id", "x-real-ip"),
        *("x-request-id", "x-request-start", "x-trace-id", "uber-trace-id", "sentry-trace"),
    }
)
"""Headers that end here, name one sending, or say who sends; the credentials among them are the client's scope."""
_UNSEEN_KINDS = ("x-b3-", "x-datadog-", "x-envoy-", "x-forwarded-", "x-stainless-", "sec-", "cf-", GATEWAY_PREFIX)
_encode = msgspec.json.encode


class _Unsure(Exception):  # noqa: N818 - no error: the answer is not for keeping
    """A body that holds a key twice, or a reference to what may change."""


class Asker(msgspec.Struct, frozen=True):
    """What a request is besides its body.

    Attributes:
        scope: the client's.
        fingerprint: of the configuration that shapes prompts and chooses upstreams.
        target: as it stands in the request line.
        headers: as received.
        overrides: what it asks of the gateway.
    """

    scope: bytes
    fingerprint: bytes
    target: str
    headers: Sequence[tuple[str, str]]
    overrides: Overrides


def question_key(request: MeteredRequest, asker: Asker, *, only_deterministic: bool) -> bytes | None:
    """What the request's answer is kept under; None where it is neither looked up nor kept.

    Args:
        request: a metered one.
        asker: the rest of it.
        only_deterministic: it must say that it wants the same answer each time: temperature 0, or a seed.
    """
    overrides = asker.overrides
    if request.endpoint not in _ENDPOINTS or not overrides.caches or overrides.explains or overrides.session:
        return None
    if "no-store" in _cache_control(asker.headers):
        return None
    try:
        if only_deterministic and not _is_deterministic(request):
            return None
        fields: dict[str, Any] = json.loads(request.body, object_pairs_hook=_sure)
        if _is_decided_elsewhere(request, fields):
            return None
        return _digest(request, asker, fields)
    except (_Unsure, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None


def wants_fresh(headers: Sequence[tuple[str, str]]) -> bool:
    """Whether the client wants the upstream's own answer now, which may be kept for later."""
    found = _cache_control(headers)
    return "no-cache" in found or "max-age=0" in found


def _cache_control(headers: Sequence[tuple[str, str]]) -> frozenset[str]:
    value = header_of(headers, "cache-control")
    return frozenset(word.strip().lower() for word in value.split(",")) if value else frozenset()


def _sure(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs) or found.get("type") == "item_reference":
        raise _Unsure
    for name in ("file_id", "file_url", "image_url", "url"):
        value = found.get(name)
        if isinstance(value, str) and (name == "file_id" or not value.startswith("data:")):
            raise _Unsure
    return found


def _is_decided_elsewhere(request: MeteredRequest, fields: Mapping[str, Any]) -> bool:
    """Whether a server's memory, its tools or the web have a say in the answer."""
    if any(fields.get(name) not in (None, False) for name in (*_ELSEWHERE, *_ELSEWHERE_MORE)):
        return True
    if any(fnmatchcase(request.model, pattern) for pattern in _SEARCHING):
        return True
    tools = fields.get("tools") or ()
    if not all(isinstance(tool, dict) and tool.get("type") in _OWN_TOOLS for tool in tools):
        return True
    if "audio" in (fields.get("modalities") or ()):
        return True
    if request.endpoint is Endpoint.RESPONSES:  # which keeps its answers unless it is told not to
        return fields.get("store") is not False or fields.get("prompt") is not None
    return bool(fields.get("store"))


def _is_deterministic(request: MeteredRequest) -> bool:
    """Whether it says that it wants the same answer each time; of most, two fields are all that is read for that."""
    if request.endpoint is Endpoint.EMBEDDINGS:
        return True
    temperature, seed = _value(request, "temperature"), _value(request, "seed")
    is_cold = isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature == 0
    return is_cold or (isinstance(seed, int) and not isinstance(seed, bool))


def _value(request: MeteredRequest, name: str) -> Any:
    span = request.spans.get(name)
    return None if span is None else msgspec.json.decode(request.body[span.start : span.end])


def _digest(request: MeteredRequest, asker: Asker, fields: Mapping[str, Any]) -> bytes:
    overrides = asker.overrides
    ours = (request.endpoint.value, overrides.max_total_tokens, overrides.compacting.value)
    seen = sorted(_seen(asker.headers), key=lambda pair: pair[0])
    parts = [_FORM, asker.scope, asker.fingerprint, asker.target.encode("utf-8", "surrogateescape")]
    parts += [_encode(ours), *(text.encode("utf-8", "surrogateescape") for pair in seen for text in pair), b"body"]
    unread = _LABELS if request.endpoint is not Endpoint.RESPONSES else frozenset()
    for name in sorted(fields.keys() - unread):
        value = fields[name]
        parts += [name.encode(), _encode(value, order="sorted") if name in _SORTED else _encode(value)]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _seen(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers that an upstream may act on."""
    lower = [(name.lower(), value) for name, value in headers]
    return [pair for pair in lower if pair[0] not in _UNSEEN and not pair[0].startswith(_UNSEEN_KINDS)]
