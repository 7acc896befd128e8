"""The handshake by which HTTP becomes a websocket (RFC 6455, section 4), as it crosses the gateway.

The client's `Sec-WebSocket-Key` goes on to the upstream and the upstream's `Sec-WebSocket-Accept` comes back, so each
end checks the other; extensions are not offered to the upstream, since a frame must be read as it passes. Browsers
cannot set headers, so their key comes as a subprotocol; it is made a header first, and then is a key like any other.
Source of the subprotocols' names: OpenAI's guide on realtime with websockets (2026-01).

Invariants, each with a test of its own:
  1. A key that came as a subprotocol is in no subprotocol that goes on.
  2. A query that names one model is sent on with that or with an upstream's own name for it, and no other byte changed.
  3. An answer that does not fit the handshake is never passed on as one that does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from urllib.parse import quote, unquote_plus

from gateway.core.errors import Refusal, invalid_request
from gateway.core.wire.headers import Headers, header_of

WEBSOCKET = "websocket"
_VERSION = "13"
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PROTOCOL = "sec-websocket-protocol"
_EXTENSIONS = "sec-websocket-extensions"
_AS_HEADERS = {
    "openai-insecure-api-key.": ("Authorization", "Bearer "),
    "openai-organization.": ("OpenAI-Organization", ""),
    "openai-project.": ("OpenAI-Project", ""),
}
"""Subprotocols that stand for headers, by their beginning."""
_MODEL_CHARS_MAX = 256
_KEY_BYTES = 16


def asks_for_websocket(headers: Sequence[tuple[str, str]]) -> bool:
    """Whether a request offers to speak websocket from here on."""
    return WEBSOCKET in _words(headers, "upgrade")


def decide_upgrade(method: str, headers: Sequence[tuple[str, str]], *, is_modern: bool = True) -> Refusal | None:
    """The refusal of a handshake that is not one, or None.

    Args:
        method: of the request that offers it.
        headers: as received.
        is_modern: it is HTTP/1.1 at least.
    """
    if method != "GET" or not is_modern or "upgrade" not in _words(headers, "connection"):
        return _no_handshake("it takes GET, HTTP/1.1 and 'Connection: Upgrade'")
    if header_of(headers, "content-length") not in (None, "0") or header_of(headers, "transfer-encoding"):
        return _no_handshake("it has no body")
    keys = [value for name, value in headers if name.lower() == "sec-websocket-key"]
    if len(keys) != 1 or not _is_key(keys[0]):
        return _no_handshake("it takes one Sec-WebSocket-Key of 16 bytes in base64")
    versions = [value.strip() for name, value in headers if name.lower() == "sec-websocket-version"]
    if versions != [_VERSION]:
        return Refusal(
            426,
            "websocket_version",
            f"Sec-WebSocket-Version must be {_VERSION}.",
            headers=(("Sec-WebSocket-Version", _VERSION), ("Upgrade", WEBSOCKET)),
        )
    return None


def _no_handshake(expected: str) -> Refusal:
    return invalid_request(f"This is no websocket handshake: {expected} (RFC 6455).", code="invalid_handshake")


def _is_key(value: str) -> bool:
    try:
        return len(base64.b64decode(value.strip(), validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def _words(headers: Sequence[tuple[str, str]], name: str) -> list[str]:
    """The members of a comma-separated header, in lower case."""
    return [word.lower() for word in _members(headers, name)]


def _members(headers: Sequence[tuple[str, str]], name: str) -> list[str]:
    values = [value for key, value in headers if key.lower() == name]
    return [word.strip() for value in values for word in value.split(",") if word.strip()]


def with_plain_key(headers: Sequence[tuple[str, str]]) -> Headers:
    """The headers with what subprotocols say in place of headers said by headers.

    Raises:
        Refusal: 401, two different keys.
    """
    offered = _members(headers, _PROTOCOL)
    found: dict[str, str] = {}
    kept: list[str] = []
    for protocol in offered:
        prefix = next((each for each in _AS_HEADERS if protocol.lower().startswith(each)), None)
        if prefix is None:
            kept.append(protocol)
            continue
        name, scheme = _AS_HEADERS[prefix]
        value = scheme + protocol[len(prefix) :]
        present = found.get(name) or header_of(headers, name.lower())
        if name == "Authorization" and present is not None and present.strip() != value:
            raise Refusal(401, "invalid_api_key", "Found 2 different API keys in this handshake, expected one.")
        found[name] = value
    if len(kept) == len(offered):
        return list(headers)
    replaced = {_PROTOCOL, *(name.lower() for name in found)}
    plain = [(name, value) for name, value in headers if name.lower() not in replaced]
    if kept:
        plain.append(("Sec-WebSocket-Protocol", ", ".join(kept)))
    return plain + list(found.items())


def handshake_headers(headers: Headers) -> Headers:
    """The headers of the request that goes to the upstream.

    Args:
        headers: the client's, as the upstream may see them.
    """
    kept = [(name, value) for name, value in headers if name.lower() != _EXTENSIONS]
    return [*kept, ("Connection", "Upgrade"), ("Upgrade", WEBSOCKET)]


def switch_headers(headers: Headers) -> Headers:
    """The headers of the answer that goes to the client; `headers` are the upstream's, as the client may see them."""
    return [*headers, ("Connection", "Upgrade"), ("Upgrade", WEBSOCKET)]


