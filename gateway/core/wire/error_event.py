"""The event that tells a client that its stream broke, in the form that its library raises as an exception."""

from __future__ import annotations

import msgspec

from gateway.core.errors import Refusal, render_error
from gateway.core.wire.request import Endpoint
from gateway.core.wire.sse import render_event

EVENT_END = b"\n\n"
"""Ends an event that was cut off, so that the error event is one of its own."""


def render_error_event(endpoint: Endpoint, refusal: Refusal) -> bytes:
    """The last event of a stream that broke.

    In a Responses stream it has both forms that OpenAI's own has had: the fields themselves, and the `error` object at
    which client libraries raise.
    """
    body = render_error(refusal)
    if endpoint is not Endpoint.RESPONSES:
        return render_event(body)
    fields = {
        "type": "error",
        "code": refusal.code,
        "message": refusal.message,
        "param": refusal.param,
        "sequence_number": 0,
    }
    return render_event(msgspec.json.encode({**fields, **msgspec.json.decode(body)}), "error")
