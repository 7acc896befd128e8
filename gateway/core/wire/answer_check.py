"""Is a whole answer of status 200 one? Some upstreams say an error with 200, or end within a JSON text.

Asked only of answers without usage, so that the usual answer pays nothing for it.
"""

from __future__ import annotations

from typing import Any

import msgspec

_MAX_MESSAGE_CHARS = 500


class _Answer(msgspec.Struct):
    error: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


def flaw_of_answer(body: bytes) -> str | None:
    """What is wrong with a JSON answer, in words for the client; None if nothing is.

    Args:
        body: as it came, not compressed.
    """
    try:
        error = _decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as found:
        if isinstance(found, msgspec.ValidationError):
            return None
        return f"its answer of {len(body)} bytes is no whole JSON text"
    if not error:
        return None
    message = error.get("message") if isinstance(error, dict) else error
    said = message if isinstance(message, str) else "no message"
    return f"it said an error with status 200: {said[:_MAX_MESSAGE_CHARS]}"
