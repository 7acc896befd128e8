"""The gateway's own response headers."""

from __future__ import annotations

from gateway.core.wire.headers import Headers


def gateway_headers(
    *, upstream: str, prompt_tokens: int | None, remaining_tokens: int | None, level: str, saved_tokens: int
) -> Headers:
    """What every metered answer carries; the request id is added by the http shell.

    Args:
        upstream: the name of the upstream that answered, "" for none.
        prompt_tokens: what was forwarded, or None if it was not counted.
        remaining_tokens: what the budget leaves for the completion, or None without a budget.
        level: how far down the ladder the request went.
        saved_tokens: what compaction spared.
    """
    headers: Headers = [("x-gateway-upstream", upstream)] if upstream else []
    if prompt_tokens is not None:
        headers.append(("x-gateway-tokens-prompt", str(prompt_tokens)))
    if remaining_tokens is not None:
        headers.append(("x-gateway-tokens-remaining", str(remaining_tokens)))
        headers.append(("x-gateway-compaction", level))
        headers.append(("x-gateway-tokens-saved", str(saved_tokens)))
    return headers
