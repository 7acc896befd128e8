"""Which headers cross the gateway, in each direction.

End to end headers pass both ways. Hop-by-hop headers stay on their hop (RFC 9110, section 7.6.1), the names that
`Connection` lists among them; cookies and the gateway's own `x-gateway-*` never cross; credentials are replaced when
the upstream has its own.
"""

from __future__ import annotations

from collections.abc import Iterable

Headers = list[tuple[str, str]]

_HOP_BY_HOP = frozenset(
    {
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
_RESPONSE_DROPPED = _HOP_BY_HOP | {"set-cookie", "content-length"}
_CREDENTIALS = frozenset({"authorization", "api-key", "x-api-key"})
GATEWAY_PREFIX = "x-gateway-"


def forwardable_request_headers(
    headers: Iterable[tuple[str, str]], *, is_metered: bool, upstream_key: str, request_id: str
) -> Headers:
    """The client's headers as the upstream may see them.

    Args:
        headers: as received, in order, repeats kept.
        is_metered: the body was read and is sent decoded, and the answer will be read beside: ask for no encoding.
        upstream_key: the upstream's own key, which replaces the client's credentials; "" lets them pass.
        request_id: sent on as `x-request-id` unless the client named its own.
    """
    received = list(headers)
    dropped = (_REQUEST_METERED_DROPPED if is_metered else _REQUEST_DROPPED) | _listed_in_connection(received)
    sent: Headers = []
    has_request_id = False
    for name, value in received:
        lower = name.lower()
        if lower in dropped or lower.startswith(GATEWAY_PREFIX) or (upstream_key and lower in _CREDENTIALS):
            continue
        has_request_id = has_request_id or lower == "x-request-id"
        sent.append((name, value))
    if upstream_key:
        sent.append(("Authorization", f"Bearer {upstream_key}"))
    if is_metered:
        sent.append(("Accept-Encoding", "identity"))
    if not has_request_id:
        sent.append(("x-request-id", request_id))
    return sent


def forwardable_response_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """The upstream's headers as the client may see them; the length is the http shell's to say."""
    received = list(headers)
    dropped = _RESPONSE_DROPPED | _listed_in_connection(received)
    return [
        (name, value)
        for name, value in received
        if (lower := name.lower()) not in dropped and not lower.startswith(GATEWAY_PREFIX)
    ]


def header_of(headers: Headers, name: str) -> str | None:
    """The first header of this name (lower case), or None."""
    return next((value for key, value in headers if key.lower() == name), None)


def _listed_in_connection(headers: Headers) -> frozenset[str]:
    listed = [value for name, value in headers if name.lower() == "connection"]
    return frozenset(word.strip().lower() for value in listed for word in value.split(","))
