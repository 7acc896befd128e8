"""The admin port: metrics and health, open to the pod's network, and what holds content, for whoever runs the gateway.

Ready means: configuration valid, listening, not draining. The state of upstreams or stores never unreadies a pod.
Briefs hold what users said: they are shown to a loopback peer that names a loopback host (a forwarded port is one), or
to whoever has the admin token.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
from aiohttp import hdrs, web

from gateway.core.context.brief import Brief, render_brief
from gateway.core.errors import Refusal, render_error
from gateway.core.wire.origin import is_loopback_authority

_BRIEFS = "/api/v1/briefs/"
_SCOPE_BYTES, _KEY_BYTES = 32, 32


@dataclass(frozen=True, slots=True)
class AdminViews:
    """What the admin port shows.

    Attributes:
        render_metrics: the text exposition and its content type.
        why_unready: a reason, or None when ready.
        find_brief: the applied brief of a scope and one of these keys, or None.
        token: opens what holds content from anywhere; "" for none.
    """

    render_metrics: Callable[[], Awaitable[tuple[bytes, str]]]
    why_unready: Callable[[], str | None]
    find_brief: Callable[[bytes, Sequence[bytes]], Awaitable[Brief | None]]
    token: str = ""


class AdminPort:
    """Handles every request of the admin port.

    Args:
        views: what it shows.
    """

    def __init__(self, views: AdminViews) -> None:
        self._views = views

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if request.method not in ("GET", "HEAD"):
            return _refused(Refusal(405, "method_not_allowed", f"{path[:200]} takes GET only."))
        if path == "/metrics":
            body, content_type = await self._views.render_metrics()
            return web.Response(body=body, headers={"Content-Type": content_type})
        if path == "/health/live":
            return web.Response(text="live\n")
        if path in ("/health", "/health/ready"):
            reason = self._views.why_unready()
            return web.Response(
                text="ready\n" if reason is None else f"{reason}\n", status=200 if reason is None else 503
            )
        if path.startswith(_BRIEFS):
            return await self._show_brief(request, path.removeprefix(_BRIEFS))
        return _refused(
            Refusal(
                404,
                "unknown_path",
                f"Unknown path {path[:200]!r}: this port serves /metrics, /health/live, /health/ready,"
                " /api/v1/briefs/{id}.",
            )
        )

    async def _show_brief(self, request: web.BaseRequest, ident: str) -> web.Response:
        if not self._may_see_content(request):
            message = "Briefs hold what users said: ask from this machine by a loopback name, or send the admin token."
            return _refused(Refusal(403, "forbidden", message))
        try:
            named = bytes.fromhex(ident)
        except ValueError:
            named = b""
        scope, key = named[:_SCOPE_BYTES], named[_SCOPE_BYTES:]
        brief = await self._views.find_brief(scope, [key]) if len(key) == _KEY_BYTES else None
        if brief is None:
            return _refused(Refusal(404, "not_found", f"There is no brief {ident[:80]!r}; receipts name those in use."))
        return web.Response(body=_encode(ident, brief), content_type="application/json")

    def _may_see_content(self, request: web.BaseRequest) -> bool:
        token, given = self._views.token, request.headers.get(hdrs.AUTHORIZATION, "")
        if token and hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return True
        host = request.headers.get(hdrs.HOST)
        return _is_loopback_peer(request.remote) and host is not None and is_loopback_authority(host)


def _is_loopback_peer(address: str | None) -> bool:
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _encode(ident: str, brief: Brief) -> bytes:
    shown = {
        "id": ident,
        "covers": brief.covers,
        "level": brief.level.value,
        "tokens": brief.tokens,
        "coverage": brief.coverage,
        "lost_quotes": brief.lost_quotes,
        "pinned": brief.pinned,
        "segments": brief.segments,
        "text": render_brief(brief.segments),
    }
    return msgspec.json.encode(shown)


def _refused(refusal: Refusal) -> web.Response:
    return web.Response(status=refusal.status, body=render_error(refusal), content_type="application/json")