def accept_of(key: str) -> str:
    """What answers a `Sec-WebSocket-Key`."""
    digest = hashlib.sha1((key.strip() + _GUID).encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def flaw_of_switch(asked: Sequence[tuple[str, str]], answered: Sequence[tuple[str, str]]) -> str | None:
    """Why an answer of 101 is none to this handshake, or None.

    Args:
        asked: headers of the request.
        answered: headers of the answer.
    """
    if WEBSOCKET not in _words(answered, "upgrade"):
        return "it switched to another protocol"
    if (header_of(answered, "sec-websocket-accept") or "").strip() != accept_of(
        header_of(asked, "sec-websocket-key") or ""
    ):
        return "its Sec-WebSocket-Accept does not answer the key"
    if _members(answered, _EXTENSIONS):
        return "it uses an extension that was not offered"
    if not set(_members(answered, _PROTOCOL)) <= set(_members(asked, _PROTOCOL)):
        return "it chose a subprotocol that was not offered"
    return None


def model_of_query(target: str) -> str | None:
    """The model that a request's query names, or None.

    Raises:
        Refusal: 400, it is named more than once, or cannot be a model's name: servers would differ about which.
    """
    fields = [field for field in _fields(target) if _is_model(field)]
    if not fields:
        return None
    model = unquote_plus(fields[0].partition("=")[2], errors="surrogateescape")
    if len(fields) > 1 or ";" in model:
        raise invalid_request(
            "`model` stands in the query more than once; send it once.", param="model", code="duplicate_key"
        )
    if not 0 < len(model) <= _MODEL_CHARS_MAX or not model.isprintable():
        message = f"`model` must be 1 to {_MODEL_CHARS_MAX} printable characters long, found {len(model)}."
        raise invalid_request(message, param="model", code="invalid_value")
    return model


def with_model(target: str, model: str) -> str:
    """The target with another model in its query; no other byte changes.

    Args:
        target: names one model.
        model: the other.
    """
    path = target.partition("?")[0]
    fields = [
        f"{field.partition('=')[0]}={quote(model, safe='')}" if _is_model(field) else field for field in _fields(target)
    ]
    return f"{path}?{'&'.join(fields)}"


def _fields(target: str) -> list[str]:
    return target.partition("?")[2].split("&")


def _is_model(field: str) -> bool:
    """Some servers read names in any case."""
    return unquote_plus(field.partition("=")[0]).strip().lower() == "model"
