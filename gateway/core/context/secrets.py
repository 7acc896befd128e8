"""Secrets by their shape, masked wherever text is kept: in briefs, in what is stored, in what a summariser reads.

Only shapes that are nothing else: keys with a vendor's prefix, tokens in three dotted parts, private keys, passwords
in URLs and assignments. A prompt that is forwarded as it came is not masked; the application sent it.

Invariants, each with a test of its own:
  1. No secret of these shapes survives.
  2. Other text comes back as it was, and masking twice changes nothing.
"""

from __future__ import annotations

import re

MASK = "[secret]"
_SHAPES = (
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    r"\b(?:sk|pk|rk)-(?:proj-|ant-|live-|test-|or-v1-|svcacct-)?[A-Za-z0-9_-]{16,}",
    r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}",
    r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{40,}|\bglpat-[A-Za-z0-9_-]{18,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{35}|\bya29\.[A-Za-z0-9_-]{20,}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bhf_[A-Za-z0-9]{30,}|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[A-Za-z0-9_-]{40,}",
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
)
_whole = re.compile("|".join(_SHAPES)).sub
_in_url = re.compile(r"(?<=://)([^\s/:@]{1,128}):([^\s/@]{1,256})@").sub
_assigned = re.compile(
    r"(?i)\b((?:[\w-]{0,40}[_-])?(?:password|passwd|secret|api[_-]?key|access[_-]?token|auth[_-]?token|private[_-]?key)"
    r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?)(?!\[secret\])([^\s\"',;]{6,256})"
).sub
_bearer = re.compile(
    r"(?i)\b(authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:bearer|basic)\s+)(?!\[secret\])[^\s\"',;]{8,}"
).sub


def mask_secrets(text: str) -> str:
    """The text with every secret in it replaced by a mark; what it was assigned to stays."""
    masked = _whole(MASK, text)
    masked = _in_url(rf"\1:{MASK}@", masked)
    masked = _assigned(rf"\1{MASK}", _bearer(rf"\1{MASK}", masked))
    return masked if masked == text else mask_secrets(masked)  # one may have hidden the beginning of another
