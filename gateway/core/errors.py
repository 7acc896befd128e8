"""Refusals: every "no" that the gateway says itself, as data.

Stages raise `Refusal`; only the http shell turns one into bytes. The form is OpenAI's
(`{"error": {"message", "type", "param", "code"}}`), so that every client library raises its own usual
exception. A message says what was expected, what was found, with numbers, and what to do.
Source: platform.openai.com/docs/guides/error-codes (2026-01).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

_TYPE_BY_STATUS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an accident
    """The gateway's own answer in place of an upstream's.

    Args:
        status: HTTP status.
        code: OpenAI's error code where there is one, else a stable word of ours.
        message: one or two sentences for a person, with numbers.
        param: the request field at fault, as a path (`messages[3].role`), or None.
        retry_after_s: seconds to wait before the same request may succeed, or None.
        error_type: in place of the one that goes with the status.
        headers: to be sent along.
        details: what was expected and found, for forms of errors that have a place for it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        error_type: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.error_type = error_type
        self.headers = headers
        self.details = details


def render_error(refusal: Refusal) -> bytes:
    """The JSON body of a refusal, in OpenAI's form."""
    error_type = refusal.error_type or _TYPE_BY_STATUS.get(
        refusal.status, "invalid_request_error" if refusal.status < 500 else "server_error"
    )
    return msgspec.json.encode(
        {
            "error": {
                "message": refusal.message,
                "type": error_type,
                "param": refusal.param,
                "code": refusal.code,
            }
        }
    )


def invalid_request(message: str, *, param: str | None = None, code: str = "invalid_request") -> Refusal:
    """A 400 about the request's own content."""
    return Refusal(400, code, message, param=param)


def context_length_exceeded(prompt_tokens: int, completion_tokens: int, max_total_tokens: int, detail: str) -> Refusal:
    """A 400 with the exact numbers, in the code that client libraries know.

    Args:
        prompt_tokens: what would have been sent, after everything that may be shortened was.
        completion_tokens: what the answer may take.
        max_total_tokens: the budget that both must fit.
        detail: why it could not be made smaller.
    """
    message = (
        f"This request needs {prompt_tokens + completion_tokens} tokens ({prompt_tokens} in the prompt, "
        f"{completion_tokens} for the completion), and the token budget's max_total is {max_total_tokens}. {detail}"
    )
    return Refusal(400, "context_length_exceeded", message, param="messages")
