"""The admin port: metrics and health, open to the pod's network; no content, no secrets.

Ready means: configuration valid, listening, not draining. The state of upstreams or stores never unreadies a pod.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gateway.core.errors import Refusal, render_error


class AdminPort:
    """Handles every request of the admin port.

    Args:
        render_metrics: the text exposition and its content type.
        why_unready: a reason, or None when ready.
    """

    def __init__(self, render_metrics: Callable[[], tuple[bytes, str]], why_unready: Callable[[], str | None]) -> None:
        self._render_metrics = render_metrics
        self._why_unready = why_unready

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if request.method not in ("GET", "HEAD"):
            return _refused(Refusal(405, "method_not_allowed", f"{path[:200]} takes GET only."))
        if path == "/metrics":
            body, content_type = self._render_metrics()
            return web.Response(body=body, headers={"Content-Type": content_type})
        if path == "/health/live":
            return web.Response(text="live\n")
        if path in ("/health", "/health/ready"):
            reason = self._why_unready()
            return web.Response(
                text="ready\n" if reason is None else f"{reason}\n", status=200 if reason is None else 503
            )
        return _refused(
            Refusal(
                404,
                "unknown_path",
                f"Unknown path {path[:200]!r}: this port serves /metrics, /health/live, /health/ready.",
            )
        )


def _refused(refusal: Refusal) -> web.Response:
    return web.Response(status=refusal.status, body=render_error(refusal), content_type="application/json")
