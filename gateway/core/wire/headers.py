"""Which headers cross the gateway, in each direction.

End to end headers pass both ways. Hop-by-hop headers stay on their hop (RFC 9110, section 7.6.1), the names that
`Connection` lists among them; cookies and the gateway's own `x-gateway-*` never cross; credentials, and the
organisation and project that go with them, are replaced when the upstream has its own; `alt-svc` would lead clients
past the gateway.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from itertools import compress

Headers = list[tuple[str, str]]

_HOP_BY_HOP = frozenset(
    {
        "close",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_REQUEST_DROPPED = _HOP_BY_HOP | {"host", "content-length", "cookie", "expect"}
_REQUEST_METERED_DROPPED = _REQUEST_DROPPED | {"accept-encoding", "content-encoding"}
_RESPONSE_DROPPED = _HOP_BY_HOP | {"set-cookie", "content-length", "alt-svc"}
_CREDENTIALS = frozenset({"authorization", "api-key", "x-api-key", "openai-organization", "openai-project"})
KEY_HEADERS = frozenset({"authorization", "api-key", "x-api-key"})
_MIN_SECRET_CHARS = 8
GATEWAY_PREFIX = "x-gateway-"
_MAX_NAMES = 1024


class _Fate(enum.IntEnum):
    """What becomes of a header by its name; what is 0 stays behind."""

    DROPPED = 0
    PASSES = 1
    NAMES_REQUEST = 2
    LISTS_OTHERS = 3


_DROPPED, _PASSES, _NAMES_REQUEST, _LISTS_OTHERS = map(int, _Fate)


class _Fates(dict[str, int]):
    """Fates by name as spelled, decided once: clients use few names, and a decision a header is a decision a request.

    Args:
        dropped: lower-case names that do not cross.
    """

    def __init__(self, dropped: frozenset[str]) -> None:
        super().__init__()
        self._dropped = dropped

    def __missing__(self, name: str) -> int:
        lower = name.lower()
        fate = _PASSES
        if lower == "connection":
            fate = _LISTS_OTHERS
        elif lower in self._dropped or lower.startswith(GATEWAY_PREFIX):
            fate = _DROPPED
        elif lower == "x-request-id":
            fate = _NAMES_REQUEST
        if len(self) < _MAX_NAMES:
            self[name] = fate
        return fate


_REQUEST = {
    (is_metered, has_key): _Fates(dropped | _CREDENTIALS if has_key else dropped)
    for is_metered, dropped in ((True, _REQUEST_METERED_DROPPED), (False, _REQUEST_DROPPED))
    for has_key in (True, False)
}
_RESPONSE = _Fates(_RESPONSE_DROPPED)


def forwardable_request_headers(
    headers: Sequence[tuple[str, str]],
    *,
    is_metered: bool,
    upstream_key: str,
    request_id: str,
    key_header: str = "Authorization",
) -> Headers:
    """The client's headers as the upstream may see them.

    Args:
        headers: as received, in order, repeats kept.
        is_metered: the body was read and is sent decoded, and the answer will be read beside: ask for no encoding.
        upstream_key: the upstream's own key, which replaces the client's credentials; "" lets them pass.
        request_id: sent on as `x-request-id` unless the client named its own.
        key_header: what carries the upstream's key: `Authorization` as a bearer token, any other as it is.
    """
    sent, is_named = _forwarded(headers, _REQUEST[is_metered, bool(upstream_key)])
    if upstream_key:
        sent.append(credential(upstream_key, key_header))
    if is_metered:
        sent.append(("Accept-Encoding", "identity"))
    if not is_named:
        sent.append(("x-request-id", request_id))
    return sent


def credential(key: str, key_header: str) -> tuple[str, str]:
    """The header that carries a key: `Authorization` as a bearer token, any other as it is."""
    return key_header, f"Bearer {key}" if key_header == "Authorization" else key


def without_credentials(headers: Sequence[tuple[str, str]]) -> Headers:
    """The client's headers without its key, wherever among them it stands.

    Credentials go by name; a value that repeats one of them (8 characters or more) goes by what it says.
    """
    secrets = [
        value.rpartition(" ")[2]
        for name, value in headers
        if name.lower() in KEY_HEADERS and len(value.rpartition(" ")[2]) >= _MIN_SECRET_CHARS
    ]
    return [
        (name, value)
        for name, value in headers
        if name.lower() not in _CREDENTIALS and not any(secret in value for secret in secrets)
    ]


def forwardable_response_headers(headers: Sequence[tuple[str, str]]) -> Headers:
    """The upstream's headers as the client may see them; the length is the http shell's to say."""
    return _forwarded(headers, _RESPONSE)[0]


def _forwarded(headers: Sequence[tuple[str, str]], fates: _Fates) -> tuple[Headers, bool]:
    """What crosses, and whether a request id is among it."""
    found = [fates[name] for name, _ in headers]
    if _LISTS_OTHERS not in found:
        return list(compress(headers, found)), _NAMES_REQUEST in found
    listed = _listed(headers)
    kept = [
        pair
        for pair, fate in zip(headers, found, strict=True)
        if fate in (_PASSES, _NAMES_REQUEST) and pair[0].lower() not in listed
    ]
    return kept, _NAMES_REQUEST in found and "x-request-id" not in listed


def _listed(headers: Sequence[tuple[str, str]]) -> frozenset[str]:
    """The names that `Connection` takes off on this hop."""
    values = [value for name, value in headers if name.lower() == "connection"]
    return frozenset(word.strip().lower() for value in values for word in value.split(",")) - {""}


def header_of(headers: Sequence[tuple[str, str]], name: str) -> str | None:
    """The first header of this name (lower case), or None."""
    for key, value in headers:
        if key.lower() == name:
            return value
    return None
