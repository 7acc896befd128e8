"""Refusals in the form of the gateway's own API: `{"code", "message", "details"?}` at the top, with ten codes.

What stages refuse with is one and the same `Refusal`; which form it takes on the wire is decided by the path.

Invariants, each with a test of its own:
  1. Any refusal has one of the ten codes, by its status and where that says too little by its own code.
  2. `details` names the field at fault as a path, where there is one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.core.errors import Refusal

DISABLED = "feature_disabled"
"""The code of refusals by what is switched off."""
_CODES = {
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    408: "TIMEOUT",
    409: "CONFLICT",
    429: "RATE_LIMIT",
    500: "INTERNAL_ERROR",
    504: "TIMEOUT",
}


def code_of(refusal: Refusal) -> str:
    """Which of the codes a refusal has."""
    if refusal.code == DISABLED:
        return "UPSTREAM_DISABLED"
    return _CODES.get(refusal.status, "VALIDATION_ERROR" if refusal.status < 500 else "UPSTREAM_ERROR")


def told_error(refusal: Refusal) -> dict[str, Any]:
    """What is told of a refusal, as JSON takes it."""
    told: dict[str, Any] = {"code": code_of(refusal), "message": refusal.message}
    details = dict(refusal.details or ({"field": refusal.param} if refusal.param else {}))
    return told | ({"details": details} if details else {})


def render_coded_error(refusal: Refusal) -> bytes:
    """The JSON body of a refusal, in this form."""
    return msgspec.json.encode(told_error(refusal))
