"""Which headers cross the gateway, in each direction.

End to end headers pass both ways. Hop-by-hop headers stay on their hop (RFC 9110, section 7.6.1), the names that
`Connection` lists among them; cookies and the gateway's own `x-gateway-*` never cross; credentials, and the
organisation and project that go with them, are replaced when the upstream has its own; `alt-svc` would lead clients
past the gateway.
"""

from __future__ import annotations

from collections.abc import Sequence

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
_KEYED = {dropped: dropped | _CREDENTIALS for dropped in (_REQUEST_DROPPED, _REQUEST_METERED_DROPPED)}
GATEWAY_PREFIX = "x-gateway-"


def forwardable_request_headers(
    headers: Sequence[tuple[str, str]], *, is_metered: bool, upstream_key: str, request_id: str
) -> Headers:
    """The client's headers as the upstream may see them.

    Args:
        headers: as received, in order, repeats kept.
        is_metered: the body was read and is sent decoded, and the answer will be read beside: ask for no encoding.
        upstream_key: the upstream's own key, which replaces the client's credentials; "" lets them pass.
        request_id: sent on as `x-request-id` unless the client named its own.
    """
    dropped = _REQUEST_METERED_DROPPED if is_metered else _REQUEST_DROPPED
    if upstream_key:
        dropped = _KEYED[dropped]
    sent, lowered = _forwarded(headers, dropped)
    if upstream_key:
        sent.append(("Authorization", f"Bearer {upstream_key}"))
    if is_metered:
        sent.append(("Accept-Encoding", "identity"))
    if "x-request-id" not in lowered or header_of(sent, "x-request-id") is None:
        sent.append(("x-request-id", request_id))
    return sent


def forwardable_response_headers(headers: Sequence[tuple[str, str]]) -> Headers:
    """The upstream's headers as the client may see them; the length is the http shell's to say."""
    return _forwarded(headers, _RESPONSE_DROPPED)[0]


def _forwarded(headers: Sequence[tuple[str, str]], dropped: frozenset[str]) -> tuple[Headers, list[str]]:
    """What crosses, and the lower-case names of all that came."""
    lowered = [name.lower() for name, _ in headers]
    if "connection" in lowered:
        dropped = _with_listed(dropped, headers, lowered)
    kept = [
        pair
        for pair, lower in zip(headers, lowered, strict=True)
        if lower not in dropped and not lower.startswith(GATEWAY_PREFIX)
    ]
    return kept, lowered


def _with_listed(dropped: frozenset[str], headers: Sequence[tuple[str, str]], lowered: Sequence[str]) -> frozenset[str]:
    values = [value for (_, value), lower in zip(headers, lowered, strict=True) if lower == "connection"]
    listed = {word.strip().lower() for value in values for word in value.split(",")}
    return dropped if listed <= dropped else dropped | listed


def header_of(headers: Headers, name: str) -> str | None:
    """The first header of this name (lower case), or None."""
    return next((value for key, value in headers if key.lower() == name), None)
