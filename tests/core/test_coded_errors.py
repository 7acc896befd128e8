"""Refusals as the gateway's own API tells them: ten codes, by status; the field at fault in `details`."""

from __future__ import annotations

import json

import pytest

from gateway.core.coded_errors import DISABLED, render_coded_error
from gateway.core.errors import Refusal

CODES = [
    (400, "x", "VALIDATION_ERROR"),
    (401, "invalid_api_key", "UNAUTHORIZED"),
    (403, "permission_denied", "FORBIDDEN"),
    (404, "x", "NOT_FOUND"),
    (405, "method_not_allowed", "VALIDATION_ERROR"),
    (408, "request_timeout", "TIMEOUT"),
    (409, "x", "CONFLICT"),
    (413, "request_too_large", "VALIDATION_ERROR"),
    (415, "x", "VALIDATION_ERROR"),
    (422, "x", "VALIDATION_ERROR"),
    (429, "rate_limit_exceeded", "RATE_LIMIT"),
    (500, "internal_error", "INTERNAL_ERROR"),
    (503, "memory_unavailable", "UPSTREAM_ERROR"),
    (503, DISABLED, "UPSTREAM_DISABLED"),
    (504, "memory_timeout", "TIMEOUT"),
    (507, "memory_full", "UPSTREAM_ERROR"),
]


@pytest.mark.parametrize(("status", "own", "code"), CODES)
def test_every_refusal_has_one_of_the_codes(status: int, own: str, code: str) -> None:
    assert json.loads(render_coded_error(Refusal(status, own, "Why."))) == {"code": code, "message": "Why."}


def test_the_field_at_fault_is_named() -> None:
    """With what was expected and found where that is known, else alone."""
    details = {"field": "a.b", "expected": "more", "found": "less"}
    known = json.loads(render_coded_error(Refusal(400, "x", "Why.", param="a.b", details=details)))
    alone = json.loads(render_coded_error(Refusal(400, "x", "Why.", param="a.b")))

    assert known["details"] == details
    assert alone["details"] == {"field": "a.b"}
