"""What a browser needs before it lets a web page read an answer: the Fetch standard's CORS protocol (2025).

Only for origins that the configuration lists. Credentials in the browser's sense (cookies) are never allowed; an
Authorization header that the page sets itself is a header like any other.
"""

from __future__ import annotations

from aiohttp import hdrs, web
from multidict import CIMultiDict

_PREFLIGHT_MAX_AGE_S = 600


def is_preflight(request: web.BaseRequest) -> bool:
    """Whether a browser asks if it may send another request."""
    return (
        request.method == hdrs.METH_OPTIONS
        and hdrs.ORIGIN in request.headers
        and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    )


def answer_preflight(request: web.BaseRequest, request_id: str) -> web.Response:
    """Yes, with the method and the headers that it named."""
    response = web.Response(status=204, headers={"x-gateway-request-id": request_id})
    allow_origin(response.headers, request.headers[hdrs.ORIGIN])
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = request.headers[hdrs.ACCESS_CONTROL_REQUEST_METHOD]
    if asked := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked
    response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(_PREFLIGHT_MAX_AGE_S)
    return response


def allow_origin(headers: CIMultiDict[str], origin: str) -> None:
    """Let this page read the answer; what an upstream said about other pages goes."""
    for name in [name for name in headers if name.lower().startswith("access-control-")]:
        headers.popall(name, None)
    headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "*"
    headers.add(hdrs.VARY, "Origin")
