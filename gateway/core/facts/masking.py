"""What is remembered holds no secrets: they are masked before anything is hashed, compared or stored.

A value that is named a secret by what stands beside it (the predicate of a fact, the key of metadata) is one, too.

Invariants, each with a test of its own:
  1. No secret of the shapes that `context.secrets` knows is in what comes back.
  2. Other values come back as they were, and masking twice changes nothing.
  3. Where `may_hold_secret` says no, masking would change none of the texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.core.context.secrets import mask_secrets


def may_hold_secret(texts: Iterable[str | None]) -> bool:
    """Whether any of these may have to be masked: one look at all of them, since looking costs more than the length.

    No shape of a secret looks across a line's end for what it forbids, so what is found in one text is found in all.
    """
    joined = "\n".join(text for text in texts if text is not None)
    return mask_secrets(joined) != joined


def named(name: str, value: str) -> str:
    """A value and what it is called, as one text."""
    return f"{name}={value}"


def mask_named(name: str, value: str) -> str:
    """A value without secrets, knowing what it is called."""
    value = mask_secrets(value)
    lead = named(name, "")
    masked = mask_secrets(lead + value)
    return masked.removeprefix(lead) if masked.startswith(lead) else value


def mask_tree(value: Any, name: str = "") -> Any:
    """A JSON value without secrets in its keys and texts; the first of keys that become the same stays."""
    if isinstance(value, str):
        return mask_named(name, value) if name else mask_secrets(value)
    if isinstance(value, list):
        return [mask_tree(item, name) for item in value]
    if not isinstance(value, dict):
        return value
    masked: dict[str, Any] = {}
    for key, item in value.items():
        masked.setdefault(mask_secrets(key), mask_tree(item, key))
    return masked
